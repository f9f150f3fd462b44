"""Vectors of sixteen numbers for Numba: `Floats` (float32), `Integers` (int32) and `Mask`.

Numba leaves it to LLVM to use vector instructions, and LLVM gives up on loops that read and write a dozen arrays in
place. So this module makes vectors explicit, as LLVM types, and kernels compute with them as with numbers:

    v = fma(load(array, at), splat(tau), u1)        # array[at : at + 16] * tau + u1
    store(array, at, select(less(v, u1), u1, v))

A vector has sixteen lanes on every machine: LLVM uses one AVX-512 register for it, two of AVX2, four of NEON. Every
operation here is exact by IEEE 754, lane by lane, and `total` adds the lanes in a fixed order, so the results are the
same bits on all machines. `take`, `take_near` and `cut` use different instructions on different machines, for speed,
with the same results. Only `fma` differs, where a machine cannot fuse a product and a sum.

Nothing checks bounds; the kernels must.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import llvmlite.binding
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import models, overload, register_model

from kinetics_prep.flow.compiled import intrinsic

# What kernels hold while they run. These names are for readers: Numba ignores hints, and no Python value has such a
# type, so type checkers see Any.
FloatVector: TypeAlias = Any
IntegerVector: TypeAlias = Any
MaskVector: TypeAlias = Any
FloatPointer: TypeAlias = Any

LANES = 16
REACH = 32
"""Numbers that `take` can choose from."""

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS, _MASK = (ir.VectorType(kind, LANES) for kind in (_FLOAT, _INT, ir.IntType(1)))


def _target_features() -> frozenset[str]:
    """The features that Numba compiles for: this machine's, or those in NUMBA_CPU_FEATURES."""
    settings: Any = config  # set at run time
    text = settings.CPU_FEATURES
    if text is None:
        text = get_host_cpu_features()
    return frozenset(word.removeprefix("+") for word in text.split(",") if word.startswith("+"))


_FEATURES = _target_features()
_IS_ARM = llvmlite.binding.get_default_triple().startswith(("aarch64", "arm64"))

FUSED = _IS_ARM or "fma" in _FEATURES
"""Whether the machine multiplies and adds with one rounding. Without it `fma` rounds twice, and results differ."""

INSTRUCTIONS = (
    "AVX-512" if "avx512f" in _FEATURES
    else "AVX2" if {"avx2", "fma"} <= _FEATURES
    else "NEON" if _IS_ARM
    else "baseline"
)  # fmt: skip
"""The instruction set that vectors use here."""


class _Vector(types.Type):
    """A Numba type whose values are one LLVM vector."""

    def __init__(self, name: str, made_of: ir.VectorType) -> None:
        super().__init__(name)
        self.made_of = made_of


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: _Vector) -> None:
        super().__init__(manager, vector, vector.made_of)


Floats, Integers, Mask = _Vector("Floats", _FLOATS), _Vector("Integers", _INTS), _Vector("Mask", _MASK)


def _operation(result: types.Type, *arguments: types.Type) -> Callable[[Callable[..., ir.Value]], Any]:
    """Makes a function for kernels, with these argument types; the decorated function builds its LLVM code."""

    def operation_from(build: Callable[..., ir.Value]) -> Any:
        signature = result(*arguments)

        def code(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            built = build(builder, *values)
            return context.get_dummy_value() if result == types.void else built

        # Numba counts the parameters of this function, so each number of arguments needs its own.
        typed: Any = {
            0: lambda typing: (signature, code),
            1: lambda typing, a: (signature, code),
            2: lambda typing, a, b: (signature, code),
            3: lambda typing, a, b, c: (signature, code),
        }[len(arguments)]
        typed.__name__, typed.__doc__ = build.__name__, build.__doc__
        return intrinsic(typed)

    return operation_from


def _same(number: int) -> ir.Constant:
    """The integer in every lane."""
    return ir.Constant(_INTS, [number] * LANES)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *values: ir.Value) -> ir.Value:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [value.type for value in values]), name
    )
    return builder.call(function, values)


def _loaded(builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    value = builder.load(builder.bitcast(builder.gep(pointer, [index]), ir.PointerType(kind)))
    value.align = 4
    return value


# Memory --------------------------------------------------------------------------------------------

Pointer = types.CPointer(types.float32)
"""To a number in a float32 array. Kernels pass pointers, because Numba counts an array's references at each call."""


@intrinsic
def pointer(typing: Any, array: types.Array, at: types.Integer) -> tuple[Any, Callable[..., ir.Value]]:
    """A pointer to array[at], of a float32 array [n], which must outlive it."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.gep(data, [values[1]])

    return Pointer(array, types.intp), code


@intrinsic
def load_integers(typing: Any, array: types.Array, at: types.Integer) -> tuple[Any, Callable[..., ir.Value]]:
    """array[at : at + 16], of an int32 array [n]."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return _loaded(builder, data, values[1], _INTS)

    return Integers(array, types.intp), code


@_operation(Pointer, Pointer, types.intp)
def moved(builder: ir.IRBuilder, numbers: ir.Value, by: ir.Value) -> ir.Value:
    """A pointer to numbers[by]."""
    return builder.gep(numbers, [by])


@_operation(Floats, Pointer, types.intp)
def load(builder: ir.IRBuilder, numbers: ir.Value, at: ir.Value) -> ir.Value:
    """numbers[at : at + 16]."""
    return _loaded(builder, numbers, at, _FLOATS)


@_operation(types.void, Pointer, types.intp, Floats)
def store(builder: ir.IRBuilder, numbers: ir.Value, at: ir.Value, value: ir.Value) -> None:
    """numbers[at : at + 16] = value."""
    place = builder.bitcast(builder.gep(numbers, [at]), ir.PointerType(_FLOATS))
    builder.store(value, place).align = 4


@_operation(Floats, Pointer, types.intp, Integers)
def gather(builder: ir.IRBuilder, numbers: ir.Value, at: ir.Value, index: ir.Value) -> ir.Value:
    """numbers[at + index], lane by lane."""
    first = builder.gep(numbers, [at])
    result = ir.Constant(_FLOATS, ir.Undefined)
    for k in range(LANES):
        lane = ir.Constant(_INT, k)
        number = builder.load(builder.gep(first, [builder.sext(builder.extract_element(index, lane), at.type)]))
        result = builder.insert_element(result, number, lane)
    return result


def _eight(builder: ir.IRBuilder, numbers: ir.Value, at: ir.Value, first: int) -> ir.Value:
    """numbers[at + first : at + first + 8]."""
    return _loaded(builder, numbers, builder.add(at, at.type(first)), ir.VectorType(_FLOAT, 8))


def _picked_avx2(builder: ir.IRBuilder, below: ir.Value, above: ir.Value, bit: int, part: ir.Value) -> ir.Value:
    """Picks from eight numbers of `below` where the bit is clear in the index `part`, else from those of `above`."""
    # The instruction uses the three lowest bits of an index.
    low, high = (_call(builder, "llvm.x86.avx2.permps", eight.type, eight, part) for eight in (below, above))
    return _chosen_avx2(builder, low, high, bit, part)


def _chosen_avx2(builder: ir.IRBuilder, low: ir.Value, high: ir.Value, bit: int, part: ir.Value) -> ir.Value:
    is_set = builder.and_(part, ir.Constant(part.type, [bit] * 8))
    return builder.select(builder.icmp_signed("!=", is_set, ir.Constant(part.type, [0] * 8)), high, low)


def _halves(builder: ir.IRBuilder, index: ir.Value) -> Iterator[ir.Value]:
    for first in (0, 8):
        yield builder.shuffle_vector(index, index, ir.Constant(ir.VectorType(_INT, 8), list(range(first, first + 8))))


def _joined(builder: ir.IRBuilder, parts: list[ir.Value] | tuple[ir.Value, ir.Value]) -> ir.Value:
    return builder.shuffle_vector(*parts, ir.Constant(_INTS, list(range(LANES))))


def _take_avx2(builder: ir.IRBuilder, numbers: ir.Value, at: ir.Value, index: ir.Value) -> ir.Value:
    eights = [_eight(builder, numbers, at, first) for first in (0, 8, 16, 24)]
    taken = []
    for part in _halves(builder, index):
        low, high = (_picked_avx2(builder, below, above, 8, part) for below, above in (eights[:2], eights[2:]))
        taken.append(_chosen_avx2(builder, low, high, 16, part))
    return _joined(builder, taken)


def _take_near_avx2(builder: ir.IRBuilder, numbers: ir.Value, at: ir.Value, index: ir.Value) -> ir.Value:
    below, middle, above = (_eight(builder, numbers, at, first) for first in (0, 8, 16))
    first, second = _halves(builder, index)
    parts = (_picked_avx2(builder, below, middle, 8, first), _picked_avx2(builder, middle, above, 16, second))
    return _joined(builder, parts)


def _take_avx512(builder: ir.IRBuilder, numbers: ir.Value, at: ir.Value, index: ir.Value) -> ir.Value:
    low, high = (_loaded(builder, numbers, builder.add(at, at.type(first)), _FLOATS) for first in (0, LANES))
    return _call(builder, "llvm.x86.avx512.vpermi2var.ps.512", _FLOATS, low, index, high)


_TAKE = {"AVX-512": _take_avx512, "AVX2": _take_avx2}.get(INSTRUCTIONS)
take = _operation(Floats, Pointer, types.intp, Integers)(_TAKE) if _TAKE else gather
"""As `gather`, for indices of 0 to REACH - 1; may read all of numbers[at : at + REACH]."""

NEAR_SHIFT, NEAR_REACH = (8, 16) if INSTRUCTIONS == "AVX2" else (0, REACH)
take_near = _operation(Floats, Pointer, types.intp, Integers)(_take_near_avx2) if NEAR_SHIFT else take
"""As `take`, but cheaper, for indices that exceed the `near_shift` of their lane by 0 to NEAR_REACH - 1."""


# Making vectors ------------------------------------------------------------------------------------


@_operation(Floats, types.float32)
def splat(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """The number in every lane."""
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, first, _same(0))


@_operation(Floats)
def lanes(builder: ir.IRBuilder) -> ir.Value:
    """0, 1, ... 15."""
    return ir.Constant(_FLOATS, [float(lane) for lane in range(LANES)])


@_operation(Floats)
def near_shift(builder: ir.IRBuilder) -> ir.Value:
    """The least index that `take_near` allows in each lane: 0, or NEAR_SHIFT in the second half."""
    return ir.Constant(_FLOATS, [0.0] * 8 + [float(NEAR_SHIFT)] * 8)


@_operation(Integers, Floats)
def to_integers(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """Whole numbers as integers; they must be in the range of int32."""
    return builder.fptosi(x, _INTS)


@_operation(Integers, types.int32)
def splat_integer(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """The integer in every lane."""
    first = builder.insert_element(ir.Constant(_INTS, ir.Undefined), number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, first, _same(0))


# Arithmetic ----------------------------------------------------------------------------------------


@_operation(Floats, Floats, Floats, Floats)
def fma(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """x * y + z, rounded once."""
    return _call(builder, f"llvm.{'fma' if FUSED else 'fmuladd'}.v{LANES}f32", _FLOATS, x, y, z)


@_operation(Floats, Floats)
def sqrt(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return _call(builder, f"llvm.sqrt.v{LANES}f32", _FLOATS, x)


@_operation(Floats, Floats)
def floor(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return _call(builder, f"llvm.floor.v{LANES}f32", _FLOATS, x)


@_operation(Floats, Floats)
def absolute(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return _call(builder, f"llvm.fabs.v{LANES}f32", _FLOATS, x)


@_operation(Floats, Floats, Floats)
def minimum(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The lesser of two numbers; y if either is NaN."""
    return builder.select(builder.fcmp_ordered("<", x, y), x, y)


@_operation(Floats, Floats, Floats)
def maximum(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The greater of two numbers; y if either is NaN."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


@_operation(Floats, Floats, Floats)
def cut(builder: ir.IRBuilder, x: ir.Value, bound: ir.Value) -> ir.Value:
    """x clipped to +-bound; the bound is 0 or more."""
    if "avx512dq" in _FEATURES:  # one instruction: the smaller magnitude, with the sign of x
        undefined, all_lanes = ir.Constant(_FLOATS, ir.Undefined), ir.Constant(ir.IntType(LANES), -1)
        rest = (ir.Constant(_INT, 0b0010), undefined, all_lanes, ir.Constant(_INT, 4))
        return _call(builder, "llvm.x86.avx512.mask.range.ps.512", _FLOATS, x, bound, *rest)
    below = builder.select(builder.fcmp_ordered("<", x, bound), x, bound)
    negative = builder.fneg(bound)
    return builder.select(builder.fcmp_ordered(">", below, negative), below, negative)


@_operation(Floats, Floats)
def reciprocal_guess(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """1 / x to 5%, for positive x: negates the exponent and approximates the rest by a straight line."""
    return builder.bitcast(builder.sub(_same(0x7EF311C3), builder.bitcast(x, _INTS)), _FLOATS)


def _overloaded(
    function: Callable[..., Any], vector: _Vector, build: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]
) -> None:
    """Makes Python's operator `function` work on two vectors of this type."""
    compute = _operation(vector, vector, vector)(build)
    # Lambdas, because Numba compares the parameters of both functions, hints included, and the inner one has none.
    overload(function)(lambda x, y: (lambda x, y: compute(x, y)) if x == vector and y == vector else None)


_overloaded(operator.add, Floats, lambda builder, x, y: builder.fadd(x, y))
_overloaded(operator.sub, Floats, lambda builder, x, y: builder.fsub(x, y))
_overloaded(operator.mul, Floats, lambda builder, x, y: builder.fmul(x, y))
_overloaded(operator.truediv, Floats, lambda builder, x, y: builder.fdiv(x, y))
_overloaded(operator.add, Integers, lambda builder, x, y: builder.add(x, y))
_overloaded(operator.sub, Integers, lambda builder, x, y: builder.sub(x, y))
_overloaded(operator.mul, Integers, lambda builder, x, y: builder.mul(x, y))


@_operation(Floats, Floats)
def _negated(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return builder.fneg(x)


overload(operator.neg)(lambda x: (lambda x: _negated(x)) if x == Floats else None)


# Choosing ------------------------------------------------------------------------------------------


@_operation(Mask, Floats, Floats)
def less(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return builder.fcmp_ordered("<", x, y)


@_operation(Floats, Mask, Floats, Floats)
def select(builder: ir.IRBuilder, mask: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """x where the mask is set, else y."""
    return builder.select(mask, x, y)


# From vectors to numbers ---------------------------------------------------------------------------


def _folded(builder: ir.IRBuilder, vector: ir.Value, fold: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
    """Combines the lanes by halves: 0 with 8, 1 with 9 ..., then 0 with 4 ..., and so on."""
    count = LANES
    while count > 1:
        count //= 2
        low, high = (
            builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_INT, count), list(range(at, at + count))))
            for at in (0, count)
        )
        vector = fold(low, high)
    return builder.extract_element(vector, ir.Constant(_INT, 0))


@_operation(types.float32, Floats)
def total(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The sum of the lanes, always added in the same order."""
    return _folded(builder, x, builder.fadd)


@_operation(types.float32, Floats)
def lowest(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return _folded(builder, x, lambda a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


@_operation(types.float32, Floats)
def highest(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return _folded(builder, x, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
