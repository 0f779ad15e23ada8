# A net as the kernels see it, its tasks and minibatches: plain structs, filled by Engine (engine.pyx). And
# the limits by which work is cut.


# Functions written by the user, compiled by the JIT engine: fastbp/engines/jit/functions.py.
ctypedef void (*UserActivation)(const real* z, real* v, real* slope, int64_t n) noexcept nogil
ctypedef void (*UserLoss)(const real* f, const real* y, real* loss, real* slope, int64_t n) noexcept nogil


# The kinds of stage, by the names of fastbp/stages.py.
STAGES = ("Dense", "Scale")

cdef enum:
    DENSE, SCALE


ctypedef struct Layer:
    int kind
    int64_t n_in, n_out
    int64_t weights     # of each unit: n_in + 1 with the bias; 1 in a Scale
    int64_t penalized   # the first of them, those that penalties and decay are for
    int64_t rows        # from one panel of w to the next
    int activation
    real a              # the activation's parameter
    UserActivation user
    double dropout
    real* w             # weights and, all but in the first layer, their transpose
    real* wt
    real* slot[2]       # the optimizer's state, laid out as w
    real* g             # the gradient, as w; only for clipping and Engine.gradient
    real* v_in          # vˡ⁻¹
    real* v             # vˡ; the output layer's is f
    real* delta         # δˡ; the output layer's takes the place of f
    real* slope         # φ'(zˡ) where it is not computed from vˡ
    operand* v_rows     # bf16 modules: operands in place of these, see half.pxi
    operand* v_columns
    operand* d_rows
    operand* d_pairs
    operand* w_pairs
    operand* wt_pairs
    int64_t task        # the first of its tasks
    bint far            # its weights are more than stay in the L2 cache: they are fetched ahead


ctypedef struct Task:   # a tile of the weight gradient: one input panel by one output panel
    int64_t layer, j, k, inputs
    double squares


ctypedef struct Net:
    # the plan
    int64_t layers, batch, threads
    int64_t rows_to_split # rows a thread must have, or phase 1 is cut by columns
    bint by_columns     # it may be
    bint online         # minibatches of one row and no more to the update than w −= η g: see online.h
    bint inputs_owned   # each thread then has all of v⁰ to itself: no row of it crosses from CPU to CPU
    int64_t own_stride  # rows of a panel of that
    bint by_parts       # the output layer's sums are taken panel by panel of its inputs, then added up
    bint two_barriers   # are enough for a step cut by columns: see epoch_work
    bint meet[2]        # in even and in odd steps: all threads are to meet at its end
    int64_t fetch_most  # rows of X that a thread fetches ahead in phase 2, at most
    int64_t fetch_lines # cache lines of them with each task
    int64_t block       # rows that go through all layers together in forward
    int64_t steps_unchecked # steps between two looks at the clock, which says whether to look for signals
    int loss
    int link_kind
    UserLoss user_loss
    real loss_width     # of huber's quadratic zone
    real loss_low, loss_high # bounds of −log p in a cross-entropy
    Optimizer optimizer
    double l1, l2
    bint penalty_in_sum
    double clip_norm, beta_1, beta_2
    uint64_t seed
    int64_t step        # steps taken
    int64_t flops       # of a training step
    # buffers
    int64_t rows_most   # that there is room for
    int64_t stride      # rows of a panel
    bint with_inputs    # there is delta_input
    Layer* layer
    Task* task
    int64_t tasks
    int64_t* task_cost  # cumulative, tasks + 1 of them
    int64_t runs        # of tasks, each of which is cut among the threads: the layers, or 1
    double* row_loss
    double* penalty[2]  # of each tile, in even and in odd steps
    vec* outputs        # for each thread: outputs and targets of LANES rows
    real* tile          # for each thread: a PANEL × PANEL tile of gradient
    real* panel         # for each thread, in bf16 modules: HALF_BLOCK rows of a panel before they are rounded
    real* own_inputs    # v⁰ for each thread, or NULL
    real* zeros         # n_0 of them, in place of a row of weight 0 where net.online
    real* parts         # of the output layer's sums, laid out as vᴸ⁻¹: for two barriers
    real* delta_input   # ∂f/∂x of the Jacobian
    # the call
    Team team
    void (*work)(void*, int) noexcept nogil
    const real* X
    const real* y
    const int64_t* labels
    const real* weight
    int64_t rows        # of X, or of the sample order
    const int64_t* order
    const double* learning_rates
    double* losses
    double* penalties   # NULL: not wanted
    double total        # Σ of the rows' weighted losses
    double inverse_weight[2] # 1 / Σ of a minibatch's sample weights, in even and in odd steps
    real* out
    bint link, back
    Pace pace
    int64_t at          # the step that comes next
    bint stop           # a signal's handler raised
    double next_look    # when to look for signals next
    int64_t done        # steps applied


ctypedef struct Minibatch:
    const int64_t* rows   # X's row of each of its rows; NULL: offset, offset + 1, …
    int64_t offset, count
    int64_t step
    bint training         # with dropout
    bint begun            # z¹ is there already, from the step before
    int64_t next_row      # X's row of which a step with net.online computes z¹
    real* v_in            # v⁰, as this thread has it
    int64_t stride        # rows of a panel of it
    double learning_rate
    real eta              # with the bias corrections of Adam
    const int64_t* fetch  # X's rows that this thread gathers in a step that follows,
    int64_t fetches       # so many of them yet to be fetched, the first from column `fetched` on
    int64_t fetched


cdef enum:
    ROW_BLOCK = 112       # rows that go through all layers together
    GRADIENT_ROWS = 128   # rows of the weight gradient between two loads of a tile
    GATHER_AHEAD = 1024   # reals fetched before they are gathered
    FETCH_BYTES = 1 << 17 # of the minibatch that follows, fetched by a thread during phase 2

# A thread is worth its barriers for this much work in each step, and worth starting for this much in all.
# A FLOP of float64 takes twice the time, one of bf16 less.
cdef int64_t FLOPS_PER_THREAD = <int64_t> HALF_SPEED * 200_000 * 4 // <int64_t> sizeof(real)
cdef int64_t FLOPS_PER_START = <int64_t> HALF_SPEED * 100_000_000 * 4 // <int64_t> sizeof(real)
# Phase 1 is cut by columns where a thread had fewer rows than this: activations, not weights, then go from
# CPU to CPU, which can take longer than the work on them. From a third of the rows on by rows where columns
# do not divide as rows do, and with any rows where the weights, of so many bytes, are close to every thread.
# Where two barriers are enough for a cut by columns, it is also made as long as what a thread then works on is
# of no more bytes than an L2 cache holds.
cdef int64_t ROWS_TO_SPLIT = 80
cdef int64_t BYTES_TO_SPLIT = 0 if HALF else 65_536
cdef int64_t COLUMNS_BYTES = 1 << 20
# Weights of more bytes, about what a core's L2 cache holds, are fetched ahead where there are so many rows:
# the work on fewer is over before what is fetched arrives.
cdef int64_t NEAR_BYTES = 1 << 20
cdef int64_t FAR_ROWS = 64
# Where phase 1 is cut by columns, a thread has its own v⁰ and its own panels of W, so many bytes from those
# of the next: prefetchers run on past the end of what they see read, and what they take out of another CPU's
# cache that CPU has to fetch back.
cdef int64_t BYTES_APART = 1 << 16
# Signals are looked for every so many seconds, and the clock after so much work, or a step that is more.
cdef double SIGNAL_SECONDS = 0.02
cdef int64_t FLOPS_UNCHECKED = 20_000_000


cdef inline bint no_penalty(const Net* net) noexcept nogil:
    return net.l1 == 0 and net.l2 == 0
