"""What columns are taken for, what of them the network sees, and back to answers."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from fastbp.tables import columns, frames, learning
from fastbp.tables.encoding import Category, Date, Encoding, Number
from fastbp.tables.learning import Learnt, Wishes, learn
from fastbp.tables.overview import overview
from fastbp.tables.texts import NO_VALUE, Style, Tally

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

EPS = np.finfo(np.float64).eps
EPS32 = np.finfo(np.float32).eps


def learnt(columns: dict[str, Any], **wishes: Any) -> Learnt:
    training = wishes.pop("training", None)
    found = frames.parts_of(columns)
    return learn(found, found.names, Wishes(**wishes), training)


def encoded(found: Learnt, columns: dict[str, Any]) -> np.ndarray:
    return np.concatenate([found.encoding.encode(part)[0] for part in frames.parts_of(columns)])


def kinds(found: Learnt) -> dict[str, str]:
    return {fact.name: fact.kind for fact in found.facts}


# Numbers


def clipped(t: np.ndarray) -> np.ndarray:
    return t / np.sqrt(1 + (t / 3) ** 2)


def test_numbers_are_scaled_by_quartiles_and_clipped_smoothly() -> None:
    x = np.random.default_rng(0).normal(5, 2, 1001)
    found = learnt({"x": x})
    q25, median, q75 = np.quantile(x, [0.25, 0.5, 0.75])
    # Rounded once to float32, after a few roundings in float64 of values up to 3.
    expected = clipped((x - median) / (q75 - q25))
    np.testing.assert_allclose(encoded(found, {"x": x})[:, 0], expected, rtol=EPS32)
    (column,) = found.encoding.columns
    assert column.center == median
    assert not column.missing


def test_with_equal_quartiles_the_range_counts() -> None:
    x = np.array([1.0] * 90 + [2.0] * 5 + [5.0] * 5)
    found = learnt({"x": x})
    (column,) = found.encoding.columns
    assert (column.center, column.scale) == (1, 2 / 4)


def test_far_out_is_three() -> None:
    found = learnt({"x": np.arange(11.0)})
    X = encoded(found, {"x": [1e300, -1e300, 1e6]})[:, 0]
    np.testing.assert_allclose(X, [3, -3, 3], rtol=1e-6)  # (3/t)²/2 of t = 2e5, and rounding
    assert np.isfinite(X).all()


def test_numbers_near_the_largest_do_not_overflow() -> None:
    x = np.array([-1.7e308, -1e308, 0, 1e308, 1.7e308])
    with np.errstate(all="raise", under="ignore"):
        X = encoded(learnt({"x": x}), {"x": x})
    assert np.isfinite(X).all()


def test_standard_scaling() -> None:
    x = np.random.default_rng(0).normal(5, 2, 1001)
    found = learnt({"x": x}, scaling="standard")
    # Mean and deviation of 1001 values: sums err by at most 1001 roundings of |x| ≤ 13.
    (column,) = found.encoding.columns
    np.testing.assert_allclose(column.center, x.mean(), rtol=1001 * EPS)
    np.testing.assert_allclose(column.scale, 1 / x.std(), rtol=4 * 1001 * EPS)
    assert np.abs(encoded(found, {"x": x})).max() > 3


@pytest.mark.parametrize("value", [14.62, 0.1, 1e6 + 0.3, 0.0, -7.0])
def test_a_column_that_is_constant_is_left_out(value: float) -> None:
    found = learnt({"k": np.full(1000, value), "x": np.arange(1000.0)})
    assert kinds(found)["k"] == "left out: constant"
    assert found.encoding.names == ["x"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_but_for_rounding_is_constant(dtype: type) -> None:
    value = dtype(14.62)
    k = np.where(np.arange(1000) % 3 == 0, np.nextafter(value, dtype(20)), value)
    assert k.min() < k.max()
    found = learnt({"k": k, "x": np.arange(1000.0)})
    assert kinds(found)["k"] == "left out: constant"
    # A difference that means something is one.
    k = np.where(np.arange(1000) % 3 == 0, value * dtype(1.0001), value)
    assert kinds(learnt({"k": k}))["k"] == "number"


def test_a_missing_number_is_the_median_and_an_input_says_so() -> None:
    found = learnt({"x": [1.0, None, 3.0, 5.0]})
    assert found.encoding.inputs == ["x", "x=missing"]
    X = encoded(found, {"x": [3.0, None]})
    assert X.tolist() == [[0, 0], [0, 1]]
    # Where none was missing in training there is no such input.
    found = learnt({"x": [1.0, 2.0, 3.0]})
    assert encoded(found, {"x": [None, 2.0]}).tolist() == [[0], [0]]


@pytest.mark.parametrize("x", [[1.0, -99.0, 3.0], ["1", "-99", "3"], [1, -99, 3]])
def test_a_number_that_stands_for_nothing(x: list[Any]) -> None:
    found = learnt({"x": x}, tokens=("-99",))
    assert found.encoding.inputs == ["x", "x=missing"]
    assert encoded(found, {"x": x})[:, 1].tolist() == [0, 1, 0]


def test_a_column_constant_but_for_what_is_missing() -> None:
    found = learnt({"k": [0.5, None, 0.5, 0.5]})
    assert encoded(found, {"k": [0.5, None, 0.6]}).tolist() == [[0, 0], [0, 1], [0, 0]]


def test_only_training_rows_are_learnt_from() -> None:
    training = np.array([True] * 5 + [False] * 5)
    columns = {
        "x": np.array([1.0, 2, 3, 4, 5, 1e6, 1e6, 1e6, 1e6, np.nan]),
        "c": ["a", "b", "a", "b", "a", "z", "z", "z", None, "z"],
    }
    found = learnt(columns, training=training)
    number, category = found.encoding.columns
    assert (number.center, number.scale, number.missing) == (3, 1 / 2, False)
    assert (category.categories, category.missing) == (("a", "b"), False)


def test_a_sample_stands_for_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).permutation(20_000.0 + np.arange(20_000))
    x[7] = np.nan
    exact = learnt({"x": x, "y": -x}).encoding.columns
    monkeypatch.setattr(learning, "_SAMPLE", 5_000)
    roughly = learnt({"x": x, "y": -x}).encoding.columns
    for a, b in zip(exact, roughly, strict=True):
        # Quantiles of 5,000 of n uniform values: a standard error of n √(q (1 − q) / 5000).
        assert abs(a.center - b.center) < 4 * 20_000 * np.sqrt(0.25 / 5_000)
        assert 0.9 < a.scale / b.scale < 1.1
        assert b.missing


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"row 3, column 'x': the number is infinite"):
        learnt({"w": [1.0, 2.0, 3.0], "x": [1.0, 2.0, value]})
    found = learnt({"x": [1.0, 2.0, 3.0]})
    (part,) = frames.parts_of({"x": [1.0, value]})
    _, (bad,) = found.encoding.encode(part)
    assert (bad.name, bad.rows.tolist(), bad.reason) == ("x", [False, True], "is infinite")


# Text that is numbers


@pytest.mark.parametrize(
    ("cells", "style", "numbers"),
    [
        (["1", "2.5", "-3e2", "+4"], Style(), [1, 2.5, -300, 4]),
        ([".5", "5.", "0"], Style(), [0.5, 5, 0]),
        (["1,5", "0,25", "-3"], Style(","), [1.5, 0.25, -3]),
        (["1,234", "12,345,678", "7"], Style(".", ","), [1234, 12345678, 7]),
        (["1,234.5", "7.25", "1,000"], Style(".", ","), [1234.5, 7.25, 1000]),
        (["1.234,5", "7,25", "1.000"], Style(",", "."), [1234.5, 7.25, 1000]),
        (["1 234,5", "7,25"], Style(",", " "), [1234.5, 7.25]),
        (["1\u202f234", "12\u00a0345"], Style(".", " "), [1234, 12345]),
        (["1'234.5", "7"], Style(".", "'"), [1234.5, 7]),
        (["$1.50", "$20", "-$3"], Style(unit=True), [1.5, 20, -3]),
        (["12 %", "7.5%", "3%"], Style(unit=True), [12, 7.5, 3]),
        (["1.234,50 €", "7 €"], Style(",", ".", True), [1234.5, 7]),
        ([" 1 ", "2", " 3"], Style(), [1, 2, 3]),
    ],
)
def test_ways_to_write_numbers(cells: list[str], style: Style, numbers: list[float]) -> None:
    found = learnt({"x": cells})
    assert kinds(found) == {"x": "number"}
    (column,) = found.encoding.columns
    assert column.style == style
    from fastbp.tables.columns import numbers_of

    values, bad = numbers_of(pa.array(cells), style)
    np.testing.assert_array_equal(values, numbers)
    assert bad is None


@pytest.mark.parametrize(("decimal", "expected"), [(".", Style(".", ",")), (",", Style(",", ""))])
def test_the_file_decides_what_a_column_does_not(decimal: str, expected: Style) -> None:
    found = learnt({"x": ["1,234", "5,678", "9,012"]}, decimal=decimal)
    (column,) = found.encoding.columns
    assert column.style == expected
    assert any("would do as well" in note for note in found.notes)


def test_commas_in_the_wrong_place_are_no_thousands() -> None:
    tally = Tally()
    tally.add(pa.array(["1,23", "12,34", "1234,5"]), np.ones(3, np.int64))
    assert tally.best() == Style(",")


@pytest.mark.parametrize(
    "cell", ["unknown", "#N/A", "-", ".", "$51.20", "12 %", "n/a", "", "1,2,3", "l2.5"]
)
def test_one_cell_does_not_make_a_column_text(cell: str) -> None:
    x = [f"{v:.2f}" for v in np.random.default_rng(0).normal(50, 20, 500)]
    x[17] = cell
    found = learnt({"age": x})
    (fact,) = found.facts
    assert (fact.kind, fact.missing) == ("number", 1)
    usual = cell in ("#N/A", "-", ".", "n/a", "")
    assert found.notes == (
        []
        if usual
        else [f"column 'age': 1 value is taken as missing, the first in row 18: {cell!r}"]
    )
    # And the same cell means the same in prediction.
    X = encoded(found, {"age": ["50", cell]})
    assert X[1].tolist() == [0, 1]


def test_a_number_with_thousands_among_plain_ones() -> None:
    x = [f"{v:.2f}" for v in np.random.default_rng(0).normal(50, 20, 500)]
    x[17] = "1,234.5"
    (column,) = learnt({"x": x}).encoding.columns
    assert isinstance(column, Number)


def test_what_is_half_numbers_is_said() -> None:
    found = learnt({"x": [str(i) for i in range(90)] + ["a", "b"] * 5})
    assert kinds(found)["x"].startswith("left out")
    assert "90% of its values are numbers, but not that of row 91: 'a'" in found.notes[0]


def test_numbers_with_leading_zeros_are_names() -> None:
    found = learnt({"code": ["007", "010"] * 30})
    assert [c.categories for c in found.encoding.columns] == [("007", "010")]


@pytest.mark.parametrize(("cell", "reason"), [("l2.5", "is no number"), ("x", "is no number")])
def test_a_cell_that_cannot_be_taken_in_prediction(cell: str, reason: str) -> None:
    found = learnt({"x": np.arange(10.0)})
    (part,) = frames.parts_of({"x": ["0.5", cell, "", "NA"]})
    _, (bad,) = found.encoding.encode(part)
    assert (bad.rows.tolist(), bad.reason) == ([False, True, False, False], reason)


# Dates


def test_dates() -> None:
    start = datetime(2019, 12, 30)
    when = [start + timedelta(hours=7 * i) for i in range(2000)]
    found = learnt({"when": when})
    (column,) = found.encoding.columns
    assert isinstance(column, Date)
    assert found.encoding.inputs == [
        "when:elapsed",
        "when:year",
        "when:month_sin",
        "when:month_cos",
        "when:weekday_sin",
        "when:weekday_cos",
        "when:hour_sin",
        "when:hour_cos",
    ]
    X = encoded(found, {"when": [datetime(2020, 4, 2, 6)]})[0]  # a Thursday
    # Quarters of a turn, but for rounding to float32.
    np.testing.assert_allclose(X[2:4], [1, 0], atol=EPS32)
    np.testing.assert_allclose(X[4:6], [np.sin(6 * np.pi / 7), np.cos(6 * np.pi / 7)], rtol=EPS32)
    np.testing.assert_allclose(X[6:8], [1, 0], atol=EPS32)
    days = np.array([(w - datetime(1970, 1, 1)).total_seconds() / 86400 for w in when])
    assert column.elapsed[0] == np.median(days)


def test_dates_have_what_makes_sense() -> None:
    monday = datetime(2020, 1, 6)
    found = learnt({"day": [monday + timedelta(days=i) for i in range(20)]})
    assert found.encoding.inputs == ["day:elapsed", "day:weekday_sin", "day:weekday_cos"]
    found = learnt({"day": [datetime(y, 1, 1) for y in (2018, 2019, 2020)] + [None]})
    assert "day:month_sin" not in found.encoding.inputs
    assert found.encoding.inputs[-1] == "day=missing"
    X = encoded(found, {"day": [None]})[0]
    assert X.tolist() == [0] * (len(X) - 1) + [1]
    assert kinds(learnt({"day": [monday] * 5})) == {"day": "left out: constant"}


@pytest.mark.parametrize(
    ("cells", "format"),
    [
        (["2020-01-31", "2021-02-28"], "%Y-%m-%d"),
        (["31.01.2020", "28.02.2021"], "%d-%m-%Y"),
        (["31/01/2020", "28/02/2021"], "%d-%m-%Y"),
        (["01/31/2020", "02/28/2021"], "%m-%d-%Y"),
        (["31.01.20", "28.02.21"], "%d-%m-%y"),
        (["2020/01/31 10:30", "2021/02/28 11:00"], "%Y-%m-%d %H:%M"),
        (["2020-01-31T10:30:15.250Z", "2021-02-28T11:00:00Z"], "%Y-%m-%d %H:%M:%S"),
    ],
)
def test_dates_in_text(cells: list[str], format: str) -> None:
    found = learnt({"day": cells * 30})
    (column,) = found.encoding.columns
    assert isinstance(column, Date)
    assert column.format == format
    (part,) = frames.parts_of({"day": [cells[0], "", "soon"]})
    _, (bad,) = found.encoding.encode(part)
    assert (bad.rows.tolist(), bad.reason) == ([False, False, True], "is no date")


def test_an_order_of_day_and_month_that_is_not_sure_is_said() -> None:
    found = learnt({"day": ["01/02/2020", "03/04/2021", "05/06/2021"]})
    assert any("would do as well" in note for note in found.notes)


# Categories


def test_categories_missing_and_new_ones() -> None:
    found = learnt({"c": ["red", "blue", None, "red", "green"]})
    assert found.encoding.inputs == ["c=blue", "c=green", "c=red", "c=(missing)"]
    X = encoded(found, {"c": ["green", None, "pink", " red ", ""]})
    assert X.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    (column,) = found.encoding.columns
    (part,) = frames.parts_of({"c": ["blue", "pink", None]})
    assert column.codes(part, ()).tolist() == [1, 0, 4]
    # Without missing ones in training.
    found = learnt({"c": ["u", "v"]})
    assert encoded(found, {"c": [None, "v"]}).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("word", ["NA", "None", "nan", "?"])
def test_a_name_that_looks_like_nothing_is_a_name(word: str) -> None:
    found = learnt({"c": [word, "EU", "AS"] * 9})
    (column,) = found.encoding.columns
    assert set(column.categories) == {word, "EU", "AS"}
    assert learnt({"c": [word, "EU", "AS"] * 9}, tokens=(word.lower(),)).encoding.columns == (
        Category("c", ("AS", "EU"), missing=True),
    )


@pytest.mark.parametrize(
    "others",
    [
        np.array([0, 1, 1]),
        np.array([0.0, 1.0, 1.0]),
        np.array([0, 1, 1], np.int8),
        ["false", "true", "True"],
        [False, True, True],
    ],
)
def test_truth_values_are_the_same_however_they_are_written(others: Any) -> None:
    found = learnt({"x": np.array([True, False, True, False]), "z": [1.5, 2.5, 3.5, 4.5]})
    assert kinds(found)["x"] == "category"
    wanted = encoded(found, {"x": np.array([False, True, True]), "z": [1.5, 2.5, 3.5]})
    assert (wanted[0] != wanted[1]).any()
    got = encoded(found, {"x": others, "z": [1.5, 2.5, 3.5]})
    np.testing.assert_array_equal(got, wanted)


def test_rare_categories_are_taken_together() -> None:
    cells = [f"c{i}" for i in range(20) for _ in range(20 - i)]
    found = learnt({"c": cells}, max_categories=5)
    (column,) = found.encoding.columns
    assert column == Category("c", ("c0", "c1", "c2", "c3", "c4"), rare=True)
    X = encoded(found, {"c": ["c1", "c7", "never seen"]})
    assert X.argmax(axis=1).tolist() == [1, 5, 5]
    # More than a few categories: what a single row has teaches nothing.
    found = learnt({"c": cells})
    assert "c19" not in found.encoding.columns[0].categories
    assert found.encoding.columns[0].rare


def test_text_that_is_mostly_unique_is_left_out_and_said() -> None:
    names = [f"C{i:05d}" for i in range(600)]
    found = learnt({"customer": names, "x": np.arange(600) % 7})
    assert kinds(found)["customer"] == "left out: text, mostly unique"
    assert "600 different texts in 600 rows; cat_features takes it" in found.notes[-1]
    for wish in ("keep", "cat_features"):
        found = learnt({"customer": names}, **{wish: ["customer"]})
        assert found.encoding.inputs == ["customer=(rare)"]


def test_whole_numbers_with_few_values_are_numbers_with_a_hint() -> None:
    found = learnt({"floor": np.arange(90) % 3, "x": np.arange(90) * 0.5})
    assert kinds(found)["floor"] == "number"
    assert found.notes == [
        "whole numbers with few different values, taken as numbers: floor; "
        "cat_features takes them as names"
    ]
    found = learnt({"floor": np.arange(90) % 3}, cat_features=["floor"])
    assert found.encoding.inputs == ["floor=0", "floor=1", "floor=2"]
    for column in (["2"], [2.0], np.array([2])):
        assert encoded(found, {"floor": column}).tolist() == [[0, 0, 1]]


def test_row_numbers() -> None:
    found = learnt({"unnamed_1": np.arange(50), "id": np.arange(1, 51), "x": np.arange(50) % 13.0})
    assert kinds(found)["unnamed_1"] == "left out: a column without a name"
    assert any(note.startswith("column 'id' counts the rows") for note in found.notes)
    found = learnt({"Unnamed: 0": np.arange(50)}, keep=["Unnamed: 0"])
    assert kinds(found) == {"Unnamed: 0": "number"}


def test_columns_that_hold_nothing_or_something_else() -> None:
    found = learnt(
        {"none": [None] * 3, "bytes": [b"a", b"b", b"c"], "lists": [[1], [2], [3]], "x": [1, 2, 4]}
    )
    assert kinds(found) == {
        "none": "left out: no values",
        "bytes": "left out: neither numbers, names nor dates",
        "lists": "left out: neither numbers, names nor dates",
        "x": "number",
    }


def test_a_wish_for_a_column_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="unknown column 'colr'; did you mean 'color'"):
        learnt({"color": ["a", "b"]}, cat_features=["colr"])


def test_columns_go_by_name() -> None:
    columns = {"a": [1.0, 2.0, 3.0], "c": ["u", "v", "u"]}
    found = learnt(columns)
    turned = {"more": [b"x"] * 3, "c": columns["c"], "a": columns["a"]}
    np.testing.assert_array_equal(encoded(found, turned), encoded(found, columns))
    with pytest.raises(ValueError, match="unknown column 'a'"):
        encoded(found, {"c": ["u"]})


def test_rows_can_be_chosen() -> None:
    columns = {
        "c": ["u", "v", None, "u"],
        "x": [1.0, None, 3.0, 4.0],
        "w": ["01.02.2020", "", "31.01.2020", "05.02.2020"],
    }
    found = learnt(columns)
    (part,) = frames.parts_of(columns)
    whole, _ = found.encoding.encode(part)
    rows = np.array([3, 1])
    np.testing.assert_array_equal(found.encoding.encode(part, rows)[0], whole[rows])


# As plain data


def everything() -> Learnt:
    return learnt(
        {
            "x": [1.5, None, 3.0],
            "eu": ["1,5", "2,5", "3,5"],
            "c": ["u", "v", None],
            "when": [datetime(2020, 1, 1), datetime(2021, 2, 3), None],
        },
        tokens=("-99",),
    )


def test_json_round_trip() -> None:
    encoding = everything().encoding
    assert Encoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding


def spoilt(change: Any) -> Any:
    data = json.loads(json.dumps(everything().encoding.to_dict()))
    return change(data) or data


@pytest.mark.parametrize(
    "change",
    [
        lambda d: [1],
        lambda d: d.update(version="1"),
        lambda d: d.update(columns=[]),
        lambda d: d.update(columns={"a": 1}),
        lambda d: d.update(clip=1),
        lambda d: d.update(tokens=[1]),
        lambda d: d["columns"].append(d["columns"][0]),
        lambda d: d["columns"].append(3),
        lambda d: d["columns"][0].update(kind="picture"),
        lambda d: d["columns"][0].update(name=None),
        lambda d: d["columns"][0].update(center=float("nan")),
        lambda d: d["columns"][0].update(scale="1"),
        lambda d: d["columns"][0].update(missing=1),
        lambda d: d["columns"][0].update(more=1),
        lambda d: d["columns"][0].update(words="x"),
        lambda d: d["columns"][0].pop("center"),
        lambda d: d["columns"][0].update(style={}),
        lambda d: d["columns"][1]["style"].update(decimal="x"),
        lambda d: d["columns"][2].update(categories=["u", "u"]),
        lambda d: d["columns"][2].update(categories=["u", 1]),
        lambda d: d["columns"][2].update(categories=[], missing=False),
        lambda d: d["columns"][2].update(rare="no"),
        lambda d: d["columns"][3].update(circles=["minute"]),
        lambda d: d["columns"][3].update(format="%c"),
        lambda d: d["columns"][3].update(elapsed=[1]),
        lambda d: d["columns"][3].update(year=[1, float("inf")]),
    ],
)
def test_nonsense_is_not_believed(change: Any) -> None:
    with pytest.raises(ValueError, match="encoding"):
        Encoding.from_dict(spoilt(change))


def test_of_a_newer_version() -> None:
    with pytest.raises(ValueError, match="newer fastbp"):
        Encoding.from_dict(spoilt(lambda d: d.update(version=2)))


# The overview


def test_the_overview_has_a_line_for_each_column() -> None:
    found = everything()
    lines = overview(found.facts, ["look here"]).splitlines()
    assert lines[0].split() == ["column", "kind", "values", "missing", "inputs"]
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["x", "number"],
        ["eu", "number"],
        ["c", "category"],
        ["when", "date"],
    ]
    assert lines[1].split()[-2:] == ["1", "2"]
    assert lines[-1] == "note: look here"


def test_the_overview_of_many_columns_is_short() -> None:
    columns: dict[str, Any] = {f"x{i}": np.arange(5.0) + i for i in range(5000)}
    columns["town"] = ["a", "b", "a", "b", "a"]
    found = learnt(columns)
    lines = overview(found.facts, [f"note {i}" for i in range(300)]).splitlines()
    assert len(lines) < 50
    assert any(line.startswith("town") for line in lines)
    assert any("4,985 more: 4,985 number" in line for line in lines)


@pytest.mark.parametrize(
    ("cells", "plain"),
    [
        (["1", "2.5", "-3e2", ".5", "5.", "+4", "0", "-0"], True),
        (["1", "", "3"], False),
        (["1", " 2", "3"], False),
        (["1", "NA"], False),
        (["nan", "2"], False),
        (["inf", "2"], False),
        (["1e999", "2"], False),
        (["007", "8"], False),
        (["1,5", "2"], False),
        (["one", "2"], False),
        (["1", None], False),
    ],
)
def test_plain_numbers_are_those_of_the_long_way(cells: list[str | None], plain: bool) -> None:
    column = pa.array(cells, pa.string())
    found = columns.plain_numbers(column)
    assert (found is not None) == plain
    if found is not None:
        expected, bad = columns._by_different_values(
            column, lambda v: columns._read_numbers(v, Style(), NO_VALUE)
        )
        np.testing.assert_array_equal(found, expected)
        assert bad is None
    assert columns.plain_numbers(column, ("-99",)) is None  # a number that means no value
