"""JAX: a jitted step for every minibatch, or the whole epoch in one jitted lax.scan.

Data are arguments, not constants of the compiled function, and parameters are donated: the new ones
take the old ones' memory.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases import Array, Case


def _forward(parameters, x):
    for W, b in parameters[:-1]:
        x = jax.nn.relu(x @ W + b)
    W, b = parameters[-1]
    return x @ W + b


def _loss(parameters, x, y):
    log_p = jax.nn.log_softmax(_forward(parameters, x))
    return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()


def _step(parameters, batch, X, y, rate):
    loss, gradient = jax.value_and_grad(_loss)(parameters, X[batch], y[batch])
    return jax.tree.map(lambda w, g: w - rate * g, parameters, gradient), loss


_jitted_step = partial(jax.jit, donate_argnums=0)(_step)


@partial(jax.jit, donate_argnums=0)
def _jitted_epoch(parameters, batches, X, y, rate):
    return jax.lax.scan(lambda p, batch: _step(p, batch, X, y, rate), parameters, batches)


@jax.jit
def _labels(parameters, X):
    return _forward(parameters, X).argmax(1)


@jax.jit
def _probabilities(parameters, X):
    return jax.nn.softmax(_forward(parameters, X))


class JaxStep:
    def __init__(self, case: Case, threads: int) -> None:
        self.thread_choices = (threads,)  # fixed once JAX has started
        self._batch_size = case.batch_size
        self._rate = jnp.asarray(case.learning_rate, case.dtype)
        assert self._rate.dtype == case.dtype, "JAX_ENABLE_X64 is not set"

    def use_threads(self, threads: int) -> None:
        pass

    def set_data(self, X: Array, y: Array) -> None:
        self._X, self._y = jnp.asarray(X), jnp.asarray(y.astype(np.int32))

    def set_parameters(self, parameters: list[Array]) -> None:
        # Copies, since donated memory must not be that of a NumPy array.
        self._parameters = [
            (jnp.array(p[:, :-1].T.copy()), jnp.array(p[:, -1].copy())) for p in parameters
        ]

    def get_parameters(self) -> list[Array]:
        return [np.column_stack([np.asarray(W).T, np.asarray(b)]) for W, b in self._parameters]

    def epoch(self, order: Array) -> float:
        losses = []
        for batch in order.astype(np.int32).reshape(-1, self._batch_size):
            self._parameters, loss = _jitted_step(
                self._parameters, batch, self._X, self._y, self._rate
            )
            losses.append(loss)
        jax.block_until_ready(self._parameters)
        return float(np.mean(losses))

    def predict(self, X: Array) -> Array:
        return np.asarray(_labels(self._parameters, X))

    def predict_proba(self, X: Array) -> Array:
        return np.asarray(_probabilities(self._parameters, X))


class JaxScan(JaxStep):
    def epoch(self, order: Array) -> float:
        batches = order.astype(np.int32).reshape(-1, self._batch_size)
        self._parameters, losses = _jitted_epoch(
            self._parameters, batches, self._X, self._y, self._rate
        )
        jax.block_until_ready(self._parameters)
        return float(losses.mean())
