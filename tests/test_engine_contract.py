"""Every engine computes f, the loss, its gradient and the Jacobian: all activations and losses.

Central differences of an engine's own loss and forward check its derivatives; the formulas written
out for one number check its values; the reference engine in float64 checks both dtypes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    EACH_ENGINE,
    Array,
    Case,
    assert_keeps_and_restores,
    forward,
    gradient,
    jacobian,
    make_case,
    make_engine,
    new_engine,
    oracle,
    smooth_case,
)
from error_bounds import assert_within, bounds

from fastbp.activations import ACTIVATIONS, Activation
from fastbp.engines import Plan
from fastbp.losses import LOSSES, Loss
from fastbp.optimizers import Adam
from fastbp.stages import dense

SIZES = (5, 7, 6, 3)
ALL_ACTIVATIONS = [
    *(Activation(name, a) for name, a in ACTIVATIONS.items()),
    Activation("leaky_relu", 0.3),
    Activation("elu", 0.4),
    Activation("elu", 0.0),
]
ALL_LOSSES = [*(Loss(name, p) for name, (p, *_) in LOSSES.items()), Loss("huber", 0.5)]

engines = pytest.mark.parametrize("name", EACH_ENGINE)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
each_activation = pytest.mark.parametrize(
    "activation", ALL_ACTIVATIONS, ids=lambda a: f"{a.name}-{a.parameter:g}"
)
each_loss = pytest.mark.parametrize("loss", ALL_LOSSES, ids=lambda x: f"{x.name}-{x.parameter:g}")

# Error of a central difference: h² f'''/6 + u f/h, least at h ≈ u^(1/3)
STEP = 6e-6
RELATIVE = 1e-7


def relative_distance(got: Array, wanted: Array) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


@engines
@each_activation
@each_loss
def test_gradient_is_the_central_difference_of_the_loss(
    name: str, activation: Activation, loss: Loss
) -> None:
    case = smooth_case(SIZES, activation, loss, weighted=True, l1=0.01, l2=0.1)
    engine = make_engine(name, case)
    value, got = gradient(engine, case)
    assert value == pytest.approx(engine.loss(case.X, case.y, case.sample_weight), rel=1e-14)
    for layer, W in enumerate(case.parameters):
        difference = np.empty_like(W)
        for index in np.ndindex(W.shape):
            ends = []
            for step in (STEP, -STEP):
                moved = [p.copy() for p in case.parameters]
                moved[layer][index] += step
                engine.set_parameters(moved)
                ends.append(engine.loss(case.X, case.y, case.sample_weight))
            difference[index] = (ends[0] - ends[1]) / (2 * STEP)
        assert relative_distance(got[layer], difference) <= RELATIVE


@engines
@each_activation
def test_jacobian_is_the_central_difference_of_forward(name: str, activation: Activation) -> None:
    case = smooth_case(SIZES, activation)
    engine = make_engine(name, case)
    got = jacobian(engine, case.X)
    for k, direction in enumerate(STEP * np.eye(SIZES[0])):
        ahead, behind = forward(engine, case.X + direction), forward(engine, case.X - direction)
        assert relative_distance(got[:, :, k], (ahead - behind) / (2 * STEP)) <= RELATIVE


def check_against_reference(name: str, case: Case) -> None:
    engine, exact = make_engine(name, case), case.astype("float64")
    wanted_loss, wanted_gradient = gradient(oracle(exact), exact)
    bound = bounds(case, with_jacobian=True)
    loss, got = gradient(engine, case)
    assert_within(loss, wanted_loss, bound.loss)
    assert_within(engine.loss(case.X, case.y, case.sample_weight), wanted_loss, bound.loss)
    for g, wanted, limit in zip(got, wanted_gradient, bound.gradient, strict=True):
        assert_within(g, wanted, limit)
    assert_within(forward(engine, case.X), forward(oracle(exact), exact.X), bound.f)
    assert_within(jacobian(engine, case.X), jacobian(oracle(exact), exact.X), bound.jacobian)


@engines
@dtypes
@each_activation
@each_loss
def test_matches_reference(name: str, dtype: str, activation: Activation, loss: Loss) -> None:
    case = smooth_case(
        SIZES, activation, loss, dtype=dtype, rows=13, weighted=True, l1=0.02, l2=0.1
    )
    check_against_reference(name, case)


@engines
@dtypes
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_are_one_hot_distributions(name: str, dtype: str, weighted: bool) -> None:
    case = make_case(
        (4, 9, 5), "tanh", "softmax_cross_entropy", dtype=dtype, labels=True, weighted=weighted
    )
    check_against_reference(name, case)
    one_hot = Case(
        case.plan, case.parameters, case.X, np.eye(5, dtype=dtype)[case.y], case.sample_weight
    )
    bound = bounds(case)
    loss, got = gradient(make_engine(name, case), case)
    wanted_loss, wanted = gradient(make_engine(name, one_hot), one_hot)
    assert_within(loss, wanted_loss, 2 * bound.loss)
    for g, w, limit in zip(got, wanted, bound.gradient, strict=True):
        assert_within(g, w.astype("f8"), 2 * limit)


@engines
@dtypes
def test_each_layer_has_its_own_activation(name: str, dtype: str) -> None:
    hidden = ("gelu", "sigmoid", "softplus", "tanh")
    case = make_case((3, 8, 5, 9, 4, 2), hidden, "huber", dtype=dtype)
    check_against_reference(name, case)


def logistic(z: float) -> float:
    return 1 / (1 + math.exp(-z))


SCALAR_PHI: dict[str, Callable[[float, float], float]] = {
    "identity": lambda z, a: z,
    "sigmoid": lambda z, a: logistic(z),
    "tanh": lambda z, a: math.tanh(z),
    "relu": lambda z, a: max(z, 0.0),
    "leaky_relu": lambda z, a: z if z > 0 else a * z,
    "elu": lambda z, a: z if z > 0 else a * (math.exp(z) - 1),
    "softplus": lambda z, a: math.log(1 + math.exp(z)),
    "selu": lambda z, a: (
        1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * (math.exp(z) - 1))
    ),
    "silu": lambda z, a: z * logistic(z),
    "gelu": lambda z, a: z * (1 + math.erf(z / math.sqrt(2))) / 2,
    "mish": lambda z, a: z * math.tanh(math.log(1 + math.exp(z))),
}


@engines
@dtypes
@each_activation
def test_values_of_the_activations(name: str, dtype: str, activation: Activation) -> None:
    # f(x) = φ(x): one hidden unit, weights 1
    case = make_case((1, 1, 1), activation, dtype=dtype)
    engine = make_engine(name, case)
    engine.set_parameters([np.array([[1, 0]], dtype), np.array([[1, 0]], dtype)])
    z = np.arange(-5, 5.25, 0.25).astype(dtype)[:, None]
    wanted = [[SCALAR_PHI[activation.name](float(x), activation.parameter)] for x in z[:, 0]]
    # the function's own roundings, 8 of them, and those of the terms 1 and z in these formulas
    unit = float(np.finfo(dtype).eps) / 2
    assert_within(forward(engine, z), np.array(wanted), 8 * unit * (1 + np.abs(z)))


def scalar_loss(loss: Loss, f: list[float], y: list[float]) -> float:
    pairs = list(zip(f, y, strict=True))
    match loss.name:
        case "squared_error":
            return sum((a - b) ** 2 / 2 for a, b in pairs)
        case "absolute_error":
            return sum(abs(a - b) for a, b in pairs)
        case "huber":
            width = loss.parameter
            return sum(
                (a - b) ** 2 / 2 if abs(a - b) <= width else width * (abs(a - b) - width / 2)
                for a, b in pairs
            )
        case "pinball":
            tau = loss.parameter
            return sum(max(tau * (b - a), (tau - 1) * (b - a)) for a, b in pairs)
        case "softmax_cross_entropy":
            total = sum(math.exp(a) for a in f)
            return -sum(b * math.log(math.exp(a) / total) for a, b in pairs)
        case "binary_cross_entropy":
            return -sum(
                b * math.log(logistic(a)) + (1 - b) * math.log(1 - logistic(a)) for a, b in pairs
            )
        case _:
            return sum(
                (b * math.log(b / math.exp(a)) if b > 0 else 0.0) - b + math.exp(a)
                for a, b in pairs
            )


@engines
@dtypes
@each_loss
def test_values_of_the_losses(name: str, dtype: str, loss: Loss) -> None:
    case = make_case((3, 4), (), loss, dtype=dtype, rows=17, weighted=True, l1=0.5, l2=0.25)
    exact = case.astype("float64")
    assert exact.sample_weight is not None
    f = forward(oracle(exact), exact.X)
    rows = [scalar_loss(loss, a, b) for a, b in zip(f.tolist(), exact.y.tolist(), strict=True)]
    weights = exact.parameters[0][:, :-1]
    wanted = np.average(rows, weights=exact.sample_weight)
    wanted += 0.5 * np.abs(weights).sum() + 0.125 * (weights**2).sum()
    # twice the bound: the scalar formulas round too
    got = make_engine(name, case).loss(case.X, case.y, case.sample_weight)
    assert_within(got, wanted, 2 * bounds(case).loss)


@engines
@dtypes
@each_loss
def test_link_maps_f_to_the_prediction(name: str, dtype: str, loss: Loss) -> None:
    case = make_case((3, 6, 4), "tanh", loss, dtype=dtype)
    exact = case.astype("float64")
    f = forward(oracle(exact), exact.X)
    e = np.exp(f)
    wanted = {
        "identity": f,
        "softmax": e / e.sum(axis=1, keepdims=True),
        "sigmoid": e / (1 + e),
        "exp": e,
    }[loss.link]
    # relative error of exp(f) is the absolute one of f; the other links have slopes below 1
    limit = bounds(case).f.max() + 16 * np.finfo(dtype).eps
    got = forward(make_engine(name, case), case.X, link=True)
    assert_within(got, wanted, limit * np.maximum(1, np.abs(wanted)))


@engines
@dtypes
@each_loss
def test_no_rows_leave_the_penalties(name: str, dtype: str, loss: Loss) -> None:
    case = make_case((4, 5, 2), "relu", loss, dtype=dtype, rows=0, l1=0.5, l2=0.25)
    engine = make_engine(name, case)
    value, got = gradient(engine, case)
    weights = [W[:, :-1] for W in case.parameters]
    wanted = sum(float(0.5 * np.abs(w).sum() + 0.125 * np.square(w).sum()) for w in weights)
    assert value == pytest.approx(wanted, rel=64 * float(np.finfo(dtype).eps))
    for g, w in zip(got, weights, strict=True):
        penalty_slope = 0.5 * np.sign(w) + 0.25 * w.astype("f8")
        assert_within(g[:, :-1], penalty_slope, 4 * float(np.finfo(dtype).eps))
        assert not g[:, -1].any()
    assert forward(engine, case.X).shape == (0, 2)
    assert forward(engine, case.X, link=True).shape == (0, 2)
    assert jacobian(engine, case.X).shape == (0, 2, 4)


@engines
@dtypes
@pytest.mark.parametrize("penalties", [{}, {"l1": 0.5, "l2": 0.25, "penalty_in_sum": True}])
def test_a_total_weight_of_zero_is_a_loss_of_zero(
    name: str, dtype: str, penalties: dict[str, Any]
) -> None:
    case = make_case((4, 5, 2), "tanh", dtype=dtype, weighted=True, **penalties)
    nothing = Case(case.plan, case.parameters, case.X, case.y, np.zeros(len(case.X), dtype))
    value, got = gradient(make_engine(name, case), nothing)
    assert value == 0
    assert not any(g.any() for g in got)


@engines
@dtypes
def test_parameters_are_copied_in_and_out(name: str, dtype: str) -> None:
    case = make_case((17, 33, 5), "relu", dtype=dtype)
    engine = make_engine(name, case)
    given = [W.copy() for W in case.parameters]
    engine.set_parameters(given)
    for W in given:
        W[...] = 7
    got = engine.get_parameters()
    for W, wanted in zip(got, case.parameters, strict=True):
        assert W.dtype == dtype
        np.testing.assert_array_equal(W, wanted)
        W[...] = 7
    for W, wanted in zip(engine.get_parameters(), case.parameters, strict=True):
        np.testing.assert_array_equal(W, wanted)


@engines
def test_arrays_of_other_shapes_are_refused(name: str) -> None:
    plan = Plan(dense((3, 4, 2), (Activation("relu"),)), Loss("squared_error"), Adam())
    engine = new_engine(plan, name)
    given = [np.ones((4, 4), "f4"), np.ones((2, 5), "f4")]
    engine.set_parameters(given)
    wrong = [
        given[:1],
        [*given, given[1]],
        [given[0][:3], given[1]],
        [given[0], np.ones((2, 4), "f4")],
        [given[0].ravel(), given[1]],
    ]
    for arrays in wrong:
        with pytest.raises(ValueError, match=r"\[W \| b\]"):
            engine.set_parameters(arrays)
        with pytest.raises(ValueError, match=r"\[W \| b\]"):
            engine.set_optimizer_state(7, [given, arrays])
    with pytest.raises(ValueError, match="2 slots, got 1"):
        engine.set_optimizer_state(7, [given])
    assert engine.get_optimizer_state()[0] == 0
    for p, q in zip(engine.get_parameters(), given, strict=True):
        np.testing.assert_array_equal(p, q)


@engines
@dtypes
@pytest.mark.parametrize("sizes", [(17, 33, 5), (16, 64, 2), (3, 1), (5, 4, 40, 3)])
def test_what_was_kept_comes_back(name: str, dtype: str, sizes: tuple[int, ...]) -> None:
    """Also in what is computed from copies of it: δ goes down through W transposed."""
    case = make_case(sizes, "tanh", dtype=dtype, batch_size=4, optimizer=Adam())
    engine, other = make_engine(name, case), make_engine(name, case)
    assert_keeps_and_restores(engine, other, case)


def test_nothing_kept_is_nothing_to_restore() -> None:
    for name in EACH_ENGINE:
        engine = make_engine(name, make_case((3, 2)))
        with pytest.raises(RuntimeError, match="no parameters were kept"):
            engine.restore()
        engine.set_parameters([np.full((2, 4), np.nan)])
        assert not engine.keep()
        with pytest.raises(RuntimeError, match="no parameters were kept"):
            engine.restore()


@engines
@dtypes
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_are_not_kept(name: str, dtype: str, value: float) -> None:
    case = make_case((2, 35, 3), "relu", dtype=dtype)
    engine = make_engine(name, case)
    assert engine.keep()
    for layer, W in enumerate(case.parameters):
        for index in np.ndindex(W.shape):
            spoilt = [p.copy() for p in case.parameters]
            spoilt[layer][index] = value
            engine.set_parameters(spoilt)
            assert not engine.keep(), (layer, index)
    engine.restore()
    for got, wanted in zip(engine.get_parameters(), case.parameters, strict=True):
        np.testing.assert_array_equal(got, wanted)
    most = [np.full_like(W, np.finfo(dtype).max) for W in case.parameters]
    engine.set_parameters(most)
    assert engine.keep()  # they are finite, though their sum is not


def test_a_plan_is_whole() -> None:
    relu, loss = Activation("relu"), Loss("squared_error")
    for sizes, phi, dropout in (((3, 2), (relu,), ()), ((3, 4, 2), (relu,), (0.1, 0.1))):
        with pytest.raises(ValueError, match="hidden layers"):
            Plan(dense(sizes, phi, dropout), loss)


def test_trace_holds_every_z_and_v() -> None:
    case = make_case((3, 4, 2), "sigmoid")
    z, v = oracle(case).trace(case.X)
    first, second = case.parameters
    for i, x in enumerate(case.X):
        np.testing.assert_array_equal(v[0][i], [*x, 1])
        np.testing.assert_allclose(z[0][i], first @ [*x, 1], rtol=0, atol=1e-14)
        np.testing.assert_allclose(v[1][i], [*map(logistic, z[0][i]), 1], rtol=0, atol=1e-15)
        np.testing.assert_allclose(z[1][i], second @ v[1][i], rtol=0, atol=1e-14)
    assert len(z) == len(v) == 2
