"""Training: one epoch through an engine, and the loop over epochs.

`MLP.fit` and the stochastic solvers of the estimators are this loop. What differs between them (where
the rows' order and the rates come from, what is recorded and told) they say in a `Fit`.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbp.engines import Engine, Rows
from fastbp.history import History
from fastbp.stopping import Stopping

if TYPE_CHECKING:
    from fastbp.distributed.epochs import OwnRows
    from fastbp.distributed.ranks import Ranks

__all__ = [
    "Callback",
    "Epoch",
    "Fit",
    "call_all",
    "epochs_by",
    "mean_loss",
    "norm",
    "on_root",
    "run",
    "run_epoch",
    "together",
    "wants_gradient_norm",
]

T = TypeVar("T")
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


def epochs_by(
    ranks: Ranks | None, own: OwnRows | None = None
) -> Callable[[Engine, Data, Order, Floats], Epoch]:
    """`run_epoch`, or how ranks share it; `own` where each has some rows."""
    if ranks is None:
        return run_epoch
    from fastbp.distributed import epochs

    return functools.partial(epochs.run_epoch, ranks, rows=own)


def on_root(ranks: Ranks | None, work: Callable[[], T]) -> T:
    """What `work` returns, on rank 0 if there are several."""
    return work() if ranks is None else ranks.from_root(work)


def together(ranks: Ranks | None) -> AbstractContextManager[None]:
    """What one of several ranks raises in here is raised on all."""
    return nullcontext() if ranks is None else ranks.together()


def mean_loss(losses: Floats, batch_size: int, order: Order, weight: Array | None) -> float:
    """The steps' objectives, weighted by their rows or the rows' sample weights."""
    if weight is None:
        whole = (len(losses) - 1) * batch_size
        total = batch_size * losses[:-1].sum() + (len(order) - whole) * losses[-1]
        return float(total / len(order))
    starts = np.arange(0, len(order), batch_size)
    sizes = np.add.reduceat(weight[order], starts, dtype=np.float64)
    return float(np.average(losses, weights=sizes))


class Callback:
    """Base of what wants to know of a training's beginning and end, too; `fastbp.callbacks` are such.

    It is passed in `callbacks` like a plain function. An object serves one training at a time.

    Attributes
    ----------
    gradient_norm : bool
        Whether ``history.gradient_norm`` is to be measured, which takes about half an epoch.

    Examples
    --------
    >>> import fastbp
    >>> class Tell(fastbp.callbacks.Callback):
    ...     def begin(self, model, history, epochs):
    ...         print("up to", epochs, "epochs")
    ...
    ...     def __call__(self, model, history):
    ...         return history.epochs == 2  # enough
    ...
    ...     def end(self, model, history):
    ...         print("stopped by", history.stopped)
    >>> history = fastbp.MLP([1, 2], seed=0).fit([[1], [2]], [0, 1], callbacks=[Tell()])
    up to 10 epochs
    stopped by callback
    """

    gradient_norm: bool = False

    def begin(self, model: Any, history: History, epochs: int) -> None:
        """Training begins; `history` has what epochs there were before, `epochs` is how many at most."""

    def __call__(self, model: Any, history: History) -> object:
        """An epoch has ended; True ends the training."""
        return None

    def end(self, model: Any, history: History) -> None:
        """Training has ended, be it by an exception."""


class Fit(Protocol):
    """A training, as the loop sees it.

    Attributes
    ----------
    model : MLP or estimator
        What callbacks are given.
    history : History
        ``history.stopped`` ends the loop.
    epochs : int
        How many epochs ``history`` is to have at the end.
    stopping : Stopping or None
    callbacks : list of callable
    """

    model: Any
    callbacks: list[Callable[..., object]]
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
    with ExitStack() as stack:
        for callback in fit.callbacks:
            if isinstance(callback, Callback):
                callback.begin(fit.model, fit.history, fit.epochs)
                stack.callback(callback.end, fit.model, fit.history)
        _run_epochs(fit)


def _run_epochs(fit: Fit) -> None:
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


def call_all(callbacks: Iterable[Callable[..., object]], history: History, *args: object) -> bool:
    """Call them; return whether one asks to stop. All of them run, even when an early one does.

    A function gets `args`, a `Callback` the first of them and the history. Only True asks to stop,
    Python's or NumPy's: a callback may well return what it appended or counted.
    """
    answers = [
        callback(args[0], history) if isinstance(callback, Callback) else callback(*args)
        for callback in callbacks
    ]
    return any(isinstance(answer, bool | np.bool_) and bool(answer) for answer in answers)


def wants_gradient_norm(callbacks: Iterable[object]) -> bool:
    """Whether one of them asks for it."""
    return any(isinstance(callback, Callback) and callback.gradient_norm for callback in callbacks)


def norm(gradient: list[Array]) -> float:
    """Euclidean norm of all entries."""
    return math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradient))
