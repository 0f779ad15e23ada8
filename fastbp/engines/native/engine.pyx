# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: embedsignature=True, freethreading_compatible=True
"""The native engine, compiled once for each instruction set and dtype (see setup.py).

Reading order: layout.pxi (how arrays lie), tile.h (the micro-kernel), activations.pxi, losses.pxi,
optimizers.pxi, passes.pxi (the two phases of a step), online.h (where minibatches are single rows),
half.pxi (the same on bf16 operands), pace.pxi (how many threads share a step), and here the buffers, the
threads and the contract of fastbp/engines/__init__.py. The letters are those of the notes; l counts layers
from 0.
"""

from libc.math cimport INFINITY, isfinite, log, log1p, pow, sqrt
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import numpy as np


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
    vec select_equal(ivec a, integer b, vec x, vec y)
    vec vmax(vec a, vec b)
    vec vabs(vec x)
    vec copysign_vec(vec magnitude, vec sign)
    real sqrt_real(real x)
    void transpose_square(vec* t)
    void prefetch(const real* p, int64_t n)


cdef extern from "vecmath.h" nogil:
    vec exp_vec(vec x)
    vec expm1_vec(vec x)
    vec log_vec(vec x)
    vec log1p_vec(vec x)
    vec logistic_vec(vec x)
    vec tanh_vec(vec x)
    vec softplus_vec(vec x)
    vec normal_vec(vec x, vec* density)


cdef extern from "tile.h" nogil:
    enum: STREAMS_MOST
    ctypedef struct Ahead:
        int streams
        int64_t n
        const real* at[STREAMS_MOST]
    void tile_rows(int m, int vectors, int64_t K, const real* a, int64_t a_panel, const real* w, real* c,
                   int add, Ahead* ahead)
    int panels_at_once(int m)
    void tile_few(int m, int64_t K, const real* a, int64_t a_panel, const real* w, int64_t w_panel, real* c,
                  int64_t c_panel)
    void tile_gradient(int m, int vectors, int64_t K, const real* a, const real* w, real* c, int add,
                       real* weights, real eta, Ahead* ahead)


cdef extern from "online.h" nogil:
    int online_step(int64_t panels, int64_t n_in, const real* x, const real* x_next, real eta, const real* delta,
                    real* w, int64_t w_panel, real* z, int64_t row_panel)


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
    void tiles_on()
    void tiles_off()
    operand HALF_ONE


cdef extern from "team.h" nogil:
    enum: TEAM_MOST
    ctypedef struct Seat:
        pass
    ctypedef struct Team:
        Seat* seat
        int members, threads, wanted, kept
    void team_run(Team* team, int threads, void (*work)(void*, int) noexcept nogil, void* argument)
    void team_barrier(Team* team, int thread)
    bint team_change(Team* team, int thread)
    void team_over(Team* team)
    int64_t team_next(Team* team)
    void team_finish(Team* team)
    void team_end(Team* team)
    double seconds_now()


cdef extern from "memory.h" nogil:
    void* allocate(int64_t bytes)


cdef extern from "cpu.h":
    enum: CPU_OFFERS, SYSTEM_REFUSES
    int cpu_has(const char* instruction_set)


# Functions written by the user, compiled by the JIT engine: fastbp/engines/jit/functions.py.
ctypedef void (*UserActivation)(const real* z, real* v, real* slope, int64_t n) noexcept nogil
ctypedef void (*UserLoss)(const real* f, const real* y, real* loss, real* slope, int64_t n) noexcept nogil


ctypedef struct Layer:
    int64_t n_in, n_out
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
    double penalty, squares


include "optimizers.pxi"


include "pace.pxi"


ctypedef struct Net:
    # the plan
    int64_t layers, batch, stride, threads
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
    Layer* layer
    Task* task
    int64_t tasks
    int64_t* task_cost  # cumulative, tasks + 1 of them
    int64_t runs        # of tasks, each of which is cut among the threads: the layers, or 1
    double* row_loss
    vec* outputs        # for each thread: outputs and targets of LANES rows
    real* tile          # for each thread: a PANEL × PANEL tile of gradient
    real* panel         # for each thread, in bf16 modules: HALF_BLOCK rows of a panel before they are rounded
    real* own_inputs    # v⁰ for each thread, or NULL
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
    double inverse_weight # 1 / Σ of its sample weights
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
# CPU to CPU, which can take longer than the work on them. Not where the weights, of so many bytes, are
# close to every thread in any case, but where two barriers are then enough; from a third of the rows on by
# rows there, and where columns do not divide as rows do.
cdef int64_t ROWS_TO_SPLIT = 80
cdef int64_t BYTES_TO_SPLIT = 0 if HALF else 65_536
# Weights of more bytes, about what a core's L2 cache holds, are fetched ahead where there are so many rows:
# the work on fewer is over before what is fetched arrives.
cdef int64_t NEAR_BYTES = 1 << 20
cdef int64_t FAR_ROWS = 64
# Where phase 1 is cut by columns, a thread has its own v⁰ and its own panels of W, so many bytes from those
# of the next: prefetchers run on past the end of what they see read, and what they take out of another CPU's
# cache that CPU has to fetch back.
cdef int64_t BYTES_APART = 1 << 16
# Signals are looked for every so many seconds, and the clock after so much work, a millisecond or less.
cdef double SIGNAL_SECONDS = 0.02
cdef int64_t FLOPS_UNCHECKED = 20_000_000


include "layout.pxi"
include "activations.pxi"
include "losses.pxi"
include "half.pxi"
include "passes.pxi"


# ---- what the threads of a call run ----------------------------------------------------------------


cdef double weight_of(Net* net, const Minibatch* batch) noexcept nogil:
    """Total sample weight of the minibatch."""
    cdef int64_t r
    cdef double total = 0
    if net.weight == NULL:
        return batch.count
    for r in range(batch.count):
        total += net.weight[row_of(batch, r)]
    return total


cdef double sum_losses(Net* net, int64_t count) noexcept nogil:
    """Sum of the rows' weighted losses, in the order of the rows."""
    cdef int64_t r
    cdef double total = 0
    for r in range(count):
        total += net.row_loss[r]
    return total


cdef double sum_penalties(Net* net) noexcept nogil:
    cdef int64_t t
    cdef double total = 0
    if no_penalty(net):
        return 0
    for t in range(net.tasks):
        total += net.task[t].penalty
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


cdef void epoch_work(void* argument, int thread) noexcept nogil:
    """Minibatch after minibatch: rows, barrier, weights, barrier.

    With one hidden layer, cut by columns, a thread has its part of the hidden units and all their weights to
    itself. Threads only hand each other their parts of the output layer's sums and then its δ, and the
    barriers before these are enough. Only where thread 0 has to change something do all meet at the end of
    a step, as it told them in the step before.
    """
    cdef Net* net = <Net*> argument
    cdef Minibatch batch
    cdef int64_t s = 0, steps = (net.rows + net.batch - 1) // net.batch
    cdef double loss, weight, penalty
    cdef bint two, meet
    batch.training = True
    batch.offset = 0
    if thread == 0:
        net.meet[0] = False
    while s < steps:
        batch.rows = net.order + s * net.batch
        batch.count = min(net.batch, net.rows - s * net.batch)
        weight = weight_of(net, &batch)
        batch.inverse_weight = 1 / weight if weight > 0 else 0
        batch.begun = net.online and s > 0
        batch.next_row = batch.rows[1 if s + 1 < steps else 0]
        batch.step = net.step + s
        batch.learning_rate = net.learning_rates[s]
        batch.eta = step_size(net, batch.step + 1, batch.learning_rate)
        two = net.two_barriers and cut_by_columns(net, batch.count)
        row_phase(net, &batch, thread, True)
        start_fetching(net, &batch, thread, (s + (2 if net.online else 1)) * net.batch)
        if not two:
            team_barrier(&net.team, thread)
        loss = sum_losses(net, batch.count) * batch.inverse_weight
        if not isfinite(loss):  # every thread finds the same
            if thread == 0:
                net.losses[s] = loss
            break
        update_phase(net, &batch, thread)
        if thread == 0:
            net.done = s + 1
            net.at = s + 1
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
            penalty = sum_penalties(net)
            net.losses[s] = loss + penalty
            if net.penalties != NULL:
                net.penalties[s] = penalty
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
    cdef double weight
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
    batch.count = net.rows
    weight = weight_of(net, &batch)
    batch.inverse_weight = 1 / weight if weight > 0 else 0
    for start from 0 <= start < net.rows by net.batch:
        batch.offset = start
        batch.count = min(net.batch, net.rows - start)
        row_phase(net, &batch, thread, net.back)
        team_barrier(&net.team, thread)
        if thread == 0:
            net.total += sum_losses(net, batch.count) * batch.inverse_weight
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
                task.penalty = penalize_tile(net, &batch, task, g)
            else:  # only the value is wanted
                task.penalty = penalize_tile(net, &batch, task, net.tile + thread * PANEL * PANEL)


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


# ---- buffers ---------------------------------------------------------------------------------------


cdef inline void* take(char* base, int64_t* used, int64_t bytes) noexcept nogil:
    """The next `bytes` of the block at base, aligned to a vector (and to a cache line)."""
    cdef void* p = base + used[0] if base != NULL else NULL
    used[0] += (bytes + 63) // 64 * 64
    return p


cdef int64_t lay_out(Net* net, char* base, bint clipped) noexcept nogil:
    """Point every buffer into the block at base; returns the block's size. With NULL it only counts."""
    cdef int64_t used = 0, l, panel = PANEL * sizeof(real), s
    cdef Layer* layer
    cdef real* v = NULL
    if not HALF:
        v = <real*> take(base, &used, panels_of(net.layer[0].n_in + 1) * net.stride * panel)
    if net.inputs_owned:
        net.own_inputs = <real*> take(base, &used, net.threads * own_size(net) * sizeof(real))
    if net.two_barriers:
        net.parts = <real*> take(base, &used, panels_of(net.layer[0].n_out) * net.stride * panel)
    for l in range(net.layers):
        layer = &net.layer[l]
        layer.v_in = v
        layer.w = <real*> take(base, &used, panels_of(layer.n_out) * layer.rows * panel)
        if HALF:
            lay_out_operands(net, l, base, &used)
        elif l > 0:
            layer.wt = <real*> take(base, &used, panels_of(layer.n_in) * layer.n_out * panel)
        for s in range(net.optimizer.slots):
            layer.slot[s] = <real*> take(base, &used, panels_of(layer.n_out) * layer.rows * panel)
        if clipped:
            layer.g = <real*> take(base, &used, panels_of(layer.n_out) * layer.rows * panel)
        if not HALF or l == net.layers - 1:
            v = <real*> take(base, &used, panels_of(layer.n_out + 1) * net.stride * panel)
            layer.v = v
            layer.delta = v
        if l < net.layers - 1:
            if not HALF:
                layer.delta = <real*> take(base, &used, panels_of(layer.n_out) * net.stride * panel)
            if layer.activation >= SILU or layer.dropout > 0 or (HALF and kept_slope(layer.activation)):
                layer.slope = <real*> take(base, &used, panels_of(layer.n_out) * net.stride * panel)
    net.task = <Task*> take(base, &used, net.tasks * sizeof(Task))
    net.task_cost = <int64_t*> take(base, &used, (net.tasks + 1) * sizeof(int64_t))
    net.team.seat = <Seat*> take(base, &used, net.threads * sizeof(Seat))
    net.row_loss = <double*> take(base, &used, net.stride * sizeof(double))
    net.outputs = <vec*> take(base, &used, net.threads * 2 * net.layer[net.layers - 1].n_out * sizeof(vec))
    net.tile = <real*> take(base, &used, net.threads * PANEL * panel)
    if HALF:
        net.panel = <real*> take(base, &used, net.threads * HALF_BLOCK * panel)
    return used


cdef void lay_out_operands(Net* net, int64_t l, char* base, int64_t* used) noexcept nogil:
    """The same for a layer's bf16 operands."""
    cdef Layer* layer = &net.layer[l]
    cdef int64_t panel = PANEL * sizeof(operand), inputs = panels_of(layer.n_in + 1), outputs = panels_of(layer.n_out)
    layer.w_pairs = <operand*> take(base, used, outputs * pair_rows(layer.n_in) * panel)
    if l > 0:
        layer.wt_pairs = <operand*> take(base, used, panels_of(layer.n_in) * pair_rows(layer.n_out) * panel)
    layer.v_rows = <operand*> take(base, used, inputs * net.stride * panel)
    layer.v_columns = <operand*> take(base, used, inputs * (net.stride - 1) * panel)
    layer.d_rows = <operand*> take(base, used, outputs * net.stride * panel)
    layer.d_pairs = <operand*> take(base, used, outputs * (net.stride - 1) * panel)


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
    enough. The order of the tasks is that in which penalties and norms are summed, and must not depend on the
    threads; with two barriers there are none.
    """
    cdef int64_t t = 0, l, j, j0, k, together = 1 if net.batch <= GRADIENT_ROWS or net.two_barriers else 4
    cdef Layer* layer
    cdef Task* task
    net.runs = net.layers if net.by_columns or net.online else 1
    for l in range(net.layers):
        layer = &net.layer[l]
        layer.task = t
        for j0 from 0 <= j0 < panels_of(layer.n_out) by together:
            for k in range(panels_of(layer.n_in + 1)):
                for j in range(j0, min(j0 + together, panels_of(layer.n_out))):
                    task = &net.task[t]
                    task.layer = l
                    task.j = j
                    task.k = k
                    task.inputs = min(<int64_t> PANEL, layer.n_in + 1 - k * PANEL)
                    net.task_cost[t + 1] = (net.task_cost[t]
                                            + task.inputs * vectors_of(layer.n_out, j) + 4)
                    t += 1


cdef void set_ones(real* panel, int64_t rows) noexcept nogil:
    """The bias node where it has a panel to itself."""
    cdef int64_t r
    for r in range(rows):
        panel[r * PANEL] = 1


cdef void set_ones_half(Net* net, const Layer* layer) noexcept nogil:
    """The same in v_columns, the only operand that needs it."""
    cdef int64_t c, r, chunk = panels_of(layer.n_in + 1) * PANEL * PANEL
    for c in range((net.stride - 1) // PANEL):
        for r in range(PANEL):
            layer.v_columns[c * chunk + layer.n_in * PANEL + r] = HALF_ONE


cdef void run_work(void* argument, int thread) noexcept nogil:
    """The call's work on one thread."""
    cdef Net* net = <Net*> argument
    if HALF:
        tiles_on()
    net.work(net, thread)
    if HALF:
        tiles_off()


cdef int raise_pending(bint pending) except -1:
    """Let the exception that PyErr_CheckSignals has set take its course."""
    return -1 if pending else 0


cdef class Engine:
    """The contract's Engine for this module's dtype and instruction set. See `Plan`."""

    cdef Net net
    cdef void* block
    cdef void* layers
    cdef void* gradients
    cdef void* input_buffers
    cdef bint busy
    cdef int64_t flops_done  # in this call, or since the threads are kept
    cdef readonly object plan
    cdef readonly int64_t nbytes  # of all buffers

    def __cinit__(self, plan):
        cdef Net* net = &self.net
        cdef Layer* layer
        cdef int64_t l, bytes
        self.plan = plan
        net.layers = len(plan.layer_sizes) - 1
        net.batch = plan.batch_size
        net.threads = min(plan.threads, TEAM_MOST)
        net.block = HALF_BLOCK if HALF else ROW_BLOCK
        weights = sum((m + 1) * n for m, n in zip(plan.layer_sizes, plan.layer_sizes[1:]))
        net.l1 = plan.l1
        net.l2 = plan.l2
        net.clip_norm = plan.clip_norm
        net.by_parts = net.layers == 2 and plan.layer_sizes[2] <= PANEL and not HALF
        net.two_barriers = (net.by_parts and net.threads > 1
                            and panels_of(plan.layer_sizes[1]) >= net.threads
                            and columns_divide(plan.layer_sizes[:2], net.threads)
                            and no_penalty(net) and net.clip_norm == 0)
        net.rows_to_split = 1
        if weights * sizeof(real) > BYTES_TO_SPLIT:
            net.rows_to_split = ROWS_TO_SPLIT if columns_divide(plan.layer_sizes, net.threads) else ROWS_TO_SPLIT // 3
        elif net.two_barriers:
            net.rows_to_split = ROWS_TO_SPLIT // 3
        net.by_columns = net.batch < net.rows_to_split * net.threads
        net.two_barriers = net.two_barriers and net.by_columns
        net.own_stride = net.batch | 1
        net.inputs_owned = net.by_columns and (net.two_barriers or (
            not HALF and panels_of(plan.layer_sizes[1]) >= 2 * net.threads > 2))
        # an odd number of rows keeps panels apart in the cache's sets
        net.stride = max(net.batch, net.threads * net.block)
        net.stride = (net.stride + PANEL - 1) // PANEL * PANEL + 1 if HALF else net.stride | 1
        self._set_loss(plan)
        net.loss_width = plan.loss.parameter
        net.loss_low, net.loss_high = -INFINITY, INFINITY
        if plan.loss.parameter > 0 and net.loss in (SOFTMAX_CROSS_ENTROPY, BINARY_CROSS_ENTROPY):
            net.loss_low = -log1p(-plan.loss.parameter)
            net.loss_high = -log(plan.loss.parameter)
        net.penalty_in_sum = plan.penalty_in_sum
        net.seed = plan.seed
        self._set_optimizer(plan.optimizer)
        net.online = (net.batch == 1 and net.optimizer.kind == SGD and no_penalty(net)
                      and net.clip_norm == 0 and not HALF)
        wanted = 8 * max(plan.layer_sizes) * (sum(plan.layer_sizes) + 4 * plan.batch_size)
        if wanted > 2**60:  # nothing below may overflow
            raise MemoryError(f"an engine for layers {plan.layer_sizes} with batches of "
                              f"{plan.batch_size} needs more than {wanted:,} bytes")
        self.layers = allocate(net.layers * sizeof(Layer))
        net.layer = <Layer*> self.layers
        if net.layer == NULL:
            raise MemoryError("no memory for the layers")
        for l in range(net.layers):
            layer = &net.layer[l]
            layer.n_in = plan.layer_sizes[l]
            layer.n_out = plan.layer_sizes[l + 1]
            layer.rows = layer.n_in + 1
            if net.by_columns and net.threads > 1 and not HALF:
                layer.rows += BYTES_APART // (PANEL * <int64_t> sizeof(real))
            layer.far = panels_of(layer.n_out) * (layer.n_in + 1) * PANEL * <int64_t> sizeof(real) > NEAR_BYTES
            if l < net.layers - 1:
                layer.a = plan.activations[l].parameter
                if plan.activations[l].function is None:
                    layer.activation = ACTIVATIONS.index(plan.activations[l].name)
                else:
                    from fastbp.engines.jit.functions import activation_address

                    layer.activation = USER_ACTIVATION
                    layer.user = <UserActivation> <size_t> activation_address(plan.activations[l], plan.dtype)
                layer.dropout = plan.dropout[l] if plan.dropout else 0.0
            net.tasks += panels_of(layer.n_out) * panels_of(layer.n_in + 1)
            net.flops += (4 if l == 0 else 6) * net.batch * (layer.n_in + 1) * layer.n_out
        row_bytes = plan.layer_sizes[0] * sizeof(real)
        net.fetch_most = min(net.batch, 1 + FETCH_BYTES // row_bytes)
        net.fetch_lines = 1 + (net.fetch_most * (row_bytes + 63) // 64 * net.threads
                               // (panels_of(plan.layer_sizes[0] + 1) * panels_of(plan.layer_sizes[1])))
        net.steps_unchecked = max(<int64_t> 1, FLOPS_UNCHECKED // net.flops)
        bytes = lay_out(net, NULL, plan.clip_norm > 0)
        self.block = allocate(bytes)
        if self.block == NULL:
            raise MemoryError(f"an engine for layers {plan.layer_sizes} with batches of "
                              f"{plan.batch_size} needs {bytes:,} bytes")
        self.nbytes = bytes
        lay_out(net, <char*> self.block, plan.clip_norm > 0)
        cut_tasks(net)
        for l in range(net.layers):
            layer = &net.layer[l]
            if HALF:
                if layer.n_in % PANEL == 0:
                    set_ones_half(net, layer)
            elif l < net.layers - 1 and layer.n_out % PANEL == 0:
                set_ones(layer.v + layer.n_out * net.stride, net.stride)

    def __dealloc__(self):
        team_end(&self.net.team)
        free(self.block)
        free(self.layers)
        free(self.gradients)
        free(self.input_buffers)

    def _set_loss(self, plan):
        self.net.link_kind = LINKS.index(plan.loss.link)
        if plan.loss.function is None:
            self.net.loss = LOSSES.index(plan.loss.name)
        else:
            from fastbp.engines.jit.functions import loss_address

            self.net.loss = USER_LOSS
            self.net.user_loss = <UserLoss> <size_t> loss_address(plan.loss, plan.dtype)

    def _set_optimizer(self, optimizer):
        cdef Optimizer* o = &self.net.optimizer
        # where ε rounds to 0, columns past the last, and weights without a gradient, would become 0 / 0
        least = float(np.finfo(self.plan.dtype).smallest_subnormal)
        o.slots = optimizer.slots
        if optimizer.name == "sgd":
            o.momentum = optimizer.momentum
            o.kind = SGD if o.momentum == 0 else NESTEROV if optimizer.nesterov else MOMENTUM
        elif optimizer.name == "rmsprop":
            o.kind = RMSPROP
            o.momentum = optimizer.rho
            o.new_momentum = 1 - <double> optimizer.rho
            o.epsilon = max(optimizer.epsilon, least)
        else:
            o.kind = ADAM
            self.net.beta_1 = optimizer.beta_1
            self.net.beta_2 = optimizer.beta_2
            o.momentum = optimizer.beta_1
            o.beta_2 = optimizer.beta_2
            o.new_momentum = 1 - self.net.beta_1
            o.new_beta_2 = 1 - self.net.beta_2
            o.epsilon = max(optimizer.epsilon, least)
            o.decay = getattr(optimizer, "weight_decay", 0.0)

    # ---- parameters and optimizer state ----

    def get_parameters(self):
        """Copies of the parameters, each (n_l, n_{l−1} + 1)."""
        cdef int64_t l
        self._be_free()
        parameters = self._arrays()
        for l in range(self.net.layers):
            unpack_parameters(self.net.layer[l].w, self.net.layer[l].rows, parameters[l])
        return parameters

    def set_parameters(self, parameters):
        """Copy parameters in, in the form of `get_parameters`."""
        cdef int64_t l
        self._be_free()
        for l in range(self.net.layers):
            pack_parameters(parameters[l], self.net.layer[l].rows, self.net.layer[l].w)
            if HALF:
                round_weights(&self.net, l)
            elif l > 0:
                transpose_weights(&self.net.layer[l])

    def get_optimizer_state(self):
        """Steps taken, and the optimizer's arrays: slot by slot, layer by layer."""
        cdef int64_t l, s
        self._be_free()
        slots = [self._arrays() for _ in range(self.net.optimizer.slots)]
        for s in range(self.net.optimizer.slots):
            for l in range(self.net.layers):
                unpack_parameters(self.net.layer[l].slot[s], self.net.layer[l].rows, slots[s][l])
        return self.net.step, slots

    def set_optimizer_state(self, step, slots):
        """Copy the optimizer's state in, in the form of `get_optimizer_state`."""
        cdef int64_t l, s
        self._be_free()
        self.net.step = step
        for s in range(self.net.optimizer.slots):
            for l in range(self.net.layers):
                pack_parameters(slots[s][l], self.net.layer[l].rows, self.net.layer[l].slot[s])

    def _arrays(self):
        sizes = self.plan.layer_sizes
        return [np.empty((n, m + 1), self.plan.dtype) for m, n in zip(sizes, sizes[1:])]

    # ---- computations ----

    def keep_threads(self, bint keep):
        """Whether threads stay from one call to the next."""
        self._be_free()
        self.net.team.kept = keep
        self.flops_done = 0
        if not keep:
            with nogil:
                team_end(&self.net.team)

    cdef void _run(self, void (*work)(void*, int) noexcept nogil, int64_t steps, int64_t flops
                   ) noexcept nogil:
        """Run work of so many steps, of so many FLOPs each, on as many threads as it is worth."""
        cdef int64_t threads
        # Threads that stay are started once so much work has been done as makes them worth it.
        self.flops_done = steps * flops + (self.flops_done if self.net.team.kept else 0)
        threads = min(flops // FLOPS_PER_THREAD, self.flops_done // FLOPS_PER_START)
        threads = max(<int64_t> 1, min(self.net.threads, threads))
        if work == epoch_work:
            threads = start_pace(&self.net.pace, steps, flops, <int> threads)
        self.busy = True
        self.net.stop = False
        self.net.next_look = seconds_now() + SIGNAL_SECONDS
        self.net.work = work
        team_run(&self.net.team, <int> threads, run_work, &self.net)
        self.busy = False

    cdef int _be_free(self) except -1:
        """Refuse a call from a signal's handler in the middle of another, on the same thread."""
        if self.busy:
            from fastbp.engines.interrupts import refuse_reentry

            refuse_reentry()
        return 0

    cdef int _set_data(self, const real[:, ::1] X, y, const real[::1] sample_weight) except -1:
        cdef const int64_t[::1] labels
        cdef const real[:, ::1] targets
        self._be_free()
        self.net.X = &X[0, 0]
        self.net.rows = X.shape[0]
        self.net.labels = NULL
        self.net.y = NULL
        if y.ndim == 1:
            labels = y
            self.net.labels = &labels[0]
        else:
            targets = y
            self.net.y = &targets[0, 0]
        self.net.weight = &sample_weight[0] if sample_weight is not None else NULL
        return 0

    def forward(self, const real[:, ::1] X, real[:, ::1] out, *, bint link=False):
        """Outputs f (with link: predictions) of every row of X into out, (n, n_L)."""
        self._be_free()
        self.net.X = &X[0, 0]
        self.net.rows = X.shape[0]
        self.net.out = &out[0, 0]
        self.net.link = link
        with nogil:
            self._run(forward_work, 1, self.net.flops // (3 * self.net.batch) * self.net.rows)
        raise_pending(self.net.stop)

    def loss(self, const real[:, ::1] X, y, const real[::1] sample_weight):
        """Objective over all rows as one batch."""
        self._set_data(X, y, sample_weight)
        self.net.back = False
        return self._objective(1)

    def gradient(self, const real[:, ::1] X, y, const real[::1] sample_weight, out):
        """Gradient of the objective into out; returns the objective."""
        cdef int64_t l
        self._set_data(X, y, sample_weight)
        self._need_gradients()
        self.net.back = True
        value = self._objective(3)
        for l in range(self.net.layers):
            unpack_parameters(self.net.layer[l].g, self.net.layer[l].rows, out[l])
        return value

    cdef double _objective(self, int64_t passes) except? -1:
        self.net.total = 0
        with nogil:
            self._run(gradient_work, (self.net.rows + self.net.batch - 1) // self.net.batch,
                      self.net.flops // 3 * passes)
        raise_pending(self.net.stop)
        return self.net.total + sum_penalties(&self.net)

    def jacobian(self, const real[:, ::1] X, real[:, :, ::1] out):
        """∂f/∂x of every row of X into out, (n, n_L, n_0)."""
        self._be_free()
        self._need_input_buffers()
        self.net.X = &X[0, 0]
        self.net.rows = X.shape[0]
        self.net.out = &out[0, 0, 0]
        with nogil:
            self._run(jacobian_work, 1, self.net.flops // (3 * self.net.batch) * self.net.rows
                      * self.net.layer[self.net.layers - 1].n_out)
        raise_pending(self.net.stop)

    def epoch(self, const real[:, ::1] X, y, const real[::1] sample_weight,
              const int64_t[::1] order, const double[::1] learning_rates, double[::1] losses,
              double[::1] penalties=None):
        """Train on X's rows in this order; returns the number of steps applied."""
        self._set_data(X, y, sample_weight)
        self.net.rows = order.shape[0]
        self.net.order = &order[0]
        self.net.learning_rates = &learning_rates[0]
        self.net.losses = &losses[0]
        self.net.penalties = &penalties[0] if penalties is not None else NULL
        self.net.done = 0
        with nogil:
            self._run(epoch_work, (self.net.rows + self.net.batch - 1) // self.net.batch, self.net.flops)
        self.net.step += self.net.done
        raise_pending(self.net.stop)
        return self.net.done

    cdef int _need_gradients(self) except -1:
        """Buffers for g, where clipping has not asked for them already."""
        cdef int64_t l, bytes = 0, panel = PANEL * sizeof(real)
        cdef Layer* layer
        if self.net.layer[0].g != NULL:
            return 0
        for l in range(self.net.layers):
            layer = &self.net.layer[l]
            bytes += panels_of(layer.n_out) * layer.rows * panel
        self.gradients = allocate(bytes)
        if self.gradients == NULL:
            raise MemoryError(f"the gradient needs {bytes:,} bytes")
        bytes = 0
        for l in range(self.net.layers):
            layer = &self.net.layer[l]
            layer.g = <real*> (<char*> self.gradients + bytes)
            bytes += panels_of(layer.n_out) * layer.rows * panel
        return 0

    cdef int _need_input_buffers(self) except -1:
        """The first layer's wt, brought up to date, and room for ∂f/∂x."""
        cdef Layer* layer = &self.net.layer[0]
        cdef int64_t panels = panels_of(layer.n_in)
        cdef int64_t weights = panels * layer.n_out * PANEL * sizeof(real)
        cdef int64_t rows = panels * self.net.stride * PANEL * sizeof(real)
        if HALF:
            weights = panels * pair_rows(layer.n_out) * PANEL * sizeof(operand)
        if self.input_buffers == NULL:
            self.input_buffers = allocate(weights + rows)
            if self.input_buffers == NULL:
                raise MemoryError(f"the Jacobian needs {weights + rows:,} bytes")
            self.net.delta_input = <real*> (<char*> self.input_buffers + weights)
            if HALF:
                layer.wt_pairs = <operand*> self.input_buffers
            else:
                layer.wt = <real*> self.input_buffers
        if HALF:
            round_weights(&self.net, 0)
        else:
            transpose_weights(layer)
        return 0


# ---- for the choice of module, and for tests and benchmarks of the kernels alone ---------------------


def cpu_offers(str instruction_set):
    """Whether this process can run the modules of this instruction set on this CPU."""
    return cpu_has(instruction_set.encode()) == CPU_OFFERS


def system_refuses(str instruction_set):
    """Whether this CPU could, but the operating system does not allow it."""
    return cpu_has(instruction_set.encode()) == SYSTEM_REFUSES


def thread_costs(per_step=None, per_start=None, rows=None, bytes_=None, window=None):
    """The cost model of threads: the work in FLOPs that makes a thread worth its barriers and its start,
    the rows a thread must have, or the bytes the weights must not exceed, for phase 1 to be cut by rows,
    and the FLOPs of a window (pace.pxi). Set where given, for engines made from then on; returns what was.
    """
    global FLOPS_PER_THREAD, FLOPS_PER_START, ROWS_TO_SPLIT, BYTES_TO_SPLIT, FLOPS_PER_WINDOW
    before = (FLOPS_PER_THREAD, FLOPS_PER_START, ROWS_TO_SPLIT, BYTES_TO_SPLIT, FLOPS_PER_WINDOW)
    FLOPS_PER_THREAD = FLOPS_PER_THREAD if per_step is None else per_step
    FLOPS_PER_START = FLOPS_PER_START if per_start is None else per_start
    ROWS_TO_SPLIT = ROWS_TO_SPLIT if rows is None else rows
    BYTES_TO_SPLIT = BYTES_TO_SPLIT if bytes_ is None else bytes_
    FLOPS_PER_WINDOW = FLOPS_PER_WINDOW if window is None else window
    return before


def fetch_ahead(bytes_=None, rows=None):
    """The bytes of a layer's weights beyond which they are fetched ahead, and the rows that it takes. Set
    where given, the bytes for engines made from then on; returns what was.
    """
    global NEAR_BYTES, FAR_ROWS
    before = (NEAR_BYTES, FAR_ROWS)
    NEAR_BYTES = NEAR_BYTES if bytes_ is None else bytes_
    FAR_ROWS = FAR_ROWS if rows is None else rows
    return before


def vector_function(str name, const real[::1] x, real[::1] out):
    """Apply a function of vecmath.h to every element of x."""
    cdef int64_t i, n = x.shape[0]
    cdef int which = ["exp", "expm1", "log", "log1p", "logistic", "tanh", "softplus", "normal"].index(name)
    cdef real rest[LANES]
    with nogil:
        for i from 0 <= i < n - LANES + 1 by LANES:
            store_unaligned(&out[i], call_function(which, load_unaligned(&x[i])))
        i = n // LANES * LANES
        if i < n:
            memset(rest, 0, sizeof(rest))
            memcpy(rest, &x[i], (n - i) * sizeof(real))
            store_unaligned(rest, call_function(which, load_unaligned(rest)))
            memcpy(&out[i], rest, (n - i) * sizeof(real))


cdef inline vec call_function(int which, vec x) noexcept nogil:
    cdef vec density
    if which == 0:
        return exp_vec(x)
    if which == 1:
        return expm1_vec(x)
    if which == 2:
        return log_vec(x)
    if which == 3:
        return log1p_vec(x)
    if which == 4:
        return logistic_vec(x)
    if which == 5:
        return tanh_vec(x)
    if which == 6:
        return softplus_vec(x)
    return normal_vec(x, &density)
