# Scale, z = s ⊙ v: forward, backward and gradient. Its parameters are panels as those of a Dense stage with a
# single row: s is [P][rows][PANEL], the first row of each panel.


cdef void scale_forward(Net* net, const Layer* layer, const real* v, int64_t v_panel, int64_t p, int64_t first,
                        int64_t last, real* z) noexcept nogil:
    """z = s ⊙ v: rows first … last − 1 of panel p; z points at the first of them."""
    cdef int64_t r, c
    cdef const real* s = layer.w + p * layer.rows * PANEL
    v += p * v_panel + first * PANEL
    for r in range(last - first):
        for c in range(PANEL):
            z[r * PANEL + c] = s[c] * v[r * PANEL + c]


cdef void scale_backward(Net* net, const Layer* layer, int64_t p, int64_t first, int64_t last, real* out
                         ) noexcept nogil:
    """∂ℓ/∂v = s ⊙ δ: rows first … last − 1 of panel p; out points at the first of them."""
    cdef int64_t r, c
    cdef const real* s = layer.w + p * layer.rows * PANEL
    cdef const real* delta = layer.delta + (p * net.stride + first) * PANEL
    for r in range(last - first):
        for c in range(PANEL):
            out[r * PANEL + c] = s[c] * delta[r * PANEL + c]


cdef void scale_gradient(Net* net, const Layer* layer, const real* v, int64_t v_panel, int64_t p, int64_t rows,
                         real* g, bint add) noexcept nogil:
    """g = Σ_rows δ ⊙ v of panel p (added to g, or over it), in the order of the rows."""
    cdef int64_t r, c, columns = min(<int64_t> PANEL, layer.n_out - p * PANEL)
    cdef const real* delta = layer.delta + p * net.stride * PANEL
    v += p * v_panel
    if not add:
        memset(g, 0, PANEL * sizeof(real))
    for r in range(rows):
        for c in range(PANEL):
            g[c] += delta[r * PANEL + c] * v[r * PANEL + c]
    memset(g + columns, 0, (PANEL - columns) * sizeof(real))  # v has its bias node there, and what was before
