"""Members and Heads: k networks that share weights (TabM), a row for each member of each sample.

The judges are central differences in float64, PyTorch with one network for each member, and the
reference engine.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    EACH_ENGINE,
    ENGINES,
    OPTIMIZERS,
    Array,
    Case,
    assert_keeps_and_restores,
    assert_same_on_any_threads,
    assert_trained_alike,
    everything,
    forward,
    gradient,
    jacobian,
    make_engine,
    steps_with,
)

from fastbp import activations, losses
from fastbp.engines import jit
from fastbp.optimizers import AdamW
from fastbp.plan import Plan
from fastbp.stages import Dense, Factors, Heads, Members

HAVE = [name for name in ENGINES if name != "jit"]
EACH = [name for name in EACH_ENGINE if name != "jit"]
TANH = activations.get("tanh")
STILL = (Factors(), Factors(0.0, 1.0, 0.0))  # b of the shared stage stays 0

# members, inputs, hidden units, outputs
Sizes = tuple[int, int, int, int]
SIZES: list[Sizes] = [(1, 1, 1, 1), (2, 3, 5, 1), (3, 7, 16, 2), (8, 17, 33, 3), (32, 5, 40, 18)]


def tabm_case(
    sizes: Sizes, dtype: str = "float64", *, rows: int | None = None, **fields: Any
) -> Case:
    """TabM of two hidden layers: R → W → S, b, φ → R → W → S, b, φ → heads and their biases."""
    k, inputs, hidden, outputs = sizes
    rows = 5 * k if rows is None else rows
    phi, dropout = fields.pop("phi", TANH), fields.pop("dropout", 0.0)
    weighted, labels = fields.pop("weighted", False), fields.pop("labels", True)
    stages: list[Any] = []
    for n in (inputs, hidden):
        stages += [
            Members(n, k),
            Dense(n, hidden, factors=STILL),
            Members(hidden, k, shift=True, activation=phi, dropout=dropout),
        ]
    stages += [Heads(hidden, outputs, k), Members(outputs, k, scale=False, shift=True)]
    fields = {"batch_size": rows} | fields
    loss = losses.get("softmax_cross_entropy" if labels else "squared_error")
    rng = np.random.default_rng(0)
    plan = Plan(tuple(stages), loss, dtype="float64", **fields)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    parameters = [
        (p + 0.3 * draw(*p.shape)).astype(np.float32).astype(np.float64)
        for stage in stages
        for p in stage.first_values("auto", "float64", rng)
    ]
    for i in (1, 4):
        parameters[i][:, -1] = 0
    y = rng.integers(0, outputs, rows) if labels else draw(rows, outputs)
    weight = rng.integers(1, 9, rows) / 4 if weighted else None
    return Case(plan, parameters, draw(rows, inputs), y, weight).astype(dtype)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("sizes", SIZES)
def test_gradient_and_jacobian_are_central_differences(name: str, sizes: Sizes) -> None:
    case = tabm_case(sizes, weighted=True, labels=False, l1=0.01, l2=0.1)
    engine = make_engine(name, case)
    _, got = gradient(engine, case)
    step = 6e-6  # u^(1/3)
    for i, W in enumerate(case.parameters):
        some = list(itertools.islice(np.ndindex(W.shape), 0, None, 1 + W.size // 40))
        difference = []
        for index in some:
            ends = []
            for moved_by in (step, -step):
                moved = [p.copy() for p in case.parameters]
                moved[i][index] += moved_by
                engine.set_parameters(moved)
                ends.append(engine.loss(case.X, case.y, case.sample_weight))
            difference.append((ends[0] - ends[1]) / (2 * step))
        found = np.array([got[i][index] for index in some])
        # Where nearly all is 0, what the difference of two losses is off by: u / step.
        allowed = 1e-7 * np.linalg.norm(difference) + 1e-10 * max(1.0, abs(ends[0]))
        assert np.linalg.norm(found - difference) <= allowed
    engine.set_parameters(case.parameters)
    J = jacobian(engine, case.X)
    for j in range(case.X.shape[1]):
        move = np.zeros(case.X.shape[1])
        move[j] = step
        wanted = (forward(engine, case.X + move) - forward(engine, case.X - move)) / (2 * step)
        assert np.linalg.norm(J[:, :, j] - wanted) <= 1e-7 * np.linalg.norm(wanted)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_values_are_those_of_a_network_for_each_member_in_torch(
    name: str, dtype: str, sizes: Sizes
) -> None:
    torch = pytest.importorskip("torch")
    k, _, _, outputs = sizes
    case = tabm_case(sizes, dtype)
    exact = case.astype("float64")
    parameters = [torch.tensor(p, requires_grad=True) for p in exact.parameters]
    X, y = torch.tensor(exact.X), torch.tensor(case.y)
    R1, W1, S1, R2, W2, S2, H, B = parameters
    f = torch.zeros(len(X), outputs, dtype=torch.float64)
    for m in range(k):
        v = X[m::k]
        for R, W, S in ((R1, W1, S1), (R2, W2, S2)):
            # one plain layer, its weights s rᵀ ⊙ W
            weights = S[:, m, None] * W[:, :-1] * R[:, m]
            v = torch.tanh(torch.nn.functional.linear(v, weights, S[:, k + m]))
        head = H[:, m * outputs : (m + 1) * outputs]
        f[m::k] = v @ head + B[:, m]
    loss = torch.nn.functional.cross_entropy(f, y)
    loss.backward()
    engine = make_engine(name, case)
    value, got = gradient(engine, case)
    # A rounding for each term of the longest chain of sums.
    allowed = np.finfo(dtype).eps * (len(X) + sum(case.plan.layer_sizes))
    assert allowed < 0.1
    np.testing.assert_allclose(value, loss.item(), rtol=allowed)
    for i, (g, p) in enumerate(zip(got, parameters, strict=True)):
        wanted = p.grad.numpy()
        if i in (1, 4):  # torch has no bias there
            g, wanted = g[:, :-1], wanted[:, :-1]
        assert np.linalg.norm(g - wanted) <= allowed * np.linalg.norm(wanted)
    wanted = f.detach().numpy()
    np.testing.assert_allclose(
        forward(engine, case.X), wanted, rtol=0, atol=allowed * np.abs(wanted).max()
    )


@pytest.mark.parametrize("name", [name for name in EACH if name != "reference"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
@pytest.mark.parametrize("samples", [1, 3, 23])
def test_an_epoch_is_that_of_the_reference(
    name: str, optimizer: str, clip_norm: float, samples: int
) -> None:
    rule, _, rate = OPTIMIZERS[optimizer]
    k = SIZES[2][0]
    fields = {"batch_size": samples * k, "optimizer": rule, "clip_norm": clip_norm}
    case = tabm_case(SIZES[2], rows=23, l2=0.1, dropout=0.25, **fields)
    engines = [make_engine(which, case) for which in (name, "reference")]
    # Every sample is there once for each member, one after the other; the last batch is a short one.
    order = np.repeat(np.random.default_rng(1).permutation(23), k)
    found = [steps_with(engine, case, rate, order) for engine in engines]
    np.testing.assert_allclose(*found, rtol=1e-9)
    assert_trained_alike(engines, case)


@pytest.mark.skipif("native" not in HAVE, reason="no native engine")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples", [1, 7, 61])
@pytest.mark.parametrize("sizes", [SIZES[3], SIZES[4]])
@pytest.mark.parametrize("rows", [1, 10**6], ids=["by rows", "by columns"])
def test_bits_do_not_depend_on_threads(dtype: str, samples: int, sizes: Sizes, rows: int) -> None:
    k = sizes[0]

    def train(threads: int) -> list[Array]:
        fields = {"batch_size": samples * k, "threads": threads, "dropout": 0.25, "seed": 3}
        case = tabm_case(sizes, dtype, rows=70 * k, optimizer=AdamW(), **fields)
        engine = make_engine("native", case)
        found = everything(engine, case)
        values = steps_with(engine, case, 0.01, np.repeat(np.arange(70), k))
        return [*found, values, *engine.get_parameters()]

    assert_same_on_any_threads(train, rows)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("sizes", SIZES)
def test_what_was_kept_comes_back(name: str, sizes: Sizes) -> None:
    case = tabm_case(sizes, "float32", batch_size=2 * sizes[0], labels=False)
    assert_keeps_and_restores(make_engine(name, case), make_engine(name, case), case)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("rows", [0, 1, 2, 111, 113, 340])
def test_a_row_s_member_is_its_place_however_many_there_are(name: str, rows: int) -> None:
    # Blocks of the native engine are of 112 rows at most, which 5 and 13 do not divide.
    for k in (1, 5, 13, 200):
        case = tabm_case((k, 3, 4, 2), rows=rows, batch_size=k)
        engine = make_engine(name, case, threads=2)
        whole = forward(engine, case.X)
        for m in range(min(k, rows)):
            copies = np.repeat(case.X[m : m + 1], k, axis=0)
            np.testing.assert_allclose(
                forward(engine, copies)[m], whole[m], rtol=0, atol=1e-14 * np.abs(whole).max()
            )


@pytest.mark.parametrize("name", HAVE)
def test_rows_of_weight_0_say_nothing(name: str) -> None:
    case = tabm_case(SIZES[3], weighted=True)
    weight = case.sample_weight.copy()
    weight[: 2 * SIZES[3][0]] = 0
    X = case.X.copy()
    X[: 2 * SIZES[3][0]] = np.inf
    spoilt = replace(case, sample_weight=weight, X=X)
    left = np.flatnonzero(weight)
    clean = replace(case, X=case.X[left], y=case.y[left], sample_weight=weight[left])
    a, b = (gradient(make_engine(name, c), c) for c in (spoilt, clean))
    np.testing.assert_allclose(a[0], b[0], rtol=1e-14)
    for got, wanted in zip(a[1], b[1], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())


def test_what_makes_no_network_is_refused() -> None:
    case = tabm_case(SIZES[2])
    with pytest.raises(ValueError, match=r"a multiple of it, but there are \[3\] members"):
        replace(case.plan, batch_size=16)
    stages = (Members(2, 3), Members(2, 4))
    with pytest.raises(ValueError, match=r"the same number of them"):
        Plan(stages, losses.get("squared_error"), batch_size=12)
    for wrong in ({"members": 0}, {"members": 2, "scale": False}):
        with pytest.raises(ValueError, match="1 ≤ members"):
            Members(3, **wrong)
    with pytest.raises(ValueError, match="1 ≤ members"):
        Heads(3, 2, 0)


def test_engines_that_lack_it_say_so() -> None:
    plan = replace(tabm_case(SIZES[3], "float32").plan, dtype="float32")
    if jit.available():
        assert "no stage of kind Members" in str(jit.lacks(plan))
