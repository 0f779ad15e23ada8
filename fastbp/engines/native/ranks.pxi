# An epoch that ranks (processes, as a rule of many machines) share: each has some rows of phase 1 and some tiles of
# phase 2, and what they exchange between goes through messages that the caller carries (fastbp/distributed/).
#
#   rows      vˡ⁻¹, δˡ and loss of this rank's rows            → all ranks have those of all rows
#   update    gradient, penalty, update of this rank's tiles
#   finish    this rank's tiles of w                           → all ranks have all weights
#
# With clipping `update` ends with the squares of the tiles, which all need, and `clip` goes on. All sums are taken in the
# order of a single process: rows, tasks and their parts are the same, whoever has them. A Sparse first stage shares
# phase 1 only; its columns are updated by every rank.
#
# Where a gradient is the sum of shards of the rows (choose_shards) and each rank has as many of them, v and δ stay:
#
#   rows      gradient of all tiles over this rank's shards, loss of its rows     → all ranks have those of its tiles
#   update    the sum over the ranks, penalty, update of this rank's tiles
#   finish    as above


cdef enum:
    HEADER = 8  # bytes before a rank's rows: its status


cdef inline int64_t first_exchanged(const Net* net) noexcept nogil:
    """The first layer whose inputs are exchanged; those of the lowest every rank may gather."""
    return 0 if net.shared.inputs else 1


cdef inline int64_t grain() noexcept nogil:
    """Rows that are copied together: bf16 operands hold them in chunks."""
    return PANEL if HALF else 1


cdef int64_t row_bytes(const Net* net) noexcept nogil:
    """Of a row in a message."""
    cdef int64_t l, bytes = sizeof(double), size
    for l in range(net.plan.layers if not net.shared.by_gradients else 0):
        size = PANEL * <int64_t> (sizeof(operand) if rounds(&net.layer[l]) else sizeof(real))
        if l >= first_exchanged(net):
            bytes += size * panels_of(net.layer[l].n_in + (l == 0 or rounds(&net.layer[l])))
        bytes += size * panels_of(net.layer[l].n_out)
    return bytes


cdef inline char* copy(char* message, void* there, int64_t bytes, bint out) noexcept nogil:
    """So many bytes to the message, or with `out` from there; returns where it goes on."""
    if out:
        memcpy(there, message, bytes)
    else:
        memcpy(message, there, bytes)
    return message + bytes


cdef inline char* copy_panels(char* message, real* start, int64_t panels, int64_t apart, bint out) noexcept nogil:
    """A grain of rows of so many panels, likewise."""
    cdef int64_t p
    for p in range(panels):
        message = copy(message, start + p * apart, grain() * PANEL * sizeof(real), out)
    return message


cdef inline char* copy_operands(char* message, const Net* net, int64_t l, int64_t r, bint out) noexcept nogil:
    """A chunk, from row r on, of what the weight gradient of a layer that rounds reads, likewise."""
    cdef Layer* layer = &net.layer[l]
    cdef int64_t chunk = PANEL * PANEL, features = panels_of(layer.n_in + 1), p
    if l >= first_exchanged(net):
        message = copy(message, layer.v_columns + r * features * PANEL, features * chunk * sizeof(operand), out)
    for p in range(panels_of(layer.n_out)):
        message = copy(message, layer.d_pairs + (p * (net.buffers.stride - 1) + r) * PANEL, chunk * sizeof(operand), out)
    return message


cdef void copy_rows(Net* net, int rank, int64_t first, int64_t last, bint out) noexcept nogil:
    """Rows first … last − 1, which are the rank's, to the message, or from there."""
    cdef int64_t r, l, apart = net.buffers.stride * PANEL, bytes = row_bytes(net)
    cdef char* at
    cdef Layer* layer
    for r from first <= r < last by grain():
        at = net.shared.rows + (rank + 1) * HEADER + r * bytes
        copy(at, &net.buffers.row_loss[r], min(grain(), last - r) * sizeof(double), out)
        at += grain() * sizeof(double)
        for l in range(net.plan.layers if not net.shared.by_gradients else 0):
            layer = &net.layer[l]
            if rounds(layer):
                at = copy_operands(at, net, l, r, out)
                continue
            if l >= first_exchanged(net):
                at = copy_panels(at, layer.v_in + r * PANEL, panels_of(layer.n_in + (l == 0)), apart, out)
            at = copy_panels(at, layer.delta + r * PANEL, panels_of(layer.n_out), apart, out)


cdef void copy_tile(Net* net, const Task* task, real* of_layer, char* message, bint out) noexcept nogil:
    """The task's tile of w or of what lies as it does, or from there."""
    copy(message, of_layer + weights_at(net, task), task.inputs * PANEL * sizeof(real), out)


cdef inline int64_t task_at(const Net* net, int64_t low, int64_t high, int64_t piece, int64_t pieces) noexcept nogil:
    """Tasks low … high − 1 cut into pieces of nearly the same work: the first of one of them."""
    cdef const int64_t* cost = net.buffers.task_cost
    cdef int64_t goal = cost[low] + part(cost[high] - cost[low], piece, pieces), middle, end = high
    if piece == pieces:
        return end
    while low < high:
        middle = (low + high) // 2
        if cost[middle] < goal:
            low = middle + 1
        else:
            high = middle
    return low


cdef void start_shared(Net* net, Minibatch* batch, int thread) noexcept nogil:
    start_batch(net, batch, thread, True)
    take_minibatch(net, batch, net.shared.s, net.shared.steps)
    batch.begun = False
    batch.summed = net.shared.by_gradients


cdef void weigh_shared(Net* net) noexcept nogil:
    """The inverse weight of the step's minibatch, of whose rows this rank may have some only."""
    cdef int64_t r, first = net.shared.s * net.plan.batch
    cdef double total = 0
    if net.shared.weights == NULL:
        weigh_minibatch(net, net.shared.s)
        return
    for r in range(first, min(net.call.rows, first + net.plan.batch)):
        total += net.shared.weights[r]
    net.progress.inverse_weight[(net.step + net.shared.s) % 2] = 1 / total if total != 0 else 0


cdef inline int64_t tile_at(const Net* net, const Task* task) noexcept nogil:
    """Where a message of all ranks' tiles has the task's."""
    return net.shared.at[task - net.buffers.task] + <int64_t> sizeof(double)


cdef void sum_own_shards(Net* net, const Minibatch* batch) noexcept nogil:
    """The gradient of all tiles over this rank's shards, to the message."""
    cdef int64_t each = net.cut.shards // net.shared.ranks, t
    cdef int thread = batch.thread, threads = net.team.threads
    cdef Task* task
    for t in range(task_at(net, 0, net.cut.tasks, thread, threads),
                   task_at(net, 0, net.cut.tasks, thread + 1, threads)):
        task = &net.buffers.task[t]
        sum_shards(net, batch, task, net.shared.rank * each, (net.shared.rank + 1) * each, own_tile(net, thread, 0))
        copy(net.shared.sums + tile_at(net, task), own_tile(net, thread, 0), task.inputs * PANEL * sizeof(real), False)


cdef void sum_ranks(const Net* net, const Task* task, real* g) noexcept nogil:
    """g = the sum of all ranks' gradients of the tile, which is this rank's, in pairs, pairs of pairs and so on."""
    cdef int64_t first = net.shared.at[net.shared.tasks[net.shared.rank]], q, pair = 1
    cdef int64_t bytes = net.shared.at[net.shared.tasks[net.shared.rank + 1]] - first
    cdef char* tile = net.shared.sums_of_mine + tile_at(net, task) - first
    while pair < net.shared.ranks:
        for q from 0 <= q < net.shared.ranks by 2 * pair:
            add_tile(task, <real*> (tile + q * bytes), <const real*> (tile + (q + pair) * bytes))
        pair *= 2
    memcpy(g, tile, task.inputs * PANEL * sizeof(real))


cdef void shared_rows(void* argument, int thread) noexcept nogil:
    """Phase 1 of this rank's rows, and v⁰ of the others."""
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef int threads = net.team.threads
    cdef int64_t first = net.shared.bounds[net.shared.rank], last = net.shared.bounds[net.shared.rank + 1]
    cdef int64_t b, r0, r1, blocks
    start_shared(net, &batch, thread)
    if is_sparse(net):
        sparse_take(net, &batch, part_of_rows(batch.count, thread, threads),
                    part_of_rows(batch.count, thread + 1, threads))
    if not (net.shared.inputs or net.shared.by_gradients):
        take_inputs(net, &batch, part_of_rows(first, thread, threads), part_of_rows(first, thread + 1, threads))
        take_inputs(net, &batch, last + part_of_rows(batch.count - last, thread, threads),
                    last + part_of_rows(batch.count - last, thread + 1, threads))
    r0 = first + part_of_rows(last - first, thread, threads)
    last = first + part_of_rows(last - first, thread + 1, threads)
    first = r0
    blocks = (last - first + net.cut.block - 1) // net.cut.block
    for b in range(blocks):
        r0 = first + part_of_rows(last - first, b, blocks)
        r1 = first + part_of_rows(last - first, b + 1, blocks)
        take_inputs(net, &batch, r0, r1)
        all_layers(net, &batch, r0, r1)
        loss_rows(net, &batch, r0, r1, room_for_outputs(net, thread))
        back_to(net, &batch, 1, r0, r1)
        copy_rows(net, net.shared.rank, r0, r1, False)
    if net.shared.by_gradients:
        team_barrier(&net.team, thread)
        sum_own_shards(net, &batch)


cdef void shared_update(void* argument, int thread) noexcept nogil:
    """Phase 2 of this rank's tiles; with clipping as far as their squares."""
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef Task* task
    cdef int threads = net.team.threads, q
    cdef int64_t t, first, rows, low = net.shared.tasks[net.shared.rank], high = net.shared.tasks[net.shared.rank + 1]
    cdef double loss
    start_shared(net, &batch, thread)
    for q in range(net.shared.ranks):
        if q != net.shared.rank:
            first = net.shared.bounds[q]
            rows = net.shared.bounds[q + 1] - first
            copy_rows(net, q, first + part_of_rows(rows, thread, threads), first + part_of_rows(rows, thread + 1, threads),
                      True)
    team_barrier(&net.team, thread)
    loss = sum_losses(net, batch.count) * inverse_weight(net, &batch)
    if thread == 0:
        net.call.losses[net.shared.s] = loss
    if not isfinite(loss):  # every thread of every rank finds the same
        return
    for t in range(task_at(net, low, high, thread, threads), task_at(net, low, high, thread + 1, threads)):
        task = &net.buffers.task[t]
        if net.plan.clip_norm > 0:
            measure_task(net, &batch, task)
            net.shared.squares[t] = task.squares
        else:
            take_task(net, &batch, task)
            give_tile(net, t)
    if is_sparse(net):
        sparse_share(net, &batch, 1, net.plan.clip_norm > 0)


cdef inline void give_tile(Net* net, int64_t t) noexcept nogil:
    """The task's tile of w and its penalty to the message."""
    cdef Task* task = &net.buffers.task[t]
    memcpy(net.shared.tiles + net.shared.at[t], penalty_of(net, net.step + net.shared.s, task), sizeof(double))
    copy_tile(net, task, net.layer[task.layer].w, net.shared.tiles + tile_at(net, task), False)


cdef void shared_clip(void* argument, int thread) noexcept nogil:
    """The rest of phase 2 where there is clipping."""
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef int threads = net.team.threads
    cdef int64_t t, low = net.shared.tasks[net.shared.rank], high = net.shared.tasks[net.shared.rank + 1]
    cdef double squares = 0
    start_shared(net, &batch, thread)
    for t in range(net.cut.tasks):
        squares += net.shared.squares[t]
    if is_sparse(net):
        squares += sum_blocks(net.sparse.squares, blocks_of(net, &batch))
    batch.norm = sqrt(squares)
    for t in range(task_at(net, low, high, thread, threads), task_at(net, low, high, thread + 1, threads)):
        clip_task(net, &batch, &net.buffers.task[t])
        give_tile(net, t)
    if is_sparse(net):
        sparse_share(net, &batch, kept_of_norm(net, &batch), False)


cdef void shared_finish(void* argument, int thread) noexcept nogil:
    """The other ranks' tiles from the message."""
    cdef Net* net = <Net*> argument
    cdef Task* task
    cdef int threads = net.team.threads
    cdef int64_t t
    for t in range(task_at(net, 0, net.cut.tasks, thread, threads),
                   task_at(net, 0, net.cut.tasks, thread + 1, threads)):
        if net.shared.tasks[net.shared.rank] <= t < net.shared.tasks[net.shared.rank + 1]:
            continue
        task = &net.buffers.task[t]
        memcpy(penalty_of(net, net.step + net.shared.s, task), net.shared.tiles + net.shared.at[t], sizeof(double))
        copy_tile(net, task, net.layer[task.layer].w, net.shared.tiles + tile_at(net, task), True)
        mirror_tile(net, task.layer, task.j, task.k, task.layer > 0)


cdef enum:  # what a SharedEpoch has done last
    NOTHING, ROWS, UPDATE, CLIP


cdef class SharedEpoch:
    """An epoch of `Engine.epoch` that `ranks` ranks share, of which this is one.

    The engine is in use until `end`. Messages are arrays of bytes, all ranks' parts one after the other; those of
    other ranks are to be there when the next call comes.

    Attributes
    ----------
    row_bytes : int
        A rank's part of `rows_message`: 8 bytes of its status, then so many for each of its rows.
    tile_starts : ndarray of int64
        Where each rank's part of `tiles_message` begins, and the end.
    task_starts : ndarray of int64
        The same of `squares`, one float64 for each tile.
    sums : ndarray of bytes or None
        Before `update` a rank needs what all have in here at its part of `tile_starts`, rank after rank in
        `sums_of_mine`. None: it does not.
    """

    cdef Engine engine
    cdef Taken taken
    cdef Held held
    cdef int threads, state
    cdef const int64_t[::1] _order, _bounds
    cdef const double[::1] _rates, _dropouts, _decays
    cdef double[::1] _losses, _penalties, _squares
    cdef const real[::1] _weight, _weights
    cdef int64_t[::1] _tasks, _at
    cdef unsigned char[::1] _rows, _tiles, _sums, _sums_of_mine
    cdef object _y
    cdef readonly object rows_message, tiles_message, tile_starts, task_starts, squares, sums, sums_of_mine
    cdef readonly int64_t row_bytes

    def __init__(self, Engine engine, X, y, const real[::1] sample_weight, const int64_t[::1] order,
                 const double[::1] learning_rates, double[::1] losses, double[::1] penalties,
                 const double[::1] dropouts=None, const double[::1] decays=None, *,
                 int rank, int ranks, bint inputs, const real[::1] weights=None):
        """As `Engine.epoch`. inputs: other ranks' rows are not in X, where `order` is of this rank's only and
        `weights` has all rows' in their order, if there are any."""
        cdef Net* net = &engine.net
        cdef int64_t t, q, bytes = 0
        if not engine.can_share:
            raise ValueError("ranks cannot share the steps of this engine")
        if not 0 <= rank < ranks:
            raise ValueError(f"rank must be one of {ranks}, got {rank}")
        if HALF and inputs:
            raise ValueError("inputs are not exchanged in bf16")
        self.engine = engine
        self.taken = engine._take()
        self.held = engine._set_epoch(X, y, sample_weight, order, learning_rates, losses, penalties, dropouts, decays)
        self._y, self._weight, self._order, self._rates = y, sample_weight, order, learning_rates
        self._losses, self._penalties, self._dropouts, self._decays = losses, penalties, dropouts, decays
        self._weights = weights
        if weights is not None and weights.shape[0] != order.shape[0]:
            refuse_shape("weights", weights, f"({order.shape[0]},), as many as order")
        net.shared.rank = rank
        net.shared.ranks = ranks
        net.shared.steps = (order.shape[0] + net.plan.batch - 1) // net.plan.batch
        net.shared.inputs = inputs
        net.shared.by_gradients = ranks > 1 and net.cut.shards % ranks == 0 and not inputs
        net.shared.weights = &weights[0] if weights is not None else NULL
        self.row_bytes = row_bytes(net)
        self.rows_message = np.zeros(
            ranks * HEADER + self.row_bytes * ((net.plan.batch + grain() - 1) // grain() * grain()), np.uint8)
        self.task_starts = np.array([task_at(net, 0, net.cut.tasks, q, ranks) for q in range(ranks + 1)], np.int64)
        at = np.zeros(net.cut.tasks + 1, np.int64)
        self._at = at
        for t in range(net.cut.tasks):
            bytes += sizeof(double) + net.buffers.task[t].inputs * PANEL * <int64_t> sizeof(real)
            self._at[t + 1] = bytes
        self.tile_starts = at[self.task_starts]
        self.tiles_message = np.zeros(bytes, np.uint8)
        self.squares = np.zeros(net.cut.tasks, np.float64)
        self._tasks, self._rows, self._tiles, self._squares = (
            self.task_starts, self.rows_message, self.tiles_message, self.squares)
        net.shared.tasks = &self._tasks[0]
        net.shared.at = &self._at[0]
        net.shared.rows = <char*> &self._rows[0]
        net.shared.tiles = <char*> &self._tiles[0]
        net.shared.squares = &self._squares[0]
        if net.shared.by_gradients:
            self.sums = np.zeros(bytes, np.uint8)
            self.sums_of_mine = np.zeros(ranks * (self.tile_starts[rank + 1] - self.tile_starts[rank]), np.uint8)
            self._sums, self._sums_of_mine = self.sums, self.sums_of_mine
            net.shared.sums = <char*> &self._sums[0]
            net.shared.sums_of_mine = <char*> &self._sums_of_mine[0] if self._sums_of_mine.shape[0] > 0 else NULL
        net.progress.done = 0
        engine._need_entries(net.call.order)
        self.threads = worthwhile(net, net.shared.steps, step_flops(net, True) // ranks)
        with nogil:
            if is_sparse(net):
                start_sparse_epoch(net)

    cdef int _go_on(self, int state, int then) except -1:
        """To the next part of a step, if it is the turn of that: the parts before have left what it reads."""
        if self.taken is None or self.state != state:
            raise RuntimeError("the parts of a step come in the order of rows, update, clip, finish, and then end")
        self.state = then
        return 0

    def row_starts(self, bounds):
        """Where each rank's part of `rows_message` begins, and the end, with its rows of a minibatch as in `rows`."""
        return HEADER * np.arange(len(bounds)) + self.row_bytes * (-(-bounds // grain()) * grain())

    def rows(self, int64_t s, const int64_t[::1] bounds):
        """Phase 1 of step s, in which rank q has the minibatch's rows bounds[q] … bounds[q + 1] − 1."""
        cdef Net* net = &self.engine.net
        cdef int64_t q, count
        if not 0 <= s < net.shared.steps:
            raise ValueError(f"s must be a step of {net.shared.steps}, got {s}")
        count = min(net.plan.batch, net.call.rows - s * net.plan.batch)
        if (bounds.shape[0] != net.shared.ranks + 1 or bounds[0] != 0 or bounds[net.shared.ranks] != count
                or (np.diff(bounds) < 0).any()):
            raise ValueError(f"bounds must go from 0 to {count} in {net.shared.ranks} parts, got {list(bounds)}")
        for q in range(net.shared.ranks):
            if (bounds[q] % grain() != 0 and bounds[q] != count
                    or net.shared.by_gradients and bounds[q] != part_of_rows(count, q, net.shared.ranks)):
                raise ValueError(f"a rank's rows begin with a shard or a chunk of {grain()} rows, got {list(bounds)}")
        self._go_on(NOTHING, ROWS)
        self._bounds = bounds
        net.shared.bounds = &self._bounds[0]
        net.shared.s = s
        with nogil:
            weigh_shared(net)
            self.engine._run(shared_rows, self.threads, True)

    def update(self):
        """Phase 2; returns whether the loss is finite. If not, nothing was updated, and the epoch is over."""
        self._go_on(ROWS, UPDATE)
        with nogil:
            self.engine._run(shared_update, self.threads, True)
        return bool(isfinite(self._losses[self.engine.net.shared.s]))

    def clip(self):
        """The rest of it, with clipping."""
        self._go_on(UPDATE, CLIP)
        with nogil:
            self.engine._run(shared_clip, self.threads, True)

    def finish(self):
        """Take the other ranks' tiles: the step is done."""
        cdef Net* net = &self.engine.net
        cdef Minibatch batch
        self._go_on(CLIP if net.plan.clip_norm > 0 else UPDATE, NOTHING)
        with nogil:
            self.engine._run(shared_finish, self.threads, True)
            start_shared(net, &batch, 0)
            add_penalty(net, net.shared.s, end_sparse_step(net, &batch) if is_sparse(net) else 0)
        net.progress.done = net.shared.s + 1

    def give_slot(self, int slot):
        """This rank's tiles of one of the optimizer's arrays to `tiles_message`."""
        cdef Net* net = &self.engine.net
        cdef int64_t t
        self._check_slot(slot)
        for t in range(self._tasks[net.shared.rank], self._tasks[net.shared.rank + 1]):
            copy_tile(net, &net.buffers.task[t], net.layer[net.buffers.task[t].layer].slot[slot],
                      net.shared.tiles + self._at[t] + sizeof(double), False)

    def take_slot(self, int slot):
        """And all ranks' from there."""
        cdef Net* net = &self.engine.net
        cdef int64_t t
        self._check_slot(slot)
        for t in range(net.cut.tasks):
            copy_tile(net, &net.buffers.task[t], net.layer[net.buffers.task[t].layer].slot[slot],
                      net.shared.tiles + self._at[t] + sizeof(double), True)

    cdef int _check_slot(self, int slot) except -1:
        if self.taken is None or not 0 <= slot < self.engine.net.plan.optimizer.slots:
            raise ValueError(f"there is no slot {slot} of the optimizer, or the epoch has ended")
        return 0

    def end(self):
        """After the last step, or one that was begun and not updated; returns how many were applied."""
        cdef Net* net = &self.engine.net
        if self.taken is None:
            raise RuntimeError("the epoch has ended")
        with nogil:
            if is_sparse(net):
                end_sparse_epoch(net)
        net.step += net.progress.done
        self.taken = None
        return net.progress.done
