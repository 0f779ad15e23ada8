"""The data set that ships with the package: 8×8 images of handwritten digits.

Source, authors and licence (CC BY 4.0) are in the README beside this file.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_digits"]


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Load the 1,797 handwritten digits (UCI optdigits test set, Alpaydin & Kaynak 1998).

    Returns
    -------
    X : ndarray of shape (1797, 64), float32
        Row-major 8×8 images, 0 (paper) to 1 (ink), in steps of 1/16.
    y : ndarray of shape (1797,), int64
        The digits, 0 to 9.

    Examples
    --------
    >>> from fastbp.data import load_digits
    >>> X, y = load_digits()
    >>> X.shape, y[:5].tolist()
    ((1797, 64), [0, 1, 2, 3, 4])
    """
    with resources.files(__name__).joinpath("digits.npz").open("rb") as file, np.load(file) as npz:
        X = npz["images"].reshape(-1, 64).astype(np.float32) / np.float32(16)
        return X, npz["labels"].astype(np.int64)
