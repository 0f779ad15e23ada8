"""Dense: z = W [v; 1], where W = [W | b] of shape (units, inputs + 1).

Rows are samples, so it is [v, 1] Wᵀ here. In precision "bf16" the operands of every
product are rounded first, but for the bias and its node.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.stages import Dense

Array = NDArray[Any]
Parameters = list[Array]


def with_bias_node(x: Array) -> Array:
    """[x, 1]."""
    v = np.ones((len(x), x.shape[1] + 1), x.dtype)
    v[:, :-1] = x
    return v


def forward(stage: Dense, parameters: Parameters, v: Array, *, bf16: bool) -> Array:
    """z = W [v; 1]."""
    (W,) = parameters
    if bf16:
        rounded: Array = round_to_bf16(v) @ round_to_bf16(W[:, :-1]).T + W[:, -1]
        return rounded
    z: Array = with_bias_node(v) @ W.T
    return z


def backward(stage: Dense, parameters: Parameters, v: Array, delta: Array, *, bf16: bool) -> Array:
    """∂ℓ/∂v = Wᵀ δ, W without its bias column; of any number of δ in the last axis."""
    W = parameters[0][:, :-1]
    into: Array = round_to_bf16(delta) @ round_to_bf16(W) if bf16 else delta @ W
    return into


def gradient(
    stage: Dense, parameters: Parameters, v: Array, delta: Array, *, bf16: bool
) -> Parameters:
    """∇_W ℓ = Σ δ [v; 1]ᵀ over the rows."""
    v = with_bias_node(v)
    return [round_to_bf16(delta).T @ round_to_bf16(v) if bf16 else delta.T @ v]


def round_to_bf16(a: Array) -> Array:
    """The float32 numbers of `a`, each rounded to the nearest that has 8 significant bits.

    Ties go to the even one; what is beyond the largest bfloat16 goes to infinity, NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> round_to_bf16(np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38], "f4"))
    array([1.      , 1.      , 1.015625,      inf], dtype=float32)
    """
    bits = a.view(np.uint32)
    last = (bits >> 16) & 1  # of those that stay
    # A carry out of the significand raises the exponent, as it should: up to that of infinity.
    rounded: Array = ((bits + (0x7FFF + last)) & 0xFFFF0000).view(np.float32)
    return np.where(np.isnan(a), a, rounded)
