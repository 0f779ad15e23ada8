# Blend, z = v + α ⊙ (f(v) − v). α is laid out as a Scale's s, and has its gradient: forward leaves f(v) − v in place
# of v, which nobody reads any more, as the stage before has neither activation nor dropout. Its own dropout
# multiplies what it leaves there and `bend`, and so need not be known on the way back.


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
    cdef int64_t h
    cdef vec one = splat(1), a, x_, f, slope
    if layer.blended == SELU or layer.blended == MISH:
        for h from 0 <= h < PANEL by step:
            a = load(alpha + h)
            for i from h <= i < n by PANEL:
                x_ = load(v + i)
                if layer.blended == SELU:
                    f = selu_vec(x_)
                    slope = derivative(SELU, 0, f)
                else:
                    f = mish_vec(x_, &slope)
                f = f - x_
                store(z + i, x_ + a * f)
                store(v + i, f)
                store(bend + i, one + a * (slope - one))
        return p + 1
    for i from 0 <= i < n by PANEL:
        memcpy(z + i, v + i, PANEL * sizeof(real))
    activate(layer.blended, layer.b, layer.blended_user, z, bend, n, step)
    if layer.blended < SILU:
        slopes(layer.blended, layer.b, z, bend, n)
    for h from 0 <= h < PANEL by step:
        a = load(alpha + h)
        for i from h <= i < n by PANEL:
            f = load(z + i) - load(v + i)
            store(z + i, load(v + i) + a * f)
            store(v + i, f)
            store(bend + i, one + a * (load(bend + i) - one))
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
