/* The vector type of one instruction set and dtype, and the few operations C has no operator for.

   Every module of the native engine is this source compiled once more: the compiler's flags choose the
   instruction set (hence VECTOR_BYTES), -DFASTBP_FLOAT64 the dtype. GCC and Clang vector extensions do
   the rest: + - * / on `vec` are lane-wise, a * b + c contracts to one fused multiply-add. */
#ifndef FASTBP_SIMD_H
#define FASTBP_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* TILE_ROWS rows of two vectors of accumulators, two vectors of weights and what is multiplied with them fill
   the register file: 32 registers with AVX-512 and NEON, 16 otherwise. x86 multiplies with a value in memory
   (AVX-512) or one or two broadcast; NEON with a lane of a register, so that several loads are under way at
   once: with more than 12 rows compilers put accumulators on the stack. */
#if defined(__AVX512F__) || (defined(FASTBP_EMULATE_TILES) && defined(FASTBP_BF16)) /* see amx.h */
#define VECTOR_BYTES 64
#define TILE_ROWS 14
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define TILE_ROWS 12
#else
#define VECTOR_BYTES 16
#define TILE_ROWS 4
#endif

#ifdef FASTBP_FLOAT64
typedef double real;
typedef int64_t integer;
#define REAL_BYTES 8
#define REAL(float32, float64) float64
#else
typedef float real;
typedef int32_t integer;
#define REAL_BYTES 4
#define REAL(float32, float64) float32
#endif

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef integer ivec __attribute__((vector_size(VECTOR_BYTES)));

#define LANES (VECTOR_BYTES / REAL_BYTES)
#define PANEL (2 * LANES) /* columns of a panel: the width of the register tile */
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

INLINE vec splat(real x) { return x - (vec){0}; }
INLINE vec load(const real *p) { return *(const vec *)p; }
INLINE void store(real *p, vec x) { *(vec *)p = x; }
INLINE void store_unaligned(real *p, vec x) { memcpy(p, &x, sizeof x); }
INLINE vec load_unaligned(const real *p) {
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}
INLINE ivec load_integers(const integer *p) {
    ivec x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* mask ? x : y, mask being all ones or all zeros in each lane (the result of a comparison). */
INLINE vec blend(ivec mask, vec x, vec y) { return (vec)((mask & (ivec)x) | (~mask & (ivec)y)); }
INLINE vec select_gt(vec a, vec b, vec x, vec y) { return blend(a > b, x, y); }
INLINE vec select_equal(ivec a, integer b, vec x, vec y) { return blend(a == b, x, y); }
/* x where a is more than b, or the first NaN; else y. */
INLINE vec select_beats(vec a, vec b, vec x, vec y) { return blend(~(a <= b) & (b == b), x, y); }
INLINE real sqrt_real(real x) { return REAL(sqrtf, sqrt)(x); }
INLINE vec vabs(vec x) { return (vec)((ivec)x & ~(ivec)splat((real)-0.0)); }
INLINE vec copysign_vec(vec magnitude, vec sign) {
    ivec bit = (ivec)splat((real)-0.0);
    return (vec)(((ivec)magnitude & ~bit) | ((ivec)sign & bit));
}

/* max(a, b), and b where either is NaN. */
INLINE vec vmax(vec a, vec b) {
#if defined(__AVX512F__)
    return REAL(_mm512_max_ps, _mm512_max_pd)(a, b);
#elif defined(__AVX2__) && VECTOR_BYTES == 32
    return REAL(_mm256_max_ps, _mm256_max_pd)(a, b);
#else
    return blend(a > b, a, b);
#endif
}

/* Ask for the cache lines of n reals that are about to be used. */
INLINE void prefetch(const real *p, int64_t n) {
    for (int64_t i = 0; i < n; i += 64 / (int)sizeof(real)) __builtin_prefetch(p + i);
}

/* F(lane, s) for every lane, a list of constants. */
#define LANES_2(F, lane, s) F((lane), s), F((lane) + 1, s)
#define LANES_4(F, lane, s) LANES_2(F, lane, s), LANES_2(F, (lane) + 2, s)
#define LANES_8(F, lane, s) LANES_4(F, lane, s), LANES_4(F, (lane) + 4, s)
#define LANES_16(F, lane, s) LANES_8(F, lane, s), LANES_8(F, (lane) + 8, s)
#if LANES == 2
#define EACH_LANE(F, s) LANES_2(F, 0, s)
#elif LANES == 4
#define EACH_LANE(F, s) LANES_4(F, 0, s)
#elif LANES == 8
#define EACH_LANE(F, s) LANES_8(F, 0, s)
#else
#define EACH_LANE(F, s) LANES_16(F, 0, s)
#endif

/* A vector of lanes of a and, LANES and up, of b: EACH_LANE says which. */
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

/* Rows 0 … LANES−1 of `t`, each a vector, become columns: a butterfly of log2(LANES) stages. */
#define LOWER(lane, s) ((lane) & (s) ? (lane) + LANES - (s) : (lane))
#define UPPER(lane, s) ((LOWER(lane, s) + (s)) % (2 * LANES))
#define STAGE(s)                                              \
    if (s < LANES)                                            \
        UNROLL for (int i = 0; i < LANES; i++) {              \
            if (i & s) continue;                              \
            vec a = t[i], b = t[i + s];                       \
            t[i] = SHUFFLE(a, b, EACH_LANE(LOWER, s));        \
            t[i + s] = SHUFFLE(a, b, EACH_LANE(UPPER, s));    \
        }
INLINE void transpose_square(vec t[]) { STAGE(1) STAGE(2) STAGE(4) STAGE(8) }

#endif
