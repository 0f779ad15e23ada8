# Sparse, z = W [v; 1] where the rows v of X have few nonzeros (CSR; sparse.h): forward, gradient and update.
#
# W lies by inputs, [n_in + 1][width]: what input k has for each unit, side by side, the biases last; and so does the
# optimizer's state. In phase 1 a thread also takes the entries of its own rows, and brings them into the order of their
# columns. In phase 2 it has some columns to itself, and of each sums the threads' entries in the order of the rows.
#
# A step is of one of two kinds. Plain SGD, and a lazy update, touch only the columns that occur in the minibatch
# (touch_columns); all else takes a pass over every column (pass_columns), where those that do not occur have no gradient.
# An L2 penalty of plain SGD shrinks all columns alike: then W is what lies there times a number, `scale`, which the last
# step of an epoch multiplies in.
#
# What is summed over columns (penalties, ‖g‖²) is summed by blocks, of BLOCK columns or of BLOCK entries in the order of
# columns, and a block belongs to one thread: so the bits do not depend on threads.

cdef enum:
    BLOCK = 64
    MOVED = 1   # marks of a column: it has changed since the parameters were last kept,
    SEEN = 2    # and since the optimizer began it has had a gradient

cdef double LEAST_SCALE = 2.0**-24   # W with a smaller one is multiplied out


cdef inline bint is_sparse(const Net* net) noexcept nogil:
    return net.layer[0].kind == SPARSE


cdef inline int64_t sparse_vectors(const Layer* layer) noexcept nogil:
    return layer.width // LANES


cdef inline int64_t sparse_flops(const Net* net, int64_t entries, bint update) noexcept nogil:
    """About what a minibatch, or rows, of so many entries take in the first layer; reals that move count as FLOPs."""
    cdef int64_t flops = (4 if update else 2) * entries * net.layer[0].width
    if update and not net.sparse.few:
        flops += 16 * net.layer[0].weights * net.layer[0].width * (1 + net.plan.optimizer.slots)
    return flops


# ---- the rows of a minibatch: where X has them, and where their entries go -----------------------------


cdef int64_t span_rows(Net* net, int64_t side, const int64_t* rows, int64_t offset, int64_t count) noexcept nogil:
    """Of X's rows rows[0 … count − 1] (NULL: offset, …) the begin of each in X, and where its entries go; returns how
    many there are. One thread computes it, before the barrier that precedes its use: X may change meanwhile."""
    cdef const Rows* X = &net.call.sparse
    cdef int64_t* begin = net.sparse.begin[side]
    cdef int64_t* at = net.sparse.at[side]
    cdef int64_t r, i, total = 0, n
    for r in range(count):
        i = rows[r] if rows != NULL else offset + r
        begin[r] = row_start(X, i)
        n = max(<int64_t> 0, row_start(X, i + 1) - begin[r])
        if net.call.weight != NULL and net.call.weight[i] == 0:  # it says nothing
            n = 0
        at[r] = total
        total = min(total + n, net.sparse.capacity)
    at[count] = total
    return total


cdef int64_t most_entries(Net* net, const int64_t* rows) noexcept nogil:
    """Of any minibatch of the call."""
    cdef int64_t start, most = 0, count
    net.sparse.capacity = net.call.sparse.entries * net.plan.batch  # none is cut off
    for start from 0 <= start < net.call.rows by net.plan.batch:
        count = min(net.plan.batch, net.call.rows - start)
        most = max(most, span_rows(net, 0, rows + start if rows != NULL else NULL, start, count))
    return most


cdef void sparse_take(Net* net, const Minibatch* batch, int64_t first, int64_t last) noexcept nogil:
    """The entries of rows first … last − 1, sorted."""
    cdef const int64_t* at = net.sparse.at[batch.side]
    cdef int64_t r
    for r in range(first, last):
        take_entries(&net.call.sparse, net.sparse.begin[batch.side][r], at[r + 1] - at[r], r,
                     net.sparse.entries + at[r])
    sort_entries(at[last] - at[first], net.sparse.entries + at[first], net.sparse.spare + at[first],
                 net.layer[0].n_in)


cdef int64_t sparse_forward(const Net* net, const Minibatch* batch, int64_t l, const Share* share, int64_t p
                            ) noexcept nogil:
    """z = b + Σ x W[k], all of the share's panels of a row at once."""
    cdef Layer* layer = &net.layer[l]
    cdef const Rows* X = &net.call.sparse
    cdef const int64_t* at = net.sparse.at[batch.side]
    cdef int64_t r, begin, n, unit = p * PANEL, i
    cdef int64_t vectors = min(share.end * PANEL, layer.width) // LANES - p * 2
    for r in range(share.first, share.last):
        if batch.spanned:
            begin = net.sparse.begin[batch.side][r]
            n = at[r + 1] - at[r]
        else:
            i = row_of(batch, r)
            begin = row_start(X, i)
            n = row_start(X, i + 1) - begin
        sparse_row(X, begin, n, vectors, layer.w + unit, layer.width, layer.w + layer.n_in * layer.width + unit,
                   <real> batch.scale, layer.v + (p * net.buffers.stride + r) * PANEL, net.buffers.stride * PANEL)
    return share.end


# ---- phase 2 --------------------------------------------------------------------------------------------


ctypedef struct Lists:     # of each thread of phase 1 its entries, from where this thread's columns begin
    int threads
    const Entry* at[TEAM_MOST]
    const Entry* end[TEAM_MOST]


cdef void find_lists(Net* net, const Minibatch* batch, int64_t k, Lists* lists) noexcept nogil:
    """From column k on."""
    cdef const int64_t* at = net.sparse.at[batch.side]
    cdef int t, threads = net.team.threads
    cdef int64_t first, last
    lists.threads = threads
    for t in range(threads):
        first = at[part_of_rows(batch.count, t, threads)]
        last = at[part_of_rows(batch.count, t + 1, threads)]
        lists.end[t] = net.sparse.entries + last
        lists.at[t] = net.sparse.entries + first + first_entry(last - first, net.sparse.entries + first, k)


cdef int64_t entries_before(const Lists* all, int64_t k) noexcept nogil:
    """Entries of the minibatch in columns before k."""
    cdef int64_t before = 0
    cdef int t
    for t in range(all.threads):
        before += first_entry(all.end[t] - all.at[t], all.at[t], k)
    return before


cdef int64_t first_column(Net* net, const Minibatch* batch, const Lists* all, int64_t block) noexcept nogil:
    """The first of a block's columns where a step touches few."""
    cdef int64_t entries = net.sparse.at[batch.side][batch.count], low = 0, high = net.layer[0].n_in, middle
    if block == 0:
        return 0
    if block * BLOCK >= entries:
        return high
    while low < high:
        middle = (low + high) // 2
        if entries_before(all, middle) < block * BLOCK:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline int64_t next_column(const Lists* lists, int64_t end) noexcept nogil:
    """The next that occurs, or `end`."""
    cdef int t
    cdef int64_t k = end
    for t in range(lists.threads):
        if lists.at[t] < lists.end[t]:
            k = min(k, <int64_t> lists.at[t].column)
    return k


cdef inline int64_t sum_next(Net* net, Lists* lists, int64_t k, bint add, real* g, real* w, real eta) noexcept nogil:
    """g = Σ x δ of column k, the next that occurs, or with w not NULL w −= η g; returns of how many entries."""
    cdef Layer* layer = &net.layer[0]
    cdef int t, later = 0
    cdef int64_t n, all = 0, panel = net.buffers.stride * PANEL, vectors = sparse_vectors(layer)
    for t in range(lists.threads):
        later += lists.at[t] < lists.end[t] and <int64_t> lists.at[t].column == k
    for t in range(lists.threads):
        if lists.at[t] < lists.end[t] and <int64_t> lists.at[t].column == k:
            n = same_column(lists.end[t] - lists.at[t], lists.at[t])
            later -= 1
            sparse_column(n, lists.at[t], vectors, layer.delta, panel, add, g, w if later == 0 else NULL, eta)
            lists.at[t] += n
            all += n
            add = True
    return all


cdef void sum_biases(const Net* net, const Minibatch* batch, bint add, real* g) noexcept nogil:
    """g = Σ δ over the rows."""
    cdef Layer* layer = &net.layer[0]
    cdef int64_t r, v, i
    cdef const real* delta
    for v in range(sparse_vectors(layer)):
        delta = layer.delta + (v // 2 * net.buffers.stride) * PANEL + v % 2 * LANES
        if not add:
            store(g + v * LANES, splat(0))
        for r in range(batch.count):
            store(g + v * LANES, load(g + v * LANES) + load(delta + r * PANEL))
    for i in range(layer.n_out, layer.width):  # what lies beside δ
        g[i] = 0


cdef inline real* slot_at(const Net* net, int s, int64_t k) noexcept nogil:
    return net.layer[0].slot[s] + k * net.layer[0].width if net.plan.optimizer.slots > s else NULL


cdef inline int64_t blocks_of(const Net* net, const Minibatch* batch) noexcept nogil:
    """Of what a step of its kind sums over."""
    cdef int64_t n = net.sparse.at[batch.side][batch.count] if batch.few else net.layer[0].n_in
    return (n + BLOCK - 1) // BLOCK


cdef inline double share_of_penalty(const Net* net, const Minibatch* batch) noexcept nogil:
    return inverse_weight(net, batch) if net.plan.penalty_in_sum else 1


cdef void step_column(Net* net, const Minibatch* batch, int64_t k, double factor, real* g) noexcept nogil:
    """Decay and the optimizer's step on column k, with factor times g."""
    cdef Layer* layer = &net.layer[0]
    cdef real* w = layer.w + k * layer.width
    if factor != 1:
        shrink(<real> factor, layer.width, g)
    if net.plan.optimizer.decay > 0 and k < layer.n_in:
        shrink(<real> (1 - batch.learning_rate * batch.decay * net.plan.optimizer.decay), layer.width, w)
    update(&net.plan.optimizer, batch.eta, 1, layer.width, w, g, slot_at(net, 0, k), slot_at(net, 1, k))


cdef void touch_columns(Net* net, const Minibatch* batch, int64_t first, int64_t last, double factor, bint measure
                        ) noexcept nogil:
    """The step on the columns of blocks first … last − 1 that occur, or with `measure` their ‖g‖² to the blocks' sums."""
    cdef Layer* layer = &net.layer[0]
    cdef real* g = net.sparse.column + batch.thread * layer.width
    cdef real* w
    cdef double* sums = net.sparse.squares if measure else net.sparse.sums
    cdef double share = share_of_penalty(net, batch), change
    cdef bint penalties = not no_penalty(net), shrinks = net.sparse.shrinks
    cdef bint plain = net.plan.optimizer.kind == SGD and factor == 1 and not measure and (shrinks or not penalties)
    cdef real eta = <real> (batch.eta / batch.next_scale)
    cdef real l1 = <real> (share * net.plan.l1), l2 = <real> (share * net.plan.l2)
    cdef Lists all, lists
    cdef int64_t k, n, end, before, b
    find_lists(net, batch, 0, &all)
    k = first_column(net, batch, &all, first)
    end = first_column(net, batch, &all, last)
    before = entries_before(&all, k)
    for b in range(first, last):
        sums[b] = 0
    find_lists(net, batch, k, &lists)
    k = next_column(&lists, end)
    while k < end:
        w = layer.w + k * layer.width
        change = -column_penalty(net, w) if penalties and not measure else 0
        n = sum_next(net, &lists, k, False, g, w if plain else NULL, eta)
        if measure or not plain:
            if penalties:
                penalize(l1, l2, layer.width, w, g)
            if measure:
                change = sum_squares(layer.width, g)
            else:
                step_column(net, batch, k, factor, g)
        if not measure:
            net.sparse.marks[k] = MOVED | SEEN
            if penalties:
                change += column_penalty(net, w)
        sums[before // BLOCK] += change
        before += n
        k = next_column(&lists, end)


cdef void step_biases(Net* net, const Minibatch* batch, double factor, bint measure, double* sum) noexcept nogil:
    """The same of the biases, which have no penalty and always occur."""
    cdef real* g = net.sparse.column + batch.thread * net.layer[0].width
    sum_biases(net, batch, False, g)
    sum[0] = sum_squares(net.layer[0].width, g) if measure else 0
    if not measure:
        step_column(net, batch, net.layer[0].n_in, factor, g)


cdef inline double column_penalty(const Net* net, const real* w) noexcept nogil:
    """l1 Σ|w| + ½ l2 Σ w² of a column."""
    cdef double penalty = 0
    if net.plan.l2 != 0:
        penalty = 0.5 * net.plan.l2 * sum_squares(net.layer[0].width, w)
    if net.plan.l1 != 0:
        penalty += net.plan.l1 * sum_absolute(net.layer[0].width, w)
    return penalty


cdef void pass_columns(Net* net, const Minibatch* batch, int64_t first, int64_t last, double factor, bint measure
                       ) noexcept nogil:
    """The step on all columns of these blocks, or with `measure` their ‖g‖²; their sums are those, or the penalties.

    Where W has a scale it is multiplied in first, and the sums are the penalties after the step.
    """
    cdef Layer* layer = &net.layer[0]
    cdef real* g = net.sparse.column + batch.thread * layer.width
    cdef real* w
    cdef double* sums = net.sparse.squares if measure else net.sparse.sums
    cdef double share = share_of_penalty(net, batch)
    cdef bint penalties = not no_penalty(net), shrinks = net.sparse.shrinks
    cdef bint all = penalties or net.plan.optimizer.decay > 0, occurs
    cdef real l1 = <real> (share * net.plan.l1), l2 = <real> (share * net.plan.l2)
    cdef int64_t b, k, end, next
    cdef Lists lists
    find_lists(net, batch, first * BLOCK, &lists)
    next = next_column(&lists, layer.n_in)
    for b in range(first, last):
        sums[b] = 0
        end = min((b + 1) * BLOCK, layer.n_in)
        for k in range(b * BLOCK, end):
            w = layer.w + k * layer.width
            occurs = k == next
            if not (occurs or all or (net.sparse.marks[k] & SEEN and not measure)):  # no gradient yet, and so no state
                continue
            if shrinks and batch.scale != 1:
                shrink(<real> batch.scale, layer.width, w)
            if occurs:
                sum_next(net, &lists, k, False, g, NULL, 0)
                next = next_column(&lists, layer.n_in)
            else:
                memset(g, 0, layer.width * sizeof(real))
            if penalties:
                if measure or shrinks:
                    penalize(l1, l2, layer.width, w, g)
                else:
                    sums[b] += penalize(l1, l2, layer.width, w, g)
            if measure:
                sums[b] += sum_squares(layer.width, g)
                continue
            step_column(net, batch, k, factor, g)
            net.sparse.marks[k] = MOVED | SEEN
            if shrinks:
                sums[b] += column_penalty(net, w)


cdef inline double sum_blocks(const double* sums, int64_t blocks) noexcept nogil:
    """In their order; after the last is what the biases give."""
    cdef int64_t b
    cdef double total = 0
    for b in range(blocks + 1):
        total += sums[b]
    return total


cdef void start_sparse_step(Net* net, Minibatch* batch, bint last) noexcept nogil:
    """Of which kind the step is, and what W's scale is before and after it: the same for every thread."""
    cdef double shrunk
    batch.scale = net.sparse.scale[batch.side]
    batch.next_scale = 1
    batch.few = net.sparse.few
    if net.sparse.shrinks:
        shrunk = batch.scale * (1 - batch.learning_rate * net.plan.l2 * share_of_penalty(net, batch))
        batch.few = not last and shrunk >= LEAST_SCALE
        batch.next_scale = shrunk if batch.few else 1


cdef void sparse_update(Net* net, const Minibatch* batch, const Turn* turn, double factor, bint measure) noexcept nogil:
    """The columns of a piece; the biases are in the last one of all."""
    cdef int64_t blocks = blocks_of(net, batch), threads = net.team.threads
    cdef int64_t start = part(blocks, turn.owner, threads), n = part(blocks, turn.owner + 1, threads) - start
    cdef int64_t first = start + part(n, turn.piece, turn.pieces), last = start + part(n, turn.piece + 1, turn.pieces)
    cdef double* sums = net.sparse.squares if measure else net.sparse.sums
    if batch.few:
        touch_columns(net, batch, first, last, factor, measure)
    else:
        pass_columns(net, batch, first, last, factor, measure)
    if turn.owner == threads - 1 and turn.piece == turn.pieces - 1:
        step_biases(net, batch, factor, measure, &sums[blocks])
        if not measure:
            net.sparse.scale[1 - batch.side] = batch.next_scale


cdef void sparse_share(Net* net, const Minibatch* batch, double factor, bint measure) noexcept nogil:
    """All of this thread's columns, where no other takes some over."""
    cdef Turn turn = team_turn(batch.thread, 1)
    team_take(&net.team, &turn)
    sparse_update(net, batch, &turn, factor, measure)


cdef double end_sparse_step(Net* net, const Minibatch* batch) noexcept nogil:
    """The penalty before a step that all threads have taken; the one after it is kept. Thread 0's."""
    cdef double found, before = net.sparse.total * batch.scale * batch.scale * share_of_penalty(net, batch)
    if no_penalty(net):
        return 0
    found = sum_blocks(net.sparse.sums, blocks_of(net, batch))
    if batch.few:
        net.sparse.total += found
    elif net.sparse.shrinks:
        net.sparse.total = found
    else:
        return found
    return before


cdef void start_sparse_epoch(Net* net) noexcept nogil:
    net.sparse.scale[0] = net.sparse.scale[1] = 1
    if net.sparse.stale and (net.sparse.few or net.sparse.shrinks) and not no_penalty(net):
        net.sparse.total = total_penalty(net)
    net.sparse.stale = False


cdef void end_sparse_epoch(Net* net) noexcept nogil:
    """Multiply out what an epoch that ends early leaves; no other does."""
    cdef double scale = net.sparse.scale[(net.step + net.progress.done) % 2]
    if scale != 1:
        shrink(<real> scale, net.layer[0].n_in * net.layer[0].width, net.layer[0].w)
        mark_all(net, MOVED)
        net.sparse.stale = True


# ---- loss, gradient and Jacobian ------------------------------------------------------------------------


cdef void sparse_gradient(Net* net, const Minibatch* batch) noexcept nogil:
    """This thread's columns of the gradient, added to what there is."""
    cdef Layer* layer = &net.layer[0]
    cdef Lists all, lists
    cdef int64_t k, end, blocks = blocks_of(net, batch)
    find_lists(net, batch, 0, &all)
    k = first_column(net, batch, &all, part(blocks, batch.thread, net.team.threads))
    end = first_column(net, batch, &all, part(blocks, batch.thread + 1, net.team.threads))
    find_lists(net, batch, k, &lists)
    k = next_column(&lists, end)
    while k < end:
        sum_next(net, &lists, k, True, layer.g + k * layer.width, NULL, 0)
        k = next_column(&lists, end)
    if batch.thread == net.team.threads - 1:
        sum_biases(net, batch, True, layer.g + layer.n_in * layer.width)


cdef void penalize_sparse(Net* net, const Minibatch* batch, bint back) noexcept nogil:
    """Penalties of this thread's blocks of columns to their sums, and with `back` their gradient."""
    cdef Layer* layer = &net.layer[0]
    cdef int64_t blocks = blocks_of(net, batch), b, k
    cdef double share = share_of_penalty(net, batch)
    cdef real* g = net.sparse.column + batch.thread * layer.width
    if no_penalty(net):
        return
    if batch.thread == 0:
        net.sparse.sums[blocks] = 0  # of the biases
    for b in range(part(blocks, batch.thread, net.team.threads), part(blocks, batch.thread + 1, net.team.threads)):
        net.sparse.sums[b] = 0
        for k in range(b * BLOCK, min((b + 1) * BLOCK, layer.n_in)):
            net.sparse.sums[b] += penalize(
                <real> (share * net.plan.l1), <real> (share * net.plan.l2), layer.width,
                layer.w + k * layer.width, layer.g + k * layer.width if back else g)


cdef double total_penalty(const Net* net) noexcept nogil:
    """l1 Σ|w| + ½ l2 Σ w² of all columns."""
    cdef int64_t k
    cdef double total = 0
    for k in range(net.layer[0].n_in):
        total += column_penalty(net, net.layer[0].w + k * net.layer[0].width)
    return total


# ---- parameters -----------------------------------------------------------------------------------------


cdef bint all_finite_sparse(const Net* net) noexcept nogil:
    """Whether all weights are that have moved since the last time: 0 Σ w is 0, or else NaN."""
    cdef const Layer* layer = &net.layer[0]
    cdef int64_t k, v, i, whole = layer.n_out // LANES
    cdef const real* w
    cdef vec sum = splat(0)
    cdef real rest = 0
    cdef real sums[LANES]
    for k in range(layer.weights):
        if not net.sparse.marks[k] & MOVED:
            continue
        w = layer.w + k * layer.width
        for v in range(whole):
            sum = sum + splat(0) * load(w + v * LANES)
        for i in range(whole * LANES, layer.n_out):
            rest += 0 * w[i]
    store_unaligned(sums, sum)
    for i in range(LANES):
        rest += sums[i]
    return rest == 0


cdef void copy_sparse(Net* net, real* kept, bint back) noexcept nogil:
    """The weights that have moved since the last time to `kept`, or from there."""
    cdef Layer* layer = &net.layer[0]
    cdef int64_t k, bytes = layer.width * sizeof(real)
    for k in range(layer.weights):
        if not net.sparse.marks[k] & MOVED:
            continue
        if back:
            memcpy(layer.w + k * layer.width, kept + k * layer.width, bytes)
        else:
            memcpy(kept + k * layer.width, layer.w + k * layer.width, bytes)
        net.sparse.marks[k] &= SEEN
    net.sparse.marks[layer.n_in] |= MOVED  # the biases always do


cdef void mark_all(Net* net, int mark) noexcept nogil:
    cdef int64_t k
    for k in range(net.layer[0].weights):
        net.sparse.marks[k] |= mark


cdef void mark_seen(Net* net) noexcept nogil:
    """The columns that have a state of the optimizer."""
    cdef Layer* layer = &net.layer[0]
    cdef int64_t k, i
    cdef int s
    cdef real found
    for k in range(layer.weights):
        net.sparse.marks[k] &= MOVED
        for s in range(net.plan.optimizer.slots):
            for i in range(layer.width):
                if layer.slot[s][k * layer.width + i] != 0:
                    net.sparse.marks[k] |= SEEN
                    break
