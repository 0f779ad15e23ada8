# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: embedsignature=True
"""The native engine, compiled once for each instruction set and kind of number (see setup.py).

Reading order: net.pxi (what there is), layout.pxi (how arrays lie), tile.h (the micro-kernel),
activations.pxi, losses.pxi, optimizers.pxi, rows.pxi and weights.pxi (the two phases of a step), online.h
(where minibatches are single rows), half.pxi (the same on bf16 operands), calls.pxi (an epoch and all else
that threads run), team.h and pace.pxi (the threads, and how many share a step), buffers.pxi, and here the
contract of fastbp/engines/__init__.py, with guard.h. The letters are those of the notes; l counts layers from 0.
"""

from libc.math cimport INFINITY, isfinite, log, log1p, pow, sqrt
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cimport cython

import numpy as np

from fastbp.engines.arrays import check_gradients, refuse_restore, refuse_shape
from fastbp.optimizers import epsilon_in


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
    bint tiles_granted()
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
    void team_forget(Team* team, int threads)
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


include "optimizers.pxi"
include "pace.pxi"
include "net.pxi"
include "layout.pxi"
include "activations.pxi"
include "losses.pxi"
include "half.pxi"
include "scale.pxi"
include "rows.pxi"
include "weights.pxi"
include "calls.pxi"
include "buffers.pxi"


cdef int raise_pending(bint pending) except -1:
    """Let the exception that PyErr_CheckSignals has set take its course."""
    return -1 if pending else 0


@cython.final
@cython.freelist(4)
@cython.no_gc
cdef class Taken:
    """An engine in use: free again when the method that took it ends, however it does, and lets this go."""

    cdef Engine engine

    def __dealloc__(self):
        guard_leave(&self.engine.guard)


cdef class Engine:
    """The contract's Engine for this module's dtype and instruction set. See `Plan`."""

    cdef Net net
    cdef Guard guard
    cdef Block kept        # parameters, the optimizer's state, tasks, and what each thread needs
    cdef Block rows        # what there is for each row of a minibatch, or of the blocks of a prediction
    cdef Block layers, gradients, input_weights
    cdef Block aside       # parameters, by `keep`
    cdef int64_t flops_done  # in this call, or since the threads are kept
    cdef readonly object plan

    def __cinit__(self, plan):
        cdef Net* net = &self.net
        cdef int64_t l
        self.plan = plan
        if HALF and not tiles_granted():
            raise RuntimeError("the operating system does not give this process the registers of AMX")
        wanted = 8 * max(plan.layer_sizes) * (sum(plan.layer_sizes) + 4 * plan.batch_size)
        weights = sum(n * m for n, m in plan.shapes)
        if max(wanted, 6 * plan.batch_size * weights) > 2**60:  # nothing below may overflow
            raise MemoryError(f"an engine for layers {plan.layer_sizes} with batches of "
                              f"{plan.batch_size} needs more than {wanted:,} bytes")
        net.layers = len(plan.stages)
        net.batch = plan.batch_size
        net.threads = min(plan.threads, TEAM_MOST)
        net.l1 = plan.l1
        net.l2 = plan.l2
        net.penalty_in_sum = plan.penalty_in_sum
        net.clip_norm = plan.clip_norm
        net.seed = plan.seed
        self._set_loss(plan.loss)
        self._set_optimizer(plan.optimizer)
        self._choose_cut(weights)
        fill(&self.layers, net.layers * sizeof(Layer), "the list of layers")
        net.layer = <Layer*> self.layers.start
        for l in range(net.layers):
            self._set_layer(l)
        row_bytes = plan.layer_sizes[0] * sizeof(real)
        net.fetch_most = min(net.batch, 1 + FETCH_BYTES // row_bytes)
        net.fetch_lines = 1 + (net.fetch_most * (row_bytes + 63) // 64 * net.threads
                               // (panels_of(net.layer[0].weights) * panels_of(plan.layer_sizes[1])))
        net.steps_unchecked = max(<int64_t> 1, FLOPS_UNCHECKED // net.flops)
        fill(&self.kept, lay_out(net, NULL), f"an engine for layers {plan.layer_sizes}")
        lay_out(net, <char*> self.kept.start)
        make_rows(net, &self.rows, net.batch + net.online, False)
        cut_tasks(net)

    def __dealloc__(self):
        team_end(&self.net.team)
        empty(&self.kept)
        empty(&self.rows)
        empty(&self.layers)
        empty(&self.gradients)
        empty(&self.input_weights)
        empty(&self.aside)

    @property
    def nbytes(self):
        """Bytes of all buffers."""
        return (self.kept.bytes + self.rows.bytes + self.layers.bytes + self.gradients.bytes
                + self.input_weights.bytes + self.aside.bytes)

    def _choose_cut(self, weights):
        """How the threads share a step of this net, and what of its buffers depends on that."""
        cdef Net* net = &self.net
        sizes = self.plan.layer_sizes
        dense = all(type(stage).__name__ == "Dense" for stage in self.plan.stages)
        net.online = (dense and net.batch == 1 and net.optimizer.kind == SGD and no_penalty(net)
                      and net.clip_norm == 0 and not HALF)
        net.by_parts = dense and net.layers == 2 and sizes[2] <= PANEL and not HALF
        net.two_barriers = (net.by_parts and net.clip_norm == 0 and panels_of(sizes[1]) >= net.threads > 1
                            and columns_divide(sizes[:2], net.threads))
        net.rows_to_split = 1
        if weights * sizeof(real) > BYTES_TO_SPLIT:
            net.rows_to_split = ROWS_TO_SPLIT if columns_divide(sizes, net.threads) else ROWS_TO_SPLIT // 3
        if net.two_barriers:  # a thread has v⁰, its columns of v¹ and of δ¹, and their weights
            share = sizes[0] * sizes[1] // net.threads * (1 + net.optimizer.slots)
            rows = (COLUMNS_BYTES // sizeof(real) - share) // (sizes[0] + 2 * sizes[1] // net.threads)
            net.rows_to_split = max(net.rows_to_split, rows // net.threads)
        net.by_columns = net.batch < net.rows_to_split * net.threads
        net.two_barriers = net.two_barriers and net.by_columns
        net.inputs_owned = net.by_columns and (net.two_barriers or (
            not HALF and panels_of(sizes[1]) >= 2 * net.threads > 2))
        net.own_stride = net.batch | 1  # an odd number of rows keeps panels apart in the cache's sets
        net.block = HALF_BLOCK if HALF else ROW_BLOCK

    def _set_layer(self, int64_t l):
        cdef Net* net = &self.net
        cdef Layer* layer = &net.layer[l]
        plan = self.plan
        layer.n_in = plan.layer_sizes[l]
        layer.n_out = plan.layer_sizes[l + 1]
        layer.kind = STAGES.index(type(plan.stages[l]).__name__)
        layer.weights = plan.stages[l].shapes[0][1]
        layer.penalized = plan.stages[l].penalized[0]
        layer.rows = layer.weights
        if net.by_columns and net.threads > 1 and not HALF:
            layer.rows += BYTES_APART // (PANEL * <int64_t> sizeof(real))
        layer.far = panels_of(layer.n_out) * layer.weights * PANEL * <int64_t> sizeof(real) > NEAR_BYTES
        net.tasks += panels_of(layer.n_out) * panels_of(layer.weights)
        net.flops += (4 if l == 0 else 6) * net.batch * layer.weights * layer.n_out
        if l == net.layers - 1:
            return
        layer.dropout = plan.dropout[l] if plan.dropout else 0.0
        activation = plan.activations[l]
        layer.a = activation.parameter
        if activation.function is None:
            layer.activation = ACTIVATIONS.index(activation.name)
        else:
            from fastbp.engines.jit.functions import activation_address

            layer.activation = USER_ACTIVATION
            layer.user = <UserActivation> <size_t> activation_address(activation, plan.dtype)

    def _set_loss(self, loss):
        cdef Net* net = &self.net
        net.link_kind = LINKS.index(loss.link)
        net.loss_width = loss.parameter
        net.loss_low, net.loss_high = -INFINITY, INFINITY
        if loss.function is None:
            net.loss = LOSSES.index(loss.name)
        else:
            from fastbp.engines.jit.functions import loss_address

            net.loss = USER_LOSS
            net.user_loss = <UserLoss> <size_t> loss_address(loss, self.plan.dtype)
        if loss.parameter > 0 and net.loss in (SOFTMAX_CROSS_ENTROPY, BINARY_CROSS_ENTROPY):
            net.loss_low = -log1p(-loss.parameter)
            net.loss_high = -log(loss.parameter)

    def _set_optimizer(self, optimizer):
        cdef Optimizer* o = &self.net.optimizer
        o.slots = optimizer.slots
        if optimizer.name == "sgd":
            o.momentum = optimizer.momentum
            o.kind = SGD if o.momentum == 0 else NESTEROV if optimizer.nesterov else MOMENTUM
        elif optimizer.name == "rmsprop":
            o.kind = RMSPROP
            o.momentum = optimizer.rho
            o.new_momentum = 1 - <double> optimizer.rho
        else:
            o.kind = ADAM
            self.net.beta_1 = optimizer.beta_1
            self.net.beta_2 = optimizer.beta_2
            o.momentum = optimizer.beta_1
            o.beta_2 = optimizer.beta_2
            o.new_momentum = 1 - self.net.beta_1
            o.new_beta_2 = 1 - self.net.beta_2
            o.decay = getattr(optimizer, "weight_decay", 0.0)
        if optimizer.name != "sgd":
            o.epsilon = epsilon_in(optimizer, self.plan.dtype)

    # ---- parameters and optimizer state ----

    def get_parameters(self):
        """Copies of the parameters, each (n_l, n_{l−1} + 1)."""
        cdef int64_t l
        taken = self._take()
        parameters = self._arrays()
        for l in range(self.net.layers):
            unpack_parameters(self.net.layer[l].w, self.net.layer[l].rows, parameters[l])
        return parameters

    def set_parameters(self, parameters):
        """Copy parameters in, in the form of `get_parameters`."""
        cdef int64_t l
        taken = self._take()
        self.plan.check_shapes(parameters)
        for l in range(self.net.layers):
            pack_parameters(parameters[l], self.net.layer[l].rows, self.net.layer[l].w)
            if HALF or (l > 0 and self.net.layer[l].kind == DENSE):
                mirror_weights(&self.net, l)

    def keep(self):
        """Copy the parameters aside, if all of them are finite; returns whether they are."""
        cdef int64_t l, bytes = 0
        taken = self._take()
        for l in range(self.net.layers):
            if not all_finite(&self.net.layer[l]):
                return False
            bytes += bytes_kept(&self.net.layer[l])
        if self.aside.start == NULL:
            fill(&self.aside, bytes, "a copy of the parameters")
        copy_kept(&self.net, <real*> self.aside.start, False)
        return True

    def restore(self):
        """Take back the parameters that were kept."""
        cdef int64_t l
        taken = self._take()
        if self.aside.start == NULL:
            refuse_restore()
        copy_kept(&self.net, <real*> self.aside.start, True)
        for l in range(self.net.layers):
            if HALF or (l > 0 and self.net.layer[l].kind == DENSE):
                mirror_weights(&self.net, l)

    def get_optimizer_state(self):
        """Steps taken, and the optimizer's arrays: slot by slot, layer by layer."""
        cdef int64_t l, s
        taken = self._take()
        slots = [self._arrays() for _ in range(self.net.optimizer.slots)]
        for s in range(self.net.optimizer.slots):
            for l in range(self.net.layers):
                unpack_parameters(self.net.layer[l].slot[s], self.net.layer[l].rows, slots[s][l])
        return self.net.step, slots

    def set_optimizer_state(self, step, slots):
        """Copy the optimizer's state in, in the form of `get_optimizer_state`."""
        cdef int64_t l, s
        taken = self._take()
        self.plan.check_slots(slots)
        self.net.step = step
        for s in range(self.net.optimizer.slots):
            for l in range(self.net.layers):
                pack_parameters(slots[s][l], self.net.layer[l].rows, self.net.layer[l].slot[s])

    def _arrays(self):
        return [np.empty(shape, self.plan.dtype) for shape in self.plan.shapes]

    # ---- computations ----

    def keep_threads(self, bint keep):
        """Whether threads stay from one call to the next."""
        taken = self._take()
        self.net.team.kept = keep
        self.flops_done = 0
        if not keep:
            with nogil:
                team_end(&self.net.team)

    cdef int _worthwhile(self, int64_t steps, int64_t flops) noexcept nogil:
        """How many threads this call's steps, of so many FLOPs each, are worth."""
        cdef int64_t threads
        # Threads that stay are started once so much work has been done as makes them worth it.
        self.flops_done = steps * flops + (self.flops_done if self.net.team.kept else 0)
        threads = min(flops // FLOPS_PER_THREAD, self.flops_done // FLOPS_PER_START)
        return <int> max(<int64_t> 1, min(self.net.threads, threads))

    cdef void _run(self, void (*work)(void*, int) noexcept nogil, int threads) noexcept nogil:
        self.net.stop = False
        self.net.next_look = seconds_now() + SIGNAL_SECONDS
        self.net.work = work
        team_run(&self.net.team, threads, run_work, &self.net)

    cdef int _run_blocks(self, void (*work)(void*, int) noexcept nogil, int64_t flops, bint inputs) except -1:
        """Run work of so many FLOPs that threads share block by block of rows; inputs: it needs ∂f/∂x."""
        cdef int64_t blocks = (self.net.rows + self.net.block - 1) // self.net.block
        cdef int threads = <int> max(<int64_t> 1, min(blocks, <int64_t> self._worthwhile(1, flops)))
        # Of several threads any may have a whole block.
        make_rows(&self.net, &self.rows,
                  threads * self.net.block if threads > 1 else min(self.net.rows, self.net.block), inputs)
        with nogil:
            self._run(work, threads)
        return raise_pending(self.net.stop)

    cdef Taken _take(self):
        """Have the engine to oneself while the result lives.

        Refused in the middle of another call: to a signal's handler on the same thread, and to another
        thread where nothing else keeps it out.
        """
        cdef Taken taken
        if not guard_take(&self.guard):
            from fastbp.engines.interrupts import refuse_reentry

            refuse_reentry()
        taken = Taken.__new__(Taken)
        taken.engine = self
        return taken

    def after_fork(self):
        """Be free in a forked process: no thread lives there that was in the middle of a call."""
        team_forget(&self.net.team, <int> self.net.threads)
        guard_leave(&self.guard)

    # Shapes are checked here, as C trusts them: once a call, in O(1). The address of an array's first element
    # is taken also where it has none, and then not read.

    cdef int _set_inputs(self, const real[:, ::1] X) except -1:
        if X.shape[1] != self.net.layer[0].n_in:
            refuse_shape("X", X, f"(n, {self.net.layer[0].n_in})")
        self.net.X = &X[0, 0]
        self.net.rows = X.shape[0]
        self.net.weight = NULL
        return 0

    cdef int _set_data(self, const real[:, ::1] X, y, const real[::1] sample_weight) except -1:
        cdef const int64_t[::1] labels
        cdef const real[:, ::1] targets
        cdef int64_t outputs = self.net.layer[self.net.layers - 1].n_out
        self._set_inputs(X)
        if y.ndim == 1 and self.net.loss == SOFTMAX_CROSS_ENTROPY:
            labels = y
            if labels.shape[0] != X.shape[0]:
                refuse_shape("y", y, f"({X.shape[0]},), as many as X")
            self.net.labels = &labels[0]
        elif y.ndim == 2:
            targets = y
            if targets.shape[0] != X.shape[0] or targets.shape[1] != outputs:
                refuse_shape("y", y, f"({X.shape[0]}, {outputs})")
            self.net.labels = NULL
            self.net.y = &targets[0, 0]
        else:
            refuse_shape("y", y, f"({X.shape[0]}, {outputs})")
        if sample_weight is not None:
            if sample_weight.shape[0] != X.shape[0]:
                refuse_shape("sample_weight", sample_weight, f"({X.shape[0]},), as many as X")
            self.net.weight = &sample_weight[0]
        return 0

    def forward(self, const real[:, ::1] X, real[:, ::1] out, *, bint link=False):
        """Outputs f (with link: predictions) of every row of X into out, (n, n_L)."""
        cdef int64_t outputs = self.net.layer[self.net.layers - 1].n_out
        taken = self._take()
        self._set_inputs(X)
        if out.shape[0] != X.shape[0] or out.shape[1] != outputs:
            refuse_shape("out", out, f"({X.shape[0]}, {outputs})")
        self.net.out = &out[0, 0]
        self.net.link = link
        self._run_blocks(forward_work, self.net.flops // (3 * self.net.batch) * self.net.rows, False)

    def loss(self, const real[:, ::1] X, y, const real[::1] sample_weight):
        """Objective over all rows as one batch."""
        taken = self._take()
        self._set_data(X, y, sample_weight)
        self.net.back = False
        return self._objective(1)

    def gradient(self, const real[:, ::1] X, y, const real[::1] sample_weight, out):
        """Gradient of the objective into out; returns the objective."""
        cdef int64_t l
        taken = self._take()
        self._set_data(X, y, sample_weight)
        check_gradients(self.plan, out)
        self._need_gradients()
        self.net.back = True
        value = self._objective(3)
        for l in range(self.net.layers):
            unpack_parameters(self.net.layer[l].g, self.net.layer[l].rows, out[l])
        return value

    cdef double _objective(self, int64_t passes) except? -1:
        self.net.total = 0
        with nogil:
            weigh(&self.net, 0, NULL, self.net.rows)
            self._run(gradient_work, self._worthwhile((self.net.rows + self.net.batch - 1) // self.net.batch,
                                                       self.net.flops // 3 * passes))
        raise_pending(self.net.stop)
        return self.net.total + sum_penalties(&self.net, 0)

    def jacobian(self, const real[:, ::1] X, real[:, :, ::1] out):
        """∂f/∂x of every row of X into out, (n, n_L, n_0)."""
        cdef int64_t outputs = self.net.layer[self.net.layers - 1].n_out
        taken = self._take()
        self._set_inputs(X)
        if out.shape[0] != X.shape[0] or out.shape[1] != outputs or out.shape[2] != X.shape[1]:
            refuse_shape("out", out, f"({X.shape[0]}, {outputs}, {X.shape[1]})")
        self._need_input_weights()
        self.net.out = &out[0, 0, 0]
        self._run_blocks(jacobian_work, self.net.flops // (3 * self.net.batch) * self.net.rows
                         * self.net.layer[self.net.layers - 1].n_out, True)

    def epoch(self, const real[:, ::1] X, y, const real[::1] sample_weight,
              const int64_t[::1] order, const double[::1] learning_rates, double[::1] losses,
              double[::1] penalties=None):
        """Train on X's rows in this order; returns the number of steps applied.

        That 0 ≤ order[i] < n is the caller's to see to.
        """
        cdef int64_t steps = (order.shape[0] + self.net.batch - 1) // self.net.batch
        taken = self._take()
        self._set_data(X, y, sample_weight)
        if X.shape[0] == 0 and order.shape[0] > 0:
            refuse_shape("order", order, "(0,), as X has no rows")
        if learning_rates.shape[0] < steps:
            refuse_shape("learning_rates", learning_rates, f"({steps},), one for each step")
        if losses.shape[0] < steps:
            refuse_shape("losses", losses, f"({steps},), one for each step")
        if penalties is not None and penalties.shape[0] < steps:
            refuse_shape("penalties", penalties, f"({steps},), one for each step")
        self.net.rows = order.shape[0]
        self.net.order = &order[0]
        self.net.learning_rates = &learning_rates[0]
        self.net.losses = &losses[0]
        self.net.penalties = &penalties[0] if penalties is not None else NULL
        self.net.done = 0
        with nogil:
            weigh_minibatch(&self.net, 0)
            self._run(epoch_work, start_pace(&self.net.pace, steps, self.net.flops,
                                             self._worthwhile(steps, self.net.flops)))
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
        fill(&self.gradients, bytes, "the gradient")
        bytes = 0
        for l in range(self.net.layers):
            layer = &self.net.layer[l]
            layer.g = <real*> (self.gradients.start + bytes)
            bytes += panels_of(layer.n_out) * layer.rows * panel
        return 0

    cdef int _need_input_weights(self) except -1:
        """The first layer's wt, brought up to date."""
        cdef Layer* layer = &self.net.layer[0]
        cdef int64_t bytes = panels_of(layer.n_in) * layer.n_out * PANEL * sizeof(real)
        if HALF:
            bytes = panels_of(layer.n_in) * pair_rows(layer.n_out) * PANEL * sizeof(operand)
        if self.input_weights.start == NULL:
            fill(&self.input_weights, bytes, "the Jacobian")
            if HALF:
                layer.wt_pairs = <operand*> self.input_weights.start
            else:
                layer.wt = <real*> self.input_weights.start
        if layer.kind == DENSE:
            mirror_weights(&self.net, 0)
        return 0


# ---- for the choice of module, and for tests and benchmarks of the kernels alone ---------------------


def cpu_offers(str instruction_set):
    """Whether this process can run the modules of this instruction set on this CPU."""
    return cpu_has(instruction_set.encode()) == CPU_OFFERS


def system_refuses(str instruction_set):
    """Whether this CPU could, but the operating system does not allow it."""
    return cpu_has(instruction_set.encode()) == SYSTEM_REFUSES


def thread_costs(per_step=None, per_start=None, rows=None, bytes_=None, columns=None, window=None):
    """The cost model of threads: the work in FLOPs that makes a thread worth its barriers and its start,
    the rows a thread must have, or the bytes the weights must not exceed, for phase 1 to be cut by rows,
    the bytes up to which a thread works on columns where two barriers are then enough, and the FLOPs of a
    window (pace.pxi). Set where given, for engines made from then on; returns what was.
    """
    global FLOPS_PER_THREAD, FLOPS_PER_START, ROWS_TO_SPLIT, BYTES_TO_SPLIT, COLUMNS_BYTES, FLOPS_PER_WINDOW
    before = (FLOPS_PER_THREAD, FLOPS_PER_START, ROWS_TO_SPLIT, BYTES_TO_SPLIT, COLUMNS_BYTES, FLOPS_PER_WINDOW)
    FLOPS_PER_THREAD = FLOPS_PER_THREAD if per_step is None else per_step
    FLOPS_PER_START = FLOPS_PER_START if per_start is None else per_start
    ROWS_TO_SPLIT = ROWS_TO_SPLIT if rows is None else rows
    BYTES_TO_SPLIT = BYTES_TO_SPLIT if bytes_ is None else bytes_
    COLUMNS_BYTES = COLUMNS_BYTES if columns is None else columns
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
