"""Weights of the first layer as images: what each unit looks for."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import check_integer
from fastbp.plots.common import axes, network_of

__all__ = ["WeightsDisplay"]


class WeightsDisplay:
    """The weights that come into each unit of the first layer, as an image of the inputs' shape.

    Make one with `from_estimator`.

    Parameters
    ----------
    weights : ndarray of shape (units, height, width)

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage
        All units in one mosaic.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.plots import WeightsDisplay
    >>> model = fastbp.MLP([64, 32, 10], seed=0)
    >>> WeightsDisplay.from_estimator(model, most=16, plot=False).weights.shape
    (16, 8, 8)
    """

    def __init__(self, weights: NDArray[Any]) -> None:
        self.weights = weights

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        shape: tuple[int, int] | None = None,
        most: int = 64,
        ax: Any = None,
        plot: bool = True,
    ) -> Self:
        """Take the weights of a network and draw them.

        Parameters
        ----------
        estimator : MLP, MLPClassifier or MLPRegressor
        shape : (int, int) or None
            Height and width of the image that the inputs are; None: a square.
        most : int
            How many units: those with the largest weights (by Euclidean norm), the largest first.
        ax
            As in `plot`.
        plot : bool
            Whether to draw.

        Returns
        -------
        WeightsDisplay

        Raises
        ------
        TypeError, ValueError
            If it is no network, or its inputs do not fill such an image.
        """
        check_integer("most", most, minimum=1)
        W = network_of(estimator).weights[0]
        if shape is None:
            side = math.isqrt(W.shape[1])
            shape = (side, side)
        if shape[0] * shape[1] != W.shape[1]:
            raise ValueError(
                f"shape must be (height, width) of {W.shape[1]} inputs, got {shape[0]} × {shape[1]}"
            )
        largest = np.argsort(-np.square(W).sum(axis=1), kind="stable")[:most]
        display = cls(W[largest].reshape(-1, *shape))
        return display.plot(ax) if plot else display

    def plot(self, ax: Any = None, *, cmap: str = "RdBu") -> Self:
        """Draw; white is 0, and the ends of `cmap` are the largest weight, by size, with either sign.

        Parameters
        ----------
        ax : matplotlib Axes or None
            None: of a new figure.
        cmap : str
            A colour map of matplotlib that diverges.

        Returns
        -------
        WeightsDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.ax_ = axes(ax, "WeightsDisplay")
        self.figure_ = self.ax_.figure
        units, height, width = self.weights.shape
        across = math.ceil(math.sqrt(units * height / width))
        down = -(-units // across)
        mosaic = np.full((down * (height + 1) - 1, across * (width + 1) - 1), np.nan)
        for unit, image in enumerate(self.weights):
            top, left = unit // across * (height + 1), unit % across * (width + 1)
            mosaic[top : top + height, left : left + width] = image
        largest = float(np.abs(self.weights).max()) or 1.0
        self.image_ = self.ax_.imshow(mosaic, cmap=cmap, vmin=-largest, vmax=largest)
        self.ax_.set_axis_off()
        self.figure_.colorbar(self.image_, ax=self.ax_, label="weight", shrink=0.8)
        return self
