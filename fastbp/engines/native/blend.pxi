# Blend, z = v + α ⊙ (f(v) − v). α is laid out as a Scale's s, and has its gradient: forward leaves f(v) − v in place
# of v, which nobody reads any more, as the stage before has neither activation nor dropout.


cdef int64_t blend_forward(const Net* net, const Minibatch* batch, int64_t l, const Share* share, int64_t p
                           ) noexcept nogil:
    """z, and its slopes 1 + α ⊙ (f'(v) − 1) into `bend`."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels x = inputs_of(net, batch, l)
    cdef int64_t at = (p * net.buffers.stride + share.first) * PANEL, n = (share.last - share.first) * PANEL, i
    cdef int step = step_of(layer.n_out, p)
    cdef const real* alpha = layer.w + p * layer.rows * PANEL
    cdef real* v = x.start + p * x.apart + share.first * PANEL
    cdef real* z = layer.v + at
    cdef real* bend = layer.bend + at
    cdef vec low = load(alpha), high = load(alpha + LANES), one = splat(1), f
    for i from 0 <= i < n by PANEL:  # what few columns leave out is never read, but it is to be numbers
        memcpy(z + i, v + i, PANEL * sizeof(real))
    activate(layer.blended, layer.b, layer.blended_user, z, bend, n, step)
    if layer.blended < SILU:
        slopes(layer.blended, layer.b, z, bend, n)
    for i from 0 <= i < n by PANEL:
        f = load(z + i) - load(v + i)
        store(z + i, load(v + i) + low * f)
        store(v + i, f)
        store(bend + i, one + low * (load(bend + i) - one))
        if step == LANES:
            f = load(z + i + LANES) - load(v + i + LANES)
            store(z + i + LANES, load(v + i + LANES) + high * f)
            store(v + i + LANES, f)
            store(bend + i + LANES, one + high * (load(bend + i + LANES) - one))
    return p + 1


cdef int64_t blend_backward(const Net* net, int64_t l, real* out, const Share* share, int64_t p) noexcept nogil:
    """∂ℓ/∂v = bend ⊙ δ."""
    cdef Layer* layer = &net.layer[l]
    cdef int64_t at = (p * net.buffers.stride + share.first) * PANEL, n = (share.last - share.first) * PANEL, i
    cdef const real* bend = layer.bend + at
    cdef const real* delta = layer.delta + at
    cdef int step = step_of(layer.n_out, p)
    cdef real* down = out + at
    for i from 0 <= i < n by step:
        store(down + i, load(bend + i) * load(delta + i))
    clear_rest(layer.n_out, p, down, n)
    return p + 1


cdef inline void clear_rest(int64_t columns, int64_t p, real* a, int64_t n) noexcept nogil:
    """Zeros past the last column of panel p, which may not be numbers."""
    cdef int64_t r, i, rest = columns - p * PANEL
    if rest < PANEL:
        for r from 0 <= r < n by PANEL:
            for i in range(rest, PANEL):
                a[r + i] = 0
