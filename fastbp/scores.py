"""How good predictions are, in one number: accuracy for classification, R² for regression."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastbp._inputs import Array

__all__ = ["Score", "accuracy", "of_link", "r2"]


def accuracy(predicted: Array, y: Array, weight: Array | None = None) -> float:
    """Weighted share of right labels (averaged over the labels of a row, if it has several).

    Parameters
    ----------
    predicted, y : ndarray of shape (n,) or (n, k)
        Labels.
    weight : ndarray of shape (n,) or None
        Not all zero.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.scores import accuracy
    >>> accuracy(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    0.75
    """
    right = (predicted == y).reshape(len(y), -1).mean(axis=1)
    return float(np.average(right, weights=weight))


def r2(predicted: Array, y: Array, weight: Array | None = None) -> float:
    """1 − residual / total sum of squares, averaged over the outputs; NaN for constant y.

    Parameters
    ----------
    predicted, y : ndarray of shape (n, k)
    weight : ndarray of shape (n,) or None
        Not all zero.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.scores import r2
    >>> r2(np.array([[1.0], [2.0], [2.0]]), np.array([[1.0], [2.0], [3.0]]))
    0.5
    """
    y = y.astype(np.float64)
    mean = np.average(y, axis=0, weights=weight)
    with np.errstate(over="ignore", invalid="ignore"):  # a prediction may be infinite
        residual = np.average((y - predicted) ** 2, axis=0, weights=weight)
    total = np.average((y - mean) ** 2, axis=0, weights=weight)
    defined = total > 0
    return float(np.mean(np.where(defined, 1 - residual / np.where(defined, total, 1), np.nan)))


class Score(NamedTuple):
    """A score: what it is called, and its function of predictions, targets and weights."""

    name: str
    function: Callable[[Array, Array, Array | None], float]


def of_link(link: str) -> Score:
    """The score of a network whose loss has this link; targets are as the engine takes them.

    Examples
    --------
    >>> from fastbp import scores
    >>> scores.of_link("softmax").name
    'accuracy'
    """
    return _OF_LINK.get(link, Score("R2", lambda p, y, w: r2(p.reshape(y.shape), y, w)))


_OF_LINK = {
    "softmax": Score(
        "accuracy", lambda p, y, w: accuracy(p, y if y.ndim == 1 else y.argmax(axis=1), w)
    ),
    "sigmoid": Score("accuracy", lambda p, y, w: accuracy(p.reshape(y.shape), y > 0.5, w)),
}
