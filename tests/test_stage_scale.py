"""The stage Scale, z = s ⊙ v: in front, in the middle, beside dropout, on one thread and on several.

Its judges are central differences in float64, and a network without the stage: diag(s) can be taken
into the weights that follow, W diag(s), so that values must be the same and gradients obey
∂ℓ/∂s = Σ_units W ⊙ ∂ℓ/∂(W diag(s)).
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    ENGINES,
    OPTIMIZERS,
    Array,
    Case,
    assert_keeps_and_restores,
    assert_same_on_any_threads,
    assert_trained_alike,
    epoch,
    everything,
    forward,
    gradient,
    jacobian,
    make_case,
    make_engine,
    oracle,
)

from fastbp import activations
from fastbp.engines import create, jit, native
from fastbp.plan import Plan
from fastbp.stages import Dense, Scale

HAVE = [name for name in ENGINES if name != "jit"]
TANH, RELU = activations.get("tanh"), activations.get("relu")
WIDTHS = [(1, 1, 1), (5, 7, 3), (16, 32, 2), (33, 17, 1), (40, 50, 12)]


def scaled(sizes: tuple[int, int, int], dtype: str = "float64", **fields: Any) -> Case:
    """Scale → Dense → Scale → Dense, as many as `sizes` says."""
    n, hidden, outputs = sizes
    fields = {"rows": 23, "batch_size": 23, "loss": "squared_error"} | fields
    phi = fields.pop("phi", TANH)
    dropout = fields.pop("dropout", 0.0)
    case = make_case(sizes, phi, **fields)
    stages = (
        Scale(n),
        Dense(n, hidden, phi, dropout),
        Scale(hidden, phi, dropout),
        Dense(hidden, outputs),
    )
    rng = np.random.default_rng(1)
    first, second = (
        rng.uniform(0.5, 1.5, (k, 1)).astype(np.float32).astype(float) for k in (n, hidden)
    )
    parameters = [first, case.parameters[0], second, case.parameters[1]]
    plan = replace(case.plan, stages=stages)
    return replace(case, plan=plan, parameters=parameters).astype(dtype)


def without_first(case: Case) -> Case:
    """The same function of X, the first diag(s) taken into the weights that follow."""
    s, W = case.parameters[:2]
    dense = np.hstack([W[:, :-1] * s.T, W[:, -1:]])
    plan = replace(case.plan, stages=case.plan.stages[1:])
    return replace(case, plan=plan, parameters=[dense, *case.parameters[2:]])


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("sizes", WIDTHS)
def test_gradient_and_jacobian_are_central_differences(
    name: str, sizes: tuple[int, int, int]
) -> None:
    case = scaled(sizes, weighted=True, l1=0.01, l2=0.1)
    engine = make_engine(name, case)
    _, got = gradient(engine, case)
    step = 6e-6  # u^(1/3)
    for i, W in enumerate(case.parameters):
        difference = np.empty_like(W)
        for index in itertools.islice(np.ndindex(W.shape), 200):
            ends = []
            for moved_by in (step, -step):
                moved = [p.copy() for p in case.parameters]
                moved[i][index] += moved_by
                engine.set_parameters(moved)
                ends.append(engine.loss(case.X, case.y, case.sample_weight))
            difference[index] = (ends[0] - ends[1]) / (2 * step)
        some = tuple(np.array(list(itertools.islice(np.ndindex(W.shape), 200))).T)
        scale = np.linalg.norm(difference[some])
        assert np.linalg.norm(got[i][some] - difference[some]) <= 1e-7 * scale
    engine.set_parameters(case.parameters)
    J = jacobian(engine, case.X)
    for k, direction in enumerate(step * np.eye(sizes[0])):
        ahead, behind = forward(engine, case.X + direction), forward(engine, case.X - direction)
        wanted = (ahead - behind) / (2 * step)
        assert np.linalg.norm(J[:, :, k] - wanted) <= 1e-7 * np.linalg.norm(wanted)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", WIDTHS)
def test_a_scale_can_be_taken_into_the_weights(
    name: str, dtype: str, sizes: tuple[int, int, int]
) -> None:
    case, exact = scaled(sizes, dtype, weighted=True), scaled(sizes, weighted=True)
    merged = without_first(exact)
    engine = make_engine(name, case)
    loss, got = gradient(engine, case)
    wanted_loss, below = gradient(oracle(merged), merged)
    s, W = exact.parameters[:2]
    weights = below[0][:, :-1]
    wanted = [
        (W[:, :-1] * weights).sum(axis=0)[:, None],
        np.hstack([weights * s.T, below[0][:, -1:]]),
        *below[1:],
    ]
    # A rounding for each term of the longest chain of sums: rows, inputs, hidden units, outputs.
    allowed = np.finfo(dtype).eps * (len(case.X) + 2 * sum(sizes))
    assert abs(loss - wanted_loss) <= allowed * abs(wanted_loss)
    for g, w in zip(got, wanted, strict=True):
        assert np.linalg.norm(g - w) <= allowed * np.linalg.norm(w)
        assert allowed < 0.1  # of what an engine would be off by that gives zeros
    np.testing.assert_allclose(
        forward(engine, case.X),
        forward(oracle(merged), merged.X),
        rtol=0,
        atol=allowed * np.abs(forward(oracle(merged), merged.X)).max(),
    )


@pytest.mark.skipif(not native.available(), reason=f"native engine: {native.reason()}")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
@pytest.mark.parametrize("batch", [1, 7, 23])
def test_an_epoch_is_that_of_the_reference(optimizer: str, clip_norm: float, batch: int) -> None:
    rule, _, rate = OPTIMIZERS[optimizer]
    case = scaled(
        (21, 34, 3),
        batch_size=batch,
        optimizer=rule,
        clip_norm=clip_norm,
        dropout=0.25,
        l2=0.1,
        phi=RELU,
    )
    engines = [make_engine(name, case) for name in ("native", "reference")]
    losses = [epoch(engine, case, rate)[1] for engine in engines]
    np.testing.assert_allclose(*losses, rtol=1e-9)
    assert_trained_alike(engines, case)


@pytest.mark.skipif("native" not in HAVE, reason="no native engine")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 23, 61])
@pytest.mark.parametrize("rows", [1, 10**6], ids=["by rows", "by columns"])
def test_bits_do_not_depend_on_threads(dtype: str, batch: int, rows: int) -> None:
    def train(threads: int) -> list[Array]:
        case = scaled(
            (37, 101, 5), dtype, rows=150, batch_size=batch, threads=threads, dropout=0.25, seed=3
        )
        return everything(make_engine("native", case), case)

    assert_same_on_any_threads(train, rows)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("sizes", WIDTHS)
def test_what_was_kept_comes_back(name: str, sizes: tuple[int, int, int]) -> None:
    case = scaled(sizes, "float32", batch_size=4)
    assert_keeps_and_restores(make_engine(name, case), make_engine(name, case), case)


def test_penalty_and_decay_leave_the_scale_alone() -> None:
    for name in HAVE:
        case = scaled((5, 7, 3))
        _, plain = gradient(make_engine(name, case), case)
        penalized = replace(case, plan=replace(case.plan, l1=0.5, l2=0.5))
        _, got = gradient(make_engine(name, penalized), penalized)
        np.testing.assert_array_equal(got[0], plain[0])
        assert (got[1] != plain[1]).any()


def test_first_values() -> None:
    (s,) = Scale(3).first_values("auto", "float32", np.random.default_rng(0))
    np.testing.assert_array_equal(s, np.ones((3, 1), np.float32))


def test_who_lacks_it_says_so() -> None:
    case = scaled((5, 32, 3), "float32")
    if jit.available():
        with pytest.raises(ValueError, match="engine 'jit' has no stage of kind Scale"):
            create(case.plan, "jit")


@pytest.mark.parametrize(
    "stages",
    [(), (Scale(3),), (Dense(3, 4, TANH),), (Scale(3), Dense(4, 2)), (Dense(3, 4, dropout=0.5),)],
)
def test_a_plan_is_a_network(stages: Any) -> None:
    with pytest.raises(ValueError, match=r"the last stage must be Dense|cannot follow"):
        Plan(stages, make_case((1, 1)).plan.loss)
