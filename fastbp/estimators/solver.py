"""A stochastic solver: the optimizer, its learning rate as scikit-learn moves it, and the engine.

It outlives a call of fit, so that `partial_fit` and a warm start go on from it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastbp import schedules
from fastbp.holder import Holder
from fastbp.optimizers import Optimizer
from fastbp.schedules import Schedule
from fastbp.training import Floats


class Solver:
    """What of a training outlives a call.

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
        self.holder = Holder(None)  # its parameters come from coefs_, call by call
        self.learning_rate_init = float(learning_rate_init)
        self.learning_rate = self.learning_rate_init
        self._schedule = learning_rate
        if callable(learning_rate):
            schedules.rates(learning_rate, 0, 1)  # one that returns nonsense fails here
        self._power_t = power_t
        self._step = 0  # what a schedule goes by

    def rates(self, steps: int) -> Floats:
        """Of the next steps."""
        if not callable(self._schedule):
            return np.full(steps, self.learning_rate)
        rates = schedules.rates(self._schedule, self._step, steps)
        self.learning_rate = float(rates[-1])
        self._step += steps
        return rates

    def epoch_ends(self, samples: int) -> None:
        """Move the rate after an epoch, `samples` being the rows seen since the first fit."""
        if self._schedule == "invscaling":
            self.learning_rate = self.learning_rate_init / (samples + 1) ** self._power_t

    def plateau(self) -> tuple[bool, str]:
        """For want of improvement: divide an adaptive rate by 5, or stop; and what to say of it."""
        if self._schedule != "adaptive":
            return True, "Stopping."
        if self.learning_rate <= 1e-6:
            return True, "Learning rate too small. Stopping."
        self.learning_rate /= 5.0
        return False, f"Setting learning rate to {self.learning_rate:f}"
