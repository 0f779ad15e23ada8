"""What goes through the layers: values and gradients, and which units are dead."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastbp.engines.reference import functions
from fastbp.plots.common import axes, network_of

__all__ = ["LayersDisplay"]

Array = NDArray[Any]


class LayersDisplay:
    """How the values, or the gradient, of each layer are distributed.

    Make one with `from_estimator`. A hidden unit is dead if its slope φ'(z) is 0 in every row given:
    nothing changes its weights.

    Parameters
    ----------
    activations : list of ndarray of shape (n, n_l)
        vˡ of the hidden layers.
    dead : list of ndarray of bool, shape (n_l,)
        Which units of the hidden layers are dead.
    gradients : list of ndarray or None
        Of the loss, for each layer [W | b].

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    boxes_ : dict of str to list of matplotlib artists
        As `matplotlib.axes.Axes.bxp` returns them.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.data import load_digits
    >>> from fastbp.plots import LayersDisplay
    >>> X, y = load_digits()
    >>> model = fastbp.MLP([64, 32, 16, 10], seed=0)
    >>> display = LayersDisplay.from_estimator(model, X, plot=False)
    >>> [d.shape for d in display.dead]
    [(32,), (16,)]
    """

    KINDS = ("activations", "gradients")

    def __init__(
        self, activations: list[Array], dead: list[Array], gradients: list[Array] | None
    ) -> None:
        self.activations, self.dead, self.gradients = activations, dead, gradients

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        kind: str | None = None,
        ax: Any = None,
        plot: bool = True,
    ) -> Self:
        """Send rows through a network, and draw what is found.

        Parameters
        ----------
        estimator : MLP, MLPClassifier or MLPRegressor
        X : array_like of shape (n, n_0)
        y : array_like or None
            Targets, for the gradient.
        kind
            As in `plot`; None: the gradients, if there is a y.
        ax
            As in `plot`.
        plot : bool
            Whether to draw.

        Returns
        -------
        LayersDisplay

        Raises
        ------
        TypeError, ValueError
            If it is no network, or X or y do not fit it.
        """
        network = network_of(estimator)
        z, v = network.forward(X)
        dead = []
        for phi, z_l, v_l in zip(network.plan.activations, z, v[1:], strict=False):
            slope = functions.functions_of(phi)[1](z_l, v_l[:, :-1], phi.parameter)
            dead.append((slope == 0).all(axis=0))
        gradients = None
        if y is not None:
            classes = getattr(estimator, "classes_", None)
            targets = y if classes is None else np.searchsorted(classes, y)
            gradients = network.gradient(X, targets)
        display = cls([values[:, :-1] for values in v[1:]], dead, gradients)
        if not plot:
            return display
        return display.plot(ax, kind=kind or ("activations" if y is None else "gradients"))

    def plot(self, ax: Any = None, *, kind: str = "activations") -> Self:
        """Draw a box from quartile to quartile for each layer, whiskers from 1 % to 99 %.

        Parameters
        ----------
        ax : matplotlib Axes or None
            None: of a new figure.
        kind : {"activations", "gradients"}
            Values vˡ, or sizes of ∂ℓ/∂wˡ on a logarithmic scale, without those that are 0.

        Returns
        -------
        LayersDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such kind, or no gradient, or no hidden layer.
        """
        if kind not in self.KINDS:
            raise ValueError(f"kind must be one of {', '.join(self.KINDS)}, got {kind!r}")
        if kind == "gradients":
            if self.gradients is None:
                raise ValueError("kind 'gradients' needs a y")
            values = [np.abs(g[g != 0]) for g in self.gradients]
        else:
            values = [v.ravel() for v in self.activations]
        if not values:
            raise ValueError("kind 'activations' needs a hidden layer")
        self.ax_ = axes(ax, "LayersDisplay")
        self.figure_ = self.ax_.figure
        boxes = []
        for layer, found in enumerate(values, 1):
            found = found if len(found) else np.array([np.nan])  # no box
            low, q1, median, q3, high = np.quantile(found, (0.01, 0.25, 0.5, 0.75, 0.99))
            label = f"layer {layer}"
            if layer <= len(self.dead):
                label += f"\n{self.dead[layer - 1].sum()}/{len(self.dead[layer - 1])} dead"
            boxes.append(
                {"whislo": low, "q1": q1, "med": median, "q3": q3, "whishi": high, "label": label}
            )
        self.boxes_ = self.ax_.bxp(boxes, showfliers=False)
        self.ax_.set_ylabel("value" if kind == "activations" else "|gradient| of a weight")
        if kind == "gradients":
            self.ax_.set_yscale("log")
        return self
