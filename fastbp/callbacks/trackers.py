"""Experiment trackers: TensorBoard, MLflow, Weights & Biases."""

from __future__ import annotations

import os
from typing import Any

from fastbp._options import check_path
from fastbp.exchange.optional import need
from fastbp.history import History
from fastbp.training import Callback

__all__ = ["MLflow", "TensorBoard", "WandB"]


def _told(model: Any, epochs: int) -> dict[str, Any]:
    """What a tracker is told of a training at its beginning."""
    if hasattr(model, "get_params"):
        simple = (str, int, float, bool, tuple, type(None))
        return {k: v for k, v in model.get_params().items() if isinstance(v, simple)}
    plan = model.plan
    return {
        "layer_sizes": list(plan.layer_sizes),
        "activations": [a.name for a in plan.activations],
        "loss": plan.loss.name,
        "optimizer": repr(plan.optimizer),
        "batch_size": plan.batch_size,
        "epochs": epochs,
        "l1": plan.l1,
        "l2": plan.l2,
        "dropout": list(plan.dropout),
        "dtype": plan.dtype,
    }


class TensorBoard(Callback):
    """Write scalars that TensorBoard shows; needs the package tensorboard, not TensorFlow.

    Parameters
    ----------
    folder : str or path-like
        The run's; ``tensorboard --logdir`` takes it, or the folder around several of them.
    gradient_norm : bool
        Measure the gradient's norm as well.

    Raises
    ------
    ImportError
        When training begins, if tensorboard is not installed.
    TypeError
        If `folder` is no path.

    Examples
    --------
    >>> from fastbp.callbacks import TensorBoard
    >>> log = TensorBoard("runs/first")  # model.fit(X, y, callbacks=[log])
    """

    def __init__(self, folder: str | os.PathLike[str], *, gradient_norm: bool = False) -> None:
        check_path("folder", folder)
        self.folder, self.gradient_norm = folder, gradient_norm
        self._writer: Any = None

    def begin(self, model: Any, history: History, epochs: int) -> None:
        """Open a file of events."""
        need("tensorboard", "TensorBoard", extra="callbacks")
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(os.fspath(self.folder))

    def __call__(self, model: Any, history: History) -> None:
        """Write the epoch's scalars."""
        import time

        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        row = history.row()
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "epoch"
        ]
        event = Event(wall_time=time.time(), step=history.epochs, summary=Summary(value=values))
        self._writer.add_event(event)

    def end(self, model: Any, history: History) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class MLflow(Callback):
    """Log to MLflow: the network and options as parameters, each epoch as metrics.

    Logs to the active run of MLflow; where there is none, to one of its own, which ends with the
    training.

    Parameters
    ----------
    run_name : str or None
        Of a run of its own.
    gradient_norm : bool
        Measure the gradient's norm as well.

    Raises
    ------
    ImportError
        When training begins, if mlflow (or mlflow-skinny) is not installed.

    Examples
    --------
    >>> from fastbp.callbacks import MLflow
    >>> log = MLflow("first")  # model.fit(X, y, callbacks=[log])
    """

    def __init__(self, run_name: str | None = None, *, gradient_norm: bool = False) -> None:
        self.run_name, self.gradient_norm = run_name, gradient_norm
        self._owns_run = False

    def begin(self, model: Any, history: History, epochs: int) -> None:
        """Start a run, unless there is one, and log parameters."""
        mlflow = need("mlflow", "MLflow", extra="callbacks")
        self._owns_run = mlflow.active_run() is None
        if self._owns_run:
            mlflow.start_run(run_name=self.run_name)
        mlflow.log_params(_told(model, epochs))

    def __call__(self, model: Any, history: History) -> None:
        """Log the epoch's metrics."""
        import mlflow

        row = history.row()
        mlflow.log_metrics({k: v for k, v in row.items() if k != "epoch"}, step=history.epochs)

    def end(self, model: Any, history: History) -> None:
        """End a run of its own, as failed where an exception ended the training."""
        if self._owns_run:
            import mlflow

            mlflow.end_run("FINISHED" if history.stopped else "FAILED")
            self._owns_run = False


class WandB(Callback):
    """Log to Weights & Biases: the network and options as config, each epoch as a step.

    Logs to the present run of wandb; where there is none, to one of its own, which ends with the
    training.

    Parameters
    ----------
    gradient_norm : bool
        Measure the gradient's norm as well.
    **init
        For ``wandb.init`` of a run of its own: `project`, `name`, ``mode="offline"``, …

    Raises
    ------
    ImportError
        When training begins, if wandb is not installed.

    Examples
    --------
    >>> from fastbp.callbacks import WandB
    >>> log = WandB(project="digits", mode="offline")  # model.fit(X, y, callbacks=[log])
    """

    def __init__(self, *, gradient_norm: bool = False, **init: Any) -> None:
        self.gradient_norm, self.init = gradient_norm, init
        self._owns_run = False

    def begin(self, model: Any, history: History, epochs: int) -> None:
        """Start a run, unless there is one."""
        wandb = need("wandb", "WandB", extra="callbacks")
        self._owns_run = wandb.run is None
        if self._owns_run:
            wandb.init(**self.init)
        wandb.config.update(_told(model, epochs))

    def __call__(self, model: Any, history: History) -> None:
        """Log the epoch."""
        import wandb

        wandb.log(history.row())

    def end(self, model: Any, history: History) -> None:
        """Finish a run of its own, with status 1 where an exception ended the training."""
        if self._owns_run:
            import wandb

            wandb.finish(0 if history.stopped else 1)
            self._owns_run = False
