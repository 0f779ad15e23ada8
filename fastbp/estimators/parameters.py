"""``coefs_`` and ``intercepts_``, and [W | b] of each layer, as an engine takes it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


def sizes_of(coefs: list[Array], intercepts: list[Array]) -> tuple[int, ...]:
    """n_0 … n_L of ``coefs_`` and ``intercepts_``, which users may have changed.

    Raises
    ------
    ValueError
        If they do not make a network.
    """
    sizes = tuple(len(a) for a in (*coefs[:1], *intercepts))
    shapes, widths = [a.shape for a in coefs], [a.shape for a in intercepts]
    if shapes != list(itertools.pairwise(sizes)) or widths != [(n,) for n in sizes[1:]]:
        raise ValueError(
            "coefs_ and intercepts_ must make a network, layer by layer (n_in, n_out) and (n_out,), "
            f"but have shapes {shapes} and {widths}"
        )
    return sizes


def join(coefs: list[Array], intercepts: list[Array], dtype: DTypeLike) -> list[Array]:
    """[W | b] of each layer from scikit-learn's form (n_in, n_out), which `sizes_of` has checked."""
    parameters = []
    for coef, intercept in zip(coefs, intercepts, strict=True):
        n_in, n_out = coef.shape
        p = np.empty((n_out, n_in + 1), dtype)
        p[:, :-1] = coef.T
        p[:, -1] = intercept
        parameters.append(p)
    return parameters


def split(parameters: list[Array]) -> tuple[list[Array], list[Array]]:
    """``coefs_`` and ``intercepts_`` from [W | b] of each layer."""
    return [np.ascontiguousarray(p[:, :-1].T) for p in parameters], [
        p[:, -1].copy() for p in parameters
    ]
