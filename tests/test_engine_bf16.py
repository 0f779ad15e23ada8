"""Engines in precision "bf16": exact where nothing but operands rounds, else within derived bounds.

Every compiled module that has it is tested for itself, beside the reference engine. The judge of a
rounding is `nearest`, in exact integer arithmetic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from engine_cases import (
    BF16_ENGINES,
    OPTIMIZERS,
    THREAD_SHAPES,
    Array,
    Case,
    assert_keeps_and_restores,
    cut_at,
    epoch,
    everything,
    forward,
    gradient,
    jacobian,
    make_case,
    make_engine,
    oracle,
    smooth_case,
)
from error_bounds import assert_within, bounds, step_error

from fastbp import activations, losses
from fastbp.engines import Engine, Plan, create, jit, native
from fastbp.engines.reference import ReferenceEngine, round_to_bf16
from fastbp.optimizers import SGD, Adam, step_sizes
from fastbp.stages import dense

engines = pytest.mark.parametrize("name", BF16_ENGINES)


def bf16_case(*args: Any, **kwargs: Any) -> Case:
    return make_case(*args, **kwargs, dtype="float32", precision="bf16")


# ---- rounding ----------------------------------------------------------------------------------


def nearest(x: float) -> float:
    """The nearest number of 8 significant bits, none below 2⁻¹³³; of two, the one that is even."""
    if x == 0 or not math.isfinite(x):
        return x
    place = max(math.frexp(x)[1] - 8, -133)
    count = round(Fraction(x) / Fraction(2) ** place)  # Python's round: ties to even
    if abs(count) * Fraction(2) ** place >= 2**128:
        return math.copysign(math.inf, x)
    return math.copysign(math.ldexp(abs(count), place), x)


def rounded(a: Array) -> Array:
    """`nearest` of every element, in float64."""
    return np.array([nearest(x) for x in a.ravel().tolist()]).reshape(a.shape)


def test_rounding_is_to_nearest_ties_to_even() -> None:
    # every sign and exponent (subnormals, infinities, NaNs) with significands about ties and carries
    parts = [0, 1], range(256), [0, 1, 2, 63, 126, 127], [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    patterns = [
        sign << 31 | exponent << 23 | high << 16 | low
        for sign, exponent, high, low in itertools.product(*parts)
    ]
    anything = np.arange(0, 2**32, 100_003)
    x = np.concatenate([patterns, anything]).astype(np.uint32).view(np.float32)
    got = round_to_bf16(x)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, rounded(x))  # NaN where NaN
    nan = np.isnan(x)
    np.testing.assert_array_equal(np.signbit(got[~nan]), np.signbit(x[~nan]))
    np.testing.assert_array_equal(round_to_bf16(got), got)


def test_rounding_leaves_its_argument_and_takes_any_layout() -> None:
    a = np.linspace(-3, 3, 60, dtype=np.float32).reshape(6, 10)
    before = a.copy()
    for view in (a, a.T, a[::2, 3:], np.broadcast_to(a[:1], (4, 10)), a[:0]):
        np.testing.assert_array_equal(round_to_bf16(view), rounded(view))
    np.testing.assert_array_equal(a, before)


# ---- to the last bit ---------------------------------------------------------------------------

WIDTHS = [
    (1, 1),
    (2, 3),
    (3, 1, 2),
    (130, 17),
    (1, 130, 1),
    (130, 1, 130),
    (15, 16, 17),
    (31, 33, 32),
    (47, 63, 65),
    (64, 64, 64),
    (33, 130, 65, 3),
    (17, 47, 130, 2),
    (16, 31, 15, 33, 2),
]
ROWS = [1, 2, 3, 31, 32, 33, 65, 113, 129, 257]
KINDS = ("relu", "leaky_relu", "identity")


def integer_case(
    sizes: tuple[int, ...], rows: int, first_kind: int = 0, **plan_fields: Any
) -> Case:
    """Small integers, and halves from leaky_relu: no operand has more than 8 bits, no sum rounds.

    Weights of samples sum up to a power of 2. Residuals are −1, 0 and 1, in both losses.
    """
    rng = np.random.default_rng(rows + sum(sizes))
    hidden = tuple(
        activations.Activation("leaky_relu", 0.5) if kind == "leaky_relu" else kind
        for kind in itertools.islice(
            itertools.cycle(KINDS), first_kind, first_kind + len(sizes) - 2
        )
    )
    case = bf16_case(sizes, hidden, rows=rows, **plan_fields)

    def ternary(*shape: int, zeros: float = 1 / 3) -> Array:
        drawn = rng.choice([-1, 0, 1], shape, p=[(1 - zeros) / 2, zeros, (1 - zeros) / 2])
        return drawn.astype(np.float32)

    parameters = []
    for layer, (k, n) in enumerate(itertools.pairwise(sizes)):
        # Sums of about 10 terms keep to 8 bits through all layers; the first one's may be longer.
        terms = (30 if layer == 0 else 10) / math.sqrt(k * n)
        parameters.append(ternary(n, k + 1, zeros=max(1 / 3, 1 - terms)))
    weight = np.ones(rows, np.float32)
    weight[: (1 << (rows - 1).bit_length()) - rows] = 2
    case = replace(case, parameters=parameters, X=ternary(rows, sizes[0]), sample_weight=weight)
    y = forward(oracle(case), case.X.astype("f8")) - ternary(rows, sizes[-1])
    return replace(case, y=y.astype(np.float32))


def assert_same(got: list[Array], wanted: list[Array]) -> None:
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@engines
@pytest.mark.parametrize("sizes", WIDTHS, ids=str)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("first_kind", range(3))
def test_small_integers_are_exact(
    name: str, sizes: tuple[int, ...], rows: int, first_kind: int
) -> None:
    case = integer_case(sizes, rows, first_kind, batch_size=rows)
    exact = case.astype("float64")
    engine, reference = make_engine(name, case), oracle(case)
    np.testing.assert_array_equal(forward(engine, case.X), forward(reference, exact.X))
    loss, g = gradient(engine, case)
    wanted_loss, wanted = gradient(reference, exact)
    assert loss == wanted_loss == engine.loss(case.X, case.y, case.sample_weight)
    assert_same(g, wanted)
    np.testing.assert_array_equal(jacobian(engine, case.X[:3]), jacobian(reference, exact.X[:3]))
    applied, step_losses = epoch(engine, case, 0.125)
    wanted_applied, wanted_losses = epoch(reference, exact, 0.125)
    assert applied == wanted_applied == 1
    np.testing.assert_array_equal(step_losses, wanted_losses)
    assert_same(engine.get_parameters(), reference.get_parameters())


@engines
@pytest.mark.parametrize("sizes", [s for s in WIDTHS if len(s) > 2], ids=str)
@pytest.mark.parametrize("rows", [1, 33, 129])
def test_a_step_with_dropout_is_exact(name: str, sizes: tuple[int, ...], rows: int) -> None:
    # p = ½ scales by 2; slopes of ±1 stay small however far f moves
    case = integer_case(sizes, rows, batch_size=rows, dropout=(0.5,) * (len(sizes) - 2), seed=7)
    case = replace(case, plan=replace(case.plan, loss=losses.get("absolute_error")))
    engine, reference = make_engine(name, case), oracle(case)
    _, step_losses = epoch(engine, case, 0.125)
    _, wanted_losses = epoch(reference, case.astype("float64"), 0.125)
    np.testing.assert_array_equal(step_losses, wanted_losses)
    assert_same(engine.get_parameters(), reference.get_parameters())


def uneven(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> Array:
    """Numbers about 1: ties between two of 8 bits, and what is 2⁻ᵇⁱᵗˢ on either side of one."""
    tie = 1 + rng.choice([1, 3, 5], shape) * 2.0**-8
    return np.asarray(tie + rng.integers(-1, 2, shape) * 2.0**-bits, np.float32)


@engines
@pytest.mark.parametrize(
    ("sizes", "rows"), [((66, 33, 5), 16), ((97, 17, 3), 8), ((120, 65, 2), 1)]
)
@pytest.mark.parametrize("hidden", KINDS)
def test_every_operand_is_rounded_once_to_nearest(
    name: str, sizes: tuple[int, ...], rows: int, hidden: str
) -> None:
    """By hand: x, W, v and δ about ties of their rounding, so placed that no sum rounds.

    Sums have no small ones among them: all terms of a z have one sign, and so have those of a δ.
    """
    rng = np.random.default_rng(rows)
    n_0, n_1, n_2 = sizes
    slope_below = {"relu": 0.0, "leaky_relu": 0.5, "identity": 1.0}[hidden]
    phi = activations.Activation(hidden, 0.5) if hidden == "leaky_relu" else hidden
    case = bf16_case(sizes, phi, rows=rows, batch_size=rows)
    sign_1, sign_2 = rng.choice([-1, 1], n_1), rng.choice([-1, 1], n_1)
    W_1 = uneven(rng, (n_1, n_0), 20) * sign_1[:, None]
    W_2 = uneven(rng, (n_2, n_1), 20) * sign_2
    b_1, b_2 = (np.full(n, 1 + 2.0**-10) for n in (n_1, n_2))  # not of 8 bits
    X = uneven(rng, (rows, n_0), 20)
    residual = uneven(rng, (rows, n_2), 10) * rng.choice([-1, 1], (rows, 1))

    z_1 = rounded(X) @ rounded(W_1).T + b_1
    slope = np.where(z_1 > 0, 1, slope_below)
    v_1 = slope * z_1
    f = rounded(v_1) @ rounded(W_2).T + b_2
    y = f - residual
    delta_2 = rounded(residual / rows)
    delta_1 = rounded(slope * (delta_2 @ rounded(W_2)))
    wanted = [
        np.column_stack([delta_1.T @ rounded(X), delta_1.sum(axis=0)]),
        np.column_stack([delta_2.T @ rounded(v_1), delta_2.sum(axis=0)]),
    ]
    J = rounded(rounded(W_2) * slope[:, None]) @ rounded(W_1)

    parameters = [np.column_stack(p).astype(np.float32) for p in ((W_1, b_1), (W_2, b_2))]
    case = replace(case, parameters=parameters, X=X, y=y.astype(np.float32))
    engine = make_engine(name, case)
    np.testing.assert_array_equal(forward(engine, case.X), f)
    loss, g = gradient(engine, case)
    # a sum of squares: every term and every partial sum rounds
    squares = 0.5 * (residual.astype("f8") ** 2).sum() / rows
    assert loss == pytest.approx(squares, rel=residual.size * 2.0**-24)
    assert_same(g, wanted)
    np.testing.assert_array_equal(jacobian(engine, case.X), J)


@engines
def test_a_bias_is_not_rounded(name: str) -> None:
    case = bf16_case((3, 4, 2), "identity", rows=5)
    parameters = [np.zeros_like(W) for W in case.parameters]
    b = np.array([1 + 2.0**-20, -(2.0**-3) - 2.0**-25], np.float32)
    parameters[-1][:, -1] = b
    engine = make_engine(name, replace(case, parameters=parameters))
    np.testing.assert_array_equal(forward(engine, case.X), np.tile(b, (5, 1)))


@engines
def test_parameters_are_float32_in_and_out(name: str) -> None:
    case = bf16_case((17, 33, 5), "relu", rows=4, batch_size=4)
    assert not np.array_equal(case.parameters[0], round_to_bf16(case.parameters[0]))
    engine = make_engine(name, case)
    assert_same(engine.get_parameters(), case.parameters)
    # A step far below the spacing of bfloat16 is kept.
    _, g = gradient(engine, case)
    rate = 2.0**-14
    assert epoch(engine, case, rate)[0] == 1
    for W, before, slope in zip(engine.get_parameters(), case.parameters, g, strict=True):
        wanted = before.astype("f8") - rate * slope.astype("f8")
        # one rounding of W, two of the step
        eps = np.finfo(np.float32).eps
        assert_within(W, wanted, eps * (np.abs(before) + np.abs(rate * slope)), before)
        assert not np.array_equal(W, before)


@engines
def test_a_linear_network_s_jacobian_is_its_rounded_weights(name: str) -> None:
    case = bf16_case((5, 3), (), rows=4)
    wanted = rounded(case.parameters[0][:, :-1])
    got = jacobian(make_engine(name, case), case.X)
    np.testing.assert_array_equal(got, np.broadcast_to(wanted, (4, 3, 5)))


@engines
def test_the_jacobian_is_rounded_from_layer_to_layer(name: str) -> None:
    # By hand, as above: no sum has terms of both signs, so none rounds.
    rng = np.random.default_rng(0)
    case = bf16_case((37, 19, 5, 3), "identity", rows=2)
    W_1, W_2, W_3 = (
        uneven(rng, W[:, :-1].shape, 20) * rng.choice([-1, 1], (1, W.shape[1] - 1))
        for W in case.parameters
    )
    W_2 *= np.sign(W_3[0])[:, None]
    W_1 *= np.sign(W_2[0] * np.sign(W_3[0, 0] * W_2[0, 0]))[:, None]
    middle = rounded(W_3) @ rounded(W_2)
    assert not np.array_equal(middle, rounded(middle))
    wanted = rounded(middle) @ rounded(W_1)
    parameters = [np.column_stack([W, np.ones(len(W))]).astype(np.float32) for W in (W_1, W_2, W_3)]
    engine = make_engine(name, replace(case, parameters=parameters))
    np.testing.assert_array_equal(jacobian(engine, case.X), np.broadcast_to(wanted, (2, 3, 37)))


# ---- within bounds -----------------------------------------------------------------------------


def check_against_float64(name: str, case: Case) -> None:
    engine, exact = make_engine(name, case), case.astype("float64")
    reference, limit = oracle(case), bounds(case, with_jacobian=True)
    wanted_loss, wanted = gradient(reference, exact)
    loss, g = gradient(engine, case)
    assert_within(loss, wanted_loss, limit.loss)
    assert_within(engine.loss(case.X, case.y, case.sample_weight), wanted_loss, limit.loss)
    for a, b, bound in zip(g, wanted, limit.gradient, strict=True):
        assert_within(a, b, bound)
    assert_within(forward(engine, case.X), forward(reference, exact.X), limit.f)
    assert_within(jacobian(engine, case.X), jacobian(reference, exact.X), limit.jacobian)


ALL_ACTIVATIONS = [
    *activations.ACTIVATIONS,
    activations.Activation("leaky_relu", 0.3),
    activations.Activation("elu", 0.4),
]


@engines
@pytest.mark.parametrize("activation", ALL_ACTIVATIONS, ids=str)
@pytest.mark.parametrize("loss", losses.LOSSES)
def test_matches_float64(name: str, activation: Any, loss: str) -> None:
    options: dict[str, Any] = {"rows": 13, "weighted": True, "l1": 0.02, "l2": 0.1}
    case = smooth_case((5, 7, 6, 3), activation, loss, dtype="float32", precision="bf16", **options)
    if loss == "absolute_error":  # residuals whose sign no rounding changes
        f = forward(oracle(case), case.X.astype("f8"))
        far = f - np.copysign(np.maximum(np.abs(f - case.y), 0.5), f - case.y)
        case = replace(case, y=far.astype(np.float32))
    check_against_float64(name, case)


@engines
@pytest.mark.parametrize("sizes", WIDTHS, ids=str)
@pytest.mark.parametrize("rows", [0, 1, 33, 129])
def test_shapes_match_float64(name: str, sizes: tuple[int, ...], rows: int) -> None:
    loss = "softmax_cross_entropy" if sizes[-1] > 1 else "binary_cross_entropy"
    hidden = tuple(itertools.islice(itertools.cycle(["tanh", "gelu", "silu"]), len(sizes) - 2))
    labels = sizes[-1] > 1 and rows % 2 == 1
    check_against_float64(name, bf16_case(sizes, hidden, loss, rows=rows, labels=labels))


@engines
def test_an_output_s_error_is_that_of_its_operands(name: str) -> None:
    """Without hidden layers, f is the sum of the products of rounded numbers, but for float32's u."""
    case = bf16_case((257, 19), (), rows=70)
    W = np.column_stack([rounded(case.parameters[0][:, :-1]), case.parameters[0][:, -1]])
    x = np.column_stack([rounded(case.X), np.ones(70)])
    # |error| ≤ k u Σ|terms|, in any order
    limit = x.shape[1] * 2.0**-24 * (np.abs(x) @ np.abs(W).T)
    assert_within(forward(make_engine(name, case), case.X), x @ W.T, limit)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weighted": {"weighted": True},
    "penalties": {"l1": 0.02, "l2": 0.1},
    "clip": {"clip_norm": 0.5, "l2": 0.1},
    "dropout": {"dropout": (0.125, 0.25), "seed": 5},
    "labels": {"labels": True, "loss": "softmax_cross_entropy", "weighted": True},
}


def unrounded(case: Case) -> Case:
    return replace(case, plan=replace(case.plan, precision=None))


def with_step(case: Case, count: int) -> Engine:
    """The float64 engine after so many steps, which dropout depends on."""
    engine = oracle(case)
    slots = [[np.zeros_like(W) for W in case.parameters]] * case.plan.optimizer.slots
    engine.set_optimizer_state(count, slots)
    return engine


def gradient_of_a_step(name: str, case: Case, engine: Engine, order: Array) -> list[Array]:
    """What the engine's next step takes for the gradient: a long step of SGD shows it.

    Penalties and dropout are in it, clipping is not. Of the rounding of W, 2⁻¹⁰ is left in g.
    """
    before = engine.get_parameters()
    probe = make_engine(name, replace(case, parameters=before), optimizer=SGD(), clip_norm=0.0)
    probe.set_optimizer_state(engine.get_optimizer_state()[0], [])
    assert epoch(probe, case, 1024.0, order)[0] == 1
    after = probe.get_parameters()
    return [(W.astype("f8") - V) / 1024 for W, V in zip(before, after, strict=True)]


@engines
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("option", OPTIONS)
def test_each_step_is_the_optimizer_s_of_a_gradient_near_float64(
    name: str, optimizer: str, option: str
) -> None:
    """Rounding to 8 bits moves a gradient far, but what is made of it is float32's arithmetic."""
    kind, amplification, rate = OPTIMIZERS[optimizer]
    fields: dict[str, Any] = {"rows": 23, "batch_size": 6, "optimizer": kind}
    case = bf16_case((37, 45, 23, 5), ("tanh", "gelu"), **fields, **OPTIONS[option])
    exact = case.astype("float64")
    engine, judge = make_engine(name, case), oracle(case)
    u = 2.0**-24
    for order in np.split(np.arange(23), [6, 12, 18]):
        before = engine.get_parameters()
        count, slots = engine.get_optimizer_state()
        g = gradient_of_a_step(name, case, engine, order)

        # g is near what float64 makes of the same weights, which have moved little
        near = replace(exact, parameters=[W.astype("f8") for W in before])
        wanted = gradient_of_a_step("reference", unrounded(near), with_step(near, count), order)
        for got, want in zip(g, wanted, strict=True):
            assert_within(got, want, step_error(case))

        assert epoch(engine, case, rate, order)[0] == 1
        judge.set_parameters(before)
        judge.set_optimizer_state(count, slots)
        (eta,) = step_sizes(case.plan.optimizer, count + 1, np.array([rate]))
        judge._update([a.copy() for a in g], rate, float(eta))
        # The sums of a step may be in another order than the probe's: 6 roundings of Σ|δ v|, at most
        # 8 · 4 in these problems; 16 roundings of the weights, steps and averages themselves.
        error = 6 * u * 32
        for W, want, idle in zip(
            engine.get_parameters(), judge.get_parameters(), before, strict=True
        ):
            limit = rate * amplification * error + 16 * u * np.abs(want).max()
            assert_within(W, want, limit, idle)
        slope = rate if isinstance(kind, SGD) else 4  # of u, m and s from g, |g| below 2
        state = engine.get_optimizer_state()[1], judge.get_optimizer_state()[1], slots
        for got_slot, wanted_slot, idle_slot in zip(*state, strict=True):
            for got, want, idle in zip(got_slot, wanted_slot, idle_slot, strict=True):
                assert_within(got, want, slope * error + 16 * u * np.abs(want).max(), idle)


@engines
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_update_leaves_what_a_new_engine_has(name: str, optimizer: str, option: str) -> None:
    kind, _, rate = OPTIMIZERS[optimizer]
    fields: dict[str, Any] = {"rows": 23, "batch_size": 6, "optimizer": kind}
    case = bf16_case((37, 45, 23, 5), ("tanh", "gelu"), **fields, **OPTIONS[option])
    engine = make_engine(name, case)
    assert epoch(engine, case, rate)[0] == 4
    anew = make_engine(name, replace(case, parameters=engine.get_parameters()))
    np.testing.assert_array_equal(forward(engine, case.X), forward(anew, case.X))
    np.testing.assert_array_equal(jacobian(engine, case.X[:3]), jacobian(anew, case.X[:3]))
    (loss, g), (same_loss, same) = gradient(engine, case), gradient(anew, case)
    assert loss == same_loss
    assert_same(g, same)
    anew.set_optimizer_state(*engine.get_optimizer_state())
    epoch(engine, case, rate)
    epoch(anew, case, rate)
    assert_same(engine.get_parameters(), anew.get_parameters())


# ---- the edges ---------------------------------------------------------------------------------


@engines
def test_beyond_the_largest_is_infinite_and_ends_the_epoch(name: str) -> None:
    """3.4e38 is a float32 number, but its nearest in bfloat16 is infinity."""
    case = bf16_case((2, 1), (), rows=8, batch_size=4)
    X = np.ones_like(case.X)
    X[5] = 3.4e38, 1
    tiny = [np.array([[2.0**-100, 1, 0]], np.float32)]
    case = replace(case, X=X, parameters=tiny)
    assert np.isfinite(forward(ReferenceEngine(replace(case.plan, precision=None)), X)).all()
    engine = make_engine(name, case)
    np.testing.assert_array_equal(np.isinf(forward(engine, X)[:, 0]), np.arange(8) == 5)
    applied, step_losses = epoch(engine, case, 2.0**-10)
    assert applied == 1
    assert math.isfinite(step_losses[0])
    assert not math.isfinite(step_losses[1])
    assert engine.get_optimizer_state()[0] == 1
    assert np.isfinite(engine.get_parameters()[0]).all()


@pytest.mark.parametrize("engine", ["auto", "native", "jit", "reference"])
@pytest.mark.parametrize(
    ("precision", "dtype", "message"),
    [
        ("bf16", "float64", "precision 'bf16' needs dtype 'float32', but dtype is 'float64'"),
        ("fp8", "float32", "precision must be None or 'bf16', got 'fp8'"),
        (16, "float32", "precision must be None or 'bf16', got 16"),
    ],
)
def test_plans_that_no_engine_takes(engine: str, precision: Any, dtype: str, message: str) -> None:
    plan = Plan(dense((2, 1), ()), losses.get("huber"), dtype=dtype, precision=precision)
    with pytest.raises(ValueError, match=message):
        create(plan, engine)


def test_the_jit_engine_has_no_bf16() -> None:
    pytest.importorskip("numba", reason="without it the engine says so first")
    plan = Plan(dense((2, 1), ()), losses.get("huber"), precision="bf16")
    for call in (lambda: create(plan, "jit"), lambda: jit.warm_up(plan)):
        with pytest.raises(ValueError, match="engine 'jit' has no precision 'bf16'"):
            call()
    assert create(plan, "auto").plan.precision == "bf16"
    assert isinstance(create(plan, "reference"), ReferenceEngine)


# ---- threads -----------------------------------------------------------------------------------


@pytest.fixture(params=[1, 10**6], ids=["by rows", "by columns"])
def cut(request: pytest.FixtureRequest) -> Iterator[int]:
    """Let the compiled modules start all the threads they may, and cut a step both ways."""
    with patch.dict(native.COSTS, cut_at(request.param)):
        yield request.param


def train(name: str, shape: str, threads: int, cut: int) -> list[Array]:
    case = bf16_case(**THREAD_SHAPES[shape], threads=threads)
    return everything(make_engine(name, case), case)


one_thread = cache(train)


@engines
@pytest.mark.parametrize("shape", THREAD_SHAPES)
@pytest.mark.parametrize("threads", [1, 2, 5])  # 1: from run to run
def test_bits_do_not_depend_on_threads(name: str, shape: str, threads: int, cut: int) -> None:
    assert_same(train(name, shape, threads, cut), one_thread(name, shape, 1, cut))


# ---- parameters kept ----------------------------------------------------------------------------


@engines
def test_what_was_kept_comes_back(name: str) -> None:
    case = bf16_case((35, 33, 7), "tanh", rows=21, batch_size=4, optimizer=Adam())
    assert_keeps_and_restores(make_engine(name, case), make_engine(name, case), case)


# ---- after a divergence ------------------------------------------------------------------------


@engines
def test_new_parameters_leave_nothing_of_a_divergence(name: str) -> None:
    """An odd number of units: a NaN past the last column would meet it in a pair."""
    case = bf16_case((4, 33, 33, 1), "relu", rows=16, batch_size=8)
    engine = make_engine(name, case)
    engine.set_parameters([np.full_like(W, 1e30) for W in case.parameters])
    epoch(engine, case, 1e30)
    engine.set_parameters(case.parameters)
    fresh = make_engine(name, case)
    for got, wanted in zip(gradient(engine, case)[1], gradient(fresh, case)[1], strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", BF16_ENGINES[1:])
def test_an_epsilon_below_float32_does_not_spoil_what_has_no_gradient(name: str) -> None:
    case = bf16_case((5, 33, 3), "relu", rows=16, batch_size=8, optimizer=Adam(epsilon=1e-46))
    engine = make_engine(name, case)
    for _ in range(5):
        epoch(engine, case, 0.01)
    assert all(np.isfinite(W).all() for W in engine.get_parameters())
