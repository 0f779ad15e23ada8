# Dense on operands rounded to bf16, in the bf16 modules: forward, backward, gradient, and how operands lie.
#
# A layer's panel is computed in float32 into this thread's `panel`, gets its epilogue there, and is
# written as the operands that later matmuls want, so that no pass only converts (formats: half.h):
#
#   v_rows    vˡ⁻¹  [P_in][stride][PANEL]          rows        forward
#   v_columns vˡ⁻¹  [chunk][P_in·PANEL][PANEL]     transposed  weight gradient; a chunk is PANEL samples
#   d_rows    δˡ    [P_out][stride][PANEL]         rows        backward-data
#   d_pairs   δˡ    [P_out][stride/2][PANEL][2]    pairs       weight gradient
#   w_pairs   Wˡ    [P_out][n_in/2][PANEL][2]      pairs       forward
#   wt_pairs  Wˡᵀ   [P_in][n_out/2][PANEL][2]      pairs       backward-data
#
# Beside a stage of another kind, which rounds nothing, v and δ are panels, too (has_panels). The bias is float32 and
# starts the sums; its node, the feature n_in = 1, is there for the weight gradient only. Samples past the minibatch's
# last are zeros as far as pairs are summed, and so are features past a layer's last. Threads own whole chunks. The
# master weights w and the optimizer's state are those of the other modules.


cdef inline int64_t pair_rows(int64_t n) noexcept nogil:
    """n rounded up to what the micro-kernel sums over."""
    return (n + PAIR_ROWS - 1) // PAIR_ROWS * PAIR_ROWS


cdef inline real* half_panel_of(const Net* net, const Minibatch* batch) noexcept nogil:
    """The thread's own panel, for HALF_BLOCK rows."""
    return net.buffers.panel + batch.thread * HALF_BLOCK * PANEL


cdef inline bint kept_slope(int activation) noexcept nogil:
    """Whether rounding v would spoil φ'(z) computed from it."""
    return activation != IDENTITY and activation != RELU and activation != LEAKY_RELU


cdef void write_values(Net* net, Layer* layer, int64_t p, int64_t first, int64_t rows, const real* v
                       ) noexcept nogil:
    """Panel p of v, `rows` rows that start a chunk at sample `first`, into v_rows and v_columns."""
    cdef vec square[2][LANES]
    cdef vec top[2]
    cdef vec low[2]
    cdef int64_t r, i, half
    cdef operand* out = layer.v_rows + (p * net.buffers.stride + first) * PANEL
    cdef operand* columns = layer.v_columns + (first * panels_of(layer.n_in + 1) + p * PANEL) * PANEL
    for i in range(LANES):
        r = 2 * i
        if r >= pair_rows(rows):
            square[0][i] = square[1][i] = splat(0)
            continue
        for half in range(2):
            top[half] = load(v + r * PANEL + half * LANES) if r < rows else splat(0)
            low[half] = load(v + (r + 1) * PANEL + half * LANES) if r + 1 < rows else splat(0)
            square[half][i] = <vec> pair(top[half], low[half])
        store_pairs(out + r * PANEL, pack(top[0], top[1]))
        store_pairs(out + (r + 1) * PANEL, pack(low[0], low[1]))
    for half in range(2):
        transpose_square(square[half])
        for i in range(LANES):
            store_pairs(columns + (half * LANES + i) * PANEL, <pairs> square[half][i])


cdef void write_deltas(Net* net, Layer* layer, int64_t p, int64_t first, int64_t rows, const real* delta
                       ) noexcept nogil:
    """Panel p of δ, `rows` rows that start a chunk at sample `first`, into d_rows and d_pairs."""
    cdef vec top[2]
    cdef vec low[2]
    cdef int64_t r, half
    cdef operand* out = layer.d_rows + (p * net.buffers.stride + first) * PANEL
    cdef operand* couples = layer.d_pairs + (p * (net.buffers.stride - 1) + first) * PANEL
    for r from 0 <= r < pair_rows(rows) by 2:
        for half in range(2):
            top[half] = load(delta + r * PANEL + half * LANES) if r < rows else splat(0)
            low[half] = load(delta + (r + 1) * PANEL + half * LANES) if r + 1 < rows else splat(0)
            store_pairs(couples + r * PANEL + half * 2 * LANES, pair(top[half], low[half]))
        store_pairs(out + r * PANEL, pack(top[0], top[1]))
        store_pairs(out + (r + 1) * PANEL, pack(low[0], low[1]))


cdef void round_values(Net* net, Layer* layer, int64_t p, int64_t first, int64_t rows, const real* v) noexcept nogil:
    """write_values for any number of rows."""
    cdef int64_t c
    for c from 0 <= c < rows by PANEL:
        write_values(net, layer, p, first + c, min(<int64_t> PANEL, rows - c), v + c * PANEL)


cdef void round_deltas(Net* net, Layer* layer, int64_t p, int64_t first, int64_t rows, const real* delta) noexcept nogil:
    """write_deltas for any number of rows."""
    cdef int64_t c
    for c from 0 <= c < rows by PANEL:
        write_deltas(net, layer, p, first + c, min(<int64_t> PANEL, rows - c), delta + c * PANEL)


cdef void half_gather(Net* net, const Minibatch* batch, int64_t first, int64_t last) noexcept nogil:
    """The samples' rows of X, a chunk at a time."""
    cdef Layer* layer = &net.layer[0]
    cdef int64_t n_in = layer.n_in, c, r, p, k, rows, columns
    cdef real* panel = half_panel_of(net, batch)
    for c from first <= c < last by PANEL:
        rows = min(<int64_t> PANEL, last - c)
        if batch.rows != NULL:
            for r in range(c + rows, min(last, c + 2 * PANEL)):
                prefetch(net.call.X + batch.rows[r] * n_in, n_in)
        for p in range(panels_of(n_in)):
            columns = min(<int64_t> PANEL, n_in - p * PANEL)
            if columns < PANEL:
                memset(panel, 0, rows * PANEL * sizeof(real))
            for r in range(rows):
                k = row_of(batch, c + r)
                if net.call.weight != NULL and net.call.weight[k] == 0:
                    memset(panel + r * PANEL, 0, columns * sizeof(real))
                else:
                    memcpy(panel + r * PANEL, net.call.X + k * n_in + p * PANEL, columns * sizeof(real))
                if columns < PANEL:
                    panel[r * PANEL + columns] = 1
            write_values(net, layer, p, c, rows, panel)


cdef void half_multiply(const Net* net, int64_t rows, const operand* a, int64_t K, const operand* w,
                        int64_t columns, int64_t p, const real* bias, real* c) noexcept nogil:
    """C = A W + bias for panel p of the columns; those past the last become 0."""
    cdef int64_t r
    cdef int vectors = vectors_of(columns, p)
    half_panel(rows, vectors, K, a, net.buffers.stride * PANEL, w + p * K * PANEL, bias, c, 0)
    if vectors == 1:
        for r in range(rows):
            store(c + r * PANEL + LANES, splat(0))


cdef void half_forward(Net* net, const Minibatch* batch, int64_t l, const Share* share) noexcept nogil:
    """vˡ = φ(Wˡ vˡ⁻¹): a share of the samples and panels."""
    cdef Layer* layer = &net.layer[l]
    cdef int64_t K = pair_rows(layer.n_in), p, r, rows
    cdef real* z
    for p in range(share.p, share.end):
        for r from share.first <= r < share.last by HALF_BLOCK:
            rows = min(<int64_t> HALF_BLOCK, share.last - r)
            z = half_panel_of(net, batch) if layer.v == NULL else layer.v + (p * net.buffers.stride + r) * PANEL
            half_multiply(net, rows, layer.v_rows + r * PANEL, K, layer.w_pairs, layer.n_out, p,
                          layer.w + (p * layer.rows + layer.n_in) * PANEL, z)
            if l == net.plan.layers - 1:
                continue
            activate_panel(net, batch, l, p, r, r + rows, z)
            if rounds(layer + 1):
                round_values(net, layer + 1, p, r, rows, z)


cdef void write_output_deltas(Net* net, int64_t first, int64_t last) noexcept nogil:
    """δᴸ, which loss_rows leaves in float32, into operands."""
    cdef Layer* top = top_layer(net)
    cdef int64_t p
    for p in range(panels_of(top.n_out)):
        round_deltas(net, top, p, first, last - first, top.delta + (p * net.buffers.stride + first) * PANEL)


cdef void half_backward(Net* net, const Minibatch* batch, int64_t l, const Share* share) noexcept nogil:
    """δˡ⁻¹ = φ'(zˡ⁻¹) ⊙ Wˡᵀ δˡ, at the input without φ': a share of the samples and panels."""
    cdef Layer* layer = &net.layer[l]
    cdef Layer* below = &net.layer[l - 1] if l > 0 else NULL
    cdef int64_t K = pair_rows(layer.n_out), p, r, i, rows, at
    cdef real* delta
    for p in range(share.p, share.end):
        for r from share.first <= r < share.last by HALF_BLOCK:
            rows = min(<int64_t> HALF_BLOCK, share.last - r)
            at = (p * net.buffers.stride + r) * PANEL
            if l == 0:
                delta = net.buffers.delta_input + at
            else:
                delta = half_panel_of(net, batch) if below.delta == NULL else below.delta + at
            half_multiply(net, rows, layer.d_rows + r * PANEL, K, layer.wt_pairs, layer.n_in, p, NULL, delta)
            if l == 0:
                continue
            if below.slope != NULL:
                backward_slope(below.slope + at, delta, rows * PANEL)
            elif below.activation == RELU:
                for i from 0 <= i < rows * PANEL by LANES:
                    store(delta + i, select_gt(unpack(layer.v_rows + at + i), splat(0), load(delta + i), splat(0)))
            elif below.activation == LEAKY_RELU:
                for i from 0 <= i < rows * PANEL by LANES:
                    store(delta + i, derivative(below.activation, below.a, unpack(layer.v_rows + at + i))
                          * load(delta + i))
            if rounds(below):
                round_deltas(net, below, p, r, rows, delta)


cdef inline void fetch_half(const Net* net, const Task* task) noexcept nogil:
    """Have what update_tile reads and writes on its way while the tile's gradient is computed."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef int64_t s
    prefetch(layer.w + weights_at(net, task), task.inputs * PANEL)
    for s in range(net.plan.optimizer.slots):
        prefetch(layer.slot[s] + weights_at(net, task), task.inputs * PANEL)
    prefetch(<const real*> (layer.w_pairs + (task.j * pair_rows(layer.n_in) + task.k * PANEL) * PANEL),
             task.inputs * PANEL // 2)
    if task.layer > 0:
        prefetch(<const real*> (layer.wt_pairs + (task.k * pair_rows(layer.n_out) + task.j * PANEL) * PANEL),
                 PANEL * PANEL // 2)


cdef void half_gradient(const Net* net, const Minibatch* batch, const Task* task, real* g, bint add) noexcept nogil:
    """g = Σ_samples v δᵀ (added to g, or over it) for the inputs and outputs of one task."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef int64_t features = panels_of(layer.n_in + 1) * PANEL, b, n, first = batch.first, end = first + batch.count
    for b from first <= b < max(end, first + 1) by HALF_BLOCK:  # both operands stay in the L1 cache
        n = min(<int64_t> HALF_BLOCK, end - b)
        if b + n == end:
            fetch_half(net, task)
        half_panel(task.inputs, vectors_of(layer.n_out, task.j), pair_rows(n),
                   layer.v_columns + (b * features // PANEL + task.k * PANEL) * PANEL, features * PANEL,
                   layer.d_pairs + (task.j * (net.buffers.stride - 1) + b) * PANEL, NULL, g, add or b > first)
    if vectors_of(layer.n_out, task.j) == 1:  # keeps the columns past the last zero in everything made from g
        for n in range(task.inputs):
            store(g + n * PANEL + LANES, splat(0))


cdef inline int64_t half_mirror_bytes(const Layer* layer) noexcept nogil:
    return panels_of(layer.n_in) * pair_rows(layer.n_out) * PANEL * <int64_t> sizeof(operand)


cdef void half_mirror(const Net* net, int64_t l, int64_t j, int64_t k, bint down) noexcept nogil:
    """The part of w_pairs, and with `down` of wt_pairs too, that mirrors input panel k of output panel j of w."""
    cdef Layer* layer = &net.layer[l]
    cdef vec square[LANES]
    cdef vec low, zero = splat(0)
    cdef int64_t rows = min(<int64_t> PANEL, layer.n_in - k * PANEL), r, half, i
    cdef int64_t couples = (min(<int64_t> PANEL, layer.n_out - j * PANEL) + 1) // 2
    cdef const real* w = layer.w + (j * layer.rows + k * PANEL) * PANEL
    cdef operand* out = layer.w_pairs + (j * pair_rows(layer.n_in) + k * PANEL) * PANEL
    if rows <= 0:  # the bias alone
        return
    for r from 0 <= r < rows by 2:
        for half in range(2):
            low = load(w + (r + 1) * PANEL + half * LANES) if r + 1 < rows else zero
            store_pairs(out + r * PANEL + half * 2 * LANES, pair(load(w + r * PANEL + half * LANES), low))
    if not down:
        return
    out = layer.wt_pairs + (k * pair_rows(layer.n_out) + j * PANEL) * PANEL
    for half in range(2):
        for i in range(LANES):
            r = half * LANES + i
            square[i] = <vec> pack(load(w + r * PANEL), load(w + r * PANEL + LANES)) if r < rows else zero
        transpose_square(square)
        for i in range(couples):
            store_pairs(out + 2 * (i * PANEL + half * LANES), <pairs> square[i])


cdef void half_lay_out(Layer* layer, int64_t stride, char* base, int64_t* used) noexcept nogil:
    """Point a layer's operands into a block (buffers.pxi); `stride`: rows of a panel."""
    cdef int64_t panel = PANEL * sizeof(operand), inputs = panels_of(layer.n_in + 1), outputs = panels_of(layer.n_out)
    layer.v_rows = <operand*> take(base, used, inputs * stride * panel)
    layer.v_columns = <operand*> take(base, used, inputs * (stride - 1) * panel)
    layer.d_rows = <operand*> take(base, used, outputs * stride * panel)
    layer.d_pairs = <operand*> take(base, used, outputs * (stride - 1) * panel)
