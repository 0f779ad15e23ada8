"""What a call of `MLP.fit` asks for: its arguments, checked before any work starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _inputs, _options, schedules
from fastbp import rows as passes
from fastbp._validation import check_finite_number, check_integer
from fastbp.plan import Plan
from fastbp.stopping import Stopping
from fastbp.training import Data, wants_gradient_norm

if TYPE_CHECKING:
    from fastbp.distributed.epochs import OwnRows
    from fastbp.distributed.ranks import Ranks
    from fastbp.mlp import MLP

__all__ = ["Rate", "Request", "check"]

Array = NDArray[Any]
Rate = Callable[[int], float] | schedules.ReduceOnPlateau


@dataclass
class Request:
    """What a call of `MLP.fit` asks for, checked.

    Attributes
    ----------
    plan, rows_plan : Plan
        Of the model, and of an engine for the kind of rows that there are.
    data : tuple
        X, y, sample_weight as the engine takes them.
    held_out : tuple or None
        The same for validation, where it was given.
    aside : int
        Rows of the data to set aside for it.
    total : int
        Rows there are, on all ranks.
    """

    plan: Plan
    rows_plan: Plan
    data: Data
    held_out: Data | None
    aside: int
    total: int
    learning_rate: Rate
    epochs: int
    stopping: Stopping | None
    shuffle: bool
    progress: bool
    callbacks: list[Callable[..., object]]
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: int
    resume: str | os.PathLike[str] | None
    sparse_update: str
    kept: list[Array] | None = None  # parameters to begin with, if not those that there are
    own: OwnRows | None = None

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-(self.total - self.aside) // self.plan.batch_size)

    def size(self, total: int) -> None:
        """Have so many rows in all."""
        self.total = total
        # A batch larger than the data would only make the engine's buffers larger.
        batch = min(self.plan.batch_size, total - self.aside)
        self.plan = self.plan.having(batch_size=batch)
        self.rows_plan = self.rows_plan.having(batch_size=batch)
        if not isinstance(self.learning_rate, schedules.ReduceOnPlateau):
            # a callable that returns nonsense fails here
            schedules.rates(self.learning_rate, 0, self.steps)


def check(
    model: MLP,
    X: Any,
    y: Any,
    ranks: Ranks | None,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Any,
    learning_rate: Any,
    shuffle: bool,
    sample_weight: Any,
    class_weight: Mapping[int, float] | str | None,
    validation: Any,
    early_stopping: int | None,
    min_delta: float,
    clip_norm: float,
    callbacks: Iterable[Callable[..., object]],
    progress: bool,
    checkpoint: str | os.PathLike[str] | None,
    checkpoint_every: int,
    resume: str | os.PathLike[str] | None,
    sparse_update: str,
) -> Request:
    """The arguments of `MLP.fit`; raises as it does, and changes nothing."""
    epochs = check_integer("epochs", epochs, minimum=1)
    checkpoint_every = check_integer("checkpoint_every", checkpoint_every, minimum=1)
    plan, rate = model._training_plan(optimizer, batch_size, learning_rate, clip_norm)
    for name, flag in (("shuffle", shuffle), ("progress", progress)):
        _options.check_flag(name, flag)
    called = _options.check_callbacks(callbacks)
    min_delta = check_finite_number("min_delta", min_delta, minimum=0.0)
    stopping = None
    if early_stopping is not None:
        patience = check_integer("early_stopping", early_stopping, minimum=1)
        if validation is None:
            raise ValueError("early_stopping needs validation data, but validation is None")
        stopping = Stopping(patience, min_delta)
    if resume is not None:
        _options.check_path("resume", resume)
    is_root = ranks is None or ranks.rank == 0
    if checkpoint is not None and is_root:
        _options.check_output("checkpoint", checkpoint)
    data = _inputs.as_training_data(model._plan, X, y, sample_weight)
    held_out, aside = _inputs.as_validation(model._plan, validation, len(data[0]))
    data = _inputs.weigh_classes(model._plan, data, class_weight)
    rows_plan = passes.plan_for(plan, data[0], model._holder.engine_name, sparse_update)
    if held_out is not None:
        held_out = (passes.like(held_out[0], rows_plan), *held_out[1:])
    if ranks is not None and ranks.rows == "own":
        _check_own(data, aside, class_weight, called)
    request = Request(
        plan=plan,
        rows_plan=rows_plan,
        data=data,
        held_out=held_out,
        aside=aside,
        total=0,
        learning_rate=rate,
        epochs=epochs,
        stopping=stopping,
        shuffle=bool(shuffle),
        progress=bool(progress) and is_root,
        callbacks=called if is_root else [],
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        resume=resume,
        sparse_update=sparse_update,
    )
    if ranks is None or ranks.rows == "shared":
        request.size(len(data[0]))
    return request


def _check_own(
    data: Data, aside: int, class_weight: object, callbacks: list[Callable[..., object]]
) -> None:
    """What is of all rows cannot be had of those of one rank."""
    what = "with rows='own'"
    if not isinstance(data[0], np.ndarray):
        raise ValueError(f"X must be dense {what}, got sparse rows")
    if aside:
        raise ValueError(f"validation {what} must be data, the same on all ranks, not a fraction")
    if class_weight == "balanced":
        raise ValueError(f"class_weight {what} must be a dict, got 'balanced'")
    if wants_gradient_norm(callbacks):
        raise ValueError(f"callbacks {what} cannot measure gradient_norm")
