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


cdef void take_task(Net* net, const Minibatch* batch, Task* task) noexcept nogil:
    """Gradient and step of a tile while it is in the registers or the L1 cache."""
    cdef real* g = net.buffers.tile + batch.thread * net.cut.tile
    if net.cut.step_at_once and step_tile(net, batch, task, g):
        mirror_tile(net, task.layer, task.j, task.k, task.layer > 0)
        return
    gradient_tile(net, batch, task, g, False)
    penalize_tile(net, batch, task, g)
    update_tile(net, batch, task, g)


cdef void measure_task(Net* net, const Minibatch* batch, Task* task) noexcept nogil:
    """Gradient of a tile into the layer's, and its share of ‖g‖²."""
    cdef real* g = net.layer[task.layer].g + weights_at(net, task)
    gradient_tile(net, batch, task, g, False)
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
