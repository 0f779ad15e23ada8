"""Learning-rate schedules: the rate as a function of the step number.

A schedule is called with a step number (or an array of them) counted from 0 at the first minibatch,
and returns the learning rate(s). Any Python callable ``step -> rate`` serves as well; these classes
answer for a whole epoch at once. An epoch has ⌈rows / batch_size⌉ steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import by_name, check_finite_number, check_integer
from fastbp.stopping import Stopping

__all__ = [
    "Constant",
    "Cosine",
    "InverseScaling",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "get",
    "rates",
]

Floats = NDArray[np.float64]


class Schedule(ABC):
    """Base of the schedules: takes an int or an array of ints, returns a float or an array.

    Examples
    --------
    >>> from fastbp import schedules
    >>> isinstance(schedules.Cosine(0.1, steps=100), schedules.Schedule)
    True
    """

    def __call__(self, step: Any) -> Any:
        """Learning rate at `step` (int, or array of ints of any shape)."""
        rate = self._rate(np.asarray(step, dtype=np.float64))
        return float(rate) if np.ndim(rate) == 0 else rate

    @abstractmethod
    def _rate(self, step: Floats) -> Floats: ...


@dataclass(frozen=True)
class Constant(Schedule):
    """The same `rate` at every step.

    Parameters
    ----------
    rate : float
        A learning rate, ≥ 0.

    Raises
    ------
    TypeError, ValueError
        If one of them is no such number.

    Examples
    --------
    >>> from fastbp.schedules import Constant
    >>> Constant(0.1)(1000)
    0.1
    """

    rate: float

    def __post_init__(self) -> None:
        check_finite_number("rate", self.rate, minimum=0.0)

    def _rate(self, step: Floats) -> Floats:
        return np.full(step.shape, self.rate)


@by_name(after=1)
@dataclass(frozen=True)
class InverseScaling(Schedule):
    """initial / (1 + step / scale)^power.

    Parameters
    ----------
    initial : float
        The rate at step 0, ≥ 0.
    scale : float
        Steps, > 0.
    power : float
        ≥ 0.

    Raises
    ------
    TypeError, ValueError
        If one of them is no such number.

    Examples
    --------
    >>> from fastbp.schedules import InverseScaling
    >>> InverseScaling(0.1, scale=100, power=1.0)(100)
    0.05
    """

    initial: float
    scale: float = 1.0
    power: float = 0.5

    def __post_init__(self) -> None:
        check_finite_number("initial", self.initial, minimum=0.0)
        check_finite_number("scale", self.scale, minimum=0.0, open_minimum=True)
        check_finite_number("power", self.power, minimum=0.0)

    def _rate(self, step: Floats) -> Floats:
        return self.initial * (1.0 + step / self.scale) ** -self.power


@by_name(after=1)
@dataclass(frozen=True)
class Step(Schedule):
    """initial × factor^⌊step / every⌋: multiplied by `factor` once every `every` steps.

    Parameters
    ----------
    initial : float
        The rate at step 0, ≥ 0.
    every : int
        Steps, ≥ 1.
    factor : float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If one of them is no such number.

    Examples
    --------
    >>> from fastbp.schedules import Step
    >>> Step(1.0, every=10, factor=0.5)([0, 9, 10, 20])
    array([1.  , 1.  , 0.5 , 0.25])
    """

    initial: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_finite_number("initial", self.initial, minimum=0.0)
        check_integer("every", self.every, minimum=1)
        check_finite_number("factor", self.factor, minimum=0.0, maximum=1.0)

    def _rate(self, step: Floats) -> Floats:
        return self.initial * self.factor ** (step // self.every)


@by_name(after=1)
@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from `initial` at step 0 to `final` at step `steps`, and `final` from there on.

    Parameters
    ----------
    initial, final : float
        Rates, ≥ 0.
    steps : int
        ≥ 1.

    Raises
    ------
    TypeError, ValueError
        If one of them is no such number.

    Examples
    --------
    >>> from fastbp.schedules import Cosine
    >>> Cosine(0.1, steps=100)([0, 50, 100, 150])
    array([0.1 , 0.05, 0.  , 0.  ])
    """

    initial: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_finite_number("initial", self.initial, minimum=0.0)
        check_integer("steps", self.steps, minimum=1)
        check_finite_number("final", self.final, minimum=0.0)

    def _rate(self, step: Floats) -> Floats:
        return _half_cosine(self.initial, self.final, step / self.steps)


@by_name(after=1)
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Warm-up to `peak`, then annealing, both along half a cosine; the final rate from there on.

    The rate is start × peak at step 0, `peak` at step warmup × steps, final × peak at step `steps`.

    Parameters
    ----------
    peak : float
        The largest rate, ≥ 0.
    steps : int
        ≥ 1.
    warmup, start, final : float
        Shares, from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If one of them is no such number.

    Examples
    --------
    >>> from fastbp.schedules import OneCycle
    >>> OneCycle(0.1, steps=100, warmup=0.5, start=0.5)([0, 50, 75, 100])
    array([0.05, 0.1 , 0.05, 0.  ])
    """

    peak: float
    steps: int
    warmup: float = 0.3
    start: float = 0.04
    final: float = 0.0

    def __post_init__(self) -> None:
        check_finite_number("peak", self.peak, minimum=0.0)
        check_integer("steps", self.steps, minimum=1)
        check_finite_number("warmup", self.warmup, minimum=0.0, maximum=1.0)
        check_finite_number("start", self.start, minimum=0.0, maximum=1.0)
        check_finite_number("final", self.final, minimum=0.0, maximum=1.0)

    def _rate(self, step: Floats) -> Floats:
        top = self.warmup * self.steps
        # Where a phase has no length, `max` keeps the division defined; that branch is not taken.
        up = _half_cosine(self.start * self.peak, self.peak, step / max(top, 1e-300))
        tail = max(self.steps - top, 1e-300)
        down = _half_cosine(self.peak, self.final * self.peak, (step - top) / tail)
        return np.where(step < top, up, down)


@by_name(after=1)
@dataclass(frozen=True)
class ReduceOnPlateau:
    """`initial`, multiplied by `factor` after each `patience` epochs without improvement.

    Of what `MLP.fit` measures: the validation loss, or the loss where there is no validation. Not a
    function of the step, so only for `MLP.fit`.

    Parameters
    ----------
    initial : float
    factor : float
        From 0 to 1.
    patience : int
        Epochs.
    min_delta : float
        By how much a loss has to be below the lowest one so far to be an improvement.
    min_rate : float
        The rate does not fall below it.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.data import load_digits
    >>> X, y = load_digits()
    >>> rate = fastbp.schedules.ReduceOnPlateau(initial=1.0, factor=0.1, patience=2)
    >>> model = fastbp.MLP([64, 16, 10], seed=0)
    >>> history = model.fit(X, y, epochs=30, learning_rate=rate, validation=0.2)
    >>> min(history.learning_rate) < 1.0
    True
    """

    initial: float
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 0.0
    min_rate: float = 0.0

    def __post_init__(self) -> None:
        check_finite_number("initial", self.initial, minimum=0.0)
        check_finite_number("factor", self.factor, minimum=0.0, maximum=1.0)
        check_integer("patience", self.patience, minimum=1)
        check_finite_number("min_delta", self.min_delta, minimum=0.0)
        check_finite_number("min_rate", self.min_rate, minimum=0.0)


class Plateau:
    """The rate of a `ReduceOnPlateau` on its way."""

    def __init__(self, rule: ReduceOnPlateau) -> None:
        self.rate = rule.initial
        self._rule = rule
        self._stopping = Stopping(rule.patience, rule.min_delta)

    def see(self, value: float) -> None:
        """Take the loss of an epoch."""
        self._stopping.see(value)
        if self._stopping.over:
            self._stopping.waited = 0
            self.rate = max(self.rate * self._rule.factor, min(self._rule.min_rate, self.rate))


def _half_cosine(first: float, last: float, progress: Floats) -> Floats:
    """From `first` at progress 0 to `last` at 1, exactly `first` and `last` outside."""
    turn = np.cos(np.pi * np.clip(progress, 0.0, 1.0))
    return first * (0.5 + 0.5 * turn) + last * (0.5 - 0.5 * turn)


def get(learning_rate: object) -> Schedule | Callable[[int], float]:
    """Resolve a number to a `Constant`; a schedule or other callable is returned as it is.

    Raises
    ------
    TypeError, ValueError
        If it is neither, or a number that is negative or not finite.

    Examples
    --------
    >>> from fastbp import schedules
    >>> schedules.get(0.1)
    Constant(rate=0.1)
    """
    if callable(learning_rate):
        return learning_rate
    if isinstance(learning_rate, ReduceOnPlateau):
        raise TypeError("learning_rate ReduceOnPlateau is for MLP.fit alone, which measures losses")
    return Constant(check_finite_number("learning_rate", learning_rate, minimum=0.0))


def rates(schedule: Schedule | Callable[[int], float], start: int, count: int) -> Floats:
    """Learning rates of the steps start, …, start + count − 1.

    Raises
    ------
    TypeError, ValueError
        If the schedule returns something else than a finite number ≥ 0 for each step; the step is
        named.

    Examples
    --------
    >>> from fastbp import schedules
    >>> schedules.rates(lambda step: 1 / (1 + step), start=1, count=3)
    array([0.5       , 0.33333333, 0.25      ])
    """
    if isinstance(schedule, Constant):
        return np.full(count, schedule.rate, dtype=np.float64)
    if isinstance(schedule, Schedule):
        values = np.asarray(schedule(np.arange(start, start + count)))
        if values.shape not in ((), (count,)) or values.dtype.kind not in "iuf":
            raise ValueError(
                f"learning_rate {schedule!r} must return a number for each of {count} steps, got shape "
                f"{values.shape} of {values.dtype}"
            )
        values = np.full(count, values, np.float64)
        wrong = ~(np.isfinite(values) & (values >= 0))
        if wrong.any():
            step = int(wrong.argmax())
            check_finite_number(f"learning_rate({start + step})", float(values[step]), minimum=0.0)
        return values
    return np.array(
        [
            check_finite_number(f"learning_rate({step})", schedule(step), minimum=0.0)
            for step in range(start, start + count)
        ],
        dtype=np.float64,
    )
