# How threads share a step, from what the plan says and what things cost; and the list of the tasks of phase 2.

cdef enum:
    ROW_BLOCK = 112       # rows that go through all layers together: v and δ of some hundred units stay in the L2 cache
    GRADIENT_ROWS = 128   # rows of the weight gradient between two loads of a tile
    SHARD_ROWS = 128      # of a minibatch, at least: the sum of two shards' gradients then takes a hundredth of theirs
    PIECES = 64           # of a thread's tasks, at most
    COLUMN_PIECES = 8     # of its columns of a Sparse stage: one that occurs once takes as long as ten entries of another


cdef void choose_cut(Net* net) noexcept nogil:
    """All of net.cut. The layers' shapes are there."""
    cdef Cut* cut = &net.cut
    cdef const Costs* costs = &net.costs
    cdef int64_t threads = net.plan.threads, l, weights = 0, share, rows, tasks = 0, tile = 0, line_bytes, panels
    cdef int64_t first = net.layer[0].n_in, hidden = net.layer[0].n_out
    cdef bint dense = all_dense(net), plain = net.plan.optimizer.kind == SGD and no_penalty(net)
    cdef bint whole = True  # every stage can compute some of its panels at a time
    cdef bint even = columns_divide(net, net.plan.layers)
    cdef Layer* layer
    for l in range(net.plan.layers):
        if net.layer[l].kind != SPARSE:
            weights += net.layer[l].columns * net.layer[l].weights
        plain = plain and not net.layer[l].factored
        whole = whole and net.layer[l].kind != PERIODIC and net.layer[l].kind != LOOKUP
    cut.unit = PANEL if HALF else 1
    for l in range(net.plan.layers):
        while net.layer[l].members > 0 and cut.unit % net.layer[l].members != 0:  # all that have some have as many
            cut.unit += PANEL if HALF else 1
    cut.block = HALF_BLOCK if HALF else ROW_BLOCK
    cut.block = max(cut.block // cut.unit, <int64_t> 1) * cut.unit
    choose_shards(net, weights)
    cut.step_at_once = plain and net.plan.clip_norm == 0 and not HALF and cut.shards == 1
    cut.online = costs.online and dense and net.plan.batch == 1 and cut.step_at_once
    cut.by_parts = costs.by_parts and dense and net.plan.layers == 2 and net.layer[1].n_out <= PANEL and not HALF
    cut.two_barriers = (costs.two_barriers and cut.by_parts and net.plan.clip_norm == 0
                        and panels_of(hidden) >= threads > 1 and columns_divide(net, 1))
    cut.rows_to_split = 1
    if weights * <int64_t> sizeof(real) > costs.bytes_to_split:
        cut.rows_to_split = costs.rows_to_split if even else costs.rows_to_split_unevenly
    if cut.two_barriers:  # a thread has v⁰, its columns of v¹ and of δ¹, and their weights
        share = first * hidden // threads * (1 + net.plan.optimizer.slots)
        rows = (costs.bytes_of_columns // <int64_t> sizeof(real) - share) // (first + 2 * hidden // threads)
        cut.rows_to_split = max(cut.rows_to_split, rows // threads)
    if costs.rows_to_split == 0 or not whole:
        cut.rows_to_split = 0
    cut.by_columns = net.plan.batch < cut.rows_to_split * threads
    cut.two_barriers = cut.two_barriers and cut.by_columns
    cut.inputs_owned = costs.own_inputs and cut.by_columns and (cut.two_barriers or (
        not HALF and net.layer[0].kind != SPARSE and panels_of(hidden) >= 2 * threads > 2))
    cut.own_stride = net.plan.batch | 1  # an odd number of rows keeps panels apart in the cache's sets
    cut.own_size = (panels_of(first + 1) * cut.own_stride * PANEL
                    + costs.bytes_apart // <int64_t> sizeof(real))
    cut.runs = net.plan.layers if cut.by_columns or cut.online else 1
    for l in range(net.plan.layers):
        layer = &net.layer[l]
        panels = panels_of(layer.columns)
        layer.rows = layer.weights
        if cut.by_columns and threads > 1 and not HALF:
            layer.rows += costs.bytes_apart // (PANEL * <int64_t> sizeof(real))
        layer.far = (costs.rows_far > 0
                     and panels * layer.weights * PANEL * <int64_t> sizeof(real) > costs.bytes_near)
        if layer.kind == SPARSE:
            layer.width = (layer.n_out + LANES - 1) // LANES * LANES
            continue
        tasks += panels * tiles_of(layer)
        tile = max(tile, inputs_at_once(layer) * PANEL)
    cut.tasks = tasks
    cut.tile = tile
    line_bytes = first * <int64_t> sizeof(real)
    cut.fetch_most = min(net.plan.batch, 1 + costs.bytes_fetched // line_bytes) if costs.bytes_fetched > 0 else 0
    cut.fetch_lines = 1 + (cut.fetch_most * (line_bytes + 63) // 64 * threads
                           // (panels_of(net.layer[0].weights) * panels_of(hidden)))
    if net.layer[0].kind == SPARSE:
        cut.fetch_most = 0
    choose_pieces(net, weights)
    cut.steps_unchecked = 1  # where the first stage is Sparse a step may take long
    if net.layer[0].kind != SPARSE:
        cut.steps_unchecked = max(<int64_t> 1, costs.flops_unchecked // net.plan.flops)


cdef void choose_shards(Net* net, int64_t weights) noexcept nogil:
    """Into how many parts of a minibatch's rows a gradient is summed, by the plan alone, as the bits hang on it.

    Ranks (ranks.pxi) that share the shards exchange their sums: two numbers a weight, in place of v and δ of all rows
    and one number a weight. So there are shards where the former is less, as many as are worth it.
    """
    cdef Cut* cut = &net.cut
    cdef int64_t l, numbers = 0
    cut.shards = cut.tiles = 1
    for l in range(net.plan.layers):
        numbers += net.layer[l].n_out + (net.layer[l].n_in + 1 if l > 0 else 0)
    if not all_dense(net) or net.plan.batch * numbers <= (2 if HALF else 1) * weights:
        return
    while 2 * cut.shards * SHARD_ROWS <= net.plan.batch:
        cut.shards *= 2
        cut.tiles += 1


cdef void choose_pieces(Net* net, int64_t weights) noexcept nogil:
    """What threads may take over from each other."""
    cdef Cut* cut = &net.cut
    cdef int64_t phase = net.plan.flops // 3, unit = PANEL if HALF else TILE_ROWS
    cdef int64_t rows = (net.costs.rows_taken + unit - 1) // unit * unit
    cut.pieces = 1
    cut.rows_taken = 0
    if net.costs.flops_taken == 0 or net.plan.threads == 1 or cut.online:
        return
    if weights * <int64_t> sizeof(real) > net.costs.bytes_taken:
        rows = cut.block
    if 2 * phase // net.plan.batch * rows >= net.costs.flops_taken:
        cut.rows_taken = rows
    if not cut.two_barriers:
        cut.pieces = max(<int64_t> 1, min(<int64_t> PIECES, phase // net.plan.threads // net.costs.flops_taken))
    if net.layer[0].kind == SPARSE:
        cut.pieces = max(cut.pieces, <int64_t> COLUMN_PIECES)


cdef bint columns_divide(const Net* net, int64_t layers) noexcept nogil:
    """Whether the widest share of the first layers' panels is hardly more than an even one."""
    cdef int64_t l, panels, inputs, widest = 0, all = 0, threads = net.plan.threads
    for l in range(layers):
        if net.layer[l].kind == SPARSE:
            continue
        panels = panels_of(net.layer[l].n_out)
        inputs = net.layer[l].n_in + 1
        widest += (panels + threads - 1) // threads * inputs
        all += panels * inputs
    return 100 * threads * widest <= net.costs.percent_uneven * all


cdef void cut_tasks(Net* net) noexcept nogil:
    """The list of weight-gradient tiles and their cumulative cost.

    With a long minibatch four output panels share an input panel before the next is read: the δ panels
    stay in the L2 cache. With a short one a thread has the tiles of the panels that it reads where phase 1
    is cut by columns: its share of the weights stays in its caches. So it must where two barriers are to be
    enough. With clipping the tasks' order is that of the squares in the norm, and must not depend on the
    threads; there two barriers are never enough.
    """
    cdef int64_t t = 0, l, j, j0, k
    cdef int64_t together = 1 if net.plan.batch <= GRADIENT_ROWS or net.cut.two_barriers else 4
    cdef Layer* layer
    cdef Task* task
    for l in range(net.plan.layers):
        layer = &net.layer[l]
        layer.task = t
        if layer.kind == SPARSE:
            continue
        for j0 from 0 <= j0 < panels_of(layer.columns) by together:
            for k in range(tiles_of(layer)):
                for j in range(j0, min(j0 + together, panels_of(layer.columns))):
                    task = &net.buffers.task[t]
                    task.layer = l
                    task.j = j
                    task.k = k
                    task.inputs = min(inputs_at_once(layer), layer.weights - k * PANEL)
                    # in vectors of weights; a task's own time is that of about four
                    net.buffers.task_cost[t + 1] = (net.buffers.task_cost[t]
                                                    + task_cost(layer, task))
                    t += 1


cdef int64_t first_task(const Net* net, int64_t run, int thread) noexcept nogil:
    """Each run of tasks is cut where every thread has most nearly the same work: the first of thread's. Where
    two barriers are to be enough, it is cut as the columns of the hidden layer are."""
    cdef const int64_t* cost = net.buffers.task_cost
    cdef int64_t start = net.layer[run].task, middle, goal, p, low = start
    cdef int64_t high = net.layer[run + 1].task if run + 1 < net.cut.runs else net.cut.tasks
    if net.cut.two_barriers:
        p = part(panels_of(net.layer[0].n_out), thread, net.team.threads)
        if run == 0:
            return p * panels_of(net.layer[0].weights)
        return low + p if thread < net.team.threads else high
    goal = cost[low] + part(cost[high] - cost[low], thread, net.team.threads)
    while low < high:
        middle = (low + high) // 2
        if cost[middle] < goal:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low > start and goal - cost[low - 1] < cost[low] - goal else low


cdef inline bint cut_by_columns(const Net* net, int64_t count) noexcept nogil:
    """Whether phase 1 of a minibatch of so many rows is."""
    return net.team.threads > 1 and count < net.cut.rows_to_split * net.team.threads


cdef int64_t step_flops(Net* net, bint update) noexcept nogil:
    """Of a step, with the call's rows."""
    cdef int64_t entries
    if not is_sparse(net):
        return net.plan.flops
    entries = net.call.sparse.entries * net.plan.batch // max(<int64_t> 1, net.call.rows)
    return max(<int64_t> 1, net.plan.flops + sparse_flops(net, entries, update))


cdef int64_t call_flops(Net* net) noexcept nogil:
    """Of forward over the call's rows."""
    cdef int64_t flops = net.plan.flops // (3 * net.plan.batch) * net.call.rows
    if is_sparse(net):
        flops += sparse_flops(net, net.call.sparse.entries, False)
    return flops


cdef int worthwhile(const Net* net, int64_t steps, int64_t flops) noexcept nogil:
    """How many threads a call's steps, of so many FLOPs each, are worth."""
    cdef int64_t threads = min(net.plan.threads, flops // net.costs.flops_per_thread)
    if threads > 1:
        threads = min(threads, steps * flops // max(
            <int64_t> 1, net.costs.flops_per_wait * team_wait(<int> threads) // 1000))
    return <int> max(<int64_t> 1, threads)
