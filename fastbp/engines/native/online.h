/* Online SGD, minibatches of one row: the first layer's step and the product after it in one pass.

       W ← W − η δ xᵀ      x this row, δ its delta
       z = W x'            x' the row that comes next

   With one row both are bound by moving W, and this way it is read once a step, not twice. Each element's
   sum is taken as in tile.h, so the bits are those of one after the other. W, δ and z are panels (see
   layout.pxi); of x and x' the rows of X will do. */
#ifndef FASTBP_ONLINE_H
#define FASTBP_ONLINE_H

#include "simd.h"

#define ONLINE_PANELS 2 /* at once at most: one has too few sums to hide the latency of a multiply-add */

/* For input k. Constant panels turn `z` into registers. */
INLINE void online_input(const int panels, real x, real x_next, const vec *delta, real eta, real *w,
                         int64_t w_panel, vec *z) {
    UNROLL for (int p = 0; p < panels; p++)
        UNROLL for (int v = 0; v < 2; v++) {
            real *at = w + p * w_panel + v * LANES;
            vec g = splat(0) + splat(x) * delta[2 * p + v];
            vec stepped = load(at) - splat(eta) * g;
            store(at, stepped);
            z[2 * p + v] += splat(x_next) * stepped;
        }
}

INLINE void online_panels(const int panels, int64_t n_in, const real *x, const real *x_next, real eta,
                          const real *delta, real *w, int64_t w_panel, real *z, int64_t row_panel) {
    vec d[2 * ONLINE_PANELS], sum[2 * ONLINE_PANELS];
    UNROLL for (int v = 0; v < 2 * panels; v++) {
        d[v] = load(delta + v / 2 * row_panel + v % 2 * LANES);
        sum[v] = splat(0);
    }
    for (int64_t k = 0; k < n_in; k++) online_input(panels, x[k], x_next[k], d, eta, w + k * PANEL, w_panel, sum);
    online_input(panels, 1, 1, d, eta, w + n_in * PANEL, w_panel, sum); /* the bias */
    UNROLL for (int v = 0; v < 2 * panels; v++) store(z + v / 2 * row_panel + v % 2 * LANES, sum[v]);
}

/* For the first one or two of so many panels of a layer with n_in inputs; returns which. w_panel and
   row_panel: reals from one panel to the next, of W and of δ and z. */
static int online_step(int64_t panels, int64_t n_in, const real *x, const real *x_next, real eta,
                       const real *delta, real *w, int64_t w_panel, real *z, int64_t row_panel) {
    if (panels == 1) return online_panels(1, n_in, x, x_next, eta, delta, w, w_panel, z, row_panel), 1;
    return online_panels(ONLINE_PANELS, n_in, x, x_next, eta, delta, w, w_panel, z, row_panel), ONLINE_PANELS;
}

#endif
