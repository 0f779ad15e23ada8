# Phase 2 of a step: weight gradient, penalty and update, a tile of weights at a time.


cdef inline double* penalty_of(Net* net, int64_t step, const Task* task) noexcept nogil:
    """Where a step has the penalty of the task's tile: in an order that is not that of the tasks."""
    cdef Layer* layer = &net.layer[task.layer]
    return net.buffers.penalty[step % 2] + layer.task + task.j * tiles_of(layer) + task.k


cdef inline int64_t penalized(Net* net, const Task* task) noexcept nogil:
    """Reals of the task's tile that are weights, not biases."""
    return max(<int64_t> 0, min(task.inputs, net.layer[task.layer].penalized - task.k * PANEL)) * PANEL


cdef inline void update_part(Net* net, const Minibatch* batch, Layer* layer, const Factors* factors, int64_t at,
                             int64_t n, int64_t decaying, const real* g) noexcept nogil:
    """The optimizer's step on n of a layer's parameters, the first of which decay."""
    cdef double decay = batch.learning_rate * batch.decay * factors.decay * net.plan.optimizer.decay
    if decay > 0:
        shrink(<real> (1 - decay), decaying, layer.w + at)
    update(&net.plan.optimizer, <real> (batch.eta * factors.rate), <real> factors.epsilon, n, layer.w + at, g,
           layer.slot[0] + at if net.plan.optimizer.slots > 0 else NULL,
           layer.slot[1] + at if net.plan.optimizer.slots > 1 else NULL)


cdef void update_tile(Net* net, const Minibatch* batch, Task* task, real* g) noexcept nogil:
    """The optimizer's step on one task's tile, and its mirror in wt."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef int64_t at = weights_at(net, task), n = task.inputs * PANEL, weights = penalized(net, task)
    update_part(net, batch, layer, &layer.factors[0], at, weights if layer.factored else n, weights, g)
    if layer.factored and weights < n:
        update_part(net, batch, layer, &layer.factors[1], at + weights, n - weights, n - weights, g + weights)
    mirror_tile(net, task.layer, task.j, task.k, task.layer > 0)


cdef void penalize_tile(Net* net, const Minibatch* batch, const Task* task, real* g) noexcept nogil:
    """Add the penalty's gradient to the tile's, and keep the penalty."""
    cdef double scale = inverse_weight(net, batch) if net.plan.penalty_in_sum else 1
    if no_penalty(net):
        return
    penalty_of(net, batch.step, task)[0] = penalize(
        <real> (scale * net.plan.l1), <real> (scale * net.plan.l2), penalized(net, task),
        net.layer[task.layer].w + weights_at(net, task), g)


cdef void start_fetching(Net* net, Minibatch* batch, int64_t first) noexcept nogil:
    """The minibatch whose rows start at `first` in the sample order is the next that is gathered."""
    cdef int64_t count = max(<int64_t> 0, min(net.plan.batch, net.call.rows - first)), row = 0
    if net.buffers.own_inputs == NULL or not cut_by_columns(net, count):
        row = part_of_rows(count, batch.thread, net.team.threads)
        count = part_of_rows(count, batch.thread + 1, net.team.threads) - row
    batch.fetch = net.call.order + first + row
    batch.fetches = min(count, net.cut.fetch_most)
    batch.fetched = 0


cdef void fetch_some(Net* net, Minibatch* batch) noexcept nogil:
    """Have some more of those rows on their way; in the midst of other work, as memory takes its time."""
    cdef int64_t n_in = net.layer[0].n_in, line = 64 // <int64_t> sizeof(real), lines = net.cut.fetch_lines
    cdef int64_t fetches = batch.fetches, fetched = batch.fetched
    cdef const int64_t* row = batch.fetch
    while fetches > 0 and lines > 0:
        prefetch(net.call.X + row[0] * n_in + fetched, 1)
        lines -= 1
        fetched += line
        if fetched >= n_in:
            fetched = 0
            row += 1
            fetches -= 1
    batch.fetch = row
    batch.fetches = fetches
    batch.fetched = fetched


ctypedef void (*TaskWork)(Net* net, const Minibatch* batch, Task* task) noexcept nogil


cdef void each_task(Net* net, Minibatch* batch, TaskWork work, double factor, bint measure) noexcept nogil:
    """The pieces of work that are this thread's, and those that it takes over: tasks, and columns of a Sparse stage."""
    cdef Turn turn = team_turn(batch.thread, net.cut.pieces)
    cdef int64_t run, first, tasks, t
    while team_take(&net.team, &turn):
        for run in range(net.cut.runs - 1, 0 if net.cut.online else -1, -1):
            first = first_task(net, run, turn.owner)
            tasks = first_task(net, run, turn.owner + 1) - first
            for t in range(first + part(tasks, turn.piece, turn.pieces),
                           first + part(tasks, turn.piece + 1, turn.pieces)):
                work(net, batch, &net.buffers.task[t])
                fetch_some(net, batch)
        if is_sparse(net):
            sparse_update(net, batch, &turn, factor, measure)


cdef void update_phase(Net* net, Minibatch* batch) noexcept nogil:
    """Phase 2: gradient, penalty and update of this thread's tiles."""
    cdef int64_t t
    cdef double squares = 0
    each_task(net, batch, measure_task if net.plan.clip_norm > 0 else take_task, 1, net.plan.clip_norm > 0)
    if net.cut.online:
        begin_next(net, batch)
    if net.plan.clip_norm == 0:
        return
    team_barrier(&net.team, batch.thread)
    for t in range(net.cut.tasks):
        squares += net.buffers.task[t].squares
    if is_sparse(net):
        squares += sum_blocks(net.sparse.squares, blocks_of(net, batch))
    batch.norm = sqrt(squares)
    each_task(net, batch, clip_task, kept_of_norm(net, batch), False)


cdef inline real* own_tile(const Net* net, int thread, int64_t i) noexcept nogil:
    """Of the thread's tiles of gradient, the i-th."""
    return net.buffers.tile + (thread * net.cut.tiles + i) * net.cut.tile


cdef inline void add_tile(const Task* task, real* sum, const real* g) noexcept nogil:
    """sum ← sum + g."""
    cdef int64_t i
    for i in range(task.inputs * PANEL):
        sum[i] += g[i]


cdef void sum_shards(const Net* net, const Minibatch* batch, const Task* task, int64_t shard, int64_t end, real* g
                     ) noexcept nogil:
    """g = the tile's gradient over the rows of shards shard … end − 1, as many as a power of two: in pairs, pairs of
    pairs and so on, so that it is a part of the sum over all of them."""
    cdef Minibatch rows = batch[0]
    cdef int64_t s, pairs, waiting = 0  # sums that wait for the other of their pair
    for s in range(shard, end):
        rows.first = part_of_rows(batch.count, s, net.cut.shards)
        rows.count = part_of_rows(batch.count, s + 1, net.cut.shards) - rows.first
        gradient_tile(net, &rows, task, own_tile(net, batch.thread, waiting) if waiting > 0 else g, False)
        pairs = s - shard
        while pairs % 2 == 1:
            add_tile(task, own_tile(net, batch.thread, waiting - 1) if waiting > 1 else g,
                     own_tile(net, batch.thread, waiting))
            waiting -= 1
            pairs //= 2
        waiting += 1


cdef inline void sum_tile(Net* net, const Minibatch* batch, const Task* task, real* g) noexcept nogil:
    """g = the tile's gradient over all rows of the minibatch."""
    if batch.summed:
        sum_ranks(net, task, g)
    elif net.cut.shards > 1:
        sum_shards(net, batch, task, 0, net.cut.shards, g)
    else:
        gradient_tile(net, batch, task, g, False)


cdef void take_task(Net* net, const Minibatch* batch, Task* task) noexcept nogil:
    """Gradient and step of a tile while it is in the registers or the L1 cache."""
    cdef real* g = own_tile(net, batch.thread, 0)
    if net.cut.step_at_once and step_tile(net, batch, task, g):
        mirror_tile(net, task.layer, task.j, task.k, task.layer > 0)
        return
    sum_tile(net, batch, task, g)
    penalize_tile(net, batch, task, g)
    update_tile(net, batch, task, g)


cdef void measure_task(Net* net, const Minibatch* batch, Task* task) noexcept nogil:
    """Gradient of a tile into the layer's, and its share of ‖g‖²."""
    cdef real* g = net.layer[task.layer].g + weights_at(net, task)
    sum_tile(net, batch, task, g)
    penalize_tile(net, batch, task, g)
    task.squares = sum_squares(task.inputs * PANEL, g)


cdef inline double kept_of_norm(const Net* net, const Minibatch* batch) noexcept nogil:
    """The factor that cuts the gradient to the norm allowed."""
    return net.plan.clip_norm / batch.norm if batch.norm > net.plan.clip_norm else 1


cdef void clip_task(Net* net, const Minibatch* batch, Task* task) noexcept nogil:
    """The optimizer's step with the gradient cut to the norm allowed."""
    cdef real* g = net.layer[task.layer].g + weights_at(net, task)
    if batch.norm > net.plan.clip_norm:
        shrink(<real> kept_of_norm(net, batch), task.inputs * PANEL, g)
    update_tile(net, batch, task, g)
