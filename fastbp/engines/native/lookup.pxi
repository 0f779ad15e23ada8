# Lookup: the last inputs are codes, each of which is a row of a table. All tables lie one after the other, as panels
# [P][rows][PANEL] with a row for each code's value and a column for each entry of the vectors. No mirror.


cdef inline int64_t row_of_code(const Layer* layer, int64_t c, real code) noexcept nogil:
    """Where code c's table has a value; what it does not have counts as 0."""
    cdef int64_t first = layer.levels[c], levels = layer.levels[c + 1] - first
    return first + (<int64_t> code if code >= 0 and code < levels else 0)  # not so NaN


cdef int64_t lookup_forward(const Net* net, const Minibatch* batch, int64_t l, const Share* share) noexcept nogil:
    """All of z: the other inputs, then the vectors."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels x = inputs_of(net, batch, l), z = by_rows(net, layer.v), table
    cdef int64_t others = layer.n_in - layer.codes, c, r
    table.start = layer.w
    table.apart = layer.rows * PANEL
    move_columns(&x, 0, &z, 0, others, share.first, share.last)
    for c in range(layer.codes):
        for r in range(share.first, share.last):
            move_row(&table, 0, row_of_code(layer, c, place_of(&x, others + c, r)[0]), &z,
                     others + c * layer.columns, r, layer.columns)
    return share.end


cdef inline void move_row(const Panels* a, int64_t from_, int64_t row, const Panels* b, int64_t to, int64_t into,
                          int64_t count) noexcept nogil:
    """`count` columns of a row of A to those of a row of B."""
    cdef int64_t n, i
    cdef const real* x
    cdef real* y
    while count > 0:
        n = min(count, min(PANEL - from_ % PANEL, PANEL - to % PANEL))
        x = place_of(a, from_, row)
        y = place_of(b, to, into)
        for i in range(n):
            y[i] = x[i]
        from_ += n
        to += n
        count -= n


cdef int64_t lookup_backward(const Net* net, int64_t l, real* out, const Share* share) noexcept nogil:
    """∂ℓ/∂v = δ of the other inputs, and 0 for codes."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels delta = by_rows(net, layer.delta), down = by_rows(net, out)
    cdef int64_t others = layer.n_in - layer.codes
    move_columns(&delta, 0, &down, 0, others, share.first, share.last)
    clear_columns(&down, others, panels_of(layer.n_in) * PANEL, share.first, share.last)
    return share.end


cdef void lookup_gradient(const Net* net, const Minibatch* batch, const Task* task, real* g, bint add) noexcept nogil:
    """To the row of each code its δ, in the order of codes and rows: the tile of some rows of the tables."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef Panels x = inputs_of(net, batch, task.layer), delta = by_rows(net, layer.delta)
    cdef int64_t others = layer.n_in - layer.codes, first = task.k * PANEL, c, r, i, row
    cdef int64_t columns = min(<int64_t> PANEL, layer.columns - task.j * PANEL), unit
    if not add:
        memset(g, 0, task.inputs * PANEL * sizeof(real))
    for c in range(layer.codes):
        if layer.levels[c] >= first + task.inputs or layer.levels[c + 1] <= first:
            continue
        unit = others + c * layer.columns + task.j * PANEL
        for r in range(batch.count):
            row = row_of_code(layer, c, place_of(&x, others + c, r)[0]) - first
            if 0 <= row < task.inputs:
                for i in range(columns):
                    g[row * PANEL + i] += place_of(&delta, unit + i, r)[0]
