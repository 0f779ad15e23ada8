/* exp, expm1, log, log1p, tanh, the logistic function and the normal distribution's tail, on vectors.

   Each is the textbook reduction written once for both dtypes: reduce the argument until a short series
   reaches the dtype's precision, then undo the reduction. Error bounds (tests/test_native_modules.py): at most
   2 ULP in float32, 4 in float64, for exp, tanh and logistic over their whole range, denormals
   included; ±0, ±inf and NaN give what math.h gives. */
#ifndef FASTBP_VECMATH_H
#define FASTBP_VECMATH_H

#include "simd.h"

#define MANTISSA REAL(23, 52)
#define BIAS REAL(127, 1023)

/* Σ coefficients[i] x^i, i = 0 … n−1, by Horner's rule. */
INLINE vec polynomial(vec x, const real *coefficients, const int n) {
    vec y = splat(coefficients[n - 1]);
    UNROLL for (int i = n - 2; i >= 0; i--) y = y * x + coefficients[i];
    return y;
}

/* 2^n for integral n within the normal exponents. */
INLINE vec power_of_two(ivec n) { return (vec)((n + BIAS) << MANTISSA); }

/* x = n ln 2 + r + s with |r| ≤ ½ ln 2 and s the little that r has no bits for. Adding 1.5·2^MANTISSA
   rounds to an integer and leaves it in the low bits; ln 2 is split so that n times its high part, and
   so r, is exact. */
INLINE vec reduce_exp(vec x, ivec *n, vec *s) {
    const vec shift = splat(REAL(12582912.0f, 6755399441055744.0));
    vec t = x * REAL(1.44269504f, 1.4426950408889634) + shift;
    *n = (ivec)t - (ivec)shift;
    t -= shift;
    *s = t * REAL(2.12194440e-4f, -1.90821492927058770002e-10);
    return x - t * REAL(0.693359375f, 0.693147180369123816490);
}

/* expm1(r + s) − r from the Taylor series s + r²/2! + r³/3! + …. */
INLINE vec expm1_tail(vec r, vec s) {
    static const real inverse_factorials[] = {
        1.0 / 2,         1.0 / 6,          1.0 / 24,         1.0 / 120,         1.0 / 720,
        1.0 / 5040,
#ifdef FASTBP_FLOAT64
        1.0 / 40320,     1.0 / 362880,     1.0 / 3628800,    1.0 / 39916800,    1.0 / 479001600,
        1.0 / 6227020800,
#endif
    };
    vec x = r + s;
    return s + x * x * polynomial(x, inverse_factorials, sizeof inverse_factorials / sizeof(real));
}

/* Clamp to [low, high]; NaN stays NaN. */
INLINE vec clamp(vec x, real low, real high) {
    return vmax(splat(low), select_gt(x, splat(high), splat(high), x));
}

/* e^x. Past the clamp the result has already under- or overflowed. What 1 + r rounds away is added back
   with the tail. 2^n is applied in two factors, so that a denormal result is rounded once and 2^128 needs
   no exponent of its own. */
INLINE vec exp_vec(vec x) {
    ivec n;
    vec s, r = reduce_exp(clamp(x, REAL(-104, -746), REAL(89, 710)), &n, &s);
    vec u = 1 + r;
    vec y = u + ((r - (u - 1)) + expm1_tail(r, s));
    ivec half = n >> 1;
    return y * power_of_two(half) * power_of_two(n - half);
}

/* e^x − 1, accurate near 0, for x ≤ 40; below −40 it is −1. */
INLINE vec expm1_vec(vec x) {
    ivec n;
    vec s, r = reduce_exp(clamp(x, -40, 40), &n, &s);
    vec scale = power_of_two(n);
    vec y = scale * (r + expm1_tail(r, s)) + (scale - 1);
    return select_gt(vabs(x), splat(REAL(1e-30f, 1e-300)), y, x); /* keeps −0 */
}

/* log x for normal x > 0: x = 2^n m, √½ ≤ m < √2, log m = 2 artanh s = 2 (s + s³/3 + …),
   s = (m − 1) / (m + 1), |s| ≤ 0.1716. */
INLINE vec log_vec(vec x) {
    static const real odd_inverses[] = {
        1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9,
#ifdef FASTBP_FLOAT64
        1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21,
#endif
    };
    const ivec root_half = (ivec)splat(REAL(0.70710678f, 0.70710678118654752));
    ivec n = ((ivec)x - root_half) >> MANTISSA;
    vec m = (vec)((ivec)x - (n << MANTISSA));
    vec s = (m - 1) / (m + 1), s2 = s * s;
    vec k = __builtin_convertvector(n, vec);
    vec tail = s * s2 * polynomial(s2, odd_inverses, sizeof odd_inverses / sizeof(real));
    vec y = 2 * s + (2 * tail + k * REAL(-2.12194440e-4f, 1.90821492927058770002e-10));
    return k * REAL(0.693359375f, 0.693147180369123816490) + y;
}

/* log(1 + x) for 0 ≤ x ≤ 1; the quotient gives back what rounding 1 + x lost. */
INLINE vec log1p_vec(vec x) {
    vec u = 1 + x;
    return log_vec(u) + (x - (u - 1)) / u;
}

/* 1 / (1 + e^−x), written with e = e^−|x| on both sides of 0, which cannot overflow: e / d or 1 / d with
   d = 1 + e, corrected for what d rounds away. */
INLINE vec logistic_vec(vec x) {
    ivec negative = x < 0;
    vec e = exp_vec(-vabs(x)), d = 1 + e, lost = e - (d - 1);
    vec y = blend(negative, e, splat(1)) / d;
    vec inverse = blend(negative, 1 - y, y);
    return y - y * lost * inverse;
}

/* tanh x with x's sign, from e = expm1(2|x|) and d = e + 2: 1 − 2 / d from e = 2 on, e / d below, there
   corrected for what d rounds away, 1 / d being (1 − e / d) / 2. It is 1 to the last bit from |x| = 20. */
INLINE vec tanh_vec(vec x) {
    vec e = expm1_vec(clamp(2 * vabs(x), 0, 40)), d = e + 2, lost = e - (d - 2);
    ivec large = e > 2;
    vec y = blend(large, splat(2), e) / d;
    vec corrected = y - y * lost * ((1 - y) * (real)0.5);
    return copysign_vec(blend(large, 1 - y, corrected), x);
}

/* log(1 + e^x) = max(x, 0) + log1p(e^−|x|). */
INLINE vec softplus_vec(vec x) {
    return vmax(splat(0), x) + log1p_vec(exp_vec(-vabs(x)));
}

/* The normal distribution: density(x) = e^(−x²/2) / √(2π) and Φ(x) = ∫_−∞^x density.
   Φ(−|x|) e^(x²/2) is smooth; it is summed as a Chebyshev series in t = (|x| − c) / (|x| + c) whose
   coefficients were computed by interpolation in 40-digit arithmetic (error 1e-9, 3e-17). */
INLINE vec normal_vec(vec x, vec *density) {
    static const real series[] = {
#ifdef FASTBP_FLOAT64
        0.14591186288531654, -0.21186443264475936, 0.091789398075276119, -0.034660819690300699,
        0.011448212539250993, -0.0032981733320927461, 0.00082070579767212197,
        -0.00017286134803556008, 2.9590645397694969e-5, -3.7392381161870676e-6,
        2.3887363362849345e-7, 2.5485724041591188e-8, -8.9088407797181853e-9,
        7.9710705603292384e-10, 9.1285526857634335e-11, -3.0193383227420681e-11,
        1.0954604564249011e-12, 6.7873556800426008e-13, -9.0701846976716285e-14,
        -1.2052097653995354e-14, 3.510798412386556e-15, 1.5536226205422205e-16,
        -1.1861780240740195e-16, 4.6108079257324933e-20, 4.1048363725129099e-18,
#else
        0.168288202f, -0.2291571f, 0.0777883551f, -0.0203846864f, 0.00391813705f,
        -0.000466660628f, 6.28752013e-06f, 8.58398578e-06f, -1.01675767e-06f, -1.39752408e-07f,
        3.66944796e-08f, 2.7997046e-09f, -1.30378328e-09f,
#endif
    };
    const real c = REAL(4, 6);
    vec z = clamp(vabs(x), 0, 40);
    vec t = (z - c) / (z + c), b1 = splat(0), b2 = splat(0);
    UNROLL for (int i = sizeof series / sizeof(real) - 1; i > 0; i--) {
        vec b = 2 * t * b1 - b2 + series[i];
        b2 = b1;
        b1 = b;
    }
    vec e = exp_vec(z * z * (real)-0.5);
    vec tail = e * (t * b1 - b2 + series[0]);
    *density = e * (real)0.39894228040143268;
    return select_gt(splat(0), x, tail, 1 - tail);
}

/* sin x and cos x, to within 2e-7 (4e-16) of 1 for |x| up to 10⁴, worse beyond and never out of ±1.001: x = k π/2 + r
   with |r| ≤ π/4, π/2 in three parts of which the first two times k are exact; Taylor series of sin r and cos r; k says
   which is which, and the signs. */
INLINE vec sincos_vec(vec x, vec *cosine) {
    static const real sines[] = {
        -1.0 / 6,        1.0 / 120,        -1.0 / 5040,         1.0 / 362880,
#ifdef FASTBP_FLOAT64
        -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000,
#endif
    };
    static const real cosines[] = {
        -1.0 / 2,       1.0 / 24,        -1.0 / 720,          1.0 / 40320,
#ifdef FASTBP_FLOAT64
        -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200.0, 1.0 / 20922789888000.0,
#endif
    };
    const vec shift = splat(REAL(12582912.0f, 6755399441055744.0));
    vec t = x * REAL(0.636619772f, 0.63661977236758134308) + shift;
    ivec k = (ivec)t - (ivec)shift;
    t -= shift;
    vec r = x - t * REAL(1.5703125f, 1.57079632673412561416625976562500);
    r -= t * REAL(0.00048375129699707031f, 6.0771005063039659765955491366485e-11);
    r -= t * REAL(7.549789954891882e-08f, 2.0222662487959506e-21);
    r = clamp(r, (real)-0.79, (real)0.79); /* where t is too large to be an integer */
    vec q = r * r;
    vec s = r + r * q * polynomial(q, sines, sizeof sines / sizeof(real));
    vec c = 1 + q * polynomial(q, cosines, sizeof cosines / sizeof(real));
    ivec odd = -(k & 1), sign = (k & 2) << (REAL(30, 62)), turn = ((k + 1) & 2) << (REAL(30, 62));
    *cosine = (vec)((ivec)blend(odd, s, c) ^ turn);
    return (vec)((ivec)blend(odd, c, s) ^ sign);
}

/* SELU: SCALE x above 0, SCALE ALPHA (e^x − 1) below. */
#define SELU_SCALE ((real)1.0507009873554805)
#define SELU_FLOOR ((real)1.7580993408473766) /* SCALE ALPHA */
INLINE vec selu_vec(vec x) {
    return select_gt(x, splat(0), SELU_SCALE * x, SELU_FLOOR * expm1_vec(clamp(x, -40, 0)));
}

/* Mish, x tanh(log(1 + e^x)), and its slope. With e = e^x and n = e (e + 2) the tanh is t = n / (n + 2), and the
   slope t + 4 x e (1 + e) / (n + 2)². From x = 20 on t is 1 to the last bit, in float64 from 40 on. */
INLINE vec mish_vec(vec x, vec *slope) {
    vec e = exp_vec(clamp(x, REAL(-104, -746), REAL(20, 40))), n = e * (e + 2), r = 1 / (n + 2), t = n * r;
    vec low = x * t, bend = 4 * (e * r) * ((1 + e) * r);
    *slope = select_gt(x, splat(REAL(20, 40)), splat(1), t + x * bend);
    return select_gt(x, splat(REAL(20, 40)), x, low);
}

#endif
