"""Members: z = s_m ⊙ v + b_m, of member m = r mod k for row r; P = [s | b] of shape (inputs, 2k).

No matmul: in precision "bf16" nothing is rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.stages import Members

Array = NDArray[Any]
Parameters = list[Array]


def member_of(rows: int, members: int) -> NDArray[np.int64]:
    """The member of every row."""
    return np.arange(rows) % members


def forward(stage: Members, parameters: Parameters, v: Array, *, bf16: bool) -> Array:
    """z = s_m ⊙ v + b_m."""
    (P,) = parameters
    m = member_of(len(v), stage.members)
    z = v
    if stage.scale:
        z = P.T[m] * z
    if stage.shift:
        z = z + P.T[-stage.members :][m]
    return z


def backward(
    stage: Members, parameters: Parameters, v: Array, delta: Array, *, bf16: bool
) -> Array:
    """∂ℓ/∂v = s_m ⊙ δ; of any number of δ in the last axis."""
    if not stage.scale:
        return delta
    s = parameters[0].T[member_of(len(v), stage.members)]
    return delta * (s if delta.ndim == 2 else s[:, None])


def gradient(
    stage: Members, parameters: Parameters, v: Array, delta: Array, *, bf16: bool
) -> Parameters:
    """∇_s ℓ = Σ δ ⊙ v and ∇_b ℓ = Σ δ over the rows of each member."""
    parts = [delta * v] * stage.scale + [delta] * stage.shift
    sums = [p[i :: stage.members].sum(axis=0) for p in parts for i in range(stage.members)]
    return [np.array(sums).T]
