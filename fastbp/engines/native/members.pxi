# Members, z = s_m ⊙ v + b_m, and Heads, z = W_m v: what each of k networks has to itself that share all other stages.
# A member's copy of a sample is a row as any other, so the shared stages do not know of members, their gradient is
# the sum over all rows in their order, and what a block of rows takes of them stays in the cache.
#
# Row r belongs to member r mod k: minibatches and blocks are multiples of k rows (cut.pxi), and so is where they begin.
# The parameters are [P][rows][PANEL], a lane for each input: in Members the rows are s of each member, then b; in Heads
# the outputs of the first member, of the second, ….


cdef int64_t members_forward(const Net* net, const Minibatch* batch, int64_t l, const Share* share, int64_t p
                             ) noexcept nogil:
    """z = s_m ⊙ v + b_m."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels v = inputs_of(net, batch, l), z = by_rows(net, layer.v)
    cdef const real* s = layer.w + p * layer.rows * PANEL
    cdef const real* b = s + layer.members * PANEL if layer.scaled else s
    cdef const real* x = v.start + p * v.apart
    cdef real* y = z.start + p * z.apart
    cdef int64_t r, h, m
    cdef vec value
    for r in range(share.first, share.last):
        m = r % layer.members * PANEL
        for h from 0 <= h < PANEL by LANES:
            value = load(x + r * PANEL + h)
            if layer.scaled:
                value = load(s + m + h) * value
            if layer.shifted:
                value = value + load(b + m + h)
            store(y + r * PANEL + h, value)
    return p + 1


cdef int64_t members_backward(const Net* net, int64_t l, real* out, const Share* share, int64_t p) noexcept nogil:
    """∂ℓ/∂v = s_m ⊙ δ."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels delta = by_rows(net, layer.delta), down = by_rows(net, out)
    cdef const real* s = layer.w + p * layer.rows * PANEL
    cdef const real* d = delta.start + p * delta.apart
    cdef real* to = down.start + p * down.apart
    cdef int64_t r, h, m
    for r in range(share.first, share.last):
        m = r % layer.members * PANEL
        for h from 0 <= h < PANEL by LANES:
            if layer.scaled:
                store(to + r * PANEL + h, load(s + m + h) * load(d + r * PANEL + h))
            else:
                store(to + r * PANEL + h, load(d + r * PANEL + h))
    return p + 1


cdef void members_gradient(const Net* net, const Minibatch* batch, const Task* task, real* g, bint add
                           ) noexcept nogil:
    """∇_s = Σ δ ⊙ v and ∇_b = Σ δ over each member's rows, in their order."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef Panels v = inputs_of(net, batch, task.layer), delta = by_rows(net, layer.delta)
    cdef const real* x = v.start + task.j * v.apart
    cdef const real* d = delta.start + task.j * delta.apart
    cdef int64_t i, q, m, r, h, columns = min(<int64_t> PANEL, layer.columns - task.j * PANEL)
    cdef int64_t scales = layer.members if layer.scaled else 0, apart = layer.members * PANEL
    cdef vec sum
    for i in range(task.inputs):
        q = task.k * PANEL + i
        m = q if q < scales else q - scales
        for h from 0 <= h < PANEL by LANES:
            sum = load(g + i * PANEL + h) if add else splat(0)
            for r from m * PANEL <= r < batch.count * PANEL by apart:
                sum = sum + (load(d + r + h) * load(x + r + h) if q < scales else load(d + r + h))
            store(g + i * PANEL + h, sum)
        memset(g + i * PANEL + columns, 0, (PANEL - columns) * sizeof(real))  # v has its bias node there


cdef int64_t heads_forward(const Net* net, const Minibatch* batch, int64_t l, const Share* share, int64_t p
                           ) noexcept nogil:
    """z = W_m v: lane by lane over the panels of v, then over the lanes."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels v = inputs_of(net, batch, l), z = by_rows(net, layer.v)
    cdef int64_t r, c, i, j, last = min((p + 1) * PANEL, layer.n_out), panels = panels_of(layer.n_in)
    cdef const real* w
    cdef const real* x
    cdef real* y
    cdef real lanes[LANES]
    cdef real sum
    cdef vec a, b
    for r in range(share.first, share.last):
        y = z.start + p * z.apart + r * PANEL
        memset(y, 0, PANEL * sizeof(real))
        for c in range(p * PANEL, last):
            w = layer.w + (r % layer.members * layer.n_out + c) * PANEL
            x = v.start + r * PANEL
            a = b = splat(0)
            for i in range(panels):
                a = a + load(w) * load(x)
                b = b + load(w + LANES) * load(x + LANES)
                w += layer.rows * PANEL
                x += v.apart
            store_unaligned(lanes, a + b)
            sum = lanes[0]
            for j in range(1, LANES):
                sum += lanes[j]
            y[c - p * PANEL] = sum
    return p + 1


cdef int64_t heads_backward(const Net* net, int64_t l, real* out, const Share* share, int64_t p) noexcept nogil:
    """∂ℓ/∂v = W_mᵀ δ, output after output."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels delta = by_rows(net, layer.delta), down = by_rows(net, out)
    cdef int64_t r, c, h
    cdef const real* w
    cdef const real* d
    cdef vec sum
    for r in range(share.first, share.last):
        d = delta.start + r * PANEL
        for h from 0 <= h < PANEL by LANES:
            w = layer.w + (p * layer.rows + r % layer.members * layer.n_out) * PANEL + h
            sum = splat(0)
            for c in range(layer.n_out):
                sum = sum + splat(d[c // PANEL * delta.apart + c % PANEL]) * load(w + c * PANEL)
            store(down.start + p * down.apart + r * PANEL + h, sum)
    return p + 1


cdef void heads_gradient(const Net* net, const Minibatch* batch, const Task* task, real* g, bint add) noexcept nogil:
    """∇_W = Σ δ vᵀ over each member's rows, in their order."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef Panels v = inputs_of(net, batch, task.layer), delta = by_rows(net, layer.delta)
    cdef const real* x = v.start + task.j * v.apart
    cdef const real* d
    cdef int64_t i, q, c, r, h, columns = min(<int64_t> PANEL, layer.columns - task.j * PANEL)
    cdef vec sum
    for i in range(task.inputs):
        q = task.k * PANEL + i
        c = q % layer.n_out
        d = delta.start + c // PANEL * delta.apart + c % PANEL
        for h from 0 <= h < PANEL by LANES:
            sum = load(g + i * PANEL + h) if add else splat(0)
            for r from q // layer.n_out <= r < batch.count by layer.members:
                sum = sum + splat(d[r * PANEL]) * load(x + r * PANEL + h)
            store(g + i * PANEL + h, sum)
        memset(g + i * PANEL + columns, 0, (PANEL - columns) * sizeof(real))
