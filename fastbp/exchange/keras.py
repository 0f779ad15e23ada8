"""Keras, both ways: ``keras.Sequential`` of Dense, activations and Dropout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastbp.activations import Activation
from fastbp.exchange.chain import Dense, Drop, Layer, Link, Phi, assemble
from fastbp.exchange.description import Network
from fastbp.exchange.formulas import resolve
from fastbp.exchange.optional import need
from fastbp.losses import Loss

__all__ = ["from_keras", "to_keras"]

# fastbp's names for Keras's activation functions, and the other way round.
_FUNCTIONS = {
    "linear": "identity",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softplus": "softplus",
    "silu": "silu",
    "gelu": "gelu",
    "elu": "elu",
    "selu": "selu",
    "mish": "mish",
}
_LINKS = {"softmax": "softmax", "sigmoid": "sigmoid", "exponential": "exp", "linear": "identity"}
# Formulas that only a user's function has: Keras knows them by these names.
_OTHERS = {"softsign": "softsign", "relu6": "relu6"}


def to_keras(network: Network) -> Any:
    """Return a ``keras.Sequential`` that computes the prediction, link(f)."""
    keras = need("keras", "to_keras", extra="keras")
    names = {own: name for name, own in (_FUNCTIONS | _OTHERS).items()}
    layers: list[Any] = [keras.Input((network.sizes[0],), dtype=network.dtype.name)]
    for i, W in enumerate(network.weights):
        output = i == len(network.activations)
        function = "linear"
        if output:
            function = {link: name for name, link in _LINKS.items()}[network.loss.link]
        layers.append(keras.layers.Dense(len(W), activation=function, dtype=network.dtype.name))
        if output:
            break
        name, parameter = resolve(network.activations[i])
        if name == "leaky_relu":
            layers.append(keras.layers.LeakyReLU(parameter, dtype=network.dtype.name))
        elif name == "elu":
            layers.append(keras.layers.ELU(parameter, dtype=network.dtype.name))
        elif name in names:
            layers.append(keras.layers.Activation(names[name], dtype=network.dtype.name))
        else:
            raise ValueError(f"keras has no layer for activation {name!r}")
        if network.dropout and network.dropout[i]:
            layers.append(keras.layers.Dropout(network.dropout[i], dtype=network.dtype.name))
    model = keras.Sequential(layers)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    for layer, W, b in zip(dense, network.weights, network.biases, strict=True):
        layer.set_weights([W.T, b])
        stored = layer.get_weights()[0].dtype
        if stored != network.dtype:
            raise ValueError(
                f"keras on {keras.backend.backend()} keeps {network.dtype} as {stored}; for jax, set "
                "jax_enable_x64 before it is first used"
            )
    return model


def from_keras(model: Any, loss: str | Loss | None) -> Network:
    """Read a ``keras.Sequential``; see `chain.assemble` for `loss` and the rules."""
    keras = need("keras", "from_keras", extra="keras")
    if type(model) is not keras.Sequential:
        raise TypeError(f"model must be a keras.Sequential, got {type(model).__name__}")
    return assemble(_layers(keras, model, {}), loss)


def _layers(keras: Any, model: Any, seen: dict[int, str]) -> Iterator[Layer]:
    kinds = keras.layers
    for layer in model.layers:
        kind, where = type(layer), f"layer {layer.name!r} ({type(layer).__name__})"
        if kind is keras.Sequential:
            yield from _layers(keras, layer, seen)
            continue
        if id(layer) in seen:
            raise ValueError(f"{where}: is in the model twice")
        seen[id(layer)] = where
        if kind is kinds.Dense:
            if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
                raise ValueError(f"{where}: fastbp has no quantised or low-rank layers")
            if not layer.built:
                raise ValueError(f"{where}: has no weights yet; the model must know its inputs")
            W, *b = (_array(a) for a in layer.get_weights())
            yield Dense(where, W.T, b[0] if b else None)
            if layer.activation is not keras.activations.linear:
                yield _function(keras, where, layer.activation)
        elif kind is kinds.Activation:
            yield _function(keras, where, layer.activation)
        elif kind is kinds.LeakyReLU:
            yield Phi(where, Activation("leaky_relu", float(layer.negative_slope)))
        elif kind is kinds.ELU:
            yield Phi(where, Activation("elu", float(layer.alpha)))
        elif kind is kinds.ReLU and (layer.max_value, layer.threshold) == (None, 0):
            slope = float(layer.negative_slope)
            yield Phi(where, Activation("leaky_relu", slope) if slope else Activation("relu"))
        elif kind is kinds.Softmax and layer.axis in (1, -1):
            yield Link(where, "softmax")
        elif kind is kinds.Dropout:
            if layer.noise_shape is not None:
                raise ValueError(f"{where}: fastbp has no noise_shape")
            yield Drop(where, float(layer.rate))
        elif kind is not kinds.InputLayer:
            raise ValueError(f"{where}: fastbp has no such layer")


def _function(keras: Any, where: str, function: Any) -> Layer:
    """An activation given as a function."""
    for name in _LINKS | _FUNCTIONS:
        if function is getattr(keras.activations, name):
            if name in ("softmax", "sigmoid", "exponential"):
                return Link(where, _LINKS[name])
            return Phi(where, Activation(_FUNCTIONS[name], 1.0 if name == "elu" else 0.0))
    name = getattr(function, "__name__", type(function).__name__)
    raise ValueError(f"{where}: fastbp has no activation {name!r}")


def _array(a: Any) -> Any:
    """A weight; half precision as float32, which holds it exactly."""
    a = np.asarray(a)
    return a.astype(np.float32) if a.dtype.name in ("float16", "bfloat16") else a
