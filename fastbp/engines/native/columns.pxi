# Columns from one matrix of panels to another, wherever they begin: for stages that put inputs side by side.


cdef void move_columns(const Panels* a, int64_t from_, const Panels* b, int64_t to, int64_t count, int64_t first,
                       int64_t last) noexcept nogil:
    """Columns `to` and on of B, rows first … last − 1, become columns `from_` and on of A."""
    cdef int64_t n
    while count > 0:
        n = min(count, min(PANEL - from_ % PANEL, PANEL - to % PANEL))
        copy_pieces(place_of(a, from_, first), place_of(b, to, first), n, last - first)
        from_ += n
        to += n
        count -= n


cdef inline real* place_of(const Panels* a, int64_t column, int64_t row) noexcept nogil:
    return a.start + column // PANEL * a.apart + row * PANEL + column % PANEL


cdef inline void copy_pieces(const real* x, real* y, int64_t n, int64_t rows) noexcept nogil:
    """n ≤ PANEL reals of each row."""
    cdef int64_t r, i
    if n == PANEL:
        for r from 0 <= r < rows * PANEL by PANEL:
            memcpy(y + r, x + r, PANEL * sizeof(real))
    else:
        for r from 0 <= r < rows * PANEL by PANEL:
            for i in range(n):
                y[r + i] = x[r + i]


cdef void clear_columns(const Panels* a, int64_t from_, int64_t to, int64_t first, int64_t last) noexcept nogil:
    """Columns from_ … to − 1, rows first … last − 1, become 0."""
    cdef int64_t c, r
    for c in range(from_, to):
        for r in range(first, last):
            place_of(a, c, r)[0] = 0


cdef inline void put_lanes(const Panels* a, int64_t column, int64_t count, int64_t row, vec x) noexcept nogil:
    """The first `count` lanes of x to columns `column` and on of a row."""
    cdef real lanes[LANES]
    cdef int64_t i
    if count == LANES and column % PANEL <= PANEL - LANES:
        store_unaligned(place_of(a, column, row), x)
        return
    store_unaligned(lanes, x)
    for i in range(count):
        place_of(a, column + i, row)[0] = lanes[i]


cdef inline vec get_lanes(const Panels* a, int64_t column, int64_t count, int64_t row) noexcept nogil:
    """The reverse; zeros in the other lanes."""
    cdef real lanes[LANES]
    cdef int64_t i
    if count == LANES and column % PANEL <= PANEL - LANES:
        return load_unaligned(place_of(a, column, row))
    memset(lanes, 0, sizeof(lanes))
    for i in range(count):
        lanes[i] = place_of(a, column + i, row)[0]
    return load_unaligned(lanes)
