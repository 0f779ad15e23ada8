"""Arrays whose shapes do not fit are refused by every engine, which then is as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_cases import DTYPES, ENGINES, Array, epoch, make_case, make_engine

from fastbp.engines import Engine

ROWS, SIZES = 11, (5, 7, 3)
Arrays = dict[str, Any]


def arrays(dtype: str) -> Arrays:
    return {
        "X": np.ones((ROWS, 5), dtype),
        "y": np.ones((ROWS, 3), dtype),
        "sample_weight": np.ones(ROWS, dtype),
        "order": np.arange(ROWS),
        "learning_rates": np.ones(3),
        "losses": np.zeros(3),
        "penalties": np.zeros(3),
    }


def train(engine: Engine, a: Arrays) -> None:
    engine.epoch(
        a["X"], a["y"], a["sample_weight"], a["order"], a["learning_rates"], a["losses"],
        a["penalties"],
    )  # fmt: skip


def gradients(engine: Engine, a: Arrays) -> None:
    out = [np.zeros_like(W) for W in engine.get_parameters()]
    engine.gradient(a["X"], a["y"], a["sample_weight"], a.get("out", out))


CALLS: dict[str, Callable[[Engine, Arrays], Any]] = {
    "epoch": train,
    "gradient": gradients,
    "loss": lambda engine, a: engine.loss(a["X"], a["y"], a["sample_weight"]),
    "forward": lambda engine, a: engine.forward(a["X"], a["out"]),
    "classify": lambda engine, a: engine.classify(a["X"], a["out"]),
    "jacobian": lambda engine, a: engine.jacobian(a["X"], a["out"]),
}
DATA = ("epoch", "gradient", "loss")
# argument, its shape, the calls that refuse it, what the error says it must be
WRONG = [
    ("X", (ROWS, 4), tuple(CALLS), "(n, 5)"),
    ("X", (ROWS, 6), tuple(CALLS), "(n, 5)"),
    ("X", (ROWS, 0), tuple(CALLS), "(n, 5)"),
    ("y", (ROWS, 2), DATA, "(11, 3)"),
    ("y", (ROWS, 1), DATA, "(11, 3)"),
    ("y", (1, 3), DATA, "(11, 3)"),
    ("y", (ROWS + 1, 3), DATA, "(11, 3)"),
    ("y", (ROWS,), DATA, "(11, 3)"),
    ("y", (ROWS, 3, 1), DATA, "(11, 3)"),
    ("sample_weight", (ROWS - 1,), DATA, "(11,), as many as X"),
    ("sample_weight", (1,), DATA, "(11,), as many as X"),
    ("sample_weight", (0,), DATA, "(11,), as many as X"),
    ("learning_rates", (2,), ("epoch",), "(3,), one for each step"),
    ("losses", (2,), ("epoch",), "(3,), one for each step"),
    ("penalties", (0,), ("epoch",), "(3,), one for each step"),
    ("out", (ROWS, 2), ("forward",), "(11, 3)"),
    ("out", (ROWS - 1, 3), ("forward",), "(11, 3)"),
    ("out", (ROWS - 1,), ("classify",), "(11,)"),
    ("out", (0,), ("classify",), "(11,)"),
    ("out", (ROWS, 3, 4), ("jacobian",), "(11, 3, 5)"),
    ("out", (ROWS, 5, 3), ("jacobian",), "(11, 3, 5)"),
    ("out", (1, 3, 5), ("jacobian",), "(11, 3, 5)"),
]

WRONG_MEMORY = "must be a C-contiguous array of|Buffer dtype mismatch|not C-contiguous"

engines = pytest.mark.parametrize("name", ENGINES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@engines
@dtypes
@pytest.mark.parametrize(("argument", "shape", "calls", "wanted"), WRONG)
def test_shape(
    name: str,
    dtype: str,
    argument: str,
    shape: tuple[int, ...],
    calls: tuple[str, ...],
    wanted: str,
) -> None:
    case = make_case(SIZES, dtype=dtype, rows=ROWS, batch_size=4)
    engine = make_engine(name, case)
    for call in calls:
        good = arrays(dtype)
        if call == "forward":
            good["out"] = np.zeros((ROWS, 3), dtype)
        if call == "classify":
            good["out"] = np.zeros(ROWS, np.int64)
        if call == "jacobian":
            good["out"] = np.zeros((ROWS, 3, 5), dtype)
        wrong = good | {argument: np.ones(shape, good[argument].dtype)}
        message = f"^{argument} must have shape {re.escape(wanted)}.*, got {re.escape(str(shape))}$"
        with pytest.raises(ValueError, match=message):
            CALLS[call](engine, wrong)
        for got, want in zip(engine.get_parameters(), case.parameters, strict=True):
            np.testing.assert_array_equal(got, want)
        assert engine.get_optimizer_state()[0] == 0
        assert not good["losses"].any()
        CALLS[call](make_engine(name, case), good)


@engines
@dtypes
def test_labels(name: str, dtype: str) -> None:
    case = make_case(SIZES, loss="softmax_cross_entropy", labels=True, dtype=dtype, rows=ROWS)
    engine = make_engine(name, case)
    for rows in (ROWS - 1, ROWS + 1, 0):
        with pytest.raises(ValueError, match=r"^y must have shape \(11,\), as many as X, got"):
            engine.loss(case.X, np.zeros(rows, np.int64), None)


@engines
@dtypes
@pytest.mark.parametrize("spoil", ["one less", "one more", "one transposed"])
def test_arrays_for_the_gradient(name: str, dtype: str, spoil: str) -> None:
    case = make_case(SIZES, dtype=dtype, rows=ROWS)
    engine = make_engine(name, case)
    out: list[Array] = [np.zeros_like(W) for W in case.parameters]
    if spoil == "one less":
        del out[-1]
    elif spoil == "one more":
        out.append(out[0].copy())
    else:
        out[1] = np.ascontiguousarray(out[1].T)
    with pytest.raises(
        ValueError, match=r"^out must be arrays of shapes \[\(7, 6\), \(3, 8\)\], got"
    ):
        engine.gradient(case.X, case.y, None, out)
    assert not any(g.any() for g in out)


@engines
@dtypes
def test_no_rows(name: str, dtype: str) -> None:
    """An order of no rows is no step; one of rows that X does not have is refused."""
    case = make_case(SIZES, dtype=dtype, rows=0)
    engine = make_engine(name, case)
    assert epoch(engine, case)[0] == 0
    with pytest.raises(
        ValueError, match=r"^order must have shape \(0,\), as X has no rows, got \(2,"
    ):
        epoch(engine, case, order=np.zeros(2, np.int64))


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "reference"])
@dtypes
def test_memory(name: str, dtype: str) -> None:
    """Compiled engines read arrays of one dtype, row by row."""
    case = make_case(SIZES, dtype=dtype, rows=ROWS, batch_size=4)
    engine = make_engine(name, case)
    other = {"float32": "float64", "float64": "float32"}[dtype]
    out = np.zeros((ROWS, 3), dtype)
    spoilt: list[Arrays] = []
    for argument in ("X", "y", "sample_weight", "order", "learning_rates", "losses", "penalties"):
        good = arrays(dtype)
        wrong = {"order": "int32"}.get(
            argument, other if good[argument].dtype == dtype else "float32"
        )
        spoilt.append(good | {argument: good[argument].astype(wrong)})
        spoilt.append(good | {argument: np.repeat(good[argument], 2, axis=-1)[..., ::2]})
    for each in spoilt:
        with pytest.raises(ValueError, match=WRONG_MEMORY):
            train(engine, each)
    for wrong_out in (out.astype(other), np.zeros((3, ROWS), dtype).T):
        with pytest.raises(ValueError, match=WRONG_MEMORY):
            engine.forward(case.X, wrong_out)
    for classes in (np.zeros(ROWS, np.int32), np.zeros(2 * ROWS, np.int64)[::2]):
        with pytest.raises(ValueError, match=WRONG_MEMORY):
            engine.classify(case.X, classes)
    for got, want in zip(engine.get_parameters(), case.parameters, strict=True):
        np.testing.assert_array_equal(got, want)
