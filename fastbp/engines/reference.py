"""Reference engine: the mathematics of the notes in NumPy, to be read beside them.

It is the oracle of every test and the baseline of every benchmark. Rows are samples, so the notes'
z = W v is ``v @ W.T`` here. A hidden layer is v = [φ(z); 1]; the last column of W is the bias.
In precision "bf16" the operands of every product are rounded first, which is all there is to it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastbp.activations import Activation
from fastbp.engines import Array, Plan
from fastbp.engines.arrays import (
    check_data,
    check_epoch,
    check_gradients,
    check_inputs,
    check_shape,
)
from fastbp.engines.dropout import mask
from fastbp.engines.interrupts import between_steps
from fastbp.losses import Loss
from fastbp.optimizers import SGD, Adam, AdamW, RMSprop, epsilon_in

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))  # never overflows
    s: Array = np.where(z >= 0, 1, e) / (1 + e)
    return s


def _normal_cdf(z: Array) -> Array:
    # erfc, not 1 + erf: no cancellation in the lower tail
    cdf: Array = 0.5 * _erfc(z * -math.sqrt(0.5))
    return cdf.astype(z.dtype)


def _normal_pdf(z: Array) -> Array:
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _silu_slope(z: Array) -> Array:
    slope: Array = _sigmoid(z) * (1 + z * _sigmoid(-z))
    return slope


# name: φ(z, a), φ'(z, v, a), where v = φ(z) and a is the activation's parameter
ACTIVATIONS: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "identity": (lambda z, a: z, lambda z, v, a: np.ones_like(v)),
    "sigmoid": (lambda z, a: _sigmoid(z), lambda z, v, a: (1 - v) * v),
    "tanh": (lambda z, a: np.tanh(z), lambda z, v, a: 1 - v * v),
    "relu": (lambda z, a: np.maximum(z, 0), lambda z, v, a: (v > 0).astype(v.dtype)),
    "leaky_relu": (
        lambda z, a: np.where(z > 0, z, a * z),
        lambda z, v, a: np.where(v > 0, np.ones_like(v), a),
    ),
    "elu": (
        lambda z, a: np.where(z > 0, z, a * np.expm1(np.minimum(z, 0))),
        lambda z, v, a: np.where(v > 0, 1, v + a),
    ),
    "softplus": (lambda z, a: np.logaddexp(z, 0), lambda z, v, a: -np.expm1(-v)),
    "silu": (lambda z, a: z * _sigmoid(z), lambda z, v, a: _silu_slope(z)),
    "gelu": (
        lambda z, a: z * _normal_cdf(z),
        lambda z, v, a: _normal_cdf(z) + z * _normal_pdf(z),
    ),
}


def functions_of(activation: Activation) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """φ(z, a) and φ'(z, v, a) of a built-in activation, or of a user's, called number by number."""
    f, derivative = activation.function, activation.derivative
    if f is None:
        return ACTIVATIONS[activation.name]
    phi = np.vectorize(f, otypes=[np.float64])

    def phi_slope(z: Array) -> Array:
        if derivative is not None:
            slope: Array = np.vectorize(derivative, otypes=[np.float64])(z)
            return slope
        from fastbp.engines.jit.functions import evaluate_activation

        return evaluate_activation(activation, z)[1]

    return (
        lambda z, a: phi(z.astype(np.float64)).astype(z.dtype),
        lambda z, v, a: phi_slope(z.astype(np.float64)).astype(z.dtype),
    )


def _softmax(f: Array) -> Array:
    e = np.exp(f - f.max(axis=1, keepdims=True))
    p: Array = e / e.sum(axis=1, keepdims=True)
    return p


# name: prediction from f
LINKS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda f: f,
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "exp": np.exp,
}


def _squared_error(f: Array, y: Array, _: float) -> tuple[Array, Array]:
    r = f - y
    return (0.5 * r * r).sum(axis=1), r


def _absolute_error(f: Array, y: Array, _: float) -> tuple[Array, Array]:
    r = f - y
    return np.abs(r).sum(axis=1), np.sign(r)


def _huber(f: Array, y: Array, width: float) -> tuple[Array, Array]:
    r = f - y
    clipped = np.clip(r, -width, width)
    return (clipped * (r - 0.5 * clipped)).sum(axis=1), clipped  # both zones in one formula


def _within(x: Array, floor: float) -> Array:
    """−log p as if p were in [floor, 1 − floor]."""
    return np.clip(x, -math.log1p(-floor), -math.log(floor)) if floor > 0 else x


def _softmax_cross_entropy(f: Array, y: Array, floor: float) -> tuple[Array, Array]:
    if y.ndim == 2:
        floor = 0.0
    else:
        y = (y[:, None] == np.arange(f.shape[1])).astype(f.dtype)
    shifted = f - f.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    rows = np.where(y == 0, 0, y * _within(np.log(total) - shifted, floor)).sum(axis=1)
    return rows, y.sum(axis=1, keepdims=True) * (e / total) - y


def _binary_cross_entropy(f: Array, y: Array, floor: float) -> tuple[Array, Array]:
    # log(1 + e^∓f) for y = 1 and y = 0, without exp(large)
    e = np.log1p(np.exp(-np.abs(f)))
    yes, no = (_within(e + np.maximum(x, 0), floor) for x in (-f, f))
    rows = (y * yes + (1 - y) * no).sum(axis=1)
    return rows, _sigmoid(f) - y


def _poisson(f: Array, y: Array, _: float) -> tuple[Array, Array]:
    mu = np.exp(f)
    y_log_y = y * np.log(np.where(y > 0, y, 1))
    return (y_log_y - y * f - y + mu).sum(axis=1), mu - y


# name: (ℓ of every row, δᴸ = ∂ℓ/∂f) of (f, y, the loss's parameter)
LOSSES: dict[str, Callable[[Array, Array, float], tuple[Array, Array]]] = {
    "squared_error": _squared_error,
    "absolute_error": _absolute_error,
    "huber": _huber,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "poisson": _poisson,
}


def loss_function(loss: Loss) -> Callable[[Array, Array, float], tuple[Array, Array]]:
    """ℓ of every row and δᴸ of a built-in loss, or of a user's, called number by number."""
    function, derivative = loss.function, loss.derivative
    if function is None:
        return LOSSES[loss.name]
    ell = np.vectorize(function, otypes=[np.float64])

    def rows(f: Array, y: Array, _: float) -> tuple[Array, Array]:
        f64, y64 = f.astype(np.float64), y.astype(np.float64)
        if derivative is not None:
            delta = np.vectorize(derivative, otypes=[np.float64])(f64, y64)
        else:
            from fastbp.engines.jit.functions import evaluate_loss

            delta = evaluate_loss(loss, f64, y64)[1]
        return ell(f64, y64).sum(axis=1).astype(f.dtype), delta.astype(f.dtype)

    return rows


_quiet = np.errstate(over="ignore", invalid="ignore")  # overflow shows in the loss returned


def round_to_bf16(a: Array) -> Array:
    """The float32 numbers of `a`, each rounded to the nearest that has 8 significant bits.

    Ties go to the even one; what is beyond the largest bfloat16 goes to infinity, NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> round_to_bf16(np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38], "f4"))
    array([1.      , 1.      , 1.015625,      inf], dtype=float32)
    """
    bits = a.view(np.uint32)
    last = (bits >> 16) & 1  # of those that stay
    # A carry out of the significand raises the exponent, as it should: up to that of infinity.
    rounded: Array = ((bits + (0x7FFF + last)) & 0xFFFF0000).view(np.float32)
    return np.where(np.isnan(a), a, rounded)


def _with_bias_node(x: Array) -> Array:
    v = np.ones((len(x), x.shape[1] + 1), x.dtype)
    v[:, :-1] = x
    return v


class ReferenceEngine:
    """The engine contract (`fastbp.engines.Engine`) in NumPy.

    Parameters
    ----------
    plan : Plan
        What to allocate. Parameters start at 0. `plan.threads` has no meaning here.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import activations, losses
    >>> from fastbp.engines import Plan
    >>> from fastbp.engines.reference import ReferenceEngine
    >>> plan = Plan((1, 1, 1), (activations.get("relu"),), losses.get("squared_error"))
    >>> engine = ReferenceEngine(plan)
    >>> engine.set_parameters([np.array([[2, 0]], "f4"), np.array([[3, 0]], "f4")])
    >>> f = np.empty((2, 1), "f4")
    >>> engine.forward(np.array([[1], [-1]], "f4"), f)
    >>> f
    array([[6.],
           [0.]], dtype=float32)
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        sizes = plan.layer_sizes
        self._shapes = [(n, k + 1) for k, n in itertools.pairwise(sizes)]
        self._W = self._zeros()
        self._step = 0
        self._slots = [self._zeros() for _ in range(plan.optimizer.slots)]
        self._penalized = plan.l1 > 0 or plan.l2 > 0

    def _zeros(self) -> list[Array]:
        return [np.zeros(shape, self.plan.dtype) for shape in self._shapes]

    def get_parameters(self) -> list[Array]:
        return [W.copy() for W in self._W]

    def set_parameters(self, parameters: list[Array]) -> None:
        self.plan.check_shapes(parameters)
        for W, new in zip(self._W, parameters, strict=True):
            W[...] = new

    def get_optimizer_state(self) -> tuple[int, list[list[Array]]]:
        return self._step, [[s.copy() for s in slot] for slot in self._slots]

    def set_optimizer_state(self, step: int, slots: list[list[Array]]) -> None:
        self.plan.check_slots(slots)
        self._step = step
        for slot, new_slot in zip(self._slots, slots, strict=True):
            for s, new in zip(slot, new_slot, strict=True):
                s[...] = new

    # The notes: forward, then backward.

    def _operand(self, a: Array) -> Array:
        """What goes into a product in place of `a`."""
        return round_to_bf16(a) if self.plan.precision == "bf16" else a

    def _z(self, W: Array, v: Array) -> Array:
        """W v of every row; the bias is no operand."""
        z: Array
        if self.plan.precision is None:
            z = v @ W.T
        else:
            z = self._operand(v[:, :-1]) @ self._operand(W[:, :-1]).T + W[:, -1]
        return z

    def _forward(
        self, X: Array, slopes: list[Array] | None = None, *, dropout: bool = False
    ) -> tuple[list[Array], list[Array]]:
        """z¹ … zᴸ = f and v⁰ … vᴸ⁻¹; appends φ'(z¹) … φ'(zᴸ⁻¹) to `slopes`.

        With dropout, a unit's value and slope are both scaled by 0 or 1 / (1 − p).
        """
        v = [_with_bias_node(X)]
        z = [self._z(self._W[0], v[0])]
        for W, activation, units in zip(
            self._W[1:], self.plan.activations, self._hidden_units(dropout, len(X)), strict=True
        ):
            phi, phi_slope = functions_of(activation)
            value = phi(z[-1], activation.parameter)
            v.append(_with_bias_node(value if units is None else value * units))
            if slopes is not None:
                slope = phi_slope(z[-1], value, activation.parameter)
                slopes.append(slope if units is None else slope * units)
            z.append(self._z(W, v[-1]))
        return z, v

    def _backward(
        self,
        v: list[Array],
        slopes: list[Array],
        delta: Array,
        penalty_share: float,
        out: list[Array],
    ) -> None:
        """∇_W of every layer to `out`, from δᴸ: every value of the forward pass is reused."""
        l1, l2 = penalty_share * self.plan.l1, penalty_share * self.plan.l2
        for layer in reversed(range(self.plan.layers)):
            W = self._W[layer][:, :-1]
            delta = self._operand(delta)
            np.matmul(delta.T, self._operand(v[layer]), out=out[layer])
            if self._penalized:
                out[layer][:, :-1] += l1 * np.sign(W) + l2 * W
            if layer > 0:
                delta = slopes[layer - 1] * (delta @ self._operand(W))

    def _hidden_units(self, dropout: bool, rows: int) -> list[Array | None]:
        """Draw the factors, 0 or 1 / (1 − p), of each hidden layer; None where all are 1."""
        factors: list[Array | None] = [None] * (self.plan.layers - 1)
        if dropout:
            for i, p in enumerate(self.plan.dropout):
                if p > 0:
                    units = self.plan.layer_sizes[i + 1]
                    kept = mask(self.plan.seed, self._step, i + 1, rows, units, p)
                    factors[i] = kept.astype(self.plan.dtype) * (1 / (1 - p))
        return factors

    @_quiet
    def _objective(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None,
        out: list[Array] | None = None,
        *,
        dropout: bool = False,
    ) -> tuple[float, float]:
        """Return loss and penalty; the gradient of their sum goes to `out`, if given."""
        slopes: list[Array] | None = None if out is None else []
        w = np.ones(len(X)) if sample_weight is None else sample_weight.astype(np.float64)
        # a row of weight 0 says nothing, whatever is in it: 0 times infinity would be NaN
        z, v = self._forward(np.where(w[:, None] == 0, 0, X), slopes, dropout=dropout)
        loss, f = self.plan.loss, z[-1]
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
        if self._penalized:
            for W in self._W:
                weights = W[:, :-1].astype(np.float64)
                total += self.plan.l1 * float(np.abs(weights).sum())
                total += 0.5 * self.plan.l2 * float(np.square(weights).sum())
        return total

    @_quiet
    def trace(self, X: Array) -> tuple[list[Array], list[Array]]:
        """Return z¹ … zᴸ (the last is f) and v⁰ … vᴸ⁻¹ (each with its bias node, the 1)."""
        return self._forward(X)

    def keep_threads(self, keep: bool) -> None:
        pass  # NumPy has its own

    @_quiet
    def forward(self, X: Array, out: Array, *, link: bool = False) -> None:
        check_inputs(self.plan, X)
        check_shape("out", out, (len(X), self.plan.layer_sizes[-1]))
        f = self._forward(X)[0][-1]
        out[...] = LINKS[self.plan.loss.link](f) if link else f

    def loss(self, X: Array, y: Array, sample_weight: Array | None) -> float:
        check_data(self.plan, X, y, sample_weight)
        return sum(self._objective(X, y, sample_weight))

    def gradient(self, X: Array, y: Array, sample_weight: Array | None, out: list[Array]) -> float:
        check_data(self.plan, X, y, sample_weight)
        check_gradients(self.plan, out)
        return sum(self._objective(X, y, sample_weight, out))

    @_quiet
    def jacobian(self, X: Array, out: Array) -> None:
        """J = Wᴸ diag(φ'(zᴸ⁻¹)) Wᴸ⁻¹ … diag(φ'(z¹)) W¹, bias columns left out."""
        sizes = self.plan.layer_sizes
        check_inputs(self.plan, X)
        check_shape("out", out, (len(X), sizes[-1], sizes[0]))
        slopes: list[Array] = []
        self._forward(X, slopes)
        weights = [self._operand(W[:, :-1]) for W in self._W]
        J = np.broadcast_to(weights[-1], (len(X), *weights[-1].shape))
        for W, slope in zip(weights[-2::-1], slopes[::-1], strict=True):
            J = self._operand(J * slope[:, None, :]) @ W
        out[...] = J

    # Training

    def epoch(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        losses: NDArray[np.float64],
        penalties: NDArray[np.float64] | None = None,
    ) -> int:
        check_data(self.plan, X, y, sample_weight)
        check_epoch(self.plan, X, order, learning_rates, losses, penalties)
        gradient = self._zeros()
        with between_steps() as let_interrupt:
            for s in range(-(-len(order) // self.plan.batch_size)):
                batch = order[s * self.plan.batch_size : (s + 1) * self.plan.batch_size]
                w = None if sample_weight is None else sample_weight[batch]
                loss, penalty = self._objective(X[batch], y[batch], w, gradient, dropout=True)
                losses[s] = loss + penalty
                if penalties is not None:
                    penalties[s] = penalty
                if not math.isfinite(loss):
                    return s
                self._update(gradient, float(learning_rates[s]))
                self._step += 1
                let_interrupt()
        return -(-len(order) // self.plan.batch_size)

    @_quiet
    def _update(self, gradient: list[Array], rate: float) -> None:
        """One step of the optimizer, as in the docstrings of `fastbp.optimizers`."""
        if self.plan.clip_norm > 0:
            squares = (np.square(g, dtype=np.float64).sum() for g in gradient)
            norm = math.sqrt(sum(squares))
            if norm > self.plan.clip_norm:
                for g in gradient:
                    g *= self.plan.clip_norm / norm
        optimizer = self.plan.optimizer
        t = self._step + 1
        for layer, (W, g) in enumerate(zip(self._W, gradient, strict=True)):
            state = [slot[layer] for slot in self._slots]
            match optimizer:
                case SGD(momentum=0):
                    W -= rate * g
                case SGD(momentum=mu):
                    (u,) = state
                    u[...] = mu * u - rate * g
                    W += mu * u - rate * g if optimizer.nesterov else u
                case RMSprop(rho=rho):
                    (s,) = state
                    s[...] = rho * s + (1 - rho) * g * g
                    W -= rate * g / (np.sqrt(s) + epsilon_in(optimizer, self.plan.dtype))
                case Adam(beta_1=beta_1, beta_2=beta_2):
                    if isinstance(optimizer, AdamW):
                        W[:, :-1] -= rate * optimizer.weight_decay * W[:, :-1]
                    m, s = state
                    m[...] = beta_1 * m + (1 - beta_1) * g
                    s[...] = beta_2 * s + (1 - beta_2) * g * g
                    scale = rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t)
                    W -= scale * m / (np.sqrt(s) + epsilon_in(optimizer, self.plan.dtype))
