"""Scores that the command prints, of predictions on rows that were held out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import scores

__all__ = ["METRICS", "check_metrics", "measure"]

Array = NDArray[Any]
Metric = Callable[[Array, Array, Array | None], float]


def accuracy(p: Array, y: Array, weight: Array | None) -> float:
    """Share of rows whose likeliest class is theirs."""
    return scores.accuracy(p.argmax(axis=1), y, weight)


def log_loss(p: Array, y: Array, weight: Array | None) -> float:
    """Mean −log of the probability that a row's class was given."""
    own = p[np.arange(len(y)), y].astype(np.float64)
    tiny = np.finfo(p.dtype).tiny  # a probability of 0 is one that underflowed
    return float(np.average(-np.log(np.maximum(own, tiny)), weights=weight))


def roc_auc(p: Array, y: Array, weight: Array | None) -> float:
    """Probability that a row of the second class is ranked above one of the first; ties count half."""
    w = np.ones(len(y)) if weight is None else weight.astype(np.float64)
    _, rank = np.unique(p[:, 1], return_inverse=True)
    positive = np.bincount(rank, w * (y == 1))
    negative = np.bincount(rank, w * (y == 0))
    total = positive.sum() * negative.sum()
    if not total:
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / total)


def rmse(p: Array, y: Array, weight: Array | None) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.average(np.square(p - y), weights=weight)))


def mae(p: Array, y: Array, weight: Array | None) -> float:
    """Mean absolute error."""
    return float(np.average(np.abs(p - y), weights=weight))


def r2(p: Array, y: Array, weight: Array | None) -> float:
    """1 − residual / total sum of squares."""
    return scores.r2(p[:, None], y[:, None], weight)


_OF_CLASSES: dict[str, Metric] = {"accuracy": accuracy, "log_loss": log_loss, "roc_auc": roc_auc}
_OF_NUMBERS: dict[str, Metric] = {"r2": r2, "rmse": rmse, "mae": mae}
METRICS = (*_OF_CLASSES, *_OF_NUMBERS)


def check_metrics(names: list[str], classes: int | None, *, every: bool = False) -> list[str]:
    """The metrics to print: those that were asked for, or the usual one, or every one of the task.

    Raises
    ------
    ValueError
        If one is of the other task, or of two classes where there are more.
    """
    known = _OF_NUMBERS if classes is None else _OF_CLASSES
    for name in names:
        if name not in known:
            task = "regression" if classes is None else "classification"
            raise ValueError(f"--metric {name} is none of {task}; it has {', '.join(known)}")
        if name == "roc_auc" and classes != 2:
            raise ValueError(f"--metric roc_auc is of two classes, the target has {classes}")
    if every:
        return [name for name in known if name != "roc_auc" or classes == 2]
    return names or list(known)[:1]


def measure(
    names: list[str], predicted: Array, y: Array, weight: Array | None
) -> list[tuple[str, float]]:
    """Scores by name.

    Parameters
    ----------
    names : list of str
    predicted : ndarray of shape (n, classes) or (n,)
        Probabilities, or numbers on the scale of the target.
    y : ndarray of shape (n,)
        Class indices, or numbers.
    weight : ndarray of shape (n,) or None
    """
    known = _OF_NUMBERS | _OF_CLASSES
    return [(name, known[name](predicted, y, weight)) for name in names]
