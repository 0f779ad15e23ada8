"""Proof that a contender computes what the others do, before its time counts.

From the same weights, on the same rows in the same order, a few steps of training are compared with
the same steps in float64 here: the mean loss, how far every parameter moved, and predicted labels.

What float arithmetic may cost: with unit roundoff u, a sum of k products is off by at most about k u
of its size, and typically by √k u. A loss, or a parameter's movement, is therefore off by at most u
times the lengths of all the sums on the way to it (forward, backward, over the batch), and writing a
parameter back costs u of it in each step. Besides, ReLU's slope jumps: of the units of a layer, a share
of about √k u is so near to 0 that rounding decides on which side, and a share s of switched units
changes δ by √s of its size. With bfloat16 autocast, sums are still float32, and what counts is that
every operand of a product is rounded to bfloat16 once: x, W and δ of every layer, there and back.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.cases import Array, Case

STEPS = 3
UNIT_ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-8}

# Mean loss, parameters after training, labels that the rows are then given
Claim = tuple[float, list[Array], Array]


class NotEquivalentError(AssertionError):
    """The contender computes something else; the message says what."""


def exact(case: Case, steps: int = STEPS) -> tuple[float, list[Array], Array]:
    """The same steps in float64: mean loss, parameters, and f of every row afterwards."""
    few = cases.first_steps(case, steps)
    X, y = cases.data(few)
    W = [p.astype(np.float64) for p in cases.parameters(case)]
    losses = []
    for batch in cases.orders(few, 1)[0].reshape(steps, -1):
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
            W[layer] -= case.learning_rate * gradient
    v_l = X.astype(np.float64)
    for layer, W_l in enumerate(W):
        v_l = _with_one(v_l) @ W_l.T
        if layer < len(W) - 1:
            v_l = np.maximum(v_l, 0)
    return float(np.mean(losses)), W, v_l


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
    return sums, sums + switched**0.5


def check(case: Case, precision: str, claim: Claim, truth: Claim | None = None) -> dict[str, Any]:
    """Return the errors and the tolerance, if they are within it.

    Raises
    ------
    NotEquivalentError
        If the claim is about anything else than these steps from these weights.
    """
    loss, parameters, labels = claim
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
            stored = STEPS * UNIT_ROUNDOFF["float32"] * np.linalg.norm(true[:, columns])
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
    return {"loss_error": loss_error, "movement_error": worst} | {
        "loss_tolerance": loss_allowed,
        "movement_tolerance": allowed,
    }
