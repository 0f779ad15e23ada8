"""Activations, links and losses in NumPy: the formulas, beside the mathematics that they come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.activations import SELU_ALPHA, SELU_SCALE, Activation
from fastbp.losses import Loss

Array = NDArray[Any]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))  # never overflows
    s: Array = np.where(z >= 0, 1, e) / (1 + e)
    return s


def _normal_cdf(z: Array) -> Array:
    # erfc, not 1 + erf: no cancellation in the lower tail
    cdf: Array = 0.5 * _erfc(z * -math.sqrt(0.5))
    return cdf.astype(z.dtype)


def _normal_pdf(z: Array) -> Array:
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _silu_slope(z: Array) -> Array:
    slope: Array = _sigmoid(z) * (1 + z * _sigmoid(-z))
    return slope


def _mish_slope(z: Array) -> Array:
    t = np.tanh(np.logaddexp(z, 0))
    slope: Array = t + z * _sigmoid(z) * (1 - t) * (1 + t)
    return slope


# name: φ(z, a), φ'(z, v, a), where v = φ(z) and a is the activation's parameter
ACTIVATIONS: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "identity": (lambda z, a: z, lambda z, v, a: np.ones_like(v)),
    "sigmoid": (lambda z, a: _sigmoid(z), lambda z, v, a: (1 - v) * v),
    "tanh": (lambda z, a: np.tanh(z), lambda z, v, a: 1 - v * v),
    "relu": (lambda z, a: np.maximum(z, 0), lambda z, v, a: (v > 0).astype(v.dtype)),
    "leaky_relu": (
        lambda z, a: np.where(z > 0, z, a * z),
        lambda z, v, a: np.where(v > 0, np.ones_like(v), a),
    ),
    "elu": (
        lambda z, a: np.where(z > 0, z, a * np.expm1(np.minimum(z, 0))),
        lambda z, v, a: np.where(v > 0, 1, v + a),
    ),
    "softplus": (lambda z, a: np.logaddexp(z, 0), lambda z, v, a: -np.expm1(-v)),
    "selu": (
        lambda z, a: np.where(
            z > 0, SELU_SCALE * z, SELU_SCALE * SELU_ALPHA * np.expm1(np.minimum(z, 0))
        ).astype(z.dtype),
        lambda z, v, a: np.where(v > 0, SELU_SCALE, v + SELU_SCALE * SELU_ALPHA).astype(v.dtype),
    ),
    "silu": (lambda z, a: z * _sigmoid(z), lambda z, v, a: _silu_slope(z)),
    "gelu": (
        lambda z, a: z * _normal_cdf(z),
        lambda z, v, a: _normal_cdf(z) + z * _normal_pdf(z),
    ),
    "mish": (
        lambda z, a: z * np.tanh(np.logaddexp(z, 0)),
        lambda z, v, a: _mish_slope(z),
    ),
}


def functions_of(activation: Activation) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """φ(z, a) and φ'(z, v, a) of a built-in activation, or of a user's, called number by number."""
    f, derivative = activation.function, activation.derivative
    if f is None:
        return ACTIVATIONS[activation.name]
    phi = np.vectorize(f, otypes=[np.float64])

    def phi_slope(z: Array) -> Array:
        if derivative is not None:
            slope: Array = np.vectorize(derivative, otypes=[np.float64])(z)
            return slope
        from fastbp.engines.jit.functions import evaluate_activation

        return evaluate_activation(activation, z)[1]

    return (
        lambda z, a: phi(z.astype(np.float64)).astype(z.dtype),
        lambda z, v, a: phi_slope(z.astype(np.float64)).astype(z.dtype),
    )


def _softmax(f: Array) -> Array:
    e = np.exp(f - f.max(axis=1, keepdims=True))
    p: Array = e / e.sum(axis=1, keepdims=True)
    return p


# name: prediction from f
LINKS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda f: f,
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "exp": np.exp,
}


def _squared_error(f: Array, y: Array, _: float) -> tuple[Array, Array]:
    r = f - y
    return (0.5 * r * r).sum(axis=1), r


def _absolute_error(f: Array, y: Array, _: float) -> tuple[Array, Array]:
    r = f - y
    return np.abs(r).sum(axis=1), np.sign(r)


def _huber(f: Array, y: Array, width: float) -> tuple[Array, Array]:
    r = f - y
    clipped = np.clip(r, -width, width)
    return (clipped * (r - 0.5 * clipped)).sum(axis=1), clipped  # both zones in one formula


def _within(x: Array, floor: float) -> Array:
    """−log p as if p were in [floor, 1 − floor]."""
    return np.clip(x, -math.log1p(-floor), -math.log(floor)) if floor > 0 else x


def _softmax_cross_entropy(f: Array, y: Array, floor: float) -> tuple[Array, Array]:
    if y.ndim == 2:
        floor = 0.0
    else:
        y = (y[:, None] == np.arange(f.shape[1])).astype(f.dtype)
    shifted = f - f.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    rows = np.where(y == 0, 0, y * _within(np.log(total) - shifted, floor)).sum(axis=1)
    return rows, y.sum(axis=1, keepdims=True) * (e / total) - y


def _binary_cross_entropy(f: Array, y: Array, floor: float) -> tuple[Array, Array]:
    # log(1 + e^∓f) for y = 1 and y = 0, without exp(large)
    e = np.log1p(np.exp(-np.abs(f)))
    yes, no = (_within(e + np.maximum(x, 0), floor) for x in (-f, f))
    rows = (y * yes + (1 - y) * no).sum(axis=1)
    return rows, _sigmoid(f) - y


def _poisson(f: Array, y: Array, _: float) -> tuple[Array, Array]:
    mu = np.exp(f)
    y_log_y = y * np.log(np.where(y > 0, y, 1))
    return (y_log_y - y * f - y + mu).sum(axis=1), mu - y


def _pinball(f: Array, y: Array, level: Any) -> tuple[Array, Array]:
    r = y - f
    level = np.asarray(level, f.dtype)  # one for all outputs, or one for each
    slope = np.where(r > 0, -level, np.where(r < 0, 1 - level, 0)).astype(f.dtype)
    return np.maximum(level * r, (level - 1) * r).sum(axis=1), slope


# name: (ℓ of every row, δᴸ = ∂ℓ/∂f) of (f, y, the loss's parameter)
LOSSES: dict[str, Callable[[Array, Array, float], tuple[Array, Array]]] = {
    "squared_error": _squared_error,
    "absolute_error": _absolute_error,
    "huber": _huber,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "poisson": _poisson,
    "pinball": _pinball,
}


def loss_function(loss: Loss) -> Callable[[Array, Array, float], tuple[Array, Array]]:
    """ℓ of every row and δᴸ of a built-in loss, or of a user's, called number by number."""
    function, derivative = loss.function, loss.derivative
    if function is None:
        if loss.levels:
            return lambda f, y, _: _pinball(f, y, loss.levels)
        return LOSSES[loss.name]
    ell = np.vectorize(function, otypes=[np.float64])

    def rows(f: Array, y: Array, _: float) -> tuple[Array, Array]:
        f64, y64 = f.astype(np.float64), y.astype(np.float64)
        if derivative is not None:
            delta = np.vectorize(derivative, otypes=[np.float64])(f64, y64)
        else:
            from fastbp.engines.jit.functions import evaluate_loss

            delta = evaluate_loss(loss, f64, y64)[1]
        return ell(f64, y64).sum(axis=1).astype(f.dtype), delta.astype(f.dtype)

    return rows
