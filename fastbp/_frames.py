"""DataFrames, arrays of objects and masked arrays of numbers: how they become plain arrays.

A library of frames is not imported for this: a frame is what has ``iloc``, ``columns`` and ``dtypes``
(pandas and those like it; Polars and Arrow convert themselves). Its columns are taken one by one, for
as one array those of different types would become an object for each number. A number that is
missing (None, NaN, pandas.NA, masked) is an error that says where.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_NUMBER = numbers.Real | np.bool_
_MISSING = ("NoneType", "NAType", "NaTType")


def place(index: tuple[int, ...], columns: Any) -> str:
    """Where an entry is, for a message: by the name of its column, where that has one."""
    names = [] if columns is None else list(columns)
    if len(index) == 2 and index[1] < len(names) and isinstance(names[index[1]], str):
        return f"row {index[0]} of column {names[index[1]]!r}"
    return f"entry {list(index)}"


def columns_of(value: object) -> Any:
    """Names of the columns of a frame; None of what has none."""
    for name in ("column_names", "columns"):  # an Arrow table's, a frame's
        names = getattr(value, name, None)
        if names is not None and not callable(names):
            return names
    return None


def missing(name: str, index: tuple[int, ...], columns: Any) -> ValueError:
    """The error for a missing number."""
    return ValueError(
        f"{name} must not have missing values, but {place(index, columns)} is missing (NaN or None)"
    )


def is_mixed(value: object) -> bool:
    """Whether it is a frame whose columns have to be taken one by one."""
    if not (hasattr(value, "iloc") and hasattr(value, "columns") and hasattr(value, "dtypes")):
        return False
    kinds = list(value.dtypes)
    return len(set(kinds)) > 1 or not all(isinstance(kind, np.dtype) for kind in kinds)


def from_frame(name: str, frame: Any) -> Array:
    """The columns of a frame as one array of numbers, of a type that holds them all."""
    names = list(frame.columns)
    columns = [
        as_numbers(name, frame.iloc[:, i], columns=names, column=i) for i in range(len(names))
    ]
    out = np.empty((len(frame), len(columns)), np.result_type(*columns))
    for i, column in enumerate(columns):
        out[:, i] = column
    return out


def as_numbers(name: str, value: Any, *, columns: Any = None, column: int | None = None) -> Array:
    """The value as an array of bools, integers or floats.

    `columns` and `column` say where in a frame it is from. An object array of no dimension, such as
    that of None, is returned as it is.

    Raises
    ------
    TypeError
        If it holds something else than numbers.
    ValueError
        If one is missing, or rows have unequal lengths.
    """
    if is_mixed(value):
        return from_frame(name, value)
    try:
        a = np.asarray(value)
    except ValueError as error:  # rows of unequal length
        raise ValueError(f"{name} must be an array of numbers: {error}") from None
    columns = columns_of(value) if columns is None else columns
    if isinstance(value, np.ma.MaskedArray) and value.mask.any():
        raise missing(name, _first(np.ma.getmaskarray(value)), columns)
    if a.dtype == object and a.ndim:
        a = _from_objects(name, a, columns, column)
    if column is not None and a.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} must hold real numbers, but column {columns[column]!r} has dtype {a.dtype}"
        )
    return a


def _from_objects(name: str, a: Array, columns: Any, column: int | None) -> Array:
    """An array of the numbers that these objects are."""
    kinds = set(map(type, a.ravel()))

    def where(wanted: Any) -> tuple[int, ...]:
        found = _first(np.array([wanted(item) for item in a.ravel()]).reshape(a.shape))
        return found if column is None else (*found, column)

    if any(kind.__name__ in _MISSING for kind in kinds):
        raise missing(name, where(lambda item: type(item).__name__ in _MISSING), columns)
    others = {k for k in kinds if not issubclass(k, _NUMBER) and k.__name__ != "Decimal"}
    if others:
        index = where(lambda item: type(item) in others)
        kind = type(a[index[: a.ndim]]).__name__
        raise TypeError(
            f"{name} must hold real numbers, but {place(index, columns)} is an object of type {kind}"
        )
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return a.astype(np.bool_)
    try:
        if all(issubclass(kind, numbers.Integral | np.bool_) for kind in kinds):
            return a.astype(np.int64)
    except OverflowError:
        pass
    try:
        found: Array = a.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{name} must be finite in float64: {error}") from None
    if np.isnan(found).any():
        index = _first(np.isnan(found))
        raise missing(name, index if column is None else (*index, column), columns)
    return found


def _first(where: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(where)[0])
