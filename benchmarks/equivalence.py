"""Proof that a contender computes what the others do, before its time counts.

From the same weights, on the same rows in the same order, a few steps of training are compared with
the same steps in float64 here: the mean loss, how far every parameter moved, predicted labels and
probabilities.

What float arithmetic may cost: with unit roundoff u, a sum of k products is off by at most about k u
of its size, and typically by √k u. A loss, or a parameter's movement, is therefore off by at most u
times the lengths of all the sums on the way to it (forward, backward, over the batch), and writing a
parameter back costs u of it in each step. Besides, ReLU's slope jumps: of the units of a layer, a share
of about √k u is so near to 0 that rounding decides on which side, and a share s of switched units
changes δ by √s of its size. In bfloat16, sums are still float32, and what counts is that every operand
of a product is rounded to bfloat16 once: x, W and δ of every layer, there and back. A movement of Adam
is about as large for a small gradient as for a large one: with a gradient off by a of its size, a share
of about a of its elements may have the other sign, and those somewhat larger a movement off by as much,
which together is 2 √a of the movement's size. In float64, the steps here are rounded as well: twice.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.cases import Array, Case

STEPS = 3
UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-8}

# Mean loss, parameters after training, labels and probabilities that the rows are then given
Claim = tuple[float, list[Array], Array, Array]
# The first two, and f of every row
Truth = tuple[float, list[Array], Array]


class NotEquivalentError(AssertionError):
    """The contender computes something else; the message says what."""


def exact(case: Case, steps: int = STEPS) -> Truth:
    """The same steps in float64: mean loss, parameters, and f of every row afterwards."""
    few = cases.first_steps(case, steps)
    X, y = cases.data(few)
    W = [p.astype(np.float64) for p in cases.parameters(case)]
    losses, memories = [], [np.zeros((2, *p.shape)) for p in W]
    for t, batch in enumerate(cases.orders(few, 1)[0].reshape(steps, -1), 1):
        v = [_with_one(X[batch].astype(np.float64))]
        for W_l in W[:-1]:
            v.append(_with_one(np.maximum(v[-1] @ W_l.T, 0)))
        f = v[-1] @ W[-1].T
        top = f.max(axis=1, keepdims=True)
        log_sum = top + np.log(np.exp(f - top).sum(axis=1, keepdims=True))
        target = np.eye(f.shape[1])[y[batch]]
        losses.append(((log_sum - f) * target).sum(axis=1).mean())
        delta = (np.exp(f - log_sum) - target) / len(batch)
        for layer in reversed(range(len(W))):
            gradient = delta.T @ v[layer]
            delta = (delta @ W[layer] * (v[layer] > 0))[:, :-1]
            W[layer] += _movement(case, gradient, memories[layer], t)
    v_l = X.astype(np.float64)
    for layer, W_l in enumerate(W):
        v_l = _with_one(v_l) @ W_l.T
        if layer < len(W) - 1:
            v_l = np.maximum(v_l, 0)
    return float(np.mean(losses)), W, v_l


def _movement(case: Case, gradient: Array, memory: Array, t: int) -> Array:
    """What step t = 1, 2, … adds to a layer's parameters; `memory` is two arrays, zero at first."""
    rate, (u, s) = case.learning_rate, memory
    if case.optimizer == "sgd":
        return -rate * gradient
    if case.optimizer == "adam":
        u += 0.1 * (gradient - u)
        s += 0.001 * (gradient**2 - s)
        return -rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * u / (np.sqrt(s) + 1e-8)
    u *= 0.9
    u -= rate * gradient
    return 0.9 * u - rate * gradient if case.optimizer == "nesterov" else u


def _with_one(x: Array) -> Array:
    return np.column_stack([x, np.ones(len(x))])


def tolerance(case: Case, precision: str) -> tuple[float, float]:
    """Relative error that the loss may have, and that a parameter's movement may have."""
    u, layers = UNIT_ROUNDOFF[precision], len(case.layer_sizes) - 1
    if precision == "bfloat16":
        sums, switched = 6 * layers * u, (layers - 1) * u
    else:
        there_and_back = sum(k + n + 1 for k, n in itertools.pairwise(case.layer_sizes))
        sums = (there_and_back + case.batch_size) * u
        switched = sum(k**0.5 for k in case.layer_sizes[:-2]) * u
    if precision == "float64":
        sums, switched = 2 * sums, 2 * switched
    moved = sums + switched**0.5
    return sums, 2 * moved**0.5 if case.optimizer == "adam" else moved


def check(case: Case, precision: str, claim: Claim, truth: Truth | None = None) -> dict[str, Any]:
    """Return the errors and the tolerance, if they are within it.

    Raises
    ------
    NotEquivalentError
        If the claim is about anything else than these steps from these weights.
    """
    loss, parameters, labels, probabilities = claim
    true_loss, true_parameters, f = truth or exact(case)
    loss_allowed, allowed = tolerance(case, precision)

    loss_error = abs(loss - true_loss) / max(true_loss, 1.0)
    if not loss_error <= loss_allowed:
        raise NotEquivalentError(
            f"loss {loss:.9g} instead of {true_loss:.9g}: off by {loss_error:.2g} of it, "
            f"and rounding explains {loss_allowed:.2g}"
        )

    worst = 0.0
    initial = cases.parameters(case)
    for layer, (p, true, start) in enumerate(
        zip(parameters, true_parameters, initial, strict=True), 1
    ):
        # Biases have a movement of their own, which the weights' must not hide.
        for part, columns in (("weights", slice(None, -1)), ("biases", slice(-1, None))):
            moved = np.linalg.norm(true[:, columns] - start[:, columns])
            stored = STEPS * UNIT_ROUNDOFF[case.dtype] * np.linalg.norm(true[:, columns])
            error = np.linalg.norm(p[:, columns] - true[:, columns])
            worst = max(worst, float(max(error - stored, 0) / moved))
            if not error <= stored + allowed * moved:
                raise NotEquivalentError(
                    f"{part} of layer {layer} are off by {error / moved:.2g} of their movement, "
                    f"and rounding explains {(stored / moved) + allowed:.2g}"
                )

    chosen = np.take_along_axis(f, labels[:, None], axis=1)[:, 0]
    # An error of f of this size at most may let another label win.
    if not (f.max(axis=1) - chosen <= 2 * allowed * np.abs(f).max()).all():
        raise NotEquivalentError("predicted labels are not those of the largest output")
    # The derivative of softmax has a norm of ½ at most.
    p = np.exp(f - f.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rounding = len(p) ** 0.5 * UNIT_ROUNDOFF[case.dtype] * case.layer_sizes[-1]
    if not np.linalg.norm(probabilities - p) <= 0.5 * allowed * np.linalg.norm(f) + rounding:
        raise NotEquivalentError("predicted probabilities are not the softmax of the outputs")
    return {"loss_error": loss_error, "movement_error": worst} | {
        "loss_tolerance": loss_allowed,
        "movement_tolerance": allowed,
    }
