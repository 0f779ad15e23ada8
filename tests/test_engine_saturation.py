"""Logits of ±1e4 and hidden sums of ±1e4: finite, right losses and gradients in both dtypes."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    EACH_ENGINE,
    Array,
    Case,
    epoch,
    forward,
    gradient,
    jacobian,
    make_case,
    make_engine,
)

from fastbp import losses
from fastbp.activations import ACTIVATIONS, SELU_ALPHA, SELU_SCALE, Activation
from fastbp.losses import Loss

engines = pytest.mark.parametrize("name", EACH_ENGINE)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
FAR = 1e4


def logits_case(loss: Loss, dtype: str, f: Array, y: Array) -> Case:
    """Make a network that is f(x) = x, at one row of logits."""
    outputs = f.shape[1]
    case = make_case((outputs, outputs), (), loss, dtype=dtype, rows=1)
    identity = np.eye(outputs, outputs + 1, dtype=dtype)
    return Case(case.plan, [identity], f.astype(dtype), y.astype(dtype), None)


def softmax_cross_entropy(f: list[float], y: list[float]) -> tuple[float, list[float]]:
    top = max(f)
    e = [math.exp(a - top) for a in f]
    log_sum = math.log(math.fsum(e))
    p = [a / math.fsum(e) for a in e]
    value = math.fsum(b * (log_sum + (top - a)) for a, b in zip(f, y, strict=True))
    return value, [a - b for a, b in zip(p, y, strict=True)]


def binary_cross_entropy(f: list[float], y: list[float]) -> tuple[float, list[float]]:
    def log1p_exp(a: float) -> float:
        return max(a, 0.0) + math.log1p(math.exp(-abs(a)))

    def sigmoid(a: float) -> float:
        return 1 / (1 + math.exp(-a)) if a > -700 else 0.0

    value = math.fsum(b * log1p_exp(-a) + (1 - b) * log1p_exp(a) for a, b in zip(f, y, strict=True))
    return value, [sigmoid(a) - b for a, b in zip(f, y, strict=True)]


def poisson(f: list[float], y: list[float]) -> tuple[float, list[float]]:
    mu = [math.exp(a) for a in f]  # 0 for very negative a
    value = math.fsum(
        (b * (math.log(b) - a) if b else 0.0) - b + m for a, b, m in zip(f, y, mu, strict=True)
    )
    return value, [m - b for m, b in zip(mu, y, strict=True)]


def residual_loss(loss: Loss, f: list[float], y: list[float]) -> tuple[float, list[float]]:
    r = [a - b for a, b in zip(f, y, strict=True)]
    if loss.name == "squared_error":
        return math.fsum(a * a / 2 for a in r), r
    if loss.name == "absolute_error":
        return math.fsum(map(abs, r)), [math.copysign(1, a) if a else 0.0 for a in r]
    d = loss.parameter
    value = math.fsum(a * a / 2 if abs(a) <= d else d * (abs(a) - d / 2) for a in r)
    return value, [min(max(a, -d), d) for a in r]


def check(name: str, loss: Loss, dtype: str, f: list[float], y: list[float]) -> None:
    match loss.name:
        case "softmax_cross_entropy":
            wanted, delta = softmax_cross_entropy(f, y)
        case "binary_cross_entropy":
            wanted, delta = binary_cross_entropy(f, y)
        case "poisson":
            wanted, delta = poisson(f, y)
        case _:
            wanted, delta = residual_loss(loss, f, y)
    case = logits_case(loss, dtype, np.array([f]), np.array([y]))
    value, (g,) = gradient(make_engine(name, case), case)
    # 16 roundings of terms of the size of the loss, or of 1 (of f, y and p in p − y)
    eps = float(np.finfo(dtype).eps)
    assert abs(value - wanted) <= 16 * eps * max(1.0, abs(wanted))
    limit = 16 * eps * np.maximum(1, np.abs(delta))
    assert np.all(np.abs(g[:, -1] - delta) <= limit)
    assert np.isfinite(g).all()


@engines
@dtypes
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_losses_of_residuals(name: str, dtype: str, loss: str) -> None:
    for f in itertools.product((FAR, -FAR, 0.25), repeat=2):
        check(name, losses.get(loss), dtype, list(f), [1.5, 0.25])


@engines
@dtypes
def test_softmax_cross_entropy(name: str, dtype: str) -> None:
    for f in itertools.product((FAR, -FAR, 0.25, FAR - 0.5), repeat=3):
        for y in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.25, 0.25, 0.5]):
            check(name, Loss("softmax_cross_entropy"), dtype, list(f), y)


@engines
@dtypes
def test_binary_cross_entropy(name: str, dtype: str) -> None:
    for f, y in itertools.product((FAR, -FAR, 0.25, 90.0, -90.0, -750.0), (0.0, 1.0, 0.25)):
        check(name, Loss("binary_cross_entropy"), dtype, [f, -f], [y, y])


@engines
@dtypes
def test_poisson(name: str, dtype: str) -> None:
    for f, y in itertools.product((-FAR, -90.0, 0.25, 60.0), (0.0, 1.0, 7.0)):
        check(name, Loss("poisson"), dtype, [f, 0.5], [y, y])
    # μ = exp(1e4) is beyond either dtype: its nearest number is inf
    case = logits_case(Loss("poisson"), dtype, np.array([[FAR]]), np.array([[1.0]]))
    assert gradient(make_engine(name, case), case)[0] == math.inf


@engines
@dtypes
@pytest.mark.parametrize("link", ["softmax_cross_entropy", "binary_cross_entropy"])
def test_predictions(name: str, dtype: str, link: str) -> None:
    f = np.array([[FAR, -FAR, 0.0], [-FAR, -FAR, -FAR], [FAR, FAR, -FAR]])
    case = logits_case(Loss(link), dtype, f, f)
    wanted = {
        "softmax_cross_entropy": [[1, 0, 0], [1 / 3] * 3, [0.5, 0.5, 0]],
        "binary_cross_entropy": [[1, 0, 0.5], [0, 0, 0], [1, 1, 0]],
    }[link]
    got = forward(make_engine(name, case), case.X, link=True)
    assert np.all(np.abs(got - wanted) <= 4 * np.finfo(dtype).eps)


# φ and φ' far out: z or 0, 1 or 0, and what else the activation tends to
LIMITS: dict[str, tuple[float, float, float, float]] = {
    "identity": (FAR, -FAR, 1, 1),
    "sigmoid": (1, 0, 0, 0),
    "tanh": (1, -1, 0, 0),
    "relu": (FAR, 0, 1, 0),
    "leaky_relu": (FAR, -FAR / 4, 1, 0.25),
    "elu": (FAR, -0.25, 1, 0),
    "softplus": (FAR, 0, 1, 0),
    "selu": (SELU_SCALE * FAR, -SELU_SCALE * SELU_ALPHA, SELU_SCALE, 0),
    "silu": (FAR, 0, 1, 0),
    "gelu": (FAR, 0, 1, 0),
    "mish": (FAR, 0, 1, 0),
}


@engines
@dtypes
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_units(name: str, dtype: str, activation: str) -> None:
    parameter = 0.25 if activation in ("leaky_relu", "elu") else 0.0
    case = make_case((1, 1, 1), Activation(activation, parameter), dtype=dtype, rows=2)
    case = Case(
        case.plan,
        [np.array([[FAR, 0]], dtype), np.array([[1, 0]], dtype)],
        np.array([[1], [-1]], dtype),
        np.zeros((2, 1), dtype),
        None,
    )
    engine = make_engine(name, case)
    up, down, slope_up, slope_down = LIMITS[activation]
    eps = np.finfo(dtype).eps
    f = forward(engine, case.X)[:, 0]
    assert np.all(np.abs(f - [up, down]) <= 4 * eps * np.abs([up, down]))
    J = jacobian(engine, case.X)[:, 0, 0] / FAR
    # a slope of 0 is 1 − v², (1 − v) v or v + α where v has rounded: 4 roundings of 1 at most
    assert np.all(np.abs(J - [slope_up, slope_down]) <= 4 * eps)
    loss, g = gradient(engine, case)
    assert math.isfinite(loss)
    assert all(np.isfinite(a).all() for a in g)


@engines
@dtypes
def test_derivative_of_relu_at_zero_is_zero(name: str, dtype: str) -> None:
    case = make_case((1, 1, 1), "relu", dtype=dtype, rows=2)
    ones = [np.array([[1, 0]], dtype), np.array([[1, 0]], dtype)]
    case = Case(case.plan, ones, np.array([[0.0], [-0.0]], dtype), case.y, None)
    assert not jacobian(make_engine(name, case), case.X).any()


@pytest.mark.parametrize("name", EACH_ENGINE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy"])
def test_floor_of_a_cross_entropy_bounds_the_loss_alone(name: str, dtype: str, loss: str) -> None:
    """Reported as if p were in [ε, 1 − ε]; the gradient is that without a floor."""
    case = make_case(
        (3, 2), (), loss, dtype=dtype, rows=4, batch_size=4, labels=loss.startswith("softmax")
    )
    y = np.array([0, 1, 0, 1]) if case.y.ndim == 1 else np.eye(2, dtype=dtype)[[0, 1, 0, 1]]
    W = np.array([[30, 0, 0, 0], [-30, 0, 0, 0]], dtype)
    X = np.array([[1, 0, 0], [1, 0, 0], [-1, 0, 0], [-1, 0, 0]], dtype)
    case = replace(case, parameters=[W], X=X, y=y)
    floored = replace(case, plan=replace(case.plan, loss=Loss(loss, 0.125)))
    _, wanted = gradient(make_engine(name, case), case)
    got_loss, got = gradient(make_engine(name, floored), floored)
    outputs = 1 if loss.startswith("softmax") else 2  # each sure: right in half the rows, or wrong
    expected = outputs * (-np.log(0.125) - np.log(0.875)) / 2
    assert got_loss == pytest.approx(expected, rel=8 * float(np.finfo(dtype).eps))
    np.testing.assert_array_equal(got[0], wanted[0])


@engines
@dtypes
@pytest.mark.parametrize("size", ["loss overflows", "output overflows"])
def test_a_row_of_weight_zero_says_nothing(name: str, dtype: str, size: str) -> None:
    """Even where its loss or its δ is infinite: it might as well not be there."""
    case = make_case((2, 1), (), "squared_error", dtype=dtype, rows=20, weighted=True)
    largest = np.finfo(dtype).max
    X, weight = case.X.copy(), case.sample_weight.copy()
    X[3] = largest if size == "output overflows" else np.sqrt(largest) * 16
    weight[3] = 0
    parameters = [np.ones((1, 3), dtype)]
    there = replace(case, X=X, sample_weight=weight, parameters=parameters)
    X = case.X.copy()
    X[3] = 0
    absent = replace(there, X=X)
    results = []
    for each in (there, absent):
        engine = make_engine(name, each)
        loss, g = gradient(engine, each)
        steps, losses = epoch(engine, each, 0.01)
        assert steps == len(losses)
        results.append([np.array(loss), *g, losses, *engine.get_parameters()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@engines
def test_an_infinite_penalty_is_told_and_no_reason_to_stop(name: str) -> None:
    """The contract's test of a step is its loss without the penalty."""
    case = make_case((2, 1), (), "absolute_error", dtype="float64", rows=4, batch_size=2, l2=1.0)
    case = replace(case, parameters=[np.array([[1e160, -1e160, 0.0]])])
    engine = make_engine(name, case)
    steps, losses = epoch(engine, case, 0.01)
    assert steps == 2
    np.testing.assert_array_equal(losses, np.inf)
