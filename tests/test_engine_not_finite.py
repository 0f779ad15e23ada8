"""Outputs that are infinite or NaN: the step is not applied, and its loss is not finite.

Whatever the loss: e^−∞ is 0, and a floor or a user's loss may be bounded, where δ is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_cases import (
    BF16_ENGINES,
    DTYPES,
    ENGINES,
    Array,
    Case,
    classify,
    epoch,
    forward,
    gradient,
    make_case,
    new_engine,
)

from fastbp.engines import Engine, Plan, create
from fastbp.losses import LOSSES, Loss, get

ROWS, BATCH, BAD = 13, 5, 7
OUTPUTS = 4

# Bounded, and with slopes that are bounded or NaN, where an output is infinite.
USERS = {
    "hinge": Loss(
        "hinge",
        function=lambda f, y: max(0.0, 1.0 - f * (2.0 * y - 1.0)),
        derivative=lambda f, y: (1.0 - 2.0 * y) if f * (2.0 * y - 1.0) < 1.0 else 0.0,
    ),
    "sign": Loss(
        "sign",
        function=lambda f, y: 1.0 if f > y else 0.0,
        derivative=lambda f, y: 0.0 * (f - y),
    ),
}
KINDS: dict[str, tuple[Loss, bool]] = {name: (get(name), False) for name in LOSSES}
KINDS |= {
    f"{name}, floor {floor}": (Loss(name, floor), False)
    for name in ("softmax_cross_entropy", "binary_cross_entropy")
    for floor in (1e-7, 0.125)
}
KINDS |= {
    f"softmax_cross_entropy of labels, floor {floor}": (Loss("softmax_cross_entropy", floor), True)
    for floor in (0.0, 1e-7, 0.125)
}
KINDS |= {name: (loss, False) for name, loss in USERS.items()}

MAKERS: dict[str, Callable[[Plan], Engine]] = {
    f"{name} {dtype}": (
        lambda plan, name=name, dtype=dtype: create(replace(plan, dtype=dtype), name)
    )
    for name in ENGINES
    for dtype in DTYPES
} | {
    f"{name} bf16": (
        lambda plan, name=name: new_engine(replace(plan, precision="bf16", dtype="float32"), name)
    )
    for name in BF16_ENGINES
}

engines = pytest.mark.parametrize("name", MAKERS)
kinds = pytest.mark.parametrize("kind", KINDS)


def make(name: str, case: Case, **changes: Any) -> Engine:
    engine = MAKERS[name](replace(case.plan, **changes))
    engine.set_parameters(case.parameters)
    return engine


def case_of(name: str, kind: str, value: float, y: float, *, weighted: bool) -> Case:
    """One layer; in row BAD output 1 is infinite, or all are NaN. The others' outputs are ordinary."""
    loss, labels = KINDS[kind]
    dtype = "float64" if "float64" in name else "float32"
    huge = 2.0**1000 if dtype == "float64" else 2.0**100
    case = make_case(
        (1, OUTPUTS), (), "softmax_cross_entropy" if labels else "binary_cross_entropy",
        dtype=dtype, rows=ROWS, labels=labels, weighted=weighted, batch_size=BATCH,
    )  # fmt: skip
    X = np.random.default_rng(1).choice([-1, 1], (ROWS, 1)).astype(dtype) / huge
    X[BAD] = value if np.isnan(value) else huge
    W = np.zeros((OUTPUTS, 2), dtype)
    W[:, -1] = np.linspace(-1, 1, OUTPUTS)
    W[1, 0] = -huge if value < 0 else huge
    targets = case.y.copy()
    targets[BAD] = y if not labels else 1 if y == 1 else 2
    return replace(case, plan=replace(case.plan, loss=loss), parameters=[W], X=X, y=targets)


def assert_same(got: list[Array], wanted: list[Array]) -> None:
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@engines
@kinds
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_step_is_not_applied(name: str, kind: str, value: float, weighted: bool) -> None:
    for y in (0.0, 1.0):
        case = case_of(name, kind, value, y, weighted=weighted)
        outputs = forward(make(name, case), case.X)
        np.testing.assert_array_equal(np.isfinite(outputs).all(axis=1), np.arange(ROWS) != BAD)
        for batch, whole in ((BATCH, 1), (1, BAD), (ROWS, 0)):
            engine = make(name, case, batch_size=batch)
            steps, losses = epoch(engine, case, 0.01)
            assert steps == whole
            assert np.isfinite(losses[:whole]).all()
            assert not np.isfinite(losses[whole])
            before = make(name, case, batch_size=batch)
            epoch(before, case, 0.01, np.arange(whole * batch))
            assert_same(engine.get_parameters(), before.get_parameters())
            assert all(np.isfinite(W).all() for W in engine.get_parameters())
            assert not np.isfinite(engine.loss(case.X, case.y, case.sample_weight))
            if kind in ("squared_error", "absolute_error", "huber"):  # what is infinite stays it
                np.testing.assert_array_equal(losses[whole], np.abs(value))
            assert not np.isfinite(gradient(engine, case)[0])


@engines
@kinds
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_row_of_weight_zero_says_nothing(name: str, kind: str, value: float) -> None:
    case = case_of(name, kind, value, 1.0, weighted=True)
    assert case.sample_weight is not None
    case.sample_weight[BAD] = 0
    absent = replace(case, X=case.X.copy())
    absent.X[BAD] = 0
    for batch in (BATCH, 1, ROWS):
        results = []
        for each in (case, absent):
            engine = make(name, each, batch_size=batch)
            loss, g = gradient(engine, each)
            steps, losses = epoch(engine, each, 0.01)
            assert steps == len(losses)
            results.append([np.array(loss), *g, losses, *engine.get_parameters()])
        assert all(np.isfinite(a).all() for a in results[0])
        assert_same(*results)


@engines
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, "overflow"])
@pytest.mark.parametrize("batch", [1, 4, 11])
def test_nor_do_its_hidden_units(name: str, value: Any, batch: int) -> None:
    """0 times infinity is NaN: neither x nor v of such a row may reach a weight gradient."""
    dtype = "float64" if "float64" in name else "float32"
    case = make_case(
        (33, 40, 7, 3), "relu", "softmax_cross_entropy",
        dtype=dtype, labels=True, weighted=True, batch_size=batch,
    )  # fmt: skip
    assert case.sample_weight is not None
    case.sample_weight[[0, 6, 10]] = 0
    results = []
    for fill in (np.finfo(dtype).max if value == "overflow" else value, 0):
        X = case.X.copy()
        X[[0, 6, 10]] = fill
        each = replace(case, X=X)
        engine = make(name, each)
        loss, g = gradient(engine, each)
        steps, losses = epoch(engine, each, 0.01)
        assert steps == len(losses)
        results.append([np.array(loss), *g, losses, *engine.get_parameters()])
    assert all(np.isfinite(a).all() for a in results[0])
    assert_same(*results)


@engines
@pytest.mark.parametrize("labels", [False, True])
def test_finite_outputs_are_fine_however_far_apart(name: str, labels: bool) -> None:
    """Where their difference overflows: e^−∞ is 0, and what is not wanted costs nothing."""
    case = case_of(name, "softmax_cross_entropy", np.inf, 1.0, weighted=False)
    W = np.zeros_like(case.parameters[0])
    largest = np.finfo(W.dtype).max
    W[:, -1] = [-largest, largest, 0, -largest]
    y = np.ones(ROWS, np.int64)
    case = replace(
        case, parameters=[W], X=0 * case.X, y=y if labels else np.eye(4, dtype=W.dtype)[y]
    )
    engine = make(name, replace(case, X=np.zeros_like(case.X)))
    case = replace(case, X=np.zeros_like(case.X))
    loss, (g,) = gradient(engine, case)
    assert loss == 0
    assert not g.any()
    assert epoch(engine, case, 0.01)[0] == 3


@engines
@pytest.mark.parametrize("outputs", [1, 2, 7, 33])
def test_the_class_is_the_first_of_the_greatest_and_nan_is_greater_than_all(
    name: str, outputs: int
) -> None:
    dtype = "float64" if "float64" in name else "float32"
    case = make_case((3, 33, outputs), "relu", "squared_error", dtype=dtype, rows=300)
    rng = np.random.default_rng(0)
    W = case.parameters[1]
    W[...] = rng.integers(-1, 2, W.shape)  # many are equal
    case.parameters[0][...] = rng.integers(-1, 2, case.parameters[0].shape)
    case.X[...] = rng.integers(-1, 2, case.X.shape)
    W[0, 0], W[-1, 1] = np.inf, -np.inf  # times 0 it is NaN
    engine = make(name, case)
    f = forward(engine, case.X)
    for rows in (0, 1, 17, 300):
        got = classify(engine, case.X[:rows])
        np.testing.assert_array_equal(got, f[:rows].argmax(axis=1))
    assert outputs <= 2 or len(set(got)) > 1
    assert np.isnan(f).any()
