"""`Registry`, a table that maps names to classes. A decorator registers each trainer, data set and evaluator."""

from collections.abc import Callable
from typing import Any

__all__ = ["Registry"]


class Registry:
    """A table that maps the name of a class to the class.

    >>> TRAINERS = Registry("TRAINER")
    >>> @TRAINERS.register()
    ... class MyTrainer: ...
    >>> TRAINERS.get("MyTrainer")
    """

    def __init__(self, name: str):
        self._name = name
        self._objects: dict[str, type] = {}

    def register(self, obj: type | None = None, force: bool = False) -> Callable:
        """Register the class `obj` under its `__name__`. If `obj` is None, return a decorator that registers a class.

        Raises:
            KeyError: the name is already registered, and `force` is False.
        """
        if obj is None:
            return lambda wrapped: self.register(wrapped, force)
        name = obj.__name__
        if name in self._objects and not force:
            registered = self._objects[name]
            raise KeyError(f"the {self._name} registry already has a {name}, registered by {registered.__module__}")
        self._objects[name] = obj
        return obj

    def get(self, name: str) -> Any:
        """Return the class called `name`. Raises KeyError if there is no such class."""
        if name not in self._objects:
            raise KeyError(f"the {self._name} registry has no class named {name}")
        return self._objects[name]

    def registered_names(self) -> list[str]:
        """Return all names in the order of their registration."""
        return list(self._objects)
