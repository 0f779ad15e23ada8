# Phase 2 of a step: weight gradient, penalty and update, a tile of weights at a time.


cdef inline int64_t weights_at(Net* net, const Task* task) noexcept nogil:
    return (task.j * net.layer[task.layer].rows + task.k * PANEL) * PANEL


cdef void gradient_tile(Net* net, const Minibatch* batch, const Task* task, real* g, bint add, real* w
                        ) noexcept nogil:
    """g = Σ_rows v δᵀ (added to g, or over it) for the inputs and outputs of one task; where w, its tile of
    the weights, is given, w −= η g at once."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef const real* v
    cdef const real* delta
    cdef int64_t tiles = (task.inputs + TILE_ROWS - 1) // TILE_ROWS, t, i, b, n, count = batch.count
    cdef int vectors = vectors_of(layer.n_out, task.j)
    cdef bint fetching = layer.far and count >= FAR_ROWS
    cdef Ahead ahead
    if HALF:
        gradient_half(net, task, count, g, add)
        return
    v = (batch.v_in + task.k * batch.stride * PANEL if task.layer == 0
         else layer.v_in + task.k * net.stride * PANEL)
    if layer.kind == SCALE:
        scale_gradient(net, layer, batch.v_in if task.layer == 0 else layer.v_in,
                       (batch.stride if task.layer == 0 else net.stride) * PANEL, task.j, count, g, add)
        return
    delta = layer.delta + task.j * net.stride * PANEL
    if fetching:  # what the step that follows reads and writes
        ahead.streams = 0
        look_ahead(&ahead, layer.w + weights_at(net, task))
        for i in range(net.optimizer.slots):
            look_ahead(&ahead, layer.slot[i] + weights_at(net, task))
        if task.layer > 0:
            look_ahead(&ahead, layer.wt + (task.k * layer.n_out + task.j * PANEL) * PANEL)
        ahead.n = fetch_size(PANEL * PANEL, tiles, count)
    for b from 0 <= b < max(count, <int64_t> 1) by GRADIENT_ROWS:  # both operands stay in the L1 cache
        n = min(<int64_t> GRADIENT_ROWS, count - b)
        for t in range(tiles):
            i = part(task.inputs, t, tiles)
            tile_gradient(<int> (part(task.inputs, t + 1, tiles) - i), vectors, n,
                          v + b * PANEL + i, delta + b * PANEL, g + i * PANEL, add or b > 0,
                          w + i * PANEL if w != NULL and b + n == count else NULL, batch.eta,
                          &ahead if fetching else NULL)
    if vectors == 1 and w == NULL:  # keeps the columns past the last zero in everything made from g
        for i in range(task.inputs):
            store(g + i * PANEL + LANES, splat(0))


cdef inline double* penalty_of(Net* net, int64_t step, const Task* task) noexcept nogil:
    """Where a step has the penalty of the task's tile: in an order that is not that of the tasks."""
    cdef Layer* layer = &net.layer[task.layer]
    return net.penalty[step % 2] + layer.task + task.j * panels_of(layer.weights) + task.k


cdef inline int64_t penalized(Net* net, const Task* task) noexcept nogil:
    """Reals of the task's tile that are weights, not biases."""
    return max(<int64_t> 0, min(task.inputs, net.layer[task.layer].penalized - task.k * PANEL)) * PANEL


cdef void update_tile(Net* net, const Minibatch* batch, Task* task, real* g) noexcept nogil:
    """The optimizer's step on one task's tile, and its mirror in wt."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef int64_t at = weights_at(net, task), n = task.inputs * PANEL
    if net.optimizer.decay > 0:
        shrink(<real> (1 - batch.learning_rate * net.optimizer.decay), penalized(net, task), layer.w + at)
    update(&net.optimizer, batch.eta, n, layer.w + at, g,
           layer.slot[0] + at if net.optimizer.slots > 0 else NULL,
           layer.slot[1] + at if net.optimizer.slots > 1 else NULL)
    mirror_tile(net, task)


cdef void mirror_tile(Net* net, Task* task) noexcept nogil:
    """The task's tile of the weights, just changed, into the other forms in which the passes read it."""
    if net.layer[task.layer].kind == DENSE and penalized(net, task) > 0:
        if HALF:
            round_tile(net, task.layer, task.j, task.k, task.layer > 0)
        elif task.layer > 0:
            transpose_tile(&net.layer[task.layer], task.j, task.k)


cdef void penalize_tile(Net* net, const Minibatch* batch, const Task* task, real* g) noexcept nogil:
    """Add the penalty's gradient to the tile's, and keep the penalty."""
    cdef double scale = inverse_weight(net, batch) if net.penalty_in_sum else 1
    if no_penalty(net):
        return
    penalty_of(net, batch.step, task)[0] = penalize(
        <real> (scale * net.l1), <real> (scale * net.l2), penalized(net, task),
        net.layer[task.layer].w + weights_at(net, task), g)


cdef int64_t first_task(Net* net, int64_t run, int thread) noexcept nogil:
    """Each run of tasks is cut where every thread has most nearly the same work: the first of thread's. Where
    two barriers are to be enough, it is cut as the columns of the hidden layer are."""
    cdef const int64_t* cost = net.task_cost
    cdef int64_t p, low = net.layer[run].task, high = net.layer[run + 1].task if run + 1 < net.runs else net.tasks
    cdef int64_t goal = cost[low] + part(cost[high] - cost[low], thread, net.team.threads), middle
    if net.two_barriers:
        p = part(panels_of(net.layer[0].n_out), thread, net.team.threads)
        if run == 0:
            return p * panels_of(net.layer[0].weights)
        return low + p if thread < net.team.threads else high
    while low < high:
        middle = (low + high) // 2
        if cost[middle] < goal:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low > net.layer[run].task and goal - cost[low - 1] < cost[low] - goal else low


cdef inline real* begun_row(Net* net, int64_t p) noexcept nogil:
    """Where a step leaves z¹ of the next, panel p of it: in row 1, which minibatches of one row do not use."""
    return net.layer[0].v + (p * net.stride + 1) * PANEL


cdef inline const real* inputs_of(Net* net, int64_t k) noexcept nogil:
    """Row k of X, as `take_inputs` would take it."""
    if net.weight != NULL and net.weight[k] == 0:
        return net.zeros
    return net.X + k * net.layer[0].n_in


cdef void begin_next(Net* net, const Minibatch* batch, int thread) noexcept nogil:
    """The first layer's step and the next row's z¹, for the panels whose columns are this thread's."""
    cdef Layer* layer = &net.layer[0]
    cdef const real* x = inputs_of(net, batch.rows[0])
    cdef const real* x_next = inputs_of(net, batch.next_row)
    cdef int64_t panels = panels_of(layer.n_out), n_in = layer.n_in
    cdef int64_t p = part(panels, thread, net.team.threads), end = part(panels, thread + 1, net.team.threads)
    while p < end:
        p += online_step(end - p, n_in, x, x_next, batch.eta, layer.delta + p * net.stride * PANEL,
                         layer.w + p * layer.rows * PANEL, layer.rows * PANEL, begun_row(net, p), net.stride * PANEL)


cdef void start_fetching(Net* net, Minibatch* batch, int thread, int64_t first) noexcept nogil:
    """The minibatch whose rows start at `first` in the sample order is the next that is gathered."""
    cdef int64_t count = max(<int64_t> 0, min(net.batch, net.rows - first)), row = 0
    if net.own_inputs == NULL or not cut_by_columns(net, count):
        row = part_of_rows(count, thread, net.team.threads)
        count = part_of_rows(count, thread + 1, net.team.threads) - row
    batch.fetch = net.order + first + row
    batch.fetches = min(count, net.fetch_most)
    batch.fetched = 0


cdef void fetch_some(Net* net, Minibatch* batch) noexcept nogil:
    """Have some more of those rows on their way; in the midst of other work, as memory takes its time."""
    cdef int64_t n_in = net.layer[0].n_in, line = 64 // <int64_t> sizeof(real), lines = net.fetch_lines
    cdef int64_t fetches = batch.fetches, fetched = batch.fetched
    cdef const int64_t* row = batch.fetch
    while fetches > 0 and lines > 0:
        prefetch(net.X + row[0] * n_in + fetched, 1)
        lines -= 1
        fetched += line
        if fetched >= n_in:
            fetched = 0
            row += 1
            fetches -= 1
    batch.fetch = row
    batch.fetches = fetches
    batch.fetched = fetched


cdef void update_phase(Net* net, Minibatch* batch, int thread) noexcept nogil:
    """Phase 2: gradient, penalty and update of this thread's tiles."""
    cdef int64_t run, t
    cdef double norm = 0
    for run in range(net.runs - 1, 0 if net.online else -1, -1):
        for t in range(first_task(net, run, thread), first_task(net, run, thread + 1)):
            if net.clip_norm > 0:
                measure_task(net, batch, &net.task[t])
            else:
                take_task(net, batch, &net.task[t], net.tile + thread * PANEL * PANEL)
            fetch_some(net, batch)
    if net.online:
        begin_next(net, batch, thread)
    if net.clip_norm == 0:
        return
    team_barrier(&net.team, thread)
    for t in range(net.tasks):
        norm += net.task[t].squares
    norm = sqrt(norm)
    for run in range(net.runs):
        for t in range(first_task(net, run, thread), first_task(net, run, thread + 1)):
            clip_task(net, batch, &net.task[t], norm)


cdef void take_task(Net* net, const Minibatch* batch, Task* task, real* g) noexcept nogil:
    """Gradient and step of a tile while it is in the registers or the L1 cache."""
    if net.optimizer.kind == SGD and no_penalty(net) and not HALF and net.layer[task.layer].kind == DENSE:
        gradient_tile(net, batch, task, g, False, net.layer[task.layer].w + weights_at(net, task))
        mirror_tile(net, task)
        return
    gradient_tile(net, batch, task, g, False, NULL)
    penalize_tile(net, batch, task, g)
    update_tile(net, batch, task, g)


cdef void measure_task(Net* net, const Minibatch* batch, Task* task) noexcept nogil:
    """Gradient of a tile into the layer's, and its share of ‖g‖²."""
    cdef real* g = net.layer[task.layer].g + weights_at(net, task)
    gradient_tile(net, batch, task, g, False, NULL)
    penalize_tile(net, batch, task, g)
    task.squares = sum_squares(task.inputs * PANEL, g)


cdef void clip_task(Net* net, const Minibatch* batch, Task* task, double norm) noexcept nogil:
    """The optimizer's step with the gradient cut to the norm allowed."""
    cdef real* g = net.layer[task.layer].g + weights_at(net, task)
    if norm > net.clip_norm:
        shrink(<real> (net.clip_norm / norm), task.inputs * PANEL, g)
    update_tile(net, batch, task, g)
