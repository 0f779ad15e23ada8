"""Every call of the native engine once, on small nets of awkward sizes; for valgrind."""

from __future__ import annotations

import itertools
import pickle
import sys
from pathlib import Path

import numpy as np

import fastbp
from fastbp import activations, losses

sys.path.insert(0, str(Path(__file__).parents[1]))
from engine_cases import everything, make_engine
from test_stage_bf16 import MAKE, rounded

GENERATOR = np.random.default_rng(0)


def main() -> None:
    names = itertools.cycle(activations.ACTIVATIONS)
    optimizers = itertools.cycle(["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
    for dtype, loss, sizes in itertools.product(
        ("float32", "float64"), losses.LOSSES, ([1, 1, 2], [17, 33, 65, 3], [16, 64, 2])
    ):
        model = fastbp.MLP(
            sizes,
            activation=[next(names) for _ in sizes[1:-1]],
            loss=loss,
            dtype=dtype,
            dropout=0.2,
            l1=1e-4,
            seed=0,
            engine="native",
        )
        X = GENERATOR.standard_normal((19, sizes[0]))
        y = np.abs(GENERATOR.standard_normal((19, sizes[-1]))) % 1
        if loss == "softmax_cross_entropy":
            y = y.argmax(axis=1)
        weight = GENERATOR.random(19)
        for clip_norm in (0.0, 1.0):
            options = {"optimizer": next(optimizers), "batch_size": 7, "clip_norm": clip_norm}
            model.fit(X, y, epochs=2, learning_rate=1e-3, sample_weight=weight, **options)
        model.predict(X)
        model.loss(X, y, weight)
        model.gradient(X, y, weight)
        model.jacobian(X[:3])
        pickle.loads(pickle.dumps(model)).predict(X)
    other_stages()
    print("small cases done")


def other_stages() -> None:
    """The kinds of stage that `MLP` does not use, sparse rows among them, in every kind of number."""
    for name, make in MAKE.items():
        for case in (make(dtype="float32"), make(dtype="float64"), rounded(name)):
            everything(make_engine("native", case), case)


if __name__ == "__main__":
    main()
