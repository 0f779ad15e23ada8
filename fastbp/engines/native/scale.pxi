# Scale, z = s ⊙ v: forward, backward and gradient. Its parameters are panels as those of a Dense stage with a
# single row: s is [P][rows][PANEL], the first row of each panel. It has no mirror.


cdef int64_t scale_forward(const Net* net, const Minibatch* batch, int64_t l, const Share* share, int64_t p
                           ) noexcept nogil:
    """z = s ⊙ v."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels v = inputs_of(net, batch, l), z = by_rows(net, layer.v)
    multiply_by_scale(layer.w + p * layer.rows * PANEL, &v, &z, share, p)
    return p + 1


cdef int64_t scale_backward(const Net* net, int64_t l, real* out, const Share* share, int64_t p) noexcept nogil:
    """∂ℓ/∂v = s ⊙ δ."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels delta = by_rows(net, layer.delta), down = by_rows(net, out)
    multiply_by_scale(layer.w + p * layer.rows * PANEL, &delta, &down, share, p)
    return p + 1


cdef void multiply_by_scale(const real* s, const Panels* a, const Panels* c, const Share* share, int64_t p
                            ) noexcept nogil:
    """C = s ⊙ A: panel p of the share's rows."""
    cdef int64_t r, i
    cdef const real* x = a.start + p * a.apart
    cdef real* y = c.start + p * c.apart
    for r from share.first * PANEL <= r < share.last * PANEL by PANEL:
        for i in range(PANEL):
            y[r + i] = s[i] * x[r + i]


cdef void scale_gradient(const Net* net, const Minibatch* batch, const Task* task, real* g, bint add) noexcept nogil:
    """g = Σ_rows δ ⊙ v of a panel (added to g, or over it): of every fourth row, in their order, and those four."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef Panels v = inputs_of(net, batch, task.layer), d = by_rows(net, layer.delta)
    cdef const real* x = v.start + task.j * v.apart
    cdef const real* delta = d.start + task.j * d.apart
    cdef int64_t r, i, h, columns = min(<int64_t> PANEL, layer.n_out - task.j * PANEL), n = batch.count * PANEL
    cdef int64_t fours = n // (4 * PANEL) * (4 * PANEL)
    cdef vec a, b, c, d_, zero = splat(0)
    if not add:
        memset(g, 0, PANEL * sizeof(real))
    for h from 0 <= h < PANEL by LANES:
        a = b = c = d_ = zero
        for r from h <= r < fours by 4 * PANEL:
            a = a + load(delta + r) * load(x + r)
            b = b + load(delta + r + PANEL) * load(x + r + PANEL)
            c = c + load(delta + r + 2 * PANEL) * load(x + r + 2 * PANEL)
            d_ = d_ + load(delta + r + 3 * PANEL) * load(x + r + 3 * PANEL)
        for r from fours + h <= r < n by PANEL:
            a = a + load(delta + r) * load(x + r)
        store(g + h, load(g + h) + ((a + b) + (c + d_)))
    memset(g + columns, 0, (PANEL - columns) * sizeof(real))  # v has its bias node there, and what was before
