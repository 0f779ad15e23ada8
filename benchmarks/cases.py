"""What is trained: nets, batch sizes, data, initial weights, and how much work a step is."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A ReLU net with softmax cross-entropy, trained on shuffled minibatches.

    `rows` is a multiple of `batch_size`, so that a library may drop or keep a short last batch.
    `source` is "normal" (random inputs and labels) or "digits" (the training part of them).
    `optimizer` is plain SGD, or another that fastbp has (see `equivalence.exact`).
    """

    name: str
    layer_sizes: tuple[int, ...]
    batch_size: int
    rows: int
    learning_rate: float = 0.01
    source: str = "normal"
    dtype: str = "float32"
    optimizer: str = "sgd"

    @property
    def label(self) -> str:
        """The net and the batch as tables print them: 784-512-512-10, 128."""
        return f"{'-'.join(map(str, self.layer_sizes))}, {self.batch_size}"

    @property
    def steps(self) -> int:
        return self.rows // self.batch_size


CASES = {
    case.name: case
    for case in (
        Case("tiny", (4, 16, 3), 32, 32_768),
        Case("small", (64, 64, 10), 32, 16_384),
        Case("mnist-online", (784, 128, 10), 1, 1024),
        Case("mnist-small", (784, 128, 10), 32, 4096),
        Case("mnist-medium", (784, 512, 512, 10), 128, 4096),
        Case("mnist-large-batch", (784, 512, 512, 10), 1024, 4096),
        Case("large", (1024, 1024, 1024, 1024, 10), 256, 2048),
        Case("very-large", (4096, 4096, 4096, 10), 512, 1024),
    )
}

# 1792 of the 1797 digits are 1440 to train on, in 45 batches of 32, and 352 to test on.
DIGITS = Case("digits", (64, 256, 10), 32, 1440, learning_rate=0.1, source="digits")
DIGITS_TEST_ROWS = 352


# What is only predicted with: one row at a time, and very many at once
SINGLE_ROWS = Case("single-rows", (64, 100, 10), 32, 4096)
BULK = Case("bulk", (784, 512, 512, 10), 32, 60_000)


def in_float64(case: Case) -> Case:
    """The same case in float64."""
    return replace(case, dtype="float64")


def with_optimizer(case: Case, optimizer: str) -> Case:
    """The same case with another optimizer; Adam's steps do not shrink with the gradient."""
    rate = 0.001 if optimizer == "adam" else case.learning_rate
    return replace(case, optimizer=optimizer, learning_rate=rate)


def width_sweep(widths: tuple[int, ...] = (16, 64, 256, 1024, 4096)) -> list[Case]:
    """Two hidden-sized layers of every width, batch 128."""
    return [Case(f"width {w}", (w, w, 10), 128, 128 * max(2, min(64, 2**16 // w))) for w in widths]


def batch_sweep(batches: tuple[int, ...] = (1, 8, 64, 512, 4096)) -> list[Case]:
    """One net, from single rows to large batches."""
    return [Case(f"batch {b}", (256, 256, 10), b, b * max(2, min(256, 8192 // b))) for b in batches]


def first_steps(case: Case, steps: int) -> Case:
    """The same case on so few rows that an epoch is `steps` steps."""
    return replace(case, rows=steps * case.batch_size)


def flops_per_step(case: Case) -> int:
    """Arithmetic operations of a step's matrix products, a multiply-add counting as two.

    Every layer has a forward product and one for its weights' gradient; every layer but the first
    has one for its inputs' gradient. Biases, activations, loss and update are left out: what is
    reported as a share of the peak errs on the low side.
    """
    products = [3 if i else 2 for i in range(len(case.layer_sizes) - 1)]
    pairs = itertools.pairwise(case.layer_sizes)
    return sum(2 * case.batch_size * k * n * p for (k, n), p in zip(pairs, products, strict=True))


def flops_per_row(case: Case) -> int:
    """Arithmetic operations of one row's prediction, counted likewise."""
    return sum(2 * k * n for k, n in itertools.pairwise(case.layer_sizes))


def parameter_bytes(case: Case) -> int:
    """Bytes of the parameters; a step reads and writes each of them at least once."""
    size = np.dtype(case.dtype).itemsize
    return sum(size * n * (k + 1) for k, n in itertools.pairwise(case.layer_sizes))


def data(case: Case, seed: int = 0) -> tuple[Array, Array]:
    """X of shape (rows, n_0), of the case's dtype, and labels of shape (rows,), int64."""
    if case.source == "digits":
        X, y, _, _ = digits()
        return X[: case.rows], y[: case.rows]
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((case.rows, case.layer_sizes[0]), dtype=case.dtype)
    return X, generator.integers(0, case.layer_sizes[-1], case.rows)


def digits() -> tuple[Array, Array, Array, Array]:
    """The digits in one fixed random order: X and y to train on, X and y to test on."""
    from fastbp.data import load_digits

    X, y = load_digits()
    shuffled = np.random.default_rng(0).permutation(len(X))
    train = shuffled[: DIGITS.rows]
    test = shuffled[DIGITS.rows : DIGITS.rows + DIGITS_TEST_ROWS]
    return X[train], y[train], X[test], y[test]


def parameters(case: Case, seed: int = 0) -> list[Array]:
    """Initial [W | b] of every layer, shape (n_l, n_{l−1} + 1): He normal, biases 0."""
    generator = np.random.default_rng([seed, 1])
    drawn = []
    for k, n in itertools.pairwise(case.layer_sizes):
        W = np.zeros((n, k + 1), case.dtype)
        W[:, :k] = generator.standard_normal((n, k), dtype=case.dtype) * np.sqrt(2 / k)
        drawn.append(W)
    return drawn


def orders(case: Case, epochs: int, seed: int = 0) -> list[Array]:
    """A permutation of the rows for every epoch."""
    generator = np.random.default_rng([seed, 2])
    return [generator.permutation(case.rows) for _ in range(epochs)]
