"""The whole range of the dtype, subnormal to largest, and beyond: activations, losses and links.

z and f are biases, which no engine rounds. A result that is subnormal may be 0, and one that is
beyond the largest number may be infinite; what is wanted is computed in a longer range.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_cases import (
    BF16_ENGINES,
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

from fastbp.activations import ACTIVATIONS, SELU_ALPHA, SELU_SCALE, Activation
from fastbp.engines import Engine
from fastbp.losses import LOSSES, Loss

Wide = np.longdouble

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.skipif(
        np.finfo(Wide).max <= np.finfo("f8").max, reason="the judge needs a longer range"
    ),
]

CONTENDERS = [
    *((name, dtype, None) for dtype in DTYPES for name in EACH_ENGINE),
    *((name, "float32", "bf16") for name in BF16_ENGINES),
]
contenders = pytest.mark.parametrize(("name", "dtype", "precision"), CONTENDERS)


def magnitudes(dtype: str) -> list[float]:
    info = np.finfo(dtype)
    steps = [info.smallest_subnormal, info.tiny, 1e-30, 0.5, 90.0, 750.0, 1e4, 1e30, info.max]
    return [0.0, *map(float, steps), *([1e-300, 1e150, 1e300] if dtype == "float64" else [])]


def finite(dtype: str) -> list[float]:
    return [sign * a for a in magnitudes(dtype) for sign in (1, -1)]


def close(got: Array, wanted: Any, dtype: str, eps: float) -> Array:
    """Within 16 roundings of `eps`; 0 may stand for what is subnormal, ∞ for what is too large."""
    got, wanted = np.asarray(got), np.asarray(wanted, Wide)
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        near = np.abs(got - wanted) <= 16 * eps * np.abs(wanted) + Wide(info.tiny)
        same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
        beyond = (np.abs(wanted) > info.max * (1 - 16 * eps)) & (got == np.copysign(np.inf, wanted))
    return near | same | beyond


# φ and φ' at a finite z, written so that no step of them overflows or cancels


def logistic(z: Wide) -> Wide:
    return 1 / (1 + np.exp(-z)) if z >= 0 else np.exp(z) / (1 + np.exp(z))


def phi(name: str, z: Wide, a: float) -> tuple[Wide, Wide]:
    cdf = Wide(math.erfc(float(-z) / math.sqrt(2)) / 2)
    one, zero = Wide(1), Wide(0)
    match name:
        case "identity":
            return z, one
        case "sigmoid":
            return logistic(z), logistic(z) * logistic(-z)
        case "tanh":
            return np.tanh(z), 4 * logistic(2 * z) * logistic(-2 * z)
        case "relu":
            return (z, one) if z > 0 else (zero, zero)
        case "leaky_relu":
            return (z, one) if z > 0 else (a * z, Wide(a))
        case "elu":
            return (z, one) if z > 0 else (a * np.expm1(z), a * np.exp(z))
        case "selu":
            scale, below = Wide(SELU_SCALE), Wide(SELU_SCALE) * Wide(SELU_ALPHA)
            return (scale * z, scale) if z > 0 else (below * np.expm1(z), below * np.exp(z))
        case "mish":  # t = tanh(log(1 + e)) of e = exp(z): n / d, and 1 − t is the rest of it
            e = np.exp(-abs(z))
            n, rest = (1 + 2 * e, 2 * e * e) if z >= 0 else (e * (e + 2), Wide(2))
            t = n / (n + rest)
            return z * t, t + z * (rest / (n + rest)) * (1 + t) * logistic(z)
        case "softplus":
            return np.logaddexp(z, zero), logistic(z)
        case "silu":
            return z * logistic(z), logistic(z) * (1 + z * logistic(-z))
        case _:
            bell = np.exp(-(z * z) / 2) / np.sqrt(2 * Wide(math.pi))
            return z * cdf, cdf + z * bell


# and where it is infinite; NaN where only a limit is defined, 0 · ∞
LIMITS: dict[str, tuple[float, float]] = {
    "identity": (math.inf, -math.inf),
    "sigmoid": (1, 0),
    "tanh": (1, -1),
    "relu": (math.inf, 0),
    "leaky_relu": (math.inf, -math.inf),
    "elu": (math.inf, -0.25),
    "softplus": (math.inf, 0),
    "selu": (math.inf, -SELU_SCALE * SELU_ALPHA),
    "silu": (math.inf, 0),
    "mish": (math.inf, 0),
    "gelu": (math.inf, 0),
}


def one_unit(name: str, activation: Activation, dtype: str, precision: str | None) -> Engine:
    case = make_case((1, 1, 1), activation, dtype=dtype, rows=1, precision=precision)
    return make_engine(name, case)


def set_bias(engine: Engine, z: float, dtype: str) -> None:
    engine.set_parameters([np.array([[1, z]], dtype), np.array([[1, 0]], dtype)])


@contenders
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_and_slopes(
    name: str, dtype: str, precision: str | None, activation: str
) -> None:
    a = 0.25 if activation in ("leaky_relu", "elu") else 0.0
    engine = one_unit(name, Activation(activation, a), dtype, precision)
    x = np.zeros((1, 1), dtype)
    eps = 2.0**-8 if precision else float(np.finfo(dtype).eps)
    wrong = []
    for z in finite(dtype):
        set_bias(engine, z, dtype)
        with np.errstate(all="ignore"):
            value, slope = phi(activation, Wide(z), a)
        got, got_slope = forward(engine, x)[0, 0], jacobian(engine, x)[0, 0, 0]
        # a value next to ±α, and a slope that is 1 − v² or v + α, has an error of roundings of 1
        loose = 16 * float(np.finfo(dtype).eps)
        if not close(got, value, dtype, eps) and not (precision and abs(value) > 3.38e38):
            wrong.append(("value", z, got, value))
        # what rounds to 0 in bfloat16 may have the slope of 0
        if precision and 0 < abs(z) < 2.0**-133:
            continue
        if not (close(got_slope, slope, dtype, eps) or abs(got_slope - slope) <= loose):
            wrong.append(("slope", z, got_slope, slope))
    for z, value in zip((math.inf, -math.inf), LIMITS[activation], strict=True):
        set_bias(engine, z, dtype)
        got = forward(engine, x)[0, 0]
        if not close(got, value, dtype, eps) and not math.isnan(got):
            wrong.append(("limit", z, got, value))
    set_bias(engine, math.nan, dtype)
    if not math.isnan(forward(engine, x)[0, 0]):
        wrong.append(("nan", math.nan, forward(engine, x)[0, 0], math.nan))
    assert not wrong


def outputs_case(
    loss: Loss, outputs: int, dtype: str, precision: str | None, **fields: Any
) -> Case:
    case = make_case(
        (1, outputs), (), loss, dtype=dtype, precision=precision, rows=1, batch_size=1, **fields
    )
    return replace(case, X=np.zeros((1, 1), dtype))


def with_outputs(case: Case, f: Any, y: Any) -> Case:
    dtype = case.plan.dtype
    W = np.column_stack([np.zeros(len(f)), f]).astype(dtype)
    y = np.array([y]) if case.y.ndim == 1 else np.array([y], dtype)
    return replace(case, parameters=[W], y=y)


def judge(loss: Loss, f: Array, y: Array) -> tuple[Wide, Array]:
    """ℓ and ∂ℓ/∂f in a longer range."""
    f, y = f.astype(Wide), y.astype(Wide)
    r = f - y
    match loss.name:
        case "squared_error":
            return (r * r / 2).sum(), r
        case "absolute_error":
            return np.abs(r).sum(), np.sign(r)
        case "pinball":
            q = Wide(loss.parameter)
            return np.maximum(-q * r, (1 - q) * r).sum(), np.where(r > 0, 1 - q, -q) * (r != 0)
        case "huber":
            d = Wide(loss.parameter)
            inside = np.abs(r) <= d
            return np.where(inside, r * r / 2, d * (np.abs(r) - d / 2)).sum(), np.clip(r, -d, d)
        case "softmax_cross_entropy":
            e = np.exp(f - f.max())
            return (y * (np.log(e.sum()) + (f.max() - f))).sum(), e / e.sum() - y
        case "binary_cross_entropy":
            low = np.log1p(np.exp(-np.abs(f)))
            value = y * (np.maximum(-f, 0) + low) + (1 - y) * (np.maximum(f, 0) + low)
            return value.sum(), np.array([logistic(a) for a in f]) - y
        case _:
            mu = np.exp(f)
            log_y = np.log(np.where(y > 0, y, 1))
            return (y * (log_y - f) - y + mu).sum(), mu - y


def pairs_of_targets(loss: str) -> list[tuple[float, float]]:
    if loss == "softmax_cross_entropy":
        return [(1.0, 0.0), (0.0, 1.0), (0.25, 0.75)]
    if loss == "binary_cross_entropy":
        return [(0.0, 0.0), (1.0, 0.0), (0.25, 1.0)]
    return [(0.0, 0.0), (1.0, 7.0)]


@contenders
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_their_slopes(name: str, dtype: str, precision: str | None, loss: str) -> None:
    kind = Loss(loss, LOSSES[loss][0])
    case = outputs_case(kind, 2, dtype, precision)
    engine = make_engine(name, case)
    eps = float(np.finfo(dtype).eps)
    slope_eps = 2.0**-8 if precision else eps
    largest = float(np.finfo(dtype).max)
    values, wrong = finite(dtype), []
    for f, y in itertools.product(itertools.product(values, values[::3]), pairs_of_targets(loss)):
        now = with_outputs(case, f, y)
        engine.set_parameters(now.parameters)
        with np.errstate(all="ignore"):
            value, delta = judge(kind, now.parameters[0][:, 1], now.y[0])
        got, (g,) = gradient(engine, now)
        # terms that cancel are of 1; a loss near the largest number may overflow
        # on the way
        near = close(got, value, dtype, eps) or abs(got - value) <= 16 * eps
        if not (near or (not math.isfinite(got) and (value > largest / 4 or np.isnan(value)))):
            wrong.append((f, y, "loss", got, value))
        for a, b in zip(g[:, 1], delta, strict=True):
            if not (close(a, b, dtype, slope_eps) or abs(a - b) <= 16 * eps):
                wrong.append((f, y, "slope", a, b))
    assert not wrong, (len(wrong), wrong[:5])


@contenders
def test_labels_are_as_targets(name: str, dtype: str, precision: str | None) -> None:
    kind = Loss("softmax_cross_entropy")
    eps = float(np.finfo(dtype).eps)
    case, labelled = (outputs_case(kind, 2, dtype, precision, labels=b) for b in (False, True))
    engine = make_engine(name, case)
    values, wrong = finite(dtype), []
    for f, label in itertools.product(itertools.product(values, values[::3]), (0, 1)):
        a, b = with_outputs(case, f, np.eye(2)[label]), with_outputs(labelled, f, label)
        engine.set_parameters(a.parameters)
        (loss_a, (g_a,)), (loss_b, (g_b,)) = gradient(engine, a), gradient(engine, b)
        same = close(loss_a, loss_b, dtype, eps)
        if not (same and np.all(np.abs(g_a - g_b) <= 16 * eps)):
            wrong.append((f, label, loss_a, loss_b, g_a[:, 1], g_b[:, 1]))
    assert not wrong, (len(wrong), wrong[:5])


@contenders
@pytest.mark.parametrize("loss", LOSSES)
def test_links(name: str, dtype: str, precision: str | None, loss: str) -> None:
    kind = Loss(loss, LOSSES[loss][0])
    case = outputs_case(kind, 2, dtype, precision)
    engine = make_engine(name, case)
    eps = float(np.finfo(dtype).eps)
    values = [*finite(dtype), math.inf, -math.inf, math.nan]
    wrong = []
    for f in itertools.product(values, values[::3]):
        now = with_outputs(case, f, (0, 0))
        engine.set_parameters(now.parameters)
        wide = now.parameters[0][:, 1].astype(Wide)
        with np.errstate(all="ignore"):
            e = np.exp(wide - wide.max())
            wanted = {
                "identity": wide,
                "exp": np.exp(wide),
                "sigmoid": np.array([logistic(a) for a in wide]),
                "softmax": e / e.sum(),
            }[kind.link]
        got = forward(engine, now.X, link=True)[0]
        if not close(got, wanted, dtype, eps).all():
            wrong.append((f, got, wanted))
    assert not wrong, (len(wrong), wrong[:5])


@contenders
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_is_applied_where_the_loss_is_finite(
    name: str, dtype: str, precision: str | None, loss: str
) -> None:
    kind = Loss(loss, LOSSES[loss][0])
    case = outputs_case(kind, 2, dtype, precision)
    engine = make_engine(name, case)
    for f in itertools.product(finite(dtype), finite(dtype)[::5]):
        now = with_outputs(case, f, pairs_of_targets(loss)[-1])
        engine.set_parameters(now.parameters)
        value = engine.loss(now.X, now.y, None)
        applied, (told,) = epoch(engine, now, 0.0)
        assert applied == math.isfinite(value)
        assert told == value or (math.isnan(told) and math.isnan(value))
