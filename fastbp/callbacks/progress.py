"""A bar, or lines, while a network trains."""

from __future__ import annotations

from typing import Any

from fastbp.command.progress import KINDS, Meter
from fastbp.exchange.optional import need
from fastbp.history import History
from fastbp.training import Callback

__all__ = ["Progress"]


class Progress(Callback):
    """Show how far training has come, with the losses of the last epoch.

    Parameters
    ----------
    kind : {"tqdm", "rich", "plain"} or None
        What shows it. None: the first of tqdm and rich that is installed, in a terminal or a notebook;
        elsewhere, and without both, a plain line on standard error every few seconds.

    Raises
    ------
    ValueError
        If there is no such kind.
    ImportError
        If the library it names is not installed.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.callbacks import Progress
    >>> model = fastbp.MLP([1, 2], seed=0)
    >>> history = model.fit([[1], [2]], [0, 1], callbacks=[Progress("plain")])
    """

    def __init__(self, kind: str | None = None) -> None:
        if kind is not None and kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)} or None, got {kind!r}")
        if kind not in (None, "plain"):
            need(kind, f"Progress({kind!r})", extra="callbacks")
        self.kind = kind
        self._meter: Meter | None = None

    def begin(self, model: Any, history: History, epochs: int) -> None:
        """Begin the bar, at the epochs there are."""
        self._epochs = epochs
        self._meter = Meter("training", unit="epoch", scale=False, kind=self.kind)
        self._meter("", history.epochs, epochs)

    def __call__(self, model: Any, history: History) -> None:
        """Move it."""
        assert self._meter is not None
        note = history.line(self._epochs).partition("  ")[2]
        self._meter("", history.epochs, self._epochs, note)

    def end(self, model: Any, history: History) -> None:
        """Take it away."""
        if self._meter is not None:
            self._meter.close()
            self._meter = None
