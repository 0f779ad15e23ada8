# What the threads of a call run: an epoch; loss and gradient; outputs; the Jacobian.


cdef void weigh(Net* net, int64_t step, const int64_t* rows, int64_t count) noexcept nogil:
    """The inverse weight of a minibatch with X's rows rows[0 … count − 1] (NULL: 0 … count − 1), for a step.

    The caller may write to his arrays while they are read here, and what decides whether a step is applied
    must be the same for every thread: so one thread computes it, before the barrier that precedes its use.
    """
    cdef int64_t r
    cdef double total = 0
    if net.call.weight == NULL:
        total = count
    for r in range(count if net.call.weight != NULL else 0):
        total += net.call.weight[rows[r] if rows != NULL else r]
    total = 1 / total if total != 0 else 0
    if net.progress.inverse_weight[step % 2] != total:  # others read what lies beside it
        net.progress.inverse_weight[step % 2] = total


cdef void weigh_minibatch(Net* net, int64_t s) noexcept nogil:
    """The same for minibatch s of an epoch, if there is one, and where its rows are if X is sparse."""
    cdef int64_t first = s * net.plan.batch
    cdef int64_t count = min(net.plan.batch, net.call.rows - first)
    if count <= 0:
        return
    weigh(net, net.step + s, net.call.order + first, count)
    if is_sparse(net):
        span_rows(net, (net.step + s) % 2, net.call.order + first, 0, count)


cdef double sum_losses(Net* net, int64_t count) noexcept nogil:
    """Sum of the rows' weighted losses, in the order of the rows."""
    cdef int64_t r
    cdef double total = 0
    for r in range(count):
        total += net.buffers.row_loss[r]
    return total


cdef double sum_penalties(Net* net, int64_t step) noexcept nogil:
    cdef int64_t t
    cdef double total = 0
    if no_penalty(net):
        return 0
    for t in range(net.cut.tasks):
        total += net.buffers.penalty[step % 2][t]
    return total


cdef real step_size(const Net* net, int64_t step, double learning_rate) noexcept nogil:
    """η of the update's formula; for Adam η √(1 − β₂ᵗ) / (1 − β₁ᵗ)."""
    if net.plan.optimizer.kind != ADAM:
        return <real> learning_rate
    return <real> (learning_rate * sqrt(1 - pow(net.plan.beta_2, step)) / (1 - pow(net.plan.beta_1, step)))


cdef bint signal_pending() noexcept with gil:
    """Whether a signal's handler raised (KeyboardInterrupt); the exception stays set."""
    return PyErr_CheckSignals() != 0


cdef int raise_pending(bint pending) except -1:
    """Let the exception that PyErr_CheckSignals has set take its course."""
    return -1 if pending else 0


cdef void look_for_signals(Net* net) noexcept nogil:
    """For thread 0, which is Python's: net.progress.stop where a handler raised. Mostly just a look at the clock."""
    cdef double now = seconds_now()
    if not net.progress.stop and now >= net.progress.next_look:
        net.progress.next_look = now + 1e-6 * net.costs.signal_microseconds
        if HALF:  # a handler may leave the tiles otherwise
            tiles_off()
        net.progress.stop = signal_pending()
        if HALF:
            tiles_on()


cdef void start_batch(const Net* net, Minibatch* batch, int thread, bint training) noexcept nogil:
    """A thread's view of rows that are none yet."""
    memset(batch, 0, sizeof(Minibatch))
    batch.thread = thread
    batch.training = training
    batch.v_in = net.layer[0].v_in
    batch.stride = net.buffers.stride
    batch.scale = 1


cdef void take_minibatch(Net* net, Minibatch* batch, int64_t s, int64_t steps) noexcept nogil:
    """Minibatch s of an epoch of so many steps."""
    batch.rows = net.call.order + s * net.plan.batch
    batch.count = min(net.plan.batch, net.call.rows - s * net.plan.batch)
    batch.begun = net.cut.online and s > 0
    batch.next_row = batch.rows[1 if s + 1 < steps else 0]
    batch.step = net.step + s
    batch.side = batch.step % 2
    batch.spanned = True
    batch.learning_rate = net.call.learning_rates[s]
    batch.dropout = net.call.dropouts[s] if net.call.dropouts != NULL else 1
    batch.decay = net.call.decays[s] if net.call.decays != NULL else 1
    batch.eta = step_size(net, batch.step + 1, batch.learning_rate)
    if is_sparse(net):
        start_sparse_step(net, batch, s + 1 == steps)


cdef void add_penalty(Net* net, int64_t s, double penalty) noexcept nogil:
    """To the loss of step s of the epoch, and `penalty` too. Every thread has taken that step, and none the next but
    one."""
    penalty += sum_penalties(net, net.step + s)
    net.call.losses[s] += penalty
    if net.call.penalties != NULL:
        net.call.penalties[s] = penalty


cdef void epoch_work(void* argument, int thread) noexcept nogil:
    """Minibatch after minibatch: rows, barrier, weights, barrier.

    With one hidden layer, cut by columns, a thread has its part of the hidden units and all their weights to
    itself. Threads only hand each other their parts of the output layer's sums and then its δ, and the
    barriers before these are enough. Only where thread 0 has to change something do all meet at the end of
    a step, as it told them in the step before. Where they do not, they are through with a step only after
    those of the next, and then the penalties of both are there.
    """
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef int64_t s = 0, steps = (net.call.rows + net.plan.batch - 1) // net.plan.batch
    cdef double loss
    cdef bint two, meet = True
    start_batch(net, &batch, thread, True)
    if thread == 0:
        net.progress.meet[0] = False
    while s < steps:
        take_minibatch(net, &batch, s, steps)
        two = net.cut.two_barriers and cut_by_columns(net, batch.count)
        row_phase(net, &batch, True)
        start_fetching(net, &batch, (s + (2 if net.cut.online else 1)) * net.plan.batch)
        if not two:
            team_barrier(&net.team, thread)
        if thread == 0 and not meet:
            add_penalty(net, s - 1, 0)
        loss = sum_losses(net, batch.count) * inverse_weight(net, &batch)
        if not isfinite(loss):  # every thread finds the same
            if thread == 0:
                net.call.losses[s] = loss
            break
        update_phase(net, &batch)
        if thread == 0:
            net.call.losses[s] = loss
            net.progress.done = s + 1
            net.progress.at = s + 1
            weigh_minibatch(net, s + 1)
            if s % net.cut.steps_unchecked == 0:
                look_for_signals(net)
            set_pace(&net.progress.pace, &net.costs, &net.team)
            net.progress.meet[(s + 1) % 2] = net.progress.stop or net.team.wanted != net.team.threads
        meet = not two or net.progress.meet[s % 2] or s + 1 == steps
        if meet:
            team_barrier(&net.team, thread)
            if not team_change(&net.team, thread):
                break
            if thread == 0:
                add_penalty(net, s, end_sparse_step(net, &batch) if is_sparse(net) else 0)
        if meet and net.progress.stop:
            break
        s = net.progress.at if meet else s + 1
    if thread == 0:
        team_over(&net.team)


cdef void gradient_work(void* argument, int thread) noexcept nogil:
    """Loss over all rows as one batch and, where net.call.back, its gradient into g."""
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef int64_t start, run, t
    cdef Task* task
    cdef real* g
    start_batch(net, &batch, thread, False)
    for start from 0 <= start < net.call.rows by net.plan.batch:
        batch.offset = start
        batch.count = min(net.plan.batch, net.call.rows - start)
        batch.side = start // net.plan.batch % 2
        batch.spanned = True
        batch.few = True
        row_phase(net, &batch, net.call.back)
        team_barrier(&net.team, thread)
        if thread == 0:
            net.progress.total += sum_losses(net, batch.count) * inverse_weight(net, &batch)
        for run in range(net.cut.runs if net.call.back else 0):
            for t in range(first_task(net, run, thread), first_task(net, run, thread + 1)):
                task = &net.buffers.task[t]
                g = net.layer[task.layer].g + weights_at(net, task)
                gradient_tile(net, &batch, task, g, start > 0)
        if net.call.back and is_sparse(net):
            sparse_gradient(net, &batch)
        if thread == 0 and is_sparse(net):
            span_rows(net, 1 - batch.side, NULL, start + net.plan.batch,
                      max(<int64_t> 0, min(net.plan.batch, net.call.rows - start - net.plan.batch)))
        if thread == 0:
            look_for_signals(net)
        team_barrier(&net.team, thread)
        if net.progress.stop:
            return
    batch.few = False
    if is_sparse(net):
        penalize_sparse(net, &batch, net.call.back)
    for run in range(net.cut.runs):
        for t in range(first_task(net, run, thread), first_task(net, run, thread + 1)):
            task = &net.buffers.task[t]
            if net.call.back:
                g = net.layer[task.layer].g + weights_at(net, task)
                if net.call.rows == 0:
                    gradient_tile(net, &batch, task, g, False)
                penalize_tile(net, &batch, task, g)
            else:  # only the value is wanted
                penalize_tile(net, &batch, task, own_tile(net, thread, 0))


cdef int64_t take_rows(Net* net, Minibatch* batch) noexcept nogil:
    """Gather the next rows of X into this thread's rows of the buffers; returns how many, 0 at the end.

    On return batch.offset is X's row of row 0 of the buffers.
    """
    cdef int64_t piece, start, first = batch.thread * net.call.room
    if batch.thread == 0:
        look_for_signals(net)
        if net.progress.stop:
            team_finish(&net.team)
    piece = team_next(&net.team)
    if piece >= net.call.pieces:
        return 0
    start = part_of_units(net.call.rows, net.cut.unit, piece, net.call.pieces)
    batch.offset = start - first
    batch.count = part_of_units(net.call.rows, net.cut.unit, piece + 1, net.call.pieces) - start
    take_inputs(net, batch, first, first + batch.count)
    return batch.count


cdef void classify_rows(const vec* T, int64_t outputs, int64_t rows, int64_t* out) noexcept nogil:
    """argmax_j f_j of `rows` ≤ LANES rows, f in T."""
    cdef vec best = T[0], index = splat(0)
    cdef real found[LANES]
    cdef int64_t j, i
    for j in range(1, outputs):
        index = select_beats(T[j], best, splat(<real> j), index)
        best = select_beats(T[j], best, T[j], best)
    store_unaligned(found, index)
    for i in range(rows):
        out[i] = <int64_t> found[i]


cdef void forward_work(void* argument, int thread) noexcept nogil:
    """Outputs f, or predictions, of all rows into net.call.out, or their classes."""
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef int64_t first = thread * net.call.room, outputs = top_layer(net).n_out, r, m, p, last
    cdef vec* T = room_for_outputs(net, thread)
    cdef real* f = top_layer(net).v
    cdef real* out
    start_batch(net, &batch, thread, False)
    while take_rows(net, &batch) > 0:
        last = first + batch.count
        all_layers(net, &batch, first, last)
        if net.call.classes != NULL:
            for r from first <= r < last by LANES:
                m = min(<int64_t> LANES, last - r)
                read_outputs(net, r, m, T)
                classify_rows(T, outputs, m, net.call.classes + batch.offset + r)
            continue
        if net.call.link and net.plan.link_kind != LINK_IDENTITY:
            for r from first <= r < last by LANES:
                m = min(<int64_t> LANES, last - r)
                read_outputs(net, r, m, T)
                apply_link(net.plan.link_kind, T, outputs)
                write_outputs(T, outputs, m, f + r * PANEL, net.buffers.stride * PANEL)
        for r in range(first, last):
            out = net.call.out + (batch.offset + r) * outputs
            for p in range(panels_of(outputs)):
                memcpy(out + p * PANEL, f + (p * net.buffers.stride + r) * PANEL,
                       min(<int64_t> PANEL, outputs - p * PANEL) * sizeof(real))


cdef void jacobian_work(void* argument, int thread) noexcept nogil:
    """∂f/∂x of all rows into net.call.out: δᴸ = eᵢ carried down to the input, output by output."""
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef Layer* top = top_layer(net)
    cdef int64_t first = thread * net.call.room, n_in = net.layer[0].n_in, i, l, r, k
    cdef real* row
    start_batch(net, &batch, thread, False)
    while take_rows(net, &batch) > 0:
        all_layers(net, &batch, first, first + batch.count)
        for i in range(top.n_out):
            for r in range(first, first + batch.count):
                for l in range(panels_of(top.n_out)):
                    memset(top.delta + (l * net.buffers.stride + r) * PANEL, 0, PANEL * sizeof(real))
                top.delta[(i // PANEL * net.buffers.stride + r) * PANEL + i % PANEL] = 1
            back_to(net, &batch, 1 if is_sparse(net) else 0, first, first + batch.count)
            for r in range(first, first + batch.count):
                row = net.call.out + ((batch.offset + r) * top.n_out + i) * n_in
                if is_sparse(net):
                    sparse_down(n_in, sparse_vectors(&net.layer[0]), net.layer[0].w, net.layer[0].delta + r * PANEL,
                                net.buffers.stride * PANEL, row)
                    continue
                for k in range(n_in):
                    row[k] = net.buffers.delta_input[(k // PANEL * net.buffers.stride + r) * PANEL + k % PANEL]


cdef void run_work(void* argument, int thread) noexcept nogil:
    """The call's work on one thread."""
    cdef Net* net = <Net*> argument
    if HALF:
        tiles_on()
    net.call.work(net, thread)
    if HALF:
        tiles_off()
