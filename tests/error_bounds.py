"""How far rounding may move an engine's results: tolerances derived, not tuned.

The rule for one sum. A sum of k rounded terms t, in any order, has an error of at most k u Σ|t|,
u the unit roundoff. Roundings have mixed signs, so √k stands for k but for a factor λ of a few
(Higham & Mary 2019); and Σ|t| ≤ √k ‖t‖₂. So error ≤ λ k u ‖t‖₂.

Errors already in the terms, e(t), add up with mixed signs too: λ ‖e(t)‖₂. This page carries the two
through the formulas of forward, loss, backward and Jacobian, at float64 values of the reference
engine. λ multiplies the whole once, at the end. Smooth scalar functions cost `FUNCTION` u of
rounding, and pass on an error with their slope; slopes pass it on with their curvature. At a kink
that the error reaches, the slope may be the one on either side.

In precision "bf16" both operands of every product are rounded to 8 significant bits beforehand, each
to within r = 2⁻⁸ of its size (`OPERAND`): two independent errors of r |t| in each term t. Such errors
are not so small that a product of two may be left out: one of them counts λ times, so that the λ at
the end makes it the product of both bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from engine_cases import KINKED, Case, oracle
from numpy.typing import NDArray

from fastbp.activations import Activation
from fastbp.engines import Engine
from fastbp.engines.reference import ACTIVATIONS, LOSSES

Array = NDArray[Any]

LAMBDA = 8.0
FUNCTION = 8.0  # 4 ULP of the vectorised function, and the few operations around it
CURVATURE = 1.2  # max |φ''| of the smooth activations (gelu's is 1.13)
CURVATURES = {"selu": 1.76}  # of its half below 0
# Half of the spacing 2⁻⁷ of the numbers from 1 on that have 8 significant bits.
OPERAND = {None: 0.0, "bf16": 2.0**-8}


@dataclass(frozen=True)
class Bounds:
    """Elementwise bounds of the errors of f, the loss, the gradient's layers and the Jacobian."""

    f: Array
    loss: float
    gradient: list[Array]
    jacobian: Array


def _dot(u: float, r: float, a: Array, a_error: Array, W: Array) -> Array:
    """Bound the error of a @ W, W exact but for its rounding: the rule above with terms a W."""
    k = a.shape[-1]
    squares = ((k * u * a) ** 2 + 2 * (r * a) ** 2 + a_error**2) @ W**2
    return np.asarray(np.sqrt(squares))


def _jump(activation: Activation, z: Array, z_error: Array) -> Array | float:
    """How far a slope may be off because rounding moves z over a kink at 0."""
    height = {
        "relu": 1.0,
        "leaky_relu": 1 - activation.parameter,
        "elu": 1 - activation.parameter,
        "selu": 1.0507009873554805 * (1 - 1.6732632423543772),
    }
    return abs(height.get(activation.name, 0.0)) * (np.abs(z) < LAMBDA * z_error)


def bounds(case: Case, *, with_jacobian: bool = False, composed: bool = False) -> Bounds:
    """Derive the bounds for the case's dtype; with zero rows only the penalties round.

    With `composed`, activations are put together as 1 + erf(z), exp(z) − 1 or log(1 + x), or end in
    polynomials: they round to within u of 1 + |z|, not of the value, which may be small.
    """
    u, r = float(np.finfo(case.plan.dtype).eps) / 2, OPERAND[case.plan.precision]
    exact = case.astype("float64")
    z, v = oracle(exact).trace(exact.X)
    W = exact.parameters

    z_error: list[Array] = []
    v_error = [np.zeros_like(v[0])]
    slopes: list[Array] = []
    slope_error: list[Array] = []
    for layer, weights in enumerate(W):
        z_error.append(_dot(u, r, v[layer], v_error[layer], weights.T))
        if layer < len(W) - 1:
            activation = case.plan.activations[layer]
            value = v[layer + 1][:, :-1]
            slopes.append(ACTIVATIONS[activation.name][1](z[layer], value, activation.parameter))
            curvature = CURVATURES.get(activation.name, CURVATURE)
            if activation.name in KINKED | {"identity"}:
                curvature = 0.0
            jump = _jump(activation, z[layer], z_error[layer])
            slope_error.append(curvature * z_error[layer] + FUNCTION * u + jump)
            bend = 0.5 * curvature * LAMBDA * z_error[layer]
            steepest = np.abs(slopes[-1]) + jump + bend
            size = 1 + np.abs(z[layer]) if composed else np.abs(value)
            error = steepest * z_error[layer] + FUNCTION * u * size
            v_error.append(np.pad(error, ((0, 0), (0, 1))))  # the 1 is exact

    f, f_error = z[-1], z_error[-1]
    loss = case.plan.loss
    row_losses, delta = LOSSES[loss.name](f, exact.y, loss.parameter)
    outputs = f.shape[1]
    y = np.abs(exact.y) if exact.y.ndim == 2 else np.eye(outputs)[exact.y]
    terms = (np.abs(f) * (1 + y) + y + 1).sum(axis=1) + np.abs(row_losses)
    flat = np.zeros_like(f)
    steepness = {"poisson": np.exp(f), "absolute_error": flat, "pinball": flat}  # max |∂δ/∂f|
    steep = steepness.get(loss.name, np.ones_like(f))
    row_error = np.hypot(np.linalg.norm(delta * f_error, axis=1), (outputs + FUNCTION) * u * terms)
    row_error += 0.5 * LAMBDA * (steep * f_error**2).sum(axis=1)
    if loss.name == "softmax_cross_entropy":  # ∂pᵢ = pᵢ (∂fᵢ − Σ pⱼ ∂fⱼ), exp(f − max) as a whole
        p = delta + y
        mean = (p * f_error).sum(axis=1, keepdims=True)
        spread = 2 * np.abs(f).max(axis=1, keepdims=True)
        delta_error = p * (f_error + mean) + (outputs + FUNCTION + spread) * u * (p + y)
    else:
        delta_error = steep * f_error + FUNCTION * u * (np.abs(f) + y + 1) * np.maximum(steep, 1)
        # the sign of the residual: δ is from −1 to 1, or from −q to 1 − q
        if jump := {"absolute_error": 2.0, "pinball": 1.0}.get(loss.name):
            delta_error += jump * (np.abs(f - exact.y) < LAMBDA * f_error)

    w = np.ones(len(f)) if exact.sample_weight is None else exact.sample_weight
    share = (w / w.sum())[:, None] if w.sum() > 0 else w[:, None]
    penalty = sum(
        case.plan.l1 * np.abs(p[:, :-1]).sum() + case.plan.l2 * np.square(p[:, :-1]).sum()
        for p in W
    )
    row_terms = np.hypot(row_error, len(f) * u * terms) * share[:, 0]
    loss_error = float(np.linalg.norm(row_terms)) + FUNCTION * u * penalty

    gradient: list[Array] = []
    delta, delta_error = delta * share, delta_error * share
    rows = len(f)
    for layer in range(len(W) - 1, -1, -1):
        own = (rows * u * delta) ** 2 + 2 * (r * delta) ** 2 + delta_error**2
        both = delta**2 + (LAMBDA * delta_error) ** 2
        error = np.sqrt(own.T @ v[layer] ** 2 + both.T @ v_error[layer] ** 2)
        weights = np.abs(W[layer])
        error += FUNCTION * u * (case.plan.l1 + case.plan.l2 * weights)
        gradient.insert(0, LAMBDA * error)
        if layer > 0:
            back = delta @ W[layer][:, :-1]
            back_error = _dot(u, r, delta, delta_error, W[layer][:, :-1])
            delta_error = (
                np.abs(slopes[layer - 1]) * back_error
                + slope_error[layer - 1] * (np.abs(back) + LAMBDA * back_error)
                + FUNCTION * u * np.abs(back)
            )
            delta = slopes[layer - 1] * back

    J = np.broadcast_to(W[-1][:, :-1], (rows, *W[-1][:, :-1].shape))
    J_error = r * np.abs(J)
    if with_jacobian:
        for layer in range(len(W) - 2, -1, -1):
            slope, error = slopes[layer][:, None, :], slope_error[layer][:, None, :]
            off = (error + FUNCTION * u) * (np.abs(J) + LAMBDA * J_error)
            J_error = np.abs(slope) * J_error + off
            J = J * slope
            J_error = _dot(u, r, J, J_error, W[layer][:, :-1])
            J = J @ W[layer][:, :-1]
    return Bounds(LAMBDA * z_error[-1], LAMBDA * loss_error, gradient, LAMBDA * J_error)


def step_error(case: Case) -> float:
    """The largest error of an element of the gradient of the first minibatch.

    Dropout scales values by 1 / (1 − p) in forward and backward.
    """
    size = case.plan.batch_size
    weight = case.sample_weight
    part = Case(
        case.plan,
        case.parameters,
        case.X[:size],
        case.y[:size],
        None if weight is None else weight[:size],
    )
    error = max(float(g.max()) for g in bounds(part).gradient)
    for p in case.plan.dropout:
        error /= (1 - p) ** 2
    return error


def epoch_bound(case: Case, rate: float, steps: int, amplification: float) -> float:
    """How far the weights of two trainings may be apart after `steps`.

    Each step adds rate · A · (error of its gradient) and some roundings of W. A, `amplification`,
    is what the optimizer makes of an error in g: 1 for SGD, 1 / (1 − μ) with momentum, 2 / ε for
    those that divide by √s + ε. What is there grows by (1 + rate · A) a step, as the gradient
    changes with W at a rate of about 1 in problems of unit variance.
    """
    u = float(np.finfo(case.plan.dtype).eps) / 2
    largest = max(float(np.abs(W).max()) for W in case.parameters)
    per_step = rate * amplification * step_error(case) + FUNCTION * u * largest
    return steps * per_step * (1 + rate * amplification) ** steps


def assert_within(
    got: Array | float, wanted: Array | float, bound: Array | float, idle: Array | float = 0.0
) -> None:
    """Every element of `got` is finite and within `bound` of `wanted`, and the bound can tell.

    `idle` is what an engine that does nothing leaves: zeros where it writes results, the first
    parameters where it trains. A bound that lets this pass is refused, unless it is what is wanted.
    """
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape
    excess = np.abs(got - wanted) - bound
    assert np.all(excess <= 0), f"off by up to {excess.max():.3g} more than the bound allows"
    refuse_idle(wanted, bound, idle)


def refuse_idle(wanted: Array, bound: Array | float, idle: Array | float) -> None:
    """Refuse a bound that lets pass what an engine that does nothing leaves, where that is wrong."""
    to_do = np.abs(idle - wanted)
    assert np.all(to_do == 0) or np.any(to_do > bound), (
        f"the bound, {np.max(bound):.3g}, allows for doing nothing, {to_do.max():.3g} away"
    )


def check_weights(engine: Engine, reference: Engine, case: Case, bound: float) -> None:
    """The weights of two engines that were trained from the case's are within the bound."""
    trained = engine.get_parameters(), reference.get_parameters()
    for W, wanted, first in zip(*trained, case.parameters, strict=True):
        assert_within(W, wanted, bound, first)
