# An engine's blocks of memory, and the cut of a net's work into tasks.


ctypedef struct Block:
    char* start
    int64_t bytes


cdef int fill(Block* block, int64_t bytes, str what) except -1:
    """Zeros into an empty block; `what` needs them."""
    block.start = <char*> allocate(bytes)
    if block.start == NULL:
        raise MemoryError(f"{what} needs {bytes:,} bytes")
    block.bytes = bytes
    return 0


cdef void empty(Block* block) noexcept nogil:
    release(block.start, block.bytes)
    block.start = NULL
    block.bytes = 0


cdef inline void* take(char* base, int64_t* used, int64_t bytes) noexcept nogil:
    """The next `bytes` of the block at base, aligned to a vector (and to a cache line)."""
    cdef void* p = base + used[0] if base != NULL else NULL
    used[0] += (bytes + 63) // 64 * 64
    return p


cdef int64_t lay_out(Net* net, char* base) noexcept nogil:
    """Point all that does not hang on rows into the block at base; returns the block's size. With NULL it
    only counts."""
    cdef int64_t used = 0, l, panel = PANEL * sizeof(real), s
    cdef Layer* layer
    if net.inputs_owned:
        net.own_inputs = <real*> take(base, &used, net.threads * own_size(net) * sizeof(real))
    if net.online:
        net.zeros = <real*> take(base, &used, net.layer[0].n_in * sizeof(real))
    for l in range(net.layers):
        layer = &net.layer[l]
        layer.w = <real*> take(base, &used, panels_of(layer.n_out) * layer.rows * panel)
        if HALF:
            layer.w_pairs = <operand*> take(base, &used, panels_of(layer.n_out) * pair_rows(layer.n_in) * panel // 2)
            if l > 0:
                layer.wt_pairs = <operand*> take(base, &used,
                                                 panels_of(layer.n_in) * pair_rows(layer.n_out) * panel // 2)
        elif l > 0 and layer.kind == DENSE:
            layer.wt = <real*> take(base, &used, panels_of(layer.n_in) * layer.n_out * panel)
        for s in range(net.optimizer.slots):
            layer.slot[s] = <real*> take(base, &used, panels_of(layer.n_out) * layer.rows * panel)
        if net.clip_norm > 0:
            layer.g = <real*> take(base, &used, panels_of(layer.n_out) * layer.rows * panel)
    net.task = <Task*> take(base, &used, net.tasks * sizeof(Task))
    net.task_cost = <int64_t*> take(base, &used, (net.tasks + 1) * sizeof(int64_t))
    net.team.seat = <Seat*> take(base, &used, net.threads * sizeof(Seat))
    for s in range(2):
        net.penalty[s] = <double*> take(base, &used, net.tasks * sizeof(double))
    net.outputs = <vec*> take(base, &used, net.threads * 2 * net.layer[net.layers - 1].n_out * sizeof(vec))
    net.tile = <real*> take(base, &used, net.threads * PANEL * panel)
    if HALF:
        net.panel = <real*> take(base, &used, net.threads * HALF_BLOCK * panel)
    return used


cdef int64_t lay_out_rows(Net* net, int64_t stride, bint inputs, char* base) noexcept nogil:
    """The same for what hangs on rows, with panels of `stride` rows; inputs: ∂f/∂x too."""
    cdef int64_t used = 0, l, panel = PANEL * sizeof(real)
    cdef Layer* layer
    cdef real* v = NULL
    if not HALF:
        v = <real*> take(base, &used, panels_of(net.layer[0].n_in + 1) * stride * panel)
    if net.two_barriers:
        net.parts = <real*> take(base, &used, panels_of(net.layer[0].n_out) * stride * panel)
    for l in range(net.layers):
        layer = &net.layer[l]
        layer.v_in = v
        if HALF:
            lay_out_operands(layer, stride, base, &used)
        if not HALF or l == net.layers - 1:
            v = <real*> take(base, &used, panels_of(layer.n_out + 1) * stride * panel)
            layer.v = v
            layer.delta = v
        if l < net.layers - 1:
            if not HALF:
                layer.delta = <real*> take(base, &used, panels_of(layer.n_out) * stride * panel)
            if layer.activation >= SILU or layer.dropout > 0 or (HALF and kept_slope(layer.activation)):
                layer.slope = <real*> take(base, &used, panels_of(layer.n_out) * stride * panel)
    net.row_loss = <double*> take(base, &used, stride * sizeof(double))
    if inputs:
        net.delta_input = <real*> take(base, &used, panels_of(net.layer[0].n_in) * stride * panel)
    return used


cdef int make_rows(Net* net, Block* block, int64_t rows, bint inputs) except -1:
    """Room in the block for so many rows at least, and with inputs for ∂f/∂x; what was in it is lost."""
    cdef Block new
    cdef int64_t l, stride, bytes
    if rows <= net.rows_most and (net.with_inputs or not inputs):
        return 0
    rows = max(rows, net.rows_most)
    inputs = inputs or net.with_inputs
    # An odd number of rows keeps panels apart in the cache's sets.
    stride = (rows + PANEL - 1) // PANEL * PANEL + 1 if HALF else rows | 1
    bytes = lay_out_rows(net, stride, inputs, NULL)
    try:
        fill(&new, bytes, f"an engine for {rows:,} rows at a time")
    except MemoryError:  # what there was stays
        lay_out_rows(net, net.stride, net.with_inputs, block.start)
        raise
    empty(block)
    block[0] = new
    net.rows_most = rows
    net.stride = stride
    net.with_inputs = inputs
    lay_out_rows(net, stride, inputs, block.start)
    for l in range(net.layers):
        set_ones(net, l)
    return 0


cdef void lay_out_operands(Layer* layer, int64_t stride, char* base, int64_t* used) noexcept nogil:
    """The same for a layer's bf16 operands."""
    cdef int64_t panel = PANEL * sizeof(operand), inputs = panels_of(layer.n_in + 1), outputs = panels_of(layer.n_out)
    layer.v_rows = <operand*> take(base, used, inputs * stride * panel)
    layer.v_columns = <operand*> take(base, used, inputs * (stride - 1) * panel)
    layer.d_rows = <operand*> take(base, used, outputs * stride * panel)
    layer.d_pairs = <operand*> take(base, used, outputs * (stride - 1) * panel)


cdef bint columns_divide(layer_sizes, int64_t threads):
    """Whether the widest share of all layers' panels is at most a quarter more than an even one."""
    panels = [(panels_of(n), m + 1) for m, n in zip(layer_sizes, layer_sizes[1:])]
    widest = sum((p + threads - 1) // threads * inputs for p, inputs in panels)
    return 4 * threads * widest <= 5 * sum(p * inputs for p, inputs in panels)


cdef void cut_tasks(Net* net) noexcept nogil:
    """The list of weight-gradient tiles and their cumulative cost.

    With a long minibatch four output panels share an input panel before the next is read: the δ panels
    stay in the L2 cache. With a short one a thread has the tiles of the panels that it reads where phase 1
    is cut by columns: its share of the weights stays in its caches. So it must where two barriers are to be
    enough. With clipping the tasks' order is that of the squares in the norm, and must not depend on the
    threads; there two barriers are never enough.
    """
    cdef int64_t t = 0, l, j, j0, k, together = 1 if net.batch <= GRADIENT_ROWS or net.two_barriers else 4
    cdef Layer* layer
    cdef Task* task
    net.runs = net.layers if net.by_columns or net.online else 1
    for l in range(net.layers):
        layer = &net.layer[l]
        layer.task = t
        for j0 from 0 <= j0 < panels_of(layer.n_out) by together:
            for k in range(panels_of(layer.weights)):
                for j in range(j0, min(j0 + together, panels_of(layer.n_out))):
                    task = &net.task[t]
                    task.layer = l
                    task.j = j
                    task.k = k
                    task.inputs = min(<int64_t> PANEL, layer.weights - k * PANEL)
                    net.task_cost[t + 1] = (net.task_cost[t]
                                            + task.inputs * vectors_of(layer.n_out, j) + 4)
                    t += 1


cdef void set_ones(Net* net, int64_t l) noexcept nogil:
    """The bias nodes beside a layer's input, where they have a panel to themselves: nothing else writes it."""
    cdef Layer* layer = &net.layer[l]
    cdef int64_t c, r, chunk = panels_of(layer.n_in + 1) * PANEL * PANEL
    if layer.n_in % PANEL != 0:
        return
    if not HALF and l > 0:  # the gather writes v⁰'s
        for r in range(net.stride):
            layer.v_in[(layer.n_in * net.stride) + r * PANEL] = 1
    for c in range((net.stride - 1) // PANEL if HALF else 0):  # v_columns is the only operand that needs it
        for r in range(PANEL):
            layer.v_columns[c * chunk + layer.n_in * PANEL + r] = HALF_ONE
