"""The embedded digits: shape, range, and facts published with the data set."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from fastbp.data import load_digits


def test_shapes_types_and_values() -> None:
    X, y = load_digits()
    assert (X.shape, X.dtype) == ((1797, 64), np.float32)
    assert (y.shape, y.dtype) == ((1797,), np.int64)
    # Dividing by 16 is exact in binary, so the original counts come back exactly.
    counts = X * 16
    assert np.array_equal(counts, np.rint(counts))
    assert (counts.min(), counts.max()) == (0, 16)


def test_class_counts_are_the_published_ones() -> None:
    # Class distribution of the test set in the data set's own documentation (optdigits.names).
    _, y = load_digits()
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_same_rows_as_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images, labels = datasets.load_digits(return_X_y=True)
    X, y = load_digits()
    assert np.array_equal(X * 16, images)
    assert np.array_equal(y, labels)


def test_each_call_returns_fresh_arrays() -> None:
    X, _ = load_digits()
    X[:] = 9
    assert load_digits()[0].max() == 1


def test_source_and_licence_ship_with_the_data() -> None:
    text = resources.files("fastbp.data").joinpath("README.md").read_text(encoding="utf-8")
    assert "Alpaydin" in text
    assert "CC BY 4.0" in text
