"""Training: one epoch through an engine, and the loop over epochs.

`MLP.fit` and the stochastic solvers of the estimators are this loop. What differs between them (where
the rows' order and the rates come from, what is recorded and told) they say in a `Fit`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp.engines import Engine, Rows
from fastbp.history import History
from fastbp.stopping import Stopping

__all__ = ["Epoch", "Fit", "call_all", "run", "run_epoch"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Order = NDArray[np.int64]
Data = tuple[Rows, Array, Array | None]  # X, y, sample_weight


@dataclass(frozen=True)
class Epoch:
    """What an engine says of an epoch: of each step its objective, and the penalties' part of it.

    A step that diverged was not applied and is the last one: from there on the numbers are NaN, but
    for its loss.
    """

    losses: Floats
    penalties: Floats
    applied: int
    seconds: float


def run_epoch(engine: Engine, data: Data, order: Order, rates: Floats) -> Epoch:
    """One pass over the rows in this order; for who has the engine."""
    losses, penalties = np.full((2, len(rates)), np.nan)
    start = time.perf_counter()
    applied = engine.epoch(*data, order, rates, losses, penalties)
    seconds = max(time.perf_counter() - start, 1e-9)  # a clock may be coarse
    return Epoch(losses, penalties, applied, seconds)


class Fit(Protocol):
    """A training, as the loop sees it.

    Attributes
    ----------
    history : History
        ``history.stopped`` ends the loop.
    epochs : int
        How many epochs ``history`` is to have at the end.
    stopping : Stopping or None
    """

    history: History
    epochs: int
    stopping: Stopping | None

    def train(self) -> None:
        """Train one epoch and record it, and if nothing is to follow, why in ``history.stopped``."""
        ...

    def validate(self) -> float:
        """Record what validation says; return the value that stopping goes by."""
        ...

    def improved(self) -> None:
        """The value is the lowest so far."""
        ...

    def plateau(self) -> bool:
        """Patience is at its end; whether training is."""
        ...

    def report(self) -> None:
        """Tell of the epoch."""
        ...

    def call_back(self) -> bool:
        """Run the callbacks; whether one asks to stop."""
        ...

    def save(self) -> None:
        """Write a checkpoint, if it is time for one."""
        ...


def run(fit: Fit) -> None:
    """Train epoch by epoch until ``fit.history.stopped`` says why to stop."""
    history = fit.history
    done = history.epochs
    try:
        while not history.stopped:
            fit.train()
            if history.stopped:
                return
            value = fit.validate()
            done += 1
            if fit.stopping is not None:
                if fit.stopping.see(value):
                    fit.improved()
                if fit.stopping.over and fit.plateau():
                    history.stopped = "early_stopping"
            if done >= fit.epochs:
                history.stopped = history.stopped or "epochs"
            fit.report()
            if fit.call_back():
                history.stopped = history.stopped or "callback"
            fit.save()
    except BaseException as error:  # an interrupt may come between any two lines
        history.cut(done)
        history.stopped = "interrupt" if isinstance(error, KeyboardInterrupt) else ""
        raise


def call_all(callbacks: Iterable[Callable[..., object]], *args: object) -> bool:
    """Call them; return whether one asks to stop. All of them run, even when an early one does.

    Only True asks, Python's or NumPy's: a callback may well return what it appended or counted.
    """
    answers = [callback(*args) for callback in callbacks]
    return any(isinstance(answer, bool | np.bool_) and bool(answer) for answer in answers)
