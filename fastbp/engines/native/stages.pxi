# The kinds of stage, and every choice between them: a new one adds a line to each choice below, and a file of its own.
#
# The rest of the engine sees a stage by its Layer: n_in, n_out, and parameters of `weights` for each unit, laid out as
# panels whatever the kind. What a kind computes stands in a file of its name and, for Dense on bf16 operands, in
# half.pxi. A Sparse stage is the first, and lies by inputs: it has no tiles, and its part of phase 2 is sparse.pxi's.

STAGES = ("Dense", "Scale", "Blend", "Periodic", "Lookup", "Sparse", "Members", "Heads")  # by the names of fastbp/stages.py, in the order of the enum

cdef enum:
    DENSE, SCALE, BLEND, PERIODIC, LOOKUP, SPARSE, MEMBERS, HEADS


cdef inline int64_t inputs_at_once(const Layer* layer) noexcept nogil:
    """How many of a column's weights are a task, at most: a Periodic's belong together."""
    return layer.weights if layer.kind == PERIODIC else PANEL


cdef inline int64_t tiles_of(const Layer* layer) noexcept nogil:
    """Tasks of one panel of columns."""
    return 1 if layer.kind == PERIODIC else panels_of(layer.weights)


cdef inline int64_t task_cost(const Layer* layer, const Task* task) noexcept nogil:
    """In vectors of weights of a Dense stage; a task's own time is that of about four."""
    if layer.kind == PERIODIC:  # a sine and a cosine for a few weights
        return 5 * task.inputs * vectors_of(layer.columns, task.j) + 4
    if layer.kind == LOOKUP:
        return task.inputs // 4 + 4
    if layer.members > 0:  # each of its weights is some of the rows'
        return task.inputs * vectors_of(layer.columns, task.j) // layer.members + 4
    return task.inputs * vectors_of(layer.columns, task.j) + 4


cdef inline int64_t flops_of(const Layer* layer, int64_t l) noexcept nogil:
    """Of a training step, for each row."""
    if layer.kind == LOOKUP:
        return 4 * layer.n_out
    if layer.kind == PERIODIC:
        return 20 * layer.columns * layer.weights
    if layer.kind == MEMBERS:
        return 6 * layer.n_out
    if layer.kind == HEADS:
        return 6 * layer.n_in * layer.n_out
    return (4 if l == 0 else 6) * layer.weights * layer.n_out


cdef inline bint rounds(const Layer* layer) noexcept nogil:
    """Whether it multiplies bf16 operands: in the bf16 modules Dense does, and nothing else."""
    return HALF and layer.kind == DENSE


cdef inline bint has_panels(const Net* net, int64_t l) noexcept nogil:
    """Whether v and δ of the layer lie in panels, as a stage below or above them wants; not so where both multiply
    bf16 operands."""
    return l == net.plan.layers - 1 or not (rounds(&net.layer[l]) and rounds(&net.layer[l + 1]))


cdef inline bint all_dense(const Net* net) noexcept nogil:
    """Whether the cuts that are made for Dense stages apply."""
    cdef int64_t l
    for l in range(net.plan.layers):
        if net.layer[l].kind != DENSE:
            return False
    return True


cdef inline int64_t forward_panels(const Net* net, const Minibatch* batch, int64_t l, const Share* share, int64_t p
                                   ) noexcept nogil:
    """zˡ of the share's panel p, or of some more; returns the panel after."""
    if net.layer[l].kind == SCALE:
        return scale_forward(net, batch, l, share, p)
    if net.layer[l].kind == SPARSE:
        return sparse_forward(net, batch, l, share, p)
    if net.layer[l].kind == BLEND:
        return blend_forward(net, batch, l, share, p)
    if net.layer[l].kind == PERIODIC:
        return periodic_forward(net, batch, l, share)
    if net.layer[l].kind == LOOKUP:
        return lookup_forward(net, batch, l, share)
    if net.layer[l].kind == MEMBERS:
        return members_forward(net, batch, l, share, p)
    if net.layer[l].kind == HEADS:
        return heads_forward(net, batch, l, share, p)
    return dense_forward(net, batch, l, share, p)


cdef inline int64_t backward_panels(const Net* net, int64_t l, real* out, const Share* share, int64_t p
                                    ) noexcept nogil:
    """∂ℓ/∂vˡ⁻¹ from δˡ, likewise, into panels of rows at `out`."""
    if net.layer[l].kind == SCALE:
        return scale_backward(net, l, out, share, p)
    if net.layer[l].kind == BLEND:
        return blend_backward(net, l, out, share, p)
    if net.layer[l].kind == PERIODIC:
        return periodic_backward(net, l, out, share)
    if net.layer[l].kind == LOOKUP:
        return lookup_backward(net, l, out, share)
    if net.layer[l].kind == MEMBERS:
        return members_backward(net, l, out, share, p)
    if net.layer[l].kind == HEADS:
        return heads_backward(net, l, out, share, p)
    return dense_backward(net, l, out, share, p)


cdef inline void gradient_tile(const Net* net, const Minibatch* batch, const Task* task, real* g, bint add
                               ) noexcept nogil:
    """g = the task's tile of the gradient, summed over the minibatch's rows; with add g += it."""
    if rounds(&net.layer[task.layer]):
        half_gradient(net, batch, task, g, add)
    elif net.layer[task.layer].kind == SCALE or net.layer[task.layer].kind == BLEND:
        scale_gradient(net, batch, task, g, add)
    elif net.layer[task.layer].kind == PERIODIC:
        periodic_gradient(net, batch, task, g, add)
    elif net.layer[task.layer].kind == LOOKUP:
        lookup_gradient(net, batch, task, g, add)
    elif net.layer[task.layer].kind == MEMBERS:
        members_gradient(net, batch, task, g, add)
    elif net.layer[task.layer].kind == HEADS:
        heads_gradient(net, batch, task, g, add)
    else:
        dense_gradient(net, batch, task, g, add, False)


cdef inline bint step_tile(const Net* net, const Minibatch* batch, const Task* task, real* g) noexcept nogil:
    """w −= η g where the kind of stage does so as it computes the gradient; else returns False. g is scratch."""
    if HALF or net.layer[task.layer].kind != DENSE:
        return False
    dense_gradient(net, batch, task, g, False, True)
    return True


# A mirror is another form of the weights in which the passes read them. Whoever changes w brings it up to date.


cdef int64_t mirror_bytes(const Layer* layer) noexcept nogil:
    """Of the form that goes down to the layer's inputs, which the first has for the Jacobian only."""
    if layer.kind != DENSE:
        return 0
    return half_mirror_bytes(layer) if HALF else dense_mirror_bytes(layer)


cdef inline void mirror_tile(const Net* net, int64_t l, int64_t j, int64_t k, bint down) noexcept nogil:
    """The tile of input panel k and output panel j of w into its mirrors, with `down` also the one of mirror_bytes."""
    if rounds(&net.layer[l]):
        half_mirror(net, l, j, k, down)
    elif down and net.layer[l].kind == DENSE:
        dense_mirror(&net.layer[l], j, k)


cdef void mirror_layer(const Net* net, int64_t l, bint down) noexcept nogil:
    """All of them."""
    cdef int64_t j, k
    if net.layer[l].kind != DENSE:
        return
    for j in range(panels_of(net.layer[l].n_out)):
        for k in range(panels_of(net.layer[l].weights)):
            mirror_tile(net, l, j, k, down)
