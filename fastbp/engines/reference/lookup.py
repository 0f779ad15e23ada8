"""Lookup: the last inputs are codes, each of which is a column of T, of shape (width, all levels)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.stages import Lookup

Array = NDArray[Any]
Parameters = list[Array]


def forward(stage: Lookup, parameters: Parameters, v: Array, *, bf16: bool) -> Array:
    """[the other inputs; T's column of every code]."""
    (T,) = parameters
    others = stage.inputs - len(stage.levels)
    vectors = T.T[_columns(stage, v)]
    return np.hstack([v[:, :others], vectors.reshape(len(v), stage.units - others)])


def backward(stage: Lookup, parameters: Parameters, v: Array, delta: Array, *, bf16: bool) -> Array:
    """∂ℓ/∂v = δ of the other inputs, and 0 for codes; of any number of δ in the last axis."""
    into = np.zeros((*delta.shape[:-1], stage.inputs), delta.dtype)
    others = stage.inputs - len(stage.levels)
    into[..., :others] = delta[..., :others]
    return into


def gradient(
    stage: Lookup, parameters: Parameters, v: Array, delta: Array, *, bf16: bool
) -> Parameters:
    """∇_T ℓ: to the column of a row's code its δ, summed over the rows."""
    (T,) = parameters
    g = np.zeros(T.T.shape, T.dtype)
    others = stage.inputs - len(stage.levels)
    vectors = delta[:, others:].reshape(len(v), len(stage.levels), stage.width)
    np.add.at(g, _columns(stage, v), vectors)
    return [g.T]


def _columns(stage: Lookup, v: Array) -> NDArray[np.int64]:
    """T's column of each row's codes, shape (rows, codes)."""
    levels = np.array(stage.levels)
    codes = v[:, stage.inputs - len(levels) :]
    known = (codes >= 0) & (codes < levels)  # not so NaN
    starts = np.cumsum(levels) - levels
    columns: NDArray[np.int64] = np.where(known, codes, 0).astype(np.int64) + starts
    return columns
