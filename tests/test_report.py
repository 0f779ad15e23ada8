"""The page of ``fastbp train --report``: whole, self-contained, and what it says is so."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp.cli import main

RNG = np.random.default_rng(0)


class Page(HTMLParser):
    """The text of a page, whose tags are checked to be closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Page, str]:
    options = ["--report", "run.html", "--hidden", "8", "--epochs", "30", "--quiet"]
    assert main(["train", *arguments, *options]) == 0
    page = Page(Path("run.html"))
    # nothing is fetched, nothing runs
    assert not re.search(r"""(src|href)=|url\(|<script|@import""", page.source)
    return page, capsys.readouterr().out


def text_of(page: Page) -> str:
    return " ".join(page.text)


def write_csv(name: str, rows: int) -> None:
    a, b = RNG.standard_normal((2, rows))
    kind = np.where(a > 0, "<up> & away", "down")
    lines = [f"{x},{y},{k},{x * 3:.6f}" for x, y, k in zip(a, b, kind, strict=True)]
    Path(name).write_text("\n".join(["signal,noise,kind,y", *lines]))


MODELS = pytest.mark.parametrize("model", ["realmlp", "realmlp-s", "mlp", "plain"])


@MODELS
def test_classification(capsys: pytest.CaptureFixture[str], model: str):
    write_csv("t.csv", 400)
    arguments = ("t.csv", "--target", "kind", "--ignore", "y", "--test", "0.25", "--model", model)
    page, out = train(capsys, *arguments, "--save", "m.safetensors", "--metric", "accuracy")
    text = text_of(page)
    assert "report written to run.html" in out
    assert "<up> & away" in text  # escaped, so the parser gives it back
    used = "Adam" if model == "plain" else f"{model}, the mean of 6 networks"
    for word in ("t.csv", "signal", "noise", used, "fastbp predict m.safetensors new.csv"):
        assert word in text
    test = re.search(r"test accuracy: (\S+)", out)
    assert test
    assert test[1] in text
    # the confusion matrix: its diagonal is the accuracy
    cells = re.findall(r'background:rgba\(47,128,208,[\d.]+\)">(\d+)</td>', page.source)
    counts = np.array([int(c) for c in cells]).reshape(2, 2)
    assert counts.sum() == 100
    assert f"{np.trace(counts) / 100:.4f}" == test[1]
    # what matters comes first
    columns = text[text.index("Most important columns") :]
    assert columns.index("signal") < columns.index("noise")
    # and it can be loaded as it says
    (code,) = re.findall(r"fastbp\.load\('(.*?)'\)", text)
    assert fastbp.load(code).predict({"signal": [3.0], "noise": [0.0]})[0] == "<up> & away"


@MODELS
def test_regression(capsys: pytest.CaptureFixture[str], model: str):
    write_csv("t.csv", 200)
    write_csv("test.csv", 50)
    arguments = ("t.csv", "--target", "y", "--ignore", "kind", "--test", "test.csv")
    page, out = train(capsys, *arguments, "--model", model)
    text = text_of(page)
    test = re.search(r"test r2: (\S+)", out)
    assert test
    assert test[1] in text
    assert "It was not saved" in text
    assert page.source.count("h0") == 50  # a point for each row
    assert "Residuals" in text


def test_the_digits_and_no_validation(capsys: pytest.CaptureFixture[str]):
    page, out = train(capsys, "--validation", "0")
    assert "pixel_" in text_of(page)
    shown = re.search(r"test accuracy: ([\d.]+)%", out)
    assert shown
    assert f"{float(shown[1]) / 100:.3f}" in text_of(page)


@MODELS
def test_without_rows_held_out(capsys: pytest.CaptureFixture[str], model: str):
    write_csv("t.csv", 60)
    page, _ = train(capsys, "t.csv", "--target", "y", "--validation", "0", "--model", model)
    assert "Scores" not in text_of(page)


def test_many_classes_show_the_worst_pairs(capsys: pytest.CaptureFixture[str]):
    names = [f"c{i:02}" for i in range(40)]
    x = RNG.standard_normal(400)
    lines = [f"{v},{names[i % 40]}" for i, v in enumerate(x)]
    Path("t.csv").write_text("\n".join(["x,name", *lines]))
    page, _ = train(capsys, "t.csv", "--target", "name")
    assert "true predicted rows" in re.sub(r"\s+", " ", text_of(page))
    assert "rgba(47" not in page.source


def test_a_folder_that_is_not_there_is_said_at_once(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--report", "none/run.html"]) == 2
    assert "--report must be a file in a folder that is there" in capsys.readouterr().err
