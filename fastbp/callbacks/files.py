"""Files written in the course of training: a table of the epochs, and models."""

from __future__ import annotations

import csv
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

from fastbp._options import check_output
from fastbp._validation import check_integer
from fastbp.callbacks.monitor import Monitor
from fastbp.history import History
from fastbp.stopping import Stopping
from fastbp.training import Callback

__all__ = ["CSVLog", "ModelCheckpoint"]

_LISTS = [f.name for f in fields(History) if f.default_factory is list]


class CSVLog(Callback):
    """Write a line for each epoch to a CSV file.

    The columns are those of `fastbp.History.row`; what an epoch does not have is empty. A training that
    is resumed writes the epochs before it, too, so the file is whole whatever became of the last one.

    Parameters
    ----------
    path : str or path-like
        An existing file is replaced.
    gradient_norm : bool
        Measure the gradient's norm as well.

    Raises
    ------
    TypeError, ValueError
        If `path` is no path, or no file can be there.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp
    >>> from fastbp.callbacks import CSVLog
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "log.csv")
    ...     model = fastbp.MLP([1, 2], seed=0)
    ...     history = model.fit([[1], [2]], [0, 1], epochs=2, callbacks=[CSVLog(path)])
    ...     lines = open(path).read().splitlines()
    >>> len(lines), lines[0][:23]
    (3, 'epoch,loss,validation_l')
    """

    def __init__(self, path: str | os.PathLike[str], *, gradient_norm: bool = False) -> None:
        check_output("path", path)
        self.path, self.gradient_norm = path, gradient_norm
        self._file: TextIO | None = None
        self._writer: Any = None

    def begin(self, model: Any, history: History, epochs: int) -> None:
        """Open the file; write what there is."""
        self._file = open(self.path, "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._writer = csv.DictWriter(self._file, ["epoch", *_LISTS])
        self._writer.writeheader()
        for i in range(history.epochs):
            lists = {name: getattr(history, name) for name in _LISTS}
            row = {name: value[i] for name, value in lists.items() if len(value) > i}
            self._writer.writerow({"epoch": i + 1, **row})

    def __call__(self, model: Any, history: History) -> None:
        """Write the epoch, and have it on disk."""
        assert self._file is not None
        self._writer.writerow(history.row())
        self._file.flush()

    def end(self, model: Any, history: History) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = self._writer = None


class ModelCheckpoint(Callback):
    """Save the model after every epoch that is the best so far, or after every few epochs.

    What is saved is the model, for `fastbp.MLP.load`. To go on after a crash, with the optimizer's
    state, give `fastbp.MLP.fit` a `checkpoint` instead.

    Parameters
    ----------
    path : str or path-like
        ``{epoch}`` in it becomes the epoch's number, from 1. An existing file is replaced once the new
        one is complete and on disk.
    monitor : {None, "loss", "validation_loss", "validation_score", "gradient_norm"}
        What is best: the lowest of these, or the highest score. None: the validation loss, or the
        loss where there is no validation.
    every : int or None
        Save after every so many epochs, whatever the losses are.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind; in training, if the model has no `save` (estimators: pickle
        them), or if what `monitor` names is not measured.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp
    >>> from fastbp.callbacks import ModelCheckpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "epoch-{epoch}.safetensors")
    ...     model = fastbp.MLP([1, 2], seed=0)
    ...     history = model.fit(
    ...         [[1], [2]], [0, 1], epochs=4, callbacks=[ModelCheckpoint(path, every=2)]
    ...     )
    ...     sorted(os.listdir(folder))
    ['epoch-2.safetensors', 'epoch-4.safetensors']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        monitor: str | None = None,
        every: int | None = None,
    ) -> None:
        check_output("path", path)
        if every is not None:
            check_integer("every", every, minimum=1)
        self.path, self.every = path, every
        self.monitor = Monitor(monitor)
        self.gradient_norm = monitor == "gradient_norm"

    def begin(self, model: Any, history: History, epochs: int) -> None:
        """Look for what can be saved, and at the epochs there are."""
        if not hasattr(model, "save"):
            raise TypeError(
                f"ModelCheckpoint saves models of fastbp.MLP, not {type(model).__name__}; pickle or "
                "joblib keep an estimator"
            )
        self._lowest = Stopping(patience=1)
        for value in self.monitor.values(history) if history.epochs and not self.every else ():
            self._see(value)

    def __call__(self, model: Any, history: History) -> None:
        """Save, if it is time."""
        if self.every is not None:
            wanted = history.epochs % self.every == 0
        else:
            wanted = self._see(self.monitor.values(history)[-1])
        if wanted:
            folder, name = os.path.split(os.fspath(self.path))
            model.save(Path(folder) / name.replace("{epoch}", str(history.epochs)))

    def _see(self, value: float) -> bool:
        return self._lowest.see(-value if self.monitor.is_score else value)
