"""Weights as whole numbers of 8 bits, a scale for each row, and what that costs, measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.exchange.description import Network

__all__ = ["Error", "error_of", "quantize", "restored"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Error:
    """How far the network of rounded weights is from the one it was made of.

    Attributes
    ----------
    rows : int
        That it was measured on.
    largest, relative : float
        Of the outputs f: the largest difference, and the root of the mean square of all, as a share
        of that of f itself.
    labels : float
        Share of the rows with another label; 0 in regression.
    given : bool
        Whether the rows were the user's; else they are standard normal.
    """

    rows: int
    largest: float
    relative: float
    labels: float
    given: bool

    def __str__(self) -> str:
        of = "given" if self.given else "of standard normal numbers"
        text = (
            f"measured on {self.rows:,} rows {of}: outputs off by up to {self.largest:.3g}, "
            f"{self.relative:.2%} in the root mean square"
        )
        return text + (f", {self.labels:.2%} of the labels changed" if self.labels else "")


def quantize(W: Array) -> tuple[NDArray[np.int8], Array]:
    """Whole numbers from −127 to 127 and a scale for each row: W ≈ scale · q, to half a scale."""
    largest = np.abs(W).max(axis=1)
    scale = np.where(largest > 0, largest / 127, 1).astype(W.dtype)
    # The scale of a row of the smallest numbers rounds up or down by a lot.
    scale = np.where(scale > 0, scale, 1).astype(W.dtype)
    q = np.clip(np.rint(W / scale[:, None]), -127, 127).astype(np.int8)
    return q, scale


def restored(network: Network) -> Network:
    """The network whose weights are scale · q."""
    pairs = [quantize(W) for W in network.weights]
    return replace(
        network, weights=[(q * scale[:, None]).astype(network.dtype) for q, scale in pairs]
    )


def error_of(network: Network, X: Array | None) -> Error:
    """Measure it on the rows X; None: on 1,000 standard normal ones."""
    from fastbp.mlp import MLP

    rows = X
    if rows is None:
        rows = np.random.default_rng(0).standard_normal((1000, network.sizes[0]))
    exact, rounded = (n.model(MLP, seed=0) for n in (network, restored(network)))
    f, g = (model.forward(rows)[0][-1].astype(np.float64) for model in (exact, rounded))
    changed = 0.0
    if network.answer == "argmax":
        changed = float((f.argmax(axis=1) != g.argmax(axis=1)).mean())
    elif network.classifies:
        changed = float(((f > 0) != (g > 0)).any(axis=1).mean())
    size = float(np.sqrt(np.square(f).mean())) or 1.0
    difference = f - g
    return Error(
        len(f),
        float(np.abs(difference).max()),
        float(np.sqrt(np.square(difference).mean())) / size,
        changed,
        X is not None,
    )
