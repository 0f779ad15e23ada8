"""Scale: z = s ⊙ v, s of shape (inputs, 1). No matmul: in precision "bf16" nothing is rounded."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastbp.stages import Scale

Array = NDArray[Any]
Parameters = list[Array]


def forward(stage: Scale, parameters: Parameters, v: Array, *, bf16: bool) -> Array:
    """z = s ⊙ v."""
    (s,) = parameters
    return v * s[:, 0]


def backward(stage: Scale, parameters: Parameters, v: Array, delta: Array, *, bf16: bool) -> Array:
    """∂ℓ/∂v = s ⊙ δ; of any number of δ in the last axis."""
    (s,) = parameters
    return delta * s[:, 0]


def gradient(
    stage: Scale, parameters: Parameters, v: Array, delta: Array, *, bf16: bool
) -> Parameters:
    """∇_s ℓ = Σ δ ⊙ v over the rows."""
    return [(delta * v).sum(axis=0)[:, None]]
