"""When to stop, or to lower the rate, for want of improvement."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Stopping"]


@dataclass
class Stopping:
    """When to stop for want of improvement of a value, the lower the better.

    Attributes
    ----------
    patience : int
        Epochs without improvement after which it is over.
    min_delta : float
        By how much a value has to be below the lowest one so far to be an improvement.
    ties : bool
        Whether exactly so much is enough. A value that is not finite never is.
    lowest : float
        So far; infinite at first.
    waited : int
        Epochs since the last improvement.

    Examples
    --------
    >>> from fastbp.stopping import Stopping
    >>> stopping = Stopping(patience=2)
    >>> [stopping.see(loss) for loss in (3.0, 2.0, 2.5, float("nan"))], stopping.over
    ([True, True, False, False], True)
    """

    patience: int
    min_delta: float = 0.0
    ties: bool = False
    lowest: float = math.inf
    waited: int = 0

    def see(self, value: float) -> bool:
        """Take the value of an epoch; return whether it is the lowest so far."""
        goal = self.lowest - self.min_delta
        better = value <= goal if self.ties else value < goal
        self.waited = 0 if better and math.isfinite(value) else self.waited + 1
        lowest = math.isfinite(value) and value < self.lowest
        if lowest:
            self.lowest = value
        return lowest

    @property
    def over(self) -> bool:
        """Whether patience is at its end."""
        return self.waited >= self.patience
