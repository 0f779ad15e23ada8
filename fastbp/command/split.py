"""Which rows are held out: at random, in each class alike, groups as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["held_out"]

Array = NDArray[Any]


def held_out(
    y: Array,
    fraction: float,
    generator: np.random.Generator,
    *,
    classes: bool,
    groups: Array | None = None,
) -> NDArray[np.bool_]:
    """Choose rows to hold out, about this fraction of them.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Class indices, or numbers.
    fraction : float
    generator : Generator
    classes : bool
        Hold out of each class alike; a class keeps at least one row.
    groups : ndarray of int, shape (n,), or None
        Rows of a group are held out together.

    Returns
    -------
    ndarray of bool, shape (n,)
        May be none where there are few rows; never all.
    """
    n = len(y)
    out = np.zeros(n, bool)
    wanted = fraction * n
    if groups is not None:
        sizes = np.bincount(groups)
        present = generator.permutation(np.flatnonzero(sizes))
        ends = np.cumsum(sizes[present])
        # A group counts as within the fraction if more than half of it is.
        chosen = present[ends - sizes[present] / 2 <= wanted]
        return np.isin(groups, chosen[: len(present) - 1])
    order = generator.permutation(n)
    if classes:
        order = order[np.argsort(y[order], kind="stable")]
        first = np.ones(n, bool)  # of its class: stays
        first[1:] = y[order[1:]] != y[order[:-1]]
    else:
        first = np.arange(n) == 0
    free = order[~first]
    # Every 1/fraction-th of the rows, class by class: each class gives its share to within one row.
    count = min(round(wanted), len(free))
    if count == 0 and fraction > 0 and n >= 4 and len(free):
        count = 1
    if count:
        places = ((np.arange(count) + generator.random()) * (len(free) / count)).astype(np.int64)
        out[free[places]] = True
    return out
