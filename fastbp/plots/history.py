"""Curves of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from fastbp.history import History
from fastbp.plots.common import axes

__all__ = ["HistoryDisplay"]


class HistoryDisplay:
    """Loss, score, learning rate or gradient's norm, epoch by epoch.

    Make one with `from_history` or `from_estimator`.

    Parameters
    ----------
    history : History

    Attributes
    ----------
    best_epoch : int or None
        Index of the epoch with the lowest validation loss (without one, the highest score).
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        By the names of `History`'s lists.
    best_ : matplotlib Line2D or None
        The mark of the best epoch.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.data import load_digits
    >>> from fastbp.plots import HistoryDisplay
    >>> X, y = load_digits()
    >>> history = fastbp.MLP([64, 10], seed=0).fit(X, y, epochs=5, validation=0.2)
    >>> display = HistoryDisplay.from_history(history)
    >>> display.best_epoch
    4
    >>> display.plot().ax_.get_xlabel()  # doctest: +SKIP
    'epoch'
    """

    KINDS = ("loss", "score", "learning_rate", "gradient_norm")

    def __init__(self, history: History) -> None:
        if not history.epochs:
            raise ValueError("the history has no epochs")
        self.history = history
        self.best_epoch: int | None = None
        for values, sign in ((history.validation_loss, 1), (history.validation_score, -1)):
            signed = sign * np.asarray(values)
            if self.best_epoch is None and np.isfinite(signed).any():
                self.best_epoch = int(np.nanargmin(np.where(np.isfinite(signed), signed, np.nan)))

    @classmethod
    def from_history(
        cls, history: History, *, kind: str = "loss", ax: Any = None, plot: bool = False
    ) -> Self:
        """Make a display of a history; with `plot` or `ax`, draw it.

        Parameters
        ----------
        history : History
        kind, ax
            As in `plot`.
        plot : bool

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        ValueError
            If it has no epochs, or not what `kind` names.
        """
        display = cls(history)
        return display.plot(kind=kind, ax=ax) if plot or ax is not None else display

    @classmethod
    def from_estimator(cls, estimator: Any, *, kind: str = "loss", ax: Any = None) -> Self:
        """Draw the curves of a fitted `MLP`, `MLPClassifier` or `MLPRegressor`, scikit-learn's too.

        Parameters
        ----------
        estimator
        kind, ax
            As in `plot`.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        ValueError
            If it has not been fitted, or has no curves (as of solver "lbfgs").
        """
        history = getattr(estimator, "history", None)
        if history is None:
            loss: Sequence[float] = getattr(estimator, "loss_curve_", None) or ()
            if not loss:
                raise ValueError(
                    f"{type(estimator).__name__} has no epochs: it is not fitted, or by a solver "
                    "that has none"
                )
            history = History(
                loss=list(loss),
                validation_loss=list(getattr(estimator, "validation_loss_curve_", None) or ()),
                validation_score=list(getattr(estimator, "validation_scores_", None) or ()),
                score_name="accuracy" if hasattr(estimator, "classes_") else "R2",
            )
        return cls(history).plot(kind=kind, ax=ax)

    def plot(self, ax: Any = None, *, kind: str = "loss") -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None
            None: of a new figure.
        kind : {"loss", "score", "learning_rate", "gradient_norm"}
            Loss: of training and validation, logarithmic where it spans much; score: of validation.

        Returns
        -------
        HistoryDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such kind, or the history does not have it.
        """
        if kind not in self.KINDS:
            raise ValueError(f"kind must be one of {', '.join(self.KINDS)}, got {kind!r}")
        names = {"loss": ("loss", "validation_loss"), "score": ("validation_score",)}
        curves = {name: getattr(self.history, name) for name in names.get(kind, (kind,))}
        curves = {name: values for name, values in curves.items() if values}
        if not curves:
            raise ValueError(f"the history has no {kind}")
        self.ax_ = axes(ax, "HistoryDisplay")
        self.figure_ = self.ax_.figure
        epochs = np.arange(1, self.history.epochs + 1)
        labels = {"loss": "training", "validation_loss": "validation"}
        labels["validation_score"] = f"validation {self.history.score_name}".strip()
        self.lines_ = {
            name: self.ax_.plot(epochs, values, label=labels.get(name, name.replace("_", " ")))[0]
            for name, values in curves.items()
        }
        self.best_ = None
        if self.best_epoch is not None and kind in ("loss", "score"):
            label = f"best epoch: {self.best_epoch + 1}"
            style = {"color": "0.5", "linestyle": "--", "linewidth": 1}
            self.best_ = self.ax_.axvline(self.best_epoch + 1, label=label, **style)
        finite = np.concatenate(
            [np.asarray(values)[np.isfinite(values)] for values in curves.values()]
        )
        if (
            kind != "score"
            and len(finite)
            and finite.min() > 0
            and finite.max() > 20 * finite.min()
        ):
            self.ax_.set_yscale("log")
        self.ax_.set(xlabel="epoch", ylabel=kind.replace("_", " "))
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        if len(self.lines_) + (self.best_ is not None) > 1:
            self.ax_.legend()
        return self
