"""Activations and losses written in Python: derivatives, both engines, errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    Case,
    epoch,
    forward,
    gradient,
    jacobian,
    make_case,
    make_engine,
    with_activations,
)
from error_bounds import assert_within, bounds

import fastbp
from fastbp.activations import Activation
from fastbp.engines import create, jit, native
from fastbp.engines.jit.functions import evaluate_activation
from fastbp.losses import Loss

pytestmark = pytest.mark.skipif(not jit.available(), reason=jit.reason())
dtypes = pytest.mark.parametrize("dtype", DTYPES)
ENGINES = ["jit", "reference", *(["native"] if native.available() else [])]
users = pytest.mark.parametrize("name", ENGINES)
compiled = pytest.mark.parametrize("name", [e for e in ENGINES if e != "reference"])


def my_mish(z):
    return z * math.tanh(math.log1p(math.exp(z)))


def squareplus(z):
    return 0.5 * (z + math.sqrt(z * z + 4))


def silu(z):
    return z / (1 + np.exp(-z))


def softplus(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def elu(z):
    if z > 0:
        return z
    return math.expm1(z)


def gelu(z):
    return 0.5 * z * (1 + math.erf(z / math.sqrt(2)))


def rational(z):
    return z**3 / (1 + z**2) - 2 ** (-abs(z)) + math.sin(z) * math.cos(z) + math.atan(+z)


def bent(z):
    return np.where(z > 1, 2 * z - 1, min(z, 1.0)) + np.log(2 + np.tanh(z))


def powers(z):
    return z**2.0 - abs(z / 4) ** 3.5 + (1 + z * z) ** -0.75 + max(z / 4, 0.0) ** 3.5


FUNCTIONS = [my_mish, squareplus, silu, softplus, elu, gelu, rational, bent, powers]


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_values_and_derived_derivatives(f: Callable[[float], float]) -> None:
    from fastbp.engines.jit.functions import evaluate_activation

    z = np.linspace(-8, 8, 200) + 0.0123
    made = fastbp.activation(f, name=f"my_{f.__name__}")
    h = 6e-6  # error of a central difference: h² f'''/6 + u f/h, least at h ≈ u^(1/3)
    difference = np.array([(f(x + h) - f(x - h)) / (2 * h) for x in z.tolist()])
    wanted = np.array([f(x) for x in z.tolist()])
    for dtype in DTYPES:
        value, slope = evaluate_activation(made, z.astype(dtype))
        assert value.dtype == slope.dtype == dtype
        # some ten roundings, and that of z, of terms of the size of z
        limit = 32 * np.finfo(dtype).eps * (1 + np.abs(z))
        assert_within(value, wanted, limit * (1 + np.abs(difference)))
        assert_within(slope, difference, 16 * limit + 1e-9 * (1 + np.abs(z)))


@pytest.mark.parametrize("n", [0, 1, 2, 3, -1, -2, 64, 65, 100, 101, 3.0, 66.0])
def test_whole_powers_of_any_number(n: float) -> None:
    z = np.array([-1.5, -1.0, -0.7, 0.3, 1.0, 1.9])
    value, slope = evaluate_activation(fastbp.activation(lambda z: (z / 4) ** n, name="power"), z)
    # n products, or n log z, which is at most 3 n here, rounded before its exponential
    limit = (4 * abs(n) + 16) * float(np.finfo("f8").eps)
    np.testing.assert_allclose(value, (z / 4) ** n, rtol=limit)
    np.testing.assert_allclose(slope, n / 4 * (z / 4) ** (n - 1.0), rtol=limit)


def test_powers_at_zero() -> None:
    from fastbp.engines.jit.functions import evaluate_activation

    for f, wanted in (
        (lambda z: abs(z) ** 1.5, (0, 0)),
        (lambda z: z**2.0, (0, 0)),
        (lambda z: z**1.0, (0, 1)),
        (lambda z: z**0.0, (1, 0)),
        (lambda z: abs(z - 1) ** 0.5, (1, -0.5)),
        (lambda z: 2.0**z, (1, math.log(2))),
    ):
        value, slope = evaluate_activation(fastbp.activation(f, name="power"), np.zeros(1))
        assert (value[0], slope[0]) == pytest.approx(wanted)


@compiled
@dtypes
@pytest.mark.parametrize("formula", ["silu", "softplus", "elu", "gelu"])
def test_a_copy_of_a_built_in_trains_as_the_built_in(dtype: str, formula: str, name: str) -> None:
    """The same formula: gradients agree within the bounds of rounding."""
    case = make_case((5, 37, 18, 3), formula, dtype=dtype, rows=13, weighted=True)
    mine = fastbp.activation(globals()[formula], name=f"my_{formula}")
    copy = replace(case, plan=with_activations(case.plan, mine, mine))
    limit = bounds(case, with_jacobian=True)
    engine, other = make_engine(name, case), make_engine(name, copy)
    loss, g = gradient(engine, case)
    other_loss, other_g = gradient(other, copy)
    assert_within(loss, other_loss, 2 * limit.loss)
    for a, b, within in zip(other_g, g, limit.gradient, strict=True):
        assert_within(a, b.astype("f8"), 2 * within)
    assert_within(forward(other, case.X), forward(engine, case.X).astype("f8"), 2 * limit.f)
    assert_within(
        jacobian(other, case.X), jacobian(engine, case.X).astype("f8"), 2 * limit.jacobian
    )


@users
def test_gradient_with_mish_is_the_central_difference(name: str) -> None:
    case = make_case((4, 6, 2), "tanh", dtype="float64", rows=7)
    case = replace(case, plan=with_activations(case.plan, fastbp.activation(my_mish)))
    engine = make_engine(name, case)
    _, g = gradient(engine, case)
    h = 6e-6
    for layer, index in ((0, (3, 2)), (0, (5, 4)), (1, (1, 6)), (1, (0, 0))):
        ends = []
        for step in (h, -h):
            moved = [p.copy() for p in case.parameters]
            moved[layer][index] += step
            engine.set_parameters(moved)
            ends.append(engine.loss(case.X, case.y, None))
        assert g[layer][index] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-7, abs=1e-9)


def quantile(f, y):
    return max(0.9 * (y - f), 0.1 * (f - y))


def squared(f, y):
    return 0.5 * (f - y) ** 2


def squared_slope(f, y):
    return f - y


@dtypes
@pytest.mark.parametrize("derivative", [None, squared_slope])
@users
def test_a_copy_of_squared_error(name: str, dtype: str, derivative: object) -> None:
    case = make_case((5, 9, 3), "tanh", dtype=dtype, rows=21, weighted=True, batch_size=5)
    mine = fastbp.loss(squared, derivative, name="my_squared_error")  # type: ignore[arg-type]
    copy = replace(case, plan=replace(case.plan, loss=mine))
    limit = bounds(case)
    loss, g = gradient(make_engine(name, case), case)
    other_loss, other_g = gradient(make_engine(name, copy), copy)
    assert_within(loss, other_loss, 2 * limit.loss)
    for a, b, within in zip(other_g, g, limit.gradient, strict=True):
        assert_within(a, b.astype("f8"), 2 * within)
    assert epoch(make_engine(name, copy), copy)[0] == 5


@users
def test_quantile_loss_finds_the_quantile(name: str) -> None:
    rng = np.random.default_rng(0)
    X, y = np.zeros((400, 1)), rng.standard_normal(400)
    loss = fastbp.loss(quantile)
    model = fastbp.MLP([1, 1], loss=loss, engine=name, dtype="float64", seed=0)
    model.fit(X, y, epochs=300, batch_size=400, learning_rate=0.5, shuffle=False)
    # the subgradient is 0 where 90 % of y is below
    assert np.mean(y < model.predict([[0]])[0]) == pytest.approx(0.9, abs=0.02)


@compiled
def test_link_of_a_loss(name: str) -> None:
    def log_loss(f, y):
        return max(f, 0.0) - y * f + math.log1p(math.exp(-abs(f)))

    case = make_case((3, 4, 2), "tanh", "binary_cross_entropy", dtype="float32")
    mine = fastbp.loss(log_loss, link="sigmoid")
    engine = create(replace(case.plan, loss=mine), name)
    engine.set_parameters(case.parameters)
    wanted = forward(make_engine(name, case), case.X, link=True)
    np.testing.assert_array_equal(forward(engine, case.X, link=True), wanted)


@compiled
@dtypes
def test_bits_do_not_depend_on_threads(dtype: str, name: str) -> None:
    case = make_case((200, 301, 310), "tanh", dtype=dtype, rows=256, batch_size=128)
    plan = with_activations(case.plan, fastbp.activation(my_mish))
    weights = []
    for threads in (1, 2, 3):
        engine = make_engine(
            name, Case(plan, case.parameters, case.X, case.y, None), threads=threads
        )
        assert epoch(engine, case)[0] == 2
        weights.append(engine.get_parameters())
    for other in weights[1:]:
        for a, b in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@compiled
def test_slope_of_any_kind_at_zero_stays_in_its_unit(name: str) -> None:
    """φ'(0) = inf: columns that are not there must not reach the norm that clips."""

    def root(z):
        return math.sqrt(abs(z))

    case = make_case((3, 5, 2), "tanh", rows=8, batch_size=8, clip_norm=0.5)
    plan = with_activations(case.plan, fastbp.activation(root))
    engine = make_engine(name, replace(case, plan=plan))
    assert epoch(engine, case)[0] == 1
    assert all(np.isfinite(W).all() for W in engine.get_parameters())


def test_auto_takes_an_engine_that_can() -> None:
    model = fastbp.MLP([2, 3, 1], activation=fastbp.activation(my_mish), loss="mse", seed=0)
    assert model.predict([[0, 1]]).shape == (1,)


def calls_what_is_not_there(z):
    return z + no_such_function(z)  # noqa: F821


def asks_for_an_attribute(z):
    return z.real_part


def gives_text(z):
    return "one" if z > 0 else "two"


@pytest.mark.parametrize("f", [asks_for_an_attribute, gives_text])
def test_what_numba_cannot_compile_is_named_with_its_place(f: Callable[[float], float]) -> None:
    with pytest.raises(
        ValueError, match=rf"Numba cannot compile {f.__name__} .*test_jit_functions"
    ):
        fastbp.activation(f)
    with pytest.raises(ValueError, match="Numba cannot compile"):
        fastbp.activation(calls_what_is_not_there)


def test_helpers_that_numba_compiles_stay_the_users() -> None:
    """Compiled before or after, they serve the engine and Python alike."""
    import numba

    @numba.njit
    def three(k):
        return k + 2

    @numba.njit(cache=True)
    def six(k):
        return 2 * three(k)

    @numba.njit
    def scaled(z):
        return z * (0.5, "half")[0] * six(1) * three(1)

    assert three(1) == 3
    activation = fastbp.activation(lambda z: scaled(z), name="scaled")
    v, slope = evaluate_activation(activation, np.ones(3))
    np.testing.assert_array_equal([v, slope], np.full((2, 3), 9.0))
    assert (three(1), six(1), scaled(2.0)) == (3, 6, 18.0)


def test_a_wrong_derivative_is_found() -> None:
    with pytest.raises(ValueError, match=r"'squareplus': the derivative at .* central differences"):
        fastbp.activation(squareplus, lambda z: 0.5 * (1 + z))
    with pytest.raises(ValueError, match=r"'quantile': the derivative at"):
        fastbp.loss(quantile, lambda f, y: 0.1 if f > y else 0.9)


def test_where_a_derivative_is_checked() -> None:
    for low, high, place in ((-9.0, 9.0, "-5.9863"), (5.9, 9.0, "6.0137")):
        with pytest.raises(ValueError, match=rf"derivative at {place} is"):
            fastbp.activation(lambda z: z, lambda z, a=low, b=high: 0.5 if a < z < b else 1.0)
        with pytest.raises(ValueError, match=rf"derivative at {place}, 0 is"):
            fastbp.loss(
                squared, lambda f, y, a=low, b=high: 99.0 if a < f < b and y == 0 else f - y
            )
    for target in (0.0, 1.0, 2.5, -1.25):
        with pytest.raises(ValueError, match=rf"derivative at -5\.9863, {target:g} is"):
            fastbp.loss(squared, lambda f, y, t=target: 99.0 if y == t else f - y)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: fastbp.activation(3), TypeError, "f must be a Python function"),
        (lambda: fastbp.activation(math.tanh), TypeError, "f must be a Python function"),
        (lambda: fastbp.activation(my_mish, derivative=1), TypeError, "derivative must be"),
        (lambda: fastbp.activation(my_mish, name="tanh"), ValueError, "name must not be"),
        (lambda: fastbp.activation(my_mish, name=""), TypeError, "name must be"),
        (lambda: fastbp.activation(lambda z: math.nan), ValueError, "not finite at any of 49 "),
        (lambda: fastbp.loss(lambda f, y: math.nan), ValueError, "not finite at any of 196 "),
        (lambda: fastbp.loss(quantile, name="mse"), ValueError, "name must not be"),
        (lambda: fastbp.loss(quantile, link="logit"), ValueError, "unknown link"),
    ],
)
def test_bad_registrations(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()


def make(factor: float) -> Activation:
    return fastbp.activation(lambda z: factor * z, lambda z: factor, name="scaled")


def make_loss(factor: float) -> Loss:
    return fastbp.loss(
        lambda f, y: factor * (f - y) ** 2, lambda f, y: 2 * factor * (f - y), name="squares"
    )


def test_equality_is_by_what_the_functions_do() -> None:
    assert make_loss(2.0) == make_loss(2.0) != make_loss(3.0)
    assert repr(make_loss(2.0)) == "Loss(name='squares', parameter=0.0)"
    assert repr(make(2.0)) == "Activation(name='scaled', parameter=0.0)"
    assert make(2.0) == make(2.0)
    assert make(2.0) != make(3.0)
    assert make(2.0).fingerprint != make(3.0).fingerprint
    assert fastbp.loss(quantile) == fastbp.loss(quantile)
    assert isinstance(fastbp.loss(quantile), Loss)
