"""Integrated gradients: what each input has added to each output (Sundararajan et al. 2017).

The attribution of input i to output k is (xᵢ − x⁰ᵢ) ∫₀¹ ∂fₖ/∂xᵢ (x⁰ + t (x − x⁰)) dt. Over the inputs it
adds up to fₖ(x) − fₖ(x⁰), which is called completeness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ENTRIES = 1 << 22  # of the Jacobians that there are at a time


def integrate(jacobian: Callable[[Array], Array], X: Array, baseline: Array, steps: int) -> Array:
    """Attributions of shape (n, n_L, n_0), the integral by Gauss and Legendre's rule.

    It is exact for polynomials of degree 2 steps − 1 in t: to rounding for smooth activations. At a
    kink the error falls with 1 / steps.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    step = X - baseline
    total: Array | float = 0.0
    for node, weight in zip(nodes, weights, strict=True):
        t = X.dtype.type(0.5 * (node + 1))
        total = total + 0.5 * weight * jacobian(baseline + t * step).astype(np.float64)
    attributed: Array = (total * step[:, None, :]).astype(X.dtype)
    return attributed


def importance(
    network: Any, X: Array, *, baseline: Array | None = None, starts: Sequence[int] | None = None
) -> Array:
    """Mean over rows of what each input, or group of inputs, has added to or taken from the answer.

    The answer is the likeliest class's f, or the mean of all outputs where there are no classes.

    Parameters
    ----------
    network : MLP
    X : ndarray of shape (n, n_0)
    baseline : ndarray of shape (n_0,) or None
        None: the mean of the rows.
    starts : sequence of int or None
        Of each group its first input, from 0 on; the attribution of a group is the sum of its inputs'.

    Returns
    -------
    ndarray of float64, shape (groups,)
        Mean |attribution|.
    """
    baseline = X.mean(axis=0) if baseline is None else baseline
    starts = range(X.shape[1]) if starts is None else starts
    block = max(1, ENTRIES // (network.plan.layer_sizes[0] * network.plan.layer_sizes[-1]))
    total = np.zeros(len(starts))
    for first in range(0, len(X), block):
        rows = X[first : first + block]
        parts = network.attributions(rows, baseline, steps=32).astype(np.float64)
        if network.plan.loss.link == "softmax":
            parts = parts[np.arange(len(rows)), network.predict(rows)]
        else:
            parts = parts.mean(axis=1)
        total += np.abs(np.add.reduceat(parts, starts, axis=1)).sum(axis=0)
    return total / max(len(X), 1)
