"""Where training ends in precision "bf16", beside float32: the same seeds, data and options.

`python -m benchmarks.accuracy` prints a table in Markdown: means over ten seeds (of the initial
weights and the sample order) on rows that had no part in training, the difference from pair to pair
with its standard error, and the same for the objective that training ends with. `--seeds N` and
`--engine NAME` are for a quick look.

A random network with a bend, the teacher, answers two of the three tasks: which of 20 outputs is the
largest, and what one output is, with so much noise that trainings of one precision end alike.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import fastbp
from fastbp.data import load_digits
from fastbp.schedules import Cosine

PRECISIONS = (None, "bf16")
Data = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    name: str
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    data: Callable[[], Data]
    loss: str = "softmax_cross_entropy"


def teacher(features: int, outputs: int, rows: int) -> Data:
    """Normal inputs, and the outputs of a network with two layers of random weights."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, features))
    W, V = rng.standard_normal((features, 24)), rng.standard_normal((24, outputs))
    return X.astype(np.float32), np.tanh(X @ W / math.sqrt(features)) @ V / math.sqrt(24)


def classes() -> Data:
    X, f = teacher(64, 20, 20_000)
    return X, f.argmax(axis=1)


def numbers() -> Data:
    X, f = teacher(8, 1, 20_000)
    noise = np.random.default_rng(1).standard_normal(f.shape)
    return X, (f + 0.3 * noise).astype(np.float32)


TASKS = (
    Task("digits, 64-256-10", (256,), 30, 32, 0.002, load_digits),
    Task("20 classes of a teacher, 64-256-256-20", (256, 256), 10, 128, 0.002, classes),
    Task("regression, 8-128-128-1", (128, 128), 10, 128, 0.002, numbers, "squared_error"),
)


def train(task: Task, precision: str | None, seed: int, engine: str) -> tuple[float, float]:
    """Accuracy in per cent, or the loss in a regression, of the test rows; the last epoch's loss."""
    X, y = task.data()
    is_test = np.arange(len(X)) % 4 == 3
    outputs = int(y.max()) + 1 if y.dtype.kind == "i" else y.shape[1]
    model = fastbp.MLP(
        [X.shape[1], *task.hidden, outputs],
        loss=task.loss,
        precision=precision,
        seed=seed,
        engine=engine,
    )
    steps = task.epochs * math.ceil(int((~is_test).sum()) / task.batch_size)
    history = model.fit(
        X[~is_test],
        y[~is_test],
        epochs=task.epochs,
        batch_size=task.batch_size,
        optimizer="adam",
        learning_rate=Cosine(task.learning_rate, steps=steps),
    )
    if task.loss == "squared_error":
        return model.loss(X[is_test], y[is_test]), history.loss[-1]
    return 100 * float(np.mean(model.predict(X[is_test]) == y[is_test])), history.loss[-1]


def rows(task: Task, seeds: int, engine: str) -> list[str]:
    """Lines of the table: what counts in the end, and what was minimised."""
    ends = np.array(
        [[train(task, p, seed, engine) for p in PRECISIONS] for seed in range(seeds)]
    )  # seeds × precisions × measures
    regression = task.loss == "squared_error"
    lines = []
    for measure, name in enumerate(
        ["test loss" if regression else "test accuracy, %", "last epoch's loss"]
    ):
        float32, bf16 = ends[:, :, measure].T
        if name == "test accuracy, %":
            means = [f"{a.mean():.2f}" for a in (float32, bf16)]
            difference, unit = bf16 - float32, "points"
        else:
            means = [f"{a.mean():.4g}" for a in (float32, bf16)]
            difference, unit = 100 * (bf16 / float32 - 1), "%"
        error = difference.std(ddof=1) / math.sqrt(seeds) if seeds > 1 else math.nan
        cells = [task.name, name, *means, f"{difference.mean():+.2f} ± {error:.2f} {unit}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--engine", default="auto")
    arguments = parser.parse_args()
    print("| task | measure | float32 | bf16 | bf16 − float32 |")
    print("| --- | --- | ---: | ---: | ---: |")
    for task in TASKS:
        print("\n".join(rows(task, arguments.seeds, arguments.engine)), flush=True)


if __name__ == "__main__":
    main()
