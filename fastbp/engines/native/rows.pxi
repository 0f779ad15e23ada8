# Phase 1 of a step: forward, loss and backward over rows of the minibatch.
#
# A thread owns rows and reads all weights; in phase 2 (weights.pxi) it owns tiles of weights and reads all
# rows. Nothing else is shared, so a barrier after each is enough.


cdef void take_inputs(Net* net, const Minibatch* batch, int64_t first, int64_t last) noexcept nogil:
    """v⁰ of rows first … last − 1, unless z¹ is there already.

    A row of weight 0 says nothing, whatever is in it: it is taken as 0, as 0 times infinity would be NaN in
    the weight gradient.
    """
    if rounds(&net.layer[0]):
        half_gather(net, batch, first, last)
    elif not (batch.begun or is_sparse(net)):
        gather(net, batch, first, last)


cdef void forward_layer(Net* net, const Minibatch* batch, int64_t l, const Share* share) noexcept nogil:
    """vˡ = φ(zˡ), for the output layer f = zᴸ: a share of the rows and panels."""
    cdef int64_t p = share.p, next
    cdef real* v
    if rounds(&net.layer[l]):
        half_forward(net, batch, l, share)
        return
    while p < share.end:
        next = forward_panels(net, batch, l, share, p)
        if l < net.plan.layers - 1:
            while p < next:
                v = net.layer[l].v + (p * net.buffers.stride + share.first) * PANEL
                activate_panel(net, batch, l, p, share.first, share.last, v)
                if rounds(&net.layer[l + 1]):
                    round_values(net, &net.layer[l + 1], p, share.first, share.last - share.first, v)
                p += 1
        p = next


cdef inline double dropout_of(const Layer* layer, const Minibatch* batch) noexcept nogil:
    """Of the step."""
    return layer.dropout * batch.dropout if batch.training else 0


cdef void activate_panel(Net* net, const Minibatch* batch, int64_t l, int64_t p, int64_t first, int64_t last,
                         real* v) noexcept nogil:
    """φ, dropout and the bias node on a panel's rows at v, still in the L1 cache."""
    cdef Layer* layer = &net.layer[l]
    cdef int64_t n = (last - first) * PANEL, r
    cdef real* slope = layer.slope + (p * net.buffers.stride + first) * PANEL if layer.slope != NULL else NULL
    cdef real* bend = layer.bend + (p * net.buffers.stride + first) * PANEL
    cdef real* left = layer.v_in + (p * net.buffers.stride + first) * PANEL  # of a Blend's inputs
    cdef double p_drop = dropout_of(layer, batch)
    cdef bint dropping = p_drop > 0, linear = layer.activation == IDENTITY and not HALF
    cdef uint64_t key
    activate(layer.activation, layer.a, layer.user, v, slope, n, step_of(layer.n_out, p))
    if slope != NULL and layer.activation < SILU and (dropping or HALF) and not linear:
        slopes(layer.activation, layer.a, v, slope, n)
    if dropping:
        key = splitmix64(splitmix64(splitmix64(net.plan.seed) ^ <uint64_t> batch.step) ^ <uint64_t> (l + 1))
        if masks_bend(layer):
            drop(p_drop, key, first, last - first, p * PANEL, v, bend, left, False)
        else:
            drop(p_drop, key, first, last - first, p * PANEL, v, slope, NULL, linear)
    if (p + 1) * PANEL > layer.n_out:
        for r in range(last - first):
            if HALF:
                memset(v + r * PANEL + layer.n_out % PANEL, 0, (PANEL - layer.n_out % PANEL) * sizeof(real))
            v[r * PANEL + layer.n_out % PANEL] = 1
            if layer.activation == USER_ACTIVATION:  # its φ'(0) may be infinite, but no δ has a column here
                memset(slope + r * PANEL + layer.n_out % PANEL, 0,
                       (PANEL - layer.n_out % PANEL) * sizeof(real))


cdef void backward_layer(Net* net, const Minibatch* batch, int64_t l, const Share* share) noexcept nogil:
    """δˡ⁻¹ = φ'(zˡ⁻¹) ⊙ ∂ℓ/∂vˡ⁻¹, at the input (l = 0 here) without φ': a share of the rows and panels."""
    cdef Layer* below = &net.layer[l - 1] if l > 0 else NULL
    cdef real* out = below.delta if l > 0 else net.buffers.delta_input
    cdef double p_drop = dropout_of(below, batch) if l > 0 else 0
    cdef bint kept = l > 0 and below.slope != NULL and (below.activation >= SILU or p_drop > 0 or HALF)
    cdef int64_t p = share.p, next, at, n = (share.last - share.first) * PANEL
    if rounds(&net.layer[l]):
        half_backward(net, batch, l, share)
        return
    while p < share.end:
        next = backward_panels(net, l, out, share, p)
        while p < next:
            at = (p * net.buffers.stride + share.first) * PANEL
            if kept:
                backward_slope(below.slope + at, out + at, n)
            elif l > 0:
                backward(below.activation, below.a, kept_scale(p_drop), below.v + at, out + at, n,
                         step_of(below.n_out, p))
            if l > 0 and rounds(below):
                round_deltas(net, below, p, share.first, share.last - share.first, out + at)
            p += 1


cdef inline int64_t row_of(const Minibatch* batch, int64_t r) noexcept nogil:
    """X's row of the minibatch's row r."""
    return batch.rows[r] if batch.rows != NULL else batch.offset + r


cdef inline double inverse_weight(const Net* net, const Minibatch* batch) noexcept nogil:
    """1 / Σ of the minibatch's sample weights."""
    return net.progress.inverse_weight[batch.step % 2]


cdef vec read_outputs(Net* net, int64_t first, int64_t rows, vec* T) noexcept nogil:
    """The outputs f of `rows` ≤ LANES rows from `first` on, transposed; lanes beyond them are 0.

    Returns 0 Σⱼ fⱼ of each row, which is 0 where all its outputs are finite and NaN elsewhere.
    """
    cdef vec square[LANES]
    cdef vec zero = splat(0), nothing = zero
    cdef int64_t j, i, outputs = top_layer(net).n_out
    cdef const real* f = top_layer(net).v + first * PANEL
    for j from 0 <= j < outputs by LANES:
        for i in range(LANES):
            square[i] = load(f + (j // PANEL * net.buffers.stride + i) * PANEL + j % PANEL) if i < rows else splat(0)
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
    cdef int64_t r, i, j, k, m, outputs = top_layer(net).n_out
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
        if net.call.labels != NULL:
            for i in range(m):
                labels[i] = <integer> net.call.labels[row_of(batch, r + i)]
            losses = loss_labels(T, outputs, load_integers(labels), net.plan.loss_low, net.plan.loss_high,
                                 net.plan.smoothing)
        else:
            if m < LANES:  # rows that are not there compute with zeros
                memset(Y, 0, outputs * sizeof(vec))
            for i in range(m):
                k = row_of(batch, r + i)
                for j in range(outputs):
                    y[j * LANES + i] = net.call.y[k * outputs + j]
            losses = loss_targets(net, T, Y, outputs)
        store_unaligned(row_losses, select_gt(splat(INFINITY), vabs(losses), losses + nothing, losses))
        if net.call.weight == NULL:
            for i in range(m):
                net.buffers.row_loss[r + i] = row_losses[i]
        else:
            for i in range(m):
                weight = net.call.weight[row_of(batch, r + i)]
                scale[i] = <real> (weight * inverse)
                net.buffers.row_loss[r + i] = weight * row_losses[i] if weight != 0 else 0
            scales = load_unaligned(scale)
        for j in range(outputs):  # a row of weight 0 says nothing, even where its δ is not finite
            T[j] = select_gt(vabs(scales), splat(0), T[j] * scales, splat(0))
        write_outputs(T, outputs, m, top_layer(net).delta + r * PANEL, net.buffers.stride * PANEL)


cdef inline void all_layers(Net* net, const Minibatch* batch, int64_t first, int64_t last) noexcept nogil:
    """Forward through all of them."""
    cdef Share share
    cdef int64_t l
    share.first = first
    share.last = last
    share.p = 0
    for l in range(net.plan.layers):
        share.end = panels_of(net.layer[l].n_out)
        forward_layer(net, batch, l, &share)


cdef inline void back_to(Net* net, const Minibatch* batch, int64_t lowest, int64_t first, int64_t last) noexcept nogil:
    """From δᴸ down to the inputs of layer `lowest`."""
    cdef Share share
    cdef int64_t l
    share.first = first
    share.last = last
    share.p = 0
    if rounds(top_layer(net)):
        write_output_deltas(net, first, last)
    for l in range(net.plan.layers - 1, lowest - 1, -1):
        share.end = panels_of(net.layer[l].n_in)
        backward_layer(net, batch, l, &share)


cdef inline vec* room_for_outputs(Net* net, int thread) noexcept nogil:
    return net.buffers.outputs + thread * 2 * top_layer(net).n_out


cdef inline int64_t rows_of_each(const Net* net, const Minibatch* batch) noexcept nogil:
    """Of a thread, at most."""
    cdef int64_t unit = PANEL if HALF else 1, each = unit * net.team.threads
    return (batch.count + each - 1) // each * unit


cdef inline int64_t after_block(const Net* net, int64_t first, int64_t rows) noexcept nogil:
    """Where the block of a thread's rows 0 … rows − 1 ends that begins at `first`. The last blocks are small, each half
    of what is left, as another thread may take them over."""
    cdef int64_t least = net.cut.rows_taken
    return min(rows, first + min(net.cut.block, max(least, (rows - first + 1) // 2 // least * least)))


cdef Turn turn_of_rows(const Net* net, const Minibatch* batch) noexcept nogil:
    """Blocks of rows, as many for every thread."""
    cdef int64_t row = 0, blocks = 0, rows = rows_of_each(net, batch)
    if net.cut.rows_taken == 0 or net.team.threads == 1:
        return team_turn(batch.thread, (rows + net.cut.block - 1) // net.cut.block)
    while row < rows:
        row = after_block(net, row, rows)
        blocks += 1
    return team_turn(batch.thread, blocks)


cdef void block_of(const Net* net, const Minibatch* batch, const Turn* turn, Share* share) noexcept nogil:
    """The rows of a piece of phase 1; none, where its owner has fewer than the others."""
    cdef int64_t first = part_of_rows(batch.count, turn.owner, net.team.threads), b
    cdef int64_t rows = part_of_rows(batch.count, turn.owner + 1, net.team.threads) - first
    if net.cut.rows_taken == 0 or net.team.threads == 1:
        share.first = part_of_rows(rows, turn.piece, turn.pieces)
        share.last = part_of_rows(rows, turn.piece + 1, turn.pieces)
    else:
        share.last = 0
        for b in range(turn.piece + 1):
            share.first = share.last
            share.last = after_block(net, share.last, rows_of_each(net, batch))
    share.first = first + min(share.first, rows)
    share.last = first + min(share.last, rows)


cdef void row_phase(Net* net, Minibatch* batch, bint back) noexcept nogil:
    """Phase 1 on this thread's share of the minibatch's rows, a block at a time through all layers."""
    cdef Turn turn
    cdef Share share
    batch.v_in = net.layer[0].v_in
    batch.stride = net.buffers.stride
    if back and is_sparse(net):
        sparse_take(net, batch, part_of_rows(batch.count, batch.thread, net.team.threads),
                    part_of_rows(batch.count, batch.thread + 1, net.team.threads))
    if cut_by_columns(net, batch.count):
        if net.buffers.own_inputs != NULL:
            batch.v_in = net.buffers.own_inputs + batch.thread * net.cut.own_size
            batch.stride = net.cut.own_stride
        row_phase_by_columns(net, batch, back)
        return
    turn = turn_of_rows(net, batch)
    while team_take(&net.team, &turn):
        block_of(net, batch, &turn, &share)
        take_inputs(net, batch, share.first, share.last)
        all_layers(net, batch, share.first, share.last)
        loss_rows(net, batch, share.first, share.last, room_for_outputs(net, batch.thread))
        if back:
            back_to(net, batch, 1, share.first, share.last)


cdef void row_phase_by_columns(Net* net, const Minibatch* batch, bint back) noexcept nogil:
    """Phase 1 where a share of the rows is too few for a thread: each layer is cut by panels instead, so
    that every weight is read by one thread only, with a barrier after each layer."""
    cdef int thread = batch.thread, threads = net.team.threads
    cdef int64_t first = part_of_rows(batch.count, thread, threads)
    cdef int64_t last = part_of_rows(batch.count, thread + 1, threads)
    cdef int64_t l, panels, p
    cdef Share share
    share.first = 0
    share.last = batch.count
    if net.buffers.own_inputs != NULL:
        take_inputs(net, batch, 0, batch.count)
    else:
        take_inputs(net, batch, first, last)
    for l in range(net.plan.layers):
        if l > 0 and net.cut.two_barriers:
            panels = panels_of(net.layer[l].n_in)
            for p in range(part(panels, thread, threads), part(panels, thread + 1, threads)):
                take_part(net, p, net.buffers.parts + p * net.buffers.stride * PANEL, False, &share)
            team_barrier(&net.team, thread)
            add_parts(net, first, last)
            break
        if l > 0 or net.buffers.own_inputs == NULL:
            team_barrier(&net.team, thread)
        panels = panels_of(net.layer[l].n_out)
        if l == net.plan.layers - 1 and panels < threads:  # not one for each: by rows, as the loss
            share.first = first
            share.last = last
            share.p = 0
            share.end = panels
            forward_layer(net, batch, l, &share)
            break
        share.p = part(panels, thread, threads)
        share.end = part(panels, thread + 1, threads)
        forward_layer(net, batch, l, &share)
    else:
        team_barrier(&net.team, thread)
    loss_rows(net, batch, first, last, room_for_outputs(net, thread))
    if not back:
        return
    if rounds(top_layer(net)):
        write_output_deltas(net, first, last)
    share.first = 0
    share.last = batch.count
    for l in range(net.plan.layers - 1, 0, -1):
        team_barrier(&net.team, thread)
        panels = panels_of(net.layer[l].n_in)
        share.p = part(panels, thread, threads)
        share.end = part(panels, thread + 1, threads)
        backward_layer(net, batch, l, &share)
