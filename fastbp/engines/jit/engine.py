"""The engine: buffers, threads and the contract of fastbp/engines/__init__.py around compiled code.

Python allocates and hands out addresses in the record `net` (layout.py); all arithmetic is in the
kernels. The letters are those of the notes; layers are counted from 0.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbp.engines import Array, Plan
from fastbp.engines.arrays import (
    check_data,
    check_epoch,
    check_gradients,
    check_inputs,
    check_memory,
    check_shape,
    refuse_restore,
)
from fastbp.engines.interrupts import refuse_reentry
from fastbp.engines.jit import layout
from fastbp.engines.jit.functions import activation_address, general_library, loss_address
from fastbp.engines.jit.layout import panels, record
from fastbp.engines.jit.target import host
from fastbp.losses import CROSS_ENTROPIES
from fastbp.optimizers import SGD, AdamW, RMSprop, epsilon_in, step_sizes

ROW_BLOCK = 112  # rows that go through all layers together
TEAM_MOST = 256  # threads at most
CACHE_LINE = 16  # as in kernels/passes.py
# A thread is worth its barriers for this much work in each step, worth starting for this much in all.
FLOPS_PER_THREAD = 1_000_000
FLOPS_PER_START = 40_000_000
# Signals are looked for about this often, a few milliseconds of work.
FLOPS_UNCHECKED = 1_000_000_000


P = ParamSpec("P")
T = TypeVar("T")


def _aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros that start on a page."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    block = np.zeros(size + 4096, np.uint8)
    start = -block.ctypes.data % 4096
    aligned: Array = block[start : start + size].view(dtype).reshape(shape)
    return aligned


def _system_call(name: str) -> int:
    """Address of a function of the C library; 0 where there is none."""
    try:
        return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):
        return 0


def _alone(
    method: Callable[Concatenate[JitEngine, P], T],
) -> Callable[Concatenate[JitEngine, P], T]:
    """A method that has the engine to itself, or is refused."""

    @functools.wraps(method)
    def call(self: JitEngine, /, *args: P.args, **kwargs: P.kwargs) -> T:
        mine = object()
        try:  # an interrupt may come between any two lines
            if self._call.setdefault("by", mine) is not mine:
                refuse_reentry()
            return method(self, *args, **kwargs)
        finally:
            if self._call.get("by") is mine:
                del self._call["by"]

    return call


class JitEngine:
    """The engine contract (`fastbp.engines.Engine`), compiled by Numba for this CPU.

    Parameters
    ----------
    plan : Plan
        What to allocate. Parameters start at 0.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._panel = panel = host().panel(plan.dtype)
        library = general_library(plan.dtype)
        self._functions = {
            name: ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)(library.address(name))
            for name, count in (("epoch", 4), ("gradient", 2), ("forward", 2), ("jacobian", 2))
        }
        self._net = np.zeros((), record(layout.NET))
        self._layers = np.zeros(len(plan.stages), record(layout.LAYER))
        self._address = self._net.ctypes.data
        self._call: dict[str, object] = {}  # who is in one
        self._most_threads = threads = min(plan.threads, TEAM_MOST)
        self._flops = sum(
            (4 if i == 0 else 6) * plan.batch_size * (k + 1) * n
            for i, (k, n) in enumerate(itertools.pairwise(plan.layer_sizes))
        )
        self._buffers: list[Array] = []
        self._rows: list[
            Array
        ] = []  # what there is for each row of a minibatch, or of a prediction
        self._weights: list[Array] = []
        self._transposed: list[Array] = []
        self._slots: list[list[Array]] = []
        self._gradients: list[Array] = []
        self._kept: list[Array] = []

        net = self._net
        net["layers"] = len(plan.stages)
        net["batch"] = plan.batch_size
        net["threads"] = 1
        net["block"] = ROW_BLOCK
        self._set_loss()
        self._set_optimizer()
        net["l1"], net["l2"] = plan.l1, plan.l2
        net["penalty_in_sum"] = plan.penalty_in_sum
        net["clip_norm"] = plan.clip_norm
        net["seed"] = np.uint64(plan.seed).astype(np.int64)
        net["yield_cpu"], net["sleep"] = _system_call("sched_yield"), _system_call("usleep")

        self._allocate_layers()
        self._make_rows(plan.batch_size, inputs=False)
        if plan.clip_norm > 0:
            self._need_gradients()
        self._cut_tasks()
        lanes, outputs = panel // 2, plan.layer_sizes[-1]
        net["outputs"] = self._new((threads, 3 * outputs + 5, lanes))
        net["inverse_weight"] = self._new((2,), np.float64)
        net["tile"] = self._new((threads, panel, panel))
        net["batches"] = self._new((threads,), record(layout.BATCH))
        net["layer"] = self._layers.ctypes.data
        net["team"] = self._new((4 * CACHE_LINE,), np.int64)
        self._team = self._buffers[-1]

    def _new(self, shape: tuple[int, ...], dtype: Any = None) -> int:
        """Address of zeros that live as long as the engine."""
        self._buffers.append(_aligned(shape, dtype or self.plan.dtype))
        return self._buffers[-1].ctypes.data

    def _set_loss(self) -> None:
        loss, net = self.plan.loss, self._net
        net["link"] = layout.LINKS.index(loss.link)
        net["loss_parameter"] = loss.parameter
        net["loss_low"], net["loss_high"] = -math.inf, math.inf  # of −log p in a cross-entropy
        if loss.parameter > 0 and loss.name in CROSS_ENTROPIES:
            net["loss_low"], net["loss_high"] = (
                -math.log1p(-loss.parameter),
                -math.log(loss.parameter),
            )
        if loss.function is None:
            net["loss"] = layout.LOSSES.index(loss.name)
        else:
            net["loss"] = layout.USER_LOSS
            net["loss_function"] = loss_address(loss, self.plan.dtype)

    def _set_optimizer(self) -> None:
        optimizer, net = self.plan.optimizer, self._net
        name = optimizer.name
        net["slots"] = optimizer.slots
        if isinstance(optimizer, SGD):
            net["momentum"] = optimizer.momentum
            if optimizer.momentum > 0:
                name = "nesterov" if optimizer.nesterov else "momentum"
        else:
            if isinstance(optimizer, RMSprop):
                momentum, beta_2 = optimizer.rho, 0.0
            else:
                momentum, beta_2 = optimizer.beta_1, optimizer.beta_2
            net["momentum"], net["new_momentum"] = momentum, 1 - momentum
            net["beta_2"], net["new_beta_2"] = beta_2, 1 - beta_2
            net["epsilon"] = epsilon_in(optimizer, self.plan.dtype)
            if isinstance(optimizer, AdamW):
                net["decay"] = optimizer.weight_decay
        net["optimizer"] = layout.OPTIMIZERS.index("adam" if name == "adamw" else name)

    def _allocate_layers(self) -> None:
        plan, panel = self.plan, self._panel
        for i, (n_in, n_out) in enumerate(itertools.pairwise(plan.layer_sizes)):
            layer = self._layers[i]
            shape = (panels(n_out, panel), n_in + 1, panel)
            layer["n_in"], layer["n_out"] = n_in, n_out
            layer["w"] = self._new(shape)
            self._weights.append(self._buffers[-1])
            if i > 0:
                layer["wt"] = self._new((panels(n_in, panel), n_out, panel))
                self._transposed.append(self._buffers[-1])
            slots = []
            for name in ("first", "second")[: plan.optimizer.slots]:
                layer[name] = self._new(shape)
                slots.append(self._buffers[-1])
            self._slots.append(slots)
            if i == len(plan.stages) - 1:
                break
            activation = plan.activations[i]
            layer["a"] = activation.parameter
            layer["dropout"] = plan.dropout[i] if plan.dropout else 0.0
            if activation.function is None:
                layer["activation"] = layout.ACTIVATIONS.index(activation.name)
            else:
                layer["activation"] = layout.USER_ACTIVATION
                layer["function"] = activation_address(activation, plan.dtype)
            if activation.name in ("silu", "gelu", "mish") or activation.function is not None:
                layer["keeps_slope"] = 2  # and its activation writes it
            elif layer["dropout"] > 0:
                layer["keeps_slope"] = 1

    def _make_rows(self, rows: int, *, inputs: bool) -> None:
        """Room for so many rows at least, and for ∂f/∂x; what was in the buffers is lost."""
        net, panel, sizes = self._net, self._panel, self.plan.layer_sizes
        inputs = inputs or net["delta_input"] != 0
        if rows <= net["stride"] and inputs == (net["delta_input"] != 0):
            return
        stride = max(rows, int(net["stride"])) | 1  # odd keeps panels apart in the cache's sets
        made: list[Array] = []

        def new(units: int) -> Array:
            made.append(_aligned((panels(units, panel), stride, panel), self.plan.dtype))
            return made[-1]

        values = [new(n + 1) for n in sizes]
        deltas = [new(n) for n in sizes[1:-1]]
        slopes = [new(layer["n_out"]) if layer["keeps_slope"] else None for layer in self._layers]
        input_delta = new(sizes[0]) if inputs else None
        made.append(_aligned((stride,), np.float64))
        # All the memory is there.
        for n, v in zip(sizes[:-1], values[:-1], strict=True):
            if n % panel == 0:  # the bias node has a panel to itself
                v[-1, :, 0] = 1
        for i, layer in enumerate(self._layers):
            layer["v_in"], layer["v"] = (v.ctypes.data for v in values[i : i + 2])
            layer["delta"] = (deltas[i] if i < len(deltas) else values[-1]).ctypes.data
            slope = slopes[i]
            layer["slope"] = 0 if slope is None else slope.ctypes.data
        net["row_loss"] = made[-1].ctypes.data
        net["delta_input"] = 0 if input_delta is None else input_delta.ctypes.data
        net["stride"], self._rows = stride, made

    def _cut_tasks(self) -> None:
        """The list of weight-gradient tiles and their cumulative cost.

        Four output panels share an input panel before the next is read: with a long minibatch the δ
        panels stay in the L2 cache.
        """
        panel, half = self._panel, self._panel // 2
        tasks: list[tuple[float, ...]] = []
        cost = [0]
        for i, (n_in, n_out) in enumerate(itertools.pairwise(self.plan.layer_sizes)):
            count = panels(n_out, panel)
            for j0, k in itertools.product(range(0, count, 4), range(panels(n_in + 1, panel))):
                inputs = min(panel, n_in + 1 - k * panel)
                for j in range(j0, min(j0 + 4, count)):
                    tasks.append((i, j, k, inputs, 0, 0))
                    cost.append(cost[-1] + inputs * (1 if n_out - j * panel <= half else 2) + 4)
        net = self._net
        net["tasks"] = len(tasks)
        net["task"] = self._new((len(tasks),), record(layout.TASK))
        self._buffers[-1][:] = tasks
        net["task_cost"] = self._new((len(cost),), np.int64)
        self._buffers[-1][:] = cost

    def _need_gradients(self) -> None:
        """Buffers for g, for clipping and `gradient`."""
        if not self._gradients:
            for layer, w in zip(self._layers, self._weights, strict=True):
                layer["g"] = self._new(w.shape)
                self._gradients.append(self._buffers[-1])

    # Parameters and the optimizer's state

    @_alone
    def get_parameters(self) -> list[Array]:
        return self._unpacked(self._weights)

    @_alone
    def set_parameters(self, parameters: list[Array]) -> None:
        self.plan.check_shapes(parameters)
        for w, W in zip(self._weights, parameters, strict=True):
            w[...] = layout.pack(W, self._panel)
        for wt, W in zip(self._transposed, parameters[1:], strict=True):
            wt[...] = layout.pack_transposed(W, self._panel)

    @_alone
    def keep(self) -> bool:
        for w, n in zip(self._weights, self.plan.layer_sizes[1:], strict=True):
            last = n - (len(w) - 1) * self._panel  # columns of the last panel
            if not (np.isfinite(w[:-1]).all() and np.isfinite(w[-1, :, :last]).all()):
                return False
        now = self._weights + self._transposed
        if not self._kept:
            self._kept = [np.empty_like(w) for w in now]
        for kept, w in zip(self._kept, now, strict=True):
            kept[...] = w
        return True

    @_alone
    def restore(self) -> None:
        if not self._kept:
            refuse_restore()
        for kept, w in zip(self._kept, self._weights + self._transposed, strict=True):
            w[...] = kept

    @_alone
    def get_optimizer_state(self) -> tuple[int, list[list[Array]]]:
        count = self.plan.optimizer.slots
        slots = [self._unpacked([layer[s] for layer in self._slots]) for s in range(count)]
        return int(self._net["step"]), slots

    @_alone
    def set_optimizer_state(self, step: int, slots: list[list[Array]]) -> None:
        self.plan.check_slots(slots)
        self._net["step"] = step
        for s, arrays in enumerate(slots):
            for slot, new in zip(self._slots, arrays, strict=True):
                slot[s][...] = layout.pack(new, self._panel)

    def _unpacked(self, arrays: list[Array]) -> list[Array]:
        return [layout.unpack(w, n) for w, n in zip(arrays, self.plan.layer_sizes[1:], strict=True)]

    # Computations

    def after_fork(self) -> None:
        self._call.clear()

    @_alone
    def forward(self, X: Array, out: Array, *, link: bool = False) -> None:
        self._set_inputs(X)
        self._set_output(out, (len(X), self.plan.layer_sizes[-1]))
        self._net["with_link"] = link
        self._run_blocks(
            "forward", self._flops // (3 * self.plan.batch_size) * len(X), inputs=False
        )

    def classify(self, X: Array, out: Array) -> None:
        check_shape("out", out, (len(X),))
        check_memory("out", out, "int64")
        f = np.empty((len(X), self.plan.layer_sizes[-1]), self.plan.dtype)
        self.forward(X, f)
        f.argmax(axis=1, out=out)

    @_alone
    def loss(self, X: Array, y: Array, sample_weight: Array | None) -> float:
        return self._objective(X, y, sample_weight, back=False)

    @_alone
    def gradient(self, X: Array, y: Array, sample_weight: Array | None, out: list[Array]) -> float:
        check_gradients(self.plan, out)
        self._need_gradients()
        value = self._objective(X, y, sample_weight, back=True)
        for a, g in zip(out, self._unpacked(self._gradients), strict=True):
            a[...] = g
        return value

    def _objective(self, X: Array, y: Array, sample_weight: Array | None, *, back: bool) -> float:
        net = self._net
        self._set_data(X, y, sample_weight)
        net["back"], net["total"] = back, 0
        steps = -(-len(X) // self.plan.batch_size)
        self._run("gradient", self._worthwhile(self._flops if back else self._flops // 3, steps))
        return float(net["total"])

    @_alone
    def jacobian(self, X: Array, out: Array) -> None:
        first, panel = self._layers[0], self._panel
        n_in, n_out = self.plan.layer_sizes[:2]
        self._set_inputs(X)
        self._set_output(out, (len(X), self.plan.layer_sizes[-1], n_in))
        if first["wt"] == 0:
            first["wt"] = self._new((panels(n_in, panel), n_out, panel))
            self._transposed_input = self._buffers[-1]
        W = layout.unpack(self._weights[0], n_out)
        self._transposed_input[...] = layout.pack_transposed(W, panel)
        flops = self._flops // (3 * self.plan.batch_size) * len(X) * self.plan.layer_sizes[-1]
        self._run_blocks("jacobian", flops, inputs=True)

    @_alone
    def epoch(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        losses: NDArray[np.float64],
        penalties: NDArray[np.float64] | None = None,
        dropouts: NDArray[np.float64] | None = None,
        decays: NDArray[np.float64] | None = None,
    ) -> int:
        if dropouts is not None or decays is not None:
            raise ValueError("engine 'jit' has no dropouts and decays that change by step")
        net, steps = self._net, -(-len(order) // self.plan.batch_size)
        self._set_data(X, y, sample_weight)
        check_epoch(self.plan, X, order, learning_rates, losses, penalties)
        check_memory("order", order, "int64")
        for name, array in (
            ("learning_rates", learning_rates),
            ("losses", losses),
            ("penalties", penalties),
        ):
            if array is not None:
                check_memory(name, array, "float64")
        etas = step_sizes(self.plan.optimizer, int(net["step"]) + 1, learning_rates)
        net["rows"], net["order"] = len(order), order.ctypes.data
        net["learning_rates"], net["etas"] = learning_rates.ctypes.data, etas.ctypes.data
        if penalties is None:
            penalties = np.empty(steps)
        net["losses"], net["penalties"] = losses.ctypes.data, penalties.ctypes.data
        net["done"] = net["stop"] = net["interrupted"] = 0
        net["back"] = 1
        chunk = max(1, FLOPS_UNCHECKED // self._flops)
        function = self._functions["epoch"]

        def steps_to(last: int) -> None:
            function(self._address, 0, int(net["done"]), last)

        def lead() -> None:
            """Thread 0's part, with a look for signals (by being in Python) now and then."""
            try:
                while net["done"] < steps and not net["stop"]:
                    steps_to(min(int(net["done"]) + chunk, steps))
            except BaseException:
                if net["done"] < steps and not net["stop"]:  # the others wait in the next step
                    net["interrupted"] = 1
                    steps_to(int(net["done"]) + 1)
                raise

        try:
            self._with_team(
                self._worthwhile(self._flops, steps),
                lead,
                lambda thread: function(self._address, thread, 0, steps),
            )
        finally:
            net["step"] += net["done"]
        return int(net["done"])

    def _set_inputs(self, X: Array) -> None:
        check_inputs(self.plan, X)
        check_memory("X", X, self.plan.dtype)
        self._net["X"], self._net["rows"], self._net["weighted"] = X.ctypes.data, len(X), False

    def _set_output(self, out: Array, shape: tuple[int, ...]) -> None:
        check_shape("out", out, shape)
        check_memory("out", out, self.plan.dtype)
        self._net["out"] = out.ctypes.data

    def _set_data(self, X: Array, y: Array, sample_weight: Array | None) -> None:
        net = self._net
        self._set_inputs(X)
        check_data(self.plan, X, y, sample_weight)
        check_memory("y", y, "int64" if y.ndim == 1 else self.plan.dtype)
        if sample_weight is not None:
            check_memory("sample_weight", sample_weight, self.plan.dtype)
        net["labelled"] = y.ndim == 1
        net["labels" if y.ndim == 1 else "y"] = y.ctypes.data
        net["weighted"] = sample_weight is not None
        net["weight"] = 0 if sample_weight is None else sample_weight.ctypes.data

    # Threads

    def _worthwhile(self, flops: int, steps: int) -> int:
        """How many threads steps of so many FLOPs each are worth."""
        worth = min(flops // FLOPS_PER_THREAD, steps * flops // FLOPS_PER_START)
        return max(1, min(self._most_threads, worth))

    def _run_blocks(self, name: str, flops: int, *, inputs: bool) -> None:
        """Call a function that threads share block by block of net.rows; inputs: it needs ∂f/∂x."""
        rows = int(self._net["rows"])
        threads = max(1, min(self._worthwhile(flops, 1), -(-rows // ROW_BLOCK)))
        # Of several threads any may have a whole block.
        self._make_rows(threads * ROW_BLOCK if threads > 1 else min(rows, ROW_BLOCK), inputs=inputs)
        self._run(name, threads)

    def _run(self, name: str, threads: int) -> None:
        """Call a function of the library on so many threads."""
        function = self._functions[name]
        self._with_team(
            threads,
            lambda: function(self._address, 0),
            lambda thread: function(self._address, thread),
        )

    def _with_team(
        self, threads: int, lead: Callable[[], None], work: Callable[[int], None]
    ) -> None:
        """Run work(1) … work(threads − 1) on threads that end with this call, and lead() on this one.

        Where the system refuses a thread the team is smaller, as net.threads says.
        """
        go = threading.Event()
        complete = False

        def member(thread: int) -> None:
            go.wait()
            if complete:
                work(thread)

        members: list[threading.Thread] = []
        try:
            self._team[:] = 0
            for i in range(1, threads):
                new = threading.Thread(target=member, args=(i,), daemon=True)
                try:
                    new.start()
                except RuntimeError:
                    break
                members.append(new)
            self._net["threads"] = len(members) + 1
            complete = True
            go.set()
            lead()
        finally:
            go.set()
            _join(members)


def _join(threads: list[threading.Thread]) -> None:
    """Wait for all of them, Ctrl-C or not: they work on arrays that the caller may let go."""
    interrupt = None
    while threads:
        try:
            threads[-1].join()
            threads.pop()
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt
