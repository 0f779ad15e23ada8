"""What an engine checks of the arrays of a call: that their shapes fit its plan, in O(1).

The native engine compares shapes in C and words its errors here. Values are not looked at: that a
label, or a row's number in `order`, is one that exists is for the Python API to see to.
"""

from __future__ import annotations

from typing import Any, NoReturn

from fastbp.csr import CSR
from fastbp.plan import Array, Plan


def refuse_shape(name: str, found: Any, wanted: object) -> NoReturn:
    """Raise the ValueError for an array of the wrong shape."""
    raise ValueError(f"{name} must have shape {wanted}, got {tuple(found.shape)}")


def check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the array has this shape."""
    if array.shape != shape:
        refuse_shape(name, array, shape)


def refuse_kind(plan: Plan, X: object) -> NoReturn:
    """Raise the TypeError for rows of the kind that the plan's first stage does not take."""
    wanted = "CSR" if plan.is_sparse else "an array"
    stage = type(plan.stages[0]).__name__
    raise TypeError(f"X must be {wanted} for a first stage {stage}, got {type(X).__name__}")


def check_inputs(plan: Plan, X: Array | CSR) -> None:
    """Raise TypeError unless X is of the kind that the first stage takes, ValueError unless (n, n_0)."""
    if isinstance(X, CSR) != plan.is_sparse:
        refuse_kind(plan, X)
    if X.ndim != 2 or X.shape[1] != plan.layer_sizes[0]:
        refuse_shape("X", X, f"(n, {plan.layer_sizes[0]})")


def check_data(plan: Plan, X: Array | CSR, y: Array, sample_weight: Array | None) -> None:
    """Raise ValueError unless X, y and the weights have as many rows, and y the loss's form."""
    check_inputs(plan, X)
    if y.ndim == 1 and plan.loss.name == "softmax_cross_entropy" and plan.loss.function is None:
        if len(y) != len(X):
            refuse_shape("y", y, f"({len(X)},), as many as X")
    else:
        check_shape("y", y, (len(X), plan.layer_sizes[-1]))
    if sample_weight is not None and sample_weight.shape != (len(X),):
        refuse_shape("sample_weight", sample_weight, f"({len(X)},), as many as X")


def check_epoch(
    plan: Plan,
    X: Array | CSR,
    order: Array,
    rates: Array,
    losses: Array,
    penalties: Array | None,
    dropouts: Array | None = None,
    decays: Array | None = None,
) -> None:
    """Raise ValueError unless there are rows for the order, and numbers for each step."""
    if len(X) == 0 and len(order) > 0:
        refuse_shape("order", order, "(0,), as X has no rows")
    steps = -(-len(order) // plan.batch_size)
    named = {"learning_rates": rates, "losses": losses, "penalties": penalties}
    named |= {"dropouts": dropouts, "decays": decays}
    for name, array in named.items():
        if array is not None and (array.ndim != 1 or len(array) < steps):
            refuse_shape(name, array, f"({steps},), one for each step")


def refuse_restore() -> NoReturn:
    """Raise RuntimeError: there is nothing to restore."""
    raise RuntimeError("no parameters were kept: restore() takes back those of keep()")


def check_gradients(plan: Plan, out: list[Array]) -> None:
    """Raise ValueError unless the arrays are shaped as the parameters."""
    found = [a.shape for a in out]
    if found != plan.shapes:
        raise ValueError(f"out must be arrays of shapes {plan.shapes}, got {found}")


def check_memory(name: str, array: Array, dtype: str) -> None:
    """Raise ValueError unless the array lies in memory as compiled code reads it."""
    if array.dtype != dtype or not array.flags.c_contiguous or not array.flags.aligned:
        layout = "" if array.flags.c_contiguous and array.flags.aligned else ", not contiguous"
        raise ValueError(
            f"{name} must be a C-contiguous array of {dtype}, got {array.dtype}{layout}"
        )
