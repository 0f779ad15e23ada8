"""Reading users' files and frames: every format gives the same columns; mistakes name where."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp.tables import delimited, frames, parts, reading
from fastbp.tables.columns import codes_of, kind_of, moments_of, numbers_of
from fastbp.tables.reading import Options, read, stream

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def write(folder: Path, text: str, name: str = "table.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def values(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()


def table(*files: Path, texts: tuple[str, ...] = (), **options: Any) -> dict[str, list[Any]]:
    found = read([str(f) for f in files], Options(**options), lambda names: texts)
    columns: dict[str, list[Any]] = {name: [] for name in found.names}
    for part in found:
        for name in columns:
            columns[name] += values(part.columns[name])
    return columns


# Text


def test_numbers_and_text(tmp_path: Path) -> None:
    path = write(tmp_path, 'size,"colour, or so"\r\n1,"x ""y"""\r\n2.5e3,dark blue\r\n-3,NA\r\n')
    assert table(path) == {
        "size": [1, 2500, -3],
        "colour, or so": ['x "y"', "dark blue", "NA"],
    }


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", 0), ("utf-8-sig", 0), ("utf-16", 0), ("utf-16-le", 0), ("cp1252", 0)],
)
def test_encodings(tmp_path: Path, encoding: str, told: int) -> None:
    path = write(tmp_path, "größe,preis\n" + "1,ü\n" * 40, encoding=encoding)
    assert table(path) == {"größe": [1] * 40, "preis": ["ü"] * 40}


def test_a_byte_far_behind_that_is_no_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "SAMPLE", 64)
    monkeypatch.setattr(delimited, "BLOCK", 64)
    path = tmp_path / "table.csv"
    rows = "a,b\n" + "1,x\n" * 100
    path.write_bytes(rows.encode() + b"2,\xfc\n" + b"3,y\n" * 60)
    told: list[str] = []
    assert table(path, told=told.append)["b"] == ["x"] * 100 + ["ü"] + ["y"] * 60
    assert len(told) == 1
    assert "Windows-1252" in told[0]
    path.write_bytes(rows.encode() + "2,ü\n".encode() + b"3,y\n" * 90 + b"2,\xfc\n")
    with pytest.raises(
        ValueError, match=r"table\.csv: after row \d+ a byte is no UTF-8; --encoding"
    ):
        table(path)


def test_characters_over_the_edge_of_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in range(20, 32):
        monkeypatch.setattr(delimited, "SAMPLE", block)
        monkeypatch.setattr(delimited, "BLOCK", block)
        path = write(tmp_path, "a,b\n" + "1,äöü€𝄞\n" * 50)
        assert table(path)["b"] == ["äöü€𝄞"] * 50


@pytest.mark.parametrize("block", [16, 50, 1 << 20])
def test_line_breaks_in_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(delimited, "SAMPLE", block)
    monkeypatch.setattr(delimited, "BLOCK", block)
    cells = ["plain", "two\nlines", 'a "quote"\n\nand three', "x"] * 20
    body = "".join(f'{i},"{cell.replace(chr(34), chr(34) * 2)}"\n' for i, cell in enumerate(cells))
    found = table(write(tmp_path, "i,text\n" + body))
    assert found == {"i": list(range(80)), "text": cells}


def test_line_breaks_in_quotes_behind_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "SAMPLE", 256)
    rows = [f"{i},x,{i}" for i in range(200)]
    rows[150] = '150,"y\nz",150'
    found = table(write(tmp_path, "i,text,j\n" + "\n".join(rows) + "\n"))
    assert found["i"] == found["j"] == list(range(200))
    assert found["text"][150] == "y\nz"


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    path = write(tmp_path, 'a,b\n1,"x\n' + "2,y\n" * 30)
    with pytest.raises(ValueError, match=r"table\.csv: row 1: a quote is opened and never closed"):
        table(path)


def test_inches_are_no_quotes(tmp_path: Path) -> None:
    assert table(write(tmp_path, 'size,n\n5" disk,1\n3" disk,2\n'))["size"] == [
        '5" disk',
        '3" disk',
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a,b,y,\n1,2,u,\n3,4,v,\n",
        "a,b,y\n1,2,u,\n3,4,v,\n",
        "a,b,y,,\n1,2,u,,\n3,4,v,,\n",
        "a,b,y\n1,2,u\n3,4,v\n,,\n,,\n",
        "a,b,y\n1,2,u\n\n   \n3,4,v\n\n",
        "a,b,y\n1,2,u,\n3,4,v\n",
        "a,b,y\n,,\n1,2,u\n , ,\n3,4,v\n",
        '"a", "b", "y"\n1, 2, "u"\n3, 4, "v"\n',
        "a, b, y\n1, 2, u\n3, 4, v\n",
        "a,b,y\r1,2,u\r3,4,v\r",
        "sep=,\na,b,y\n1,2,u\n3,4,v\n",
        "\n\na,b,y\n1,2,u\n3,4,v\n",
    ],
)
def test_surplus_cells_and_blank_rows_do_not_count(tmp_path: Path, text: str) -> None:
    found = table(write(tmp_path, text))
    assert [[float(v) for v in found["a"]], [float(v) for v in found["b"]]] == [[1, 3], [2, 4]]
    assert [v.strip() for v in found["y"]] == ["u", "v"]


def test_a_column_that_is_text_far_behind_is_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "SAMPLE", 64)
    monkeypatch.setattr(delimited, "BLOCK", 64)
    path = write(tmp_path, "flat,x\n" + "12,1\n7,2\n" * 50 + "12A,3\n")
    assert table(path)["flat"] == ["12", "7"] * 50 + ["12A"]


def test_leading_zeros_stay(tmp_path: Path) -> None:
    path = write(tmp_path, "zip,label,x\n01067,001,1\n80331,002,2\n")
    assert table(path)["zip"] == ["01067", "80331"]
    assert table(path, texts=("label",))["label"] == ["001", "002"]


def test_decimal_commas(tmp_path: Path) -> None:
    path = write(tmp_path, "a;b\n1,5;x\n-0,25;y\n")
    assert table(path)["a"] == [1.5, -0.25]
    assert table(path, decimal=".")["a"] == ["1,5", "-0,25"]


def test_cells_that_stand_for_no_value(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1,u\nNA,v\n#N/A,w\n-,x\n\\N,y\n-99,z\n")
    assert table(path)["a"] == [1, None, None, None, None, -99]
    assert table(path, missing=("-99",))["a"][-1] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("b,a,a\n1,2,3\n", "column name 'a' is there twice"),
        ("a,b\n1,2\n3\n4,5\n", r"row 2 has 1 values \('3'\), the header 2 names; --skip-bad-rows"),
        ("a,b\n1,2\n\n3,4,5\n6,7\n", "row 2 has 3 values"),
        ("a,b\n1,2,3,4\n3,4,5,6\n", "the header has 2 names, the rows below it 4 values"),
    ],
)
def test_mistakes_in_text(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        table(write(tmp_path, text))
    assert "table.csv" in str(caught.value)


def test_rows_of_a_wrong_length_can_be_left_out(tmp_path: Path) -> None:
    told: list[str] = []
    path = write(tmp_path, "a,b\n1,2\n3\n4,5\n6,7,8\n9,10\n")
    (part,) = stream([path], Options(skip_bad_rows=True, told=told.append))
    assert values(part.columns["a"]) == [1, 4, 9]
    assert [part.number(row) for row in range(3)] == [1, 3, 5]
    assert len(told) == 2
    assert "row 2 has 1 values" in told[0]


def test_rows_are_numbered_through_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "SAMPLE", 40)
    monkeypatch.setattr(delimited, "BLOCK", 40)
    path = write(tmp_path, "a,b\n" + "".join(f"{i},x\n" for i in range(1, 90)) + "\n,\n90,x\n")
    for part in stream([path], Options()):
        numbers = [part.number(row) for row in range(part.rows)]
        assert numbers == values(part.columns["a"])
        assert part.slice(1, part.rows).number(0) == numbers[1] if part.rows > 1 else True


def test_only_the_columns_that_are_wanted(tmp_path: Path) -> None:
    path = write(tmp_path, "a,z,b,z\n1,inf,2,?\n3,x,4,\n")
    (part,) = stream([path], Options(), only={"b", "a"})
    assert {name: values(c) for name, c in part.columns.items()} == {"a": [1, 3], "b": [2, 4]}
    with pytest.raises(ValueError, match=r"table\.csv: unknown column 'c'"):
        list(stream([path], Options(), only={"a", "c"}))


# Other ways to bring a file


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_compressed(tmp_path: Path, suffix: str) -> None:
    text = b"a,b\n" + b"1,x\n2,y\n" * 1000
    path = tmp_path / f"table.csv{suffix}"
    if suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(text)
    else:
        path.write_bytes({".gz": gzip, ".bz2": bz2}[suffix].compress(text))
    assert table(path) == {"a": [1, 2] * 1000, "b": ["x", "y"] * 1000}
    plain = tmp_path / "table"  # the first bytes tell, too
    plain.write_bytes(path.read_bytes())
    assert table(plain)["a"] == [1, 2] * 1000
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"table\.csv"):
        table(path)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"a,b\n1,x\n2,y\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    found = read(["-"], Options())
    (part,) = found
    assert values(part.columns["a"]) == [1, 2]
    assert part.place(0) == "standard input: row 1"


def test_several_files(tmp_path: Path) -> None:
    one = write(tmp_path, "a,b\n1,x\n", "one.csv")
    two = write(tmp_path, "b;a\ny;2,5\n", "two.csv")
    assert table(one, two) == {"a": [1, 2.5], "b": ["x", "y"]}
    other = write(tmp_path, "a,c\n1,x\n", "other.csv")
    with pytest.raises(ValueError, match=r"other\.csv has no column 'b', .*one\.csv has"):
        table(one, other)
    more = write(tmp_path, "a,b,c\n1,x,2\n", "more.csv")
    with pytest.raises(ValueError, match=r"more\.csv has a column 'c' more than .*one\.csv"):
        table(one, more)


def test_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": 1, "b": "x"}\n{"b": null, "a": 2.5}\n', "table.jsonl")
    assert table(path) == {"a": [1, 2.5], "b": ["x", None]}
    packed = tmp_path / "table.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert table(packed) == {"a": [1, 2.5], "b": ["x", None]}
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"table\.jsonl\.gz: .*damaged"):
        table(packed)
    with pytest.raises(ValueError, match=r"list\.json: a JSON list"):
        table(write(tmp_path, '[{"a": 1}]', "list.json"))
    with pytest.raises(ValueError, match=r"bad\.jsonl: no JSON lines"):
        table(write(tmp_path, '{"a": 1}\n{"a": "x"}\n', "bad.jsonl"))


def test_excel(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    book = openpyxl.Workbook()
    for row in [["a", "b", None, "when"], [1, "x", 7, datetime(2020, 1, 2)], [], [2.5, 3, 8, None]]:
        book.active.append(row)
    book.create_sheet("other")
    book.save(tmp_path / "table.xlsx")
    told: list[str] = []
    found = table(tmp_path / "table.xlsx", told=told.append)
    assert found["a"] == [1, 2.5]
    assert found["b"] == ["x", "3"]
    assert found["unnamed_1"] == [7, 8]
    assert found["when"] == [datetime(2020, 1, 2), None]
    assert "first of 2 sheets" in told[0]
    with pytest.raises(ValueError, match=r"fake\.xlsx: no Excel file"):
        table(write(tmp_path, "a,b\n", "fake.xlsx"))


def test_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    path = tmp_path / "table.parquet"
    columns = {"size": [1.5, None], "count": [1, 2], "colour": ["red", None]}
    parquet.write_table(pa.table(columns), path)
    assert table(path) == columns
    (part,) = stream([path], Options(), only={"count"})
    assert list(part.columns) == ["count"]
    with pytest.raises(ValueError, match=r"fake\.parquet: no Parquet file"):
        table(write(tmp_path, "a,b\n1,2\n", "fake.parquet"))


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for name in ("table.parquet", "table.csv", "table.jsonl"):
        with pytest.raises(ImportError, match=r'pyarrow: pip install "fastbp\[tables\]"'):
            table(write(tmp_path, "a,b\n1,2\n", name))


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    assert table(tmp_path / "table.npy") == {"0": [0, 2, 4], "1": [1, 3, 5]}


def test_npz(tmp_path: Path) -> None:
    labels = np.array(["cat", "dog"])
    np.savez(tmp_path / "table.npz", X=np.array([[1, 2], [3, 4]]), y=labels)
    assert table(tmp_path / "table.npz") == {"X[0]": [1, 3], "X[1]": [2, 4], "y": ["cat", "dog"]}


@pytest.mark.parametrize("length", [2, 4])
def test_npz_of_different_lengths(tmp_path: Path, length: int) -> None:
    np.savez(tmp_path / "table.npz", X=np.zeros((3, 2)), y=np.zeros(length))
    with pytest.raises(ValueError, match=rf"different lengths \(X: 3, y: {length}\)"):
        table(tmp_path / "table.npz")


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2), complex), np.zeros((2, 2, 2))])
def test_npy_of_the_wrong_kind(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "table.npy", array)
    with pytest.raises(ValueError, match=r"table\.npy: the array must be 2-D"):
        table(tmp_path / "table.npy")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        table(tmp_path / "table.npy")
    np.savez(tmp_path / "table.npz", x=np.array([{}]))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        table(tmp_path / "table.npz")


@pytest.mark.parametrize("name", ["table.npy", "table.npz"])
def test_content_that_is_not_what_the_suffix_says(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        table(write(tmp_path, "a,b\n1,2\n", name))


def test_no_file_a_folder_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        table(tmp_path / "table.csv")
    with pytest.raises(ValueError, match="a folder"):
        table(tmp_path)
    with pytest.raises(ValueError, match=r"\.xls are not read; save it as CSV"):
        table(write(tmp_path, "x", "table.xls"))


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1,2\n3,4\n")
    reader = stream([path], Options())
    next(reader)
    with path.open("a") as file:
        file.write("5,6\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match="changed while it was read"):
        list(reader)


def test_parts_on_disk_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a,b\n" + "".join(f"{i},w{i % 7}\n" for i in range(500)))
    monkeypatch.setattr(delimited, "SAMPLE", 100)
    monkeypatch.setattr(delimited, "BLOCK", 500)
    plain = table(path)
    monkeypatch.setattr(parts, "IN_MEMORY", 1000)
    found = read([path], Options())
    assert found._file is not None
    for _ in range(2):
        assert [v for part in found for v in values(part.columns["b"])] == plain["b"]
        assert [part.number(0) for part in found][:2] == [1, found._kept[1][0].first]


# Frames


def frame_of(kind: str, columns: dict[str, Any]) -> Any:
    if kind == "dict":
        return columns
    if kind == "arrow":
        return pa.table(columns)
    module = pytest.importorskip(kind, reason=f"{kind} is not installed")
    return module.DataFrame(columns)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "dict"])
def test_frames(kind: str) -> None:
    columns = {
        "x": [1.5, None, 3.0],
        "n": [1, 2, 3],
        "text": ["a", None, "b"],
        "flag": [True, False, True],
        "when": [datetime(2020, 1, 1), datetime(2021, 2, 3), None],
    }
    found = frames.columns_of(frame_of(kind, columns))
    assert {name: kind_of(column) for name, column in found.items()} == {
        "x": "number",
        "n": "number",
        "text": "text",
        "flag": "category",
        "when": "date",
    }
    np.testing.assert_array_equal(numbers_of(found["x"])[0], [1.5, np.nan, 3])
    codes, texts = codes_of(found["text"])
    assert [texts[code] for code in codes] == ["a", None, "b"]
    codes, texts = codes_of(found["flag"])
    assert [texts[code] for code in codes] == ["True", "False", "True"]
    moments = moments_of(found["when"])[0]
    np.testing.assert_array_equal(
        moments, np.array(["2020-01-01", "2021-02-03", "NaT"], "datetime64[s]")
    )


def test_columns_of_pandas_of_every_kind() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(
        {
            "nullable": pd.array([1, None, 3], "Int64"),
            "category": pd.Categorical(["u", "v", None]),
            "levels": pd.Categorical([10, 20, 10]),
            "mixed": [1, "x", None],
            "objects": pd.Series([1.5, None, 2], dtype=object),
            "zone": pd.to_datetime(["2020-01-01", None, "2020-01-03"], utc=True),
            "step": pd.to_timedelta([1, 2, None], unit="h"),
        }
    )
    found = frames.columns_of(frame)
    np.testing.assert_array_equal(numbers_of(found["nullable"])[0], [1, np.nan, 3])
    np.testing.assert_array_equal(numbers_of(found["objects"])[0], [1.5, np.nan, 2])
    np.testing.assert_array_equal(numbers_of(found["step"])[0], [3600, 7200, np.nan])
    for name, expected in (
        ("category", ["u", "v", None]),
        ("levels", ["10", "20", "10"]),
        ("mixed", ["1", "x", None]),
    ):
        codes, texts = codes_of(found[name])
        assert [texts[code] for code in codes] == expected
    assert kind_of(found["zone"]) == "date"


def test_no_table() -> None:
    with pytest.raises(TypeError, match="a table must be a frame"):
        frames.columns_of(3)
    with pytest.raises(ValueError, match="two dimensions"):
        frames.columns_of(np.zeros(3))
    with pytest.raises(ValueError, match="different lengths"):
        frames.columns_of({"a": [1], "b": [1, 2]})


def test_progress_reaches_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "SAMPLE", 100)
    monkeypatch.setattr(delimited, "BLOCK", 100)
    path = write(tmp_path, "a,b\n" + "1,2\n" * 200)
    seen: list[tuple[int, int]] = []
    list(
        reading.stream([path], Options(progress=lambda name, done, size: seen.append((done, size))))
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


# One part ahead


def _counted(log: list[int], n: int, fails_at: int = -1) -> Iterator[parts.Part]:
    try:
        for i in range(n):
            if i == fails_at:
                raise ValueError("no more")
            log.append(i)
            yield parts.Part({}, i)
    finally:
        log.append(-1)


def test_the_next_part_is_read_ahead_in_order() -> None:
    log: list[int] = []
    assert [part.rows for part in parts.ahead(_counted(log, 4))] == [0, 1, 2, 3]
    assert log == [0, 1, 2, 3, -1]
    assert list(parts.ahead(iter([]))) == []


def test_an_error_of_reading_ahead_comes_in_its_place() -> None:
    log: list[int] = []
    reading_ahead = parts.ahead(_counted(log, 4, fails_at=2))
    assert [next(reading_ahead).rows, next(reading_ahead).rows] == [0, 1]
    with pytest.raises(ValueError, match="no more"):
        next(reading_ahead)


def test_reading_ahead_ends_with_its_reader() -> None:
    log: list[int] = []
    threads = threading.active_count()
    reading_ahead = parts.ahead(_counted(log, 100))
    next(reading_ahead)
    reading_ahead.close()
    assert threading.active_count() == threads
    assert max(log) <= 1
