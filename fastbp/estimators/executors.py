"""Fits in other processes: `fit_many` with an executor of the `concurrent.futures` kind.

Arrays that lie in a file are sent as its path, and mapped into memory there; an estimator comes back as
its parameters and weights.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fastbp.estimators.parallel import in_worker

__all__ = ["fit_by"]

T = TypeVar("T")


@dataclass(frozen=True)
class Mapped:
    """An array in a file."""

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    def open(self) -> Any:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def packed(data: Any) -> Any:
    """Where the data are, if they are in a file from there on; else the data."""
    if not isinstance(data, np.memmap) or not data.flags.c_contiguous or data.size == 0:
        return data
    whole = data
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    if whole.filename is None or not os.path.exists(whole.filename):  # a temporary file
        return data
    start = data.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    path = os.path.abspath(os.fspath(whole.filename))
    return Mapped(path, data.dtype, data.shape, whole.offset + start)


def _fit(estimator: Any, data: dict[str, Any]) -> Any:
    """In the worker."""
    opened = {name: a.open() if isinstance(a, Mapped) else a for name, a in data.items()}
    with in_worker():
        estimator.fit(**opened)
    return estimator


def fit_by(executor: Any, estimators: list[T], data: dict[str, Any]) -> list[T]:
    """The estimators as the executor's workers have fitted them; raises what one of them raised."""
    sent = {name: packed(a) for name, a in data.items()}
    fits = []
    try:
        fits = [executor.submit(_fit, estimator, sent) for estimator in estimators]
        errors = [each.exception() for each in fits]
    except BaseException:
        for each in fits:
            each.cancel()
        raise
    for error in errors:
        if error is not None:
            raise error
    return [each.result() for each in fits]
