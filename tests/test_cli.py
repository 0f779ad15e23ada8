"""The command ``fastbp``, run as a person would: what it prints, writes, says about mistakes."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastbp.cli import main
from fastbp.engines import native

Run = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def call(*args: object) -> Run:
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as exit_:  # argparse
            status = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Three classes, named by text, that a plane separates; a text feature that tells one apart."""
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 3, 300)
    path = tmp_path / "flowers.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["length", "width", "colour", "kind"])
        for k in kind:
            length, width = generator.normal([100 + 40 * (k == 1), 2 + (k == 1)], [4, 0.1])
            writer.writerow([length, width, "red" if k == 2 else "blue", "abc"[k]])
    return path


def score(out: str) -> float:
    found = re.search(r"^validation (?:accuracy|R2): (\S+)$", out, re.MULTILINE)
    assert found is not None, out
    return float(found[1])


def test_digits_reach_the_promised_accuracy(run) -> None:
    status, out, err = run("train")
    assert (status, err) == (0, "")
    assert out.count("samples/s") == 30
    found = re.search(r"test accuracy: ([\d.]+)% of 449 images", out)
    assert found is not None
    assert float(found[1]) >= 97.5


@pytest.mark.skipif(not native.available(), reason=f"native engine: {native.reason()}")
def test_digits_reach_the_loss_of_the_reference_engine(run) -> None:
    # In float64, rounding (1e-16) grown over two epochs stays far below the digits printed.
    status, out, _ = run("train", "--epochs", 2, "--hidden", 32, "--dtype", "float64", "--quiet")
    assert status == 0
    assert "samples/s" not in out
    assert re.search(r"reference engine \d+\.\d+ s: \d+\.\d times faster", out)
    found = re.search(r"loss of the last epoch: (\S+), reference (\S+)", out)
    assert found is not None
    assert found[1] == found[2]


def test_digits_on_the_reference_engine_are_not_compared_with_themselves(run) -> None:
    status, out, _ = run("train", "--epochs", 1, "--hidden", 8, "--engine", "reference")
    assert status == 0
    assert "speed: not compared" in out


def test_classification_from_csv_to_predictions(run, flowers: Path, tmp_path: Path) -> None:
    model, output = tmp_path / "model.safetensors", tmp_path / "out.csv"
    status, out, err = run(
        "train", flowers, "--target", "kind", "--save", model, "--hidden", "16,16"
    )
    assert (status, err) == (0, "")
    assert "300 rows, 4 inputs: classification of 'kind', 3 classes" in out
    assert score(out) == 1

    with flowers.open(newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    status, out, err = run("predict", model, flowers)
    assert (status, err) == (0, "")
    name, *predicted = out.splitlines()
    assert name == "kind"
    assert np.mean([p == k for p, k in zip(predicted, kinds, strict=True)]) >= 0.99

    assert run("predict", model, flowers, "--proba", "--output", output)[:2] == (0, "")
    header, *rows = csv.reader(output.open(newline=""))
    assert header == ["a", "b", "c"]
    probabilities = np.array(rows, dtype=float)
    # Three float32 probabilities, each rounded: their sum is 1 within 3 roundings and a division.
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=4 * np.finfo(np.float32).eps)
    assert [header[j] for j in probabilities.argmax(axis=1)] == predicted


def test_regression_is_on_the_scale_of_the_target(run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(400, 3))
    y = 1000 + 50 * (X @ [1, 2, -1])
    data, model = tmp_path / "data.npy", tmp_path / "model.safetensors"
    np.save(data, np.column_stack([y, X]))
    status, out, _ = run(
        "train", data, "--target", 0, "--save", model, "--learning-rate", 0.01, "--quiet"
    )
    assert status == 0
    assert "400 rows, 3 inputs: regression of '0'" in out
    assert score(out) > 0.98

    # Without the target's column, the others are taken in their order.
    np.save(tmp_path / "new.npy", X)
    status, out, _ = run("predict", model, tmp_path / "new.npy")
    assert status == 0
    predicted = np.array(out.splitlines()[1:], dtype=float)
    assert np.square(predicted - y).sum() < 0.02 * np.square(y - y.mean()).sum()
    assert run("predict", model, data)[1] == out


def test_target_by_index_from_the_end(run, flowers: Path) -> None:
    assert "classification of 'kind'" in run("train", flowers, "--target", -1, "--epochs", 1)[1]


def test_same_seed_same_output(run, flowers: Path) -> None:
    def losses(seed: int) -> list[str]:
        out = run("train", flowers, "--target", "kind", "--epochs", 3, "--seed", seed)[1]
        return re.findall(r"loss \S+", out)

    assert losses(1) == losses(1) != losses(2)


def test_early_stopping(run, flowers: Path) -> None:
    # At rate 0 nothing gets better after the first epoch.
    out = run(
        *("train", flowers, "--target", "kind", "--epochs", 9, "--early-stopping", 2),
        *("--learning-rate", 0),
    )[1]
    assert out.count("samples/s") == 3
    assert "weights of epoch 1, the one with the lowest validation loss" in out


def test_without_validation(run, flowers: Path) -> None:
    status, out, _ = run("train", flowers, "--target", "kind", "--epochs", 1, "--validation", 0)
    assert status == 0
    assert "validation" not in out


def test_a_model_of_the_digits_predicts_pixel_counts(run, tmp_path: Path) -> None:
    model, data = tmp_path / "model.safetensors", tmp_path / "digits.npy"
    assert run("train", "--save", model, "--epochs", 10, "--hidden", 64, "--quiet")[0] == 0
    from fastbp.data import load_digits

    X, y = load_digits()
    np.save(data, X * 16)
    predicted = np.array(run("predict", model, data)[1].splitlines()[1:], dtype=int)
    assert np.mean(predicted == y) > 0.95


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("train none.csv --target kind", "none.csv: No such file"),
        ("train FLOWERS", "--target"),
        ("train FLOWERS --target kin", "did you mean 'kind'?"),
        ("train FLOWERS --target kind --task regression", "not for regression"),
        ("train FLOWERS --target kind --activation rellu", "did you mean 'relu'?"),
        ("train FLOWERS --target kind --optimizer adma", "did you mean 'adam'?"),
        ("train FLOWERS --target kind --engine natvie", "did you mean 'native'?"),
        ("train FLOWERS --target kind --hidden 8,x", "'8,x'"),
        ("train FLOWERS --target kind --hidden 0", "≥ 1"),
        ("train FLOWERS --target kind --epochs 0", "--epochs must be an integer ≥ 1"),
        ("train FLOWERS --target kind --batch-size 0", "--batch-size must be an integer ≥ 1"),
        ("train FLOWERS --target kind --learning-rate -1", "≥ 0"),
        ("train FLOWERS --target kind --dropout 1", "dropout must be"),
        ("train FLOWERS --target kind --validation 1", "--validation must be"),
        ("train FLOWERS --target kind --validation 0 --early-stopping 3", "early_stopping needs"),
        ("train FLOWERS --target kind --seed -1", "--seed must be"),
        ("train FLOWERS --target kind --threads 0", "threads must be"),
        ("train FLOWERS --target kind --save none/model.safetensors", "no such folder"),
        ("train --target kind", "need a FILE"),
        ("predict none.safetensors FLOWERS", "none.safetensors: No such file"),
        ("predict FLOWERS FLOWERS", "not a fastbp model"),
        ("dance", "invalid choice: 'dance'"),
        ("", "COMMAND"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    run, flowers: Path, args: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(flowers.parent)
    status, _, err = run(*args.replace("FLOWERS", str(flowers)).split())
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("fastbp")
    assert message in err


def test_divergence_is_status_1(run, flowers: Path) -> None:
    status, _, err = run(
        "train", flowers, "--target", "kind", "--learning-rate", 1e30, "--optimizer", "sgd"
    )
    assert status == 1
    assert "epoch" in err
    assert err.count("\n") == 1


def test_proba_of_a_regression_is_refused(run, tmp_path: Path) -> None:
    data, model = tmp_path / "data.npy", tmp_path / "model.safetensors"
    np.save(data, np.random.default_rng(0).normal(size=(50, 2)))
    assert run("train", data, "--target", 1, "--save", model, "--epochs", 1)[0] == 0
    status, _, err = run("predict", model, data, "--proba")
    assert status == 2
    assert "--proba needs a classification model" in err


def test_info_and_version(run) -> None:
    status, out, _ = run("info")
    assert status == 0
    assert "engine" in out
    assert run("--version")[1].startswith("fastbp ")


def test_as_a_module(tmp_path: Path, flowers: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastbp", "train", flowers, "--target", "kind", "--epochs", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "epoch 1/1" in done.stdout
