"""Checks of what `fit` is given: each error names the argument, what it got and what it takes."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.tables.frames import _is_missing

__all__ = ["cat_features", "groups", "listed", "normalized", "target", "weights"]

Array = NDArray[Any]


def listed(name: str, value: Any, wanted: str) -> list[Any]:
    """A parameter that is a sequence, as a list; a text is none."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of {wanted}, got {value!r}")
    return list(value)


def cat_features(value: Any, names: Sequence[str]) -> list[str]:
    """Names of the columns that are categories whatever is in them."""
    if value is None:
        return []
    found = []
    for wish in listed("cat_features", value, "names or indices of columns, such as ['shop', 2]"):
        if isinstance(wish, numbers.Integral) and not isinstance(wish, bool | np.bool_):
            if not -len(names) <= int(wish) < len(names):
                raise ValueError(
                    f"cat_features has the index {wish}, but X has {len(names)} columns: indices "
                    f"are 0 … {len(names) - 1}"
                )
            found.append(names[int(wish)])
        elif not isinstance(wish, str):
            raise TypeError(f"cat_features takes names and indices of columns, got {wish!r}")
        elif wish not in names:
            raise ValueError(nearest_name("column in cat_features", wish, names))
        else:
            found.append(str(wish))
    return found


def target(y: Any) -> Array:
    """y as an array without missing values."""
    if isinstance(y, np.ma.MaskedArray) and np.ma.getmaskarray(y).any():
        raise ValueError("y has masked values: leave these rows out")
    found = np.asarray(y)
    if found.dtype.kind == "O":
        _refuse_missing("y", found.ravel().tolist())
    return found


def _refuse_missing(name: str, values: Sequence[Any]) -> None:
    for row, value in enumerate(values):
        if _is_missing(value) or (isinstance(value, np.floating) and np.isnan(value)):
            raise ValueError(
                f"{name} has a missing value, {value!r}, in row {row}: every row needs one"
            )


def groups(value: Any, rows: int) -> Array | None:
    """Groups as numbers from 0."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.shape != (rows,):
        raise ValueError(f"groups must have {rows} entries, as many as y, got shape {array.shape}")
    if array.dtype.kind in "Of":
        _refuse_missing("groups", array.tolist())
    try:
        return np.unique(array, return_inverse=True)[1].ravel()
    except TypeError:
        kinds = sorted({type(v).__name__ for v in array.tolist()})
        raise TypeError(f"groups must be of one type, got {' and '.join(kinds)}") from None


def weights(name: str, value: Any, rows: int) -> Array | None:
    """Weights of rows as float64, of which at least one is not 0."""
    if value is None:
        return None
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise ValueError(f"{name} has masked values: it must be finite and ≥ 0")
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must hold {rows} numbers, got {value!r:.80}") from None
    if found.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), as many as y, got {found.shape}")
    if (bad := ~(np.isfinite(found) & (found >= 0))).any():
        raise ValueError(f"{name} must be finite and ≥ 0, got {found[bad.argmax()]}")
    if not found.any():
        raise ValueError(f"{name} is zero for every row: there is nothing to go by")
    return found


def normalized(weight: Array) -> Array:
    """Weights with a mean of 1 over those that are not 0: their size must not matter in float32."""
    found = weight / weight.max()
    made: Array = found * (np.count_nonzero(found) / found.sum())
    return made
