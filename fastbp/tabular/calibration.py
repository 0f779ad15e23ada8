"""Temperature: probabilities p become p^(1/T), over their sum (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["temperature", "tempered"]

Array = NDArray[Any]
_LEAST, _MOST = 0.05, 20.0


def tempered(p: Array, temperature: float) -> Array:
    """Probabilities at a temperature; 1 leaves them as they are."""
    if temperature == 1:
        return p
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(p) / temperature
        powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    found: Array = powers / powers.sum(axis=1, keepdims=True)
    return found


def temperature(p: Array, y: Array, weight: Array | None) -> float:
    """That of the lowest log-loss, which is convex in 1/T: by golden section."""
    p = np.maximum(p, np.finfo(np.float32).tiny)

    def loss(inverse: float) -> float:
        found = tempered(p, 1 / inverse)[np.arange(len(y)), y]
        return -float(np.average(np.log(np.maximum(found, 1e-300)), weights=weight))

    low, high = 1 / _MOST, 1 / _LEAST
    golden = (5**0.5 - 1) / 2
    while high - low > 1e-4 * high:
        a, b = high - golden * (high - low), low + golden * (high - low)
        if loss(a) <= loss(b):
            high = b
        else:
            low = a
    return 2 / (low + high)
