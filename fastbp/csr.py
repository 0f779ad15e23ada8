"""Sparse rows (CSR, compressed sparse rows): the second kind of X. No arithmetic of networks.

Row r of X has its nonzeros at starts[r] … starts[r + 1] − 1 of `values` and `columns`. Columns may come
in any order and more than once, and then their values add up; a value may be 0. What is given in this
form is checked here once, before any work; engines trust the numbers but, as another thread may change
them meanwhile, never read where they do not point to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CSR", "as_csr", "check", "from_dense", "is_sparse"]

Array = NDArray[Any]


@dataclass(slots=True, eq=False)
class CSR:
    """Rows of which only the nonzeros are there.

    Attributes
    ----------
    values : ndarray of shape (k,)
        Of a float dtype.
    columns : ndarray of shape (k,)
        int32 or int64: the column of each value.
    starts : ndarray of shape (n + 1,)
        int32 or int64: where each row begins in the other two, and the last one ends.
    shape : (n, columns)

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.csr import CSR
    >>> X = CSR(np.array([2.0, 5.0]), np.array([2, 0]), np.array([0, 1, 2]), (2, 3))
    >>> X.toarray()
    array([[0., 0., 2.],
           [5., 0., 0.]])
    """

    values: Array
    columns: Array
    starts: Array
    shape: tuple[int, int]

    ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        dtype: np.dtype[Any] = self.values.dtype
        return dtype

    @property
    def share(self) -> float:
        """Of all entries, those that are there; 1 where there are none at all."""
        entries = self.shape[0] * self.shape[1]
        return len(self.values) / entries if entries else 1.0

    def counts(self) -> Array:
        """How many entries each row has."""
        return np.diff(self.starts)

    def rows(self) -> Array:
        """The row of each value."""
        return np.repeat(np.arange(len(self)), self.counts())

    def __getitem__(self, wanted: slice | Array) -> CSR:
        """These rows, in this order."""
        picked = np.arange(len(self))[wanted]
        counts = self.counts()[picked]
        starts = np.zeros(len(picked) + 1, np.int64)
        np.cumsum(counts, out=starts[1:])
        # Of entry i of the result, in row r: i − starts[r] entries after the row's first.
        at = np.arange(starts[-1]) + np.repeat(self.starts[:-1][picked] - starts[:-1], counts)
        return CSR(self.values[at], self.columns[at], starts, (len(picked), self.shape[1]))

    def toarray(self) -> Array:
        """The same, dense."""
        out = np.zeros(self.shape, self.dtype)
        at = self.rows() * self.shape[1] + self.columns
        np.add.at(out.reshape(-1), at, self.values)  # four times as fast as with two indices
        return out


def is_sparse(value: object) -> bool:
    """Whether it is a matrix of SciPy's sparse kinds, or one of ours."""
    return isinstance(value, CSR) or hasattr(value, "tocsr")


def from_dense(a: Array) -> CSR:
    """The nonzeros of a dense matrix."""
    rows, columns = np.nonzero(a)
    starts = np.zeros(len(a) + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=len(a)), out=starts[1:])
    return CSR(a[rows, columns], np.ascontiguousarray(columns), starts, a.shape)


def as_csr(name: str, value: Any, columns: int, dtype: np.dtype[Any]) -> CSR:
    """`value`, of which `is_sparse` holds, as checked rows of `dtype` with so many columns.

    Arrays are used in place where they are contiguous and of a dtype that engines take.

    Raises
    ------
    TypeError
        If the values are no real numbers, or the columns no integers.
    ValueError
        If the shape is another one, or the arrays make no rows; see `check`.
    """
    if isinstance(value, CSR):
        X = CSR(_as(value.values, dtype), value.columns, value.starts, value.shape)
    else:
        if getattr(value, "format", "") != "csr":
            value = value.tocsr()
        shape = value.shape
        if len(shape) != 2:
            raise ValueError(
                f"{name} must have shape (n, {columns}), got {shape}"
                + (" (pass a single row as [row])" if shape == (columns,) else "")
            )
        values = np.asarray(value.data)
        if values.dtype.kind not in "biuf":
            raise TypeError(f"{name} must hold real numbers, got dtype {values.dtype}")
        X = CSR(
            _as(values, dtype),
            _as_integers(f"{name}'s indices", value.indices),
            _as_integers(f"{name}'s indptr", value.indptr),
            shape,
        )
    if X.shape[1] != columns:
        raise ValueError(f"{name} must have shape (n, {columns}), got {X.shape}")
    check(name, X)
    return X


def _as(a: Array, dtype: np.dtype[Any]) -> Array:
    if a.dtype == dtype and a.flags.c_contiguous and a.flags.aligned:
        return a
    with np.errstate(over="ignore"):  # what overflows is reported by the check for infinity
        return np.require(a, dtype, ["C_CONTIGUOUS", "ALIGNED"])


_INTEGERS = (np.dtype(np.int32), np.dtype(np.int64))


def _as_integers(name: str, a: Any) -> Array:
    a = np.asarray(a)
    if a.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {a.dtype}")
    return _as(a, a.dtype if a.dtype in _INTEGERS else _INTEGERS[1])


_UNSIGNED: dict[int, Any] = {4: np.dtype(np.uint32), 8: np.dtype(np.uint64)}
FEW = 4096  # values of which BLAS sums products on one thread, leaving the others alone


def check(name: str, X: CSR) -> None:
    """Raise ValueError unless the arrays make rows of finite numbers; cuts off what follows the last.

    The messages call the arrays data, indices and indptr, as SciPy does.
    """
    values, columns, starts = X.values, X.columns, X.starts
    n, width = X.shape
    if starts.ndim != 1 or len(starts) != n + 1:
        raise ValueError(
            f"{name}'s indptr must have shape ({n + 1},), one more than rows, got {starts.shape}"
        )
    if values.ndim != 1 or columns.shape != values.shape:
        raise ValueError(
            f"{name}'s data and indices must be as many, got {values.shape} and {columns.shape}"
        )
    first, last = starts.item(0), starts.item(-1)
    if first != 0:
        raise ValueError(f"{name}'s indptr must begin with 0, got {first}")
    if n > 1 and (starts[1:] < starts[:-1]).any():
        i = int((starts[1:] < starts[:-1]).argmax()) + 1
        raise ValueError(
            f"{name}'s indptr must not decrease, but entry {i} is {starts[i]} after {starts[i - 1]}"
        )
    if not 0 <= last <= len(values):
        raise ValueError(
            f"{name}'s indptr must end at most at {len(values)}, the number of entries, got {last}"
        )
    if last < len(values):  # room that is not used
        values, columns = X.values, X.columns = values[:last], columns[:last]
    if last == 0:
        return
    # A negative number is a large one without a sign.
    if np.maximum.reduce(columns.view(_UNSIGNED[columns.itemsize])) >= width:
        at = int(((columns < 0) | (columns >= width)).argmax())
        row = int(np.searchsorted(starts, at, side="right")) - 1
        raise ValueError(
            f"{name}'s indices must be from 0 to {width - 1}, but row {row} has {columns[at]}"
        )
    # Σ x² is finite only where all x are, and quick. It may overflow, though.
    if last <= FEW and math.isfinite(values.dot(values)):
        return
    if not (each := np.isfinite(values)).all():
        at = int(each.argmin())
        row = int(np.searchsorted(starts, at, side="right")) - 1
        raise ValueError(
            f"{name} must be finite in {values.dtype}, but entry {[row, int(columns[at])]} is "
            f"{values[at]}"
        )
