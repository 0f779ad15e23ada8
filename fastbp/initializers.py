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
from collections.abc import Sequence
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
_RELU_FAMILY = frozenset({"relu", "leaky_relu", "elu", "softplus", "silu", "gelu"})


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
    weight_init: str,
    layer_sizes: Sequence[int],
    activations: Sequence[Activation],
    dtype: str,
    generator: np.random.Generator,
) -> list[NDArray[Any]]:
    """Draw the parameters of a network, layer by layer.

    Parameters
    ----------
    weight_init : str
        One of `INITIALIZERS`. ``"auto"``: ``he_normal`` for a layer whose activation belongs to the
        relu family, ``glorot_uniform`` for the others and for the (linear) output layer.
    layer_sizes : sequence of int
        n_0 … n_L.
    activations : sequence of Activation
        Of the L − 1 hidden layers.
    dtype : {"float32", "float64"}
    generator : numpy.random.Generator

    Returns
    -------
    list of ndarray
        L arrays [W | b] of shape (n_l, n_{l−1} + 1).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import activations, initializers
    >>> generator = np.random.default_rng(0)
    >>> relu = activations.get("relu")
    >>> parameters = initializers.draw("auto", [2, 3, 1], [relu], "float32", generator)
    >>> [p.shape for p in parameters]
    [(3, 3), (1, 4)]
    """
    kinds = [
        ("he_normal" if phi in _RELU_FAMILY else "glorot_uniform")
        if weight_init == "auto"
        else weight_init
        for phi in [*(a.name for a in activations), "identity"]
    ]
    parameters = []
    for kind, fan_in, fan_out in zip(kinds, layer_sizes[:-1], layer_sizes[1:], strict=True):
        try:
            p = np.zeros((fan_out, fan_in + 1), dtype=dtype)
        except ValueError:  # more than an address space
            need = fan_out * (fan_in + 1) * np.dtype(dtype).itemsize
            raise MemoryError(f"a layer of {fan_in} × {fan_out} needs {need:,} bytes") from None
        if kind != "zeros":
            rule, shape = kind.split("_")
            variance = {"he": 2 / fan_in, "glorot": 2 / (fan_in + fan_out), "lecun": 1 / fan_in}[
                rule
            ]
            W = p[:, :-1]
            if shape == "normal":
                W[...] = generator.standard_normal(W.shape, dtype=p.dtype.type)
                W *= math.sqrt(variance)
            else:
                W[...] = generator.random(W.shape, dtype=p.dtype.type)
                W -= 0.5
                W *= 2 * math.sqrt(3 * variance)
        parameters.append(p)
    return parameters
