"""Dropout masks: which units a training step keeps, as a pure function of their position.

Part of the engine contract: every engine computes these same bits, so that a mask depends on the
seed, the step, the layer, the row and the unit, and never on threads, tiles or their order. The
64-bit mixer is Steele, Lea & Flood's SplitMix64 (2014); the 32-bit one, cheap in vector lanes, is a
xorshift-multiply hash with full avalanche.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK64 = (1 << 64) - 1
_MASK32 = (1 << 32) - 1


def _splitmix64(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & _MASK64
    return x ^ x >> 31


def _mix32(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    x = x ^ x >> np.uint32(16)
    x = x * np.uint32(0x7FEB352D)
    x = x ^ x >> np.uint32(15)
    x = x * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def mask(seed: int, step: int, layer: int, rows: int, units: int, p: float) -> NDArray[np.bool_]:
    """Which units of a hidden layer are kept, for each row of one step's minibatch.

    Parameters
    ----------
    seed : int
        The plan's seed, 0 ≤ seed < 2⁶⁴.
    step : int
        Steps the optimizer has taken before this one.
    layer : int
        1 for the first hidden layer.
    rows, units : int
        Rows of the minibatch (a row's number is its place in the minibatch), width of the layer.
    p : float
        Probability that a unit is dropped, 0 ≤ p < 1.

    Returns
    -------
    ndarray of bool, shape (rows, units)
        True where the unit is kept.

    Examples
    --------
    >>> from fastbp.engines.dropout import mask
    >>> mask(seed=1, step=0, layer=1, rows=2, units=6, p=0.5).astype(int)
    array([[0, 1, 1, 1, 1, 1],
           [1, 1, 1, 1, 0, 1]])
    """
    key = _splitmix64(_splitmix64(_splitmix64(seed) ^ step) ^ layer)
    low, high = np.uint32(key & _MASK32), np.uint32(key >> 32)
    row = np.arange(rows, dtype=np.uint32) * np.uint32(0x9E3779B9)
    unit = np.arange(units, dtype=np.uint32) * np.uint32(0x85EBCA6B)
    hashed = _mix32((unit + _mix32(low ^ row)[:, None]) ^ high)
    return hashed >= np.uint32(int(p * 2**32))
