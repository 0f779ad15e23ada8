# Online SGD, minibatches of one row: phase 2 of the first layer goes on to the next row's z¹ (online.h).


cdef inline real* begun_row(const Net* net, int64_t p) noexcept nogil:
    """Where a step leaves z¹ of the next, panel p of it: in row 1, which minibatches of one row do not use."""
    return net.layer[0].v + (p * net.buffers.stride + 1) * PANEL


cdef inline const real* row_of_X(const Net* net, int64_t k) noexcept nogil:
    """Row k of X, as `take_inputs` would take it."""
    if net.call.weight != NULL and net.call.weight[k] == 0:
        return net.buffers.zeros
    return net.call.X + k * net.layer[0].n_in


cdef void begin_next(const Net* net, const Minibatch* batch) noexcept nogil:
    """The first layer's step and the next row's z¹, for the panels whose columns are this thread's."""
    cdef Layer* layer = &net.layer[0]
    cdef int64_t panels = panels_of(layer.n_out)
    cdef int64_t p = part(panels, batch.thread, net.team.threads)
    cdef int64_t end = part(panels, batch.thread + 1, net.team.threads)
    cdef Online o
    o.n_in = layer.n_in
    o.x = row_of_X(net, batch.rows[0])
    o.x_next = row_of_X(net, batch.next_row)
    o.eta = batch.eta
    o.w_panel = layer.rows * PANEL
    o.row_panel = net.buffers.stride * PANEL
    while p < end:
        o.delta = layer.delta + p * o.row_panel
        o.w = layer.w + p * o.w_panel
        o.z = begun_row(net, p)
        p += online_step(end - p, &o)
