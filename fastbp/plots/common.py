"""What displays have in common: where to draw, and the network of what they are given."""

from __future__ import annotations

from typing import Any

from fastbp.exchange.optional import need
from fastbp.mlp import MLP

__all__ = ["axes", "network_of"]


def axes(ax: Any, display: str) -> Any:
    """The axes to draw on: those given, or of a new figure.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    pyplot = need("matplotlib.pyplot", display, extra="plots")
    return pyplot.subplots(layout="constrained")[1] if ax is None else ax


def network_of(model: Any) -> MLP:
    """The network of an MLP, of a fitted estimator of fastbp, or of a model of a table.

    Raises
    ------
    TypeError
        If it is none of them.
    """
    if isinstance(model, MLP):
        return model
    if isinstance(getattr(model, "network", None), MLP):
        network: MLP = model.network
        return network
    if hasattr(model, "_network_description"):
        made: MLP = model._network_description().model(MLP)
        return made
    raise TypeError(
        "model must be a fastbp.MLP, a fitted MLPClassifier or MLPRegressor of fastbp, or a model "
        f"of a table, got {type(model).__name__}"
    )
