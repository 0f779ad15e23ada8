# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: embedsignature=True, freethreading_compatible=True
"""The native engine, compiled once for each instruction set and kind of number (see setup.py).

Reading order: headers.pxi (what is C), net.pxi (what there is), layout.pxi (how arrays lie), stages.pxi (the kinds of
stage), dense.pxi with tile.h (the micro-kernel), scale.pxi and those after it, activations.pxi, losses.pxi, optimizers.pxi,
rows.pxi and weights.pxi (the two phases of a step), online.pxi (where minibatches are single rows), half.pxi (Dense on
bf16 operands), cut.pxi and costs.pxi (how threads share a step), calls.pxi (an epoch and all else that threads run), team.h and pace.pxi (the
threads, and how many share a step), buffers.pxi, and here the contract of fastbp/engines/__init__.py, with guard.h.
README.md has the pictures. The letters are those of the notes; l counts layers from 0.
"""

from libc.math cimport INFINITY, isfinite, log, log1p, pow, sqrt
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cimport cython

import numpy as np

from fastbp.csr import CSR
from fastbp.engines.arrays import check_gradients, refuse_kind, refuse_restore, refuse_shape
from fastbp.optimizers import epsilon_in
from fastbp.stages import PLAIN


include "headers.pxi"
include "optimizers.pxi"
include "costs.pxi"
include "pace.pxi"
include "net.pxi"
include "layout.pxi"
include "activations.pxi"
include "losses.pxi"
include "online.pxi"
include "dense.pxi"
include "scale.pxi"
include "sparse.pxi"
include "blend.pxi"
include "columns.pxi"
include "periodic.pxi"
include "lookup.pxi"
include "members.pxi"
include "half.pxi"
include "stages.pxi"
include "cut.pxi"
include "rows.pxi"
include "weights.pxi"
include "calls.pxi"
include "buffers.pxi"
include "kernels.pxi"


cdef int kind_of(activation) except -1:
    """The kernel of an activation function."""
    return USER_ACTIVATION if activation.function is not None else ACTIVATIONS.index(activation.name)


@cython.final
@cython.freelist(4)
cdef class Held:
    """The memory of a call's X, which stays where it is while this lives."""

    cdef const real[:, ::1] dense
    cdef const real[::1] values
    cdef const int32_t[::1] columns, starts
    cdef const int64_t[::1] wide_columns, wide_starts


@cython.final
@cython.freelist(4)
@cython.no_gc
cdef class Taken:
    """An engine in use: free again when the method that took it ends, however it does, and lets this go."""

    cdef Engine engine

    def __dealloc__(self):
        guard_leave(&self.engine.guard)


cdef class Engine:
    """The contract's Engine for this module's dtype and instruction set. See `Plan`.

    costs: some of `default_costs`, for a test or a measurement.
    """

    cdef Net net
    cdef Guard guard
    cdef Block kept        # parameters, the optimizer's state, tasks, and what each thread needs
    cdef Block rows        # what there is for each row of a minibatch, or of the blocks of a prediction
    cdef Block layers, gradients, input_weights
    cdef Block aside       # parameters, by `keep`
    cdef Block entries     # of a minibatch of sparse rows
    cdef object levels       # of a pinball loss
    cdef dict starts         # of each Lookup, where its tables begin
    cdef readonly object plan

    def __cinit__(self, plan, costs=None):
        cdef Net* net = &self.net
        cdef int64_t l
        self.plan = plan
        self.starts = {}
        if HALF and not tiles_granted():
            raise RuntimeError("the operating system does not give this process the registers of AMX")
        wanted = 8 * max(plan.layer_sizes) * (sum(plan.layer_sizes) + 4 * plan.batch_size)
        weights = sum(n * m for n, m in plan.shapes)
        if max(wanted, 6 * plan.batch_size * weights) > 2**60:  # nothing below may overflow
            raise MemoryError(f"an engine for layers {plan.layer_sizes} with batches of "
                              f"{plan.batch_size} needs more than {wanted:,} bytes")
        net.costs = costs_with(costs)
        net.plan.layers = len(plan.stages)
        net.plan.batch = plan.batch_size
        net.plan.threads = min(plan.threads, TEAM_MOST)
        net.plan.l1 = plan.l1
        net.plan.l2 = plan.l2
        net.plan.penalty_in_sum = plan.penalty_in_sum
        net.plan.clip_norm = plan.clip_norm
        net.plan.seed = plan.seed
        if plan.is_sparse and plan.layer_sizes[0] >= 2**32:
            raise ValueError(f"a Sparse stage has fewer than 2³² inputs, got {plan.layer_sizes[0]:,}")
        net.plan.smoothing = plan.label_smoothing
        self._set_loss(plan.loss)
        self._set_optimizer(plan.optimizer)
        fill(&self.layers, net.plan.layers * sizeof(Layer), "the list of layers")
        net.layer = <Layer*> self.layers.start
        for l in range(net.plan.layers):
            self._set_layer(l)
        choose_cut(net)
        fill(&self.kept, lay_out(net, NULL), f"an engine for layers {plan.layer_sizes}")
        lay_out(net, <char*> self.kept.start)
        make_rows(net, &self.rows, net.plan.batch + net.cut.online, False)
        cut_tasks(net)
        if plan.is_sparse:
            net.sparse.shrinks = (plan.stages[0].update == "exact" and net.plan.optimizer.kind == SGD
                                  and net.plan.l1 == 0 and net.plan.l2 > 0 and net.plan.clip_norm == 0)
            net.sparse.few = plan.stages[0].update == "lazy" or (
                net.plan.optimizer.kind == SGD and no_penalty(net))
            net.sparse.stale = True
            mark_all(net, MOVED)

    def __dealloc__(self):
        empty(&self.kept)
        empty(&self.rows)
        empty(&self.layers)
        empty(&self.gradients)
        empty(&self.input_weights)
        empty(&self.aside)
        empty(&self.entries)

    @property
    def nbytes(self):
        """Bytes of all buffers."""
        return (self.kept.bytes + self.rows.bytes + self.layers.bytes + self.gradients.bytes
                + self.input_weights.bytes + self.aside.bytes + self.entries.bytes)

    def _set_layer(self, int64_t l):
        cdef Net* net = &self.net
        cdef Layer* layer = &net.layer[l]
        cdef int64_t[::1] starts
        cdef int i
        plan = self.plan
        layer.n_in = plan.layer_sizes[l]
        layer.n_out = plan.layer_sizes[l + 1]
        stage = plan.stages[l]
        layer.kind = STAGES.index(type(stage).__name__)
        layer.columns, layer.weights = stage.shapes[0]
        layer.penalized = stage.penalized[0]
        for i in range(2):
            layer.factors[i].rate = stage.factors[i].rate
            layer.factors[i].epsilon = stage.factors[i].epsilon
            layer.factors[i].decay = stage.factors[i].decay
        layer.factored = stage.factors != PLAIN
        if layer.kind == PERIODIC:
            layer.numbers = stage.numbers
            layer.frequencies = stage.frequencies
            layer.waves = stage.waves
        elif layer.kind == LOOKUP:
            layer.codes = len(stage.levels)
            starts = self.starts[l] = np.cumsum((0, *stage.levels), dtype=np.int64)
            layer.levels = &starts[0]
        elif layer.kind == MEMBERS or layer.kind == HEADS:
            layer.members = stage.members
            layer.scaled = layer.kind == MEMBERS and stage.scale
            layer.shifted = layer.kind == MEMBERS and stage.shift
        elif layer.kind == BLEND:
            layer.blended = kind_of(stage.blended)
            layer.b = stage.blended.parameter
            if layer.blended == USER_ACTIVATION:
                layer.blended_user = self._address_of(stage.blended)
        if layer.kind != SPARSE:  # whose work depends on the rows
            net.plan.flops += flops_of(layer, l) * net.plan.batch
        if l == net.plan.layers - 1:
            return
        layer.dropout = plan.dropout[l] if plan.dropout else 0.0
        layer.a = plan.activations[l].parameter
        layer.activation = kind_of(plan.activations[l])
        if layer.activation == USER_ACTIVATION:
            layer.user = self._address_of(plan.activations[l])

    cdef UserActivation _address_of(self, activation) except NULL:
        from fastbp.engines.jit.functions import activation_address

        return <UserActivation> <size_t> activation_address(activation, self.plan.dtype)

    def _set_loss(self, loss):
        cdef Net* net = &self.net
        cdef real[::1] levels
        net.plan.link_kind = LINKS.index(loss.link)
        net.plan.loss_width = loss.parameter
        if loss.levels:
            levels = self.levels = np.array(loss.levels, self.plan.dtype)
            net.plan.levels = &levels[0]
        net.plan.loss_low, net.plan.loss_high = -INFINITY, INFINITY
        if loss.function is None:
            net.plan.loss = LOSSES.index(loss.name)
        else:
            from fastbp.engines.jit.functions import loss_address

            net.plan.loss = USER_LOSS
            net.plan.user_loss = <UserLoss> <size_t> loss_address(loss, self.plan.dtype)
        if loss.parameter > 0 and net.plan.loss in (SOFTMAX_CROSS_ENTROPY, BINARY_CROSS_ENTROPY):
            net.plan.loss_low = -log1p(-loss.parameter)
            net.plan.loss_high = -log(loss.parameter)

    def _set_optimizer(self, optimizer):
        cdef Optimizer* o = &self.net.plan.optimizer
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
            self.net.plan.beta_1 = optimizer.beta_1
            self.net.plan.beta_2 = optimizer.beta_2
            o.momentum = optimizer.beta_1
            o.beta_2 = optimizer.beta_2
            o.new_momentum = 1 - self.net.plan.beta_1
            o.new_beta_2 = 1 - self.net.plan.beta_2
            o.decay = getattr(optimizer, "weight_decay", 0.0)
        if optimizer.name != "sgd":
            o.epsilon = epsilon_in(optimizer, self.plan.dtype)

    @property
    def cut(self):
        """How threads share a step, by the names of Cut (net.pxi), and which layers' weights are fetched ahead."""
        cdef int64_t l
        return dict(self.net.cut) | {"far": [bool(self.net.layer[l].far) for l in range(self.net.plan.layers)]}

    # ---- parameters and optimizer state ----

    def get_parameters(self):
        """Copies of the parameters, each (n_l, n_{l−1} + 1)."""
        cdef int64_t l
        taken = self._take()
        parameters = self._arrays()
        for l in range(self.net.plan.layers):
            unpack_parameters(self.net.layer[l].w, &self.net.layer[l], parameters[l])
        return parameters

    def set_parameters(self, parameters):
        """Copy parameters in, in the form of `get_parameters`."""
        cdef int64_t l
        taken = self._take()
        self.plan.check_shapes(parameters)
        for l in range(self.net.plan.layers):
            pack_parameters(parameters[l], &self.net.layer[l], self.net.layer[l].w)
            mirror_layer(&self.net, l, l > 0)
        if is_sparse(&self.net):
            mark_all(&self.net, MOVED)
            self.net.sparse.stale = True

    def keep(self):
        """Copy the parameters aside, if all of them are finite; returns whether they are."""
        cdef int64_t l, bytes = 0
        taken = self._take()
        for l in range(self.net.plan.layers):
            if not (all_finite_sparse(&self.net) if self.net.layer[l].kind == SPARSE
                    else all_finite(&self.net.layer[l])):
                return False
            bytes += bytes_kept(&self.net.layer[l])
        if self.aside.start == NULL:
            fill(&self.aside, bytes, "a copy of the parameters")
            if is_sparse(&self.net):
                mark_all(&self.net, MOVED)
        copy_kept(&self.net, <real*> self.aside.start, False)
        return True

    def restore(self):
        """Take back the parameters that were kept."""
        cdef int64_t l
        taken = self._take()
        if self.aside.start == NULL:
            refuse_restore()
        copy_kept(&self.net, <real*> self.aside.start, True)
        self.net.sparse.stale = True
        for l in range(self.net.plan.layers):
            mirror_layer(&self.net, l, l > 0)

    def get_optimizer_state(self):
        """Steps taken, and the optimizer's arrays: slot by slot, layer by layer."""
        cdef int64_t l, s
        taken = self._take()
        slots = [self._arrays() for _ in range(self.net.plan.optimizer.slots)]
        for s in range(self.net.plan.optimizer.slots):
            for l in range(self.net.plan.layers):
                unpack_parameters(self.net.layer[l].slot[s], &self.net.layer[l], slots[s][l])
        return self.net.step, slots

    def set_optimizer_state(self, step, slots):
        """Copy the optimizer's state in, in the form of `get_optimizer_state`."""
        cdef int64_t l, s
        taken = self._take()
        self.plan.check_slots(slots)
        self.net.step = step
        for s in range(self.net.plan.optimizer.slots):
            for l in range(self.net.plan.layers):
                pack_parameters(slots[s][l], &self.net.layer[l], self.net.layer[l].slot[s])
        if is_sparse(&self.net):
            mark_seen(&self.net)

    def _arrays(self):
        return [np.empty(shape, self.plan.dtype) for shape in self.plan.shapes]

    # ---- computations ----

    cdef void _run(self, void (*work)(void*, int) noexcept nogil, int threads, bint all) noexcept nogil:
        self.net.progress.stop = False
        self.net.progress.next_look = seconds_now() + 1e-6 * self.net.costs.signal_microseconds
        self.net.call.work = work
        team_run(&self.net.team, threads, all, run_work, &self.net)

    cdef int _run_blocks(self, void (*work)(void*, int) noexcept nogil, int64_t flops, bint inputs) except -1:
        """Run work of so many FLOPs that threads share block by block of rows; inputs: it needs ∂f/∂x."""
        cdef int64_t rows = self.net.call.rows, block = self.net.cut.block, unit = self.net.cut.unit, least = panels_of(rows)
        cdef int64_t units = (rows + unit - 1) // unit
        cdef int threads = <int> max(<int64_t> 1, min(least // 2, <int64_t> worthwhile(&self.net, 1, flops)))
        # Pieces of the same size, at least two for each thread: one may come late.
        self.net.call.pieces = (rows + block - 1) // block
        if threads > 1:
            self.net.call.pieces = min(min(least, units), threads * max(<int64_t> 2, (rows + threads * block - 1)
                                                            // (threads * block)))
        self.net.call.room = block if HALF else (
            unit * ((units + self.net.call.pieces - 1) // max(<int64_t> 1, self.net.call.pieces)))
        make_rows(&self.net, &self.rows, threads * self.net.call.room if threads > 1 else min(rows, block), inputs)
        with nogil:
            self._run(work, threads, False)
        return raise_pending(self.net.progress.stop)

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
        guard_leave(&self.guard)

    # Shapes are checked here, as C trusts them: once a call, in O(1). The address of an array's first element
    # is taken also where it has none, and then not read.

    cdef Held _set_inputs(self, X):
        cdef Held held = Held.__new__(Held)
        cdef Rows* rows = &self.net.call.sparse
        cdef int64_t n_in = self.net.layer[0].n_in
        self.net.call.weight = NULL
        if not is_sparse(&self.net):
            if type(X) is CSR:
                refuse_kind(self.plan, X)
            held.dense = X
            if held.dense.shape[1] != n_in:
                refuse_shape("X", X, f"(n, {n_in})")
            self.net.call.X = &held.dense[0, 0]
            self.net.call.rows = held.dense.shape[0]
            return held
        if type(X) is not CSR:
            refuse_kind(self.plan, X)
        held.values = X.values
        columns, starts = X.columns, X.starts
        rows.wide_columns = columns.dtype.itemsize == 8
        rows.wide_starts = starts.dtype.itemsize == 8
        if rows.wide_columns:
            held.wide_columns = columns
            rows.columns = &held.wide_columns[0]
        else:
            held.columns = columns
            rows.columns = &held.columns[0]
        if rows.wide_starts:
            held.wide_starts = starts
            rows.starts = &held.wide_starts[0]
        else:
            held.starts = starts
            rows.starts = &held.starts[0]
        self.net.call.rows = starts.shape[0] - 1
        if X.shape != (self.net.call.rows, n_in):
            refuse_shape("X", X, f"({self.net.call.rows}, {n_in})")
        if held.values.shape[0] != columns.shape[0]:
            refuse_shape("X.columns", columns, f"({held.values.shape[0]},), as many as values")
        rows.values = &held.values[0]
        rows.entries = held.values.shape[0]
        rows.n_in = n_in
        return held

    cdef Held _set_data(self, X, y, const real[::1] sample_weight):
        cdef const int64_t[::1] labels
        cdef const real[:, ::1] targets
        cdef int64_t outputs = top_layer(&self.net).n_out
        held = self._set_inputs(X)
        cdef int64_t n = self.net.call.rows
        if y.ndim == 1 and self.net.plan.loss == SOFTMAX_CROSS_ENTROPY:
            labels = y
            if labels.shape[0] != n:
                refuse_shape("y", y, f"({n},), as many as X")
            self.net.call.labels = &labels[0]
        elif y.ndim == 2:
            targets = y
            if targets.shape[0] != n or targets.shape[1] != outputs:
                refuse_shape("y", y, f"({n}, {outputs})")
            self.net.call.labels = NULL
            self.net.call.y = &targets[0, 0]
        else:
            refuse_shape("y", y, f"({n}, {outputs})")
        if sample_weight is not None:
            if sample_weight.shape[0] != n:
                refuse_shape("sample_weight", sample_weight, f"({n},), as many as X")
            self.net.call.weight = &sample_weight[0]
        return held

    def forward(self, X, real[:, ::1] out, *, bint link=False):
        """Outputs f (with link: predictions) of every row of X into out, (n, n_L)."""
        cdef int64_t outputs = top_layer(&self.net).n_out
        taken = self._take()
        held = self._set_inputs(X)
        if out.shape[0] != self.net.call.rows or out.shape[1] != outputs:
            refuse_shape("out", out, f"({self.net.call.rows}, {outputs})")
        self.net.call.out = &out[0, 0]
        self.net.call.classes = NULL
        self.net.call.link = link
        self._run_blocks(forward_work, call_flops(&self.net), False)

    def classify(self, X, int64_t[::1] out):
        """argmax_j f_j of every row of X into out, (n,): the first of equals, and a NaN before all numbers."""
        taken = self._take()
        held = self._set_inputs(X)
        if out.shape[0] != self.net.call.rows:
            refuse_shape("out", out, f"({self.net.call.rows},)")
        self.net.call.classes = &out[0]
        self._run_blocks(forward_work, call_flops(&self.net), False)

    def loss(self, X, y, const real[::1] sample_weight):
        """Objective over all rows as one batch."""
        taken = self._take()
        held = self._set_data(X, y, sample_weight)
        self.net.call.back = False
        self._need_entries(NULL)
        return self._objective(1)

    def gradient(self, X, y, const real[::1] sample_weight, out):
        """Gradient of the objective into out; returns the objective."""
        cdef int64_t l
        taken = self._take()
        held = self._set_data(X, y, sample_weight)
        check_gradients(self.plan, out)
        need_gradients(&self.net, &self.gradients)
        self._need_entries(NULL)
        if is_sparse(&self.net):
            with nogil:
                memset(self.net.layer[0].g, 0, weights_bytes(&self.net.layer[0]))
        self.net.call.back = True
        value = self._objective(3)
        for l in range(self.net.plan.layers):
            unpack_parameters(self.net.layer[l].g, &self.net.layer[l], out[l])
        return value

    cdef double _objective(self, int64_t passes) except? -1:
        cdef int64_t steps = (self.net.call.rows + self.net.plan.batch - 1) // self.net.plan.batch
        cdef int64_t flops = step_flops(&self.net, False) // 3 * passes
        cdef Pace* pace = &self.net.progress.gradient_pace
        cdef int most, threads
        self.net.progress.total = 0
        with nogil:
            weigh(&self.net, 0, NULL, self.net.call.rows)
            if is_sparse(&self.net):
                span_rows(&self.net, 0, NULL, 0, min(self.net.plan.batch, self.net.call.rows))
            most = threads = worthwhile(&self.net, steps, flops)
            if self.net.call.back:
                threads = start_pace(pace, &self.net.costs, 1, steps * flops, most)
            self._run(gradient_work, threads, True)
            if self.net.call.back:
                end_pace(pace, &self.net.costs, &self.net.team, threads, most, 1)
        raise_pending(self.net.progress.stop)
        if is_sparse(&self.net) and not no_penalty(&self.net):
            self.net.progress.total += sum_blocks(
                self.net.sparse.sums, (self.net.layer[0].n_in + BLOCK - 1) // BLOCK)
        return self.net.progress.total + sum_penalties(&self.net, 0)

    cdef int _need_entries(self, const int64_t* order) except -1:
        """Room for those of the call's minibatches."""
        if is_sparse(&self.net):
            kept = self.net.sparse.capacity
            most = most_entries(&self.net, order)
            self.net.sparse.capacity = kept
            make_entries(&self.net, &self.entries, most)
        return 0

    def jacobian(self, X, real[:, :, ::1] out):
        """∂f/∂x of every row of X into out, (n, n_L, n_0)."""
        cdef int64_t outputs = top_layer(&self.net).n_out
        taken = self._take()
        held = self._set_inputs(X)
        if out.shape[0] != self.net.call.rows or out.shape[1] != outputs or out.shape[2] != self.net.layer[0].n_in:
            refuse_shape("out", out, f"({self.net.call.rows}, {outputs}, {self.net.layer[0].n_in})")
        if not is_sparse(&self.net):
            need_input_weights(&self.net, &self.input_weights)
        self.net.call.out = &out[0, 0, 0]
        self._run_blocks(jacobian_work, call_flops(&self.net) * outputs, not is_sparse(&self.net))

    cdef Held _set_epoch(self, X, y, const real[::1] sample_weight, const int64_t[::1] order,
                         const double[::1] learning_rates, double[::1] losses, double[::1] penalties,
                         const double[::1] dropouts, const double[::1] decays):
        cdef int64_t steps = (order.shape[0] + self.net.plan.batch - 1) // self.net.plan.batch
        held = self._set_data(X, y, sample_weight)
        if self.net.call.rows == 0 and order.shape[0] > 0:
            refuse_shape("order", order, "(0,), as X has no rows")
        if learning_rates.shape[0] < steps:
            refuse_shape("learning_rates", learning_rates, f"({steps},), one for each step")
        if losses.shape[0] < steps:
            refuse_shape("losses", losses, f"({steps},), one for each step")
        if penalties is not None and penalties.shape[0] < steps:
            refuse_shape("penalties", penalties, f"({steps},), one for each step")
        if dropouts is not None and dropouts.shape[0] < steps:
            refuse_shape("dropouts", dropouts, f"({steps},), one for each step")
        if decays is not None and decays.shape[0] < steps:
            refuse_shape("decays", decays, f"({steps},), one for each step")
        self.net.call.rows = order.shape[0]
        self.net.call.order = &order[0]
        self.net.call.learning_rates = &learning_rates[0]
        self.net.call.losses = &losses[0]
        self.net.call.penalties = &penalties[0] if penalties is not None else NULL
        self.net.call.dropouts = &dropouts[0] if dropouts is not None else NULL
        self.net.call.decays = &decays[0] if decays is not None else NULL
        return held

    def epoch(self, X, y, const real[::1] sample_weight,
              const int64_t[::1] order, const double[::1] learning_rates, double[::1] losses,
              double[::1] penalties=None, const double[::1] dropouts=None, const double[::1] decays=None):
        """Train on X's rows in this order; returns the number of steps applied.

        That 0 ≤ order[i] < n is the caller's to see to.
        """
        cdef int64_t steps = (order.shape[0] + self.net.plan.batch - 1) // self.net.plan.batch
        cdef int64_t flops
        cdef int most, threads
        taken = self._take()
        held = self._set_epoch(X, y, sample_weight, order, learning_rates, losses, penalties, dropouts, decays)
        flops = step_flops(&self.net, True)
        self.net.progress.done = 0
        self._need_entries(self.net.call.order)
        with nogil:
            if is_sparse(&self.net):
                start_sparse_epoch(&self.net)
            weigh_minibatch(&self.net, 0)
            most = worthwhile(&self.net, steps, flops)
            threads = start_pace(&self.net.progress.pace, &self.net.costs, steps, flops, most)
            self._run(epoch_work, threads, True)
            end_pace(&self.net.progress.pace, &self.net.costs, &self.net.team, threads, most, self.net.progress.done)
            if is_sparse(&self.net):
                end_sparse_epoch(&self.net)
        self.net.step += self.net.progress.done
        raise_pending(self.net.progress.stop)
        return self.net.progress.done

    @property
    def can_share(self):
        """Whether ranks can share an epoch: not minibatches of single rows taken in their own way."""
        return not self.net.cut.online

    row_grain = grain()  # where a rank's rows begin is a multiple of it
    def share(self, *epoch, **ranks):
        """An epoch that ranks share: `SharedEpoch`."""
        return SharedEpoch(self, *epoch, **ranks)


include "ranks.pxi"
include "process.pxi"
