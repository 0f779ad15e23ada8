# An engine's blocks of memory, and what lies where in them.


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


cdef inline void set_mirror(Layer* layer, void* start) noexcept nogil:
    layer.wt = <real*> start
    layer.wt_pairs = <operand*> start


cdef inline int64_t weights_bytes(const Layer* layer) noexcept nogil:
    """Of w, and of all that lies as it does."""
    if layer.kind == SPARSE:
        return layer.weights * layer.width * <int64_t> sizeof(real)
    return panels_of(layer.columns) * layer.rows * PANEL * <int64_t> sizeof(real)


cdef int64_t lay_out(Net* net, char* base) noexcept nogil:
    """Point all that does not hang on rows into the block at base; returns the block's size. With NULL it
    only counts."""
    cdef int64_t used = 0, l, panel = PANEL * sizeof(real), s
    cdef Layer* layer
    if net.cut.inputs_owned:
        net.buffers.own_inputs = <real*> take(base, &used, net.plan.threads * net.cut.own_size * sizeof(real))
    if net.cut.online:
        net.buffers.zeros = <real*> take(base, &used, net.layer[0].n_in * sizeof(real))
    for l in range(net.plan.layers):
        layer = &net.layer[l]
        layer.w = <real*> take(base, &used, weights_bytes(layer))
        if rounds(layer):
            layer.w_pairs = <operand*> take(base, &used, panels_of(layer.n_out) * pair_rows(layer.n_in) * panel // 2)
        if l > 0:
            set_mirror(layer, take(base, &used, mirror_bytes(layer)))
        for s in range(net.plan.optimizer.slots):
            layer.slot[s] = <real*> take(base, &used, weights_bytes(layer))
        if net.plan.clip_norm > 0:
            layer.g = <real*> take(base, &used, weights_bytes(layer))
    if is_sparse(net):
        net.sparse.marks = <unsigned char*> take(base, &used, net.layer[0].weights)
        net.sparse.column = <real*> take(base, &used, net.plan.threads * net.layer[0].width * sizeof(real))
        for s in range(2):
            net.sparse.begin[s] = <int64_t*> take(base, &used, net.plan.batch * sizeof(int64_t))
            net.sparse.at[s] = <int64_t*> take(base, &used, (net.plan.batch + 1) * sizeof(int64_t))
    net.buffers.task = <Task*> take(base, &used, net.cut.tasks * sizeof(Task))
    net.buffers.task_cost = <int64_t*> take(base, &used, (net.cut.tasks + 1) * sizeof(int64_t))
    for s in range(2):
        net.buffers.penalty[s] = <double*> take(base, &used, net.cut.tasks * sizeof(double))
    net.buffers.outputs = <vec*> take(base, &used, net.plan.threads * 2 * top_layer(net).n_out * sizeof(vec))
    net.buffers.tile = <real*> take(base, &used, net.plan.threads * net.cut.tiles * net.cut.tile * sizeof(real))
    if HALF:
        net.buffers.panel = <real*> take(base, &used, net.plan.threads * HALF_BLOCK * panel)
    return used


cdef int64_t lay_out_rows(Net* net, int64_t stride, bint inputs, char* base) noexcept nogil:
    """The same for what hangs on rows, with panels of `stride` rows; inputs: ∂f/∂x too."""
    cdef int64_t used = 0, l, panel = PANEL * sizeof(real)
    cdef Layer* layer
    cdef real* v = NULL
    if not (rounds(&net.layer[0]) or is_sparse(net)):
        v = <real*> take(base, &used, panels_of(net.layer[0].n_in + 1) * stride * panel)
    if net.cut.two_barriers:
        net.buffers.parts = <real*> take(base, &used, panels_of(net.layer[0].n_out) * stride * panel)
    for l in range(net.plan.layers):
        layer = &net.layer[l]
        layer.v_in = v
        if rounds(layer):
            half_lay_out(layer, stride, base, &used)
        v = NULL
        if has_panels(net, l):
            v = <real*> take(base, &used, panels_of(layer.n_out + 1) * stride * panel)
            layer.delta = v
            if l < net.plan.layers - 1:
                layer.delta = <real*> take(base, &used, panels_of(layer.n_out) * stride * panel)
        layer.v = v
        if l < net.plan.layers - 1:
            if layer.kind == BLEND:  # it has its dropout there too, if it has no activation
                layer.bend = <real*> take(base, &used, panels_of(layer.n_out) * stride * panel)
            if needs_slope(layer):
                layer.slope = <real*> take(base, &used, panels_of(layer.n_out) * stride * panel)
    net.buffers.row_loss = <double*> take(base, &used, stride * sizeof(double))
    if inputs:
        net.buffers.delta_input = <real*> take(base, &used, panels_of(net.layer[0].n_in) * stride * panel)
    return used


cdef int make_rows(Net* net, Block* block, int64_t rows, bint inputs) except -1:
    """Room in the block for so many rows at least, and with inputs for ∂f/∂x; what was in it is lost."""
    cdef Block new
    cdef int64_t l, stride, bytes
    if rows <= net.buffers.rows_most and (net.buffers.with_inputs or not inputs):
        return 0
    rows = max(rows, net.buffers.rows_most)
    inputs = inputs or net.buffers.with_inputs
    # An odd number of rows keeps panels apart in the cache's sets.
    stride = (rows + PANEL - 1) // PANEL * PANEL + 1 if HALF else rows | 1
    bytes = lay_out_rows(net, stride, inputs, NULL)
    try:
        fill(&new, bytes, f"an engine for {rows:,} rows at a time")
    except MemoryError:  # what there was stays
        lay_out_rows(net, net.buffers.stride, net.buffers.with_inputs, block.start)
        raise
    empty(block)
    block[0] = new
    net.buffers.rows_most = rows
    net.buffers.stride = stride
    net.buffers.with_inputs = inputs
    lay_out_rows(net, stride, inputs, block.start)
    for l in range(net.plan.layers):
        set_ones(net, l)
    return 0


cdef int make_entries(Net* net, Block* block, int64_t entries) except -1:
    """Room in the block for so many entries of a minibatch at least, and for the sums of the blocks of a step."""
    cdef Block new
    cdef int64_t used = 0, bytes = entries * sizeof(Entry)
    cdef int64_t sums = (max(entries, net.layer[0].n_in) + BLOCK - 1) // BLOCK + 1
    if block.start == NULL or entries > net.sparse.capacity:
        fill(&new, 2 * (bytes + 64) + 2 * (sums * <int64_t> sizeof(double) + 64),
             f"an engine for {entries:,} nonzeros of a minibatch")
        empty(block)
        block[0] = new
        net.sparse.entries = <Entry*> take(new.start, &used, bytes)
        net.sparse.spare = <Entry*> take(new.start, &used, bytes)
        net.sparse.sums = <double*> take(new.start, &used, sums * sizeof(double))
        net.sparse.squares = <double*> take(new.start, &used, sums * sizeof(double))
        net.sparse.capacity = entries
    return 0


cdef void set_ones(Net* net, int64_t l) noexcept nogil:
    """The bias nodes beside a layer's input, where they have a panel to themselves: nothing else writes it."""
    cdef Layer* layer = &net.layer[l]
    cdef int64_t c, r, chunk = panels_of(layer.n_in + 1) * PANEL * PANEL
    if layer.n_in % PANEL != 0 or layer.kind == SPARSE:
        return
    if layer.v_in != NULL and l > 0:  # the gather writes v⁰'s
        for r in range(net.buffers.stride):
            layer.v_in[(layer.n_in * net.buffers.stride) + r * PANEL] = 1
    for c in range((net.buffers.stride - 1) // PANEL if rounds(layer) else 0):  # v_columns is the only operand that needs it
        for r in range(PANEL):
            layer.v_columns[c * chunk + layer.n_in * PANEL + r] = HALF_ONE


cdef int need_gradients(Net* net, Block* block) except -1:
    """Buffers for g, where clipping has not asked for them already."""
    cdef int64_t l, bytes = 0
    cdef Layer* layer
    if net.layer[0].g != NULL:
        return 0
    for l in range(net.plan.layers):
        bytes += weights_bytes(&net.layer[l])
    fill(block, bytes, "the gradient")
    bytes = 0
    for l in range(net.plan.layers):
        layer = &net.layer[l]
        layer.g = <real*> (block.start + bytes)
        bytes += weights_bytes(layer)
    return 0


cdef int need_input_weights(Net* net, Block* block) except -1:
    """The first layer's wt, brought up to date."""
    cdef Layer* layer = &net.layer[0]
    cdef int64_t bytes = mirror_bytes(layer)
    if block.start == NULL and bytes > 0:
        fill(block, bytes, "the Jacobian")
        set_mirror(layer, block.start)
    mirror_layer(net, 0, True)
    return 0
