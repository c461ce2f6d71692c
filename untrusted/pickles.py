"""Reads a pickle as data. Nothing that the pickle names is imported, and nothing that it names is called.

A pickle is a program for a small stack machine. `load` runs this program, but a name such as `os.system` only becomes a
`Global`, and an object of a class only becomes a `StandIn`. The caller passes the few functions that may really be
called, for example to make tensors. A wrong pickle can't hang the reader: the number of steps, the depth and the types
of dictionary keys are limited.
"""

import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

#: Maximum number of steps of the stack machine. A few-shot list of ImageNet with 16 images per class needs 500,000.
MAX_STEPS = 3_000_000
#: Maximum depth of nested containers in the result.
MAX_DEPTH = 100
#: Maximum number of bits of an integer.
MAX_BITS = 4096
_LARGEST_KEY = 2**60  # larger integers can be chosen so that all have the same hash


class Malformed(ValueError):
    """Raised if a file can't be read as data. The message is a single line."""


@dataclass(frozen=True)
class Global:
    """The name of a class or function in a pickle. The class or function isn't imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class StandIn:
    """An object of a class that a pickle names, without the class and its methods.

    `arguments` are the arguments of the constructor. `state` is what the object's `__setstate__` or `__dict__` would
    get, or None.
    """

    def __init__(self, cls: Global, arguments: tuple = ()):
        self.cls = cls
        self.arguments = arguments
        self.state: object = None

    def __repr__(self) -> str:
        return f"<{self.cls}>"


#: Functions that a pickle may call, by their names.
Makers = Mapping[Global, Callable]
#: A function that returns the object of a persistent ID, such as a tensor's storage.
Persistent = Callable[[object], object]


def _pairs(value: object = ()) -> Iterable[tuple[Hashable, object]]:
    """Return the (key, value) pairs of a dict or of a list of pairs."""
    pairs = value.items() if isinstance(value, dict) else value
    return [(_checked_key(key), item) for key, item in pairs]  # type: ignore[attr-defined]  # `_make` reports errors


def _checked_key(key: object) -> Hashable:
    """Return a dictionary key or an item of a set. Raise Malformed if looking it up may take very long."""
    # The hash of a tuple is recomputed at each look-up. If tuples contain a tuple twice at each of many levels, this
    # never ends.
    if isinstance(key, tuple | frozenset) or (isinstance(key, int) and abs(key) > _LARGEST_KEY):
        raise Malformed(f"a dictionary key or a set's item is a {type(key).__name__}, which isn't allowed")
    return key


#: Functions that make containers.
CONTAINERS: Makers = {
    Global("collections", "OrderedDict"): lambda items=(): OrderedDict(_pairs(items)),
    Global("collections", "defaultdict"): lambda factory=None, items=(): dict(_pairs(items)),
    Global("collections", "Counter"): lambda items=(): Counter(dict(_pairs(items))),
    Global("builtins", "set"): lambda items=(): set(map(_checked_key, items)),
    Global("builtins", "frozenset"): lambda items=(): frozenset(map(_checked_key, items)),
    Global("_codecs", "encode"): lambda text, encoding="latin1": text.encode("latin1"),
    Global("copyreg", "_reconstructor"): lambda cls, base, state: StandIn(cls),
}


def load(file: IO[bytes], makers: Makers = CONTAINERS, persistent: Persistent | None = None) -> object:
    """Read one pickle from the current position of `file`, and return its content.

    Args:
        file: an open file. A file in memory is best, because a wrong pickle may ask for a huge number of bytes.
        makers: functions that the pickle may call.
        persistent: function for the pickle's persistent IDs; None: the pickle must not have any.

    Raises:
        Malformed: the pickle is wrong, too large, or needs a function that isn't allowed.
    """
    machine = _Machine(makers, persistent)
    try:
        result = machine.run(file)
    except Malformed:
        raise
    except Exception as error:  # a wrong pickle can raise almost any error
        raise Malformed(f"wrong pickle ({type(error).__name__}: {' '.join(str(error).split())[:200]})") from error
    check_size(result)
    return result


def check_size(value: object) -> None:
    """Check that `value` is no deeper than `MAX_DEPTH`, and that a walk through all of it is short.

    A pickle of 100 bytes can describe a list that contains a list twice, which contains a list twice, and so on. Code
    that visits all items would never end. The contents of a `StandIn` aren't visited.

    Raises:
        Malformed: `value` is too deep or too large.
    """
    steps, waiting = 0, [iter((value,))]
    while waiting:
        for item in waiting[-1]:
            steps += 1
            if isinstance(item, (dict, list, tuple, set, frozenset)):
                waiting.append(iter(item.values() if isinstance(item, dict) else item))
                break
        else:
            waiting.pop()
        if steps > MAX_STEPS or len(waiting) > MAX_DEPTH:
            raise Malformed("the content is nested too deeply or is too large")


class _Machine:
    """The stack machine that runs a pickle. `pickletools` documents the steps."""

    def __init__(self, makers: Makers, persistent: Persistent | None):
        self.makers = makers
        self.persistent = persistent
        self.stack: list = []
        self.marks: list[int] = []  # positions in the stack
        self.memo: dict[object, object] = {}

    def run(self, file: IO[bytes]) -> object:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if steps > MAX_STEPS:
                raise Malformed(f"the pickle has more than {MAX_STEPS} steps")
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(_value(argument))
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise Malformed(f"the pickle has the step {name}, which isn't allowed")
        raise Malformed("the pickle has no end")  # not reached: `genops` raises ValueError first

    def since_mark(self) -> list:
        """Remove the items above the last mark from the stack, and return them."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def pop(self, count: int) -> list:
        """Remove `count` items from the stack, and return them."""
        if len(self.stack) < count:
            raise Malformed("the pickle takes more values than it has made")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def make(self, cls: object, arguments: object) -> None:
        """Call a function that the pickle may call, or make a stand-in."""
        if not isinstance(cls, Global) or not isinstance(arguments, tuple):
            raise Malformed("the pickle calls something that isn't a named class or function")
        maker = self.makers.get(cls)
        self.stack.append(maker(*arguments) if maker else StandIn(cls, arguments))

    def build(self) -> None:
        """Set the state of a stand-in. The states of containers, such as a state dict's metadata, are ignored."""
        target, state = self.pop(2)
        if isinstance(target, StandIn):
            target.state = state
        elif not isinstance(target, (dict, list, set)):
            raise Malformed(f"the pickle sets attributes of a {type(target).__name__}")
        self.stack.append(target)

    def add_items(self, items: list) -> None:
        """Append to the list, or add to the set, on top of the stack. A stand-in's items are ignored."""
        (target,) = self.pop(1)
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(map(_checked_key, items))
        elif not isinstance(target, StandIn):
            raise Malformed(f"the pickle adds items to a {type(target).__name__}")
        self.stack.append(target)

    def set_items(self, flat: list) -> None:
        """Add [key, value, key, value, ...] to the dict on top of the stack. A stand-in's items are ignored."""
        (target,) = self.pop(1)
        if isinstance(target, dict):
            target.update(_pairs(_two_by_two(flat)))
        elif not isinstance(target, StandIn):
            raise Malformed(f"the pickle sets items of a {type(target).__name__}")
        self.stack.append(target)

    def look_up(self, identity: object) -> None:
        """Push the object of a persistent ID."""
        if self.persistent is None:
            raise Malformed("the pickle has a persistent ID")
        self.stack.append(self.persistent(identity))


def _two_by_two(flat: list) -> Iterator[tuple[object, object]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _value(argument: object) -> object:
    if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
        raise Malformed(f"the pickle has an integer of more than {MAX_BITS} bits")
    return argument


def _named(argument: object) -> Global:
    """Return the name that a GLOBAL or INST step has, "module name"."""
    module, _, name = str(argument).partition(" ")
    return Global(_PYTHON_2.get(module, module), name)


def _instance(machine: _Machine, argument: object) -> None:
    machine.make(_named(argument), tuple(machine.since_mark()))


def _object(machine: _Machine, argument: object) -> None:
    cls, *arguments = machine.since_mark()
    machine.make(cls, tuple(arguments))


def _stack_global(machine: _Machine, argument: object) -> None:
    module, name = machine.pop(2)
    machine.stack.append(Global(str(module), str(name)))


def _new_with_keywords(machine: _Machine, argument: object) -> None:
    cls, arguments, _ = machine.pop(3)
    machine.make(cls, arguments)


_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # module names in pickles of protocols 0 to 2
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_STEPS: dict[str, Callable[[_Machine, object], object]] = {
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.pop(1),
    "POP_MARK": lambda m, _: m.since_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "LIST": lambda m, _: m.stack.append(m.since_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.pop(3))),
    "DICT": lambda m, _: m.stack.append(dict(_pairs(_two_by_two(m.since_mark())))),
    "FROZENSET": lambda m, _: m.stack.append(frozenset(map(_checked_key, m.since_mark()))),
    "APPEND": lambda m, _: m.add_items(m.pop(1)),
    "APPENDS": lambda m, _: m.add_items(m.since_mark()),
    "ADDITEMS": lambda m, _: m.add_items(m.since_mark()),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, key: m.stack.append(m.memo[key])),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, key: m.memo.__setitem__(key, m.stack[-1])),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "GLOBAL": lambda m, argument: m.stack.append(_named(argument)),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": lambda m, _: m.make(*m.pop(2)),
    "NEWOBJ": lambda m, _: m.make(*m.pop(2)),
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": lambda m, _: m.build(),
    "PERSID": lambda m, identity: m.look_up(identity),
    "BINPERSID": lambda m, _: m.look_up(m.pop(1)[0]),
}
