"""fastbp: one `epoch` call of an engine for each epoch, and `MLP.predict`.

As with every contender, data are checked and placed before the clock starts: `MLP.fit` does that once,
then makes the same call for each epoch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastbp
from benchmarks.cases import Array, Case
from benchmarks.contenders import CannotRunError
from fastbp import activations, losses, optimizers
from fastbp.engines import Plan, create, native
from fastbp.stages import dense


class FastBP:
    def __init__(
        self, case: Case, threads: int, engine: str = "auto", precision: str | None = None
    ) -> None:
        self.thread_choices = (threads,)  # fastbp uses fewer where that is faster
        options: dict[str, Any] = {"dtype": case.dtype, "threads": threads}
        if precision is not None:  # older revisions, which are compared with, do not know it
            isa = native.choice(precision)[0]
            if isa not in native.BF16_INSTRUCTIONS:
                raise CannotRunError("no instruction for bf16 on this CPU, or no module with it")
            options["precision"] = precision
        hidden = len(case.layer_sizes) - 2
        plan = Plan(
            dense(case.layer_sizes, (activations.get("relu"),) * hidden),
            losses.get("softmax_cross_entropy"),
            optimizers.get(case.optimizer),
            case.batch_size,
            **options,
        )
        self._engine = create(plan, engine)
        if keep := getattr(self._engine, "keep_threads", None):
            keep(True)  # in older revisions, which are compared with; as their MLP.fit did
        self._model = fastbp.MLP(case.layer_sizes, engine=engine, **options)
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
        done = self._engine.epoch(self._X, self._y, None, order, rates, step_losses)
        if done < steps:
            raise RuntimeError(f"training diverged: only {done} of {steps} steps were taken")
        sizes = np.full(steps, batch)
        sizes[-1] = len(order) - (steps - 1) * batch
        return float(np.average(step_losses, weights=sizes))

    def predict(self, X: Array) -> Array:
        return self._current_model().predict(X)

    def predict_proba(self, X: Array) -> Array:
        return self._current_model().predict_proba(X)

    def _current_model(self) -> fastbp.MLP:
        if self._trained:
            self._model.parameters = self._engine.get_parameters()
            self._trained = False
        return self._model
