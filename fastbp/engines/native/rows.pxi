# Phase 1 of a step: forward, loss and backward over rows of the minibatch.
#
# A thread owns rows and reads all weights; in phase 2 (weights.pxi) it owns tiles of weights and reads all
# rows. Nothing else is shared, so a barrier after each is enough.


cdef inline void look_ahead(Ahead* ahead, const real* p) noexcept nogil:
    """Add a stream of memory to fetch."""
    ahead.at[ahead.streams] = p
    ahead.streams += 1


cdef inline int64_t fetch_size(int64_t reals, int64_t tiles, int64_t K) noexcept nogil:
    """How much of a stream to fetch at a time, in whole cache lines, where tiles that sum over K fetch all."""
    cdef int64_t line = 64 // <int64_t> sizeof(real), fetches = tiles * ((K + PANEL - 1) // PANEL) * line
    return (reals + fetches - 1) // fetches * line


cdef int64_t multiply(Net* net, const real* a, int64_t a_panel, int64_t K, const real* w, int64_t w_panel,
                      int64_t columns, int64_t p, int64_t end, int64_t first, int64_t last, real* c, bint add,
                      bint far) noexcept nogil:
    """C = A W for rows first … last − 1 in panel p, or in some more panels before `end` where there are
    few rows; returns the panel after. With add (of the last panel, p + 1 = end) C += A W. a_panel, w_panel:
    reals from one panel of A, of W, to the next."""
    cdef int64_t rows = last - first, tiles = (rows + TILE_ROWS - 1) // TILE_ROWS, t, r, next = 0
    cdef int64_t wide = panels_at_once(<int> rows) if rows <= 3 else 1, stride = net.stride * PANEL
    cdef bint fetching = far and rows >= FAR_ROWS and p + 1 < end
    cdef Ahead ahead
    w += p * w_panel
    a += first * PANEL
    c += p * stride + first * PANEL
    if wide > 1 and p + wide <= end and (p + wide) * PANEL <= columns:
        tile_few(<int> rows, K, a, a_panel, w, w_panel, c, stride)
        return p + wide
    if fetching:  # the next panel of W, a part with each tile
        ahead.streams = 0
        look_ahead(&ahead, w + w_panel)
        ahead.n = fetch_size(K * PANEL, tiles, K)
    for t in range(tiles):
        r = next
        next = part(rows, t + 1, tiles)
        tile_rows(<int> (next - r), vectors_of(columns, p), K, a + r * PANEL, a_panel, w, c + r * PANEL,
                  add, &ahead if fetching else NULL)
    return p + 1


cdef inline int64_t own_size(Net* net) noexcept nogil:
    """Reals from one thread's own v⁰ to the next's."""
    return panels_of(net.layer[0].n_in + 1) * net.own_stride * PANEL + BYTES_APART // <int64_t> sizeof(real)


cdef void take_inputs(Net* net, const Minibatch* batch, int thread, int64_t first, int64_t last) noexcept nogil:
    """v⁰ of rows first … last − 1, unless z¹ is there already.

    A row of weight 0 says nothing, whatever is in it: it is taken as 0, as 0 times infinity would be NaN in
    the weight gradient.
    """
    if HALF:
        gather_half(net, batch, thread, first, last)
    elif not batch.begun:
        gather(net.X, net.weight, net.layer[0].n_in, batch.rows, batch.offset, first, last, batch.v_in,
               batch.stride)


cdef void forward_layer(Net* net, const Minibatch* batch, int thread, int64_t l, int64_t first, int64_t last,
                        int64_t p, int64_t end) noexcept nogil:
    """vˡ = φ(Wˡ vˡ⁻¹), for the output layer f = Wᴸ vᴸ⁻¹: rows first … last − 1 of panels p … end − 1."""
    cdef Layer* layer = &net.layer[l]
    cdef const real* v = batch.v_in if l == 0 else layer.v_in
    cdef int64_t v_panel = (batch.stride if l == 0 else net.stride) * PANEL, next
    if HALF:
        forward_half(net, batch, thread, l, first, last, p, end)
        return
    if l > 0 and net.by_parts:
        for p in range(panels_of(layer.n_in)):
            take_part(net, p, first, last, layer.v, p > 0)
        return
    while p < end:
        if l == 0 and batch.begun:
            next = p + 1
            if first < last:  # else another thread has the row, and may be past this
                memcpy(layer.v + p * net.stride * PANEL, begun_row(net, p), PANEL * sizeof(real))
        else:
            next = multiply(net, v, v_panel, layer.n_in + 1, layer.w, layer.rows * PANEL, layer.n_out, p, end,
                            first, last, layer.v, False, layer.far)
        if l < net.layers - 1:
            while p < next:
                activate_panel(net, batch, l, p, first, last, layer.v + (p * net.stride + first) * PANEL)
                p += 1
        p = next


cdef void take_part(Net* net, int64_t p, int64_t first, int64_t last, real* out, bint add) noexcept nogil:
    """The output layer's sums over panel p of its inputs, the last with the bias, to rows first … last − 1 of out.

    With one hidden layer f is the sum of these parts: a thread can take those of its own columns.
    """
    cdef Layer* layer = &net.layer[net.layers - 1]
    cdef int64_t K = PANEL if p + 1 < panels_of(layer.n_in) else layer.n_in + 1 - p * PANEL
    multiply(net, layer.v_in + p * net.stride * PANEL, net.stride * PANEL, K, layer.w + p * PANEL * PANEL, 0,
             layer.n_out, 0, 1, first, last, out, add, False)


cdef void add_parts(Net* net, int64_t first, int64_t last) noexcept nogil:
    """f of rows first … last − 1 from its parts, in their order."""
    cdef Layer* layer = &net.layer[net.layers - 1]
    cdef int64_t i, p, step = step_of(layer.n_out, 0), size = net.stride * PANEL
    cdef vec f
    for i from first * PANEL <= i < last * PANEL by step:
        f = load(net.parts + i)
        for p in range(1, panels_of(layer.n_in)):
            f = f + load(net.parts + p * size + i)
        store(layer.v + i, f)


cdef void activate_panel(Net* net, const Minibatch* batch, int64_t l, int64_t p, int64_t first, int64_t last,
                         real* v) noexcept nogil:
    """φ, dropout and the bias node on a panel's rows at v, still in the L1 cache."""
    cdef Layer* layer = &net.layer[l]
    cdef int64_t n = (last - first) * PANEL, r
    cdef real* slope = layer.slope + (p * net.stride + first) * PANEL if layer.slope != NULL else NULL
    cdef bint dropping = batch.training and layer.dropout > 0
    cdef uint64_t key
    activate(layer, v, slope, n, step_of(layer.n_out, p))
    if slope != NULL and layer.activation < SILU and (dropping or HALF):
        slopes(layer.activation, layer.a, v, slope, n)
    if dropping:
        key = splitmix64(splitmix64(splitmix64(net.seed) ^ <uint64_t> batch.step) ^ <uint64_t> (l + 1))
        for r in range(last - first):
            drop(layer, key, first + r, p * PANEL, v + r * PANEL, slope + r * PANEL)
    if (p + 1) * PANEL > layer.n_out:
        for r in range(last - first):
            if HALF:
                memset(v + r * PANEL + layer.n_out % PANEL, 0, (PANEL - layer.n_out % PANEL) * sizeof(real))
            v[r * PANEL + layer.n_out % PANEL] = 1
            if layer.activation == USER_ACTIVATION:  # its φ'(0) may be infinite, but no δ has a column here
                memset(slope + r * PANEL + layer.n_out % PANEL, 0,
                       (PANEL - layer.n_out % PANEL) * sizeof(real))


cdef void backward_layer(Net* net, const Minibatch* batch, int thread, int64_t l, int64_t first, int64_t last,
                         int64_t p, int64_t end) noexcept nogil:
    """δˡ⁻¹ = φ'(zˡ⁻¹) ⊙ Wˡᵀ δˡ, at the input (l = 0 here) without φ': rows first … last − 1 of panels
    p … end − 1."""
    cdef Layer* layer = &net.layer[l]
    cdef Layer* below = &net.layer[l - 1] if l > 0 else NULL
    cdef real* out = below.delta if l > 0 else net.delta_input
    cdef bint kept = l > 0 and (below.activation >= SILU or (batch.training and below.dropout > 0))
    cdef int64_t next, at, n = (last - first) * PANEL
    if HALF:
        backward_half(net, thread, l, first, last, p, end)
        return
    while p < end:
        next = multiply(net, layer.delta, net.stride * PANEL, layer.n_out, layer.wt, layer.n_out * PANEL,
                        layer.n_in, p, end, first, last, out, False, layer.far)
        while p < next:
            at = (p * net.stride + first) * PANEL
            if kept:
                backward_slope(below.slope + at, out + at, n)
            elif l > 0:
                backward(below.activation, below.a, below.v + at, out + at, n, step_of(layer.n_in, p))
            p += 1


cdef inline int64_t row_of(const Minibatch* batch, int64_t r) noexcept nogil:
    """X's row of the minibatch's row r."""
    return batch.rows[r] if batch.rows != NULL else batch.offset + r


cdef inline double inverse_weight(const Net* net, const Minibatch* batch) noexcept nogil:
    """1 / Σ of the minibatch's sample weights."""
    return net.inverse_weight[batch.step % 2]


cdef vec read_outputs(Net* net, int64_t first, int64_t rows, vec* T) noexcept nogil:
    """The outputs f of `rows` ≤ LANES rows from `first` on, transposed; lanes beyond them are 0.

    Returns 0 Σⱼ fⱼ of each row, which is 0 where all its outputs are finite and NaN elsewhere.
    """
    cdef vec square[LANES]
    cdef vec zero = splat(0), nothing = zero
    cdef int64_t j, i, outputs = net.layer[net.layers - 1].n_out
    cdef const real* f = net.layer[net.layers - 1].v + first * PANEL
    for j from 0 <= j < outputs by LANES:
        for i in range(LANES):
            square[i] = load(f + j // PANEL * net.stride * PANEL + i * PANEL + j % PANEL) if i < rows else splat(0)
        transpose_square(square)
        for i in range(min(<int64_t> LANES, outputs - j)):
            T[j + i] = square[i]
            nothing = nothing + square[i] * zero
    return nothing


cdef void write_outputs(const vec* T, int64_t outputs, int64_t rows, real* out, int64_t panel) noexcept nogil:
    """The reverse: T to `rows` rows of panels that are `panel` reals apart, zeros past the outputs."""
    cdef vec square[LANES]
    cdef int64_t j, i
    for j from 0 <= j < outputs by LANES:
        for i in range(LANES):
            square[i] = T[j + i] if j + i < outputs else splat(0)
        transpose_square(square)
        for i in range(rows):
            store(out + j // PANEL * panel + i * PANEL + j % PANEL, square[i])


cdef void loss_rows(Net* net, const Minibatch* batch, int64_t first, int64_t last, vec* T) noexcept nogil:
    """Weighted loss of each row into row_loss, and δᴸ over f.

    A loss may be finite where an output is not (e^−∞ is 0, a floor is a bound) and its δ NaN: so what is
    finite gets `nothing` added.
    """
    cdef int64_t r, i, j, k, m, outputs = net.layer[net.layers - 1].n_out
    cdef double weight, inverse = inverse_weight(net, batch)
    cdef vec* Y = T + outputs
    cdef real* y = <real*> Y
    cdef vec losses, nothing, scales = splat(<real> inverse)
    cdef real scale[LANES]
    cdef integer labels[LANES]
    cdef real row_losses[LANES]
    memset(labels, 0, sizeof(labels))
    memset(scale, 0, sizeof(scale))
    for r from first <= r < last by LANES:
        m = min(<int64_t> LANES, last - r)
        nothing = read_outputs(net, r, m, T)
        if net.labels != NULL:
            for i in range(m):
                labels[i] = <integer> net.labels[row_of(batch, r + i)]
            losses = loss_labels(T, outputs, load_integers(labels), net.loss_low, net.loss_high)
        else:
            if m < LANES:  # rows that are not there compute with zeros
                memset(Y, 0, outputs * sizeof(vec))
            for i in range(m):
                k = row_of(batch, r + i)
                for j in range(outputs):
                    y[j * LANES + i] = net.y[k * outputs + j]
            losses = loss_targets(net, T, Y, outputs)
        store_unaligned(row_losses, select_gt(splat(INFINITY), vabs(losses), losses + nothing, losses))
        if net.weight == NULL:
            for i in range(m):
                net.row_loss[r + i] = row_losses[i]
        else:
            for i in range(m):
                weight = net.weight[row_of(batch, r + i)]
                scale[i] = <real> (weight * inverse)
                net.row_loss[r + i] = weight * row_losses[i] if weight != 0 else 0
            scales = load_unaligned(scale)
        for j in range(outputs):  # a row of weight 0 says nothing, even where its δ is not finite
            T[j] = select_gt(vabs(scales), splat(0), T[j] * scales, splat(0))
        write_outputs(T, outputs, m, net.layer[net.layers - 1].delta + r * PANEL, net.stride * PANEL)


cdef void row_phase(Net* net, Minibatch* batch, int thread, bint back) noexcept nogil:
    """Phase 1 on this thread's share of the minibatch's rows, a block at a time through all layers."""
    cdef int64_t first = part_of_rows(batch.count, thread, net.team.threads)
    cdef int64_t last = part_of_rows(batch.count, thread + 1, net.team.threads)
    cdef int64_t blocks = (last - first + net.block - 1) // net.block
    cdef int64_t b, l, r0, r1
    batch.v_in = net.layer[0].v_in
    batch.stride = net.stride
    if cut_by_columns(net, batch.count):
        if net.own_inputs != NULL:
            batch.v_in = net.own_inputs + thread * own_size(net)
            batch.stride = net.own_stride
        row_phase_by_columns(net, batch, thread, back)
        return
    for b in range(blocks):
        r0 = first + part_of_rows(last - first, b, blocks)
        r1 = first + part_of_rows(last - first, b + 1, blocks)
        take_inputs(net, batch, thread, r0, r1)
        for l in range(net.layers):
            forward_layer(net, batch, thread, l, r0, r1, 0, panels_of(net.layer[l].n_out))
        loss_rows(net, batch, r0, r1, net.outputs + thread * 2 * net.layer[net.layers - 1].n_out)
        if back:
            if HALF:
                write_output_deltas(net, r0, r1)
            for l in range(net.layers - 1, 0, -1):
                backward_layer(net, batch, thread, l, r0, r1, 0, panels_of(net.layer[l].n_in))


cdef inline bint cut_by_columns(Net* net, int64_t count) noexcept nogil:
    """Whether phase 1 of a minibatch of so many rows is."""
    return net.team.threads > 1 and count < net.rows_to_split * net.team.threads


cdef void row_phase_by_columns(Net* net, const Minibatch* batch, int thread, bint back) noexcept nogil:
    """Phase 1 where a share of the rows is too few for a thread: each layer is cut by panels instead, so
    that every weight is read by one thread only, with a barrier after each layer."""
    cdef int threads = net.team.threads
    cdef int64_t first = part_of_rows(batch.count, thread, threads)
    cdef int64_t last = part_of_rows(batch.count, thread + 1, threads)
    cdef int64_t l, panels, p
    if net.own_inputs != NULL:
        take_inputs(net, batch, thread, 0, batch.count)
    else:
        take_inputs(net, batch, thread, first, last)
    for l in range(net.layers):
        if l > 0 and net.two_barriers:
            panels = panels_of(net.layer[l].n_in)
            for p in range(part(panels, thread, threads), part(panels, thread + 1, threads)):
                take_part(net, p, 0, batch.count, net.parts + p * net.stride * PANEL, False)
            team_barrier(&net.team, thread)
            add_parts(net, first, last)
            break
        if l > 0 or net.own_inputs == NULL:
            team_barrier(&net.team, thread)
        panels = panels_of(net.layer[l].n_out)
        if l == net.layers - 1 and panels < threads:  # not one for each: by rows, as the loss
            forward_layer(net, batch, thread, l, first, last, 0, panels)
            break
        forward_layer(net, batch, thread, l, 0, batch.count, part(panels, thread, threads),
                      part(panels, thread + 1, threads))
    else:
        team_barrier(&net.team, thread)
    loss_rows(net, batch, first, last, net.outputs + thread * 2 * net.layer[net.layers - 1].n_out)
    if back:
        if HALF:
            write_output_deltas(net, first, last)
        for l in range(net.layers - 1, 0, -1):
            team_barrier(&net.team, thread)
            panels = panels_of(net.layer[l].n_in)
            backward_layer(net, batch, thread, l, 0, batch.count, part(panels, thread, threads),
                           part(panels, thread + 1, threads))
