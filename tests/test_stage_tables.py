"""What networks for tables are made of: Blend, Periodic and Lookup, factors, smoothing, step factors.

The judges are central differences in float64, PyTorch, and the reference engine.
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
    oracle,
    steps_with,
)

from fastbp import activations, losses
from fastbp.engines import create, jit
from fastbp.optimizers import SGD, AdamW
from fastbp.plan import Plan
from fastbp.stages import Blend, Dense, Factors, Lookup, Periodic, Scale

HAVE = [name for name in ENGINES if name != "jit"]
EACH = [name for name in EACH_ENGINE if name != "jit"]
MISH, SELU, RELU = (activations.get(name) for name in ("mish", "selu", "relu"))
SLOW = (Factors(0.3, 2.0, 0.5), Factors(0.1, 3.0, 0.25))

# numbers, other columns, tables, width of a vector, hidden units
Sizes = tuple[int, int, tuple[int, ...], int, int]
SIZES: list[Sizes] = [
    (1, 0, (1,), 1, 1),
    (3, 2, (4, 9), 5, 7),
    (8, 8, (40, 3, 20), 16, 32),
    (17, 5, (2, 70), 9, 33),
    (33, 0, (33,), 20, 16),
]


def table_case(sizes: Sizes, dtype: str = "float64", *, rows: int = 23, **fields: Any) -> Case:
    """Periodic → Lookup → Scale → Dense → Blend → Dense, with unknown codes among the data."""
    numbers, plain, levels, width, hidden = sizes
    phi = fields.pop("phi", MISH)
    dropout = fields.pop("dropout", 0.0)
    factors = fields.pop("factors", SLOW)
    labels = fields.pop("labels", True)
    weighted = fields.pop("weighted", False)
    outputs, inputs = 3, numbers + plain + len(levels)
    periodic = Periodic(inputs, numbers, frequencies=5, waves=3, spread=0.5, factors=factors)
    lookup = Lookup(periodic.units, levels, width, factors=factors)
    stages = (
        periodic,
        lookup,
        Scale(lookup.units, dropout=dropout, factors=factors),
        Dense(lookup.units, hidden, factors=factors),
        Blend(hidden, phi, dropout=dropout, factors=factors),
        Dense(hidden, outputs, factors=factors),
    )
    fields = {"batch_size": rows, "loss": "softmax_cross_entropy"} | fields
    loss = losses.get(fields.pop("loss"))
    rng = np.random.default_rng(0)
    plan = Plan(stages, loss, dtype="float64", **fields)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    parameters = [
        p.astype(np.float32).astype(np.float64) + 0.1 * draw(*p.shape)
        for stage in stages
        for p in stage.first_values("auto", "float64", rng)
    ]
    parameters = [p.astype(np.float32).astype(np.float64) for p in parameters]
    X = draw(rows, inputs)
    for c, level in enumerate(levels):
        X[:, numbers + plain + c] = rng.integers(0, level, rows)
    X[0, numbers + plain] = levels[0] + 3  # unknown, as −1 and NaN are
    X[1, numbers + plain] = -1
    y = rng.integers(0, outputs, rows) if labels else draw(rows, outputs)
    weight = rng.integers(1, 9, rows) / 4 if weighted else None
    return Case(plan, parameters, X, y, weight).astype(dtype)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("phi", [MISH, SELU, activations.get("tanh")], ids=lambda a: a.name)
@pytest.mark.parametrize("sizes", SIZES)
def test_gradient_and_jacobian_are_central_differences(
    name: str, phi: activations.Activation, sizes: Sizes
) -> None:
    case = table_case(sizes, phi=phi, weighted=True, l1=0.01, l2=0.1, label_smoothing=0.1)
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
        # Where nearly all is 0, what the difference of two losses near 1 is off by: u / step.
        allowed = 1e-7 * np.linalg.norm(difference) + 1e-10
        assert np.linalg.norm(found - difference) <= allowed
    engine.set_parameters(case.parameters)
    J = jacobian(engine, case.X)
    numbers, plain = sizes[:2]
    for k in range(numbers + plain):
        move = np.zeros(case.X.shape[1])
        move[k] = step
        wanted = (forward(engine, case.X + move) - forward(engine, case.X - move)) / (2 * step)
        assert np.linalg.norm(J[:, :, k] - wanted) <= 1e-7 * np.linalg.norm(wanted)
    assert (J[:, :, numbers + plain :] == 0).all()


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_values_are_those_of_torch(name: str, dtype: str, sizes: Sizes) -> None:
    torch = pytest.importorskip("torch")
    case = table_case(sizes, dtype, label_smoothing=0.2)
    exact = case.astype("float64")
    numbers, plain, levels, _, _ = sizes
    P, T, s, W, alpha, V = (torch.tensor(p, requires_grad=True) for p in exact.parameters)
    X = torch.tensor(exact.X)
    # by number: w, b, W₁ … W₃ of every frequency, then c
    each = P[:, : 5 * 5].reshape(numbers, 5, 5)
    theta = 2 * torch.pi * each[:, :, 0] * X[:, :numbers, None] + each[:, :, 1]
    waves = torch.einsum("rnk,nki->rni", torch.cos(theta), each[:, :, 2:]) + P[:, 25:]
    codes = X[:, numbers + plain :]
    vectors, start = [], 0
    for c, level in enumerate(levels):
        code = torch.where((codes[:, c] >= 0) & (codes[:, c] < level), codes[:, c], 0).long()
        vectors.append(torch.nn.functional.embedding(start + code, T.T))
        start += level
    v = torch.cat([waves.transpose(1, 2).flatten(1), X[:, : numbers + plain], *vectors], 1)
    z = (v * s[:, 0]) @ W[:, :-1].T + W[:, -1]
    v = z + alpha[:, 0] * (torch.nn.functional.mish(z) - z)
    f = v @ V[:, :-1].T + V[:, -1]
    loss = torch.nn.functional.cross_entropy(f, torch.tensor(case.y), label_smoothing=0.2)
    loss.backward()
    engine = make_engine(name, case)
    value, got = gradient(engine, case)
    # A rounding for each term of the longest chain of sums, and what sines are off by: 5 of an angle
    # up to 2π w x, w up to 2 and x up to 4.
    terms = len(case.X) + sum(case.plan.layer_sizes) + 5 * 50
    allowed = np.finfo(dtype).eps * terms
    assert allowed < 0.1
    np.testing.assert_allclose(value, loss.item(), rtol=allowed)
    for g, p in zip(got, (P, T, s, W, alpha, V), strict=True):
        wanted = p.grad.numpy()
        assert np.linalg.norm(g - wanted) <= allowed * np.linalg.norm(wanted)
    wanted = f.detach().numpy()
    np.testing.assert_allclose(
        forward(engine, case.X), wanted, rtol=0, atol=allowed * np.abs(wanted).max()
    )


@pytest.mark.parametrize("name", [name for name in EACH if name != "reference"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
@pytest.mark.parametrize("batch", [1, 7, 23])
def test_an_epoch_is_that_of_the_reference(
    name: str, optimizer: str, clip_norm: float, batch: int
) -> None:
    rule, _, rate = OPTIMIZERS[optimizer]
    fields = {"batch_size": batch, "optimizer": rule, "clip_norm": clip_norm, "dropout": 0.25}
    case = table_case(SIZES[3], l2=0.1, label_smoothing=0.1, **fields)
    engines = [make_engine(which, case) for which in (name, "reference")]
    order = np.random.default_rng(1).permutation(23)
    losses = [steps_with(engine, case, rate, order) for engine in engines]
    np.testing.assert_allclose(*losses, rtol=1e-9)
    assert_trained_alike(engines, case)


@pytest.mark.skipif("native" not in HAVE, reason="no native engine")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 23, 61, 256])
@pytest.mark.parametrize("rows", [1, 10**6], ids=["by rows", "by columns"])
def test_bits_do_not_depend_on_threads(dtype: str, batch: int, rows: int) -> None:
    def train(threads: int) -> list[Array]:
        fields = {"batch_size": batch, "threads": threads, "dropout": 0.25, "seed": 3}
        case = table_case(SIZES[3], dtype, rows=300, optimizer=AdamW(), **fields)
        engine = make_engine("native", case)
        found = everything(engine, case)
        losses = steps_with(engine, case, 0.01, np.arange(300))
        return [*found, losses, *engine.get_parameters()]

    assert_same_on_any_threads(train, rows)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("sizes", SIZES)
def test_what_was_kept_comes_back(name: str, sizes: Sizes) -> None:
    case = table_case(sizes, "float32", batch_size=4)
    assert_keeps_and_restores(make_engine(name, case), make_engine(name, case), case)


@pytest.mark.parametrize("name", EACH_ENGINE)
def test_factors_are_a_network_whose_weights_are_divided_by_the_root_of_its_inputs(
    name: str,
) -> None:
    # z = W v / √d, trained by Adam in torch, is a plain stage with V = W / √d and its factors.
    torch = pytest.importorskip("torch")
    if name == "jit":
        pytest.skip("it lacks factors, and says so")
    rng = np.random.default_rng(0)
    d, units, rows = 7, 5, 40
    W, b = rng.standard_normal((units, d)), rng.standard_normal(units)
    X, y = rng.standard_normal((rows, d)), rng.standard_normal((rows, units))
    epsilon, rate, decay = 0.01, 0.05, 0.3
    factors = (Factors(d**-0.5, d**0.5), Factors(0.1, decay=0.0))
    plan = Plan(
        (Dense(d, units, factors=factors),),
        losses.get("squared_error"),
        AdamW(beta_2=0.95, epsilon=epsilon, weight_decay=decay),
        batch_size=rows,
        dtype="float64",
    )
    case = Case(plan, [np.hstack([W / np.sqrt(d), b[:, None]])], X, y, None)
    engine = make_engine(name, case)
    w = torch.tensor(W, requires_grad=True)
    c = torch.tensor(b, requires_grad=True)
    groups = [
        {"params": [w], "weight_decay": decay},
        {"params": [c], "lr": 0.1 * rate, "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=epsilon)
    for step in range(1, 11):
        # torch adds ε beside the corrected √s; here it stands beside √s, so it is a little other
        for group in adam.param_groups:
            group["eps"] = epsilon / np.sqrt(1 - 0.95**step)
        adam.zero_grad()
        f = torch.tensor(X) @ w.T / np.sqrt(d) + c
        (0.5 * (f - torch.tensor(y)) ** 2).sum(1).mean().backward()
        adam.step()
        engine.epoch(X, y, None, np.arange(rows), np.array([rate]), np.empty(1))
    (got,) = engine.get_parameters()
    np.testing.assert_allclose(got[:, :-1], w.detach().numpy() / np.sqrt(d), rtol=1e-10)
    np.testing.assert_allclose(got[:, -1], c.detach().numpy(), rtol=1e-10)


def test_plain_factors_change_no_bit() -> None:
    one = (Factors(), Factors(decay=0.0))
    for name in HAVE:
        for rule in (SGD(), AdamW()):
            found = []
            for factors in (one, (Factors(1.0), Factors(1.0, 1.0, 0.0))):
                case = table_case(SIZES[1], "float32", factors=factors, optimizer=rule)
                found.append(everything(make_engine(name, case), case))
            for got, wanted in zip(*found, strict=True):
                np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", HAVE)
def test_rows_of_weight_0_say_nothing(name: str) -> None:
    case = table_case(SIZES[3], weighted=True)
    weight = case.sample_weight.copy()
    weight[::3] = 0
    X = case.X.copy()
    X[::3] = np.inf
    spoilt = replace(case, sample_weight=weight, X=X)
    left = np.flatnonzero(weight)
    clean = replace(case, X=case.X[left], y=case.y[left], sample_weight=weight[left])
    a, b = (gradient(make_engine(name, c), c) for c in (spoilt, clean))
    np.testing.assert_allclose(a[0], b[0], rtol=1e-14)
    for got, wanted in zip(a[1], b[1], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())


@pytest.mark.parametrize("name", HAVE)
def test_what_is_no_code_counts_as_0(name: str) -> None:
    case = table_case(SIZES[1])
    engine = make_engine(name, case)
    X = case.X.copy()
    X[:, -2:] = 0
    wanted = forward(engine, X)
    for code in (-1, -np.inf, np.nan, 9, 1e30, np.inf):
        X[:, -2:] = code
        np.testing.assert_array_equal(forward(engine, X), wanted)


@pytest.mark.parametrize("name", HAVE)
def test_no_rows(name: str) -> None:
    case = table_case(SIZES[1])
    none = replace(case, X=case.X[:0], y=case.y[:0])
    loss, got = gradient(make_engine(name, none), none)
    assert loss == 0
    for g in got:
        assert (g == 0).all()


@pytest.mark.parametrize("name", HAVE)
def test_numbers_for_every_step_are_asked_for(name: str) -> None:
    case = table_case(SIZES[1], batch_size=5)
    engine = make_engine(name, case)
    rates, out = np.full(5, 0.1), np.empty(5)
    for wrong in ("dropouts", "decays"):
        with pytest.raises(ValueError, match=wrong):
            engine.epoch(case.X, case.y, None, np.arange(23), rates, out, **{wrong: np.ones(4)})


def test_penalty_is_on_weights_and_vectors_alone() -> None:
    for name in HAVE:
        case = table_case(SIZES[1])
        _, plain = gradient(make_engine(name, case), case)
        penalized = replace(case, plan=replace(case.plan, l1=0.5, l2=0.5))
        _, got = gradient(make_engine(name, penalized), penalized)
        changed = [bool((g != p).any()) for g, p in zip(got, plain, strict=True)]
        assert changed == [False, True, False, True, False, True]


def test_first_values() -> None:
    rng = np.random.default_rng(0)
    (P,) = Periodic(4000, 4000).first_values("auto", "float64", rng)
    each = P[:, :80].reshape(4000, 16, 5)
    w, b, W = each[:, :, 0], each[:, :, 1], each[:, :, 2:]
    n = w.size
    # standard errors of a mean and of a standard deviation, five of them
    assert abs(w.mean()) <= 5 * 0.1 / n**0.5
    assert abs(w.std() - 0.1) <= 5 * 0.1 / (2 * n) ** 0.5
    assert np.abs(b).max() <= np.pi
    assert abs(b.std() - np.pi / 3**0.5) <= 5 / n**0.5
    for values in (W, P[:, 80:]):
        assert np.abs(values).max() <= 0.25
        assert abs(values.std() - 0.25 / 3**0.5) <= 5 * 0.25 / values.size**0.5
    (T,) = Lookup(2, (500, 300)).first_values("auto", "float64", rng)
    assert T.shape == (8, 800)
    assert abs(T.std() - 1) <= 5 / (2 * T.size) ** 0.5
    (alpha,) = Blend(3, MISH).first_values("auto", "float64", rng)
    np.testing.assert_array_equal(alpha, np.ones((3, 1)))


def test_who_lacks_it_says_so() -> None:
    case = table_case(SIZES[1], "float32")
    if jit.available():
        with pytest.raises(ValueError, match="engine 'jit' has no stage of kind Periodic"):
            create(case.plan, "jit")
        layers = (Dense(3, 2, factors=SLOW),)
        with pytest.raises(ValueError, match="engine 'jit' has no factors"):
            create(Plan(layers, losses.get("squared_error")), "jit")
        loss = losses.get("softmax_cross_entropy")
        with pytest.raises(ValueError, match="engine 'jit' has no label_smoothing"):
            create(Plan((Dense(3, 2),), loss, label_smoothing=0.1), "jit")
        engine = create(Plan((Dense(3, 2),), losses.get("squared_error")), "jit")
        X = np.zeros((4, 3), np.float32)
        with pytest.raises(ValueError, match="dropouts"):
            engine.epoch(
                X, X[:, :2].copy(), None, np.arange(4), np.ones(1), np.ones(1), None, np.ones(1)
            )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Periodic(3, 4), "numbers ≤ inputs"),
        (lambda: Periodic(3, 0), "numbers ≤ inputs"),
        (lambda: Periodic(3, 2, waves=17), "waves ≤ 16"),
        (lambda: Lookup(3, ()), "tables ≤ inputs"),
        (lambda: Lookup(1, (3, 3)), "tables ≤ inputs"),
        (lambda: Lookup(1, (0,)), "1 ≤ levels"),
        (lambda: Factors(rate=-1.0), "rate must be"),
        (lambda: Plan((Blend(3, MISH), Dense(3, 2)), losses.get("squared_error")), "follow"),
        (
            lambda: Plan(
                (Dense(3, 3, RELU), Blend(3, MISH), Dense(3, 2)), losses.get("squared_error")
            ),
            "a Blend must follow a stage without activation",
        ),
        (
            lambda: Plan((Dense(3, 2),), losses.get("squared_error"), label_smoothing=0.1),
            "label_smoothing",
        ),
        (
            lambda: Plan((Dense(3, 2),), losses.get("cross_entropy"), label_smoothing=1.0),
            "label_smoothing",
        ),
    ],
)
def test_what_makes_no_network_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_oracle_of_smoothing_is_that_of_smoothed_targets() -> None:
    case = table_case(SIZES[1])
    smooth = replace(case, plan=replace(case.plan, label_smoothing=0.3))
    y = 0.7 * np.eye(3)[case.y] + 0.1
    targets = replace(case, y=y)
    for name in HAVE:
        a, b = gradient(make_engine(name, smooth), smooth), gradient(oracle(targets), targets)
        np.testing.assert_allclose(a[0], b[0], rtol=1e-13)
        for got, wanted in zip(a[1], b[1], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize("name", EACH)
def test_pinball_of_several_quantiles(name: str) -> None:
    levels = (0.1, 0.5, 0.9)
    case = table_case(SIZES[1], labels=False, loss="squared_error", weighted=True)
    loss = losses.Loss("pinball", 0.5, levels=levels)
    case = replace(case, plan=replace(case.plan, loss=loss))
    engine = make_engine(name, case)
    value, got = gradient(engine, case)
    r = case.y - forward(engine, case.X)
    tau = np.array(levels)
    rows = np.maximum(tau * r, (tau - 1) * r).sum(axis=1)
    np.testing.assert_allclose(value, np.average(rows, weights=case.sample_weight), rtol=1e-13)
    # That of the output layer's biases is Σ δ: the share of rows above minus the quantile.
    above = np.average(r > 0, axis=0, weights=case.sample_weight)
    np.testing.assert_allclose(got[-1][:, -1], 1 - tau - above, rtol=1e-12, atol=1e-13)


def test_levels_are_one_for_each_output() -> None:
    loss = losses.Loss("pinball", 0.5, levels=(0.1, 0.9))
    with pytest.raises(ValueError, match="as many outputs as levels"):
        Plan((Dense(3, 3),), loss)
    with pytest.raises(ValueError, match="quantile of pinball"):
        losses.Loss("pinball", 1.0)
    with pytest.raises(ValueError, match="has no levels"):
        losses.Loss("huber", 1.0, levels=(0.5,))
    if jit.available():
        with pytest.raises(ValueError, match="has no levels"):
            create(Plan((Dense(3, 2),), loss), "jit")
