"""Initial weights: random, scaled to a layer's fan-in and fan-out so that signals keep size.

Biases start at 0. With fan_in = n_{l−1} and fan_out = n_l, the variance of a weight is

======= ======================== =====================================
He      2 / fan_in               He et al. 2015, for the relu family
Glorot  2 / (fan_in + fan_out)   Glorot & Bengio 2010, for the others
LeCun   1 / fan_in               LeCun et al. 1998
======= ======================== =====================================

drawn from a normal distribution, or from a uniform one on ±√(3 variance).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.activations import Activation

__all__ = ["INITIALIZERS", "check", "draw"]

INITIALIZERS = (
    "auto",
    "he_normal",
    "he_uniform",
    "glorot_normal",
    "glorot_uniform",
    "lecun_normal",
    "lecun_uniform",
    "zeros",
)

# φ grows like z for z → ∞ and is (nearly) flat for z → −∞: a layer loses half of the signal.
_RELU_FAMILY = frozenset({"relu", "leaky_relu", "elu", "softplus", "silu", "gelu", "mish"})


def check(weight_init: object) -> str:
    """Return the name of an initializer, or raise with the nearest valid one suggested."""
    if not isinstance(weight_init, str):
        raise TypeError(
            "weight_init must be a name or a list of arrays [W | b], "
            f"got {type(weight_init).__name__}"
        )
    if weight_init not in INITIALIZERS:
        raise ValueError(nearest_name("weight_init", weight_init, INITIALIZERS))
    return weight_init


def draw(
    weight_init: str, activation: Activation, W: NDArray[Any], generator: np.random.Generator
) -> None:
    """Draw the weights of a layer.

    Parameters
    ----------
    weight_init : str
        One of `INITIALIZERS`. ``"auto"``: ``he_normal`` for a layer whose activation belongs to the
        relu family, ``glorot_uniform`` for the others and for the (linear) output layer.
    activation : Activation
        The layer's.
    W : ndarray of shape (fan_out, fan_in), float32 or float64
        All zeros; written to.
    generator : numpy.random.Generator

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import activations, initializers
    >>> W = np.zeros((2, 3), "float32")
    >>> initializers.draw("auto", activations.get("relu"), W, np.random.default_rng(0))
    >>> bool(W.all())
    True
    """
    if weight_init == "auto":
        weight_init = "he_normal" if activation.name in _RELU_FAMILY else "glorot_uniform"
    if weight_init == "zeros":
        return
    rule, distribution = weight_init.split("_")
    fan_out, fan_in = W.shape
    variance = {"he": 2 / fan_in, "glorot": 2 / (fan_in + fan_out), "lecun": 1 / fan_in}[rule]
    if distribution == "normal":
        W[...] = generator.standard_normal(W.shape, dtype=W.dtype.type)
        W *= math.sqrt(variance)
    else:
        W[...] = generator.random(W.shape, dtype=W.dtype.type)
        W -= 0.5
        W *= 2 * math.sqrt(3 * variance)
