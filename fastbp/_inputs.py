"""Checks of the arrays a user passes, and their conversion to what an engine takes.

An array that is C-contiguous and of the right dtype is used in place; anything else is converted
once. Nothing is ever written to an array that came from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _frames, csr
from fastbp._validation import check_finite_number, check_integer
from fastbp.losses import Loss
from fastbp.plan import Plan

Array = NDArray[Any]
Rows = Any  # an Array or a CSR
Data = tuple[Rows, Array, Array | None]  # X, y, sample_weight


def all_finite(a: Array) -> bool:
    """Whether no entry is NaN or infinite. Piece by piece, for a may be a file larger than memory."""
    # A product a·a would tell faster, but BLAS computes it on threads that then keep the cores busy,
    # waiting for more, while the network trains.
    piece = 1 << 16
    if a.size <= piece:
        # To look for a False among the bytes takes a third of the time that NumPy needs to begin.
        return 0 not in np.isfinite(a).tobytes()
    flat = a.ravel("K")
    return all(all_finite(flat[i : i + piece]) for i in range(0, a.size, piece))


def _asarray(name: str, value: Any) -> Array:
    if type(value) is np.ndarray and value.dtype != object:
        return value
    return _frames.as_numbers(name, value)


def _as_real(name: str, value: Any) -> Array:
    a = _asarray(name, value)
    if a.dtype.kind not in "biuf":
        got = type(value).__name__ if a.ndim == 0 and a.dtype == object else f"dtype {a.dtype}"
        hint = "; pass its .toarray()" if hasattr(value, "toarray") else ""
        raise TypeError(f"{name} must hold real numbers, got {got}{hint}")
    return a


def as_array(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """Return real numbers as a C-contiguous array of `dtype`, without a copy where it is one."""
    a = _as_real(name, value)
    with np.errstate(over="ignore"):  # what overflows is reported by the check for infinity
        return np.require(a, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def check_finite(name: str, a: Array, source: object = None) -> Array:
    """Return `a`, or raise naming the first entry that is NaN or infinite.

    `source` is what `a` was made from: of a frame, the column is named.
    """
    if not all_finite(a):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(a))[0])
        columns = _frames.columns_of(source)
        if np.isnan(a[where]) and not isinstance(source, np.ndarray | None):
            raise _frames.missing(name, where, columns)
        place = _frames.place(where, columns)
        raise ValueError(f"{name} must be finite in {a.dtype}, but {place} is {a[where]}")
    return a


def as_matrix(name: str, value: object, columns: int, dtype: np.dtype[Any]) -> Array:
    """Return `value` as a finite C-contiguous array of shape (n, columns) and of `dtype`."""
    source = value
    if not (
        type(value) is np.ndarray
        and value.dtype == dtype
        and (flags := value.flags).c_contiguous
        and flags.aligned
    ):
        value = as_array(name, value, dtype)
    if value.ndim != 2 or value.shape[1] != columns:
        hint = " (pass a single row as [row])" if value.shape == (columns,) else ""
        raise ValueError(f"{name} must have shape (n, {columns}), got {value.shape}{hint}")
    return value if all_finite(value) else check_finite(name, value, source)


def as_rows(name: str, value: object, columns: int, dtype: np.dtype[Any]) -> Rows:
    """Return the same, or for a sparse matrix a checked `fastbp.csr.CSR`."""
    if type(value) is not np.ndarray and csr.is_sparse(value):
        return csr.as_csr(name, value, columns, dtype)
    return as_matrix(name, value, columns, dtype)


def as_targets(
    name: str, value: object, rows: int, outputs: int, loss: Loss, dtype: np.dtype[Any]
) -> Array:
    """Return targets in the form the engine takes for `loss`: labels (n,) int64, or (n, n_L)."""
    y = _asarray(name, value)
    if loss.name == "softmax_cross_entropy" and y.ndim == 1:
        return _as_labels(name, y, rows, outputs)
    shape = y.shape
    y = as_array(name, y, dtype)
    if outputs == 1 and y.ndim == 1:
        y = y[:, None]
    if y.shape != (rows, outputs):
        accepted = f"({rows}, {outputs})"
        if loss.name == "softmax_cross_entropy":
            accepted = f"({rows},) for integer labels or {accepted} for distributions"
        elif outputs == 1:
            accepted = f"({rows},) or {accepted}"
        elif loss.link == "softmax" and shape == (rows,):
            accepted = f"{accepted} for loss {loss.name!r}, as np.eye({outputs})[labels] makes it"
        raise ValueError(f"{name} must have shape {accepted}, got {shape}")
    check_finite(name, y, value)
    if y.size == 0:
        return y
    least, greatest = loss.targets
    low, high = float(y.min()), float(y.max())
    if low < least or high > greatest:
        accepted = f"≥ {least:g}" if greatest == inf else f"between {least:g} and {greatest:g}"
        raise ValueError(
            f"{name} must be {accepted} for loss {loss.name!r}, "
            f"got {low if low < least else high:g}"
        )
    if loss.name == "softmax_cross_entropy":
        # Wide enough for rounded probabilities; a mistake (counts, one column short) is far off.
        off = np.abs(y.sum(axis=1, dtype=np.float64) - 1) > 1e-3
        if off.any():
            row = int(off.argmax())
            raise ValueError(
                f"each row of {name} must sum to 1 (a distribution), "
                f"but row {row} sums to {float(y[row].sum()):g}"
            )
    return y


def _as_labels(name: str, labels: Array, rows: int, outputs: int) -> Array:
    if labels.size == 0 and labels.dtype.kind == "f":  # np.asarray([])
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise _frames.missing(name, (int(np.isnan(labels).argmax()),), None)
    if labels.dtype.kind not in "biu":
        raise TypeError(
            f"{name} must hold integer labels 0 … {outputs - 1} for loss 'softmax_cross_entropy', "
            f"got dtype {labels.dtype}"
        )
    if labels.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), as many as X, got {labels.shape}")
    if labels.size:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= outputs:
            raise ValueError(
                f"{name} must hold labels from 0 to {outputs - 1}, got {low if low < 0 else high}"
            )
    return np.require(labels, np.int64, ["C_CONTIGUOUS", "ALIGNED"])


def as_sample_weight(name: str, value: object, rows: int, dtype: np.dtype[Any]) -> Array | None:
    """Return weights as a finite array ≥ 0 of shape (rows,), or None for None."""
    if value is None:
        return None
    w = as_array(name, value, dtype)
    if w.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), one for each row of X, got {w.shape}")
    check_finite(name, w, value)
    if w.size and w.min() < 0:
        raise ValueError(f"{name} must be ≥ 0, got {w.min():g}")
    return w


def check_weight_sum(name: str, weight: Array | None) -> None:
    """Raise if there are weights and none is above 0: their mean would be undefined."""
    if weight is not None and not weight.any():
        raise ValueError(f"{name} must not be all zero")


def as_data(plan: Plan, X: object, y: object, sample_weight: object, prefix: str = "") -> Data:
    """Return X, y, sample_weight as the engine of `plan` takes them; `prefix` is for messages."""
    dtype = np.dtype(plan.dtype)
    rows = as_rows(f"{prefix}X", X, plan.layer_sizes[0], dtype)
    y = as_targets(f"{prefix}y", y, len(rows), plan.layer_sizes[-1], plan.loss, dtype)
    return rows, y, as_sample_weight(f"{prefix}sample_weight", sample_weight, len(rows), dtype)


def as_training_data(
    plan: Plan, X: object, y: object, sample_weight: object, prefix: str = ""
) -> Data:
    """Return the same; an epoch, or a validation, needs rows, and weights that are not all 0."""
    data = as_data(plan, X, y, sample_weight, prefix)
    if len(data[0]) == 0:
        raise ValueError(f"{prefix}X must have at least one row, got none")
    check_weight_sum(f"{prefix}sample_weight", data[2])
    return data


def as_validation(plan: Plan, validation: object, rows: int) -> tuple[Data | None, int]:
    """Return the validation data, if given as such, and the number of rows to set aside."""
    if validation is None:
        return None, 0
    if isinstance(validation, tuple | list):
        if len(validation) not in (2, 3):
            raise ValueError(
                f"validation must be (X, y) or (X, y, sample_weight), got {len(validation)} items"
            )
        X, y, *weight = validation
        return as_training_data(plan, X, y, weight[0] if weight else None, "validation "), 0
    fraction = check_finite_number(
        "validation", validation, minimum=0.0, maximum=1.0, open_minimum=True, open_maximum=True
    )
    aside = max(1, round(fraction * rows))
    if aside >= rows:
        raise ValueError(f"validation={fraction:g} of {rows} rows leaves none to train on")
    return None, aside


def as_parameters(
    name: str, value: object, layer_sizes: Sequence[int], dtype: np.dtype[Any]
) -> list[Array]:
    """Return one finite array [W | b] of shape (n_l, n_{l−1} + 1) for each layer."""
    layers = len(layer_sizes) - 1
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a list of arrays [W | b], got {type(value).__name__}")
    if len(value) != layers:
        raise ValueError(f"{name} must have {layers} arrays, one for each layer, got {len(value)}")
    parameters = []
    for layer, item in enumerate(value, start=1):
        label = f"{name} of layer {layer}"
        shape = (layer_sizes[layer], layer_sizes[layer - 1] + 1)
        p = as_array(label, item, dtype)
        if p.shape != shape:
            raise ValueError(f"{label} must have shape {shape}, got {p.shape}")
        parameters.append(check_finite(label, p))
    return parameters


def join(weights: object, biases: object, layer_sizes: Sequence[int]) -> list[Array]:
    """Return [W | b] of each layer from its parts; `as_parameters` checks what they hold."""
    parts = []
    for name, value in (("weights", weights), ("biases", biases)):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise TypeError(f"{name} must be a list of arrays, got {type(value).__name__}")
        if len(value) != len(layer_sizes) - 1:
            raise ValueError(
                f"{name} must have {len(layer_sizes) - 1} arrays, one for each layer, "
                f"got {len(value)}"
            )
        arrays = []
        for layer, item in enumerate(value, start=1):
            a = _as_real(f"{name} of layer {layer}", item)
            n_in, n_out = layer_sizes[layer - 1], layer_sizes[layer]
            shape = (n_out, n_in) if name == "weights" else (n_out,)
            if a.shape != shape:
                raise ValueError(f"{name} of layer {layer} must have shape {shape}, got {a.shape}")
            arrays.append(a)
        parts.append(arrays)
    return [np.column_stack([W, b]) for W, b in zip(*parts, strict=True)]


def weigh_classes(plan: Plan, data: Data, class_weight: object) -> Data:
    """Return the data with sample weights multiplied by the weights of their rows' classes."""
    if class_weight is None:
        return data
    X, y, weight = data
    link = plan.loss.link
    if link == "softmax":
        labels, classes = (y if y.ndim == 1 else y.argmax(axis=1)), plan.layer_sizes[-1]
    elif link == "sigmoid" and plan.layer_sizes[-1] == 1:
        labels, classes = (y[:, 0] > 0.5).astype(np.int64), 2
    else:
        raise ValueError(
            f"class_weight needs a loss for classes, but the model's is {plan.loss.name!r} with "
            f"{plan.layer_sizes[-1]} outputs"
        )
    factors = np.ones(classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f"class_weight must be 'balanced', a dict or None, got {class_weight!r}"
            )
        totals = np.bincount(labels, weight, minlength=classes)
        present = totals > 0
        factors[present] = totals.sum() / (present.sum() * totals[present])
    elif isinstance(class_weight, Mapping):
        for label, factor in class_weight.items():
            label = check_integer("class_weight's label", label, minimum=0, maximum=classes - 1)
            name = f"class_weight of {label}"
            factors[label] = check_finite_number(name, factor, minimum=0.0)
    else:
        raise TypeError(
            f"class_weight must be 'balanced', a dict or None, got {type(class_weight).__name__}"
        )
    by_class = factors.astype(X.dtype)[labels]
    weight = by_class if weight is None else weight * by_class
    check_weight_sum("sample_weight times class_weight", weight)
    return X, y, weight
