/* The micro-kernel: everything the engine multiplies goes through this one loop.

   A register tile C of m ≤ TILE_ROWS rows by one panel (PANEL columns, two vectors) gathers

       C[i][·] += Σ_k A[i, k] W[k][·],   k = 0 … K−1 in that order, one fused multiply-add each

   so an element's bits depend on K and on the operands, never on the shape of the tile around it.
   W and C are panels: row k of a panel is PANEL consecutive reals at W + k·PANEL, aligned to a vector.
   A is an activation matrix, held as panels too (see layout.pxi); it is read a scalar at a time:

       tile_rows      A[i, k] = row i, feature k   forward (A = v, W = weights) and
                                                   backward-data (A = δ, W = transposed weights)
       tile_gradient  A[i, k] = feature i, row k   weight gradient v δᵀ (A = v, W = δ), sum over rows

   `vectors` is 2, or 1 where the columns wanted fit the panel's first vector: the second is then
   neither computed nor stored. With m ≤ 3 rows one panel has too few sums to hide the latency of a
   multiply-add: tile_few takes `panels_at_once(m)` whole panels. `add` says whether C is added to or overwritten:
   tile_gradient goes on from it, tile_rows adds its sums once they are taken. tile_gradient may leave C as it
   is and take a step of gradient descent instead, W −= η (C + …), on a tile of weights laid out as C, before
   the gradient leaves the registers. K may be 0.

   While a tile computes, memory that is wanted soon comes closer (Ahead). A burst of prefetches between
   tiles would hold up the tile's own loads, hence a few every PANEL steps of k. */
#ifndef FASTBP_TILE_H
#define FASTBP_TILE_H

#include "simd.h"

#define PANELS_MOST 4
#define STREAMS_MOST 4 /* weights, their transpose, two arrays of optimizer state */
static inline int panels_at_once(int m) {
    return m == 1 ? 4 : m == 2 ? 2 : m == 3 && TILE_ROWS >= 12 ? 2 : 1;
}

/* From each of some streams of memory, n reals before every PANEL steps of k. An instance of its own: where
   nothing is far, even the test for it costs small tiles some percent. */
typedef struct {
    int streams;
    int64_t n;
    const real *at[STREAMS_MOST];
} Ahead;

INLINE void fetch(Ahead *ahead) {
    for (int s = 0; s < ahead->streams; s++) {
        prefetch(ahead->at[s], ahead->n);
        ahead->at[s] += ahead->n;
    }
}

/* Constant m and vectors turn `acc` into registers; hence one instance for each pair, below. Vectors past
   the second belong to the panels that follow at w_panel and c_panel. */
INLINE void accumulate(const int m, const int vectors, vec acc[TILE_ROWS][2 * PANELS_MOST], int64_t K,
                       const real *a, const int64_t a_row, const int64_t a_k, const real *w,
                       const int64_t w_panel) {
    for (int64_t k = 0; k < K; k++) {
        vec b[2 * PANELS_MOST];
        UNROLL for (int v = 0; v < vectors; v++)
            b[v] = load(w + v / 2 * w_panel + k * PANEL + v % 2 * LANES);
        UNROLL for (int i = 0; i < m; i++) {
            vec s = splat(a[i * a_row + k * a_k]);
            UNROLL for (int v = 0; v < vectors; v++) acc[i][v] += s * b[v];
        }
    }
}

/* What a tile multiplies, and where to. Of A's, W's and C's panels: reals from one to the next. */
typedef struct {
    const real *a, *w;
    real *c;
    int64_t K, a_panel, w_panel, c_panel; /* a_panel: tile_rows and tile_few; the other two: tile_few */
    int add;
    real *weights; /* tile_gradient: where not NULL, W −= η (C + …) there, and C stays as it is */
    real eta;
    Ahead *ahead; /* may be NULL; where it is not, tile_rows overwrites C */
} Operands;

INLINE void tile(const int m, const int vectors, const int by_rows, const int add, real *weights, Ahead *ahead,
                 const Operands *o) {
    const int64_t a_next = by_rows ? o->a_panel : PANEL * PANEL, w_panel = o->w_panel, c_panel = o->c_panel;
    const int64_t a_row = by_rows ? PANEL : 1, a_k = by_rows ? 1 : PANEL;
    const real *a = o->a, *w = o->w;
    real *c = o->c;
    int64_t K = o->K;
    const real eta = o->eta;
    vec acc[TILE_ROWS][2 * PANELS_MOST];
    UNROLL for (int i = 0; i < m; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            acc[i][v] = add && !by_rows ? load(c + v / 2 * c_panel + i * PANEL + v % 2 * LANES) : splat(0);
    if (by_rows || ahead)
        for (; K > PANEL; K -= PANEL, a += a_next, w += PANEL * PANEL) {
            if (ahead) fetch(ahead);
            accumulate(m, vectors, acc, PANEL, a, a_row, a_k, w, w_panel);
        }
    if (ahead) fetch(ahead);
    accumulate(m, vectors, acc, K, a, a_row, a_k, w, w_panel);
    if (add && by_rows)
        UNROLL for (int i = 0; i < m; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                acc[i][v] = load(c + v / 2 * c_panel + i * PANEL + v % 2 * LANES) + acc[i][v];
    if (weights) {
        UNROLL for (int i = 0; i < m; i++)
            UNROLL for (int v = 0; v < vectors; v++) {
                real *p = weights + i * PANEL + v * LANES;
                store(p, load(p) - splat(eta) * acc[i][v]);
            }
        return;
    }
    UNROLL for (int i = 0; i < m; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            store(c + v / 2 * c_panel + i * PANEL + v % 2 * LANES, acc[i][v]);
}

#define TILE_CASE(m, by_rows, add, weights, ahead)                                              \
    case m:                                                                                     \
        if (m <= TILE_ROWS) {                                                                   \
            const int rows = m <= TILE_ROWS ? m : 1;                                            \
            if (vectors == 2) tile(rows, 2, by_rows, add, weights, ahead, o);                   \
            else tile(rows, 1, by_rows, add, weights, ahead, o);                                \
        }                                                                                       \
        break;
#define TILE_SWITCH(...)                                                                        \
    switch (m) {                                                                                \
        TILE_CASE(1, __VA_ARGS__) TILE_CASE(2, __VA_ARGS__) TILE_CASE(3, __VA_ARGS__)           \
        TILE_CASE(4, __VA_ARGS__) TILE_CASE(5, __VA_ARGS__) TILE_CASE(6, __VA_ARGS__)           \
        TILE_CASE(7, __VA_ARGS__) TILE_CASE(8, __VA_ARGS__) TILE_CASE(9, __VA_ARGS__)           \
        TILE_CASE(10, __VA_ARGS__) TILE_CASE(11, __VA_ARGS__) TILE_CASE(12, __VA_ARGS__)        \
        TILE_CASE(13, __VA_ARGS__) TILE_CASE(14, __VA_ARGS__)                                   \
    }
#define FUNCTION static __attribute__((noinline)) void

FUNCTION tile_rows_near(int m, int vectors, const Operands *o) {
    const int add = o->add;
    TILE_SWITCH(1, add, NULL, NULL)
}

FUNCTION tile_rows_ahead(int m, int vectors, const Operands *o) { TILE_SWITCH(1, 0, NULL, o->ahead) }

FUNCTION tile_gradient_near(int m, int vectors, const Operands *o) {
    const int add = o->add;
    real *const weights = o->weights;
    TILE_SWITCH(0, add, weights, NULL)
}

FUNCTION tile_gradient_ahead(int m, int vectors, const Operands *o) {
    const int add = o->add;
    real *const weights = o->weights;
    TILE_SWITCH(0, add, weights, o->ahead)
}

INLINE void tile_rows(int m, int vectors, const Operands *o) {
    if (o->ahead) tile_rows_ahead(m, vectors, o);
    else tile_rows_near(m, vectors, o);
}

INLINE void tile_gradient(int m, int vectors, const Operands *o) {
    if (o->ahead) tile_gradient_ahead(m, vectors, o);
    else tile_gradient_near(m, vectors, o);
}

/* tile_rows on panels_at_once(m) whole panels, c overwritten. */
FUNCTION tile_few(int m, const Operands *o) {
    switch (m) {
        case 1: tile(1, 8, 1, 0, NULL, NULL, o); break;
        case 2: tile(2, 4, 1, 0, NULL, NULL, o); break;
        case 3: tile(3, 4, 1, 0, NULL, NULL, o); break;
    }
}

#endif
