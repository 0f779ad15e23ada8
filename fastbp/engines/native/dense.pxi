# Dense, z = W [v; 1]: forward, backward and gradient, all of them products that the micro-kernel computes (tile.h).
#
# W is [P_out][rows][PANEL] (layout.pxi). Backward reads it transposed, and without the bias: wt, [P_in][n_out][PANEL],
# is its mirror.


ctypedef struct Product:  # C = A W, or C += A W
    Panels a, w, c
    int64_t K, columns    # of A and of C
    bint add              # only of W's last panel
    bint far              # W is to be fetched ahead


cdef inline void look_ahead(Ahead* ahead, const real* p) noexcept nogil:
    """Add a stream of memory to fetch."""
    ahead.at[ahead.streams] = p
    ahead.streams += 1


cdef inline int64_t fetch_size(int64_t reals, int64_t tiles, int64_t K) noexcept nogil:
    """How much of a stream to fetch at a time, in whole cache lines, where tiles that sum over K fetch all."""
    cdef int64_t line = 64 // <int64_t> sizeof(real), fetches = tiles * ((K + PANEL - 1) // PANEL) * line
    return (reals + fetches - 1) // fetches * line


cdef int64_t multiply(const Product* m, const Share* share, int64_t p) noexcept nogil:
    """The share's rows of C in panel p, or in some more panels where there are few rows; returns the panel after."""
    cdef int64_t rows = share.last - share.first, tiles = (rows + TILE_ROWS - 1) // TILE_ROWS, t, r = 0, next
    cdef int64_t wide = panels_at_once(<int> rows) if rows <= 3 else 1
    cdef Operands o
    cdef Ahead ahead
    o.K = m.K
    o.a = m.a.start + share.first * PANEL
    o.a_panel = m.a.apart
    o.w = m.w.start + p * m.w.apart
    o.w_panel = m.w.apart
    o.c = m.c.start + p * m.c.apart + share.first * PANEL
    o.c_panel = m.c.apart
    o.add = m.add
    o.ahead = NULL
    if wide > 1 and p + wide <= share.end and (p + wide) * PANEL <= m.columns:
        tile_few(<int> rows, &o)
        return p + wide
    if m.far and p + 1 < share.end:  # the next panel of W, a part with each tile
        ahead.streams = 0
        look_ahead(&ahead, o.w + o.w_panel)
        ahead.n = fetch_size(o.K * PANEL, tiles, o.K)
        o.ahead = &ahead
    for t in range(tiles):
        next = part(rows, t + 1, tiles)
        tile_rows(<int> (next - r), vectors_of(m.columns, p), &o)
        o.a += (next - r) * PANEL
        o.c += (next - r) * PANEL
        r = next
    return p + 1


cdef inline bint is_far(const Net* net, const Layer* layer, int64_t rows) noexcept nogil:
    """Whether the layer's weights are fetched ahead while so many rows are worked on."""
    return layer.far and rows >= net.costs.rows_far


cdef int64_t dense_forward(const Net* net, const Minibatch* batch, int64_t l, const Share* share, int64_t p
                           ) noexcept nogil:
    """z = W [v; 1]."""
    cdef Layer* layer = &net.layer[l]
    cdef Product m
    if l == 0 and batch.begun:
        if share.first < share.last:  # else another thread has the row, and may be past this
            memcpy(layer.v + p * net.buffers.stride * PANEL, begun_row(net, p), PANEL * sizeof(real))
        return p + 1
    if l > 0 and net.cut.by_parts:
        for p in range(panels_of(layer.n_in)):
            take_part(net, p, layer.v, p > 0, share)
        return share.end
    m.a = inputs_of(net, batch, l)
    m.w.start = layer.w
    m.w.apart = layer.rows * PANEL
    m.c = by_rows(net, layer.v)
    m.K = layer.n_in + 1
    m.columns = layer.n_out
    m.add = False
    m.far = is_far(net, layer, share.last - share.first)
    return multiply(&m, share, p)


cdef int64_t dense_backward(const Net* net, int64_t l, real* out, const Share* share, int64_t p) noexcept nogil:
    """∂ℓ/∂v = Wᵀ δ, without the bias."""
    cdef Layer* layer = &net.layer[l]
    cdef Product m
    m.a = by_rows(net, layer.delta)
    m.w.start = layer.wt
    m.w.apart = layer.n_out * PANEL
    m.c = by_rows(net, out)
    m.K = layer.n_out
    m.columns = layer.n_in
    m.add = False
    m.far = is_far(net, layer, share.last - share.first)
    return multiply(&m, share, p)


cdef void dense_gradient(const Net* net, const Minibatch* batch, const Task* task, real* g, bint add, bint step
                         ) noexcept nogil:
    """g = Σ_rows v δᵀ (added to g, or over it) for the inputs and outputs of one task; with step, w −= η g on its tile
    of the weights at once."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef Panels v = inputs_of(net, batch, task.layer), d = by_rows(net, layer.delta)
    cdef const real* delta = d.start + task.j * d.apart
    cdef const real* x = v.start + task.k * v.apart
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
    cdef Product m
    rows.p = 0
    rows.end = 1
    m.a = by_rows(net, layer.v_in + p * net.buffers.stride * PANEL)
    m.w.start = layer.w + p * PANEL * PANEL
    m.w.apart = 0
    m.c = by_rows(net, out)
    m.K = PANEL if p + 1 < panels_of(layer.n_in) else layer.n_in + 1 - p * PANEL
    m.columns = layer.n_out
    m.add = add
    m.far = False
    multiply(&m, &rows, 0)


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
