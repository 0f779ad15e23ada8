"""Networks for the tests of what leads out of fastbp, and how near their answers must come.

The oracle is the reference engine in float64. Its outputs f have the bounds of error_bounds.py, for
activations composed of other functions; `Wanted` carries them through the link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from engine_cases import Array, Case, make_case, oracle
from error_bounds import FUNCTION, bounds

import fastbp
from fastbp import activations, losses
from fastbp.engines.reference import LINKS

SIZES = (3, 9, 5, 4)
Hidden = Any

# One sweep over the activations, one over the losses, and shapes that are special.
NETWORKS: dict[str, tuple[tuple[int, ...], Hidden, str]] = {
    **{name: (SIZES, name, "softmax_cross_entropy") for name in activations.ACTIVATIONS},
    **{name: (SIZES, "tanh", name) for name in losses.LOSSES},
    **{f"{name}, one output": ((3, 7, 1), "relu", name) for name in losses.LOSSES
       if name != "softmax_cross_entropy"},
    "slope 0.3": (SIZES, fastbp.Activation("leaky_relu", 0.3), "squared_error"),
    "scale 0.7": (SIZES, fastbp.Activation("elu", 0.7), "squared_error"),
    "of two kinds": (SIZES, ("gelu", "softplus"), "binary_cross_entropy"),
    "no hidden layer": ((3, 2), (), "softmax_cross_entropy"),
    "deep": ((2, 3, 3, 3, 3, 3, 2), "silu", "squared_error"),
}  # fmt: skip


def case_of(name: str, dtype: str, scale: float = 1.0, inputs: int | None = None) -> Case:
    """The case of that name; its rows times `scale`; of another number of inputs, if given."""
    sizes, hidden, loss = NETWORKS[name]
    case = make_case((inputs or sizes[0], *sizes[1:]), hidden, loss, dtype=dtype)
    return Case(case.plan, case.parameters, (case.X * scale).astype(dtype), case.y, None)


def model_of(case: Case) -> fastbp.MLP:
    plan = case.plan
    return fastbp.MLP(
        plan.layer_sizes,
        activation=plan.activations,
        loss=plan.loss,
        weight_init=case.parameters,
        dtype=plan.dtype,
        precision=plan.precision,
        engine="reference",
    )


@dataclass(frozen=True)
class Wanted:
    """f and the prediction link(f) in float64, and bounds of what rounding may add to them."""

    f: Array
    f_bound: Array
    prediction: Array
    bound: Array


def wanted(case: Case) -> Wanted:
    u = float(np.finfo(case.plan.dtype).eps) / 2
    exact = case.astype("float64")
    f = oracle(exact).trace(exact.X)[0][-1]
    error = bounds(case, composed=True).f
    link = case.plan.loss.link
    p = LINKS[link](f)
    if link == "identity":
        bound = error
    elif link == "sigmoid":  # its slope is at most ¼
        bound = 0.25 * error + FUNCTION * u
    elif link == "exp":
        bound = p * np.expm1(error) + FUNCTION * u * p
    else:  # ∂pᵢ = pᵢ (∂fᵢ − Σ pⱼ ∂fⱼ), exp(f − max) as a whole, a sum over the outputs
        mean = (p * error).sum(axis=1, keepdims=True)
        spread = 2 * np.abs(f).max(axis=1, keepdims=True)
        bound = p * (error + mean) * (1 + error) + (f.shape[1] + FUNCTION + spread) * u * (p + u)
    return Wanted(f, error, p, bound)


def assert_prediction(got: Array, want: Wanted, dtype: str) -> None:
    """`got`, of whatever shape, is the prediction to within its bound."""
    assert got.dtype == dtype
    assert got.size == want.prediction.size
    excess = np.abs(got.reshape(want.prediction.shape).astype(np.float64) - want.prediction)
    assert np.all(excess <= want.bound), (excess / want.bound).max()


def assert_labels(got: Array, want: Wanted, link: str) -> None:
    """`got` says the labels of f, but where rounding may decide."""
    f, bound = want.f, want.f_bound
    if link == "sigmoid":
        right, sure = f > 0, np.abs(f) > bound
    else:
        right = f.argmax(axis=1)[:, None]
        best = np.sort(f, axis=1)
        sure = (best[:, -1] - best[:, -2] > 2 * bound.max(axis=1))[:, None]
    assert sure.any()
    np.testing.assert_array_equal(got.reshape(right.shape)[sure], right[sure])


def assert_same(a: fastbp.MLP, b: fastbp.MLP) -> None:
    """The same network, bit for bit."""
    assert a.plan.layer_sizes == b.plan.layer_sizes
    assert a.plan.activations == b.plan.activations
    assert a.plan.loss == b.plan.loss
    assert a.plan.dtype == b.plan.dtype
    for p, q in zip(a.parameters, b.parameters, strict=True):
        np.testing.assert_array_equal(p, q)
