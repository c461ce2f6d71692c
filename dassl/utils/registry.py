"""Tables from names to classes. Trainers, data sets and evaluators enter themselves by a decorator."""

from collections.abc import Callable
from typing import Any

__all__ = ["Registry"]


class Registry:
    """Classes by their names.

    >>> TRAINERS = Registry("TRAINER")
    >>> @TRAINERS.register()
    ... class MyTrainer: ...
    >>> TRAINERS.get("MyTrainer")
    """

    def __init__(self, name: str):
        self._name = name
        self._objects: dict[str, type] = {}

    def register(self, obj: type | None = None, force: bool = False) -> Callable:
        """Register `obj` under its `__name__`. Without `obj`, returns a decorator that does so.

        Raises:
            KeyError: the name is already registered, and `force` isn't set.
        """
        if obj is None:
            return lambda wrapped: self.register(wrapped, force)
        name = obj.__name__
        if name in self._objects and not force:
            registered = self._objects[name]
            raise KeyError(f"{name} is already registered as {self._name}, by {registered.__module__}")
        self._objects[name] = obj
        return obj

    def get(self, name: str) -> Any:
        """The class of that name. Raises KeyError if there is none."""
        if name not in self._objects:
            raise KeyError(f"{name} is not registered as {self._name}")
        return self._objects[name]

    def registered_names(self) -> list[str]:
        """All names, in order of registration."""
        return list(self._objects)
