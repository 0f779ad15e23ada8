"""Which inputs matter: attributions, averaged over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp._validation import check_integer
from fastbp.exchange.attributions import importance
from fastbp.plots.common import axes, network_of

__all__ = ["AttributionsDisplay"]


class AttributionsDisplay:
    """Bars of what each input adds to, or takes from, the predictions: the mean size of its attribution.

    Make one with `from_estimator`. Of a classifier it is the likeliest class's output, before softmax.

    Parameters
    ----------
    values : ndarray of shape (inputs,)
    names : sequence of str

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.plots import AttributionsDisplay
    >>> model = fastbp.MLP([2, 1], loss="squared_error", weight_init=[[[2, 0.5, 0]]])
    >>> X = [[1, 0], [-1, 2]]
    >>> AttributionsDisplay.from_estimator(model, X, plot=False).values
    array([2. , 0.5])
    """

    def __init__(self, values: NDArray[np.float64], names: Sequence[str]) -> None:
        self.values, self.names = values, names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        names: Sequence[str] | None = None,
        baseline: ArrayLike | None = None,
        most: int = 10,
        ax: Any = None,
        plot: bool = True,
    ) -> Self:
        """Take the attributions of rows, and draw the largest.

        Parameters
        ----------
        estimator : MLP, MLPClassifier, MLPRegressor, or a model of a table (`fastbp.load`)
        X : array_like of shape (n, n_0); for a model of a table, what its `predict` takes
            Rows; a few hundred are enough.
        names : sequence of str or None
            Of the inputs; None: a frame's columns, or x0, x1, …; of a table, its columns.
        baseline : array_like of shape (n_0,) or None
            What attributions are taken from; None: the mean of the rows.
        most, ax
            As in `plot`.
        plot : bool
            Whether to draw.

        Returns
        -------
        AttributionsDisplay

        Raises
        ------
        TypeError, ValueError
            If it is no network, or X, `names` or `baseline` do not fit it.
        """
        network = network_of(estimator)
        starts = None
        if hasattr(estimator, "encoding"):
            from fastbp.tables.reading import Options

            columns = estimator.encoding.columns
            starts = np.cumsum([0, *(len(c.inputs) for c in columns[:-1])]).tolist()
            names = [column.name for column in columns] if names is None else names
            X = np.concatenate([part for _, _, part in estimator.encoded(X, Options())])
        elif names is None and hasattr(X, "columns"):
            names = [str(name) for name in X.columns]
        rows = np.asarray(X, network.plan.dtype)
        start = None if baseline is None else np.asarray(baseline, network.plan.dtype)
        values = importance(network, rows, baseline=start, starts=starts)
        names = [f"x{i}" for i in range(len(values))] if names is None else list(names)
        if len(names) != len(values):
            raise ValueError(f"names must be {len(values)}, one for each input, got {len(names)}")
        display = cls(values, names)
        return display.plot(ax, most=most) if plot else display

    def plot(self, ax: Any = None, *, most: int = 10) -> Self:
        """Draw the largest of them, the largest on top.

        Parameters
        ----------
        ax : matplotlib Axes or None
            None: of a new figure.
        most : int
            How many.

        Returns
        -------
        AttributionsDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_integer("most", most, minimum=1)
        self.ax_ = axes(ax, "AttributionsDisplay")
        self.figure_ = self.ax_.figure
        largest = np.argsort(-self.values, kind="stable")[:most][::-1]
        self.bars_ = self.ax_.barh([self.names[i] for i in largest], self.values[largest])
        self.ax_.set_xlabel("mean |attribution|")
        return self
