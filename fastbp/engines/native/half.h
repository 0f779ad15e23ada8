/* bfloat16 operands: what the bf16 modules (-DFASTBP_BF16) multiply in place of float32.

   A bf16 number is the upper half of a float32, rounded to nearest, ties to even. The hardware multiplies
   them by pairs along the summed index, so operands lie in pairs too (see half.pxi):

       rows    A[i][k] consecutive in k: a panel has PANEL of them in each row
       pairs   W[k][j], W[k+1][j] side by side, for PANEL columns j: the sum's index k runs down the rows

   half_panel is to these what tile.h is to float32: C = bias + Σ_k A[·, k] W[k][·] in float32, in an order
   that an element's place does not change: its bits depend on K and on the operands only. It has three
   forms, which differ in that order and in whether subnormal numbers count as 0:

       AMX           tiles of 16 × 16 sums over 32 values of k (amx.h)
       AVX-512 BF16  the dot-product instruction on a vector of pairs
       elsewhere     float32 multiply-adds of the halves, whose products are exact */
#ifndef FASTBP_HALF_H
#define FASTBP_HALF_H

#include "simd.h"

#ifdef FASTBP_BF16
#define HALF 1
#else
#define HALF 0 /* nothing here is used */
#endif

#if defined(__AMX_BF16__) || (defined(FASTBP_EMULATE_TILES) && HALF)
#define TILES 1
#else
#define TILES 0
#endif

typedef uint16_t operand;
typedef operand halfvec __attribute__((vector_size(VECTOR_BYTES * 2 / sizeof(real)))); /* LANES of them */
typedef REAL(uint32_t, uint64_t) pairs __attribute__((vector_size(VECTOR_BYTES)));

#define HALF_ONE 0x3F80 /* 1 in bf16 */
#define HALF_BLOCK 128  /* samples that go through all layers together; whole chunks of PANEL */
#if TILES
#define PAIR_ROWS PANEL /* K is rounded up to a multiple of this, operands past it being 0 */
#define HALF_SPEED 8    /* FLOPs in the time of one of float32, about, for the choice of threads */
#elif defined(__AVX512BF16__)
#define PAIR_ROWS 2
#define HALF_SPEED 2
#else
#define PAIR_ROWS 2
#define HALF_SPEED 1
#endif

/* Upper halves hold x rounded to bf16; a NaN stays one. */
INLINE pairs round_half(vec x) {
    pairs bits = (pairs)x;
    pairs nan = (pairs)(x != x);
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & ~nan) | ((bits | 0x400000) & nan);
}

/* Lane i: a[i] below, b[i] above. */
INLINE pairs pair(vec a, vec b) {
#if defined(__AVX512BF16__) && defined(FASTBP_BF16)
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                           23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (pairs)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(b, a));
#else
    return (round_half(a) >> 16) | (round_half(b) & 0xFFFF0000);
#endif
}

/* The 2 · LANES numbers of a and b in a row. */
#define TWICE(lane, s) (2 * (lane) + (s))
INLINE pairs pack(vec a, vec b) {
#if defined(__AVX512BF16__) && defined(FASTBP_BF16)
    return (pairs)_mm512_cvtne2ps_pbh(b, a);
#else
    ivec x = (ivec)round_half(a), y = (ivec)round_half(b);
    return ((pairs)SHUFFLE(x, y, EACH_LANE(TWICE, 0)) >> 16) |
           ((pairs)SHUFFLE(x, y, EACH_LANE(TWICE, 1)) & 0xFFFF0000);
#endif
}

/* LANES consecutive bf16 numbers as reals. */
INLINE vec unpack(const operand *p) {
    halfvec x;
    memcpy(&x, p, sizeof x);
    return (vec)(__builtin_convertvector(x, pairs) << 16);
}

INLINE pairs load_pairs(const operand *p) { return *(const pairs *)p; }
INLINE void store_pairs(operand *p, pairs x) { *(pairs *)p = x; }

#if TILES
#include "amx.h"
#else

INLINE int tiles_granted(void) { return 1; }
INLINE void tiles_on(void) {}
INLINE void tiles_off(void) {}

#if defined(__AVX512BF16__)
#define HALF_ROWS TILE_ROWS
#else
#define HALF_ROWS (TILE_ROWS > 4 ? TILE_ROWS - 2 : 2) /* each vector of pairs takes two registers */
#endif

INLINE void half_accumulate(const int m, const int vectors, vec acc[HALF_ROWS][2], int64_t K,
                            const operand *a, const operand *w) {
    for (int64_t k = 0; k < K; k += 2) {
        pairs b[2];
        UNROLL for (int v = 0; v < vectors; v++) b[v] = load_pairs(w + k * PANEL + v * 2 * LANES);
        UNROLL for (int i = 0; i < m; i++) {
            uint32_t s;
            memcpy(&s, a + i * PANEL + k, sizeof s);
#if defined(__AVX512BF16__) && defined(FASTBP_BF16)
            UNROLL for (int v = 0; v < vectors; v++)
                acc[i][v] = _mm512_dpbf16_ps(acc[i][v], (__m512bh)_mm512_set1_epi32((int)s), (__m512bh)b[v]);
#else
            vec low = (vec)((pairs){0} + (s << 16)), high = (vec)((pairs){0} + (s & 0xFFFF0000));
            UNROLL for (int v = 0; v < vectors; v++) {
                acc[i][v] += low * (vec)(b[v] << 16);
                acc[i][v] += high * (vec)(b[v] & 0xFFFF0000);
            }
#endif
        }
    }
}

INLINE void half_tile(const int m, const int vectors, int64_t K, const operand *a, int64_t a_panel,
                      const operand *w, const real *bias, real *c, int add) {
    vec acc[HALF_ROWS][2];
    UNROLL for (int i = 0; i < m; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            acc[i][v] = add ? load(c + i * PANEL + v * LANES) : bias ? load(bias + v * LANES) : splat(0);
    for (; K > PANEL; K -= PANEL, a += a_panel, w += PANEL * PANEL)
        half_accumulate(m, vectors, acc, PANEL, a, w);
    half_accumulate(m, vectors, acc, K, a, w);
    UNROLL for (int i = 0; i < m; i++)
        UNROLL for (int v = 0; v < vectors; v++) store(c + i * PANEL + v * LANES, acc[i][v]);
}

#define HALF_CASE(m)                                                                 \
    case m:                                                                          \
        if (m <= HALF_ROWS) {                                                        \
            const int rows = m <= HALF_ROWS ? m : 1;                                 \
            if (vectors == 2) half_tile(rows, 2, K, a, a_panel, w, bias, c, add);    \
            else half_tile(rows, 1, K, a, a_panel, w, bias, c, add);                 \
        }                                                                            \
        break;

static __attribute__((noinline)) void half_rows(int m, int vectors, int64_t K, const operand *a,
                                                int64_t a_panel, const operand *w, const real *bias,
                                                real *c, int add) {
    switch (m) {
        HALF_CASE(1) HALF_CASE(2) HALF_CASE(3) HALF_CASE(4) HALF_CASE(5) HALF_CASE(6) HALF_CASE(7)
        HALF_CASE(8) HALF_CASE(9) HALF_CASE(10) HALF_CASE(11) HALF_CASE(12) HALF_CASE(13) HALF_CASE(14)
    }
}

/* C (rows × panel) = A W + bias (NULL: none; `add`: C in its place). a_panel: from one panel of A to the
   next. K is a multiple of PAIR_ROWS. */
static void half_panel(int64_t rows, int vectors, int64_t K, const operand *a, int64_t a_panel,
                       const operand *w, const real *bias, real *c, int add) {
    const int64_t tiles = (rows + HALF_ROWS - 1) / HALF_ROWS;
    for (int64_t t = 0, r = 0; t < tiles; t++) {
        const int64_t next = rows * (t + 1) / tiles;
        half_rows((int)(next - r), vectors, K, a + r * PANEL, a_panel, w, bias, c + r * PANEL, add);
        r = next;
    }
}

#endif
#endif
