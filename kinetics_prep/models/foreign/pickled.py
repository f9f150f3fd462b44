"""Reads a pickle of nested dicts of float32 arrays, and runs nothing.

A pickle is a program, and Python's reader calls any function that it names. This reader knows the few instructions
that such a pickle needs, and the three names from which NumPy 1 makes an array. It calls none of them: it keeps the
arguments of a call, checks them, and makes the array itself. It stops at any other instruction or name.

Nothing takes more memory than the file: sizes are compared with the number of bytes. Values are never hashed, compared
or printed before their type is known, and only dicts of limited depth are walked through: a pickle of a hundred
instructions can build a tuple of two tuples of two tuples, fifty times over, and a walk through that would never end.

Written from the standard library's pickletools, which documents each instruction.
"""

import dataclasses
import math
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from kinetics_prep.errors import BadWeights

MOST_NODES = 10_000
"""Dicts and arrays in a pickle. A few dicts that each hold the next many times have astronomically many."""

MOST_DEPTH, MOST_AXES = 16, 8

_MARK = object()


@dataclasses.dataclass
class _Name:
    """A name that the pickle would have loaded."""

    text: str


@dataclasses.dataclass
class _Type:
    """Stands for a numpy.dtype."""

    state: tuple | None = None


@dataclasses.dataclass
class _Array:
    """Stands for a numpy.ndarray."""

    state: tuple | None = None


def read(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a pickle: float32, by the keys that lead to each, joined by "/".

    Raises:
      BadWeights: if the pickle is anything else, or damaged.
    """
    try:
        return _flatten(_Machine().run(data))
    except BadWeights:
        raise
    # A stranger's program may pop from an empty stack, or use a list as a key.
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise BadWeights(f"the pickle is damaged: {str(error)[:200]}") from None


class _Machine:
    """The part of the pickle machine that is safe."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: list[Any] = []

    def run(self, data: bytes) -> object:
        """Executes the program and returns the value that it leaves on the stack."""
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

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop_to_mark(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def make_tuple(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise BadWeights("the pickle is damaged: a tuple of more values than there are")
        self.stack[-count:] = [tuple(items)]

    def set_items(self, items: list[Any]) -> None:
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


def _array(arguments: tuple) -> _Array:
    if not (len(arguments) == 3 and arguments[0] == _Name("numpy.ndarray") and arguments[1:] == ((0,), b"b")):
        raise BadWeights("the pickle makes an array in an unusual way")
    return _Array()


def _type(arguments: tuple) -> _Type:
    if arguments != ("f4", False, True):
        kind = arguments[0] if arguments and type(arguments[0]) is str else "unknown"
        raise BadWeights(f"the pickle holds numbers of type {kind[:20]!r}, expected float32 as 'f4'")
    return _Type()


# The names that may be loaded -> what a call makes; None for a name that is only an argument.
_CALLS: dict[str, Callable[[tuple], _Array | _Type] | None] = {
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.dtype": _type,
    "numpy.ndarray": None,
}

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
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
    "TUPLE1": lambda machine, argument: machine.make_tuple(1),
    "TUPLE2": lambda machine, argument: machine.make_tuple(2),
    "TUPLE3": lambda machine, argument: machine.make_tuple(3),
    "MEMOIZE": lambda machine, argument: machine.memo.append(machine.stack[-1]),
    "BINGET": lambda machine, argument: machine.push(machine.memo[argument]),
    "LONG_BINGET": lambda machine, argument: machine.push(machine.memo[argument]),
    "STACK_GLOBAL": lambda machine, argument: machine.load_name(),
    "REDUCE": lambda machine, argument: machine.call(),
    "BUILD": lambda machine, argument: machine.set_state(),
}


def _flatten(tree: object) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    waiting: list[tuple[tuple[str, ...], object]] = [((), tree)]
    nodes = 0
    while waiting:
        path, node = waiting.pop()
        name = "/".join(path)
        if type(node) is dict:
            nodes += len(node)
            if nodes > MOST_NODES or len(path) > MOST_DEPTH:
                raise BadWeights(f"the pickle holds more than {MOST_NODES} arrays, or dicts {MOST_DEPTH} deep")
            waiting += [((*path, key), child) for key, child in node.items()]
        elif type(node) is not _Array or name in arrays:
            raise BadWeights(f"the pickle holds something that is no array, or two, at {name[:200]!r}")
        else:
            arrays[name] = _make(node, name)
    return arrays


_LITTLE_ENDIAN = (3, "<", None, None, None, -1, -1, 0)


def _make(array: _Array, name: str) -> np.ndarray:
    if array.state is None or len(array.state) != 5:
        raise BadWeights(f"array {name} is not stored as float32")
    version, shape, kind, is_fortran, data = array.state
    if version != 1 or type(kind) is not _Type or kind.state != _LITTLE_ENDIAN or type(data) is not bytes:
        raise BadWeights(f"array {name} is not stored as float32")
    is_shape = type(shape) is tuple and len(shape) <= MOST_AXES
    if not is_shape or not all(type(length) is int and length >= 0 for length in shape):
        raise BadWeights(f"array {name} has no shape")
    if math.prod(shape) * 4 != len(data):
        raise BadWeights(f"array {name} should have {math.prod(shape) * 4} bytes, has {len(data)}")
    return np.frombuffer(data, "<f4").reshape(shape, order="F" if is_fortran is True else "C")
