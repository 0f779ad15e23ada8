"""Frames as people have them (pandas, polars, Arrow, modin, arrays, dicts of columns), as parts.

narwhals knows the kinds of frames; the columns are taken as Arrow arrays, without a copy where it can
be. A column of Python objects that Arrow has no type for becomes text.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import numpy as np

from fastbp.tables._extra import need
from fastbp.tables.parts import Parts, in_slices

__all__ = ["columns_of", "from_objects", "parts_from", "parts_of"]


def parts_of(frame: Any) -> Parts:
    """A frame, a dict of columns, or a 2-D array, in parts."""
    return parts_from(columns_of(frame))


def parts_from(columns: dict[str, Any]) -> Parts:
    """Columns of one length in parts."""
    return Parts(in_slices(columns))


def columns_of(frame: Any) -> dict[str, Any]:
    """Columns by name; those of an array are named x0, x1, ….

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If two columns have one name, or columns have different lengths.
    """
    if isinstance(frame, dict):
        columns = {str(name): _series(np.asarray(column)) for name, column in frame.items()}
        if len({len(column) for column in columns.values()}) > 1:
            raise ValueError("the columns have different lengths")
        return columns
    if isinstance(frame, np.ndarray):
        if frame.ndim != 2:
            raise ValueError(
                f"a table must have two dimensions, got an array of shape {frame.shape}"
            )
        return {f"x{j}": _series(frame[:, j]) for j in range(frame.shape[1])}
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        # narwhals, which knows its columns, too, takes longer for one than to predict a row
        return _named((name, column, None) for name, column in frame.items())
    nw = need("narwhals.stable.v2", "a frame")
    try:
        taken = nw.from_native(frame, eager_only=True)
    except TypeError:
        raise TypeError(
            "a table must be a frame (pandas, polars, Arrow, modin), a dict of columns or a 2-D "
            f"array, got {type(frame).__name__}"
        ) from None
    wrapped = ((name, taken.get_column(name)) for name in taken.columns)
    return _named((name, c.to_native(), c) for name, c in wrapped)


def _named(given: Iterable[tuple[Any, Any, Any]]) -> dict[str, Any]:
    """Columns by name: each as it is, and as narwhals has it."""
    need("pyarrow", "a frame")
    columns: dict[str, Any] = {}
    for name, native, series in given:
        if str(name) in columns:
            raise ValueError(f"column name {str(name)!r} is there twice; rename one of them")
        columns[str(name)] = _arrow(native, series)
    return columns


def from_objects(values: list[Any]) -> Any:
    """Python objects as an Arrow array: of one type, or else as text."""
    pa = need("pyarrow", "a column of objects")
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([None if _is_missing(v) else str(v) for v in values], pa.string())


def _series(column: Any) -> Any:
    if column.ndim == 1 and column.dtype.kind in "iufbmM":
        return column
    if column.dtype.kind == "U" and find_spec("pyarrow") is None:
        return column  # as those of NPZ files
    return from_objects(column.tolist())


def _arrow(native: Any, series: Any) -> Any:
    """A column as Arrow's array, numbers of pandas as NumPy's; `series`: narwhals' column, or None."""
    import pyarrow as pa

    dtype = getattr(native, "dtype", None)
    kind = dtype.kind if isinstance(dtype, np.dtype) else ""
    if kind and kind in "iuf":  # NaN is what is missing
        numbers = native.to_numpy()
        if type(numbers) is np.ndarray:
            return numbers
    if kind == "O":  # whatever is in it
        return from_objects(list(native))
    try:
        return pa.Array.from_pandas(native) if series is None else series.to_arrow()
    except (pa.ArrowException, TypeError, ValueError):
        return from_objects(list(native) if series is None else series.to_list())


def _is_missing(value: object) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return type(value).__name__ in ("NAType", "NaTType")
