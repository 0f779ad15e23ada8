"""fastbp through its public interface: one `partial_fit` for each epoch, checks of the data included."""

from __future__ import annotations

import numpy as np

import fastbp
from benchmarks.cases import Array, Case


class _GivenOrder(np.random.Generator):
    """A random generator that shuffles the way it is told to."""

    order: Array

    def permutation(self, x, axis=0):
        return self.order


class FastBP:
    def __init__(self, case: Case, threads: int, engine: str = "auto") -> None:
        self.thread_choices = (threads,)  # fastbp uses fewer where that is faster
        self._generator = _GivenOrder(np.random.PCG64(0))
        self._model = fastbp.MLP(
            case.layer_sizes, seed=self._generator, engine=engine, threads=threads
        )
        self._options = {"batch_size": case.batch_size, "learning_rate": case.learning_rate}

    def use_threads(self, threads: int) -> None:
        pass

    def set_data(self, X: Array, y: Array) -> None:
        self._X, self._y = X, y

    def set_parameters(self, parameters: list[Array]) -> None:
        self._model.parameters = parameters

    def get_parameters(self) -> list[Array]:
        return self._model.parameters

    def epoch(self, order: Array) -> float:
        self._generator.order = order
        return self._model.partial_fit(self._X, self._y, **self._options)

    def predict(self, X: Array) -> Array:
        return self._model.predict(X)
