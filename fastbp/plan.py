"""A plan: everything that an engine needs to know before it allocates. Data → stages → loss."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from numpy.typing import NDArray

from fastbp.activations import Activation
from fastbp.losses import Loss
from fastbp.optimizers import SGD, Optimizer
from fastbp.stages import Blend, Dense, Heads, Members, Sparse, Stage

__all__ = ["Plan"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Plan:
    """Stages, loss, and how they are trained.

    Attributes
    ----------
    stages : tuple of stages
        Of `fastbp.stages`, each as many inputs as the one before it has units. The last is Dense,
        Heads or Members and has no activation: the loss holds the link. The first, and no other,
        may be Sparse: X is then `fastbp.csr.CSR`.
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
    l1, l2 : float
        The objective is the batch loss + l1 Σ|w| + ½ l2 Σ w², over the stages' penalized parameters:
        weights, not biases.
    penalty_in_sum : bool
        Divide the penalties by the batch's total sample weight, as if they were one more sample of
        the sum that the loss is an average of (scikit-learn's convention).
    clip_norm : float
        If > 0, the gradient of a step is scaled down to at most this Euclidean norm over all stages.
    seed : int
        Seed of the dropout masks, 0 ≤ seed < 2⁶⁴.
    label_smoothing : float
        s of softmax_cross_entropy with K integer labels: yⱼ = 1 − s + s/K for the label, s/K elsewhere.

    Raises
    ------
    ValueError
        If the stages do not make a network.
    """

    stages: tuple[Stage, ...]
    loss: Loss
    optimizer: Optimizer = SGD()
    batch_size: int = 32
    dtype: str = "float32"
    precision: str | None = None
    threads: int = 1
    l1: float = 0.0
    l2: float = 0.0
    penalty_in_sum: bool = False
    clip_norm: float = 0.0
    seed: int = 0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for above, below in itertools.pairwise(reversed(self.stages)):
            if above.inputs != below.units:
                raise ValueError(
                    f"a stage of {above.inputs} inputs cannot follow one of {below.units} units"
                )
        if any(isinstance(stage, Sparse) for stage in self.stages[1:]):
            raise ValueError("only the first stage may be Sparse: it takes the rows of X")
        for i, stage in enumerate(self.stages):
            before = self.stages[i - 1] if i > 0 else None
            linear = before and before.activation.name == "identity" and not before.dropout
            if isinstance(stage, Blend) and not linear:
                raise ValueError(
                    "a Blend must follow a stage without activation and dropout, "
                    f"but {stage} follows {before}"
                )
        counts = {s.members for s in self.stages if isinstance(s, Members | Heads)}
        if len(counts) > 1 or (counts and self.batch_size % max(counts)):
            raise ValueError(
                "stages of members must have the same number of them, and minibatches a multiple of "
                f"it, but there are {sorted(counts)} members and batch_size={self.batch_size}"
            )
        if not 0 <= self.label_smoothing < 1 or (
            self.label_smoothing and self.loss.name != "softmax_cross_entropy"
        ):
            raise ValueError(
                "label_smoothing must be from 0 to 1, 1 excluded, and is of loss "
                f"'softmax_cross_entropy', got {self.label_smoothing!r} with {self.loss.name!r}"
            )
        last = self.stages[-1] if self.stages else None
        if self.loss.levels and (last is None or len(self.loss.levels) != last.units):
            raise ValueError(f"as many outputs as levels of the loss are needed, got {last}")
        if (
            not isinstance(last, Dense | Heads | Members)
            or last.activation.name != "identity"
            or last.dropout
        ):
            raise ValueError(
                "the last stage must be Dense (of members Heads or Members), without activation and "
                f"dropout, got {last}"
            )

    def __getstate__(self) -> dict[str, Any]:  # without what is cached
        kept = {field.name for field in fields(self)}
        return {name: value for name, value in self.__dict__.items() if name in kept}

    def having(self, **values: Any) -> Plan:
        """The same plan with these values: itself, where it has them already."""
        if all(getattr(self, name) == value for name, value in values.items()):
            return self
        return replace(self, **values)

    @functools.cached_property
    def layer_sizes(self) -> tuple[int, ...]:
        """n_0 … n_L: the inputs, and the units of every stage."""
        return (self.stages[0].inputs, *(stage.units for stage in self.stages))

    @functools.cached_property
    def is_sparse(self) -> bool:
        """Whether X is CSR."""
        return isinstance(self.stages[0], Sparse)

    def with_sparse(self, update: str = "exact") -> Plan:
        """The same network for X that is CSR, its first stage Dense now."""
        first = self.stages[0]
        assert isinstance(first, Dense)
        sparse = Sparse(
            first.inputs, first.units, first.activation, first.dropout, first.factors, update
        )
        return replace(self, stages=(sparse, *self.stages[1:]))

    def with_dense(self) -> Plan:
        """The same network for X that is an array."""
        first = self.stages[0]
        if not isinstance(first, Sparse):
            return self
        dense = Dense(first.inputs, first.units, first.activation, first.dropout)
        return replace(self, stages=(dense, *self.stages[1:]))

    @functools.cached_property
    def activations(self) -> tuple[Activation, ...]:
        """φ of every stage but the last."""
        return tuple(stage.activation for stage in self.stages[:-1])

    @functools.cached_property
    def dropout(self) -> tuple[float, ...]:
        """Of every stage but the last."""
        return tuple(stage.dropout for stage in self.stages[:-1])

    @functools.cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """Of the parameters, stage by stage."""
        return [shape for stage in self.stages for shape in stage.shapes]

    def check_shapes(self, arrays: Sequence[Array]) -> None:
        """Raise ValueError unless the arrays are shaped as the parameters."""
        found = [a.shape for a in arrays]
        if found != self.shapes:
            raise ValueError(
                f"the parameters ([W | b] of a Dense stage) must have shapes {self.shapes}, "
                f"got {found}"
            )

    def check_slots(self, slots: Sequence[Sequence[Array]]) -> None:
        """Raise ValueError unless these are arrays for all of the optimizer's slots."""
        if len(slots) != self.optimizer.slots:
            raise ValueError(f"{self.optimizer} has {self.optimizer.slots} slots, got {len(slots)}")
        for slot in slots:
            self.check_shapes(slot)
