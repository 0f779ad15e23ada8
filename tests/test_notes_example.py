"""The notes' worked example: one input, one hidden and one output unit, f(x; [w, w']) = w φ(w' x).

By hand, with ℓ = ½ (f − y)²: ∂ℓ/∂w = (f − y) φ(w' x) and ∂ℓ/∂w' = (f − y) w φ'(w' x) x. The bias
columns are 0; their gradients are (f − y) and (f − y) w φ'(w' x).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from engine_cases import DTYPES, ENGINES

from fastbp import activations, losses
from fastbp.engines import Plan, create
from fastbp.stages import dense


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


HAND: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "sigmoid": (sigmoid, lambda z: math.exp(-z) / (1 + math.exp(-z)) ** 2),
    "relu": (lambda z: max(z, 0.0), lambda z: 1.0 if z > 0 else 0.0),
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", HAND)
@pytest.mark.parametrize("x", [0.5, -0.5, 0.0, 3.0])
def test_value_and_both_derivatives(name: str, dtype: str, activation: str, x: float) -> None:
    w, w_, y = 1.5, -0.75, 0.25
    phi, phi_slope = HAND[activation]
    plan = Plan(
        dense((1, 1, 1), (activations.get(activation),)), losses.get("squared_error"), dtype=dtype
    )
    engine = create(plan, name)
    engine.set_parameters([np.array([[w_, 0]], dtype), np.array([[w, 0]], dtype)])
    X, Y = np.array([[x]], dtype), np.array([[y]], dtype)

    f, J = np.empty((1, 1), dtype), np.empty((1, 1, 1), dtype)
    gradient = [np.empty((1, 2), dtype), np.empty((1, 2), dtype)]
    engine.forward(X, f)
    engine.jacobian(X, J)
    loss = engine.gradient(X, Y, None, gradient)

    value = w * phi(w_ * x)
    residual = value - y
    by_w = residual * phi(w_ * x)
    by_bias_ = residual * w * phi_slope(w_ * x)
    by_w_ = by_bias_ * x
    # a chain of at most 16 roundings of values below 4
    limit = 16 * 4 * float(np.finfo(dtype).eps)
    assert f[0, 0] == pytest.approx(value, abs=limit)
    assert J[0, 0, 0] == pytest.approx(w * phi_slope(w_ * x) * w_, abs=limit)
    assert loss == pytest.approx(residual**2 / 2, abs=limit)
    assert gradient[1][0] == pytest.approx([by_w, residual], abs=limit)
    assert gradient[0][0] == pytest.approx([by_w_, by_bias_], abs=limit)


@pytest.mark.parametrize("name", ENGINES)
def test_numbers_by_hand(name: str) -> None:
    """At w' = 1, w = 2, x = ln 3: φ(z) = 3/4 and φ'(z) = (1 − v) v = 3/16, so f = 3/2."""
    plan = Plan(
        dense((1, 1, 1), (activations.get("sigmoid"),)),
        losses.get("squared_error"),
        dtype="float64",
    )
    engine = create(plan, name)
    engine.set_parameters([np.array([[1.0, 0]]), np.array([[2.0, 0]])])
    X, Y = np.array([[math.log(3)]]), np.array([[0.5]])
    gradient = [np.empty((1, 2)), np.empty((1, 2))]
    assert engine.gradient(X, Y, None, gradient) == pytest.approx(1 / 2, rel=1e-14)
    assert gradient[1][0, 0] == pytest.approx(3 / 4, rel=1e-14)
    assert gradient[0][0, 0] == pytest.approx(2 * 3 / 16 * math.log(3), rel=1e-14)
