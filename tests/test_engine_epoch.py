"""A whole epoch in one call: every optimizer and option ends where the reference engine ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    EACH_ENGINE,
    OPTIMIZERS,
    Case,
    epoch,
    gradient,
    make_case,
    make_engine,
    oracle,
    smooth_case,
)
from error_bounds import assert_within, bounds, check_weights, epoch_bound, step_error

from fastbp.engines.dropout import mask
from fastbp.optimizers import SGD, Adam, Optimizer

engines = pytest.mark.parametrize("name", EACH_ENGINE)
dtypes = pytest.mark.parametrize("dtype", DTYPES)

each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weighted": {"weighted": True},
    "penalties": {"l1": 0.02, "l2": 0.1},
    "penalties in the sum": {"l1": 0.2, "l2": 1.0, "penalty_in_sum": True},
    "clip": {"clip_norm": 0.5, "l2": 0.1},
    "dropout": {"dropout": (0.25, 0.5), "seed": 2**63 + 5},
    "labels": {"labels": True, "loss": "softmax_cross_entropy", "weighted": True},
    "distributions": {"loss": "softmax_cross_entropy"},
}


def epoch_case(option: str, optimizer: Optimizer, dtype: str) -> Case:
    """23 rows in batches of 6: three full ones and a short one of 5."""
    fields: dict[str, Any] = {"dtype": dtype, "rows": 23, "batch_size": 6, "optimizer": optimizer}
    return make_case((5, 9, 7, 3), ("tanh", "gelu"), **fields, **OPTIONS[option])


@engines
@dtypes
@each_optimizer
@pytest.mark.parametrize("option", OPTIONS)
def test_two_epochs_end_where_the_reference_does(
    name: str, dtype: str, optimizer: str, option: str
) -> None:
    kind, amplification, rate = OPTIMIZERS[optimizer]
    case = epoch_case(option, kind, dtype)
    exact = case.astype("float64")
    engine, reference = make_engine(name, case), oracle(exact)
    order = np.random.default_rng(1).permutation(23)
    for count, shuffled in enumerate((order, order[::-1].copy()), 1):
        applied, losses = epoch(engine, case, rate, shuffled)
        wanted_applied, wanted_losses = epoch(reference, exact, rate, shuffled)
        assert applied == wanted_applied == 4
        limit = epoch_bound(case, rate, 4 * count, amplification)
        check_weights(engine, reference, case, limit)
        # a loss moves with the weights by ∇ℓ: at most the number of weights times the largest slope
        slope = sum(float(np.abs(g).sum()) for g in gradient(reference, exact)[1])
        untrained = epoch(oracle(exact), exact, 0.0, shuffled)[1]
        loss_limit = 8 * (bounds(case).loss + (1 + slope) * limit)
        assert_within(losses, wanted_losses, loss_limit, untrained)
    step, slots = engine.get_optimizer_state()
    assert step == 8
    wanted_slots = reference.get_optimizer_state()[1]
    assert len(slots) == len(wanted_slots) == kind.slots
    # u is a sum of rate · g, at most A of them; m and s are averages of g and g², |g| below 2 here
    slope = rate * amplification if isinstance(kind, SGD) else 4
    slot_limit = slope * (step_error(case) + limit)  # g moves with W at a rate of about 1
    for slot, wanted_slot in zip(slots, wanted_slots, strict=True):
        for got, wanted in zip(slot, wanted_slot, strict=True):
            assert_within(got, wanted, slot_limit)


@engines
@dtypes
@pytest.mark.parametrize("batch", [256, 512, 531])
def test_long_minibatches_end_where_the_reference_does(name: str, dtype: str, batch: int) -> None:
    """The native engine sums over 2 and 4 shards of the rows; in the last minibatch most have few."""
    fields: dict[str, Any] = {"dtype": dtype, "rows": 2 * batch + 3, "batch_size": batch}
    case = make_case((5, 9, 7, 3), ("tanh", "gelu"), "squared_error", **fields, weighted=True)
    exact = case.astype("float64")
    engine, reference = make_engine(name, case), oracle(exact)
    assert epoch(engine, case)[0] == epoch(reference, exact)[0] == 3
    check_weights(engine, reference, case, epoch_bound(case, 0.1, 3, 1))


@engines
@dtypes
@pytest.mark.parametrize("hidden", ["relu", "leaky_relu", "elu", "sigmoid", "softplus", "silu"])
def test_epoch_with_each_activation(name: str, dtype: str, hidden: str) -> None:
    case = smooth_case((6, 8, 4), hidden, "huber", dtype=dtype, rows=16, batch_size=4)
    exact = case.astype("float64")
    engine, reference = make_engine(name, case), oracle(exact)
    assert epoch(engine, case)[0] == epoch(reference, exact)[0] == 4
    limit = epoch_bound(case, 0.1, 4, 1)
    check_weights(engine, reference, case, limit)


@engines
@dtypes
@pytest.mark.filterwarnings("error")
def test_overflow_is_told_by_the_loss_alone(name: str, dtype: str) -> None:
    case = make_case((3, 4, 2), "relu", "poisson", dtype=dtype, rows=4, batch_size=4)
    huge = [np.full_like(W, np.finfo(dtype).max) for W in case.parameters]
    engine = make_engine(name, replace(case, parameters=huge))
    assert not np.isfinite(engine.loss(case.X, case.y, None))
    assert not np.isfinite(gradient(engine, case)[0])
    assert epoch(engine, case)[0] == 0


@engines
@dtypes
def test_a_step_of_sgd_is_w_minus_rate_times_gradient(name: str, dtype: str) -> None:
    case = make_case((7, 11, 5), "tanh", dtype=dtype, rows=19, batch_size=19, l1=0.01, l2=0.1)
    engine = make_engine(name, case)
    loss, g = gradient(engine, case)
    applied, losses = epoch(engine, case, 0.25)
    assert applied == 1
    assert_within(losses[0], loss, 2 * bounds(case).loss)
    for W, before, slope, limit in zip(
        engine.get_parameters(), case.parameters, g, bounds(case).gradient, strict=True
    ):
        wanted = before.astype("f8") - 0.25 * slope.astype("f8")
        assert_within(W, wanted, 0.5 * limit + np.finfo(dtype).eps * np.abs(before), before)


@engines
@dtypes
def test_adam_s_first_step_is_the_rate_times_the_sign(name: str, dtype: str) -> None:
    # by hand: m / √s · √(1 − β₂) / (1 − β₁) = g / |g|, far above ε
    case = make_case((3, 2), (), dtype=dtype, rows=4, batch_size=4, optimizer=Adam(epsilon=1e-30))
    engine = make_engine(name, case)
    _, g = gradient(engine, case)
    epoch(engine, case, 0.125)
    wanted = case.parameters[0] - 0.125 * np.sign(g[0])
    # √, ÷, three products, √(1 − β₂) and W − step: 16 roundings of the step or of W
    limit = 16 * np.finfo(dtype).eps * (0.125 + np.abs(wanted))
    assert_within(engine.get_parameters()[0], wanted.astype("f8"), limit, case.parameters[0])


@engines
@dtypes
def test_clipping_bounds_the_norm_and_keeps_the_direction(name: str, dtype: str) -> None:
    case = make_case((7, 11, 5), "tanh", dtype=dtype, rows=19, batch_size=19)
    _, g = gradient(make_engine(name, case), case)
    norm = np.sqrt(sum(np.square(a, dtype=np.float64).sum() for a in g))
    for clip, factor in [(norm / 4, 0.25), (norm * 4, 1.0)]:
        engine = make_engine(name, case, clip_norm=float(clip))
        epoch(engine, case, 1.0)
        for W, before, slope, limit in zip(
            engine.get_parameters(), case.parameters, g, bounds(case).gradient, strict=True
        ):
            wanted = before.astype("f8") - factor * slope.astype("f8")
            assert_within(W, wanted, 2 * limit + np.finfo(dtype).eps * np.abs(before), before)


@engines
@dtypes
@each_optimizer
def test_training_goes_on_from_a_copied_state(name: str, dtype: str, optimizer: str) -> None:
    kind, _, rate = OPTIMIZERS[optimizer]
    case = epoch_case("dropout", kind, dtype)
    engine, other = make_engine(name, case), make_engine(name, case)
    epoch(engine, case, rate)
    other.set_parameters(engine.get_parameters())
    other.set_optimizer_state(*engine.get_optimizer_state())
    epoch(engine, case, rate)
    epoch(other, case, rate)
    assert engine.get_optimizer_state()[0] == other.get_optimizer_state()[0] == 8
    for a, b in zip(engine.get_parameters(), other.get_parameters(), strict=True):
        np.testing.assert_array_equal(a, b)


@engines
@dtypes
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 1, 2), (17, 33, 5), (40, 100, 3), (9, 300, 150, 4)])
def test_an_epoch_is_its_steps_one_by_one(
    name: str, dtype: str, sizes: tuple[int, ...], batch_size: int
) -> None:
    """To the bit, though with one row a step the native engine begins each step in the one before."""
    hidden = ["tanh", "gelu"][: len(sizes) - 2]
    dropout = (0.25, 0.5)[: len(sizes) - 2]
    fields: dict[str, Any] = {"dtype": dtype, "rows": 12, "batch_size": batch_size}
    case = make_case(sizes, tuple(hidden), dropout=dropout, weighted=True, seed=2, **fields)
    whole, apart = make_engine(name, case), make_engine(name, case)
    order = np.random.default_rng(3).permutation(12)
    losses = epoch(whole, case, 0.01, order)[1]
    steps = [
        epoch(apart, case, 0.01, order[at : at + batch_size])[1] for at in range(0, 12, batch_size)
    ]
    np.testing.assert_array_equal(losses, np.concatenate(steps))
    for W, wanted in zip(whole.get_parameters(), apart.get_parameters(), strict=True):
        np.testing.assert_array_equal(W, wanted)


@engines
@dtypes
@pytest.mark.parametrize("poison", [np.nan, np.inf, "overflow"])
def test_a_loss_that_is_not_finite_ends_the_epoch_before_its_step(
    name: str, dtype: str, poison: float | str
) -> None:
    case = make_case(
        (4, 6, 3), "identity", dtype=dtype, rows=15, batch_size=4, optimizer=SGD(momentum=0.5)
    )
    good = make_engine(name, case)
    assert epoch(good, case, order=np.arange(8))[0] == 2
    X = case.X.copy()
    # each x is finite but f is not, where "overflow"
    X[9] = np.finfo(dtype).max * np.array([1, -1, 1, -1]) if poison == "overflow" else poison
    parameters = [16 * W if poison == "overflow" else W for W in case.parameters]
    bad = replace(case, X=X, parameters=parameters)
    good.set_parameters(parameters)
    good.set_optimizer_state(0, [[np.zeros_like(W) for W in parameters]])
    epoch(good, bad, 1e-3, order=np.arange(8))

    engine = make_engine(name, bad)
    applied, losses = epoch(engine, bad, 1e-3)
    assert applied == 2
    assert np.isfinite(losses[:2]).all()
    assert not np.isfinite(losses[2])
    step, slots = engine.get_optimizer_state()
    assert step == 2
    for got, wanted in zip(slots[0], good.get_optimizer_state()[1][0], strict=True):
        np.testing.assert_array_equal(got, wanted)
    for W, wanted in zip(engine.get_parameters(), good.get_parameters(), strict=True):
        np.testing.assert_array_equal(W, wanted)


@engines
@dtypes
def test_the_caller_s_arrays_may_be_read_only(name: str, dtype: str) -> None:
    case = epoch_case("labels", SGD(), dtype)
    assert case.sample_weight is not None
    order = np.arange(23)
    for a in (case.X, case.y, case.sample_weight, order, *case.parameters):
        a.flags.writeable = False
    engine = make_engine(name, case)
    rates = np.full(4, 0.1)
    rates.flags.writeable = False
    assert engine.epoch(case.X, case.y, case.sample_weight, order, rates, np.empty(4)) == 4
    assert np.isfinite(gradient(engine, case)[0])


@engines
@dtypes
def test_rows_outside_the_order_play_no_part(name: str, dtype: str) -> None:
    case = make_case((4, 6, 3), "tanh", dtype=dtype, rows=20, batch_size=5, weighted=True)
    assert case.sample_weight is not None
    order = np.array([3, 17, 3, 8, 0, 11, 2])
    chosen = replace(
        case, X=case.X[order], y=case.y[order], sample_weight=case.sample_weight[order]
    )
    picked, copied = make_engine(name, case), make_engine(name, case)
    assert epoch(picked, case, order=order)[0] == epoch(copied, chosen)[0] == 2
    for a, b in zip(picked.get_parameters(), copied.get_parameters(), strict=True):
        np.testing.assert_array_equal(a, b)


@engines
@dtypes
def test_dropout_by_hand(name: str, dtype: str) -> None:
    """One step with one hidden layer: both updates as in the notes, with φ(z) masked and scaled."""
    p, rows, seed = 0.25, 12, 2**40 + 1
    case = make_case(
        (5, 9, 3), "tanh", dtype=dtype, rows=rows, batch_size=rows, dropout=(p,), seed=seed
    )
    exact = case.astype("float64")
    first, second = exact.parameters
    units = mask(seed, 0, 1, rows, 9, p) / (1 - p)
    assert units.min() == 0 < units.max()
    x1 = np.hstack([exact.X, np.ones((rows, 1))])
    phi = np.tanh(x1 @ first.T)
    v = np.hstack([phi * units, np.ones((rows, 1))])
    residual = v @ second.T - exact.y
    delta = (1 - phi**2) * units * (residual @ second[:, :-1])

    engine = make_engine(name, case)
    loss_without = engine.loss(case.X, case.y, None)
    _, losses = epoch(engine, case, 0.1)
    limit = bounds(case).loss / (1 - p) ** 2
    assert_within(losses[0], 0.5 * (residual**2).sum() / rows, limit)
    assert abs(losses[0] - loss_without) > limit  # dropout is for training only
    step_limit = epoch_bound(case, 0.1, 1, 1)
    got = engine.get_parameters()
    assert_within(got[0], first - 0.1 * delta.T @ x1 / rows, step_limit, first)
    assert_within(got[1], second - 0.1 * residual.T @ v / rows, step_limit, second)


@engines
@dtypes
@pytest.mark.parametrize("in_sum", [False, True])
def test_the_penalty_of_each_step_is_told(name: str, dtype: str, in_sum: bool) -> None:
    fields: dict[str, Any] = {"dtype": dtype, "rows": 23, "batch_size": 6, "weighted": True}
    case = make_case((5, 9, 33, 3), "tanh", l1=0.2, l2=1.5, penalty_in_sum=in_sum, **fields)
    engine = make_engine(name, case)
    order, losses, penalties = np.arange(23), np.empty(4), np.empty(4)
    data = case.X, case.y, case.sample_weight, order, np.zeros(4)  # no step changes the weights
    assert engine.epoch(*data, losses, penalties) == 4
    whole = 0.0
    for W in engine.get_parameters():
        w = W[:, :-1].astype(np.float64)
        whole += 0.2 * np.abs(w).sum() + 0.75 * np.square(w).sum()
    weight = np.add.reduceat(case.sample_weight, np.arange(0, 23, 6), dtype=np.float64)
    # each share of l1 and l2 is rounded to the dtype once, the sums are in float64
    wanted = whole / weight if in_sum else np.full(4, whole)
    np.testing.assert_allclose(penalties, wanted, rtol=4 * np.finfo(dtype).eps)
    bare = make_engine(name, replace(case, plan=replace(case.plan, l1=0.0, l2=0.0)))
    alone, none = np.empty(4), np.empty(4)
    assert bare.epoch(*data, alone, none) == 4
    np.testing.assert_array_equal(none, 0)
    np.testing.assert_array_equal(losses, alone + penalties)
