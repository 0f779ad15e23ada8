"""`TableEncoder` is a transformer as scikit-learn wants them, and takes any frame."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("narwhals", reason="narwhals is not installed")
pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from sklearn.base import clone  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from fastbp import MLPClassifier  # noqa: E402
from fastbp.tables import TableEncoder  # noqa: E402

COLUMNS: dict[str, list[Any]] = {
    "size": [1.0, 2.0, None, 4.0, 8.0, 3.0],
    "colour": ["red", "blue", "red", None, "blue", "red"],
    "flag": [True, False, True, True, False, False],
    "same": [7, 7, 7, 7, 7, 7],
}
NAMES = ["size", "size=missing", "colour=blue", "colour=red", "colour=(missing)"]
NAMES += ["flag=False", "flag=True"]


def frame_of(kind: str, columns: dict[str, Any] = COLUMNS) -> Any:
    if kind == "arrow":
        return pa.table(columns)
    if kind == "dict":
        return columns
    os.environ.setdefault("MODIN_ENGINE", "python")  # its others start processes of their own
    return pytest.importorskip(kind, reason=f"{kind} is not installed").DataFrame(columns)


@parametrize_with_checks([TableEncoder(), TableEncoder(scaling="standard", max_categories=3)])
def test_scikit_learn_checks(estimator: TableEncoder, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", ["pandas", "polars", "modin.pandas", "arrow", "dict"])
def test_every_frame_gives_the_same(kind: str) -> None:
    encoder = TableEncoder().fit(frame_of(kind))
    assert encoder.get_feature_names_out().tolist() == NAMES
    assert encoder.feature_names_in_.tolist() == list(COLUMNS)
    X = encoder.transform(frame_of(kind))
    np.testing.assert_array_equal(X, TableEncoder().fit_transform(COLUMNS))
    assert X.dtype == np.float32
    # Columns go by name, in any order, and of those that are not used there need be none.
    turned = {name: COLUMNS[name] for name in ("flag", "colour", "size")}
    np.testing.assert_array_equal(encoder.transform(frame_of(kind, turned)), X)


def test_a_frame_of_narwhals() -> None:
    nw = pytest.importorskip("narwhals", reason="narwhals is not installed")
    frame = nw.from_native(frame_of("polars"))
    np.testing.assert_array_equal(
        TableEncoder().fit_transform(frame), TableEncoder().fit_transform(COLUMNS)
    )


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_set_output(kind: str) -> None:
    encoder = TableEncoder().set_output(transform=kind)
    found = encoder.fit_transform(frame_of(kind))
    assert list(found.columns) == NAMES
    assert type(found).__module__.startswith(kind)


def test_in_a_pipeline() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"x": generator.normal(size=300), "c": generator.choice(["u", "v"], 300)})
    y = np.where((frame.c == "u") ^ (frame.x > 0), "yes", "no")
    model = make_pipeline(TableEncoder(), MLPClassifier(random_state=0, max_iter=100))
    assert model.fit(frame, y).score(frame, y) > 0.95
    assert clone(model).fit(frame, y).score(frame, y) > 0.95


def test_arrays_and_their_names() -> None:
    X = np.array([[1.0, 5], [2, 6], [3, 5]])
    encoder = TableEncoder(cat_features=[1]).fit(X)
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1=5", "x1=6"]
    assert encoder.get_feature_names_out(["a", "b"]).tolist() == ["a", "b=5", "b=6"]
    with pytest.raises(ValueError, match="length equal to number of features"):
        encoder.get_feature_names_out(["a"])
    # A frame of as many columns goes by position.
    assert encoder.transform(frame_of("dict", {"p": [2.0], "q": [6]})).tolist() == [[0, 0, 1]]
    with pytest.raises(ValueError, match="expecting 2 features"):
        encoder.transform({"p": [2.0]})


def test_overview_and_notes() -> None:
    encoder = TableEncoder().fit(COLUMNS)
    lines = encoder.overview().splitlines()
    assert lines[0].split() == ["column", "kind", "values", "missing", "inputs"]
    assert "left out: constant" in lines[4]
    assert encoder.notes_ == []


def test_tokens_for_missing() -> None:
    encoder = TableEncoder(missing=["-99"]).fit(
        {"x": ["1", "2", "-99", "4"], "c": ["a", "-99"] * 2}
    )
    names = ["x", "x=missing", "c=a", "c=(missing)"]
    assert encoder.get_feature_names_out().tolist() == names


@pytest.mark.parametrize(
    ("options", "X", "message"),
    [
        ({"scaling": "robots"}, COLUMNS, "unknown scaling 'robots'; did you mean 'robust'"),
        ({"max_categories": 0}, COLUMNS, "max_categories must be an integer ≥ 1"),
        ({"cat_features": ["color"]}, COLUMNS, "did you mean 'colour'"),
        ({}, {"x": [1.0, np.inf]}, "row 2, column 'x': the number is infinite"),
        ({}, {}, "0 rows and 0 columns"),
        ({}, {"x": []}, "0 rows and 1 columns"),
    ],
)
def test_mistakes_in_fit(options: dict[str, Any], X: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableEncoder(**options).fit(X)


def test_mistakes_in_transform() -> None:
    encoder = TableEncoder().fit(COLUMNS)
    with pytest.raises(ValueError, match="unknown column 'colour'"):
        encoder.transform({"size": [1.0], "flag": [True]})
    bad = {"size": ["1", "big"], "colour": ["red"] * 2, "flag": [True] * 2}
    with pytest.raises(ValueError, match="row 2, column 'size': 'big' is no number"):
        encoder.transform(bad)


def test_two_columns_of_one_name() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])
    with pytest.raises(ValueError, match="'a'"):
        TableEncoder().fit(frame)


def test_a_frame_whose_columns_are_called_by_numbers() -> None:
    pd = pytest.importorskip("pandas")
    X = np.arange(12.0).reshape(6, 2) ** 2
    encoder, frame = TableEncoder(), pd.DataFrame(X)
    np.testing.assert_array_equal(encoder.fit_transform(frame), TableEncoder().fit_transform(X))
    np.testing.assert_array_equal(encoder.transform(frame[:3]), encoder.transform(frame)[:3])
