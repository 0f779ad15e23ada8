"""exp, expm1, log, log1p, tanh, logistic, normal and erf functions, for LLVM to vectorise.

Each is the textbook reduction written once for both dtypes, without a branch: reduce the argument
until a short series reaches the dtype's precision, then undo the reduction. At most 2 ULP in
float32, 4 in float64, for exp, tanh, logistic and erf over their whole range, denormals included;
±0, ±inf and NaN give what the math module gives.
"""

from __future__ import annotations

import math

from fastbp.engines.jit.kernels.intrinsics import (
    add,
    bits,
    choose,
    clenshaw,
    copysign,
    fabs,
    fma,
    from_bits,
    horner,
    inline,
    number,
    pick,
    select,
    shift_left,
    shift_right,
    subtract,
)

_INVERSE_FACTORIALS_32 = tuple(1 / math.factorial(n) for n in range(2, 8))
_INVERSE_FACTORIALS_64 = tuple(1 / math.factorial(n) for n in range(2, 14))
_ODD_INVERSES_32 = tuple(1 / n for n in range(3, 10, 2))
_ODD_INVERSES_64 = tuple(1 / n for n in range(3, 22, 2))
# erf(x) / x − 1, in x²
_ERF_64 = tuple(
    2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) - (n == 0)
    for n in range(18)
)
_ERF_32 = _ERF_64[:11]

# Φ(−|x|) e^(x²/2) as Chebyshev series, interpolated in 40-digit arithmetic (error 1e-9, 3e-17)
_NORMAL_32 = (
    0.168288202, -0.2291571, 0.0777883551, -0.0203846864, 0.00391813705, -0.000466660628,
    6.28752013e-06, 8.58398578e-06, -1.01675767e-06, -1.39752408e-07, 3.66944796e-08,
    2.7997046e-09, -1.30378328e-09,
)  # fmt: skip
_NORMAL_64 = (
    0.14591186288531654, -0.21186443264475936, 0.091789398075276119, -0.034660819690300699,
    0.011448212539250993, -0.0032981733320927461, 0.00082070579767212197,
    -0.00017286134803556008, 2.9590645397694969e-5, -3.7392381161870676e-6,
    2.3887363362849345e-7, 2.5485724041591188e-8, -8.9088407797181853e-9,
    7.9710705603292384e-10, 9.1285526857634335e-11, -3.0193383227420681e-11,
    1.0954604564249011e-12, 6.7873556800426008e-13, -9.0701846976716285e-14,
    -1.2052097653995354e-14, 3.510798412386556e-15, 1.5536226205422205e-16,
    -1.1861780240740195e-16, 4.6108079257324933e-20, 4.1048363725129099e-18,
)  # fmt: skip


@inline
def maximum(a, b):
    """The larger; b where either is NaN."""
    return select(a > b, a, b)


@inline
def clamp(x, low, high):
    """x brought into [low, high]; NaN stays NaN."""
    x = select(x > high, high, x)
    return maximum(low, x)


@inline
def power_of_two(n, like):
    """2^n for n within the normal exponents of `like`'s dtype."""
    return from_bits(shift_left(add(n, choose(like, 127, 1023)), choose(like, 23, 52)))


@inline
def reduce_exp(x):
    """n, r, s with x = n ln 2 + r + s, |r| ≤ ½ ln 2 and s the little that r has no bits for.

    Adding 1.5·2^mantissa rounds to an integer and leaves it in the low bits; ln 2 is split so that n
    times its high part, and so r, is exact.
    """
    shift = pick(x, 12582912.0, 6755399441055744.0)
    t = fma(x, pick(x, 1.44269504, 1.4426950408889634), shift)
    n = subtract(bits(t), bits(shift))
    t = t - shift
    s = t * pick(x, 2.12194440e-4, -1.90821492927058770002e-10)
    r = fma(-t, pick(x, 0.693359375, 0.693147180369123816490), x)
    return n, r, s


@inline
def expm1_tail(r, s):
    """expm1(r + s) − r from the series s + x²/2! + x³/3! + …, x = r + s."""
    x = r + s
    return fma(x * x, horner(x, _INVERSE_FACTORIALS_32, _INVERSE_FACTORIALS_64), s)


@inline
def exp(x):
    """e^x. Past the clamp the result has under- or overflowed.

    What 1 + r rounds away is added back with the tail. 2^n is applied in two factors, so that a
    denormal result is rounded once and 2^128 needs no exponent of its own.
    """
    one = number(x, 1.0)
    n, r, s = reduce_exp(clamp(x, pick(x, -104.0, -746.0), pick(x, 89.0, 710.0)))
    u = one + r
    y = u + ((r - (u - one)) + expm1_tail(r, s))
    half = shift_right(n, 1)
    return y * power_of_two(half, x) * power_of_two(subtract(n, half), x)


@inline
def expm1(x):
    """e^x − 1, accurate near 0, for x ≤ 40; below −40 it is −1."""
    n, r, s = reduce_exp(clamp(x, number(x, -40.0), number(x, 40.0)))
    scale = power_of_two(n, x)
    y = fma(scale, r + expm1_tail(r, s), scale - number(x, 1.0))
    return select(fabs(x) > pick(x, 1e-30, 1e-300), y, x)  # keeps −0


@inline
def log(x):
    """log x for normal x > 0: x = 2^n m, √½ ≤ m < √2, log m = 2 artanh s = 2 (s + s³/3 + …).

    s = (m − 1) / (m + 1), |s| ≤ 0.1716.
    """
    one, two = number(x, 1.0), number(x, 2.0)
    mantissa = choose(x, 23, 52)
    n = shift_right(subtract(bits(x), bits(pick(x, 0.70710678, 0.70710678118654752))), mantissa)
    m = from_bits(subtract(bits(x), shift_left(n, mantissa)))
    s = (m - one) / (m + one)
    s2 = s * s
    k = number(x, n)
    tail = s * s2 * horner(s2, _ODD_INVERSES_32, _ODD_INVERSES_64)
    y = two * s + fma(k, pick(x, -2.12194440e-4, 1.90821492927058770002e-10), two * tail)
    return fma(k, pick(x, 0.693359375, 0.693147180369123816490), y)


@inline
def log1p(x):
    """log(1 + x) for 0 ≤ x ≤ 1; the quotient gives back what rounding 1 + x lost."""
    one = number(x, 1.0)
    u = one + x
    return log(u) + (x - (u - one)) / u


@inline
def logistic(x):
    """1 / (1 + e^−x), with e = e^−|x| on both sides of 0: e / d or 1 / d, d = 1 + e.

    Corrected for what d rounds away.
    """
    one = number(x, 1.0)
    e = exp(-fabs(x))
    d = one + e
    lost = e - (d - one)
    negative = x < number(x, 0.0)
    y = select(negative, e, one) / d
    inverse = select(negative, one - y, y)
    return fma(-(y * lost), inverse, y)


@inline
def tanh(x):
    """tanh x with x's sign, from e = expm1(2|x|) and d = e + 2: 1 − 2 / d from e = 2 on, e / d below.

    There it is corrected for what d rounds away, 1 / d being (1 − e / d) / 2. It is 1 to the last bit
    from |x| = 20.
    """
    one, two = number(x, 1.0), number(x, 2.0)
    e = expm1(clamp(two * fabs(x), number(x, 0.0), number(x, 40.0)))
    d = e + two
    lost = e - (d - two)
    large = e > two
    y = select(large, two, e) / d
    corrected = fma(-(y * lost), (one - y) * number(x, 0.5), y)
    return copysign(select(large, one - y, corrected), x)


@inline
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^−|x|)."""
    return maximum(number(x, 0.0), x) + log1p(exp(-fabs(x)))


@inline
def normal(x):
    """Φ(x) = ∫_−∞^x density, and the density e^(−x²/2) / √(2π)."""
    one, c = number(x, 1.0), pick(x, 4.0, 6.0)
    z = clamp(fabs(x), number(x, 0.0), number(x, 40.0))
    t = (z - c) / (z + c)
    e = exp(z * z * number(x, -0.5))
    tail = e * clenshaw(t, _NORMAL_32, _NORMAL_64)
    return select(x < number(x, 0.0), tail, one - tail), e * number(x, 0.39894228040143268)


@inline
def erf(x):
    """2 / √π ∫_0^x e^−t² dt: Taylor's series below 1, 1 − 2 Φ(−√2 |x|) from there."""
    one, z = number(x, 1.0), fabs(x)
    tail, _ = normal(pick(x, -1.41421356, -1.4142135623730951) * z)
    small = fma(x, horner(x * x, _ERF_32, _ERF_64), x)
    return select(z < one, small, copysign(one - (tail + tail), x))
