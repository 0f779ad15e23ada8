"""What `MLP.fit` is besides the loop: order, rates, history, validation, checkpoints, divergence.

`fit` is all of it, for one process or for ranks (`fastbp.distributed`). What must be the same on all
ranks comes from rank 0, where callbacks, validation and files are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from fastbp import _inputs, saving, schedules, scores
from fastbp import checkpoint as checkpoints
from fastbp import rows as passes
from fastbp.engines import Engine
from fastbp.history import DivergenceError, History
from fastbp.holder import Holder
from fastbp.plan import Plan
from fastbp.request import Rate, Request, check
from fastbp.stopping import Stopping
from fastbp.training import (
    Data,
    Epoch,
    Floats,
    Order,
    call_all,
    epochs_by,
    mean_loss,
    norm,
    on_root,
    run,
    run_epoch,
    together,
    wants_gradient_norm,
)

if TYPE_CHECKING:
    from fastbp.distributed.epochs import OwnRows
    from fastbp.distributed.ranks import Ranks
    from fastbp.mlp import MLP

__all__ = ["Checkpoints", "NetworkFit", "fit", "step"]

Array = NDArray[Any]


def fit(model: MLP, X: Any, y: Any, ranks: Ranks | None, **options: Any) -> History:
    """`MLP.fit`, with its options."""
    if ranks is None:
        return _train(model, check(model, X, y, None, **options), None)
    from fastbp.distributed.start import agree

    with ranks.training():
        with ranks.together():
            ranks.check()
            request = check(model, X, y, ranks, **options)
        agree(ranks, model, request)
        return _train(model, request, ranks)


def _train(model: MLP, request: Request, ranks: Ranks | None) -> History:
    plan, data, held_out, own = request.plan, request.data, request.held_out, request.own
    holder = model._holder
    with holder.training():
        options = options_of(
            plan,
            rows=request.total,
            validation_rows=request.aside if held_out is None else len(held_out[0]),
            shuffle=request.shuffle,
            early_stopping=request.stopping is not None,
            sparse_update=request.sparse_update,
        )
        resumed, kept, kept_data = None, request.kept, {}
        if request.checkpoint is not None or request.resume is not None:
            kept_data = checkpoints.fingerprints(data, held_out)
            if own is not None and ranks is not None:
                kept_data = _of_all(ranks.gather(kept_data))
        generator = model._generator
        if (resume := request.resume) is not None:
            kept, resumed = on_root(
                ranks,
                lambda: checkpoints.read(
                    resume,
                    saving.describe(plan),
                    options,
                    kept_data,
                    plan.optimizer.slots,
                    request.steps,
                ),
            )
            with together(ranks):
                check_epochs(request.epochs, resumed.history, resume)
            plan = replace(plan, seed=resumed.seed)
            generator = checkpoints.make_generator(resumed.generator_at_start)
        at_start = generator.bit_generator.state
        with together(ranks):
            if request.checkpoint is not None:
                checkpoints.make_generator(at_start)  # one that a file cannot hold fails here
            rows = np.arange(request.total)
            if request.aside:
                rows, held_out = set_aside(
                    data, request.aside, generator if request.shuffle else None
                )
            weight = data[2] if own is None else own.weight
            if weight is not None:
                _inputs.check_weight_sum("sample_weight", weight[rows])

        with holder.lock:
            rows_plan = replace(request.rows_plan, seed=plan.seed)
            if ranks is not None and ranks.sync:  # each drops units of its own
                rows_plan = replace(rows_plan, seed=(plan.seed + ranks.rank) % 2**64)
            engine = holder.use(rows_plan, parameters=kept, fresh=True)
            model._plan = plan
            if ranks is not None:
                ranks.warn_of(engine)
            engine.keep()
            if resumed is not None:
                with holder.changing():
                    engine.set_optimizer_state(resumed.step, resumed.slots)
                    holder.steps = resumed.step
                model._generator = checkpoints.make_generator(resumed.generator)
        score = "" if held_out is None else scores.of_link(plan.loss.link).name
        model.history = History(score_name=score) if resumed is None else resumed.history
        network = NetworkFit(
            model=model,
            plan=rows_plan,
            data=data,
            rows=rows,
            held_out=held_out,
            learning_rate=request.learning_rate,
            history=model.history,
            epochs=request.epochs,
            stopping=request.stopping,
            shuffle=request.shuffle,
            progress=request.progress,
            callbacks=request.callbacks,
            checkpoints=None
            if request.checkpoint is None
            else Checkpoints(
                request.checkpoint, request.checkpoint_every, options, kept_data, at_start
            ),
            best=None if resumed is None else resumed.best,
            ranks=ranks,
            own=own,
        )
        run(network)
        if network.best is not None:
            holder.parameters = network.best
    return model.history


def _of_all(each: list[dict[str, str | None]]) -> dict[str, str | None]:
    """The fingerprints of rows of which each rank has some."""
    return {
        name: None if of_root is None else " ".join(str(found[name]) for found in each)
        for name, of_root in each[0].items()
    }


def check_epochs(epochs: int, done: History, path: str | os.PathLike[str]) -> None:
    """Raise ValueError if a checkpoint has more epochs behind it than are asked for."""
    if done.epochs > epochs:
        raise ValueError(
            f"epochs must be ≥ the {done.epochs} of the checkpoint {os.fspath(path)!r}, got {epochs}"
        )


def set_aside(
    data: Data, count: int, generator: np.random.Generator | None
) -> tuple[NDArray[np.int64], Data]:
    """The rows to train on, and those for validation: drawn at random, or (None) the last ones."""
    n = len(data[0])
    split = np.arange(n) if generator is None else generator.permutation(n)
    rows, aside = split[: n - count], split[n - count :]
    X, y, weight = (None if a is None else a[aside] for a in data)
    _inputs.check_weight_sum("sample_weight of the rows set aside for validation", weight)
    return rows, cast(Data, (X, y, weight))


@dataclass
class Checkpoints:
    """Where a fit writes its state, and what of it does not change on the way.

    Attributes
    ----------
    path : path-like
    every : int
        Epochs from one to the next; there is one at the end in any case.
    options, data : dict
        As in `fastbp.checkpoint.Training`.
    generator_at_start : dict
    """

    path: str | os.PathLike[str]
    every: int
    options: dict[str, Any]
    data: dict[str, str | None]
    generator_at_start: Any


def options_of(plan: Plan, *, sparse_update: str, **more: Any) -> dict[str, Any]:
    """What has to be the same in a fit that goes on from a checkpoint."""
    options = more | {
        "optimizer": repr(plan.optimizer),
        "batch_size": plan.batch_size,
        "clip_norm": plan.clip_norm,
        "penalty_in_sum": plan.penalty_in_sum,
    }
    if sparse_update != "exact":  # which earlier checkpoints do not name
        options["sparse_update"] = sparse_update
    return options


@dataclass
class NetworkFit:
    """A `fastbp.training.Fit` of an `MLP`.

    Attributes
    ----------
    model : MLP
    plan : Plan
    data : tuple
        X, y, sample_weight as the engine takes them.
    rows : ndarray of int
        Of them, those to train on.
    held_out : tuple or None
        The same for validation.
    learning_rate : Schedule, callable or ReduceOnPlateau
    """

    model: MLP
    plan: Plan
    data: Data
    rows: Order
    held_out: Data | None
    learning_rate: Rate
    history: History
    epochs: int
    stopping: Stopping | None
    shuffle: bool
    progress: bool
    callbacks: list[Callable[..., object]]
    checkpoints: Checkpoints | None
    best: list[Array] | None = None  # parameters of the best epoch, where training may stop for it
    ranks: Ranks | None = None
    own: OwnRows | None = None  # where each rank has some rows
    before: list[Array] = field(init=False, default_factory=list)  # the first one
    rate_of_plateau: schedules.Plateau | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if isinstance(self.learning_rate, schedules.ReduceOnPlateau):
            self.rate_of_plateau = schedules.Plateau(self.learning_rate)
        for value in self.values():  # of a training that goes on
            if self.rate_of_plateau is not None:
                self.rate_of_plateau.see(value)
            if self.stopping is not None:
                self.stopping.see(value)
        self.history.stopped = "epochs" if self.history.epochs >= self.epochs else ""
        if self.stopping is not None and self.stopping.over:
            self.history.stopped = "early_stopping"

    def values(self) -> list[float]:
        """What stopping goes by, epoch by epoch."""
        return self.history.loss if self.held_out is None else self.history.validation_loss

    def rates(self) -> Floats:
        """Of the next epoch's steps."""
        steps = -(-len(self.rows) // self.plan.batch_size)
        if self.rate_of_plateau is not None:
            return np.full(steps, self.rate_of_plateau.rate)
        assert callable(self.learning_rate)
        return schedules.rates(self.learning_rate, self.history.epochs * steps, steps)

    def train(self) -> None:
        model, history = self.model, self.history
        if self.stopping is not None and self.best is None:
            self.before = model.parameters
        weight = self.data[2]
        if self.own is not None:
            order = self.own.order(model._generator if self.shuffle else None)
            weight = self.own.weight
        else:
            order = model._generator.permutation(self.rows) if self.shuffle else self.rows
        rates = self.rates()
        where = f"epoch {history.epochs + 1} of {self.epochs}"
        epoch = step(
            model._holder,
            self.plan,
            self.data,
            order,
            rates,
            where,
            epochs_by(self.ranks, self.own),
        )
        history.loss.append(mean_loss(epoch.losses, self.plan.batch_size, order, weight))
        history.learning_rate.append(float(rates[-1]))
        history.seconds.append(epoch.seconds)
        history.samples_per_second.append(len(order) / epoch.seconds)

    def validate(self) -> float:
        if self.held_out is not None:
            history, holder = self.history, self.model._holder
            loss, score = on_root(self.ranks, self._measure)
            history.validation_loss.append(loss)
            history.validation_score.append(score)
            if self.stopping is not None and self.best is None and not np.isfinite(loss):
                with holder.lock:
                    holder.use(self.plan, parameters=self.before, fresh=True)
                where = f"epoch {history.epochs} of {self.epochs}"
                raise diverged(where, f"the validation loss became {loss}")
        value = self.values()[-1]
        if self.rate_of_plateau is not None:
            self.rate_of_plateau.see(value)
        return value

    def _measure(self) -> tuple[float, float]:
        """Loss and score on the rows for validation."""
        assert self.held_out is not None
        X, y, weight = self.held_out
        holder = self.model._holder
        with holder.lock:
            loss = passes.loss_of(holder.use(self.plan), self.held_out)
        score = scores.of_link(self.plan.loss.link).function
        return loss, score(self.model.predict(X), y, weight)

    def improved(self) -> None:
        self.history.best_epoch = self.history.epochs - 1
        self.best = self.model.parameters

    def plateau(self) -> bool:
        return True

    def report(self) -> None:
        if self.progress:
            print(self.history.line(self.epochs), flush=True)

    def call_back(self) -> bool:
        holder = self.model._holder
        stop, parameters = on_root(self.ranks, self._call_all)
        if parameters is not None:  # one of them may have set some
            with holder.lock:
                if self.ranks is not None and self.ranks.rank > 0:
                    holder.parameters = parameters
                holder.use(self.plan).keep()
        return stop

    def _call_all(self) -> tuple[bool, list[Array] | None]:
        """Whether a callback asks to stop, and the parameters that there are then, if there is one."""
        if not self.callbacks:
            return False, None
        if wants_gradient_norm(self.callbacks):
            self.history.add_gradient_norm(self.gradient_norm())
        stop = call_all(self.callbacks, self.history, self.model, self.history)
        return stop, [] if self.ranks is None else self.model.parameters

    def gradient_norm(self) -> float:
        """Of the objective over the rows to train on."""
        X, y, weight = self.data
        if len(self.rows) < len(X):  # the others count for nothing, and X need not be copied
            taken = np.zeros(len(X), X.dtype)
            taken[self.rows] = 1 if weight is None else weight[self.rows]
            weight = taken
        out = [np.zeros(shape, self.plan.dtype) for shape in self.plan.shapes]
        with self.model._holder.lock:
            passes.gradient_of(self.model._holder.use(self.plan), (X, y, weight), out)
        return norm(out)

    def save(self) -> None:
        file, history = self.checkpoints, self.history
        if file is not None and (history.stopped or history.epochs % file.every == 0):
            on_root(self.ranks, lambda: self._write(file))

    def _write(self, file: Checkpoints) -> None:
        history = self.history
        training = checkpoints.Training(
            file.options,
            self.plan.seed,
            file.generator_at_start,
            self.model._generator.bit_generator.state,
            *self.model._holder.state,
            history,
            self.best,
            file.data,
        )
        checkpoints.write(file.path, saving.describe(self.plan), self.model.parameters, training)


def step(
    holder: Holder,
    plan: Plan,
    data: Data,
    order: Order,
    rates: Floats,
    where: str,
    run_epoch: Callable[[Engine, Data, Order, Floats], Epoch] = run_epoch,
) -> Epoch:
    """Train one epoch from weights that the engine keeps a copy of; or have those again.

    Raises
    ------
    DivergenceError
        If a loss or a weight became NaN or infinite.
    """
    with holder.lock:
        engine = holder.use(plan)
        try:
            with holder.changing():
                epoch = passes.epoch_of(engine, data, order, rates, run_epoch)
                whole = epoch.applied == len(rates)
                if whole and engine.keep():
                    holder.steps += epoch.applied
                    return epoch
        except BaseException:
            # After an interrupt the engine is at the end of a step: it stays, unless that diverged.
            if engine.keep():
                holder.steps = engine.get_optimizer_state()[0]
            else:
                _go_back(holder, engine)
            raise
        _go_back(holder, engine)
    raise diverged(
        where,
        "a weight became NaN or infinite"
        if whole
        else f"the loss became {epoch.losses[epoch.applied]} at step {epoch.applied + 1} of "
        f"{len(rates)}",
    )


def _go_back(holder: Holder, engine: Engine) -> None:
    with holder.changing():
        engine.restore()
        holder.reset()


def diverged(where: str, what: str) -> DivergenceError:
    """The error, with what helps."""
    return DivergenceError(
        f"{where}: {what}; the weights from before it are kept. Try a smaller learning_rate, "
        "clip_norm, or scaling the data to about unit size"
    )
