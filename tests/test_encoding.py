"""From columns to X and y and back."""

from __future__ import annotations

import numpy as np
import pytest
from fastbp._encoding import Encoding
from fastbp._tables import Table


def table() -> Table:
    return {
        "size": np.array([1.0, 2.0, 3.0, 6.0]),
        "colour": np.array(["red", "blue", "red", "green"]),
        "same": np.array([5, 5, 5, 5]),
        "kind": np.array(["b", "a", "b", "c"]),
    }


def test_numbers_stay_and_text_is_one_hot() -> None:
    encoding = Encoding.of(table(), "kind")
    assert encoding.X(table()).tolist() == [
        # size, blue, green, red, same
        [1, 0, 0, 1, 5],
        [2, 1, 0, 0, 5],
        [3, 0, 0, 1, 5],
        [6, 0, 1, 0, 5],
    ]


def test_training_rows_are_standardised() -> None:
    encoding = Encoding.of(table(), "kind")
    X = encoding.X(table())
    encoding.fit(X, encoding.y(table()))
    Z = encoding.scale_X(X)
    # Means and variances of 4 values of size ~1: a few roundings each.
    tolerance = 16 * np.finfo(float).eps
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=tolerance)
    np.testing.assert_allclose(Z.var(axis=0)[:-1], 1, rtol=tolerance)
    assert Z[:, -1].tolist() == [0, 0, 0, 0]  # a constant column is not divided by 0
    assert encoding.scale[-1] == 1


def test_classes_go_to_indices_and_back() -> None:
    encoding = Encoding.of(table(), "kind")
    y = encoding.y(table())
    assert encoding.classes == ["a", "b", "c"]
    assert y.tolist() == [1, 0, 1, 2]
    assert encoding.answers(y) == ["b", "a", "b", "c"]


def test_whole_numbers_as_classes_come_back_as_integers() -> None:
    encoding = Encoding.of({"x": np.arange(4), "y": np.array([7.0, 3.0, 7.0, 3.0])}, "y")
    assert repr(encoding.answers(np.array([0, 1]))) == "[3, 7]"


def test_regression_targets_go_to_unit_scale_and_back() -> None:
    encoding = Encoding.of(table(), "size", "regression")
    y = encoding.y(table())
    encoding.fit(encoding.X(table()), y)
    scaled = encoding.scale_y(y)
    tolerance = 16 * np.finfo(float).eps
    assert abs(scaled.mean()) <= tolerance
    assert abs(scaled.var() - 1) <= tolerance
    np.testing.assert_allclose(encoding.answers(scaled), y, rtol=tolerance)


@pytest.mark.parametrize(
    ("values", "is_classification"),
    [
        (np.array(["no", "yes"] * 30), True),
        (np.arange(60) % 20, True),
        (np.arange(60) % 21, False),
        (np.arange(60) % 2 + 0.5, False),
        (np.arange(60) % 2 + 0.4, False),
    ],
)
def test_task_auto(values: np.ndarray, is_classification: bool) -> None:
    encoding = Encoding.of({"x": np.arange(60), "y": values}, "y")
    assert (encoding.classes is not None) == is_classification


def test_json_round_trip() -> None:
    encoding = Encoding.of(table(), "kind")
    encoding.fit(encoding.X(table()), encoding.y(table()))
    assert Encoding.from_json(encoding.to_json()) == encoding
    assert '"größe"' in Encoding("größe", {}, None).to_json()


@pytest.mark.parametrize(
    ("change", "target", "task", "message"),
    [
        ({}, "knid", "auto", "unknown column 'knid'; did you mean 'kind'"),
        ({}, "kind", "regression", r"is text \('b', …\)"),
        ({"same": np.array([5])}, "same", "classification", r"one value only \(5\)"),
        (
            {"colour": np.arange(1001).astype(str)},
            "kind",
            "auto",
            r"1,001 different values \('999', …\), more than the 1,000 that",
        ),
    ],
)
def test_mistakes_in_training(change: Table, target: str, task: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoding.of(table() | change, target, task)


def test_a_thousand_categories_are_encoded() -> None:
    texts = np.arange(1000).astype(str)
    encoding = Encoding.of({"x": texts, "y": np.arange(1000) % 2}, "y")
    assert encoding.X({"x": texts}).sum(axis=0).tolist() == [1] * 1000


def test_a_constant_target_keeps_its_scale() -> None:
    encoding = Encoding.of({"x": np.arange(3), "y": np.full(3, 5.5)}, "y", "regression")
    assert (encoding.target_mean, encoding.target_scale) == (0, 1)  # none has been learnt
    encoding.fit(encoding.X({"x": np.arange(3)}), np.full(3, 5.5))
    assert (encoding.target_mean, encoding.target_scale) == (5.5, 1)


def test_a_target_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="the only one"):
        Encoding.of({"y": np.array([0, 1])}, "y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": np.array(["red", "bleu"])}, "row 2: unknown value of column 'colour' 'bleu'"),
        ({"colour": np.array([1.0, 2.0])}, "column 'colour' holds numbers, in training text"),
        ({"size": np.array(["1", "x"])}, "column 'size' holds text, in training numbers"),
    ],
)
def test_mistakes_in_prediction(change: Table, message: str) -> None:
    encoding = Encoding.of(table(), "kind")
    with pytest.raises(ValueError, match=message):
        encoding.X(table() | change)


def test_a_column_left_out_in_prediction() -> None:
    encoding = Encoding.of(table(), "kind")
    rest = table()
    del rest["size"]
    with pytest.raises(ValueError, match="unknown column 'size'"):
        encoding.X(rest)
