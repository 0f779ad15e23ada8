"""What a table's target is taken for: classes, numbers, what cannot be learnt."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from fastbp.tables import frames
from fastbp.tables.target import Target, learn_target

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


EPS = np.finfo(np.float64).eps


def target(values: Any, task: str = "auto", **options: Any) -> tuple[Target, np.ndarray, list[str]]:
    return learn_target(frames.parts_of({"y": values}), "y", task, **options)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["no", "yes"] * 30, ("no", "yes")),
        ([True, False] * 30, ("False", "True")),
        ((np.arange(60) % 20).tolist(), tuple(range(20))),
        ((np.arange(60) % 21).tolist(), None),
        ((np.arange(60) % 2 + 0.5).tolist(), None),
        ((np.arange(60) % 2 + 0.4).tolist(), None),
        (["1", "2", "3"] * 20, (1, 2, 3)),
        (["01", "02", "03"] * 20, ("01", "02", "03")),
        ([f"{i},5" for i in range(60)], None),
        (["1,5", "2,5"] * 30, None),
        (["1", "2", "x"] * 20, ("1", "2", "x")),
    ],
)
def test_task_auto(values: list[Any], classes: tuple[Any, ...] | None) -> None:
    found, y, _ = target(values)
    assert found.classes == classes
    if classes is None:
        fitted = found.fitted(y)
        # A mean and a deviation of 60 values: some roundings each.
        np.testing.assert_allclose(fitted.answers(fitted.scaled(y)), y, rtol=64 * EPS)
    else:
        assert found.answers(y).tolist() == [
            v if isinstance(classes[0], str) and isinstance(v, str) else type(classes[0])(v)
            for v in values
        ]
        assert found.read(pa.array(values)).tolist() == y.tolist()


def test_a_target_that_is_missing_here_and_there() -> None:
    found, y, notes = target([1.5, None, 2.5, 7.0])
    assert np.isnan(y).tolist() == [False, True, False, False]
    assert notes == ["1 row is left out: the target 'y' is missing there"]
    found, y, notes = target(["u", "", "v", None])
    assert (found.classes, y.tolist()) == (("u", "v"), [0, -1, 1, -1])
    assert notes == ["2 rows are left out: the target 'y' is missing there"]
    assert found.read(pa.array(["v", "w", None])).tolist() == [1, -1, -1]


def test_a_target_with_a_cell_that_is_no_number() -> None:
    values = [f"{i}.5" for i in range(100)]
    values[40] = "broken"
    _, y, notes = target(values)
    assert np.isnan(y[40])
    assert "row 41: 'broken'" in notes[0]


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        ([None, None], "auto", "all of its cells are missing"),
        (["", ""], "auto", "all of its cells are missing"),
        ([5, 5, 5], "auto", r"one value only \(5\): nothing to learn"),
        ([5.5, 5.5], "regression", r"one value only \(5.5\): nothing to learn"),
        (["a", "a"], "auto", r"one value only \(a\): nothing to learn"),
        (["a", "b"], "regression", r"is text \('a', …\): not for regression"),
        ([1.5, np.inf], "auto", "row 2, column 'y': the target is infinite"),
        ([datetime(2020, 1, 1)], "auto", "neither numbers nor names"),
        ([f"n{i}" for i in range(50)], "auto", "50 different values in 50 rows, too many"),
        (
            [f"n{i % 10_000}" for i in range(40_000)],
            "auto",
            "10,000 different values, more than the",
        ),
        (np.arange(100.0).tolist(), "classification", "--task regression takes it as a number"),
    ],
)
def test_targets_that_cannot_be_learnt(values: list[Any], task: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        target(values, task)


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="unknown column 'z'"):
        learn_target(frames.parts_of({"y": [1, 2]}), "z")


def test_target_as_plain_data() -> None:
    for values in (["u", "v"] * 20, [1.5, 2.5, 9.0], [1, 2, 3] * 9):
        found, y, _ = target(values)
        found = found.fitted(y)
        assert Target.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    good = found.to_dict()
    for change in (
        {"name": 3},
        {"classes": ["a"]},
        {"classes": ["a", "a"]},
        {"classes": ["a", None]},
        {"classes": "ab"},
        {"center": float("nan")},
        {"scale": 0},
        {"scale": None},
    ):
        with pytest.raises(ValueError, match="target"):
            Target.from_dict(good | change)
