"""Against torch and JAX, where they are installed: the same gradients and the same loss curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    ENGINES,
    Array,
    Case,
    epoch,
    forward,
    gradient,
    make_engine,
    smooth_case,
)
from error_bounds import assert_within, bounds, epoch_bound

from fastbp.activations import ACTIVATIONS
from fastbp.losses import LOSSES
from fastbp.optimizers import SGD

engines = pytest.mark.parametrize("name", ENGINES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)

# One sweep over the activations, one over the losses.
PAIRS = [
    *((a, "softmax_cross_entropy") for a in ACTIVATIONS),
    *(("tanh", loss) for loss in LOSSES if loss != "softmax_cross_entropy"),
]
pairs = pytest.mark.parametrize(("activation", "loss"), PAIRS)

Peer = Callable[[Case, list[Array], Array, Array], tuple[float, list[Array]]]


def torch_gradient(
    case: Case, parameters: list[Array], X: Array, y: Array
) -> tuple[float, list[Array]]:
    """Loss and gradient of one batch by torch's autograd, from its own functions."""
    torch = pytest.importorskip("torch", reason="torch is an optional peer and is not installed")
    F = torch.nn.functional
    phi: dict[str, Callable[[Any], Any]] = {
        "identity": lambda z: z,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": F.relu,
        "leaky_relu": lambda z: F.leaky_relu(z, 0.01),
        "elu": F.elu,
        "softplus": F.softplus,
        "silu": F.silu,
        "gelu": F.gelu,
    }
    total: dict[str, Callable[[Any, Any], Any]] = {
        "squared_error": lambda f, y: F.mse_loss(f, y, reduction="sum") / 2,
        "absolute_error": lambda f, y: F.l1_loss(f, y, reduction="sum"),
        "huber": lambda f, y: F.huber_loss(f, y, reduction="sum"),
        "softmax_cross_entropy": lambda f, y: F.cross_entropy(f, y, reduction="sum"),
        "binary_cross_entropy": lambda f, y: F.binary_cross_entropy_with_logits(
            f, y, reduction="sum"
        ),
        # torch leaves out the constant y log y − y
        "poisson": lambda f, y: (
            F.poisson_nll_loss(f, y, reduction="sum") + torch.sum(torch.xlogy(y, y) - y)
        ),
    }
    W = [torch.tensor(p, requires_grad=True) for p in parameters]
    v = torch.tensor(X)
    for i, p in enumerate(W):
        v = F.linear(v, p[:, :-1], p[:, -1])
        if i < len(W) - 1:
            v = phi[case.plan.activations[i].name](v)
    loss = total[case.plan.loss.name](v, torch.tensor(y)) / len(X)
    loss.backward()
    return loss.item(), [p.grad.numpy() for p in W]


def jax_gradient(
    case: Case, parameters: list[Array], X: Array, y: Array
) -> tuple[float, list[Array]]:
    """Loss and gradient of one batch by jax.grad."""
    jax = pytest.importorskip("jax", reason="JAX is an optional peer and is not installed")
    jnp, nn = jax.numpy, jax.nn
    phi: dict[str, Callable[[Any], Any]] = {
        "identity": lambda z: z,
        "sigmoid": nn.sigmoid,
        "tanh": jnp.tanh,
        "relu": nn.relu,
        "leaky_relu": nn.leaky_relu,
        "elu": nn.elu,
        "softplus": nn.softplus,
        "silu": nn.silu,
        "gelu": lambda z: nn.gelu(z, approximate=False),
    }
    total: dict[str, Callable[[Any, Any], Any]] = {
        "squared_error": lambda f, y: jnp.sum((f - y) ** 2) / 2,
        "absolute_error": lambda f, y: jnp.sum(jnp.abs(f - y)),
        "huber": lambda f, y: jnp.sum(
            jnp.where(jnp.abs(f - y) <= 1, (f - y) ** 2 / 2, jnp.abs(f - y) - 0.5)
        ),
        "softmax_cross_entropy": lambda f, y: -jnp.sum(y * nn.log_softmax(f)),
        "binary_cross_entropy": lambda f, y: (
            -jnp.sum(y * nn.log_sigmoid(f) + (1 - y) * nn.log_sigmoid(-f))
        ),
        "poisson": lambda f, y: jnp.sum(jax.scipy.special.xlogy(y, y) - y * f - y + jnp.exp(f)),
    }

    def objective(W: list[Any]) -> Any:
        v = jnp.asarray(X)
        for i, p in enumerate(W):
            v = v @ p[:, :-1].T + p[:, -1]
            if i < len(W) - 1:
                v = phi[case.plan.activations[i].name](v)
        return total[case.plan.loss.name](v, jnp.asarray(y)) / len(X)

    x64 = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        with jax.default_matmul_precision("highest"):
            loss, W_gradient = jax.value_and_grad(objective)([jnp.asarray(p) for p in parameters])
        return float(loss), [np.asarray(g) for g in W_gradient]
    finally:
        jax.config.update("jax_enable_x64", x64)


peers = pytest.mark.parametrize("peer", [torch_gradient, jax_gradient], ids=["torch", "jax"])


@peers
@engines
@dtypes
@pairs
def test_same_gradients(peer: Peer, name: str, dtype: str, activation: str, loss: str) -> None:
    case = smooth_case((6, 9, 7, 4), activation, loss, dtype=dtype, rows=12)
    wanted_loss, wanted = peer(case, case.parameters, case.X, case.y)
    got_loss, got = gradient(make_engine(name, case), case)
    limit = bounds(case)
    assert_within(got_loss, wanted_loss, 2 * limit.loss)  # both round
    for g, w, b in zip(got, wanted, limit.gradient, strict=True):
        assert_within(g, w.astype("f8"), 2 * b)


@peers
@engines
@dtypes
@pytest.mark.parametrize("loss", ["squared_error", "softmax_cross_entropy"])
def test_same_loss_curve_over_50_steps(peer: Peer, name: str, dtype: str, loss: str) -> None:
    rate, batch = 0.02, 8
    case = smooth_case(
        (6, 9, 4), "tanh", loss, dtype=dtype, rows=50 * batch, batch_size=batch, optimizer=SGD()
    )
    engine = make_engine(name, case)
    steps, losses = epoch(engine, case, rate)
    assert steps == 50

    W, curve = case.parameters, []
    for s in range(50):
        rows = slice(s * batch, (s + 1) * batch)
        value, g = peer(case, W, case.X[rows], case.y[rows])
        curve.append(value)
        W = [p - np.asarray(rate * slope, dtype) for p, slope in zip(W, g, strict=True)]

    limit = 2 * epoch_bound(case, rate, 50, 1)
    for got, wanted, first in zip(engine.get_parameters(), W, case.parameters, strict=True):
        assert_within(got, wanted.astype("f8"), limit, first)
    # a loss moves with the weights by its slope, with f by its own rounding
    slope = sum(float(np.abs(a).sum()) for a in gradient(make_engine(name, case), case)[1])
    assert_within(losses, np.array(curve), 8 * (bounds(case).loss + (1 + slope) * limit))


@engines
def test_predictions_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is an optional peer and is not installed")
    case = smooth_case((6, 9, 4), "gelu", "softmax_cross_entropy")
    first, second = (torch.tensor(W) for W in case.parameters)
    hidden = torch.nn.functional.gelu(torch.tensor(case.X) @ first[:, :-1].T + first[:, -1])
    wanted = torch.softmax(hidden @ second[:, :-1].T + second[:, -1], dim=1).numpy()
    got = forward(make_engine(name, case), case.X, link=True)
    assert_within(got, wanted, 2 * bounds(case).f.max() + 16 * np.finfo("f8").eps)
