"""What decides which epoch is best: of a network's outputs, lower is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSIFICATION", "REGRESSION", "criterion", "log_softmax"]

Array = NDArray[Any]
Criterion = Callable[[Array, Array, Array | None], float]  # outputs, targets, weights

CLASSIFICATION = ("log_loss", "accuracy", "roc_auc")
REGRESSION = ("rmse", "mae", "poisson", "quantile")


def criterion(metric: str, quantiles: Sequence[float] = ()) -> Criterion:
    """The function for a metric, which pickles; for "roc_auc" the log-loss, which is less noisy."""
    if metric == "quantile":
        return partial(_quantile, tuple(quantiles))
    return _CRITERIA[metric]


def log_softmax(f: Array) -> Array:
    """log p of every class."""
    shifted = f - f.max(axis=1, keepdims=True)
    p: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return p


def pinball(f: Array, y: Array, quantiles: Sequence[float]) -> Array:
    """Σ max(τ r, (τ − 1) r) over the quantiles of each row, r = y − f."""
    r = y - f
    tau = np.asarray(quantiles)
    loss: Array = np.maximum(tau * r, (tau - 1) * r).sum(axis=1)
    return loss


def _mean(values: Array, weight: Array | None) -> float:
    return float(np.average(values, weights=weight))


def _log_loss(f: Array, y: Array, weight: Array | None) -> float:
    return -_mean(log_softmax(f)[np.arange(len(y)), y], weight)


def _error_rate(f: Array, y: Array, weight: Array | None) -> float:
    return _mean(f.argmax(axis=1) != y, weight)


def _squares(f: Array, y: Array, weight: Array | None) -> float:
    return _mean(np.square(f - y).sum(axis=1), weight)


def _absolute(f: Array, y: Array, weight: Array | None) -> float:
    return _mean(np.abs(f - y).sum(axis=1), weight)


def _quantile(quantiles: tuple[float, ...], f: Array, y: Array, weight: Array | None) -> float:
    return _mean(pinball(f, y, quantiles), weight)


def _poisson(f: Array, y: Array, weight: Array | None) -> float:
    return _mean(np.exp(f[:, 0]) - y[:, 0] * f[:, 0], weight)


_CRITERIA: dict[str, Criterion] = {
    "log_loss": _log_loss,
    "roc_auc": _log_loss,
    "accuracy": _error_rate,
    "rmse": _squares,
    "mae": _absolute,
    "poisson": _poisson,
}
