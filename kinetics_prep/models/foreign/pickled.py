"""Reads a pickle of nested dicts of float32 arrays, and runs nothing.

A pickle is a program, and Python's reader calls whatever it names. This one knows the few instructions that such a
pickle needs, and of the names it may load only the three of which NumPy 1 makes an array. It calls none of them: it
keeps what they would be called with, checks that, and makes the array itself. An instruction or a name it does not know
ends it. Nothing takes more memory than the file: sizes are checked against the bytes that are there. Nor does anything
walk through what was put together but dicts of known depth, because a tuple of two times a tuple of two times a tuple,
fifty times over, is a hundred instructions and has no end; so nothing is hashed, compared or printed before its type is
known.

Written from the standard library's pickletools, which documents each instruction.
"""

import dataclasses
import math
import pickletools
from collections.abc import Callable

import numpy as np

from kinetics_prep.errors import BadWeights

MOST_NODES = 10_000
"""Dicts and arrays in a pickle. Dicts that hold each other many times over could have more than there are atoms."""

MOST_DEEP, MOST_AXES = 16, 8

_MARK = object()


@dataclasses.dataclass
class _Name:
    """A name that the pickle would have loaded."""

    text: str


@dataclasses.dataclass
class _Type:
    """What becomes a numpy.dtype."""

    state: tuple | None = None


@dataclasses.dataclass
class _Array:
    """What becomes a numpy.ndarray."""

    state: tuple | None = None


def read(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a pickle, by the keys on the way to them, joined by "/".

    Raises:
      BadWeights: if the pickle is anything else, or damaged.
    """
    try:
        return _flattened(_Machine().run(data))
    except BadWeights:
        raise
    # It is a program of a stranger's: it may take from an empty stack, or use a list as a key.
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise BadWeights(f"the pickle is damaged: {str(error)[:200]}") from None


class _Machine:
    """The part of the pickle machine that is let run."""

    def __init__(self):
        self.stack, self.memo = [], []

    def run(self, data: bytes):
        for instruction, argument, place in pickletools.genops(data):
            if instruction.name == "STOP":
                return self.stack.pop()
            try:
                step = _STEPS[instruction.name]
            except KeyError:
                raise BadWeights(
                    f"the pickle holds more than arrays: instruction {instruction.name} at byte {place}"
                ) from None
            step(self, argument)
        raise BadWeights("the pickle breaks off")

    def push(self, value) -> None:
        self.stack.append(value)

    def pop_to_mark(self) -> list:
        found = []
        while (value := self.stack.pop()) is not _MARK:
            found.append(value)
        return found[::-1]

    def tuple_of(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise BadWeights("the pickle is damaged: a tuple of what is not there")
        self.stack[-count:] = [tuple(items)]

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not dict or not all(type(key) is str for key in items[::2]):
            raise BadWeights("the pickle holds more than dicts with texts as keys")
        target.update(zip(items[::2], items[1::2], strict=True))

    def load_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(module) is not str or type(name) is not str:
            raise BadWeights("the pickle loads something that has no name")
        text = f"{module}.{name}"
        if text not in _CALLS:
            raise BadWeights(f"the pickle holds more than arrays: it loads {text[:200]!r}")
        self.push(_Name(text))

    def call(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        make = _CALLS[name.text] if type(name) is _Name else None
        if make is None or type(arguments) is not tuple:
            raise BadWeights("the pickle calls something that makes no array")
        self.push(make(arguments))

    def set_state(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in (_Type, _Array) or type(state) is not tuple:
            raise BadWeights("the pickle sets the state of something that is no array")
        self.stack[-1].state = state


def _array(arguments) -> _Array:
    if not (len(arguments) == 3 and arguments[0] == _Name("numpy.ndarray") and arguments[1:] == ((0,), b"b")):
        raise BadWeights("the pickle makes an array in an unusual way")
    return _Array()


def _type(arguments) -> _Type:
    if arguments != ("f4", False, True):
        kind = arguments[0] if arguments and type(arguments[0]) is str else "unknown"
        raise BadWeights(f"the pickle holds numbers of type {kind[:20]!r}, expected float32 as 'f4'")
    return _Type()


# The names that may be loaded -> what a call of it makes; None for what is only handed on.
_CALLS: dict[str, Callable | None] = {
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.dtype": _type,
    "numpy.ndarray": None,
}

_STEPS: dict[str, Callable[[_Machine, object], None]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "MARK": lambda machine, argument: machine.push(_MARK),
    "NONE": lambda machine, argument: machine.push(None),
    "NEWTRUE": lambda machine, argument: machine.push(True),
    "NEWFALSE": lambda machine, argument: machine.push(False),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "BINBYTES", "SHORT_BINBYTES", "SHORT_BINUNICODE"),
        lambda machine, argument: machine.push(argument),
    ),
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    "SETITEM": lambda machine, argument: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, argument: machine.set_items(machine.pop_to_mark()),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, argument: machine.tuple_of(1),
    "TUPLE2": lambda machine, argument: machine.tuple_of(2),
    "TUPLE3": lambda machine, argument: machine.tuple_of(3),
    "MEMOIZE": lambda machine, argument: machine.memo.append(machine.stack[-1]),
    "BINGET": lambda machine, argument: machine.push(machine.memo[argument]),
    "LONG_BINGET": lambda machine, argument: machine.push(machine.memo[argument]),
    "STACK_GLOBAL": lambda machine, argument: machine.load_name(),
    "REDUCE": lambda machine, argument: machine.call(),
    "BUILD": lambda machine, argument: machine.set_state(),
}


def _flattened(tree) -> dict[str, np.ndarray]:
    found, nodes, waiting = {}, 0, [((), tree)]
    while waiting:
        path, node = waiting.pop()
        name = "/".join(path)
        if type(node) is dict:
            nodes += len(node)
            if nodes > MOST_NODES or len(path) > MOST_DEEP:
                raise BadWeights(f"the pickle holds more than {MOST_NODES} arrays, or dicts {MOST_DEEP} deep")
            waiting += [((*path, key), child) for key, child in node.items()]
        elif type(node) is not _Array or name in found:
            raise BadWeights(f"the pickle holds something that is no array, or two, at {name[:200]!r}")
        else:
            found[name] = _made(node, name)
    return found


_LITTLE_ENDIAN = (3, "<", None, None, None, -1, -1, 0)


def _made(array: _Array, name: str) -> np.ndarray:
    version, shape, kind, is_fortran, data = array.state if len(array.state or ()) == 5 else (None,) * 5
    if version != 1 or type(kind) is not _Type or kind.state != _LITTLE_ENDIAN or type(data) is not bytes:
        raise BadWeights(f"array {name} is not stored as float32")
    is_shape = type(shape) is tuple and len(shape) <= MOST_AXES
    if not is_shape or not all(type(length) is int and length >= 0 for length in shape):
        raise BadWeights(f"array {name} has no shape")
    if math.prod(shape) * 4 != len(data):
        raise BadWeights(f"array {name} should have {math.prod(shape) * 4} bytes, has {len(data)}")
    return np.frombuffer(data, "<f4").reshape(shape, order="F" if is_fortran is True else "C")
