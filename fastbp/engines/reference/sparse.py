"""Sparse: Dense, z = W [v; 1], where v is rows of X of which only the nonzeros are there (CSR).

A nonzero x of column k adds x W[:, k] to its row's z, and x δ to column k of the gradient. No matmul: in
precision "bf16" nothing is rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.csr import CSR
from fastbp.stages import Sparse

__all__ = ["backward", "forward", "gradient", "touched", "without"]

Array = NDArray[Any]
Parameters = list[Array]


def forward(stage: Sparse, parameters: Parameters, v: CSR, *, bf16: bool) -> Array:
    """z = b + Σ x W[:, k] over the row's nonzeros."""
    (W,) = parameters
    z: Array = np.tile(W[:, -1], (len(v), 1))
    np.add.at(z, v.rows(), v.values[:, None] * W[:, :-1].T[v.columns])
    return z


def backward(stage: Sparse, parameters: Parameters, v: CSR, delta: Array, *, bf16: bool) -> Array:
    """∂ℓ/∂v = Wᵀ δ, W without its bias column; of any number of δ in the last axis."""
    into: Array = delta @ parameters[0][:, :-1]
    return into


def gradient(
    stage: Sparse, parameters: Parameters, v: CSR, delta: Array, *, bf16: bool
) -> Parameters:
    """∇_W ℓ: column k is Σ x δ over the nonzeros of that column, the last one Σ δ over the rows."""
    g = np.zeros((v.shape[1] + 1, delta.shape[1]), delta.dtype)
    np.add.at(g, v.columns, v.values[:, None] * delta[v.rows()])
    g[-1] = delta.sum(axis=0)
    return [g.T]


def without(v: CSR, rows: Array) -> CSR:
    """The same with nothing in those rows, of which there is a bool for each."""
    keep = ~rows[v.rows()]
    starts = np.zeros(len(v) + 1, np.int64)
    np.cumsum(np.where(rows, 0, v.counts()), out=starts[1:])
    return CSR(v.values[keep], v.columns[keep], starts, v.shape)


def touched(v: CSR) -> Array:
    """Which columns of [W | b] a lazy update moves: those that occur, a 0 too, and the bias."""
    columns = np.zeros(v.shape[1] + 1, bool)
    columns[v.columns] = True
    columns[-1] = True
    return columns
