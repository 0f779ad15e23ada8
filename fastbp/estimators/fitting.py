"""What a fit by a stochastic solver is besides the loop: order, records, validation, messages."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastbp import scores
from fastbp._inputs import all_finite
from fastbp.engines import Engine
from fastbp.estimators.parallel import let_interrupt
from fastbp.estimators.parameters import join, sizes_of, split
from fastbp.estimators.solver import Solver
from fastbp.history import History
from fastbp.plan import Plan
from fastbp.rows import Data, epoch_of, gradient_of, loss_of, outputs_of
from fastbp.stopping import Stopping
from fastbp.training import (
    Order,
    call_all,
    epochs_by,
    mean_loss,
    norm,
    on_root,
    wants_gradient_norm,
)

if TYPE_CHECKING:
    from fastbp.distributed.ranks import Ranks

Array = NDArray[Any]


class EstimatorFit:
    """A `fastbp.training.Fit` of an estimator, which has the records as attributes, as in scikit-learn.

    Parameters
    ----------
    estimator : BaseMLP
    solver : Solver
    plan : Plan
        Of the solver's engine.
    data, validation : tuple
        X, y, sample_weight as the engine takes them, but for an X that is sparse; validation may be
        None.
    order : ndarray of int
        The rows to train on; shuffled in place.
    random_state : RandomState
    epochs : int
        At most.
    callbacks : list of callable
    ranks : Ranks or None
        Who else trains this network; callbacks and messages are then rank 0's.
    """

    def __init__(
        self,
        estimator: Any,
        solver: Solver,
        plan: Plan,
        data: Data,
        validation: Data | None,
        order: Order,
        random_state: Any,
        epochs: int,
        callbacks: list[Callable[..., object]],
        ranks: Ranks | None = None,
    ) -> None:
        self.model = self._estimator = estimator
        self._ranks = ranks
        self.tells = ranks is None or ranks.rank == 0
        self._solver = solver
        self._plan = plan
        self._data = data
        self._validation = validation
        self._order = order
        self._random_state = random_state
        self.callbacks = callbacks
        self.best: list[Array] | None = None  # parameters of the best validation score
        before = [math.nan] * len(estimator.loss_curve_)  # of a warm start, nobody kept these
        self.history = History(
            loss=estimator.loss_curve_,
            learning_rate=before.copy(),
            seconds=before.copy(),
            samples_per_second=before.copy(),
        )
        self.epochs = len(estimator.loss_curve_) + epochs
        by_loss = validation is None
        if validation is not None:
            self.history.score_name = scores.of_link(plan.loss.link).name
            self.history.validation_score = estimator.validation_scores_
            self.history.validation_loss = estimator.validation_loss_curve_
        self.stopping: Stopping | None = Stopping(
            estimator.n_iter_no_change + 1,
            estimator.tol,
            ties=True,
            lowest=estimator.best_loss_ if by_loss else -estimator.best_validation_score_,
            waited=estimator._no_improvement_count,
        )

    def _engine(self) -> Engine:
        """The engine, for who has the holder's lock."""
        return self._solver.holder.use(self._plan)

    def train(self) -> None:
        """Train one epoch; where it diverges everything is NaN from there on, and it is the last."""
        let_interrupt()
        estimator, plan, order, n = self._estimator, self._plan, self._order, len(self._order)
        if estimator.shuffle:
            self._random_state.shuffle(order)
        rates = self._solver.rates(-(-n // plan.batch_size))
        holder = self._solver.holder
        with holder.lock, holder.changing():
            engine = self._engine()
            epoch = epoch_of(engine, self._data, order, rates, epochs_by(self._ranks))
            if epoch.applied < len(rates):  # scikit-learn goes on; with what is not finite
                engine.set_parameters([np.full(s, np.nan, plan.dtype) for s in plan.shapes])
        steps = epoch.losses
        if estimator.n_outputs_ > 1 and plan.loss.name == "squared_error":
            # scikit-learn averages the squared errors over the outputs, but not their gradient, nor
            # the penalty: the two must be told apart.
            steps = (steps - epoch.penalties) / estimator.n_outputs_ + epoch.penalties
        loss = mean_loss(steps, plan.batch_size, order, None)
        estimator.loss_ = loss
        estimator.n_iter_ += 1
        estimator.t_ += n
        self.history.loss.append(loss)
        self.history.learning_rate.append(float(rates[-1]))
        self.history.seconds.append(epoch.seconds)
        self.history.samples_per_second.append(n / epoch.seconds)
        if estimator.verbose and self.tells:
            print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        if estimator.progress and self.tells:
            share = estimator.n_iter_ / estimator.max_iter
            bar = "#" * round(30 * share)
            line = f"\r[{bar:30}] epoch {estimator.n_iter_}/{estimator.max_iter}, loss {loss:.6f}"
            print(line, end="", file=sys.stderr, flush=True)
        if not (np.isfinite(loss) or all(map(all_finite, holder.parameters))):
            self.history.stopped = "diverged"

    def validate(self) -> float:
        """Minus the score, or the loss where there is no validation."""
        estimator = self._estimator
        self._solver.epoch_ends(estimator.t_)
        if self._validation is None:
            return self.history.loss[-1]
        X, y, weight = self._validation
        with self._solver.holder.lock:
            engine = self._engine()
            outputs = outputs_of(engine, X)
            self.history.validation_loss.append(loss_of(engine, self._validation))
        score = estimator._score_outputs(outputs, y, weight)
        self.history.validation_score.append(score)
        if estimator.verbose and self.tells:
            print(f"Validation score: {score:f}")
        return -float(score)

    def improved(self) -> None:
        """Keep the parameters of the best score."""
        if self._validation is not None:
            self.best = self._solver.holder.parameters

    def plateau(self) -> bool:
        """Stop, or lower an adaptive rate."""
        estimator = self._estimator
        stops, what_now = self._solver.plateau()
        if estimator.verbose and self.tells:
            what = "Training loss" if self._validation is None else "Validation score"
            print(
                f"{what} did not improve more than tol={estimator.tol:f} for "
                f"{estimator.n_iter_no_change} consecutive epochs. {what_now}"
            )
        if not stops and self.stopping is not None:
            self.stopping.waited = 0
        return stops

    def report(self) -> None:
        """Show in the estimator what stopping goes by."""
        if self.stopping is not None:
            self._estimator._no_improvement_count = self.stopping.waited
            if self._validation is None:
                self._estimator.best_loss_ = self.stopping.lowest
            else:
                self._estimator.best_validation_score_ = -self.stopping.lowest

    def call_back(self) -> bool:
        """Run the callbacks on the estimator, whose coefficients they may change."""
        stop, parameters = on_root(self._ranks, self._call_all)
        if parameters is not None:
            self._solver.holder.parameters = parameters
        if stop:
            self.history.stopped = "callback"
        return stop

    def _call_all(self) -> tuple[bool, list[Array] | None]:
        """Whether a callback asks to stop, and the parameters that there are then, if there is one."""
        if not self.callbacks:
            return False, None
        estimator = self._estimator
        estimator.coefs_, estimator.intercepts_ = split(self._solver.holder.parameters)
        if wants_gradient_norm(self.callbacks):
            self.history.add_gradient_norm(self._gradient_norm())
        stop = call_all(self.callbacks, self.history, estimator)
        sizes_of(estimator.coefs_, estimator.intercepts_)
        return stop, join(estimator.coefs_, estimator.intercepts_, self._plan.dtype)

    def _gradient_norm(self) -> float:
        """Of the objective over the rows to train on."""
        X, y, weight = self._data
        X, y = X[self._order], y[self._order]
        weight = None if weight is None else weight[self._order]
        out = [np.zeros(shape, self._plan.dtype) for shape in self._plan.shapes]
        with self._solver.holder.lock:
            gradient_of(self._engine(), (X, y, weight), out)
        return norm(out)

    def save(self) -> None:
        """Nothing: estimators have no checkpoints."""
