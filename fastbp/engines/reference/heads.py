"""Heads: z = W_m v, of member m = r mod k for row r; P = [W₀ᵀ | W₁ᵀ | …] of shape (inputs, k units).

In precision "bf16" nothing is rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.engines.reference.members import member_of
from fastbp.stages import Heads

Array = NDArray[Any]
Parameters = list[Array]


def of_rows(stage: Heads, P: Array, rows: int) -> Array:
    """W_m of every row, shape (rows, units, inputs)."""
    W = P.T.reshape(stage.members, stage.units, stage.inputs)
    found: Array = W[member_of(rows, stage.members)]
    return found


def forward(stage: Heads, parameters: Parameters, v: Array, *, bf16: bool) -> Array:
    """z = W_m v."""
    z: Array = np.einsum("nui,ni->nu", of_rows(stage, parameters[0], len(v)), v)
    return z


def backward(stage: Heads, parameters: Parameters, v: Array, delta: Array, *, bf16: bool) -> Array:
    """∂ℓ/∂v = W_mᵀ δ; of any number of δ in the last axis."""
    into: Array = np.einsum("n...u,nui->n...i", delta, of_rows(stage, parameters[0], len(v)))
    return into


def gradient(
    stage: Heads, parameters: Parameters, v: Array, delta: Array, *, bf16: bool
) -> Parameters:
    """∇_W ℓ = Σ δ vᵀ over the rows of each member."""
    k = stage.members
    return [np.concatenate([delta[i::k].T @ v[i::k] for i in range(k)]).T]
