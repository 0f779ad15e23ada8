"""An engine with the optimizer's state in it, and the learning rate as scikit-learn moves it."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbp import schedules
from fastbp.engines import Array, Engine, Plan, create
from fastbp.optimizers import Optimizer
from fastbp.schedules import Schedule

# Sparse rows are densified as many batches at a time as fit in so many values: enough to make the
# calls rare, and little beside the data.
DENSE_VALUES = 1 << 21

Batches = tuple[Any, Array, Array | None, NDArray[np.int64]]  # X, y, sample_weight, order


def sizes_of(coefs: list[Array], intercepts: list[Array]) -> tuple[int, ...]:
    """n_0 … n_L of ``coefs_`` and ``intercepts_``, which users may have changed.

    Raises
    ------
    ValueError
        If they do not make a network.
    """
    sizes = tuple(len(a) for a in (*coefs[:1], *intercepts))
    shapes, widths = [a.shape for a in coefs], [a.shape for a in intercepts]
    if shapes != list(itertools.pairwise(sizes)) or widths != [(n,) for n in sizes[1:]]:
        raise ValueError(
            "coefs_ and intercepts_ must make a network, layer by layer (n_in, n_out) and (n_out,), "
            f"but have shapes {shapes} and {widths}"
        )
    return sizes


def join(coefs: list[Array], intercepts: list[Array], dtype: DTypeLike) -> list[Array]:
    """[W | b] of each layer, as an engine takes it, from scikit-learn's form (n_in, n_out).

    They must be what `sizes_of` has checked.
    """
    parameters = []
    for coef, intercept in zip(coefs, intercepts, strict=True):
        n_in, n_out = coef.shape
        p = np.empty((n_out, n_in + 1), dtype)
        p[:, :-1] = coef.T
        p[:, -1] = intercept
        parameters.append(p)
    return parameters


def split(parameters: list[Array]) -> tuple[list[Array], list[Array]]:
    """``coefs_`` and ``intercepts_`` from [W | b] of each layer."""
    return [np.ascontiguousarray(p[:, :-1].T) for p in parameters], [
        p[:, -1].copy() for p in parameters
    ]


def row_blocks(X: Any, rows: int) -> Iterator[tuple[slice, Array]]:
    """Dense blocks of the rows of X: all of a dense X at once, `rows` at a time of a sparse one."""
    if isinstance(X, np.ndarray):
        yield slice(0, len(X)), X
    else:
        for start in range(0, X.shape[0], rows):
            block = slice(start, min(start + rows, X.shape[0]))
            yield block, X[block].toarray()


def dense_rows(features: int, batch_size: int = 1) -> int:
    """Rows of a sparse X to densify at a time: a multiple of the batch."""
    return max(1, DENSE_VALUES // (features * batch_size)) * batch_size


def outputs_of(engine: Engine, X: Any, *, link: bool = False) -> Array:
    """f(x), or the prediction link(f(x)), of every row of X, dense or sparse."""
    plan = engine.plan
    out = np.empty((X.shape[0], plan.layer_sizes[-1]), plan.dtype)
    for rows, block in row_blocks(X, dense_rows(X.shape[1])):
        engine.forward(block, out[rows], link=link)
    return out


class Trainer:
    """Trains epoch by epoch; what of it outlives a call is the optimizer's state and the rate.

    Parameters
    ----------
    optimizer : Optimizer
    learning_rate_init : float
    learning_rate : str, Schedule or callable
        scikit-learn's "constant", "invscaling" or "adaptive", or the rate of each step.
    power_t : float
        Exponent of "invscaling".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        learning_rate_init: float,
        learning_rate: str | Schedule | Callable[[int], float],
        power_t: float,
    ) -> None:
        self.optimizer = optimizer
        self.learning_rate_init = float(learning_rate_init)
        self.learning_rate = self.learning_rate_init
        self._schedule = learning_rate
        if callable(learning_rate):
            schedules.rates(learning_rate, 0, 1)  # one that returns nonsense fails here
        self._power_t = power_t
        self._step = 0  # what a schedule goes by
        self._state: tuple[int, list[list[Array]]] | None = None
        self._engine: Engine | None = None
        self._engine_name = ""
        self._make_lock()

    def use(self, plan: Plan, engine: str, parameters: list[Array]) -> Plan:
        """Make the engine of `plan`, if it is another one, put the parameters in; return its plan."""
        with self._lock:
            current = self._engine
            if current is None or current.plan != plan or self._engine_name != engine:
                new = create(plan, engine)
                state = self._state if current is None else current.get_optimizer_state()
                if state is not None:
                    step, slots = state
                    shapes = [p.shape for p in parameters]
                    if all([a.shape for a in slot] == shapes for slot in slots):  # of this network
                        slots = [[a.astype(plan.dtype, copy=False) for a in slot] for slot in slots]
                        new.set_optimizer_state(step, slots)
                self._engine, self._engine_name, self._state = new, engine, None
            used = self._in_use()
            used.set_parameters(parameters)
            return used.plan

    def _in_use(self, plan: Plan | None = None) -> Engine:
        """The engine, for who has the lock: it has one workspace, and trusts the data's shapes."""
        engine = cast(Engine, self._engine)
        if plan is not None and engine.plan is not plan:
            raise RuntimeError(
                "another thread began to fit this estimator otherwise; fit one at a time, or a clone "
                "of it (sklearn.base.clone) in each thread"
            )
        return engine

    def keep_threads(self, keep: bool) -> None:
        """Whether the engine's threads stay from epoch to epoch."""
        with self._lock:
            self._in_use().keep_threads(keep)

    @property
    def parameters(self) -> list[Array]:
        """Copies of [W | b] of each layer."""
        with self._lock:
            return self._in_use().get_parameters()

    @parameters.setter
    def parameters(self, value: list[Array]) -> None:
        with self._lock:
            self._in_use().set_parameters(value)

    def epoch(
        self, plan: Plan, X: Any, y: Array, weight: Array | None, order: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Train on the rows of X in this order; return each step's objective and penalty.

        `plan` is what `use` returned, and what the data are made for. The penalty is part of the
        objective. The objective of a step that diverges is NaN or infinite, and from there on
        everything is NaN.
        """
        with self._lock, self._changing():
            engine = self._in_use(plan)
            batch = plan.batch_size
            steps = -(-len(order) // batch)
            if callable(self._schedule):
                rates = schedules.rates(self._schedule, self._step, steps)
                self.learning_rate = float(rates[-1])
            else:
                rates = np.full(steps, self.learning_rate)
            losses, penalties = np.full((2, steps), np.nan)
            dense = isinstance(X, np.ndarray)
            each = steps if dense else dense_rows(X.shape[1], batch) // batch
            for s in range(0, steps, each):
                e = min(s + each, steps)
                rows = order[s * batch : e * batch]
                data: Batches = (X, y, weight, rows) if dense else _gather(X, y, weight, rows)
                done = engine.epoch(*data, rates[s:e], losses[s:e], penalties[s:e])
                if done < e - s:
                    # scikit-learn goes on; what it goes on with is not finite.
                    engine.set_parameters(
                        [np.full_like(p, np.nan) for p in engine.get_parameters()]
                    )
                    break
            self._step += steps
        return losses, penalties

    def outputs(self, plan: Plan, X: Any) -> Array:
        """f(x) of every row."""
        with self._lock:
            return outputs_of(self._in_use(plan), X)

    def epoch_ends(self, samples: int) -> None:
        """Move the rate after an epoch, `samples` being the rows seen since the first fit."""
        if self._schedule == "invscaling":
            self.learning_rate = self.learning_rate_init / (samples + 1) ** self._power_t

    def stops(self) -> tuple[bool, str]:
        """For want of improvement: divide an adaptive rate by 5, or stop; and what to say of it."""
        if self._schedule != "adaptive":
            return True, "Stopping."
        if self.learning_rate <= 1e-6:
            return True, "Learning rate too small. Stopping."
        self.learning_rate /= 5.0
        return False, f"Setting learning rate to {self.learning_rate:f}"

    def _make_lock(self) -> None:
        # A signal's handler may come into a call that has it: the engine refuses that by itself.
        self._lock = threading.RLock()
        self._is_changing = False  # the optimizer's state, by who has the lock
        _trainers.add(self)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """For who has the lock: the optimizer's state is not whole meanwhile."""
        before, self._is_changing = self._is_changing, True
        try:
            yield
        finally:
            self._is_changing = before

    def _after_fork(self) -> None:
        """Be usable in a child process, where no thread lives but the one that forked."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return
        self._lock = threading.RLock()  # a call of another thread was cut off
        if self._is_changing:  # what was in the middle of a step is lost
            self._engine, self._is_changing = None, False
        elif self._engine is not None:
            self._engine.after_fork()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = self.__dict__.copy()
            if self._engine is not None:
                state["_state"] = self._engine.get_optimizer_state()
                state["_engine"] = None
        del state["_lock"], state["_is_changing"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_lock()


_trainers: weakref.WeakSet[Trainer] = weakref.WeakSet()


def _after_fork() -> None:
    for trainer in _trainers:
        trainer._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _gather(X: Any, y: Array, weight: Array | None, rows: NDArray[np.int64]) -> Batches:
    """The rows of a sparse X, dense, with their targets and weights."""
    return (
        X[rows].toarray(),
        y[rows],
        None if weight is None else weight[rows],
        np.arange(len(rows)),
    )
