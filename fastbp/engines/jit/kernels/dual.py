"""The numbers that a user's function is compiled for: a value and, where it varies, its derivative.

Forward-mode differentiation: `Scalar(real, True)` is a dual number v + d ε, ε² = 0, and every
operation below carries d along by the chain rule; `Scalar(real, False)` is a value alone. Both keep
the engine's dtype, whatever Python constants they meet, and both use vecmath.py, so that loops over
a user's function are vectorised as the built-in ones are. Branches choose by the value; at a kink
the derivative is that of the branch taken (of max and min, where equal, that of the second
argument; of abs at 0, 0).
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_cast
from numba.extending import intrinsic, make_attribute_wrapper, models, overload, register_model

from fastbp.engines.jit.kernels import vecmath
from fastbp.engines.jit.kernels.intrinsics import (
    copysign,
    fabs,
    inline,
    number,
    pick,
    select,
    sqrt,
)


class Scalar(types.Type):
    """A number of dtype `real`; `varies` if it has a derivative."""

    def __init__(self, real: Any, varies: bool) -> None:
        self.real, self.varies = real, varies
        super().__init__(name=f"{'dual' if varies else 'scalar'}[{real}]")

    def unify(self, typing: Any, other: Any) -> Any:
        if isinstance(other, Scalar) and other.real == self.real:
            return self if self.varies else other
        return self if isinstance(other, types.Number | types.Boolean) else None

    def can_convert_from(self, typing: Any, other: Any) -> Any:
        from numba.core.typeconv import Conversion

        if isinstance(other, Scalar):
            return Conversion.promote if self.varies and other.real == self.real else None
        return Conversion.safe if isinstance(other, types.Number | types.Boolean) else None


@register_model(Scalar)
class _Model(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [("v", kind.real), ("d", kind.real)])


make_attribute_wrapper(Scalar, "v", "v")
make_attribute_wrapper(Scalar, "d", "d")


def _struct(context: Any, builder: Any, kind: Any, v: Any, d: Any = None) -> Any:
    result = cgutils.create_struct_proxy(kind)(context, builder)
    result.v = v
    result.d = ir.Constant(v.type, 0.0) if d is None else d
    return result._getvalue()


@intrinsic
def dual(typing, v, d):
    """V + d ε."""

    def build(context, builder, signature, arguments):
        return _struct(context, builder, signature.return_type, *arguments)

    return Scalar(v, True)(v, v), build


@intrinsic
def plain(typing, v):
    """V alone."""

    def build(context, builder, signature, arguments):
        return _struct(context, builder, signature.return_type, *arguments)

    return Scalar(v, False)(v), build


def _to_real(context: Any, builder: Any, kind: Any, value: Any, real: Any) -> Any:
    """A Scalar's value, or any number, as an LLVM number of dtype `real`."""
    if isinstance(kind, Scalar):
        return cgutils.create_struct_proxy(kind)(context, builder, value=value).v
    return context.cast(builder, value, kind, real)


@lower_cast(Scalar, Scalar)
@lower_cast(types.Number, Scalar)
@lower_cast(types.Boolean, Scalar)
def _cast(context: Any, builder: Any, kind: Any, wanted: Any, value: Any) -> Any:
    if kind == wanted:
        return value
    return _struct(context, builder, wanted, _to_real(context, builder, kind, value, wanted.real))


@intrinsic
def value_of(typing, like, x):
    """The value of x, a Scalar or a number, in the dtype of `like`."""
    real = like.real if isinstance(like, Scalar) else like

    def build(context, builder, signature, arguments):
        return _to_real(context, builder, signature.args[1], arguments[1], signature.return_type)

    return real(like, x), build


@intrinsic
def slope_of(typing, like, x):
    """The derivative of x, a Scalar or a number, in the dtype of `like`."""

    def build(context, builder, signature, arguments):
        kind = signature.args[1]
        if isinstance(kind, Scalar) and kind.varies:
            return cgutils.create_struct_proxy(kind)(context, builder, value=arguments[1]).d
        return ir.Constant(context.get_value_type(signature.return_type), 0.0)

    return like(like, x), build


# ---- functions of one number ----


def _define_unary(names: list[Any], value: Any, slope: Any) -> None:
    """value(x), and its derivative slope(x, value(x))."""

    def typed(x):
        if not isinstance(x, Scalar):
            return None
        if not x.varies:
            return lambda x: plain(value(x.v))

        def implementation(x):
            y = value(x.v)
            return dual(y, x.d * slope(x.v, y))

        return implementation

    for name in names:
        overload(name)(typed)


@inline
def _exp(x):
    return vecmath.exp(x)


@inline
def _log(x):
    """log x for any x."""
    small = x < pick(x, 1.17549435e-38, 2.2250738585072014e-308)  # denormal, 0 or negative
    scaled = select(small, x * pick(x, 16777216.0, 18014398509481984.0), x)
    y = vecmath.log(scaled) - select(
        small, pick(x, 16.635532333438686, 37.42994775023705), number(x, 0.0)
    )
    y = select(x == number(x, 0.0), number(x, -math.inf), y)
    return select((x >= number(x, 0.0)) & (x < number(x, math.inf)), y, _log_of_no_number(x))


@inline
def _log_of_no_number(x):
    return select(x > number(x, 0.0), x, number(x, math.nan))


@inline
def _log1p(x):
    u = number(x, 1.0) + x
    lost = (x - (u - number(x, 1.0))) / u
    usual = (u > number(x, 0.0)) & (u < number(x, math.inf))
    return _log(u) + select(usual, lost, number(x, 0.0))


@inline
def _expm1(x):
    return select(x > number(x, 40.0), vecmath.exp(x), vecmath.expm1(x))


@inline
def _tanh(x):
    return vecmath.tanh(x)


@inline
def _one(x, y):
    return number(x, 1.0)


_SLOPES: dict[str, tuple[list[Any], Any, Any]] = {
    "exp": ([math.exp, np.exp], _exp, inline(lambda x, y: y)),
    "expm1": ([math.expm1, np.expm1], _expm1, inline(lambda x, y: y + number(x, 1.0))),
    "log": ([math.log, np.log], _log, inline(lambda x, y: number(x, 1.0) / x)),
    "log1p": (
        [math.log1p, np.log1p],
        _log1p,
        inline(lambda x, y: number(x, 1.0) / (number(x, 1.0) + x)),
    ),
    "tanh": (
        [math.tanh, np.tanh],
        _tanh,
        inline(lambda x, y: (number(x, 1.0) - y) * (number(x, 1.0) + y)),
    ),
    "sqrt": (
        [math.sqrt, np.sqrt],
        inline(lambda x: sqrt(x)),
        inline(lambda x, y: number(x, 0.5) / y),
    ),
    "abs": (
        [abs, math.fabs, np.abs, np.fabs],
        inline(lambda x: fabs(x)),
        inline(lambda x, y: select(x == number(x, 0.0), x, copysign(number(x, 1.0), x))),
    ),
    "sin": ([math.sin, np.sin], inline(lambda x: math.sin(x)), inline(lambda x, y: math.cos(x))),
    "cos": ([math.cos, np.cos], inline(lambda x: math.cos(x)), inline(lambda x, y: -math.sin(x))),
    "atan": (
        [math.atan, np.arctan],
        inline(lambda x: math.atan(x)),
        inline(lambda x, y: number(x, 1.0) / (number(x, 1.0) + x * x)),
    ),
    "erf": (
        [math.erf],
        vecmath.erf,
        inline(lambda x, y: number(x, 2 / math.sqrt(math.pi)) * vecmath.exp(-x * x)),
    ),
    "neg": ([operator.neg], inline(lambda x: -x), inline(lambda x, y: number(x, -1.0))),
    "pos": ([operator.pos], inline(lambda x: x), _one),
}
for _names, _value, _slope in _SLOPES.values():
    _define_unary(_names, _value, _slope)


# ---- functions of two numbers; either may be a plain number ----


def _define_binary(names: list[Any], value: Any, by_first: Any, by_second: Any) -> None:
    """value(x, y), and its derivatives by x and by y."""

    def typed(a, b):
        scalars = [x for x in (a, b) if isinstance(x, Scalar)]
        others = [x for x in (a, b) if not isinstance(x, Scalar)]
        if not scalars or not all(isinstance(x, types.Number | types.Boolean) for x in others):
            return None
        varies = tuple(isinstance(x, Scalar) and x.varies for x in (a, b))
        first = isinstance(a, Scalar)
        if not any(varies):
            if first:
                return lambda a, b: plain(value(a.v, value_of(a, b)))
            return lambda a, b: plain(value(value_of(b, a), b.v))
        if all(varies):

            def both(a, b):
                x, y = a.v, b.v
                return dual(value(x, y), a.d * by_first(x, y) + b.d * by_second(x, y))

            return both
        if varies[0]:

            def left(a, b):
                x, y = a.v, value_of(a, b)
                return dual(value(x, y), a.d * by_first(x, y))

            return left

        def right(a, b):
            x, y = value_of(b, a), b.v
            return dual(value(x, y), b.d * by_second(x, y))

        return right

    for name in names:
        overload(name)(typed)


@inline
def _minimum(x, y):
    return select(x < y, x, y)


@inline
def _first_if_greater(x, y):
    return select(x > y, number(x, 1.0), number(x, 0.0))


@inline
def _first_if_less(x, y):
    return select(x < y, number(x, 1.0), number(x, 0.0))


_define_binary([operator.add], inline(lambda x, y: x + y), _one, _one)
_define_binary(
    [operator.sub], inline(lambda x, y: x - y), _one, inline(lambda x, y: number(x, -1.0))
)
_define_binary(
    [operator.mul], inline(lambda x, y: x * y), inline(lambda x, y: y), inline(lambda x, y: x)
)
_define_binary(
    [operator.truediv],
    inline(lambda x, y: x / y),
    inline(lambda x, y: number(x, 1.0) / y),
    inline(lambda x, y: -(x / y) / y),
)
_define_binary(
    [max, np.maximum],
    vecmath.maximum,
    _first_if_greater,
    inline(lambda x, y: number(x, 1.0) - _first_if_greater(x, y)),
)
_define_binary(
    [min, np.minimum],
    _minimum,
    _first_if_less,
    inline(lambda x, y: number(x, 1.0) - _first_if_less(x, y)),
)


@inline
def _power(x, y):
    """x^y; for whole y, which take any x, by repeated products where they are few."""
    whole = y == math.floor(y)
    if whole and fabs(y) <= number(x, 64.0):
        n = int(y)
        product = number(x, 1.0)
        for _ in range(abs(n)):
            product = product * x
        return product if n >= 0 else number(x, 1.0) / product
    size = _exp(y * _log(fabs(x) if whole else x))
    half = number(x, 0.5) * y
    return copysign(size, x) if whole and half != math.floor(half) else size


@inline
def _power_by_base(x, y):
    zero = number(x, 0.0)
    return select(y == zero, zero, y * _power(x, y - number(x, 1.0)))


_define_binary(
    [operator.pow, math.pow],
    _power,
    _power_by_base,
    inline(lambda x, y: _log(x) * _power(x, y)),
)


def _define_comparison(compare: Any) -> None:
    def typed(a, b):
        if isinstance(a, Scalar) and isinstance(b, Scalar | types.Number | types.Boolean):
            return lambda a, b: compare(a.v, value_of(a, b))
        if isinstance(b, Scalar) and isinstance(a, types.Number | types.Boolean):
            return lambda a, b: compare(value_of(b, a), b.v)
        return None

    overload(compare)(typed)


for _compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
    _define_comparison(_compare)


@overload(np.where)
def _where(condition, x, y):
    if isinstance(condition, types.Boolean) and (isinstance(x, Scalar) or isinstance(y, Scalar)):
        return lambda condition, x, y: x if condition else y
    return None
