"""Vectors of sixteen numbers for Numba: `Floats` (float32), `Integers` (int32) and `Mask`.

Numba leaves vectors to LLVM's judgement, and LLVM gives up on loops that read and write a dozen arrays in
place. So the vectors are spelled out here, as LLVM types, and kernels compute with them as with numbers:

    v = fma(load(array, at), splat(tau), u1)        # array[at : at + 16] * tau + u1
    store(array, at, select(less(v, u1), u1, v))

Sixteen lanes on every machine: LLVM makes one AVX-512 register of them, two of AVX2, four of NEON. As
every operation here is exact by IEEE 754, lane by lane, and `total` adds the lanes in an order of its
own, the results are the same bits on all of them. `take`, `take_near` and `cut` ask what the machine has,
for speed, and give the same on each; only `fma` differs, where arithmetic cannot be fused.

Nothing checks bounds: that is up to the kernel.
"""

import operator

import llvmlite.binding
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
REACH = 32
"""Numbers that `take` can choose from."""

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS, _MASK = (ir.VectorType(kind, LANES) for kind in (_FLOAT, _INT, ir.IntType(1)))


def _target_features() -> frozenset[str]:
    """What Numba compiles for: this machine, unless NUMBA_CPU_FEATURES says else."""
    text = config.CPU_FEATURES
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
"""What vectors are made of here, in words."""


class _Vector(types.Type):
    """A Numba type whose values are one LLVM vector."""

    def __init__(self, name: str, made_of: ir.VectorType):
        super().__init__(name)
        self.made_of = made_of


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.made_of)


Floats, Integers, Mask = _Vector("Floats", _FLOATS), _Vector("Integers", _INTS), _Vector("Mask", _MASK)


def _operation(result, *arguments):
    """A function for kernels, of these argument types; the decorated one builds its code from LLVM values."""

    def made_from(build):
        signature = result(*arguments)

        def code(context, builder, signature, values):
            built = build(builder, *values)
            return context.get_dummy_value() if result == types.void else built

        # Numba counts the arguments of what it is given, so each number of them has a function of its own.
        typed = {
            0: lambda typing: (signature, code),
            1: lambda typing, a: (signature, code),
            2: lambda typing, a, b: (signature, code),
            3: lambda typing, a, b, c: (signature, code),
        }[len(arguments)]
        typed.__name__, typed.__doc__ = build.__name__, build.__doc__
        return intrinsic(typed)

    return made_from


def _same(number, kind=_INTS):
    return ir.Constant(kind, [number] * LANES)


def _call(builder, name: str, result, *values):
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [value.type for value in values]), name
    )
    return builder.call(function, values)


def _loaded(builder, pointer, index, kind):
    value = builder.load(builder.bitcast(builder.gep(pointer, [index]), ir.PointerType(kind)))
    value.align = 4
    return value


# Memory --------------------------------------------------------------------------------------------

Pointer = types.CPointer(types.float32)
"""To a float32 among others, without the array around it, which Numba would count references of at each call."""


@intrinsic
def pointer(typing, array, at):
    """To array[at], of a float32 array [n], which must outlive it."""

    def code(context, builder, signature, values):
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.gep(data, [values[1]])

    return Pointer(array, types.intp), code


@intrinsic
def load_integers(typing, array, at):
    """array[at : at + 16], of an int32 array [n]."""

    def code(context, builder, signature, values):
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return _loaded(builder, data, values[1], _INTS)

    return Integers(array, types.intp), code


@_operation(Pointer, Pointer, types.intp)
def moved(builder, numbers, by):
    """To numbers[by]."""
    return builder.gep(numbers, [by])


@_operation(Floats, Pointer, types.intp)
def load(builder, numbers, at):
    """numbers[at : at + 16]."""
    return _loaded(builder, numbers, at, _FLOATS)


@_operation(types.void, Pointer, types.intp, Floats)
def store(builder, numbers, at, value):
    """numbers[at : at + 16] = value."""
    place = builder.bitcast(builder.gep(numbers, [at]), ir.PointerType(_FLOATS))
    builder.store(value, place).align = 4


@_operation(Floats, Pointer, types.intp, Integers)
def gather(builder, numbers, at, index):
    """numbers[at + index], lane by lane."""
    first = builder.gep(numbers, [at])
    result = ir.Constant(_FLOATS, ir.Undefined)
    for lane in range(LANES):
        lane = ir.Constant(_INT, lane)
        one = builder.load(builder.gep(first, [builder.sext(builder.extract_element(index, lane), at.type)]))
        result = builder.insert_element(result, one, lane)
    return result


def _eight(builder, numbers, at, first: int):
    """numbers[at + first : at + first + 8]."""
    return _loaded(builder, numbers, builder.add(at, at.type(first)), ir.VectorType(_FLOAT, 8))


def _picked_avx2(builder, below, above, bit: int, part):
    """Of eight numbers each: from `below` where the bit is clear in the index `part`, from `above` where it is set."""
    # The instruction looks at the three lowest bits of an index.
    low, high = (_call(builder, "llvm.x86.avx2.permps", eight.type, eight, part) for eight in (below, above))
    return _chosen_avx2(builder, low, high, bit, part)


def _chosen_avx2(builder, low, high, bit: int, part):
    is_set = builder.and_(part, ir.Constant(part.type, [bit] * 8))
    return builder.select(builder.icmp_signed("!=", is_set, ir.Constant(part.type, [0] * 8)), high, low)


def _halves(builder, index):
    for first in (0, 8):
        yield builder.shuffle_vector(index, index, ir.Constant(ir.VectorType(_INT, 8), list(range(first, first + 8))))


def _joined(builder, parts):
    return builder.shuffle_vector(*parts, ir.Constant(_INTS, list(range(LANES))))


def _take_avx2(builder, numbers, at, index):
    eights = [_eight(builder, numbers, at, first) for first in (0, 8, 16, 24)]
    taken = []
    for part in _halves(builder, index):
        low, high = (_picked_avx2(builder, *pair, 8, part) for pair in (eights[:2], eights[2:]))
        taken.append(_chosen_avx2(builder, low, high, 16, part))
    return _joined(builder, taken)


def _take_near_avx2(builder, numbers, at, index):
    eights = [_eight(builder, numbers, at, first) for first in (0, 8, 16)]
    first, second = _halves(builder, index)
    parts = (_picked_avx2(builder, *eights[:2], 8, first), _picked_avx2(builder, *eights[1:], 16, second))
    return _joined(builder, parts)


def _take_avx512(builder, numbers, at, index):
    low, high = (_loaded(builder, numbers, builder.add(at, at.type(first)), _FLOATS) for first in (0, LANES))
    return _call(builder, "llvm.x86.avx512.vpermi2var.ps.512", _FLOATS, low, index, high)


_TAKE = {"AVX-512": _take_avx512, "AVX2": _take_avx2}.get(INSTRUCTIONS)
take = _operation(Floats, Pointer, types.intp, Integers)(_TAKE) if _TAKE else gather
"""As `gather`, for 0 <= index < REACH; may read all of numbers[at : at + REACH]."""

NEAR_SHIFT, NEAR_REACH = (8, 16) if INSTRUCTIONS == "AVX2" else (0, REACH)
take_near = _operation(Floats, Pointer, types.intp, Integers)(_take_near_avx2) if NEAR_SHIFT else take
"""As `take`, cheaper: for indices of 0 to NEAR_REACH, beyond `near_shift` of their lane."""


# Making vectors ------------------------------------------------------------------------------------


@_operation(Floats, types.float32)
def splat(builder, number):
    """The number in every lane."""
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, first, _same(0))


@_operation(Floats)
def lanes(builder):
    """0, 1, ... 15."""
    return ir.Constant(_FLOATS, [float(lane) for lane in range(LANES)])


@_operation(Floats)
def near_shift(builder):
    """Where each lane's reach of `take_near` begins: 0, or NEAR_SHIFT in the second half."""
    return ir.Constant(_FLOATS, [0.0] * 8 + [float(NEAR_SHIFT)] * 8)


@_operation(Integers, Floats)
def to_integers(builder, x):
    """Whole numbers as integers; they must fit."""
    return builder.fptosi(x, _INTS)


@_operation(Integers, types.int32)
def splat_integer(builder, number):
    """The integer in every lane."""
    first = builder.insert_element(ir.Constant(_INTS, ir.Undefined), number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, first, _same(0))


# Arithmetic ----------------------------------------------------------------------------------------


@_operation(Floats, Floats, Floats, Floats)
def fma(builder, x, y, z):
    """x * y + z, rounded once."""
    return _call(builder, f"llvm.{'fma' if FUSED else 'fmuladd'}.v{LANES}f32", _FLOATS, x, y, z)


@_operation(Floats, Floats)
def sqrt(builder, x):
    return _call(builder, f"llvm.sqrt.v{LANES}f32", _FLOATS, x)


@_operation(Floats, Floats)
def floor(builder, x):
    return _call(builder, f"llvm.floor.v{LANES}f32", _FLOATS, x)


@_operation(Floats, Floats)
def absolute(builder, x):
    return _call(builder, f"llvm.fabs.v{LANES}f32", _FLOATS, x)


@_operation(Floats, Floats, Floats)
def minimum(builder, x, y):
    """The lesser of two numbers; y where one is not a number."""
    return builder.select(builder.fcmp_ordered("<", x, y), x, y)


@_operation(Floats, Floats, Floats)
def maximum(builder, x, y):
    """The greater of two numbers; y where one is not a number."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


@_operation(Floats, Floats, Floats)
def cut(builder, x, bound):
    """x cut to +-bound, which is 0 or more."""
    if "avx512dq" in _FEATURES:  # one instruction: the lesser in size, the sign of the first
        nothing, all_lanes = ir.Constant(_FLOATS, ir.Undefined), ir.Constant(ir.IntType(LANES), -1)
        rest = (ir.Constant(_INT, 0b0010), nothing, all_lanes, ir.Constant(_INT, 4))
        return _call(builder, "llvm.x86.avx512.mask.range.ps.512", _FLOATS, x, bound, *rest)
    below = builder.select(builder.fcmp_ordered("<", x, bound), x, bound)
    negative = builder.fneg(bound)
    return builder.select(builder.fcmp_ordered(">", below, negative), below, negative)


@_operation(Floats, Floats)
def reciprocal_guess(builder, x):
    """1 / x to 5%, for positive x: the exponent's sign turned, the rest by a straight line."""
    return builder.bitcast(builder.sub(_same(0x7EF311C3), builder.bitcast(x, _INTS)), _FLOATS)


def _overloaded(function, vector, build):
    """`function` for two vectors."""
    compute = _operation(vector, vector, vector)(build)

    @overload(function)
    def typed(x, y):
        if x == vector and y == vector:
            return lambda x, y: compute(x, y)


_overloaded(operator.add, Floats, lambda builder, x, y: builder.fadd(x, y))
_overloaded(operator.sub, Floats, lambda builder, x, y: builder.fsub(x, y))
_overloaded(operator.mul, Floats, lambda builder, x, y: builder.fmul(x, y))
_overloaded(operator.truediv, Floats, lambda builder, x, y: builder.fdiv(x, y))
_overloaded(operator.add, Integers, lambda builder, x, y: builder.add(x, y))
_overloaded(operator.sub, Integers, lambda builder, x, y: builder.sub(x, y))
_overloaded(operator.mul, Integers, lambda builder, x, y: builder.mul(x, y))


@overload(operator.neg)
def _negative(x):
    if x == Floats:
        return lambda x: _negated(x)


@_operation(Floats, Floats)
def _negated(builder, x):
    return builder.fneg(x)


# Choosing ------------------------------------------------------------------------------------------


@_operation(Mask, Floats, Floats)
def less(builder, x, y):
    return builder.fcmp_ordered("<", x, y)


@_operation(Floats, Mask, Floats, Floats)
def select(builder, mask, x, y):
    """x where the mask is set, else y."""
    return builder.select(mask, x, y)


# From vectors to numbers ---------------------------------------------------------------------------


def _folded(builder, vector, fold):
    """The lanes brought together by halves: 0 with 8, 1 with 9 ..., then 0 with 4 ..., and so on."""
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
def total(builder, x):
    """The sum of the lanes, always in the same order."""
    return _folded(builder, x, builder.fadd)


@_operation(types.float32, Floats)
def lowest(builder, x):
    return _folded(builder, x, lambda a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


@_operation(types.float32, Floats)
def highest(builder, x):
    return _folded(builder, x, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
