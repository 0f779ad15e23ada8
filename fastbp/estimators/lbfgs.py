"""The solver "lbfgs": SciPy's L-BFGS-B on the engine's loss and gradient over all rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastbp.engines import Array, Plan, Rows, create
from fastbp.estimators.parallel import let_interrupt
from fastbp.rows import gradient_of, plan_for

Vector = NDArray[np.float64]
STOPPED = 99  # SciPy's status for a callback that raised StopIteration


class Objective:
    """Loss and gradient as functions of one vector: all weights (n_in, n_out), then all biases.

    The penalty is added here, so that the loss of several outputs can be averaged over them, as
    scikit-learn reports it (its gradient is that of the sum).
    """

    def __init__(
        self, plan: Plan, engine: str, X: Rows, y: Array, weight: Array | None, share: float
    ) -> None:
        self.engine = create(plan_for(replace(plan, l2=0.0), X, engine), engine)
        self._alpha = plan.l2
        self._data = X, y, weight
        self._share = share  # of the sum over the outputs in the reported loss
        self._total = len(X) if weight is None else float(weight.sum())
        sizes = plan.layer_sizes
        pairs = list(itertools.pairwise(sizes))
        self._parameters = [np.empty((n_out, n_in + 1), plan.dtype) for n_in, n_out in pairs]
        self._gradient = [np.empty_like(p) for p in self._parameters]
        self._weights = sum(n_in * n_out for n_in, n_out in pairs)

    def unpack(self, packed: Vector) -> list[Array]:
        """[W | b] of each layer; the arrays are used again by the next call."""
        for vector, part in self._parts(packed, self._parameters):
            part[...] = vector
        return self._parameters

    def __call__(self, packed: Vector) -> tuple[float, Vector]:
        """The reported loss, and the gradient."""
        let_interrupt()
        self.engine.set_parameters(self.unpack(packed))
        loss = gradient_of(self.engine, self._data, self._gradient)
        gradient = np.empty_like(packed)
        for vector, part in self._parts(gradient, self._gradient):
            vector[...] = part
        weights = packed[: self._weights]
        squares = float(np.einsum("i,i->", weights, weights))  # BLAS would wake threads of its own
        loss = self._share * loss + 0.5 * self._alpha * squares / self._total
        gradient[: self._weights] += self._alpha / self._total * weights
        return loss, gradient

    def _parts(self, packed: Vector, parameters: list[Array]) -> list[tuple[Vector, Array]]:
        """Views of the vector beside views of the parameters: weights first, then biases."""
        parts = [p[:, :-1].T for p in parameters] + [p[:, -1] for p in parameters]
        at = 0
        pairs = []
        for part in parts:
            pairs.append((packed[at : at + part.size].reshape(part.shape), part))
            at += part.size
        return pairs


def minimize(
    objective: Objective,
    start: Vector,
    *,
    max_fun: int,
    max_iter: int,
    tol: float,
    stop: Callable[[list[Array]], bool] | None = None,
) -> Any:
    """SciPy's result; its status is `STOPPED` where `stop`, given an iteration's parameters, said so."""

    def iteration(x: Vector) -> None:
        if stop is not None and stop(objective.unpack(x)):
            raise StopIteration

    return scipy.optimize.minimize(
        objective,
        start,
        method="L-BFGS-B",
        jac=True,
        callback=None if stop is None else iteration,
        options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
    )
