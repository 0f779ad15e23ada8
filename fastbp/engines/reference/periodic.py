"""Periodic: [e₁; …; e_d; v], eᵢ = Wᵢ cos(2π w x + b) + cᵢ for each of the first inputs x.

Its parameters are a row for every number: w, b, W₁ … W_d of the first frequency, of the second, …, and
then c₁ … c_d. Arrays below are (rows, numbers, …).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.stages import Periodic

Array = NDArray[Any]
Parameters = list[Array]


def forward(stage: Periodic, parameters: Parameters, v: Array, *, bf16: bool) -> Array:
    """[e₁; …; e_d; v]."""
    _, _, W, c = _split(stage, parameters)
    e = np.einsum("rnk,nki->rin", np.cos(_angles(stage, parameters, v)), W) + c.T
    return np.hstack([e.reshape(len(v), stage.waves * stage.numbers), v])


def backward(
    stage: Periodic, parameters: Parameters, v: Array, delta: Array, *, bf16: bool
) -> Array:
    """∂ℓ/∂x = δ_x − Σₖ 2π wₖ sin(2π wₖ x + bₖ) Σᵢ δᵢ Wᵢₖ; of any number of δ, by row."""
    w, _, W, _ = _split(stage, parameters)
    n, d = stage.numbers, stage.waves
    sines = 2 * np.pi * w * np.sin(_angles(stage, parameters, v))
    slopes = np.einsum("rnk,nki->rin", sines, W)  # −∂eᵢ/∂x
    into: Array = delta[..., d * n :].copy()
    waves = delta[..., : d * n].reshape(*delta.shape[:-1], d, n)
    each = slopes if delta.ndim == 2 else slopes[:, None]
    into[..., :n] -= (waves * each).sum(axis=-2)
    return into


def gradient(
    stage: Periodic, parameters: Parameters, v: Array, delta: Array, *, bf16: bool
) -> Parameters:
    """∇_Wᵢ = Σ δᵢ cos θ, ∇_c = Σ δ, ∇_b = −Σ sin θ Σᵢ δᵢ Wᵢ, ∇_w = −Σ 2π x sin θ Σᵢ δᵢ Wᵢ."""
    _, _, W, _ = _split(stage, parameters)
    n, d = stage.numbers, stage.waves
    theta, e = _angles(stage, parameters, v), delta[:, : d * n].reshape(len(v), d, n)
    bend = -np.sin(theta) * np.einsum("rin,nki->rnk", e, W)
    each = np.empty((n, stage.frequencies, 2 + d), v.dtype)
    each[:, :, 0] = (2 * np.pi * v[:, :n, None] * bend).sum(axis=0)
    each[:, :, 1] = bend.sum(axis=0)
    each[:, :, 2:] = np.einsum("rin,rnk->nki", e, np.cos(theta))
    return [np.hstack([each.reshape(n, -1), e.sum(axis=0).T])]


def _split(stage: Periodic, parameters: Parameters) -> tuple[Array, Array, Array, Array]:
    """w, b of shape (numbers, k), W of shape (numbers, k, d), c of shape (numbers, d)."""
    (P,) = parameters
    k, d = stage.frequencies, stage.waves
    each = P[:, : (2 + d) * k].reshape(len(P), k, 2 + d)
    return each[:, :, 0], each[:, :, 1], each[:, :, 2:], P[:, (2 + d) * k :]


def _angles(stage: Periodic, parameters: Parameters, v: Array) -> Array:
    """θ = 2π w x + b."""
    w, b, _, _ = _split(stage, parameters)
    theta: Array = v[:, : stage.numbers, None] * (2 * np.pi * w) + b
    return theta
