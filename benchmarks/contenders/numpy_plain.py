"""Backpropagation in plain NumPy, the way a careful user writes it: every buffer made once.

W is kept as (n_in, n_out), so that all three products of a layer read memory in the order it lies.
"""

from __future__ import annotations

import itertools

import numpy as np

from benchmarks.cases import Array, Case
from benchmarks.contenders import _blas


class NumPy:
    def __init__(self, case: Case, threads: int) -> None:
        self.thread_choices = _blas.choices(threads)
        self._batch_size = B = case.batch_size
        self._type = np.dtype(case.dtype).type
        self._rate = self._type(case.learning_rate)
        pairs = list(itertools.pairwise(case.layer_sizes))
        self._W = [np.zeros(pair, case.dtype) for pair in pairs]
        self._b = [np.zeros(n, case.dtype) for _, n in pairs]
        self._W_gradient = [np.empty_like(W) for W in self._W]
        self._v = [np.empty((B, n), case.dtype) for n in case.layer_sizes]
        self._delta = [np.empty((B, n), case.dtype) for n in case.layer_sizes]
        self._active = [np.empty((B, n), bool) for n in case.layer_sizes]
        self._rows = np.arange(B)

    def use_threads(self, threads: int) -> None:
        _blas.limit(threads)

    def set_data(self, X: Array, y: Array) -> None:
        self._X, self._y = X, y

    def set_parameters(self, parameters: list[Array]) -> None:
        for W, b, p in zip(self._W, self._b, parameters, strict=True):
            W[...] = p[:, :-1].T
            b[...] = p[:, -1]

    def get_parameters(self) -> list[Array]:
        return [np.column_stack([W.T, b]) for W, b in zip(self._W, self._b, strict=True)]

    def epoch(self, order: Array) -> float:
        steps = len(order) // self._batch_size
        return sum(self._step(batch) for batch in order.reshape(steps, -1)) / steps

    def _step(self, batch: Array) -> float:
        v, delta, last = self._v, self._delta, len(self._W) - 1
        np.take(self._X, batch, axis=0, out=v[0], mode="clip")  # "raise" would copy once more
        for i, (W, b) in enumerate(zip(self._W, self._b, strict=True)):
            np.matmul(v[i], W, out=v[i + 1])
            v[i + 1] += b
            if i < last:
                np.maximum(v[i + 1], 0, out=v[i + 1])

        f, p, y = v[-1], delta[-1], self._y[batch]
        f -= f.max(axis=1, keepdims=True)
        np.exp(f, out=p)
        total = p.sum(axis=1, keepdims=True)
        loss = float((np.log(total[:, 0]) - f[self._rows, y]).mean())
        p /= total
        p[self._rows, y] -= 1
        p *= self._rate / self._type(len(batch))  # the update's factor, taken along from here

        for i in range(last, -1, -1):
            if i > 0:
                np.matmul(delta[i + 1], self._W[i].T, out=delta[i])
                np.greater(v[i], 0, out=self._active[i])
                delta[i] *= self._active[i]
            np.matmul(v[i].T, delta[i + 1], out=self._W_gradient[i])
            self._W[i] -= self._W_gradient[i]
            self._b[i] -= delta[i + 1].sum(axis=0)
        return loss

    def predict(self, X: Array) -> Array:
        return self._outputs(X).argmax(axis=1)

    def predict_proba(self, X: Array) -> Array:
        f = self._outputs(X)
        f -= f.max(axis=1, keepdims=True)
        np.exp(f, out=f)
        f /= f.sum(axis=1, keepdims=True)
        return f

    def _outputs(self, X: Array) -> Array:
        v = X
        for i, (W, b) in enumerate(zip(self._W, self._b, strict=True)):
            v = v @ W
            v += b
            if i < len(self._W) - 1:
                np.maximum(v, 0, out=v)
        return v
