"""Predictions of a network, or the mean of those of its members: a row is a row for each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.engines import Engine

__all__ = ["outputs_of", "predictions_of"]

Array = NDArray[Any]
_CELLS = 1 << 22  # inputs that are predicted at a time


def predictions_of(engine: Engine, X: Array, copies: int = 1) -> Array:
    """link(f(x)) of every row, the mean over members where there are some; float32."""
    outputs = engine.plan.layer_sizes[-1]
    found = np.empty((len(X), outputs), np.float32)
    step = max(1024, _CELLS // X.shape[1]) // copies or 1
    for start in range(0, len(X), step):
        rows, to = X[start : start + step], found[start : start + step]
        if copies == 1:
            engine.forward(rows, to, link=True)
            continue
        each = np.empty((len(rows) * copies, outputs), np.float32)
        engine.forward(np.repeat(rows, copies, axis=0), each, link=True)
        np.mean(each.reshape(len(rows), copies, outputs), axis=1, dtype=np.float64, out=to)
    return found


def outputs_of(engine: Engine, X: Array, copies: int = 1) -> Array:
    """The f whose link is that prediction."""
    if copies == 1:
        found = np.empty((len(X), engine.plan.layer_sizes[-1]), np.float32)
        engine.forward(X, found)
        return found
    found = predictions_of(engine, X, copies)
    if engine.plan.loss.link == "identity":
        return found
    tiny = np.finfo(np.float32).tiny  # of a softmax f is known but for a constant
    logarithms: Array = np.log(np.maximum(found, tiny))
    return logarithms
