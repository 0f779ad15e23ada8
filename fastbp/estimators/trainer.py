"""An engine with the optimizer's state in it, and the learning rate as scikit-learn moves it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

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


def join(coefs: list[Array], intercepts: list[Array], dtype: DTypeLike) -> list[Array]:
    """[W | b] of each layer, as an engine takes it, from scikit-learn's form (n_in, n_out)."""
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
        self._power_t = power_t
        self._step = 0  # what a schedule goes by
        self._state: tuple[int, list[list[Array]]] | None = None
        self._engine: Engine | None = None
        self._engine_name = ""
        self._lock = threading.Lock()  # an engine has one workspace: one call at a time

    def use(self, plan: Plan, engine: str, parameters: list[Array]) -> None:
        """Make the engine of `plan`, if it is another one, and put the parameters in."""
        if self._engine is None or self._engine.plan != plan or self._engine_name != engine:
            if self._engine is not None:
                self._state = self._engine.get_optimizer_state()
            self._engine = create(plan, engine)
            self._engine_name = engine
            if self._state is not None:
                self._engine.set_optimizer_state(*self._state)
                self._state = None
        self._engine.set_parameters(parameters)

    def keep_threads(self, keep: bool) -> None:
        """Whether the engine's threads stay from epoch to epoch."""
        assert self._engine is not None
        with self._lock:
            self._engine.keep_threads(keep)

    @property
    def plan(self) -> Plan:
        """What the engine was made from."""
        assert self._engine is not None
        return self._engine.plan

    @property
    def parameters(self) -> list[Array]:
        """Copies of [W | b] of each layer."""
        assert self._engine is not None
        return self._engine.get_parameters()

    @parameters.setter
    def parameters(self, value: list[Array]) -> None:
        assert self._engine is not None
        self._engine.set_parameters(value)

    def epoch(
        self, X: Any, y: Array, weight: Array | None, order: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Train on the rows of X in this order; return each step's objective and penalty.

        The penalty is part of the objective. The objective of a step that diverges is NaN or
        infinite, and from there on everything is NaN.
        """
        assert self._engine is not None
        plan = self._engine.plan
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
        with self._lock:
            for s in range(0, steps, each):
                e = min(s + each, steps)
                rows = order[s * batch : e * batch]
                data: Batches = (X, y, weight, rows) if dense else _gather(X, y, weight, rows)
                done = self._engine.epoch(*data, rates[s:e], losses[s:e], penalties[s:e])
                if done < e - s:
                    # scikit-learn goes on; what it goes on with is not finite.
                    self._engine.set_parameters([np.full_like(p, np.nan) for p in self.parameters])
                    break
        self._step += steps
        return losses, penalties

    def outputs(self, X: Any, *, link: bool = False) -> Array:
        """f(x), or the prediction link(f(x)), of every row."""
        assert self._engine is not None
        plan = self._engine.plan
        out = np.empty((X.shape[0], plan.layer_sizes[-1]), plan.dtype)
        with self._lock:
            for rows, block in row_blocks(X, dense_rows(X.shape[1])):
                self._engine.forward(block, out[rows], link=link)
        return out

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

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        if self._engine is not None:
            with self._lock:
                state["_state"] = self._engine.get_optimizer_state()
            state["_engine"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _gather(X: Any, y: Array, weight: Array | None, rows: NDArray[np.int64]) -> Batches:
    """The rows of a sparse X, dense, with their targets and weights."""
    return (
        X[rows].toarray(),
        y[rows],
        None if weight is None else weight[rows],
        np.arange(len(rows)),
    )
