"""scikit-learn's MLPClassifier: one `partial_fit` for each epoch, checks of the data included."""

from __future__ import annotations

import itertools

import numpy as np
from sklearn.neural_network import MLPClassifier

from benchmarks.cases import Array, Case
from benchmarks.contenders import _blas


class _GivenOrder(np.random.RandomState):
    """A random state that shuffles the way it is told to."""

    order: Array | None = None

    def shuffle(self, x):
        if self.order is None:
            super().shuffle(x)
        else:
            x[...] = self.order


class ScikitLearn:
    def __init__(self, case: Case, threads: int) -> None:
        self.thread_choices = _blas.choices(threads)
        self._random = _GivenOrder(0)
        self._model = model = MLPClassifier(
            case.layer_sizes[1:-1],
            solver="sgd",
            batch_size=case.batch_size,
            learning_rate_init=case.learning_rate,
            momentum=0,
            nesterovs_momentum=False,
            alpha=0,
            n_iter_no_change=10**9,
            random_state=self._random,
        )
        # The first call makes the parameters, which are then written to in place.
        X = np.zeros((case.batch_size, case.layer_sizes[0]), case.dtype)
        classes = np.arange(case.layer_sizes[-1])
        model.partial_fit(X, classes[np.arange(case.batch_size) % len(classes)], classes=classes)
        assert [W.shape for W in model.coefs_] == list(itertools.pairwise(case.layer_sizes))

    def use_threads(self, threads: int) -> None:
        _blas.limit(threads)

    def set_data(self, X: Array, y: Array) -> None:
        self._X, self._y = X, y

    def set_parameters(self, parameters: list[Array]) -> None:
        pairs = zip(self._model.coefs_, self._model.intercepts_, parameters, strict=True)
        for W, b, p in pairs:
            W[...] = p[:, :-1].T
            b[...] = p[:, -1]

    def get_parameters(self) -> list[Array]:
        pairs = zip(self._model.coefs_, self._model.intercepts_, strict=True)
        return [np.column_stack([W.T, b]) for W, b in pairs]

    def epoch(self, order: Array) -> float:
        self._random.order = order
        return float(self._model.partial_fit(self._X, self._y).loss_)

    def predict(self, X: Array) -> Array:
        return self._model.predict(X)

    def predict_proba(self, X: Array) -> Array:
        return self._model.predict_proba(X)
