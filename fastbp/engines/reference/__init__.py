"""Reference engine: the mathematics of the notes in NumPy, to be read beside them.

It is the oracle of every test and the baseline of every benchmark. A stage's three formulas stand
together in the file of its kind (dense.py, scale.py, …), those of activations and losses in
functions.py. Here is what holds for all: the forward pass, then the backward pass, which uses every
value of it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.csr import CSR
from fastbp.engines.arrays import (
    check_data,
    check_epoch,
    check_gradients,
    check_inputs,
    check_shape,
    refuse_restore,
)
from fastbp.engines.dropout import mask
from fastbp.engines.interrupts import between_steps
from fastbp.engines.reference import (
    blend,
    dense,
    heads,
    lookup,
    members,
    periodic,
    scale,
    sparse,
)
from fastbp.engines.reference.dense import round_to_bf16
from fastbp.engines.reference.functions import (
    ACTIVATIONS,
    LINKS,
    LOSSES,
    functions_of,
    loss_function,
)
from fastbp.optimizers import SGD, Adam, AdamW, RMSprop, epsilon_in, step_sizes
from fastbp.plan import Plan
from fastbp.stages import (
    Blend,
    Dense,
    Factors,
    Heads,
    Lookup,
    Members,
    Periodic,
    Scale,
    Sparse,
)

__all__ = ["ACTIVATIONS", "LINKS", "LOSSES", "ReferenceEngine", "round_to_bf16"]

Array = NDArray[Any]
Layers = list[Array]

KINDS: dict[type, Any] = {
    Dense: dense,
    Scale: scale,
    Blend: blend,
    Periodic: periodic,
    Lookup: lookup,
    Sparse: sparse,
    Members: members,
    Heads: heads,
}

_quiet = np.errstate(over="ignore", invalid="ignore")  # overflow shows in the loss returned


def lacks(plan: Plan) -> str | None:
    """Nothing, whatever the plan."""
    return None


class ReferenceEngine:
    """The engine contract (`fastbp.engines.Engine`) in NumPy.

    Parameters
    ----------
    plan : Plan
        What to allocate. Parameters start at 0. `plan.threads` has no meaning here.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import activations, losses, stages
    >>> from fastbp.engines.reference import ReferenceEngine
    >>> from fastbp.plan import Plan
    >>> relu, loss = activations.get("relu"), losses.get("squared_error")
    >>> engine = ReferenceEngine(Plan(stages.dense((1, 1, 1), (relu,)), loss))
    >>> engine.set_parameters([np.array([[2, 0]], "f4"), np.array([[3, 0]], "f4")])
    >>> f = np.empty((2, 1), "f4")
    >>> engine.forward(np.array([[1], [-1]], "f4"), f)
    >>> f
    array([[6.],
           [0.]], dtype=float32)
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._W = self._zeros()
        self._kept: Layers | None = None
        self._step = 0
        self._slots = [self._zeros() for _ in range(plan.optimizer.slots)]
        self._bf16 = plan.precision == "bf16"
        # Of each parameter, how many of its columns are penalized.
        self._penalized = [columns for stage in plan.stages for columns in stage.penalized]
        self._factors = [stage.factors for stage in plan.stages for _ in stage.shapes]

    def _zeros(self) -> Layers:
        return [np.zeros(shape, self.plan.dtype) for shape in self.plan.shapes]

    def _by_stage(self, arrays: Layers) -> list[Layers]:
        """The arrays of each stage's parameters."""
        rest = iter(arrays)
        return [[next(rest) for _ in stage.shapes] for stage in self.plan.stages]

    def get_parameters(self) -> list[Array]:
        return [W.copy() for W in self._W]

    def set_parameters(self, parameters: list[Array]) -> None:
        self.plan.check_shapes(parameters)
        for W, new in zip(self._W, parameters, strict=True):
            W[...] = new

    def keep(self) -> bool:
        finite = all(bool(np.isfinite(W).all()) for W in self._W)
        if finite:
            self._kept = self.get_parameters()
        return finite

    def restore(self) -> None:
        if self._kept is None:
            refuse_restore()
        self.set_parameters(self._kept)

    def get_optimizer_state(self) -> tuple[int, list[list[Array]]]:
        return self._step, [[s.copy() for s in slot] for slot in self._slots]

    def set_optimizer_state(self, step: int, slots: list[list[Array]]) -> None:
        self.plan.check_slots(slots)
        self._step = step
        for slot, new_slot in zip(self._slots, slots, strict=True):
            for s, new in zip(slot, new_slot, strict=True):
                s[...] = new

    # The notes: forward, then backward.

    def _forward(
        self, X: Array | CSR, slopes: Layers | None = None, *, dropout: float = 0.0
    ) -> tuple[Layers, list[Any]]:
        """z¹ … zᴸ = f and v⁰ … vᴸ⁻¹; appends φ'(z¹) … φ'(zᴸ⁻¹) to `slopes`.

        With dropout, a unit's value and slope are both scaled by 0 or 1 / (1 − p).
        """
        z: Layers = []
        v: list[Any] = [X]
        units = self._hidden_units(dropout, len(X))
        for stage, parameters in zip(self.plan.stages, self._by_stage(self._W), strict=True):
            z.append(KINDS[type(stage)].forward(stage, parameters, v[-1], bf16=self._bf16))
            if len(z) == len(self.plan.stages):
                break
            phi, phi_slope = functions_of(stage.activation)
            value = phi(z[-1], stage.activation.parameter)
            factors = units[len(z) - 1]
            v.append(value if factors is None else value * factors)
            if slopes is not None:
                slope = phi_slope(z[-1], value, stage.activation.parameter)
                slopes.append(slope if factors is None else slope * factors)
        return z, v

    def _backward(
        self, v: list[Any], slopes: Layers, delta: Array, penalty_share: float, out: Layers
    ) -> None:
        """∇ of every stage to `out`, from δᴸ: every value of the forward pass is reused."""
        parameters, gradients = self._by_stage(self._W), self._by_stage(out)
        for i, stage in reversed(list(enumerate(self.plan.stages))):
            kind = KINDS[type(stage)]
            for g, value in zip(
                gradients[i],
                kind.gradient(stage, parameters[i], v[i], delta, bf16=self._bf16),
                strict=True,
            ):
                g[...] = value
            if i > 0:
                below = kind.backward(stage, parameters[i], v[i], delta, bf16=self._bf16)
                delta = slopes[i - 1] * below
        l1, l2 = penalty_share * self.plan.l1, penalty_share * self.plan.l2
        if l1 > 0 or l2 > 0:
            for W, g, columns in zip(self._W, out, self._penalized, strict=True):
                weights = W[:, :columns]
                g[:, :columns] += l1 * np.sign(weights) + l2 * weights

    def _hidden_units(self, dropout: float, rows: int) -> list[Array | None]:
        """Draw the factors, 0 or 1 / (1 − p), of each stage's units; None where all are 1.

        p is the stage's dropout times `dropout`.
        """
        factors: list[Array | None] = [None] * len(self.plan.stages)
        for i, stage in enumerate(self.plan.stages if dropout else ()):
            p = stage.dropout * dropout
            if p > 0:
                kept = mask(self.plan.seed, self._step, i + 1, rows, stage.units, p)
                factors[i] = kept.astype(self.plan.dtype) * (1 / (1 - p))
        return factors

    @_quiet
    def _objective(
        self,
        X: Array | CSR,
        y: Array,
        sample_weight: Array | None,
        out: list[Array] | None = None,
        *,
        dropout: float = 0.0,
    ) -> tuple[float, float]:
        """Return loss and penalty; the gradient of their sum goes to `out`, if given."""
        slopes: list[Array] | None = None if out is None else []
        w = np.ones(len(X)) if sample_weight is None else sample_weight.astype(np.float64)
        # a row of weight 0 says nothing, whatever is in it: 0 times infinity would be NaN
        z, v = self._forward(_without(X, w == 0), slopes, dropout=dropout)
        loss, f = self.plan.loss, z[-1]
        smoothing = self.plan.label_smoothing
        if smoothing and y.ndim == 1:
            y = np.where(y[:, None] == np.arange(f.shape[1]), 1 - smoothing, 0.0).astype(f.dtype)
            y += f.dtype.type(smoothing / f.shape[1])
        row_losses, delta = loss_function(loss)(f, y, loss.parameter)
        # ℓ may be finite where f is not (e^−∞ is 0, a floor is a bound): 0 Σ f is 0, or else NaN
        row_losses = np.where(np.isfinite(row_losses), row_losses + (0 * f).sum(axis=1), row_losses)
        total = w.sum()
        share = w / total if total != 0 else w * 0  # of each row in the batch's loss
        penalty_share = 1.0
        if self.plan.penalty_in_sum:
            penalty_share = 1.0 / total if total != 0 else 0.0
        counts = share != 0
        if out is not None and slopes is not None:
            delta = np.where(counts[:, None], delta * share[:, None].astype(delta.dtype), 0)
            self._backward(v, slopes, delta, penalty_share, out)
        return float(share[counts] @ row_losses[counts]), penalty_share * self._penalty()

    def _penalty(self) -> float:
        total = 0.0
        if self.plan.l1 > 0 or self.plan.l2 > 0:
            for W, columns in zip(self._W, self._penalized, strict=True):
                weights = W[:, :columns].astype(np.float64)
                total += self.plan.l1 * float(np.abs(weights).sum())
                total += 0.5 * self.plan.l2 * float(np.square(weights).sum())
        return total

    @_quiet
    def trace(self, X: Array | CSR) -> tuple[Layers, Layers]:
        """Return z¹ … zᴸ (the last is f) and v⁰ … vᴸ⁻¹ (each with its bias node, the 1)."""
        z, v = self._forward(X)
        v[0] = X.toarray() if isinstance(X, CSR) else X
        return z, [dense.with_bias_node(value) for value in v]

    def after_fork(self) -> None:
        pass  # what a call works on is its own

    @_quiet
    def forward(self, X: Array | CSR, out: Array, *, link: bool = False) -> None:
        check_inputs(self.plan, X)
        check_shape("out", out, (len(X), self.plan.layer_sizes[-1]))
        f = self._forward(X)[0][-1]
        out[...] = LINKS[self.plan.loss.link](f) if link else f

    @_quiet
    def classify(self, X: Array | CSR, out: Array) -> None:
        check_inputs(self.plan, X)
        check_shape("out", out, (len(X),))
        out[...] = self._forward(X)[0][-1].argmax(axis=1)

    def loss(self, X: Array | CSR, y: Array, sample_weight: Array | None) -> float:
        check_data(self.plan, X, y, sample_weight)
        return sum(self._objective(X, y, sample_weight))

    def gradient(
        self, X: Array | CSR, y: Array, sample_weight: Array | None, out: list[Array]
    ) -> float:
        check_data(self.plan, X, y, sample_weight)
        check_gradients(self.plan, out)
        return sum(self._objective(X, y, sample_weight, out))

    @_quiet
    def jacobian(self, X: Array | CSR, out: Array) -> None:
        """J = Wᴸ diag(φ'(zᴸ⁻¹)) Wᴸ⁻¹ … diag(φ'(z¹)) W¹: the chain rule, from the outputs down."""
        inputs, outputs = self.plan.layer_sizes[0], self.plan.layer_sizes[-1]
        check_inputs(self.plan, X)
        check_shape("out", out, (len(X), outputs, inputs))
        slopes: Layers = []
        _, v = self._forward(X, slopes)
        J: Array = np.broadcast_to(np.eye(outputs, dtype=X.dtype), (len(X), outputs, outputs))
        parameters = self._by_stage(self._W)
        for i, stage in reversed(list(enumerate(self.plan.stages))):
            J = KINDS[type(stage)].backward(stage, parameters[i], v[i], J, bf16=self._bf16)
            if i > 0:
                J = J * slopes[i - 1][:, None, :]
        out[...] = J

    # Training

    def epoch(
        self,
        X: Array | CSR,
        y: Array,
        sample_weight: Array | None,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        losses: NDArray[np.float64],
        penalties: NDArray[np.float64] | None = None,
        dropouts: NDArray[np.float64] | None = None,
        decays: NDArray[np.float64] | None = None,
    ) -> int:
        check_data(self.plan, X, y, sample_weight)
        check_epoch(self.plan, X, order, learning_rates, losses, penalties, dropouts, decays)
        gradient = self._zeros()
        steps = -(-len(order) // self.plan.batch_size)
        etas = step_sizes(self.plan.optimizer, self._step + 1, learning_rates[:steps])
        with between_steps() as let_interrupt:
            for s in range(steps):
                batch = order[s * self.plan.batch_size : (s + 1) * self.plan.batch_size]
                w = None if sample_weight is None else sample_weight[batch]
                dropout = 1.0 if dropouts is None else float(dropouts[s])
                loss, penalty = self._objective(X[batch], y[batch], w, gradient, dropout=dropout)
                losses[s] = loss + penalty
                if penalties is not None:
                    penalties[s] = penalty
                if not math.isfinite(loss):
                    return s
                decay = 1.0 if decays is None else float(decays[s])
                self._update(
                    gradient,
                    decay * float(learning_rates[s]),
                    float(etas[s]),
                    self._moving(X, batch, w),
                )
                self._step += 1
                let_interrupt()
        return steps

    def _moving(self, X: Array | CSR, batch: Array, w: Array | None) -> Array | None:
        """The columns of the first parameter that a step on these rows moves; None: all."""
        first = self.plan.stages[0]
        if not (isinstance(first, Sparse) and isinstance(X, CSR) and first.update == "lazy"):
            return None
        return sparse.touched(X[batch] if w is None else X[batch[w != 0]])

    @_quiet
    def _update(
        self, gradient: Layers, rate: float, eta: float, moving: Array | None = None
    ) -> None:
        """One step of the optimizer; `rate` is that of decay.

        What a lazy update does not move has no gradient either, and is put back as it was.
        """
        if moving is not None:
            gradient[0][:, ~moving] = 0
            first = [self._W[0], *(slot[0] for slot in self._slots)]
            still = [a[:, ~moving].copy() for a in first]
        if self.plan.clip_norm > 0:
            squares = (np.square(g, dtype=np.float64).sum() for g in gradient)
            norm = math.sqrt(sum(squares))
            if norm > self.plan.clip_norm:
                for g in gradient:
                    g *= self.plan.clip_norm / norm
        for i, (W, g) in enumerate(zip(self._W, gradient, strict=True)):
            parts = np.s_[:, : self._penalized[i]], np.s_[:, self._penalized[i] :]
            for part, factors in zip(parts, self._factors[i], strict=True):
                state = [slot[i][part] for slot in self._slots]
                self._step_of_part(W[part], g[part], state, factors, rate, eta)
        if moving is not None:
            for a, was in zip(first, still, strict=True):
                a[:, ~moving] = was

    def _step_of_part(
        self, W: Array, g: Array, state: Layers, factors: Factors, rate: float, eta: float
    ) -> None:
        """The same of some parameters, as in the docstrings of `fastbp.optimizers`; all are views."""
        optimizer = self.plan.optimizer
        eta *= factors.rate
        match optimizer:
            case SGD(momentum=0):
                W -= eta * g
            case SGD(momentum=mu):
                (u,) = state
                u[...] = mu * u - eta * g
                W += mu * u - eta * g if optimizer.nesterov else u
            case RMSprop(rho=rho):
                (s,) = state
                s[...] = rho * s + (1 - rho) * g * g
                W -= eta * g / (np.sqrt(s) + factors.epsilon * epsilon_in(optimizer, W.dtype.name))
            case Adam(beta_1=beta_1, beta_2=beta_2):
                if isinstance(optimizer, AdamW):
                    W -= factors.decay * rate * optimizer.weight_decay * W
                m, s = state
                m[...] = beta_1 * m + (1 - beta_1) * g
                s[...] = beta_2 * s + (1 - beta_2) * g * g
                W -= eta * m / (np.sqrt(s) + factors.epsilon * epsilon_in(optimizer, W.dtype.name))


def _without(X: Array | CSR, rows: Array) -> Array | CSR:
    """X with zeros in those rows, of which there is a bool for each."""
    return sparse.without(X, rows) if isinstance(X, CSR) else np.where(rows[:, None], 0, X)


create = ReferenceEngine
