"""Tables and options of the tests of the networks for tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastbp.tabular import recipes

Array = Any
QUICK: dict[str, Any] = {
    "hidden_layer_sizes": (32, 32),
    "epochs": 40,
    "n_members": 1,
    "random_state": 0,
}
MODELS = list(recipes.MODELS)


def mixed(rows: int = 400, seed: int = 0) -> tuple[Any, Array, Array]:
    """A frame of numbers with gaps, names few and many; labels and numbers that follow from it."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    size = rng.standard_normal(rows)
    many = rng.integers(0, 30, rows)
    few = rng.choice(["red", "green", "blue"], rows)
    score = np.sin(2 * size) + 0.2 * (many % 5) + (few == "red") + 0.1 * rng.standard_normal(rows)
    frame = pd.DataFrame(
        {
            "size": np.where(rng.random(rows) < 0.1, np.nan, size),
            "shop": [f"s{k}" for k in many],
            "colour": few,
            "flag": rng.random(rows) < 0.5,
        }
    )
    return frame, np.where(score > np.median(score), "high", "low"), score


TINY: dict[str, Any] = {"hidden_layer_sizes": (8,), "epochs": 3, "n_members": 1, "random_state": 0}


def numbers(rows: int = 300) -> tuple[Array, Array, Array]:
    X = np.random.default_rng(0).normal(size=(rows, 3))
    return X, np.where(X[:, 0] > 0, "a", "b"), X[:, 0].copy()
