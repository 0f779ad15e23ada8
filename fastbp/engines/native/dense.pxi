# Dense, z = W [v; 1]: forward, backward and gradient, all of them products that the micro-kernel computes (tile.h).
#
# W is [P_out][rows][PANEL] (layout.pxi). Backward reads it transposed, and without the bias: wt, [P_in][n_out][PANEL],
# is its mirror.


cdef inline void look_ahead(Ahead* ahead, const real* p) noexcept nogil:
    """Add a stream of memory to fetch."""
    ahead.at[ahead.streams] = p
    ahead.streams += 1


cdef inline int64_t fetch_size(int64_t reals, int64_t tiles, int64_t K) noexcept nogil:
    """How much of a stream to fetch at a time, in whole cache lines, where tiles that sum over K fetch all."""
    cdef int64_t line = 64 // <int64_t> sizeof(real), fetches = tiles * ((K + PANEL - 1) // PANEL) * line
    return (reals + fetches - 1) // fetches * line


cdef int64_t multiply(Operands* o, int64_t columns, const Share* share, int64_t p) noexcept nogil:
    """C = A W, or C += A W: the share's rows of C in panel p, or in some more panels where there are few rows; returns
    the panel after. In o are the first panels of A, W and C, and where to note what to fetch of W ahead, or NULL. C has
    so many columns. It may be added to where W has one panel."""
    cdef int64_t rows = share.last - share.first, tiles = (rows + TILE_ROWS - 1) // TILE_ROWS, t, r = 0, next
    cdef int64_t wide = panels_at_once(<int> rows) if rows <= 3 else 1
    cdef int vectors = vectors_of(columns, p)
    o.a += share.first * PANEL
    o.w += p * o.w_panel
    o.c += p * o.c_panel + share.first * PANEL
    if wide > 1 and p + wide <= share.end and (p + wide) * PANEL <= columns:
        tile_few(<int> rows, o)
        return p + wide
    if p + 1 == share.end:
        o.ahead = NULL
    if o.ahead != NULL:  # the next panel of W, a part with each tile
        o.ahead.streams = 0
        look_ahead(o.ahead, o.w + o.w_panel)
        o.ahead.n = fetch_size(o.K * PANEL, tiles, o.K)
    for t in range(tiles):
        next = part(rows, t + 1, tiles)
        tile_rows(<int> (next - r), vectors, o)
        o.a += (next - r) * PANEL
        o.c += (next - r) * PANEL
        r = next
    return p + 1


cdef inline bint is_far(const Net* net, const Layer* layer, int64_t rows) noexcept nogil:
    """Whether the layer's weights are fetched ahead while so many rows are worked on."""
    return layer.far and rows >= net.costs.rows_far and net.team.threads <= net.costs.threads_far


cdef int64_t dense_forward(const Net* net, const Minibatch* batch, int64_t l, const Share* share, int64_t p
                           ) noexcept nogil:
    """z = W [v; 1]."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels v
    cdef Operands o
    cdef Ahead ahead
    if l == 0 and batch.begun:
        if share.first < share.last:  # else another thread has the row, and may be past this
            memcpy(layer.v + p * net.buffers.stride * PANEL, begun_row(net, p), PANEL * sizeof(real))
        return p + 1
    if l > 0 and net.cut.by_parts:
        for p in range(panels_of(layer.n_in)):
            take_part(net, p, layer.v, p > 0, share)
        return share.end
    v = inputs_of(net, batch, l)
    o.a = v.start
    o.a_panel = v.apart
    o.w = layer.w
    o.w_panel = layer.rows * PANEL
    o.c = layer.v
    o.c_panel = net.buffers.stride * PANEL
    o.K = layer.n_in + 1
    o.add = False
    o.ahead = &ahead if is_far(net, layer, share.last - share.first) else NULL
    return multiply(&o, layer.n_out, share, p)


cdef int64_t dense_backward(const Net* net, int64_t l, real* out, const Share* share, int64_t p) noexcept nogil:
    """∂ℓ/∂v = Wᵀ δ, without the bias."""
    cdef Layer* layer = &net.layer[l]
    cdef Operands o
    cdef Ahead ahead
    o.a = layer.delta
    o.a_panel = net.buffers.stride * PANEL
    o.w = layer.wt
    o.w_panel = layer.n_out * PANEL
    o.c = out
    o.c_panel = net.buffers.stride * PANEL
    o.K = layer.n_out
    o.add = False
    o.ahead = &ahead if is_far(net, layer, share.last - share.first) else NULL
    return multiply(&o, layer.n_in, share, p)


cdef void dense_gradient(const Net* net, const Minibatch* batch, const Task* task, real* g, bint add, bint step
                         ) noexcept nogil:
    """g = Σ_rows v δᵀ (added to g, or over it) for the inputs and outputs of one task; with step, w −= η g on its tile
    of the weights at once."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef Panels v = inputs_of(net, batch, task.layer), d = by_rows(net, layer.delta)
    cdef const real* delta = d.start + task.j * d.apart + batch.first * PANEL
    cdef const real* x = v.start + task.k * v.apart + batch.first * PANEL
    cdef real* w = layer.w + weights_at(net, task)
    cdef int64_t tiles = (task.inputs + TILE_ROWS - 1) // TILE_ROWS, t, i, b, n, count = batch.count
    cdef int vectors = vectors_of(layer.n_out, task.j)
    cdef Operands o
    cdef Ahead ahead
    o.eta = batch.eta
    o.ahead = NULL
    if is_far(net, layer, count):  # what the step that follows reads and writes
        ahead.streams = 0
        look_ahead(&ahead, w)
        for i in range(net.plan.optimizer.slots):
            look_ahead(&ahead, layer.slot[i] + weights_at(net, task))
        if task.layer > 0:
            look_ahead(&ahead, layer.wt + (task.k * layer.n_out + task.j * PANEL) * PANEL)
        ahead.n = fetch_size(PANEL * PANEL, tiles, count)
        o.ahead = &ahead
    for b from 0 <= b < max(count, <int64_t> 1) by GRADIENT_ROWS:  # both operands stay in the L1 cache
        n = min(<int64_t> GRADIENT_ROWS, count - b)
        o.K = n
        o.w = delta + b * PANEL
        o.add = add or b > 0
        for t in range(tiles):
            i = part(task.inputs, t, tiles)
            o.a = x + b * PANEL + i
            o.c = g + i * PANEL
            o.weights = w + i * PANEL if step and b + n == count else NULL
            tile_gradient(<int> (part(task.inputs, t + 1, tiles) - i), vectors, &o)
    if vectors == 1 and not step:  # keeps the columns past the last zero in everything made from g
        for i in range(task.inputs):
            store(g + i * PANEL + LANES, splat(0))


cdef inline int64_t dense_mirror_bytes(const Layer* layer) noexcept nogil:
    return panels_of(layer.n_in) * layer.n_out * PANEL * <int64_t> sizeof(real)


cdef inline void dense_mirror(const Layer* layer, int64_t j, int64_t k) noexcept nogil:
    """The block of wt that mirrors input panel k of output panel j of w."""
    if k * PANEL < layer.n_in:  # not the bias alone
        transpose_block(layer.w + (j * layer.rows + k * PANEL) * PANEL,
                        min(<int64_t> PANEL, layer.n_in - k * PANEL),
                        min(<int64_t> PANEL, layer.n_out - j * PANEL),
                        layer.wt + (k * layer.n_out + j * PANEL) * PANEL)


# With one hidden layer f is a sum of parts, one for each panel of v: a thread can take those of its own columns.


cdef void take_part(const Net* net, int64_t p, real* out, bint add, const Share* share) noexcept nogil:
    """The output layer's sums over panel p of its inputs, the last with the bias, to the share's rows of out."""
    cdef Layer* layer = top_layer(net)
    cdef Share rows = share[0]
    cdef Operands o
    rows.p = 0
    rows.end = 1
    o.a = layer.v_in + p * net.buffers.stride * PANEL
    o.a_panel = o.c_panel = net.buffers.stride * PANEL
    o.w = layer.w + p * PANEL * PANEL
    o.w_panel = 0
    o.c = out
    o.K = PANEL if p + 1 < panels_of(layer.n_in) else layer.n_in + 1 - p * PANEL
    o.add = add
    o.ahead = NULL
    multiply(&o, layer.n_out, &rows, 0)


cdef void add_parts(const Net* net, int64_t first, int64_t last) noexcept nogil:
    """f of rows first … last − 1 from its parts, in their order."""
    cdef Layer* layer = top_layer(net)
    cdef int64_t i, p, step = step_of(layer.n_out, 0), size = net.buffers.stride * PANEL
    cdef vec f
    for i from first * PANEL <= i < last * PANEL by step:
        f = load(net.buffers.parts + i)
        for p in range(1, panels_of(layer.n_in)):
            f = f + load(net.buffers.parts + p * size + i)
        store(layer.v + i, f)
