"""Spoilt sparse rows: a documented error that changes nothing, or the right result.

`call_spoilt_rows` makes one call with them. Beside fuzzing.py; test_fuzz.py and stress/fuzz.py run it.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import numpy as np
from fuzzing import require

import fastbp

WIDTH = 30
NUMBERS = [-1, 0, 1, WIDTH - 1, WIDTH, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 5]
VALUES = [np.nan, np.inf, -np.inf, 1e39, 1e-45, 0.0, -0.0, 3.0]


class Matrix:
    """What SciPy's csr_array is, without its checks."""

    format = "csr"

    def __init__(self, data: Any, indices: Any, indptr: Any, shape: Any) -> None:
        self.data, self.indices, self.indptr, self.shape = data, indices, indptr, shape

    def tocsr(self) -> Matrix:
        return self


def draw(generator: random.Random) -> Matrix:
    """Rows, in three of four cases spoilt in some place."""
    rng = np.random.default_rng(generator.getrandbits(32))
    n = generator.choice([1, 2, 7, 40])
    index = generator.choice(["i4", "i8"])
    starts = np.zeros(n + 1, index)
    np.cumsum(rng.integers(0, generator.choice([2, 6]), n), out=starts[1:])
    X = Matrix(
        rng.integers(-3, 4, starts[-1]).astype(generator.choice(["f4", "f8", "i2", "?"])),
        rng.integers(0, WIDTH, starts[-1]).astype(index),
        starts,
        (n, WIDTH),
    )
    for _ in range(generator.choice([0, 1, 1, 2])):
        name = generator.choice(["data", "indices", "indptr"])
        a = getattr(X, name).copy()
        how = generator.randrange(6)
        if how == 0 and len(a):
            values = VALUES if name == "data" else NUMBERS
            if name == "data" and a.dtype.kind != "U":
                a = a.astype("f8")
            with np.errstate(all="ignore"):
                a[generator.randrange(len(a))] = np.array(generator.choice(values)).astype(a.dtype)
        elif how == 1:
            a = a[: generator.randrange(len(a) + 1)]
        elif how == 2:
            a = np.concatenate([a, a[:3]])
        elif how == 3:
            to = generator.choice(["f4", "i2", "u1", "c8", "O", "U3", ">i8", ">f8"])
            with suppress(OverflowError, ValueError):  # some objects and texts
                a = a.astype(to)
        elif how == 4:
            a = np.repeat(a, 2)[::2] if generator.random() < 0.7 else a[:, None]
        else:
            X.shape = generator.choice([(n, WIDTH - 1), (n + 1, WIDTH), (WIDTH,), (n, WIDTH, 1)])
            continue
        setattr(X, name, a)
    return X


def dense(X: Matrix) -> np.ndarray | None:
    """The rows one by one, or None of arrays that are no rows."""
    arrays = [np.asarray(a) for a in (X.data, X.indices, X.indptr)]
    data, indices, indptr = arrays
    if any(a.ndim != 1 for a in arrays) or len(X.shape) != 2 or X.shape[1] != WIDTH:
        return None
    if data.dtype.kind not in "biuf" or any(a.dtype.kind not in "iu" for a in (indices, indptr)):
        return None
    if len(indptr) != X.shape[0] + 1 or len(data) != len(indices) or indptr[0] != 0:
        return None
    out = np.zeros(X.shape, np.float32)
    for r in range(X.shape[0]):
        begin, end = int(indptr[r]), int(indptr[r + 1])
        if not 0 <= begin <= end <= len(data):
            return None
        for k, x in zip(indices[begin:end].tolist(), data[begin:end].tolist(), strict=True):
            if not 0 <= k < WIDTH or abs(float(x)) > 3.4e38 or x != x:
                return None
            out[r, k] += x
    return out


def call_spoilt_rows(generator: random.Random) -> str:
    """Make the call; return how it ended."""
    X = draw(generator)
    judge = dense(X)
    rows = X.shape[0]
    y = np.arange(rows) % 3
    update = generator.choice(["exact", "lazy"])
    seed = generator.getrandbits(20)
    # no kink, at which values that cancel each other would come down on either side
    models = [fastbp.MLP([WIDTH, 5, 3], activation="tanh", seed=seed) for _ in range(2)]
    before = models[0].parameters
    method = generator.choice(["fit", "predict_proba", "loss", "gradient", "jacobian"])
    options: dict[str, Any] = {"epochs": 2, "batch_size": 3, "optimizer": "adam"}

    def run(model: fastbp.MLP, X: Any, **more: Any) -> Any:
        if method == "fit":
            return [model.fit(X, y, **options, **more).loss]
        if method in ("loss", "gradient"):
            return getattr(model, method)(X, y)
        return getattr(model, method)(X)

    try:
        found = run(models[0], X, **({"sparse_update": update} if method == "fit" else {}))
    except (TypeError, ValueError) as error:
        require(judge is None, "rows that are right", error)
        require(bool(str(error)), "no message", error)
        same = map(np.array_equal, before, models[0].parameters)
        require(all(same), "the model has changed", error)
        return "refused"
    assert judge is not None, "arrays that are no rows were taken"
    if method == "fit" and update == "lazy":
        return "done"
    wanted = run(models[1], judge)
    for a, b in zip(np.atleast_1d(found) if method == "loss" else found,
                    np.atleast_1d(wanted) if method == "loss" else wanted, strict=True):  # fmt: skip
        # Some hundred roundings of numbers of about 1; Adam divides by what may be as small as they
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    return "done"
