"""Reading users' files: every format gives the same columns; every mistake names where it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from fastbp._tables import read_table


def write(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_columns(tmp_path: Path, separator: str) -> None:
    lines = [["size", "colour"], ["1", "red"], ["2.5e3", "dark blue"], ["-3", "red"]]
    path = write(tmp_path, "\n".join(separator.join(line) for line in lines) + "\n\n")
    table = read_table(path)
    assert list(table) == ["size", "colour"]
    assert table["size"].tolist() == [1, 2500, -3]
    assert table["colour"].tolist() == ["red", "dark blue", "red"]


def test_csv_with_byte_order_mark_quotes_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes('\ufeff"a","b, or c"\r\n"1","x ""y"""\r\n'.encode())
    table = read_table(path)
    assert table["a"].tolist() == [1]
    assert table["b, or c"].tolist() == ['x "y"']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header"),
        ("a,b\n", "no rows"),
        ("b,a,a\n1,2,3\n", "column name 'a' is there twice"),
        ("a,b\n1,2\n3\n", "row 2 has 1 values, the header 2 names"),
        ("a,b\n1,2\n3,4,5\n", "row 2 has 3 values, the header 2 names"),
        ("a,b\n1,2\n,4\n", r"column 'a', row 2: the value is missing"),
        ("a,b\n1,2\n3,NA\n", r"column 'b', row 2: the value is missing"),
        ("a,b\n1,x\n3,\n", r"column 'b', row 2: the value is missing"),
        ("a,b\n1,2\n3,-inf\n", r"column 'b', row 2: the value is infinite"),
    ],
)
def test_csv_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_table(write(tmp_path, text))
    assert "table.csv" in str(caught.value)


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match=r"table\.csv: .*utf-8"):
        read_table(path)


def test_npy(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "table.npy", array)
    table = read_table(tmp_path / "table.npy")
    assert {name: column.tolist() for name, column in table.items()} == {
        "0": [0, 2, 4],
        "1": [1, 3, 5],
    }


def test_npz(tmp_path: Path) -> None:
    labels = np.array(["cat", "dog"])
    np.savez(tmp_path / "table.npz", X=np.array([[1, 2], [3, 4]]), y=labels)
    table = read_table(tmp_path / "table.npz")
    assert {name: column.tolist() for name, column in table.items()} == {
        "X[0]": [1, 3],
        "X[1]": [2, 4],
        "y": ["cat", "dog"],
    }


@pytest.mark.parametrize("length", [2, 4])
def test_npz_of_different_lengths(tmp_path: Path, length: int) -> None:
    np.savez(tmp_path / "table.npz", X=np.zeros((3, 2)), y=np.zeros(length))
    with pytest.raises(ValueError, match=rf"different lengths \(X: 3, y: {length}\)"):
        read_table(tmp_path / "table.npz")


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2), complex), np.zeros((2, 2, 2))])
def test_npy_of_the_wrong_kind(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "table.npy", array)
    with pytest.raises(ValueError, match=r"table\.npy: the array must be 2-D"):
        read_table(tmp_path / "table.npy")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_table(tmp_path / "table.npy")
    np.savez(tmp_path / "table.npz", x=np.array([{}]))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_table(tmp_path / "table.npz")


@pytest.mark.parametrize("name", ["table.npy", "table.npz"])
def test_content_that_is_not_what_the_suffix_says(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        read_table(write(tmp_path, "a,b\n1,2\n", name))


def test_nan_in_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.array([[0, 1], [2, np.nan]]))
    with pytest.raises(ValueError, match="column '1', row 2: the value is missing"):
        read_table(tmp_path / "table.npy")
    np.savez(tmp_path / "table.npz", whole=np.arange(2), real=np.array([np.nan, 1]))
    with pytest.raises(ValueError, match="column 'real', row 1: the value is missing"):
        read_table(tmp_path / "table.npz")


def test_unknown_suffix_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"known suffixes: \.csv"):
        read_table(tmp_path / "table.xlsx")
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "table.csv")


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    path = tmp_path / "table.parquet"
    columns = {"size": [1.5, 2.5], "count": [1, 2], "colour": ["red", "blue"]}
    parquet.write_table(pyarrow.table(columns), path)
    table = read_table(path)
    assert {name: column.tolist() for name, column in table.items()} == columns

    parquet.write_table(pyarrow.table({"colour": ["red", None]}), path)
    with pytest.raises(ValueError, match="column 'colour', row 2: the value is missing"):
        read_table(path)

    for value in (datetime(2000, 1, 1), timedelta(1), Decimal("1.5"), b"red"):
        parquet.write_table(pyarrow.table({"x": [value]}), path)
        with pytest.raises(ValueError, match="column 'x' holds neither numbers nor text"):
            read_table(path)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"fastbp\[parquet\]"):
        read_table(tmp_path / "table.parquet")
