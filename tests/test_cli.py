"""The command ``fastbp``, run as a person would: what it prints, writes, says about mistakes."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import optimizers, schedules
from fastbp.data import load_digits
from fastbp.engines import native


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
    found = re.search(r"^validation (?:accuracy|r2): (\S+)$", out, re.MULTILINE)
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
    found = re.search(r"epochs in (\S+) s, on .* engine (\S+) s: (\S+) times faster", out)
    assert found is not None
    fast, slow, ratio = map(float, found.groups())
    # Seconds are printed to 0.001 and their ratio to 0.1.
    assert (slow - 0.0005) / (fast + 0.0005) - 0.05 <= ratio
    assert (ratio - 0.05) * max(fast - 0.0005, 0) <= slow + 0.0005
    found = re.search(r"loss of the last epoch: (\S+), reference (\S+)", out)
    assert found is not None
    assert found[1] == found[2]


def test_digits_on_the_reference_engine_are_not_compared_with_themselves(run) -> None:
    status, out, _ = run("train", "--epochs", 1, "--hidden", 8, "--engine", "reference")
    assert status == 0
    assert "speed: not compared" in out


@pytest.fixture
def called(run, monkeypatch: pytest.MonkeyPatch):
    """What the command asks of MLP: arguments of __init__, then of fit."""
    calls: list[Any] = []

    class Recorder(fastbp.MLP):
        def __init__(self, *args: Any, **options: Any) -> None:
            if args[0][0] > 1:  # that of one input only checks the options
                calls.append((args, options))
            super().__init__(*args, **options)

        def fit(self, *args: Any, **options: Any) -> fastbp.History:
            calls.append((args, options))
            raise ValueError("enough")

    def call(*args: object) -> list[Any]:
        calls.clear()
        assert run(*args)[0] == 2
        return calls

    monkeypatch.setattr("fastbp.command.settings.MLP", Recorder)
    return call


def test_what_is_taken_for_a_file(called, flowers: Path) -> None:
    ((sizes,), made), ((X, y), fitted) = called(
        "train", flowers, "--target", "kind", "--model", "plain"
    )
    assert sizes == [4, 128, 128, 3]
    assert made == {
        "activation": "relu",
        "loss": "softmax_cross_entropy",
        "dropout": 0.0,
        "l2": 0.0,
        "dtype": "float32",
        "precision": None,
        "seed": 0,
        "engine": "auto",
        "threads": None,
    }
    assert fitted["epochs"] == 50
    assert fitted["batch_size"] == 32
    assert fitted["optimizer"] == optimizers.Adam()
    assert fitted["learning_rate"] == schedules.Cosine(0.001, steps=50 * -(-len(X) // 32))
    assert fitted["early_stopping"] is None
    assert fitted["progress"]
    # A tenth of each class is set aside, in random order.
    X_aside, y_aside = fitted["validation"]
    assert len(X) + len(X_aside) == 300
    assert len(X_aside) == 30
    sizes, aside = np.bincount(np.append(y, y_aside)), np.bincount(y_aside)
    assert np.abs(aside - sizes / 10).max() <= 1


def test_what_is_taken_for_the_digits(called) -> None:
    ((sizes,), made), ((X, _), fitted) = called("train")
    assert sizes == [64, 512, 256, 10]
    assert made["dropout"] == 0.4
    assert fitted["epochs"] == 30
    assert fitted["optimizer"] == optimizers.get("nesterov")
    assert fitted["learning_rate"] == schedules.Cosine(0.1, steps=30 * -(-len(X) // 32))
    assert len(X) + len(fitted["validation"][0]) == 1797 - 449


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_another_optimizer_for_the_digits_has_its_own_rate(called, optimizer: str) -> None:
    _, ((X, _), fitted) = called("train", "--optimizer", optimizer)
    rate = optimizers.get(optimizer).default_learning_rate
    assert fitted["learning_rate"] == schedules.Cosine(rate, steps=30 * -(-len(X) // 32))


def test_what_is_given_is_taken(called, flowers: Path) -> None:
    given = "--hidden 8,7 --activation tanh --epochs 3 --batch-size 5 --optimizer sgd --l2 0.5"
    given += " --learning-rate 0.25 --dropout 0.1 --validation 0 --dtype float64 --seed 4"
    given += " --threads 2 --engine reference --quiet --task regression"
    args = ("train", flowers, "--target", "width", "--model", "plain", *given.split())
    ((sizes,), made), ((X, _), fitted) = called(*args)
    assert sizes == [6, 8, 7, 1]
    assert made == {
        "activation": "tanh",
        "loss": "squared_error",
        "dropout": 0.1,
        "l2": 0.5,
        "dtype": "float64",
        "precision": None,
        "seed": 4,
        "engine": "reference",
        "threads": 2,
    }
    assert len(X) == 300
    assert fitted == {
        "epochs": 3,
        "batch_size": 5,
        "optimizer": optimizers.SGD(),
        "learning_rate": schedules.Cosine(0.25, steps=3 * 60),
        "sample_weight": None,
        "validation": None,
        "early_stopping": None,
        "callbacks": [],
        "progress": False,
        "comm": None,
    }


@pytest.mark.parametrize(("kind", "inputs"), [("realmlp", 3), ("mlp", 3), ("plain", 4)])
def test_classification_from_csv_to_predictions(
    run, flowers: Path, tmp_path: Path, kind: str, inputs: int
) -> None:
    model, output = tmp_path / "model.safetensors", tmp_path / "out.csv"
    status, out, err = run(
        *("train", flowers, "--target", "kind", "--save", model, "--hidden", "16,16"),
        *(() if kind == "realmlp" else ("--model", kind)),
    )
    assert (status, err) == (0, "")
    assert f"300 rows, {inputs} inputs: classification of 'kind', 3 classes" in out
    assert score(out) == 1

    with flowers.open(newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    status, out, err = run("predict", model, flowers)
    assert (status, err) == (0, "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flowers.csv", "model.safetensors"]
    name, *predicted = out.splitlines()
    assert name == "kind"
    # Columns of a CSV go by their names.
    with flowers.open(newline="") as file:
        rows = [[row["colour"], row["width"], row["length"]] for row in csv.DictReader(file)]
    with (tmp_path / "turned.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["colour", "width", "length"], *rows])
    assert run("predict", model, tmp_path / "turned.csv") == (0, out, "")
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


@pytest.mark.parametrize("model", [(), ("--model", "plain")], ids=["", "plain"])
def test_same_seed_same_output(run, flowers: Path, model: tuple[str, ...]) -> None:
    def losses(seed: int) -> list[str]:
        out = run("train", flowers, "--target", "kind", "--epochs", 3, "--seed", seed, *model)[1]
        found = re.findall(r"loss \S+|validation \d\S+", out)
        assert found
        return found

    assert losses(1) == losses(1) != losses(2)


def test_early_stopping(run, flowers: Path) -> None:
    # At rate 0 nothing gets better after the first epoch.
    out = run(
        *("train", flowers, "--target", "kind", "--epochs", 9, "--early-stopping", 2),
        *("--learning-rate", 0, "--model", "plain"),
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
    X, y = load_digits()
    names = fastbp.load(model).encoding.names
    assert names == [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
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
        ("train FLOWERS --target kind --model plain --activation rellu", "did you mean 'relu'?"),
        ("train FLOWERS --target kind --model plain --optimizer adma", "did you mean 'adam'?"),
        ("train FLOWERS --target kind --model plain --engine natvie", "did you mean 'native'?"),
        ("train FLOWERS --target kind --hidden 8,x", "'8,x'"),
        ("train FLOWERS --target kind --hidden 0", "≥ 1"),
        ("train FLOWERS --target kind --epochs 0", "--epochs must be an integer ≥ 1"),
        ("train FLOWERS --target kind --batch-size 0", "--batch-size must be an integer ≥ 1"),
        ("train FLOWERS --target kind --learning-rate -1", "≥ 0"),
        ("train FLOWERS --target kind --dropout 1", "dropout must be"),
        ("train FLOWERS --target kind --validation 1", "--validation must be"),
        ("train FLOWERS --target kind --validation -0.5", "--validation must be"),
        (
            "train FLOWERS --target kind --model plain --validation 0 --early-stopping 3",
            "early_stopping needs",
        ),
        ("train FLOWERS --target kind --validation 0 --early-stopping 3", "--early-stopping needs"),
        ("train FLOWERS --target kind --seed -1", "--seed must be"),
        (
            "train FLOWERS --target kind --activation relu",
            "--activation is an option of --model plain",
        ),
        (
            "train FLOWERS --target kind --optimizer sgd",
            "realmlp (the default for files) has its own",
        ),
        ("train FLOWERS --target kind --model mlp --l2 1", "--model mlp has its own"),
        (
            "train FLOWERS --target kind --model plain --time-limit 3",
            "--time-limit is an option of",
        ),
        ("train FLOWERS --target kind --time-limit 0", "--time-limit must be"),
        ("train --time-limit 3", "--time-limit is an option of"),
        ("train --model mlp", "--model mlp needs a FILE"),
        ("train FLOWERS --target kind --model forest", "invalid choice: 'forest'"),
        ("train FLOWERS --target kind --threads 0", "--threads must be"),
        (
            "train FLOWERS --target kind --save none/model.safetensors",
            "--save must be a file in a folder",
        ),
        ("train FLOWERS --target kind --save .", "--save must be a file in a folder"),
        ("train --target kind", "--target needs a FILE"),
        ("train --cat-features kind", "--cat-features needs a FILE"),
        ("train --task regression", "--task needs a FILE"),
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


@pytest.mark.parametrize("more", [(), ("--early-stopping", 2)], ids=["", "early stopping"])
def test_divergence_is_status_1(run, flowers: Path, more: tuple[object, ...]) -> None:
    rate = ("--learning-rate", 1e30, "--optimizer", "sgd", "--model", "plain")
    status, _, err = run("train", flowers, "--target", "kind", *rate, *more)
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
        [sys.executable, "-m", "fastbp", "train", flowers, "--target", "kind", "--epochs", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "network 6: 2 epochs" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_mistake() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fastbp", "info"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
