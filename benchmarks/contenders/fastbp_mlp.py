"""fastbp: one `epoch` call of an engine for each epoch, and `MLP.predict`.

As with every contender, data are checked and placed before the clock starts: `MLP.fit` does that once,
then makes the same call for each epoch.
"""

from __future__ import annotations

import itertools

import numpy as np

import fastbp
from benchmarks.cases import Array, Case
from fastbp import activations, losses
from fastbp.engines import Plan, create


class FastBP:
    def __init__(self, case: Case, threads: int, engine: str = "auto") -> None:
        self.thread_choices = (threads,)  # fastbp uses fewer where that is faster
        hidden = len(case.layer_sizes) - 2
        plan = Plan(
            tuple(case.layer_sizes),
            (activations.get("relu"),) * hidden,
            losses.get("softmax_cross_entropy"),
            batch_size=case.batch_size,
            threads=threads,
        )
        self._engine = create(plan, engine)
        self._model = fastbp.MLP(case.layer_sizes, engine=engine, threads=threads)
        self._rate = case.learning_rate
        self._trained = False

    def use_threads(self, threads: int) -> None:
        pass

    def set_data(self, X: Array, y: Array) -> None:
        self._X, self._y = X, y

    def set_parameters(self, parameters: list[Array]) -> None:
        self._engine.set_parameters([np.ascontiguousarray(p) for p in parameters])
        self._model.parameters = parameters

    def get_parameters(self) -> list[Array]:
        return self._engine.get_parameters()

    def epoch(self, order: Array) -> float:
        batch = self._engine.plan.batch_size
        steps = -(-len(order) // batch)
        rates, step_losses = np.full(steps, self._rate), np.empty(steps)
        self._trained = True
        self._engine.epoch(self._X, self._y, None, order, rates, step_losses)
        sizes = [b - a for a, b in itertools.pairwise([*range(0, len(order), batch), len(order)])]
        return float(np.average(step_losses, weights=sizes))

    def predict(self, X: Array) -> Array:
        if self._trained:
            self._model.parameters = self._engine.get_parameters()
            self._trained = False
        return self._model.predict(X)
