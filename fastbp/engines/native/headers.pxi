# What the Cython code takes from C: the headers beside it, and Python's.


cdef extern from "Python.h":
    int PyErr_CheckSignals()


cdef extern from "simd.h" nogil:
    enum: LANES, PANEL, TILE_ROWS
    # `real` is float or double and `vec` a vector of them: C knows which, Cython need not
    ctypedef double real
    ctypedef int integer
    ctypedef double vec
    ctypedef int ivec
    vec splat(real x)
    vec load(const real* p)
    void store(real* p, vec x)
    void store_unaligned(real* p, vec x)
    vec load_unaligned(const real* p)
    ivec load_integers(const integer* p)
    vec select_gt(vec a, vec b, vec x, vec y)
    vec select_beats(vec a, vec b, vec x, vec y)
    vec select_equal(ivec a, integer b, vec x, vec y)
    vec vmax(vec a, vec b)
    vec vabs(vec x)
    vec copysign_vec(vec magnitude, vec sign)
    real sqrt_real(real x)
    void transpose_square(vec* t)
    void prefetch(const real* p, int64_t n)


cdef extern from "dropout.h" nogil:
    ctypedef int hashes
    hashes hash_units(int64_t unit)
    uint32_t hash_row(uint64_t key, int64_t row)
    vec kept_units(hashes units, uint32_t row, uint64_t key, uint32_t threshold, vec scale)


cdef extern from "vecmath.h" nogil:
    vec exp_vec(vec x)
    vec expm1_vec(vec x)
    vec log_vec(vec x)
    vec log1p_vec(vec x)
    vec logistic_vec(vec x)
    vec tanh_vec(vec x)
    vec softplus_vec(vec x)
    vec normal_vec(vec x, vec* density)
    vec sincos_vec(vec x, vec* cosine)
    real SELU_SCALE, SELU_FLOOR
    vec selu_vec(vec x)
    vec mish_vec(vec x, vec* slope)


cdef extern from "tile.h" nogil:
    enum: STREAMS_MOST
    ctypedef struct Ahead:
        int streams
        int64_t n
        const real* at[STREAMS_MOST]
    ctypedef struct Operands:
        const real* a
        const real* w
        real* c
        int64_t K, a_panel, w_panel, c_panel
        int add
        real* weights
        real eta
        Ahead* ahead
    int panels_at_once(int m)
    void tile_rows(int m, int vectors, const Operands* o)
    void tile_few(int m, const Operands* o)
    void tile_gradient(int m, int vectors, const Operands* o)


cdef extern from "online.h" nogil:
    ctypedef struct Online:
        int64_t n_in, w_panel, row_panel
        const real* x
        const real* x_next
        const real* delta
        real eta
        real* w
        real* z
    int online_step(int64_t panels, const Online* o)


cdef extern from "sparse.h" nogil:
    ctypedef struct Rows:
        const real* values
        const void* columns
        const void* starts
        int wide_columns, wide_starts
        int64_t entries, n_in
    ctypedef struct Entry:
        uint32_t column
    int64_t row_start(const Rows* X, int64_t i)
    void sparse_row(const Rows* X, int64_t begin, int64_t n, int64_t vectors, const real* w, int64_t width,
                    const real* b, real scale, real* z, int64_t panel)
    void sparse_column(int64_t n, const Entry* entry, int64_t vectors, const real* delta, int64_t panel, int add,
                       real* g, real* w, real eta)
    void sparse_down(int64_t n_in, int64_t vectors, const real* w, const real* delta, int64_t panel, real* out)
    void take_entries(const Rows* X, int64_t begin, int64_t n, int64_t row, Entry* to)
    void sort_entries(int64_t n, Entry* entries, Entry* spare, int64_t n_in)
    int64_t first_entry(int64_t n, const Entry* entries, int64_t k)
    int64_t same_column(int64_t n, const Entry* entries)


cdef extern from "half.h" nogil:
    enum: HALF, HALF_BLOCK, HALF_SPEED, PAIR_ROWS
    ctypedef int operand
    ctypedef int pairs
    pairs pair(vec a, vec b)
    pairs pack(vec a, vec b)
    vec unpack(const operand* p)
    void store_pairs(operand* p, pairs x)
    void half_panel(int64_t rows, int vectors, int64_t K, const operand* a, int64_t a_panel, const operand* w,
                    const real* bias, real* c, int add)
    bint tiles_granted()
    void tiles_on()
    void tiles_off()
    operand HALF_ONE


cdef extern from "team.h" nogil:
    enum: TEAM_MOST
    ctypedef struct Team:
        int members, threads, wanted
    ctypedef struct Crew:
        pass
    Crew* crew
    int64_t team_wait(int threads)
    void end_crew()
    void team_run(Team* team, int threads, int all, void (*work)(void*, int) noexcept nogil, void* argument)
    void team_barrier(Team* team, int thread)
    bint team_change(Team* team, int thread)
    void team_over(Team* team)
    int64_t team_next(Team* team)
    void team_finish(Team* team)
    ctypedef struct Turn:
        int owner, piece, pieces
    Turn team_turn(int thread, int64_t pieces)
    bint team_take(const Team* team, Turn* turn)
    double seconds_now()


cdef extern from "memory.h" nogil:
    void* allocate(int64_t bytes)
    void release(void* block, int64_t bytes)


cdef extern from "guard.h" nogil:
    ctypedef struct Guard:
        pass
    bint guard_take(Guard* guard)
    void guard_leave(Guard* guard)


cdef extern from "cpu.h":
    enum: CPU_OFFERS, SYSTEM_REFUSES
    int cpu_has(const char* instruction_set)
