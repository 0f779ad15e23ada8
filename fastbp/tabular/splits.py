"""Rows to train on and rows to validate on: a share of them, or folds; by class, or whole groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["folds", "holdout"]

Array = NDArray[Any]
Rows = NDArray[np.int64]


def holdout(
    rows: int,
    share: float,
    labels: Array | None,
    groups: Array | None,
    generator: np.random.Generator,
) -> tuple[Rows, Rows]:
    """Rows to train on, and about this share of them to validate on; none where there are too few."""
    if share == 0 or rows < 2:
        return np.arange(rows), np.arange(0)
    if groups is not None:
        order = generator.permutation(int(groups.max()) + 1)
        sizes = np.bincount(groups)[order]
        wanted = order[np.cumsum(sizes) <= max(share * rows, sizes[0])]
        aside = np.isin(groups, wanted)
        if aside.all():
            return np.arange(rows), np.arange(0)
    else:
        aside = np.zeros(rows, bool)
        for members in _by_class(rows, labels):
            # A class of one row is trained on.
            n = min(round(share * len(members)), len(members) - 1)
            aside[generator.permutation(members)[:n]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def folds(
    rows: int,
    n_folds: int,
    labels: Array | None,
    groups: Array | None,
    generator: np.random.Generator,
) -> list[tuple[Rows, Rows]]:
    """Pairs as of `holdout`, in which every row is validated on once.

    Raises
    ------
    ValueError
        If there are fewer rows, or groups, than folds.
    """
    fold = np.empty(rows, np.int64)
    if groups is not None:
        order = generator.permutation(int(groups.max()) + 1)
        if len(order) < n_folds:
            raise ValueError(f"n_folds={n_folds} folds of {len(order)} groups")
        of_group = np.empty(len(order), np.int64)
        sizes = np.bincount(groups)
        filled = np.zeros(n_folds)
        for group in sorted(order.tolist(), key=lambda g: -int(sizes[g])):  # the large ones first
            of_group[group] = filled.argmin()
            filled[filled.argmin()] += sizes[group]
        fold = of_group[groups]
    else:
        if rows < n_folds:
            raise ValueError(f"n_folds={n_folds} folds, but n_samples={rows}")
        start = 0
        for members in _by_class(rows, labels):
            shuffled = generator.permutation(members)
            fold[shuffled] = (start + np.arange(len(members))) % n_folds
            start += len(members)
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]


def _by_class(rows: int, labels: Array | None) -> list[Rows]:
    if labels is None:
        return [np.arange(rows)]
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
