"""Pruning of a search's trials: Optuna."""

from __future__ import annotations

from typing import Any

from fastbp.callbacks.monitor import Monitor
from fastbp.exchange.optional import need
from fastbp.history import History
from fastbp.training import Callback

__all__ = ["OptunaPruning"]


class OptunaPruning(Callback):
    """Report each epoch to a trial of Optuna, and end the trial where its pruner says so.

    Then training ends with ``optuna.TrialPruned``, which Optuna expects of an objective; the model has
    the weights of the last epoch.

    Parameters
    ----------
    trial : optuna.trial.Trial
    monitor : {None, "loss", "validation_loss", "validation_score", "gradient_norm"}
        What is reported. None: the validation loss, or the loss where there is no validation.

    Raises
    ------
    TypeError
        If `trial` is no trial.
    ValueError
        If `monitor` is no such name, or a loss where the study maximizes, or a score where it
        minimizes.
    optuna.TrialPruned
        In training.

    Examples
    --------
    ::

        def objective(trial):
            width = trial.suggest_int("width", 8, 256, log=True)
            model = fastbp.MLP([64, width, 10], seed=0)
            pruning = OptunaPruning(trial)
            return min(model.fit(X, y, validation=0.2, callbacks=[pruning]).validation_loss)
    """

    def __init__(self, trial: Any, monitor: str | None = None) -> None:
        self.trial, self.monitor = trial, Monitor(monitor)
        self.gradient_norm = monitor == "gradient_norm"
        if not (hasattr(trial, "report") and hasattr(trial, "study")):
            raise TypeError(f"trial must be a trial of Optuna, got {type(trial).__name__}")
        direction = trial.study.direction.name
        if direction != ("MAXIMIZE" if self.monitor.is_score else "MINIMIZE"):
            raise ValueError(
                f"monitor {monitor!r} does not go with a study that is to {direction.lower()}: "
                "losses are minimized, 'validation_score' is maximized"
            )

    def __call__(self, model: Any, history: History) -> None:
        """Report the epoch."""
        self.trial.report(self.monitor.values(history)[-1], history.epochs)
        if self.trial.should_prune():
            optuna = need("optuna", "OptunaPruning", extra="callbacks")
            raise optuna.TrialPruned(f"after epoch {history.epochs}")
