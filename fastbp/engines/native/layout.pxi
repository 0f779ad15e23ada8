# How the engine's arrays lie in memory, and the copies in and out of that layout.
#
# Every matrix is cut into panels of PANEL columns, the width of the register tile, each panel row-major
# and contiguous. With P = ceil(columns / PANEL) panels:
#
#   activations, deltas   [P][stride][PANEL]       row = sample of the minibatch, column = feature;
#                                                  v has the feature n_l = 1 of the notes after its last
#   weights W             [P_out][rows][PANEL]     row = input k (the bias is row n_in), column = output;
#                                                  rows is n_in + 1, or more where panels lie apart
#   the same, Sparse      [n_in + 1][width]        all units of an input side by side, width a multiple of LANES
#   weights transposed    [P_in][n_out][PANEL]      row = output, column = input, without the bias
#
# Forward, backward-data and weight gradient each read these as they are. Columns past the last one are
# zero in weights and deltas, and stay so under every optimizer while all is finite.


cdef inline int64_t panels_of(int64_t columns) noexcept nogil:
    return (columns + PANEL - 1) // PANEL


cdef inline int vectors_of(int64_t columns, int64_t panel) noexcept nogil:
    """Vectors of a panel that hold columns wanted: 1 where they fit the first."""
    return 1 if columns - panel * PANEL <= LANES else 2


cdef inline int step_of(int64_t columns, int64_t panel) noexcept nogil:
    """From one vector to the next that holds columns wanted."""
    return PANEL if columns - panel * PANEL <= LANES else LANES


cdef inline int64_t part(int64_t total, int64_t piece, int64_t pieces) noexcept nogil:
    """Start of piece `piece` of 0 … total − 1 cut into `pieces` even pieces."""
    return total * piece // pieces


cdef inline int64_t part_of_units(int64_t rows, int64_t unit, int64_t piece, int64_t pieces) noexcept nogil:
    """The same for rows of which each `unit`, one after the other, stay together."""
    return min(rows, unit * part((rows + unit - 1) // unit, piece, pieces))


cdef inline int64_t part_of_rows(int64_t rows, int64_t piece, int64_t pieces) noexcept nogil:
    """The same for rows of the minibatch; bf16 operands hold them in chunks of PANEL."""
    return part_of_units(rows, PANEL if HALF else 1, piece, pieces)


cdef void gather(const Net* net, const Minibatch* batch, int64_t first, int64_t last) noexcept nogil:
    """X's rows into rows first … last − 1 of v⁰; zeros where there are weights and the row's is 0.

    Shuffled rows come from anywhere in memory: line by line, one that follows is fetched meanwhile.
    """
    cdef const real* X = net.call.X
    cdef const real* weight = net.call.weight
    cdef const int64_t* rows = batch.rows
    cdef int64_t columns = net.layer[0].n_in, stride = batch.stride
    cdef int64_t r, p, full = columns // PANEL, rest = columns % PANEL
    cdef int64_t ahead = 1 + net.costs.reals_gathered // columns if net.costs.reals_gathered > 0 else 0
    cdef real* v = batch.v_in
    cdef const real* x
    cdef const real* follows
    for r in range(first, last):
        x = X + (rows[r] if rows != NULL else batch.offset + r) * columns
        follows = X + rows[min(r + ahead, last - 1)] * columns if rows != NULL else x
        for p in range(full):
            prefetch(follows + p * PANEL, PANEL)
            memcpy(v + (p * stride + r) * PANEL, x + p * PANEL, PANEL * sizeof(real))
        if rest:
            prefetch(follows + full * PANEL, rest)
            memcpy(v + (full * stride + r) * PANEL, x + full * PANEL, rest * sizeof(real))
        v[(full * stride + r) * PANEL + rest] = 1
    for r in range(first, last if weight != NULL else first):
        if weight[rows[r] if rows != NULL else batch.offset + r] == 0:
            for p in range(full + 1):
                memset(v + (p * stride + r) * PANEL, 0, (PANEL if p < full else rest) * sizeof(real))


cdef void transpose_block(const real* w, int64_t rows, int64_t columns, real* wt) noexcept nogil:
    """wt[c][r] = w[r][c] for a block of rows, columns ≤ PANEL, both with rows of PANEL reals.

    Squares of LANES × LANES go through registers; lanes of wt past `rows` become zero.
    """
    cdef vec square[LANES]
    cdef int64_t r0, c0, i
    for r0 from 0 <= r0 < rows by LANES:
        for c0 from 0 <= c0 < columns by LANES:
            for i in range(LANES):
                square[i] = load(w + (r0 + i) * PANEL + c0) if r0 + i < rows else splat(0)
            transpose_square(square)
            for i in range(min(<int64_t> LANES, columns - c0)):
                store(wt + (c0 + i) * PANEL + r0, square[i])


# The notes' W, shape (n_out, n_in + 1), into panels and back. Squares of LANES × LANES go through
# registers; what is left over at the edges goes one by one.


cdef void pack_parameters(const real[:, ::1] W, const Layer* layer, real* w) noexcept nogil:
    cdef vec square[LANES]
    cdef int64_t j, k, i, n_out = W.shape[0], columns = W.shape[1]
    if layer.width > n_out:  # a NaN may have come past the last column
        for k in range(columns):
            memset(w + k * layer.width + n_out, 0, (layer.width - n_out) * sizeof(real))
    for j in range(panels_of(n_out) if layer.width == 0 else 0):
        memset(w + j * layer.rows * PANEL, 0, columns * PANEL * sizeof(real))
    for j from 0 <= j < n_out by LANES:
        for k from 0 <= k < columns by LANES:
            if j + LANES <= n_out and k + LANES <= columns:
                for i in range(LANES):
                    square[i] = load_unaligned(&W[j + i, k])
                transpose_square(square)
                for i in range(LANES):
                    store(place(w, layer, j, k + i), square[i])
            else:
                copy_edge(W, layer, w, j, k, False)


cdef void unpack_parameters(const real* w, const Layer* layer, real[:, ::1] W) noexcept nogil:
    cdef vec square[LANES]
    cdef int64_t j, k, i, n_out = W.shape[0], columns = W.shape[1]
    for j from 0 <= j < n_out by LANES:
        for k from 0 <= k < columns by LANES:
            if j + LANES <= n_out and k + LANES <= columns:
                for i in range(LANES):
                    square[i] = load(place(<real*> w, layer, j, k + i))
                transpose_square(square)
                for i in range(LANES):
                    store_unaligned(&W[j + i, k], square[i])
            else:
                copy_edge(W, layer, <real*> w, j, k, True)


cdef inline real* place(real* w, const Layer* layer, int64_t j, int64_t k) noexcept nogil:
    """Where the layer has W[j, k]."""
    if layer.width > 0:
        return w + k * layer.width + j
    return w + (j // PANEL * layer.rows + k) * PANEL + j % PANEL


cdef void copy_edge(const real[:, ::1] W, const Layer* layer, real* w, int64_t j0, int64_t k0, bint out) noexcept nogil:
    """What there is of the square at W[j0, k0], one by one; out: from w to W."""
    cdef int64_t j, k
    for j in range(j0, min(j0 + LANES, W.shape[0])):
        for k in range(k0, min(k0 + LANES, W.shape[1])):
            if out:
                (<real*> &W[j, k])[0] = place(w, layer, j, k)[0]
            else:
                place(w, layer, j, k)[0] = W[j, k]


# A copy of the parameters: the panels one after the other, without what lies between them.


cdef bint all_finite(const Layer* layer) noexcept nogil:
    """Whether the layer's parameters are: 0 Σ w is 0, or else NaN. Not past the last column: what is there
    need not be, when the rest is again."""
    cdef int64_t j, k, i, columns
    cdef const real* w
    cdef real sums[PANEL]
    memset(sums, 0, sizeof(sums))
    for j in range(panels_of(layer.columns)):
        w = layer.w + j * layer.rows * PANEL
        columns = min(<int64_t> PANEL, layer.columns - j * PANEL)
        for k in range(layer.weights):
            if columns == PANEL:
                for i in range(PANEL):  # the compiler makes it two vectors
                    sums[i] += 0 * w[k * PANEL + i]
            else:
                for i in range(columns):
                    sums[i] += 0 * w[k * PANEL + i]
    for i in range(PANEL):
        if sums[i] != 0:  # NaN
            return False
    return True


cdef inline int64_t bytes_kept(const Layer* layer) noexcept nogil:
    if layer.kind == SPARSE:
        return layer.weights * layer.width * <int64_t> sizeof(real)
    return panels_of(layer.columns) * layer.weights * PANEL * <int64_t> sizeof(real)


cdef void copy_kept(Net* net, real* kept, bint back) noexcept nogil:
    """All parameters to `kept`, or from there."""
    cdef int64_t l, j, size
    cdef Layer* layer
    cdef real* w
    for l in range(net.plan.layers):
        layer = &net.layer[l]
        if layer.kind == SPARSE:
            copy_sparse(net, kept, back)
            kept += layer.weights * layer.width
            continue
        size = layer.weights * PANEL
        for j in range(panels_of(layer.columns)):
            w = layer.w + j * layer.rows * PANEL
            if back:
                memcpy(w, kept, size * sizeof(real))
            else:
                memcpy(kept, w, size * sizeof(real))
            kept += size
