"""TensorFlow: the whole epoch in one tf.function, as it is or compiled by XLA."""

from __future__ import annotations

import itertools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks.cases import Array, Case


class TensorFlow:
    def __init__(self, case: Case, threads: int, compiled: bool = False) -> None:
        self.thread_choices = (threads,)  # fixed once TensorFlow has started
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self._rate, self._batch_size = case.learning_rate, case.batch_size
        pairs = list(itertools.pairwise(case.layer_sizes))
        self._W = [tf.Variable(tf.zeros((k, n), case.dtype)) for k, n in pairs]
        self._b = [tf.Variable(tf.zeros(n, case.dtype)) for _, n in pairs]
        self._train = tf.function(self._epoch, jit_compile=compiled)
        self._labels = tf.function(lambda X: tf.argmax(self._f(X), 1), jit_compile=compiled)
        self._p = tf.function(lambda X: tf.nn.softmax(self._f(X)), jit_compile=compiled)

    def _f(self, x: tf.Tensor) -> tf.Tensor:
        for W, b in zip(self._W[:-1], self._b[:-1], strict=True):
            x = tf.nn.relu(tf.matmul(x, W) + b)
        return tf.matmul(x, self._W[-1]) + self._b[-1]

    def _step(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        variables = [*self._W, *self._b]
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, self._f(x))
            loss = tf.reduce_mean(losses)
        for variable, g in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(self._rate * g)
        return loss

    def _epoch(self, batches: tf.Tensor, X: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        losses = tf.TensorArray(X.dtype, batches.shape[0])
        for i in tf.range(batches.shape[0]):
            losses = losses.write(i, self._step(tf.gather(X, batches[i]), tf.gather(y, batches[i])))
        return tf.reduce_mean(losses.stack())

    def use_threads(self, threads: int) -> None:
        pass

    def set_data(self, X: Array, y: Array) -> None:
        self._X, self._y = tf.constant(X), tf.constant(y.astype(np.int32))

    def set_parameters(self, parameters: list[Array]) -> None:
        for W, b, p in zip(self._W, self._b, parameters, strict=True):
            W.assign(np.ascontiguousarray(p[:, :-1].T))
            b.assign(p[:, -1])

    def get_parameters(self) -> list[Array]:
        return [
            np.column_stack([W.numpy().T, b.numpy()]) for W, b in zip(self._W, self._b, strict=True)
        ]

    def epoch(self, order: Array) -> float:
        batches = tf.constant(order.astype(np.int32).reshape(-1, self._batch_size))
        return float(self._train(batches, self._X, self._y))

    def predict(self, X: Array) -> Array:
        return self._labels(tf.constant(X)).numpy()

    def predict_proba(self, X: Array) -> Array:
        return self._p(tf.constant(X)).numpy()
