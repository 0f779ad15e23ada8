"""What every column has added to a prediction: integrated gradients (Sundararajan et al. 2017).

The path is straight in the space of the embedded row: waves of numbers and vectors of categories are
inputs of their own, since a code has no gradient, and are then summed column by column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from fastbp._validation import check_integer
from fastbp.engines import create
from fastbp.engines.reference import KINDS
from fastbp.exchange.attributions import ENTRIES, integrate
from fastbp.plan import Plan
from fastbp.rows import outputs_of
from fastbp.stages import Lookup, Periodic, Stage

__all__ = ["Attributed", "Attributions"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Attributed:
    """Of every row and output, what each column has added.

    Attributes
    ----------
    names : list of str
        Columns that are used.
    values : ndarray of shape (rows, outputs, columns)
    start : ndarray of shape (outputs,)
        Outputs of the baseline.
    outputs : ndarray of shape (rows, outputs)
        Outputs of the rows: start and the sum of values, but for the error of the integral.
    """

    names: list[str]
    values: Array
    start: Array
    outputs: Array


class Attributions:
    """What an estimator says of its predictions."""

    def attributions(self, X: Any, baseline: Any = None, *, steps: int = 32) -> Attributed:
        """What every column has added to each output, from a baseline on.

        Outputs are the mean of the networks' outputs before the softmax; of a regression on the
        target's scale (with metric "poisson" the logarithm of the mean), before they are clamped.

        Parameters
        ----------
        X : as in `predict`
        baseline : as X, or None
            Rows whose mean, embedded, is where the path begins; None: those of X.
        steps : int
            Places at which gradients are taken.

        Returns
        -------
        Attributed

        Examples
        --------
        >>> import numpy as np
        >>> import fastbp
        >>> X = np.random.default_rng(0).normal(size=(300, 2))
        >>> model = fastbp.TabularRegressor("mlp", random_state=0).fit(X, X[:, 0])
        >>> found = model.attributions(X[:5])
        >>> found.names, found.values.shape
        (['x0', 'x1'], (5, 1, 2))
        """
        check_is_fitted(self)
        check_integer("steps", steps, minimum=1)
        me: Any = self
        encoded = me._inputs_of(X)
        return self._attribute(
            encoded, encoded if baseline is None else me._inputs_of(baseline), steps
        )

    def _attribute(self, X: Array, baseline: Array, steps: int) -> Attributed:
        me: Any = self
        names = list(dict.fromkeys(me.inputs_.columns))
        place = {name: j for j, name in enumerate(names)}
        first = next(i for i, s in enumerate(me.stages_) if not isinstance(s, Periodic | Lookup))
        head, tail = me.stages_[:first], me.stages_[first:]
        of_unit = [place[me.inputs_.columns[i]] for i in _inputs_of_units(head, X.shape[1])]
        sums = np.zeros((len(of_unit), len(names)))
        sums[np.arange(len(of_unit)), of_unit] = 1
        outputs = me._outputs
        total = np.zeros((len(X), outputs, len(names)))
        start, end = np.zeros(outputs), np.zeros((len(X), outputs))
        block = max(1, ENTRIES // (len(of_unit) * outputs))
        copies = me._copies
        block = max(1, block // copies)
        for member in me.members_:
            parts = len(head)  # each of these kinds has one array of parameters
            engine = create(Plan(tail, me._loss(), batch_size=copies))
            engine.set_parameters(member.parameters[parts:])

            def jacobian(V: Array, engine: Any = engine) -> Array:
                out = np.empty((len(V) * copies, outputs, V.shape[1]), np.float32)
                engine.jacobian(np.repeat(V, copies, axis=0), out)
                mean: Array = out.reshape(len(V), copies, *out.shape[1:]).mean(axis=1)
                return mean

            def f(V: Array, engine: Any = engine) -> Array:
                out = outputs_of(engine, np.repeat(V, copies, axis=0))
                mean: Array = out.reshape(len(V), copies, -1).mean(axis=1)
                return mean

            embed = [_embedded(head, member.parameters, rows) for rows in (baseline, X)]
            origin = embed[0].mean(axis=0, dtype=np.float64).astype(np.float32)
            start += f(origin[None])[0]
            end += f(embed[1])
            for at in range(0, len(X), block):
                rows = embed[1][at : at + block]
                found = integrate(jacobian, rows, origin, steps)
                # not by BLAS, whose bits depend on its threads
                total[at : at + block] += np.einsum("rou,un->ron", found, sums)
        n = len(me.members_)
        scale, center = me._of_outputs()
        return Attributed(
            names, scale * total / n, scale * start / n + center, scale * end / n + center
        )

    def _of_outputs(self) -> tuple[float, float]:
        """Scale and center that outputs are shown on."""
        return 1.0, 0.0

    def _attributed(self, X: Array) -> tuple[list[str], Array]:
        """Names of columns, and what each added to each encoded row's answer, from the mean row on."""
        found = self._attribute(X, X, 32)
        if found.outputs.shape[1] == 1:
            return found.names, found.values[:, 0]
        if hasattr(self, "classes_"):
            best = found.outputs.argmax(axis=1)
            return found.names, found.values[np.arange(len(X)), best]
        return found.names, found.values.mean(axis=1)


def _inputs_of_units(stages: Sequence[Stage], inputs: int) -> Array:
    """Of every unit of the embedding the input that it is of."""
    of = np.arange(inputs)
    for stage in stages:
        if isinstance(stage, Periodic):
            of = np.concatenate([np.tile(of[: stage.numbers], stage.waves), of])
        elif isinstance(stage, Lookup):
            tables = len(stage.levels)
            of = np.concatenate([of[:-tables], np.repeat(of[-tables:], stage.width)])
    return of


def _embedded(stages: Sequence[Stage], parameters: Sequence[Array], X: Array) -> Array:
    v = X
    for i, stage in enumerate(stages):
        v = KINDS[type(stage)].forward(stage, parameters[i : i + 1], v, bf16=False)
    return np.ascontiguousarray(v, np.float32)
