"""Reading a user's file into columns: CSV, NPY, NPZ, Parquet.

A table is a dict from column name to a one-dimensional array: numbers, or text (dtype str). What
the columns mean to a network is `_encoding.py`'s business.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "read_table"]

Table = dict[str, NDArray[Any]]

# Cells that stand for "no value", compared in lower case.
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")


def read_table(path: str | Path) -> Table:
    """Read a file's columns; rows are counted from 1, without the header.

    Parameters
    ----------
    path : str or Path
        ``.csv`` / ``.tsv`` / ``.txt`` with a header (comma, semicolon or tab; UTF-8), ``.npy`` of a
        2-D array (columns are named 0, 1, …), ``.npz`` (1-D arrays are columns named by their key,
        the columns of a 2-D array X are X[0], X[1], …), or ``.parquet`` (needs pyarrow).

    Returns
    -------
    dict of str to ndarray of shape (n,)
        Numeric or text (dtype str) columns, all of one length ≥ 1, no value missing or infinite.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not what its suffix says, or a value is missing: the message names the file, the
        column and the row.
    ImportError
        If a Parquet file is given and pyarrow is not installed.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: unknown kind of file; known suffixes: {', '.join(_READERS)}")
    try:
        table = reader(path)
        _check(table)
    except (ValueError, EOFError, csv.Error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from None
    return table


def _check(table: Table) -> None:
    if not table or not len(next(iter(table.values()))):
        raise ValueError("no rows of data")
    for name, column in table.items():
        if column.dtype.kind in "iub":
            continue
        if column.dtype.kind == "f":
            bad = ~np.isfinite(column)
        elif column.dtype.kind == "U":
            bad = column == ""
        else:
            raise ValueError(f"column {name!r} holds neither numbers nor text ({column.dtype})")
        if bad.any():
            row = int(bad.argmax())
            what = "infinite" if column.dtype.kind == "f" and np.isinf(column[row]) else "missing"
            raise ValueError(f"column {name!r}, row {row + 1}: the value is {what}")


def _read_csv(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        if not first.strip():
            raise ValueError("the first line must be a header with the names of the columns")
        delimiter = max(",;\t", key=first.count)
        file.seek(0)
        rows = csv.reader(file, delimiter=delimiter)
        header = [name.strip() for name in next(rows)]
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise ValueError(f"column name {twice!r} is there twice; is the first line a header?")
        body = [row for row in rows if row]
    for number, row in enumerate(body, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} values, the header {len(header)} names")
    return {
        name: _parse(list(cells))
        for name, cells in zip(header, zip(*body, strict=True), strict=False)
    }


def _parse(cells: list[str]) -> NDArray[Any]:
    """Numbers where every cell that is not missing is one, else text."""
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        present = ["nan" if cell.strip().lower() in _MISSING else cell for cell in cells]
    try:
        return np.array(present, dtype=np.float64)
    except ValueError:
        return np.char.strip(np.array(cells, dtype=np.str_))


def _read_npy(path: Path) -> Table:
    with path.open("rb") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return _columns_of(_accepted("the array", array, dimensions=(2,)), "{}")


def _read_npz(path: Path) -> Table:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("this is not an NPZ file")
        with np.load(file, allow_pickle=False) as npz:
            arrays = {key: np.asarray(npz[key]) for key in npz.files}
    table: Table = {}
    for key, array in arrays.items():
        _accepted(f"array {key!r}", array, dimensions=(1, 2))
        if len(array) != len(next(iter(arrays.values()))):
            lengths = ", ".join(f"{k}: {len(a)}" for k, a in arrays.items())
            raise ValueError(f"the arrays have different lengths ({lengths})")
        table |= {key: array} if array.ndim == 1 else _columns_of(array, key + "[{}]")
    return table


def _accepted(name: str, array: NDArray[Any], dimensions: tuple[int, ...]) -> NDArray[Any]:
    wanted = " or ".join(f"{d}-D" for d in dimensions)
    if array.ndim not in dimensions or array.dtype.kind not in "iubfU":
        raise ValueError(
            f"{name} must be {wanted}, numbers or text; got shape {array.shape}, {array.dtype}"
        )
    return array


def _columns_of(array: NDArray[Any], name: str) -> Table:
    return {name.format(j): array[:, j] for j in range(array.shape[1])}


def _read_parquet(path: Path) -> Table:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError(
            f'{path}: Parquet files need pyarrow: pip install "fastbp[parquet]"'
        ) from None
    source = parquet.read_table(path)
    table: Table = {}
    for name, column in zip(source.column_names, source.columns, strict=True):
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise ValueError(f"column {name!r}, row {row + 1}: the value is missing")
        values = column.to_numpy()
        is_text = values.dtype.kind == "O" and all(isinstance(value, str) for value in values)
        table[name] = values.astype(np.str_) if is_text else values
    return table


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".txt": _read_csv,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
