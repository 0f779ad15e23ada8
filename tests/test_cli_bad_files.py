"""The command on files that are no tables, on disks that are full; what it shows of its progress."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import BODY, QUICK, first_line, write

import fastbp
from fastbp.command import progress

pytest.importorskip("pyarrow", reason="pyarrow is not installed")


# Bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv: the file is empty"),
        ("\n\n", "t.csv: the file is empty"),
        ("a,b,y\n", "there are no rows of data"),
        ("a,b,y\n1,2,u\n", "one value only (u): nothing to learn"),
        ("y\nu\nv\n", "column 'y' is the only one"),
        ("a,b\n1,2\n3,4\n", "--target: unknown column 'y'"),
        ("a,b,y\n1,2,\n3,4,\n", "target 'y' has no values"),
        ("a,b,y\n1,2,NA\n3,4,?\n", "target 'y' has no values"),
        ("a,b,y\n1,2,5\n3,4,5\n", "one value only (5): nothing to learn"),
        ("a,b,y\n1,2,u\n3,inf,v\n", "t.csv: row 2, column 'b': the number is infinite"),
        ("a,b,y\n1,2,1.5\n3,4,-inf\n5,6,2.5\n", "t.csv: row 2, column 'y': the target is infinite"),
        ("a,a,y\n1,2,u\n3,4,v\n", "column name 'a' is there twice"),
        ("a,b,y\n1,2,u\n3,v\n5,6,u\n", "row 2 has 2 values"),
        ("a,b,y\n5,7,u\n5,7,v\n", "no column is left to predict 'y' from"),
        ("Sales\nof May\n\na,b,y\n1,2,u\n3,4,v\n5,6,u\n", "if other lines stand above the header"),
        ('a,b,y\n1,2,u\n3,"4,v\n5,6,u\n', "row 2: a quote is opened and never closed"),
        ("a,b,y\n" + "".join(f"{i},{i},n{i}\n" for i in range(10_000)), "10,000 different values"),
    ],
)
def test_bad_files_are_one_line_and_status_2(run, refused, text: str, message: str) -> None:
    write(text)
    assert message in refused("train", "t.csv", "--target", "y", "--save", "m", *QUICK)


def test_no_file_no_text_a_folder_no_permission(run, refused, tmp_path: Path) -> None:
    train = ("--target", "y", "--save", "m", *QUICK)
    assert "none.csv: No such file" in refused("train", "none.csv", *train)
    Path("folder").mkdir()
    assert "folder: this is a folder" in refused("train", "folder", *train)
    Path("t.csv").write_bytes(bytes(range(256)) * 100)
    assert "t.csv: this is no text file" in refused("train", "t.csv", *train)
    Path("t.csv.gz").write_bytes(b"\x1f\x8bnonsense")
    assert "t.csv.gz: " in refused("train", "t.csv.gz", *train)
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    Path("t.csv").chmod(0)
    if not os.access("t.csv", os.R_OK):
        assert "t.csv: Permission denied" in refused("train", "t.csv", *train)


def test_a_file_without_permission_to_read(run, refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "t.csv")

    monkeypatch.setattr("fastbp.tables.reading.open", denied, raising=False)
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    assert (
        refused("train", "t.csv", "--target", "y", *QUICK) == "fastbp: t.csv: Permission denied\n"
    )


def test_a_disk_that_is_full(run, refused, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    train = ("train", "t.csv", "--target", "y", "--save", "m", *QUICK)
    assert run(*train)[0] == 0
    before = Path("m").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert refused(*train) == "fastbp: m: No space left on device\n"
        assert refused("predict", "m", "t.csv", "--output", "out.csv") == (
            "fastbp: out.csv: No space left on device\n"
        )
    assert Path("m").read_bytes() == before
    os.mkfifo("pipe")  # not to be replaced by a file
    assert "--save must be a file in a folder" in refused(*train, "--save", "pipe")
    if os.path.exists("/dev/full"):
        assert "No space left" in refused("predict", "m", "t.csv", "--output", "/dev/full")


def test_what_is_read_is_never_replaced(run, refused, tmp_path: Path) -> None:
    text = "a,b,y\n" + "\n".join(BODY) + "\n"
    write(text)
    write(text, "test.csv")
    train = ("train", "t.csv", "--target", "y", "--model", "plain", *QUICK)
    for more, message in (
        (("--save", "t.csv"), "--save would replace 't.csv', which is read"),
        (("--report", "./t.csv"), "--report would replace 't.csv', which is read"),
        (("--test", "test.csv", "--save", "test.csv"), "--save would replace 'test.csv'"),
        (("--save", "m", "--report", "m"), "--report would replace what --save writes"),
    ):
        assert message in refused(*train, *more)
    assert run(*train, "--save", "m.st")[0] == 0
    model = Path("m.st").read_bytes()
    assert "--output would replace" in refused("predict", "m.st", "t.csv", "--output", "t.csv")
    assert "--output would replace" in refused("predict", "m.st", "t.csv", "--output", "m.st")
    assert "--output would replace" in refused(
        "export", "m.st", "--to", "python", "--output", "m.st"
    )
    assert (Path("t.csv").read_text(), Path("m.st").read_bytes()) == (text, model)
    assert run("train", "t.csv", "--target", "y", *QUICK, "--save", "m.st")[0] == 0
    args = "export", "m.st", "--to", "c", "--weights", "int8"
    assert "is for --model plain" in refused(*args)


def test_output_goes_to_pipes_and_files(run, tmp_path: Path) -> None:
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    assert run("train", "t.csv", "--target", "y", "--save", "m", *QUICK)[0] == 0
    out = run("predict", "m", "t.csv", "--proba")[1]
    assert run("predict", "m", "t.csv", "--proba", "--output", "/dev/stdout")[0] == 0
    assert run("predict", "m", "t.csv", "--proba", "--output", "p.csv") == (0, "", "")
    assert Path("p.csv").read_text() == out


def test_without_the_extra_only_arrays_are_read(
    run, refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pyarrow", "narwhals", "sklearn"):
        monkeypatch.setitem(sys.modules, module, None)
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    plain = (*QUICK, "--model", "plain")
    assert refused("train", "t.csv", "--target", "y", *QUICK) == (
        "fastbp: --model realmlp needs sklearn: "
        'pip install "fastbp[tables]"; --model plain does without\n'
    )
    assert refused("train", "t.csv", "--target", "y", *plain) == (
        'fastbp: t.csv: a text file needs pyarrow: pip install "fastbp[tables]"\n'
    )
    X = np.random.default_rng(0).normal(size=(80, 3))
    np.save("t.npy", X)
    np.savez("t.npz", X=X, kind=np.array(["u", "v"] * 40), town=np.array(["a", "b", "b", "c"] * 20))
    assert "2 inputs: regression of '0'" in first_line(
        run("train", "t.npy", "--target", 0, "--save", "m", *plain)
    )
    assert len(run("predict", "m", "t.npy")[1].split()) == 81
    line = first_line(run("train", "t.npz", "--target", "kind", "--save", "m", *plain))
    assert "6 inputs: classification of 'kind', 2 classes" in line
    assert len(run("predict", "m", "t.npz")[1].split()) == 81


@pytest.mark.parametrize(
    ("model", "shown"), [("plain", "2 → 4"), ("realmlp", "Periodic 2-8 → Scale 8-8 → Dense 8-4")]
)
def test_info_of_a_model(run, refused, model: str, shown: str) -> None:
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    args = ("train", "t.csv", "--target", "y", "--save", "m", "--model", model)
    assert run(*args, *QUICK)[0] == 0
    status, out, _ = run("info", "m")
    assert status == 0
    assert out.startswith("classification of 'y', 2 classes: u, v\n")
    assert re.search(r"^a +number +about", out, re.MULTILINE)
    assert shown in out
    assert "t.csv" in refused("info", "t.csv")


def test_an_interrupt_leaves_nothing(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write("a,b,y\n" + "\n".join(BODY) + "\n")

    def interrupted(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(fastbp.MLP, "fit", interrupted)
    args = ("train", "t.csv", "--target", "y", "--save", "m", "--model", "plain")
    assert run(*args, *QUICK)[0] == 130
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


# Progress


def test_plain_lines_tell_what_is_left(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    now = iter([0.0, 1.0, 6.0, 7.0, 12.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress.Meter("reading") as meter:
        for done in (10, 60, 70, 80, 100):
            meter("t.csv", done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "reading t.csv: 60%, about 4 s left",
        "reading t.csv: 80%, about 3 s left",
    ]


def test_a_bar_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed")
    bars = []

    class Recorded(tqdm.tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            bars.append(self)

    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(tqdm, "tqdm", Recorded)
    with progress.Meter("reading") as meter:
        meter("t.csv", 10, 100)
        meter("t.csv", 60, 100, "loss 3")
        assert (bars[0].n, bars[0].total, bars[0].desc) == (60, 100, "reading t.csv")
        meter("u.csv", 5, 10)
    assert (bars[1].n, bars[1].total) == (5, 10)
    assert all(bar.disable for bar in bars)  # closed
    assert progress.Meter("reading", quiet=True).kind == "plain"


def test_training_shows_a_bar_or_lines(run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    write("a,b,y\n" + "\n".join(BODY) + "\n")
    train = ("train", "t.csv", "--target", "y", "--epochs", 2, "--hidden", 4)
    assert run(*train)[1].count("network ") == 6
    train = (*train, "--model", "plain")
    assert run(*train)[1].count("samples/s") == 2
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    status, out, err = run(*train)
    assert status == 0
    assert "samples/s" not in out
    assert "training: " in err
