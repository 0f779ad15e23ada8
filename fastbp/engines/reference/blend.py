"""Blend: z = v + α ⊙ (f(v) − v), α of shape (inputs, 1)."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastbp.engines.reference.functions import functions_of
from fastbp.stages import Blend

Array = NDArray[Any]
Parameters = list[Array]


def forward(stage: Blend, parameters: Parameters, v: Array, *, bf16: bool) -> Array:
    """z = v + α ⊙ (f(v) − v)."""
    (alpha,) = parameters
    z: Array = v + alpha[:, 0] * _bend(stage, v)
    return z


def backward(stage: Blend, parameters: Parameters, v: Array, delta: Array, *, bf16: bool) -> Array:
    """∂ℓ/∂v = (1 + α ⊙ (f'(v) − 1)) ⊙ δ; of any number of δ in the last axis but one."""
    (alpha,) = parameters
    f, slope = functions_of(stage.blended)
    a = stage.blended.parameter
    factor: Array = 1 + alpha[:, 0] * (slope(v, f(v, a), a) - 1)
    return delta * (factor if delta.ndim == 2 else factor[:, None, :])


def gradient(
    stage: Blend, parameters: Parameters, v: Array, delta: Array, *, bf16: bool
) -> Parameters:
    """∇_α ℓ = Σ δ ⊙ (f(v) − v) over the rows."""
    return [(delta * _bend(stage, v)).sum(axis=0)[:, None]]


def _bend(stage: Blend, v: Array) -> Array:
    """f(v) − v."""
    f, _ = functions_of(stage.blended)
    bend: Array = f(v, stage.blended.parameter) - v
    return bend
