/* Online SGD, minibatches of one row: the first layer's step and the product after it in one pass.

       W ← W − (η δ) xᵀ    x this row, δ its delta
       z = W x'            x' the row that comes next

   With one row both are bound by moving W, and this way it is read once a step, not twice. The elements of
   z are summed as in tile.h, so the bits are those of a forward pass. W, δ and z are panels (see
   layout.pxi); of x and x' the rows of X will do. */
#ifndef FASTBP_ONLINE_H
#define FASTBP_ONLINE_H

#include "simd.h"

#define ONLINE_PANELS 2 /* at once at most */
#define ONLINE_BLOCK 16 /* inputs of one, then of the other: a sum's multiply-adds wait for each other, and
                           meanwhile the CPU looks ahead to those of the other panel */

/* For input k. */
INLINE void online_input(real x, real x_next, const vec *step, real *w, vec *z) {
    UNROLL for (int v = 0; v < 2; v++) {
        vec stepped = load(w + v * LANES) - splat(x) * step[v];
        store(w + v * LANES, stepped);
        z[v] += splat(x_next) * stepped;
    }
}

/* A step on a layer of n_in inputs; addresses are of its first panel that is worked on. */
typedef struct {
    int64_t n_in, w_panel, row_panel; /* reals from one panel to the next, of W and of δ and z */
    const real *x, *x_next, *delta;
    real eta, *w, *z;
} Online;

/* Constant panels turn `step` and `sum` into registers. */
INLINE void online_panels(const int panels, const Online *o) {
    const real *x = o->x, *x_next = o->x_next;
    const int64_t n_in = o->n_in, w_panel = o->w_panel;
    real *w = o->w;
    vec step[2 * ONLINE_PANELS], sum[2 * ONLINE_PANELS];
    UNROLL for (int v = 0; v < 2 * panels; v++) {
        step[v] = splat(o->eta) * load(o->delta + v / 2 * o->row_panel + v % 2 * LANES);
        sum[v] = splat(0);
    }
    for (int64_t k = 0, end; k < n_in; k = end) {
        end = k + ONLINE_BLOCK < n_in ? k + ONLINE_BLOCK : n_in;
        UNROLL for (int p = 0; p < panels; p++)
            for (int64_t i = k; i < end; i++)
                online_input(x[i], x_next[i], step + 2 * p, w + p * w_panel + i * PANEL, sum + 2 * p);
    }
    UNROLL for (int p = 0; p < panels; p++) /* the bias */
        online_input(1, 1, step + 2 * p, w + p * w_panel + n_in * PANEL, sum + 2 * p);
    UNROLL for (int v = 0; v < 2 * panels; v++) store(o->z + v / 2 * o->row_panel + v % 2 * LANES, sum[v]);
}

/* For the first one or two of so many panels; returns how many. */
static int online_step(int64_t panels, const Online *o) {
    if (panels == 1) return online_panels(1, o), 1;
    return online_panels(ONLINE_PANELS, o), ONLINE_PANELS;
}

#endif
