"""Timing round by round, and what is concluded from it: ratios within a round, their spread.

Whatever the machine does meanwhile (frequency, temperature, neighbours) hits all contenders of a round
alike, so a ratio is taken within each round, and then the median and quartiles over the rounds.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

# Seconds for the threads of the last contender to sleep: OpenBLAS has its own spin for 2²⁶ ticks.
SETTLE = 0.05


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of the values; of a single one, three times itself."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Spread of the ratios within each round."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


def run(measure: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every measurement once a round, each round starting with the next one."""
    names = list(measure)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds if names else 0):
        start = i % len(names)
        for name in names[start:] + names[:start]:
            time.sleep(SETTLE)
            seconds[name].append(measure[name]())
    return seconds


def repetitions(once: float, enough: float) -> int:
    """How many repetitions of something that takes `once` take at least `enough` seconds."""
    return max(1, math.ceil(enough / max(once, 1e-9)))
