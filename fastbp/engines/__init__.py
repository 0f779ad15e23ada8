"""The contract every engine fulfils, and the choice of engine.

An engine is made from a `Plan`: it allocates every buffer once, holds the network's parameters and
the optimizer's state, and does all the arithmetic. The Python API above it validates inputs and
decides *what* to run; an engine checks shapes (`arrays.py`) and trusts values. All engines pass the
same contract tests (`tests/test_engine_contract.py`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.activations import Activation
from fastbp.losses import Loss
from fastbp.optimizers import SGD, Optimizer

Array = NDArray[Any]


@dataclass(frozen=True)
class Plan:
    """Everything an engine needs to know before it allocates.

    Attributes
    ----------
    layer_sizes : tuple of int
        n_0 … n_L: inputs, hidden widths, outputs.
    activations : tuple of Activation
        φ of the L − 1 hidden layers. The output layer is linear; the loss holds the link.
    loss : Loss
    optimizer : Optimizer
    batch_size : int
        Rows of a minibatch; the last one of an epoch may be shorter.
    dtype : str
        ``"float32"`` or ``"float64"``: parameters, data and arithmetic.
    precision : str or None
        ``"bf16"``, for float32 alone: every operand of a matmul is rounded to bfloat16 (to nearest,
        ties to even; too large a number to infinity), and the products are summed in float32. That
        is v and W, without the bias, in zˡ = Wˡ vˡ⁻¹; δ and W in Wᵀ δ, also in the Jacobian; δ and
        v in δ vᵀ, the bias's gradient being the sum of the rounded δ. All else is float32: φ, φ'
        (from z and v that are not rounded), dropout, loss, penalties, the parameters and their
        updates. Subnormal operands may count as 0, and an engine may compute a network so narrow
        that rounding takes more time than it saves as if this were None.
    threads : int
        Most threads to use; results do not depend on it.
    dropout : tuple of float
        Probability, per hidden layer, that a unit's value is set to 0 in training (the others are
        scaled by 1 / (1 − p)).
    l1, l2 : float
        The objective is the batch loss + l1 Σ|w| + ½ l2 Σ w², over weights, not biases.
    penalty_in_sum : bool
        Divide the penalties by the batch's total sample weight, as if they were one more sample of
        the sum that the loss is an average of (scikit-learn's convention).
    clip_norm : float
        If > 0, the gradient of a step is scaled down to at most this Euclidean norm over all layers.
    seed : int
        Seed of the dropout masks, 0 ≤ seed < 2⁶⁴.
    """

    layer_sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    loss: Loss
    optimizer: Optimizer = SGD()
    batch_size: int = 32
    dtype: str = "float32"
    precision: str | None = None
    threads: int = 1
    dropout: tuple[float, ...] = ()
    l1: float = 0.0
    l2: float = 0.0
    penalty_in_sum: bool = False
    clip_norm: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        hidden = len(self.layer_sizes) - 2
        if len(self.activations) != hidden or len(self.dropout) not in (0, hidden):
            raise ValueError(
                f"a network of {hidden} hidden layers has as many activations and dropouts, got "
                f"{len(self.activations)} and {len(self.dropout)}"
            )

    @property
    def layers(self) -> int:
        """L, the number of weight matrices."""
        return len(self.layer_sizes) - 1

    def check_shapes(self, arrays: list[Array]) -> None:
        """Raise ValueError unless the arrays are shaped as the parameters."""
        shapes = [(n, m + 1) for m, n in itertools.pairwise(self.layer_sizes)]
        found = [a.shape for a in arrays]
        if found != shapes:
            raise ValueError(f"[W | b] of the layers must have shapes {shapes}, got {found}")

    def check_slots(self, slots: list[list[Array]]) -> None:
        """Raise ValueError unless these are arrays for all of the optimizer's slots."""
        if len(slots) != self.optimizer.slots:
            raise ValueError(f"{self.optimizer} has {self.optimizer.slots} slots, got {len(slots)}")
        for slot in slots:
            self.check_shapes(slot)


class Engine(Protocol):
    """What an engine offers. Arrays are C-contiguous, of the plan's dtype unless said.

    X has shape (n, n_0). y has shape (n, n_L) in the plan's dtype, or for softmax_cross_entropy also
    (n,) int64 labels. sample_weight has shape (n,), or is None for all ones. Parameters are lists of
    L arrays of shape (n_l, n_{l−1} + 1): the homogeneous form [W | b] of the notes.
    One call at a time: an engine has one workspace. Who shares it keeps others out.
    n may be 0; a loss over zero rows (or over a total weight of 0) is 0. The loss of a row is not
    finite where one of its outputs is not. A row of weight 0 says nothing, whatever is in it.

    An engine checks the shapes of what it is given, and raises ValueError naming the argument. It
    reads X, y and sample_weight where they lie: if another thread writes to them meanwhile the results
    are anyone's guess, but the call ends, and touches no other memory.
    """

    plan: Plan

    def get_parameters(self) -> list[Array]:
        """Copies of the parameters."""
        ...

    def set_parameters(self, parameters: list[Array]) -> None:
        """Copy parameters in. The optimizer's state stays.

        Raises ValueError for arrays of other shapes, before any is copied.
        """
        ...

    def get_optimizer_state(self) -> tuple[int, list[list[Array]]]:
        """Steps taken, and copies of the state: slot by slot (u; s; m and s), layer by layer."""
        ...

    def set_optimizer_state(self, step: int, slots: list[list[Array]]) -> None:
        """Copy state in, in the form of `get_optimizer_state`. Raises as `set_parameters`."""
        ...

    def keep_threads(self, keep: bool) -> None:
        """Whether an engine that needs time to start its threads lets them wait for the next call.

        Not at first. From `keep_threads(False)` on there are none between two calls.
        """
        ...

    def after_fork(self) -> None:
        """Be as between two calls: in a forked process, where the thread that was in one is no more.

        For the holder of the engine, who knows that a call was cut off. If that was one that changes
        parameters or state, these are lost.
        """
        ...

    def forward(self, X: Array, out: Array, *, link: bool = False) -> None:
        """Write f(x), or the prediction link(f(x)), of every row to `out`, shape (n, n_L)."""
        ...

    def loss(self, X: Array, y: Array, sample_weight: Array | None) -> float:
        """Objective over all rows as one batch, without dropout: weighted mean loss + penalties."""
        ...

    def gradient(self, X: Array, y: Array, sample_weight: Array | None, out: list[Array]) -> float:
        """Write ∇_W of the objective (see `loss`) to `out`, shaped as the parameters; return `loss`.

        No dropout, no clipping.
        """
        ...

    def jacobian(self, X: Array, out: Array) -> None:
        """Write df/dx of every row to `out`, shape (n, n_L, n_0)."""
        ...

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
        """Train on rows order[0 : batch_size], order[batch_size : 2 batch_size], … of X.

        That 0 ≤ order[i] < n is the caller's to see to: a look at all of them would not be O(1).
        Step s uses learning_rates[s] and writes its objective, taken before its update, to losses[s],
        and the part of it that the penalties are to penalties[s], where given; each has at least
        ⌈len(order) / batch_size⌉ entries. A step whose loss, without the penalties, is not
        finite is not applied and ends the epoch. The optimizer's step count goes on from call to
        call. Returns the number of steps applied.
        """
        ...


ENGINES = ("auto", "native", "jit", "reference")


def check_precision(precision: object, dtype: str) -> None:
    """Raise ValueError unless `precision` is one of `Plan`, and `dtype` is one that it takes."""
    if precision is None:
        return
    if not isinstance(precision, str) or precision != "bf16":
        raise ValueError(f"precision must be None or 'bf16', got {precision!r}")
    if dtype != "float32":
        raise ValueError(f"precision 'bf16' needs dtype 'float32', but dtype is {dtype!r}")


def create(plan: Plan, engine: str = "auto") -> Engine:
    """Make the engine of that name for `plan`.

    ``"auto"`` takes the native engine if it is there, else the JIT engine if Numba is there, else the
    reference engine. A function written in Python is compiled by Numba for the first two. The JIT
    engine has no ``precision="bf16"``.

    Raises
    ------
    ValueError
        If the name is unknown, the engine is not available on this machine (and why), or it does not
        have the plan's precision.
    """
    if engine not in ENGINES:
        raise ValueError(nearest_name("engine", engine, ENGINES))
    check_precision(plan.precision, plan.dtype)
    from fastbp.engines import jit, native

    declared: list[Activation | Loss] = [*plan.activations, plan.loss]
    users = [f.name for f in declared if f.function is not None]
    if engine == "native" and users and not jit.available():
        raise ValueError(
            f"engine 'native' needs Numba for functions written in Python (here {', '.join(users)}): "
            f"{jit.reason()}"
        )
    has_native = native.available() and (plan.precision is None or native.usable(plan.precision))
    if engine == "native" or (engine == "auto" and has_native and (jit.available() or not users)):
        return native.create(plan)
    if engine == "jit" or (engine == "auto" and jit.available() and plan.precision is None):
        return jit.create(plan)
    from fastbp.engines.reference import ReferenceEngine

    return ReferenceEngine(plan)
