# A net as the kernels see it: plain structs, one for each lifetime, filled by Engine (engine.pyx) and cut.pxi.
#
#   Settings   what the plan says; Layer, the same of a stage, with the addresses of its arrays
#   Costs      costs.pxi
#   Cut        how threads share a step; follows from both
#   Buffers    memory of no single layer; what hangs on rows moves when there are more of them
#   Call       the arrays of the call that runs; threads only read it
#   Progress   what threads write for each other while it runs
#   Minibatch  a thread's own view of a step
#   Shared     what there is besides where ranks share an epoch
#
# README.md has who writes what, between which barriers.


# Functions written by the user, compiled by the JIT engine: fastbp/engines/jit/functions.py.
ctypedef void (*UserActivation)(const real* z, real* v, real* slope, int64_t n) noexcept nogil
ctypedef void (*UserLoss)(const real* f, const real* y, real* loss, real* slope, int64_t n) noexcept nogil


ctypedef struct Factors: # fastbp/stages.py
    double rate, epsilon, decay


ctypedef struct Layer:
    # the plan's stage
    int kind
    int64_t n_in, n_out
    int64_t columns     # of the parameters' panels: n_out, but for Periodic, Lookup and Heads
    int64_t weights     # of each column: n_in + 1 with the bias; 1 in a Scale
    int64_t penalized   # the first of them, those that penalties and decay are for
    int activation
    real a              # the activation's parameter
    UserActivation user
    double dropout
    Factors factors[2]  # of the penalized weights, and of the others
    bint factored       # they are other than 1
    int blended         # Blend: the function f, its parameter, or the user's
    real b
    UserActivation blended_user
    int64_t numbers, frequencies, waves # Periodic
    int64_t codes       # Lookup: so many, and where each one's table begins
    int64_t* levels
    int64_t members     # Members and Heads: k, else 0
    bint scaled, shifted
    # the cut
    int64_t rows        # from one panel of w to the next
    int64_t width       # of a Sparse stage, whose w lies by inputs: reals from one input to the next
    int64_t task        # the first of its tasks
    bint far            # its weights are more than stay in the L2 cache: they are fetched ahead
    # buffers
    real* w             # weights and, where a kind of stage wants them, their transpose
    real* wt
    real* slot[2]       # the optimizer's state, laid out as w
    real* g             # the gradient, as w; only for clipping and Engine.gradient
    real* v_in          # vˡ⁻¹
    real* v             # vˡ; the output layer's is f
    real* delta         # δˡ; the output layer's takes the place of f
    real* slope         # φ'(zˡ) where it is not computed from vˡ
    real* bend          # Blend: ∂zˡ/∂vˡ⁻¹
    operand* v_rows     # bf16 modules: operands in place of these, see half.pxi
    operand* v_columns
    operand* d_rows
    operand* d_pairs
    operand* w_pairs
    operand* wt_pairs


ctypedef struct Settings:
    int64_t layers, batch, threads
    int loss
    int link_kind
    UserLoss user_loss
    real loss_width     # of huber's quadratic zone; the quantile of pinball
    const real* levels  # the same, of each output, or NULL
    real loss_low, loss_high # bounds of −log p in a cross-entropy
    Optimizer optimizer
    double l1, l2
    bint penalty_in_sum
    double clip_norm, beta_1, beta_2
    real smoothing      # of labels
    uint64_t seed
    int64_t flops       # of a training step


ctypedef struct Task:   # a tile of the weight gradient: one input panel by one output panel
    int64_t layer, j, k, inputs
    double squares


ctypedef struct Cut:
    int64_t unit        # rows of a call that stay together: those of a sample's members, or a chunk of bf16 operands
    int64_t block       # rows that go through all layers together in forward
    int64_t rows_to_split # rows a thread must have, or phase 1 is cut by columns
    bint by_columns     # it may be
    bint inputs_owned   # each thread then has all of v⁰ to itself: no row of it crosses from CPU to CPU
    int64_t own_stride  # rows of a panel of that
    int64_t own_size    # reals from one thread's to the next's
    bint by_parts       # the output layer's sums are taken panel by panel of its inputs, then added up
    bint two_barriers   # are enough for a step cut by columns: see epoch_work
    bint online         # minibatches of one row and no more to the update than w −= η g: see online.pxi
    bint step_at_once   # nor in any other: where the kind of stage can, the update is part of the gradient's tile
    int64_t fetch_most  # rows of X that a thread fetches ahead in phase 2, at most
    int64_t fetch_lines # cache lines of them with each task
    int64_t steps_unchecked # steps between two looks at the clock, which says whether to look for signals
    int64_t tasks
    int64_t tile        # reals of the largest task's gradient
    int64_t shards      # of a minibatch's rows: a gradient is the sum of theirs, in pairs, pairs of pairs and so on
    int64_t tiles       # of gradient that a thread has at a time
    int64_t runs        # of tasks, each of which is cut among the threads: the layers, or 1
    int64_t rows_taken  # of the smallest piece that a thread may take over from another; 0: they are even blocks
    int64_t pieces      # of each thread's tasks, any of which another may take over


ctypedef struct Buffers:
    Task* task
    int64_t* task_cost  # cumulative, tasks + 1 of them
    double* penalty[2]  # of each tile, in even and in odd steps
    vec* outputs        # for each thread: outputs and targets of LANES rows
    real* tile          # for each thread: cut.tiles tiles of gradient, cut.tile reals each
    real* panel         # for each thread, in bf16 modules: HALF_BLOCK rows of a panel before they are rounded
    real* own_inputs    # v⁰ for each thread, or NULL
    real* zeros         # n_0 of them, in place of a row of weight 0 where cut.online
    # what hangs on rows
    int64_t rows_most   # that there is room for
    int64_t stride      # rows of a panel
    bint with_inputs    # there is delta_input
    double* row_loss
    real* parts         # of the output layer's sums, laid out as vᴸ⁻¹: for two barriers
    real* delta_input   # ∂f/∂x of the Jacobian


ctypedef struct SparseStep: # what a Sparse first stage has besides its Layer: sparse.pxi
    bint few            # steps touch the columns that occur, and no others
    bint shrinks        # but for an L2 penalty, that all of them share: W is what lies there times scale
    unsigned char* marks # of each column
    real* column        # for each thread: a column of the gradient
    int64_t* begin[2]   # in even and in odd steps, of each row of the minibatch: where X has it,
    int64_t* at[2]      # and where its entries are
    Entry* entries      # of the minibatch
    Entry* spare
    int64_t capacity    # that there is room for
    double* sums        # of blocks
    double* squares
    double scale[2]     # in even and in odd steps
    double total        # the penalty of what lies there
    bint stale          # it is to be computed


ctypedef struct Call:
    void (*work)(void*, int) noexcept nogil
    const real* X       # or, where the first stage is Sparse,
    Rows sparse
    const real* y
    const int64_t* labels
    const real* weight
    int64_t rows        # of X, or of the sample order
    const int64_t* order
    const double* learning_rates
    double* losses
    double* penalties   # NULL: not wanted
    const double* dropouts # factors by step, or NULL
    const double* decays
    real* out
    int64_t* classes    # in place of it, or NULL
    int64_t pieces      # into which the rows are cut where any thread may have any of them
    int64_t room        # rows of the largest, and of each thread's part of the buffers
    bint link, back


ctypedef struct Progress:
    char before[128]    # whatever lies beside it is read only, and so stays in every thread's cache
    double inverse_weight[2] # 1 / Σ of a minibatch's sample weights, in even and in odd steps
    bint meet[2]        # in even and in odd steps: all threads are to meet at its end
    int64_t at          # the step that comes next
    bint stop           # a signal's handler raised
    # thread 0's alone while it runs
    double next_look    # when to look for signals next
    double total        # Σ of the rows' weighted losses
    int64_t done        # steps applied
    Pace pace           # stays from call to call
    Pace gradient_pace  # the same of Engine.gradient
    char after[128]


ctypedef struct Shared:     # an epoch that ranks share: ranks.pxi
    int rank, ranks
    bint inputs             # v⁰ is exchanged, too
    int64_t s, steps        # the step of the epoch
    const int64_t* bounds   # of the ranks' rows in the minibatch
    const int64_t* tasks    # of their tiles
    const int64_t* at       # where a message has each tile
    const real* weights     # of all rows in the epoch's order, where X has not all of them
    bint by_gradients       # ranks exchange sums over their rows, not the rows
    char* rows              # messages
    char* sums
    char* sums_of_mine
    char* tiles
    double* squares


ctypedef struct Net:
    Settings plan
    Layer* layer
    Costs costs
    Cut cut
    Buffers buffers
    SparseStep sparse
    Call call
    Shared shared
    int64_t step        # taken so far
    Progress progress
    Team team


ctypedef struct Minibatch:
    int thread
    const int64_t* rows   # X's row of each of its rows; NULL: offset, offset + 1, …
    int64_t offset, count
    int64_t first         # of the rows that a gradient is summed over, count in all: in a shard of a minibatch not 0
    bint summed           # ranks have summed theirs: what is left is the sum over the ranks
    int64_t step
    bint training         # with dropout
    bint begun            # z¹ is there already, from the step before
    int side              # where a Sparse first stage has what there is for even and for odd steps
    bint spanned          # there is
    bint few              # the step touches few of its columns
    double scale          # of its W, before the step and after it
    double next_scale
    int64_t next_row      # X's row of which a step with cut.online computes z¹
    real* v_in            # v⁰, as this thread has it
    int64_t stride        # rows of a panel of it
    double learning_rate
    double dropout        # factors of the stages' dropout and of decay
    double decay
    real eta              # with the bias corrections of Adam
    double norm           # of the gradient, where it is clipped
    const int64_t* fetch  # X's rows that this thread gathers in a step that follows,
    int64_t fetches       # so many of them yet to be fetched, the first from column `fetched` on
    int64_t fetched


ctypedef struct Share:    # of a layer's work: rows first … last − 1 of panels p … end − 1
    int64_t first, last, p, end


ctypedef struct Panels:   # a matrix as panels (layout.pxi)
    real* start
    int64_t apart         # reals from one panel to the next


cdef inline bint no_penalty(const Net* net) noexcept nogil:
    return net.plan.l1 == 0 and net.plan.l2 == 0


cdef inline Layer* top_layer(const Net* net) noexcept nogil:
    """The last, whose v is f."""
    return &net.layer[net.plan.layers - 1]


cdef inline Panels inputs_of(const Net* net, const Minibatch* batch, int64_t l) noexcept nogil:
    """vˡ⁻¹, as the thread has it."""
    cdef Panels v
    v.start = batch.v_in if l == 0 else net.layer[l].v_in
    v.apart = (batch.stride if l == 0 else net.buffers.stride) * PANEL
    return v


cdef inline Panels by_rows(const Net* net, real* start) noexcept nogil:
    """What hangs on the minibatch's rows."""
    cdef Panels v
    v.start = start
    v.apart = net.buffers.stride * PANEL
    return v


cdef inline int64_t weights_at(const Net* net, const Task* task) noexcept nogil:
    """Where w, g and the optimizer's state have the task's tile."""
    return (task.j * net.layer[task.layer].rows + task.k * PANEL) * PANEL
