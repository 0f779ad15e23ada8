# What the threads of a call run: an epoch; loss and gradient; outputs; the Jacobian.


cdef void weigh(Net* net, int64_t step, const int64_t* rows, int64_t count) noexcept nogil:
    """The inverse weight of a minibatch with X's rows rows[0 … count − 1] (NULL: 0 … count − 1), for a step.

    The caller may write to his arrays while they are read here, and what decides whether a step is applied
    must be the same for every thread: so one thread computes it, before the barrier that precedes its use.
    """
    cdef int64_t r
    cdef double total = 0
    if net.weight == NULL:
        total = count
    for r in range(count if net.weight != NULL else 0):
        total += net.weight[rows[r] if rows != NULL else r]
    total = 1 / total if total != 0 else 0
    if net.inverse_weight[step % 2] != total:  # others read what lies beside it
        net.inverse_weight[step % 2] = total


cdef void weigh_minibatch(Net* net, int64_t s) noexcept nogil:
    """The same for minibatch s of an epoch, if there is one."""
    cdef int64_t first = s * net.batch
    if first < net.rows:
        weigh(net, net.step + s, net.order + first, min(net.batch, net.rows - first))


cdef double sum_losses(Net* net, int64_t count) noexcept nogil:
    """Sum of the rows' weighted losses, in the order of the rows."""
    cdef int64_t r
    cdef double total = 0
    for r in range(count):
        total += net.row_loss[r]
    return total


cdef double sum_penalties(Net* net, int64_t step) noexcept nogil:
    cdef int64_t t
    cdef double total = 0
    if no_penalty(net):
        return 0
    for t in range(net.tasks):
        total += net.penalty[step % 2][t]
    return total


cdef real step_size(const Net* net, int64_t step, double learning_rate) noexcept nogil:
    """η of the update's formula; for Adam η √(1 − β₂ᵗ) / (1 − β₁ᵗ)."""
    if net.optimizer.kind != ADAM:
        return <real> learning_rate
    return <real> (learning_rate * sqrt(1 - pow(net.beta_2, step)) / (1 - pow(net.beta_1, step)))


cdef bint signal_pending() noexcept with gil:
    """Whether a signal's handler raised (KeyboardInterrupt); the exception stays set."""
    return PyErr_CheckSignals() != 0


cdef void look_for_signals(Net* net) noexcept nogil:
    """For thread 0, which is Python's: net.stop where a handler raised. Mostly just a look at the clock."""
    cdef double now = seconds_now()
    if not net.stop and now >= net.next_look:
        net.next_look = now + SIGNAL_SECONDS
        if HALF:  # a handler may leave the tiles otherwise
            tiles_off()
        net.stop = signal_pending()
        if HALF:
            tiles_on()


cdef void take_minibatch(Net* net, Minibatch* batch, int64_t s, int64_t steps) noexcept nogil:
    """Minibatch s of an epoch of so many steps."""
    batch.rows = net.order + s * net.batch
    batch.count = min(net.batch, net.rows - s * net.batch)
    batch.begun = net.online and s > 0
    batch.next_row = batch.rows[1 if s + 1 < steps else 0]
    batch.step = net.step + s
    batch.learning_rate = net.learning_rates[s]
    batch.eta = step_size(net, batch.step + 1, batch.learning_rate)


cdef void add_penalty(Net* net, int64_t s) noexcept nogil:
    """To the loss of step s of the epoch. Every thread has taken that step, and none the next but one."""
    cdef double penalty = sum_penalties(net, net.step + s)
    net.losses[s] += penalty
    if net.penalties != NULL:
        net.penalties[s] = penalty


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
    cdef int64_t s = 0, steps = (net.rows + net.batch - 1) // net.batch
    cdef double loss
    cdef bint two, meet = True
    batch.training = True
    batch.offset = 0
    if thread == 0:
        net.meet[0] = False
    while s < steps:
        take_minibatch(net, &batch, s, steps)
        two = net.two_barriers and cut_by_columns(net, batch.count)
        row_phase(net, &batch, thread, True)
        start_fetching(net, &batch, thread, (s + (2 if net.online else 1)) * net.batch)
        if not two:
            team_barrier(&net.team, thread)
        if thread == 0 and not meet:
            add_penalty(net, s - 1)
        loss = sum_losses(net, batch.count) * inverse_weight(net, &batch)
        if not isfinite(loss):  # every thread finds the same
            if thread == 0:
                net.losses[s] = loss
            break
        update_phase(net, &batch, thread)
        if thread == 0:
            net.losses[s] = loss
            net.done = s + 1
            net.at = s + 1
            weigh_minibatch(net, s + 1)
            if s % net.steps_unchecked == 0:
                look_for_signals(net)
            set_pace(&net.pace, &net.team)
            net.meet[(s + 1) % 2] = net.stop or net.team.wanted != net.team.threads
        meet = not two or net.meet[s % 2] or s + 1 == steps
        if meet:
            team_barrier(&net.team, thread)
            if not team_change(&net.team, thread):
                break
            if thread == 0:
                add_penalty(net, s)
        if meet and net.stop:
            break
        s = net.at if meet else s + 1
    if thread == 0:
        team_over(&net.team)


cdef void gradient_work(void* argument, int thread) noexcept nogil:
    """Loss over all rows as one batch and, where net.back, its gradient into g."""
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef int64_t start, run, t
    cdef Task* task
    cdef real* g
    batch.training = False
    batch.begun = False
    batch.step = 0
    batch.eta = 0
    batch.v_in = net.layer[0].v_in
    batch.stride = net.stride
    batch.rows = NULL
    batch.offset = 0
    batch.count = 0
    for start from 0 <= start < net.rows by net.batch:
        batch.offset = start
        batch.count = min(net.batch, net.rows - start)
        row_phase(net, &batch, thread, net.back)
        team_barrier(&net.team, thread)
        if thread == 0:
            net.total += sum_losses(net, batch.count) * inverse_weight(net, &batch)
        for run in range(net.runs if net.back else 0):
            for t in range(first_task(net, run, thread), first_task(net, run, thread + 1)):
                task = &net.task[t]
                g = net.layer[task.layer].g + weights_at(net, task)
                gradient_tile(net, &batch, task, g, start > 0, NULL)
        if thread == 0:
            look_for_signals(net)
        team_barrier(&net.team, thread)
        if net.stop:
            return
    for run in range(net.runs):
        for t in range(first_task(net, run, thread), first_task(net, run, thread + 1)):
            task = &net.task[t]
            if net.back:
                g = net.layer[task.layer].g + weights_at(net, task)
                if net.rows == 0:
                    gradient_tile(net, &batch, task, g, False, NULL)
                penalize_tile(net, &batch, task, g)
            else:  # only the value is wanted
                penalize_tile(net, &batch, task, net.tile + thread * PANEL * PANEL)


cdef int64_t take_rows(Net* net, int thread, Minibatch* batch) noexcept nogil:
    """Gather the next rows of X into this thread's rows of the buffers; returns how many, 0 at the end.

    On return batch.offset is X's row of row 0 of the buffers.
    """
    cdef int64_t start, first = thread * net.block
    if thread == 0:
        look_for_signals(net)
        if net.stop:
            team_finish(&net.team)
    start = team_next(&net.team)
    if start >= (net.rows + net.block - 1) // net.block:
        return 0
    start *= net.block
    batch.rows = NULL
    batch.v_in = net.layer[0].v_in
    batch.stride = net.stride
    batch.offset = start - first
    batch.count = min(net.block, net.rows - start)
    take_inputs(net, batch, thread, first, first + batch.count)
    return batch.count


cdef void forward_work(void* argument, int thread) noexcept nogil:
    """Outputs f, or predictions, of all rows into net.out."""
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef int64_t first = thread * net.block, outputs = net.layer[net.layers - 1].n_out, l, r, m, p, last
    cdef vec* T = net.outputs + thread * 2 * outputs
    cdef real* f = net.layer[net.layers - 1].v
    cdef real* out
    batch.training = False
    batch.begun = False
    batch.step = 0
    while take_rows(net, thread, &batch) > 0:
        last = first + batch.count
        for l in range(net.layers):
            forward_layer(net, &batch, thread, l, first, last, 0, panels_of(net.layer[l].n_out))
        if net.link and net.link_kind != LINK_IDENTITY:
            for r from first <= r < last by LANES:
                m = min(<int64_t> LANES, last - r)
                read_outputs(net, r, m, T)
                apply_link(net.link_kind, T, outputs)
                write_outputs(T, outputs, m, f + r * PANEL, net.stride * PANEL)
        for r in range(first, last):
            out = net.out + (batch.offset + r) * outputs
            for p in range(panels_of(outputs)):
                memcpy(out + p * PANEL, f + (p * net.stride + r) * PANEL,
                       min(<int64_t> PANEL, outputs - p * PANEL) * sizeof(real))


cdef void jacobian_work(void* argument, int thread) noexcept nogil:
    """∂f/∂x of all rows into net.out: δᴸ = eᵢ carried down to the input, output by output."""
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef Layer* top = &net.layer[net.layers - 1]
    cdef int64_t first = thread * net.block, n_in = net.layer[0].n_in, i, l, r, k
    cdef real* row
    batch.training = False
    batch.begun = False
    batch.step = 0
    while take_rows(net, thread, &batch) > 0:
        for l in range(net.layers):
            forward_layer(net, &batch, thread, l, first, first + batch.count, 0, panels_of(net.layer[l].n_out))
        for i in range(top.n_out):
            for r in range(first, first + batch.count):
                for l in range(panels_of(top.n_out)):
                    memset(top.delta + (l * net.stride + r) * PANEL, 0, PANEL * sizeof(real))
                top.delta[(i // PANEL * net.stride + r) * PANEL + i % PANEL] = 1
            if HALF:
                write_output_deltas(net, first, first + batch.count)
            for l in range(net.layers - 1, -1, -1):
                backward_layer(net, &batch, thread, l, first, first + batch.count, 0, panels_of(net.layer[l].n_in))
            for r in range(first, first + batch.count):
                row = net.out + ((batch.offset + r) * top.n_out + i) * n_in
                for k in range(n_in):
                    row[k] = net.delta_input[(k // PANEL * net.stride + r) * PANEL + k % PANEL]


cdef void run_work(void* argument, int thread) noexcept nogil:
    """The call's work on one thread."""
    cdef Net* net = <Net*> argument
    if HALF:
        tiles_on()
    net.work(net, thread)
    if HALF:
        tiles_off()
