"""The command on files as people have them: real exports, bad input, every option of columns."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import BODY, QUICK, first_line, rows, write

from fastbp.cli import main
from fastbp.command import split
from fastbp.tables import delimited

pytest.importorskip("pyarrow", reason="pyarrow is not installed")


# Real exports: every one of these is 60 rows of two numbers and a class.

COMMA = [f"{a};{b};{c}".replace(".", ",") for a, b, c in rows()]
EXPORTS = {
    "plain": ("a,b,y", BODY),
    "a spreadsheet of another country": ("a;b;y", COMMA),
    "trailing delimiters": ("a,b,y,", [f"{line}," for line in BODY]),
    "trailing delimiters in the rows": ("a,b,y", [f"{line}," for line in BODY]),
    "empty columns": ("a,b,y,,,", [f"{line},,," for line in BODY]),
    "rows of delimiters at the end": ("a,b,y", [*BODY, ",,", ",,"]),
    "blank rows": ("a,b,y", [*BODY[:30], "", "  ", *BODY[30:]]),
    "row names of R": ('"a","b","y"', [f'"{i}",{line}' for i, line in enumerate(BODY, 1)]),
    "the index of pandas": (",a,b,y", [f"{i},{line}" for i, line in enumerate(BODY)]),
    "the index of pandas twice": (
        "Unnamed: 0.1,Unnamed: 0,a,b,y",
        [f"{i},{i},{line}" for i, line in enumerate(BODY)],
    ),
    "quotes after spaces": ('"a", "b", "y"', [line.replace(",", ", ") for line in BODY]),
    "quoted numbers": ("a,b,y", [",".join(f'"{c}"' for c in line.split(",")) for line in BODY]),
    "tabs": ("a\tb\ty", [line.replace(",", "\t") for line in BODY]),
    "pipes": ("a|b|y", [line.replace(",", "|") for line in BODY]),
    "a note of the delimiter": ("sep=;\na;b;y", COMMA),
}


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_real_exports(run, name: str, encoding: str) -> None:
    header, body = EXPORTS[name]
    write(header + "\n" + "\n".join(body) + "\n", encoding=encoding)
    line = first_line(run("inspect", "t.csv", "--target", "y"))
    assert line == "60 rows, 2 inputs: classification of 'y', 2 classes"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_dump_of_a_database(run, ends: str) -> None:
    lines = ["id\tprice\tnote\ty"]
    for i, (a, _, c) in enumerate(rows()):
        price = "\\N" if i % 9 == 0 else a
        lines.append(f"{i}\t{price}\t\\N\t{c}")
    write(ends.join(lines) + ends)
    status, out, err = run("inspect", "t.csv", "--target", "y", "--ignore", "id")
    assert (status, err) == (0, "")
    assert re.search(r"price +number .* 7 +2\n", out)
    assert "note    left out: no values" in out


def test_quoted_line_breaks(run) -> None:
    lines = [f'{a},{b},"{c}\nof two lines"' for a, b, c in rows()]
    write("a,b,y\n" + "\n".join(lines) + "\n")
    assert "60 rows, 2 inputs" in first_line(run("inspect", "t.csv", "--target", "y"))


def test_decimal_commas_give_the_same_model(run) -> None:
    X = np.random.default_rng(0).uniform(0, 30, (200, 2)).round(2)
    lines = [f"{a};{b};{2 * a - 3 * b:.2f}" for a, b in X.tolist()]
    write("t;w;p\n" + "\n".join(lines) + "\n", "us.csv")
    write("t;w;p\n" + "\n".join(lines).replace(".", ",") + "\n", "eu.csv")
    results = [run("train", f, "--target", "p", *QUICK) for f in ("us.csv", "eu.csv")]
    assert results[0][1] == results[1][1]
    assert "2 inputs: regression of 'p'" in first_line(results[0])


@pytest.mark.parametrize(
    "cell", ["#N/A", "unknown", "-", '"1,234.5"', "$51.20", "12 %", ".", "", "n/a"]
)
def test_one_cell_that_is_no_number(run, cell: str) -> None:
    x = np.random.default_rng(0).normal(50, 20, 500).round(2).tolist()
    cells = [cell if i == 17 else v for i, v in enumerate(x)]
    write(
        "age,b,y\n"
        + "".join(
            f"{c},{i % 3},{3 * v:.2f}\n" for i, (c, v) in enumerate(zip(cells, x, strict=True))
        )
    )
    status, out, err = run(
        "train", "t.csv", "--target", "y", "--quiet", "--epochs", 30, "--save", "m"
    )
    assert (status, err) == (0, "")
    assert re.search(r"^age +number", out, re.MULTILINE)
    score = re.search(r"validation r2: (\S+)", out)
    assert score is not None
    assert float(score[1]) > 0.99
    write("age,b\n50,1\n", "new.csv")
    assert abs(float(run("predict", "m", "new.csv")[1].split()[1]) - 150) < 15


@pytest.mark.parametrize("value", [14.62, 0.1, 1e6 + 0.3])
def test_a_constant_column_does_no_harm(run, value: float) -> None:
    x = np.random.default_rng(0).normal(size=1000).tolist()
    write("x,k,y\n" + "".join(f"{v!r},{value!r},{3 * v!r}\n" for v in x))
    status, out, _ = run(
        "train", "t.csv", "--target", "y", "--save", "m", "--quiet", "--epochs", 20
    )
    assert status == 0
    assert "left out: constant" in out
    write(f"x,k\n0.5,{value!r}\n0.5,{value * 1.001!r}\n-1,{value * 1.001!r}\n", "n.csv")
    a, b, c = map(float, run("predict", "m", "n.csv")[1].split()[1:])
    assert a == b
    assert abs(a - 1.5) < 0.5
    assert abs(c + 3) < 0.75


def test_missing_values_and_new_categories(run) -> None:
    generator = np.random.default_rng(0)
    lines = []
    for i, (a, b, c) in enumerate(rows(200)):
        town = "" if i % 20 == 0 else generator.choice(["Bonn", "Kiel"])
        lines.append(f"{a if i % 9 else ''},{0.5 if i else ''},{b},{town},{c}")
    write("a,k,b,town,y\n" + "\n".join(lines) + "\n")
    for model, inputs in (("plain", 8), ("realmlp", 7)):  # two towns are one input of ±1
        args = ("train", "t.csv", "--target", "y", "--save", "m", "--model", model)
        assert f"200 rows, {inputs} inputs" in first_line(run(*args, *QUICK))
    write("a,k,b,town\n1,0.5,2,Bonn\n,,,\n,0.5,2,\n3,0.5,-1,Trier\n", "n.csv")
    status, out, err = run("predict", "m", "n.csv")
    assert (status, err) == (0, "")
    assert len(out.split()) == 1 + 3  # a row without any value is a blank row


def test_prediction_needs_what_the_model_uses_and_no_more(run) -> None:
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    assert run("train", "t.csv", "--target", "y", "--save", "m", *QUICK)[0] == 0
    body = [line.rpartition(",")[0] for line in BODY[:5]]
    files = {
        "no target": ("a,b", body),
        "target empty": ("a,b,y", [f"{line}," for line in body]),
        "target ?": ("a,b,y", [f"{line},?" for line in body]),
        "another order": ("b,a", [",".join(line.split(",")[::-1]) for line in body]),
        "a gap": ("a,b,note", [f"{line},{'' if i == 2 else 'ok'}" for i, line in enumerate(body)]),
        "infinite": ("a,b,z", [f"{line},inf" for line in body]),
        "a column twice": ("a,b,z,z", [f"{line},1,2" for line in body]),
        "decimal commas": ("a;b", [line.replace(",", ";").replace(".", ",") for line in body]),
    }
    expected = None
    for name, (header, lines) in files.items():
        write(header + "\n" + "\n".join(lines) + "\n", "n.csv")
        result = run("predict", "m", "n.csv")
        expected = expected or result
        assert result == expected, name
    assert expected is not None
    assert len(expected[1].split()) == 6


def test_a_bad_value_in_prediction(run, refused) -> None:
    write("x,y\n" + "".join(f"{a},{2 * a}\n" for a, _, _ in rows()))
    assert run("train", "t.csv", "--target", "y", "--save", "m", *QUICK)[0] == 0
    write("id,x\n7,0.5\n8,l2.5\n9,1\n", "n.csv")
    message = refused("predict", "m", "n.csv", "--output", "out.csv")
    assert "n.csv: row 2, column 'x': 'l2.5' is no number; --skip-bad-rows goes on" in message
    assert refused("predict", "m", "n.csv") == message
    status, out, err = run("predict", "m", "n.csv", "--skip-bad-rows", "--keep", "id")
    assert status == 0
    assert [line.split(",")[0] for line in out.splitlines()] == ["id", "7", "9"]
    assert err.startswith("fastbp: note: 1 row left out, the first: n.csv: row 2")


def test_nothing_is_predicted_if_a_later_row_is_bad(run, refused, monkeypatch) -> None:
    write("x,y\n" + "".join(f"{a},{2 * a}\n" for a, _, _ in rows()))
    assert run("train", "t.csv", "--target", "y", "--save", "m", *QUICK)[0] == 0
    monkeypatch.setattr(delimited, "SAMPLE", 64)
    monkeypatch.setattr(delimited, "BLOCK", 64)
    write("x\n" + "0.5\n" * 500 + "bad\n", "n.csv")
    Path("out.csv").write_text("old")
    assert "row 501, column 'x': 'bad'" in refused("predict", "m", "n.csv", "--output", "out.csv")
    assert Path("out.csv").read_text() == "old"
    assert main(["predict", "m", "n.csv"]) == 2


def test_text_stays_text_in_prediction(run) -> None:
    generator = np.random.default_rng(0)
    flats = generator.choice(["12", "12A", "7", "7B"], 300)
    codes = generator.choice(["007", "010"], 300)
    x = generator.normal(size=300).round(3)
    write(
        "x,flat,code,y\n"
        + "".join(
            f"{a},{f},{c},{a + (f == '12') - 2 * (f == '7B') + 3 * (c == '007'):.3f}\n"
            for a, f, c in zip(x, flats, codes, strict=True)
        )
    )
    assert run("train", "t.csv", "--target", "y", "--save", "m", *QUICK)[0] == 0
    write("x,flat,code\n0.5,12,007\n0.5,7,010\n0.5,7B,007\n", "all.csv")
    write("x,flat,code\n0.5,12,007\n0.5,7,010\n", "few.csv")
    every = run("predict", "m", "all.csv")[1].split()
    assert run("predict", "m", "few.csv")[1].split() == every[:3]
    assert len(set(every)) == 4


@pytest.mark.parametrize("word", ["NA", "None", "nan", "?"])
def test_a_category_that_looks_like_nothing(run, word: str) -> None:
    generator = np.random.default_rng(0)
    kinds = generator.choice([word, "EU", "AS"], 300)
    x = generator.normal(size=300).round(3)
    write(
        "x,c,y\n"
        + "".join(f"{a},{c},{a + 2 * (c == word):.3f}\n" for a, c in zip(x, kinds, strict=True))
    )
    assert run("train", "t.csv", "--target", "y", "--save", "m", "--quiet")[0] == 0
    write(f"x,c\n0.5,{word}\n0.5,EU\n", "all.csv")
    write(f"x,c\n0.5,{word}\n", "n.csv")
    every = run("predict", "m", "all.csv")[1].split()
    assert run("predict", "m", "n.csv")[1].split() == every[:2]
    assert abs(float(every[1]) - 2.5) < 0.7
    assert abs(float(every[2]) - 0.5) < 0.7


@pytest.mark.parametrize(
    "lines",
    [
        [f"{i},{i * i % 7},{'uv'[i % 2]}" for i in range(8)],
        [f"{i},{i % 10},k{i % 10}" for i in range(40)],
        [f"{i % 300},{i // 300},k{i % 300}" for i in range(1200)],
        [f"{i},{2 * i},{i + 0.5}" for i in range(4)],
        [f"{i},{2 * i},{i + 0.5}" for i in range(3)],
        ["0,1,u", "1,0,v"],
    ],
)
def test_small_files_train_with_the_default_options(run, lines: list[str]) -> None:
    write("a,b,y\n" + "\n".join(lines) + "\n")
    assert first_line(run("train", "t.csv", "--target", "y", "--quiet", "--epochs", 2))


def test_a_share_that_was_asked_for_and_cannot_be_had(run, refused) -> None:
    write("a,b,y\n0,1,u\n1,0,v\n")
    assert "--validation 0.1 of 2 rows leaves none" in refused(
        "train", "t.csv", "--target", "y", "--validation", 0.1, *QUICK
    )
    assert "--test 0.2 of 2 rows leaves none" in refused(
        "train", "t.csv", "--target", "y", "--test", 0.2, *QUICK
    )


# Columns


def test_columns_to_ignore_to_keep_and_to_take_as_names(run) -> None:
    lines = [f"C{i:03d},{i % 3},{line}" for i, line in enumerate(BODY)]
    write("customer,floor,a,b,y\n" + "\n".join(lines) + "\n")
    inspect = ("inspect", "t.csv", "--target", "y")
    status, out, _ = run(*inspect)
    assert status == 0
    assert "60 rows, 3 inputs" in out
    assert "customer  left out: text, mostly unique" in out
    assert "note: column 'customer' is left out: 60 different texts in 60 rows" in out
    assert "taken as numbers: floor" in out
    out = run(*inspect, "--ignore", "customer,a")[1]
    assert "60 rows, 2 inputs" in out
    assert "customer" not in out
    assert "60 rows, 4 inputs" in run(*inspect, "--keep", "customer")[1]
    assert "60 rows, 5 inputs" in run(*inspect, "--cat-features", "floor")[1]
    assert "60 rows, 4 inputs" in run(*inspect, "--cat-features", "floor", "--ignore", "a")[1]
    assert run("inspect", "t.csv")[1].startswith("60 rows, ")


@pytest.mark.parametrize("option", ["--ignore", "--cat-features", "--keep", "--weight", "--group"])
def test_a_column_that_is_not_there(run, refused, option: str) -> None:
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    message = refused("train", "t.csv", "--target", "y", option, "bb", *QUICK)
    assert f"{option}: unknown column 'bb'; did you mean 'b'?" in message


def test_messages_stay_short_with_many_columns(run, refused) -> None:
    names = [f"x{i}" for i in range(3000)]
    lines = [",".join(str((i * j) % 7) for j in range(3000)) for i in range(6)]
    write(",".join(names) + "\n" + "\n".join(lines) + "\n")
    assert "and 2,980 more" in refused("train", "t.csv", "--target", "z", *QUICK)
    out = run("inspect", "t.csv", "--target", "x1")[1]
    assert len(out.splitlines()) < 50
    assert all(len(line) < 250 for line in out.splitlines())


def test_a_name_with_a_comma(run) -> None:
    write('"a, b",c,y\n' + "\n".join(BODY) + "\n")
    assert "60 rows, 1 inputs" in run("inspect", "t.csv", "--target", "y", "--ignore", "a, b")[1]


def test_weights(run, refused) -> None:
    # Rows that contradict each other: the heavy ones win.
    lines = [f"{a},{2 * a},3" for a, _, _ in rows(200)] + [
        f"{a},{-2 * a},0.001" for a, _, _ in rows(200)
    ]
    write("x,y,w\n" + "\n".join(lines) + "\n")
    args = ("train", "t.csv", "--target", "y", "--quiet", "--learning-rate", 0.01)
    status, out, _ = run(*args, "--weight", "w", "--save", "m", "--test", 0.2)
    assert status == 0
    assert "400 rows, 1 inputs" in out
    assert float(re.findall(r"test r2: (\S+)", out)[0]) > 0.9
    for bad in ("-1", "", "x", "inf"):
        write("x,y,w\n" + "\n".join([*lines, f"1,2,{bad}"]) + "\n")
        assert "row 401, column 'w': a weight must be a number ≥ 0" in refused(
            *args, "--weight", "w"
        )
    assert "must be different columns" in refused(*args, "--weight", "y")


def test_groups_stay_on_one_side() -> None:
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 40, 1000)
    y = generator.integers(0, 2, 1000)
    out = split.held_out(y, 0.2, generator, classes=True, groups=groups)
    assert not set(groups[out]) & set(groups[~out])
    assert 0.1 < out.mean() < 0.3
    # A single group cannot be held out.
    assert not split.held_out(y, 0.2, generator, classes=True, groups=np.zeros(1000, int)).any()


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.9])
@pytest.mark.parametrize("sizes", [(500, 500), (900, 90, 10), (4,) * 200, (997, 1, 1, 1)])
def test_every_class_gives_its_share(fraction: float, sizes: tuple[int, ...]) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    out = split.held_out(y, fraction, np.random.default_rng(3), classes=True)
    held, kept = np.bincount(y[out], minlength=len(sizes)), np.bincount(y[~out])
    assert kept.min() >= 1
    assert len(kept) == len(sizes)
    free = len(y) - len(sizes)
    count = min(round(fraction * len(y)), free)
    assert held.sum() == count
    # Classes give in proportion to their rows but one, to within one row.
    assert np.abs(held - (np.array(sizes) - 1) * count / free).max() <= 1


def test_a_group_option(run) -> None:
    lines = [f"{line},g{i % 7}" for i, line in enumerate(BODY)]
    write("a,b,y,who\n" + "\n".join(lines) + "\n")
    line = first_line(run("train", "t.csv", "--target", "y", "--group", "who", *QUICK))
    assert "60 rows, 2 inputs" in line


def test_a_test_fraction_and_a_test_file(run, refused) -> None:
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    train = ("train", "t.csv", "--target", "y", "--quiet", "--epochs", 30, "--learning-rate", 0.02)
    out = run(*train, "--test", 0.25)[1]
    assert float(re.findall(r"test accuracy: (\S+)", out)[0]) > 0.8
    write(
        "y,b,a\n" + "\n".join(f"{c},{b},{a}" for a, b, c in rows(50, 1)) + "\n,1,2\nw,1,2\n",
        "test.csv",
    )
    out = run(*train, "--test", "test.csv", "--metric", "accuracy", "--metric", "log_loss")[1]
    assert float(re.findall(r"test accuracy: (\S+)", out)[0]) > 0.8
    assert float(re.findall(r"test log_loss: (\S+)", out)[0]) < 0.7
    assert "2 rows are left out: their target is missing, or of no class" in out
    assert "--test takes a file or a fraction" in refused(*train, "--test", "none.csv")
    assert "--test must be" in refused(*train, "--test", 1.5)
    write("a,b\n1,2\n", "test.csv")
    assert "unknown column 'y'" in refused(*train, "--test", "test.csv")


def test_metrics(run, refused) -> None:
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    train = ("train", "t.csv", *QUICK)
    out = run(*train, "--target", "y", "--metric", "roc_auc")[1]
    assert re.search(r"validation roc_auc: [01]\.\d{4}\n", out)
    out = run(*train, "--target", "a", "--metric", "rmse", "--metric", "mae")[1]
    assert re.search(r"validation rmse: \S+\nvalidation mae: \S+\n", out)
    assert "--metric rmse is none of classification" in refused(
        *train, "--target", "y", "--metric", "rmse"
    )
    write("a,b,y\n" + "\n".join(f"{i},{i},k{i % 3}" for i in range(30)) + "\n")
    assert "of two classes, the target has 3" in refused(
        *train, "--target", "y", "--metric", "roc_auc"
    )


def test_metrics_are_what_scikit_learn_computes() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    from fastbp.command.metrics import measure

    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 500)
    p = generator.uniform(0.05, 0.95, 500).round(2)
    proba = np.column_stack([1 - p, p])
    for weight in (None, generator.uniform(size=500)):
        found = dict(measure(["accuracy", "log_loss", "roc_auc"], proba, y, weight))
        expected = {
            "accuracy": metrics.accuracy_score(y, p > 0.5, sample_weight=weight),
            "log_loss": metrics.log_loss(y, proba, sample_weight=weight),
            "roc_auc": metrics.roc_auc_score(y, p, sample_weight=weight),
        }
        # Sums of 500 terms in another order.
        assert found == pytest.approx(expected, rel=500 * np.finfo(float).eps)
        t, f = generator.normal(size=(2, 500))
        found = dict(measure(["r2", "rmse", "mae"], f, t, weight))
        expected = {
            "r2": metrics.r2_score(t, f, sample_weight=weight),
            "rmse": metrics.root_mean_squared_error(t, f, sample_weight=weight),
            "mae": metrics.mean_absolute_error(t, f, sample_weight=weight),
        }
        assert found == pytest.approx(expected, rel=500 * np.finfo(float).eps)


# Ways to bring a file


def test_standard_input_and_several_files(run, tmp_path: Path) -> None:
    text = "a,b,y\n" + "\n".join(BODY) + "\n"
    write(text, "one.csv")
    Path("two.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert "120 rows, 2 inputs" in first_line(
        run("train", "one.csv", "two.csv.gz", "--target", "y", "--save", "m", *QUICK)
    )
    done = subprocess.run(
        [sys.executable, "-m", "fastbp", "predict", "m", "-"],
        input="a,b\n1,2\n2,1\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.split()) == 3
    assert len(run("predict", "m", "one.csv", "two.csv.gz")[1].split()) == 121


def test_json_lines_and_excel(run) -> None:
    write("".join(f'{{"a": {a}, "b": {b}, "y": "{c}"}}\n' for a, b, c in rows()), "t.jsonl")
    assert "60 rows, 2 inputs" in first_line(run("inspect", "t.jsonl", "--target", "y"))
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    book = openpyxl.Workbook()
    for row in [("a", "b", "y"), *rows()]:
        book.active.append(row)
    book.save("t.xlsx")
    assert "60 rows, 2 inputs" in first_line(run("inspect", "t.xlsx", "--target", "y"))


def test_options_of_reading(run) -> None:
    write("a^b^y\n" + "\n".join(line.replace(",", "^") for line in BODY) + "\n")
    inspect = ("inspect", "t.csv", "--target", "y")
    assert "60 rows, 2 inputs" in first_line(run(*inspect, "--delimiter", "^"))
    write("größe,b,y\n" + "\n".join(BODY) + "\n", encoding="cp437")
    assert "größe" in run(*inspect, "--encoding", "cp437")[1]
    write("a,b,y\n-99,1,u\n" + "\n".join(BODY) + "\n")
    assert "61 rows, 3 inputs" in first_line(run(*inspect, "--missing=-99"))
    write("a\tb\ty\n" + "\n".join(f"1,{i:03d}\t{i}\t{'uv'[i % 2]}" for i in range(50)) + "\n")
    assert "1000 … 1049" in run(*inspect)[1]
    assert "1 … 1.049" in run(*inspect, "--decimal", ",")[1]
