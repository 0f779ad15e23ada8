"""Every optimizer by hand: one weight and one bias, in Python's floats, from the published updates.

The network is f = w x + b, with ℓ = ½ (f − y)²: ∂ℓ/∂w = (f − y) x, ∂ℓ/∂b = f − y. Penalties and
decay are on w only; the norm that is clipped is of both.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from engine_cases import DTYPES, EACH_ENGINE, epoch, make_case, make_engine
from error_bounds import assert_within

from fastbp.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

X = [0.5, -1.25, 2.0, 0.75, -0.5, 1.5]
Y = [1.0, 0.25, -0.5, 2.0, 1.5, -1.0]
RATES = [0.1, 0.05, 0.1, 0.025, 0.05, 0.0125]
START = (0.75, -0.5)
L1, L2, CLIP = 0.03125, 0.125, 1.5


class Weight:
    """One parameter and the state of its optimizer."""

    def __init__(self, value: float, *, decays: bool) -> None:
        self.value, self.decays = value, decays
        self.u = self.m = self.s = 0.0

    def update(self, optimizer: Optimizer, g: float, rate: float, t: int) -> None:
        match optimizer:
            case SGD(momentum=mu, nesterov=nesterov):
                self.u = mu * self.u - rate * g
                self.value += mu * self.u - rate * g if nesterov and mu else self.u
            case RMSprop(rho=rho, epsilon=epsilon):
                self.s = rho * self.s + (1 - rho) * g**2
                self.value -= rate * g / (math.sqrt(self.s) + epsilon)
            case Adam(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon):
                if isinstance(optimizer, AdamW) and self.decays:
                    self.value *= 1 - rate * optimizer.weight_decay
                self.m = beta_1 * self.m + (1 - beta_1) * g
                self.s = beta_2 * self.s + (1 - beta_2) * g**2
                # bias-corrected averages; ε is added to √s before its correction
                m_hat = self.m / (1 - beta_1**t)
                root = (math.sqrt(self.s) + epsilon) / math.sqrt(1 - beta_2**t)
                self.value -= rate * m_hat / root


def train_by_hand(optimizer: Optimizer, l1: float, l2: float, clip: float) -> list[float]:
    w, b = Weight(START[0], decays=True), Weight(START[1], decays=False)
    for t, (x, y, rate) in enumerate(zip(X, Y, RATES, strict=True), 1):
        residual = w.value * x + b.value - y
        g_w = residual * x + l1 * math.copysign(1, w.value) + l2 * w.value
        g_b = residual
        norm = math.hypot(g_w, g_b)
        scale = clip / norm if clip and norm > clip else 1.0
        w.update(optimizer, scale * g_w, rate, t)
        b.update(optimizer, scale * g_b, rate, t)
    return [w.value, b.value]


@pytest.mark.parametrize("name", EACH_ENGINE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("l1", "l2", "clip"), [(0, 0, 0), (L1, L2, 0), (L1, L2, CLIP)])
@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(),
        SGD(nesterov=True),
        SGD(momentum=0.75),
        SGD(momentum=0.75, nesterov=True),
        RMSprop(rho=0.75, epsilon=0.125),
        Adam(beta_1=0.75, beta_2=0.875, epsilon=0.125),
        Adam(beta_1=0.25, beta_2=0.999, epsilon=0.125),
        AdamW(beta_1=0.75, beta_2=0.875, epsilon=0.125, weight_decay=0.5),
    ],
    ids=str,
)
def test_six_steps(
    name: str, dtype: str, optimizer: Optimizer, l1: float, l2: float, clip: float
) -> None:
    case = make_case(
        (1, 1), (), dtype=dtype, optimizer=optimizer, batch_size=1, l1=l1, l2=l2, clip_norm=clip
    )
    engine = make_engine(name, case)
    engine.set_parameters([np.array([START], dtype)])
    X_, Y_ = (np.array(a, dtype)[:, None] for a in (X, Y))
    order = np.arange(6)
    assert engine.epoch(X_, Y_, None, order, np.array(RATES), np.empty(6)) == 6
    # 6 steps of about 16 roundings of values below 4; the rest less than doubles a step's error
    limit = 2 * 6 * 16 * 4 * float(np.finfo(dtype).eps) / 2
    wanted = train_by_hand(optimizer, l1, l2, clip)
    assert_within(engine.get_parameters()[0][0], np.array(wanted), limit, np.array(START))


@pytest.mark.parametrize("name", EACH_ENGINE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", [RMSprop(epsilon=1e-320), Adam(epsilon=1e-320)], ids=str)
def test_an_epsilon_that_rounds_to_nothing(name: str, dtype: str, optimizer: Optimizer) -> None:
    """A weight that never had a gradient stays what it is, and does not become 0 / 0."""
    case = make_case((3, 1), (), dtype=dtype, optimizer=optimizer, batch_size=4)
    case.X[:, 1] = 0
    engine = make_engine(name, case)
    assert epoch(engine, case, 0.01)[0] == 3
    (W,) = engine.get_parameters()
    assert np.isfinite(W).all()
    assert W[0, 1] == case.parameters[0][0, 1]
