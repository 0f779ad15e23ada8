"""From the layers of another library, one after the other, to a network: the rules of what fits.

A reader of PyTorch's, Keras's or ONNX's models lists what it finds as `Dense`, `Phi`, `Drop` and
`Link`, each with a name for messages; `assemble` checks that they make a multilayer perceptron.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import losses
from fastbp._inputs import all_finite
from fastbp.activations import Activation
from fastbp.exchange.description import Network
from fastbp.losses import Loss

__all__ = ["Dense", "Drop", "Link", "Phi", "assemble"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Dense:
    """z = W v + b, W of shape (n_out, n_in); b None: 0."""

    where: str
    W: Array
    b: Array | None


@dataclass(frozen=True)
class Phi:
    """v = φ(z)."""

    where: str
    activation: Activation


@dataclass(frozen=True)
class Drop:
    """Dropout, with the probability that a unit is dropped."""

    where: str
    p: float


@dataclass(frozen=True)
class Link:
    """From f to the prediction: softmax, sigmoid or exp."""

    where: str
    name: str


Layer = Dense | Phi | Drop | Link
_LOSS_OF = {
    "identity": "squared_error",
    "softmax": "softmax_cross_entropy",
    "sigmoid": "binary_cross_entropy",
    "exp": "poisson",
}
# A link that is an activation too, where a dense layer follows.
_AS_ACTIVATION = {"sigmoid": "sigmoid"}


def assemble(layers: Iterable[Layer], loss: str | Loss | None) -> Network:
    """Make a network of the layers.

    Parameters
    ----------
    layers : iterable
        In order.
    loss : str, Loss or None
        None: the one whose predictions are the last layer's outputs.

    Raises
    ------
    ValueError
        If a layer is where an MLP has none of its kind, or the shapes do not fit, or `loss` has
        another link than the last layer; the message names the layer.
    """
    weights: list[Array] = []
    biases: list[Array] = []
    activations: list[Activation] = []
    dropout: list[float] = []
    phi: Activation | None = None  # since the last dense layer
    p, link = 0.0, ""
    last = "the model"
    for layer in layers:
        last = layer.where
        if link:
            phi, link = _activation_for(link, last), ""
        if isinstance(layer, Dense):
            W, b = _checked(layer, weights)
            if weights:
                activations.append(phi or Activation("identity"))
                dropout.append(p)
            elif phi is not None or p:
                raise ValueError(f"{last}: an MLP begins with a dense layer")
            weights.append(W)
            biases.append(b)
            phi, p = None, 0.0
        elif isinstance(layer, Drop):
            if not weights:
                raise ValueError(f"{last}: an MLP has no dropout of its inputs")
            if p:
                raise ValueError(f"{last}: a hidden layer has one dropout, this is its second")
            p = float(layer.p)
        elif not weights or phi is not None or p:
            raise ValueError(f"{last}: an MLP has an activation only after a dense layer, one")
        elif isinstance(layer, Link):
            link = layer.name
        else:
            phi = layer.activation
    if not weights:
        raise ValueError(f"{last}: has no dense layer")
    if p:
        raise ValueError(f"{last}: an MLP has no dropout of its outputs")
    if phi is not None and phi.name != "identity":
        if phi.name not in _AS_ACTIVATION.values():
            raise ValueError(
                f"{last}: {phi.name} of the outputs; the last layer of an MLP is linear, and leads "
                f"to the prediction by one of {', '.join(_LOSS_OF)}"
            )
        link = phi.name
    chosen = _loss(loss, link, last)
    answers = {"softmax_cross_entropy": "argmax", "binary_cross_entropy": "sign"}
    return Network(
        weights,
        biases,
        tuple(activations),
        chosen,
        tuple(dropout) if any(dropout) else (),
        answers.get(chosen.name, "value"),
    )


def _checked(layer: Dense, before: list[Array]) -> tuple[Array, Array]:
    """W and b, C-contiguous and of one dtype with the layers before."""
    W = layer.W
    b = np.zeros(len(W), W.dtype) if layer.b is None else layer.b
    if W.ndim != 2 or 0 in W.shape or b.shape != (len(W),):
        raise ValueError(
            f"{layer.where}: weights of shape {W.shape} and bias of {b.shape} are no dense layer"
        )
    for a in (W, b):
        if a.dtype not in (np.float32, np.float64):
            raise ValueError(f"{layer.where}: parameters must be float32 or float64, got {a.dtype}")
        if a.dtype != (before[0] if before else W).dtype:
            raise ValueError(f"{layer.where}: all layers must have one dtype, this has another")
        if not all_finite(a):
            raise ValueError(f"{layer.where}: parameters must be finite")
    if before and W.shape[1] != len(before[-1]):
        raise ValueError(f"{layer.where}: takes {W.shape[1]} inputs, but gets {len(before[-1])}")
    # A user's arrays may be views of what goes on training elsewhere.
    return np.array(W, order="C"), np.array(b, order="C")


def _activation_for(link: str, next_layer: str) -> Activation:
    if link not in _AS_ACTIVATION:
        raise ValueError(f"{next_layer}: comes after {link}, which only the outputs can have")
    return Activation(_AS_ACTIVATION[link])


def _loss(loss: str | Loss | None, link: str, last: str) -> Loss:
    if loss is None:
        return losses.get(_LOSS_OF[link or "identity"])
    chosen = losses.get(loss)
    if link and chosen.link != link:
        raise ValueError(
            f"{last}: ends in {link}, but loss {chosen.name!r} has predictions by {chosen.link}"
        )
    return chosen
