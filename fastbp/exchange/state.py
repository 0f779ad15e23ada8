"""Parameters by name, as PyTorch has them: ``state_dict``, and files of them (safetensors).

The names are those of `to_torch`: ``0.weight``, ``0.bias``, then the number of the next Linear among
the modules, activations and dropouts counted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _options, _safetensors, activations
from fastbp.activations import Activation
from fastbp.exchange.chain import Dense, Drop, Layer, Phi, assemble
from fastbp.exchange.description import Network
from fastbp.losses import Loss
from fastbp.model_file import replacing

__all__ = ["from_state_dict", "read", "state_dict", "write"]

Array = NDArray[Any]
Activations = str | Activation | Sequence[str | Activation]


def state_dict(network: Network) -> dict[str, Array]:
    """Weights and biases by the names that ``to_torch`` gives them."""
    named: dict[str, Array] = {}
    module = 0
    for i, (W, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        named[f"{module}.weight"], named[f"{module}.bias"] = W, b
        module += 3 if i < len(network.dropout) and network.dropout[i] else 2
    return named


def from_state_dict(
    state: Mapping[str, Any],
    activation: Activations,
    loss: str | Loss | None,
    dropout: Sequence[float] = (),
) -> Network:
    """Make a network of weights and biases by name, in the order of the numbers in their names.

    Raises
    ------
    TypeError, ValueError
        If a name is not PREFIX.weight or PREFIX.bias, or the arrays do not make a network.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a mapping of names to arrays, got {type(state).__name__}")
    found: dict[str, dict[str, Array]] = {}
    for name, value in state.items():
        prefix, _, kind = str(name).rpartition(".")
        if kind not in ("weight", "bias"):
            raise ValueError(
                f"{name!r} is not a layer's weight or bias: fastbp has dense layers only"
            )
        found.setdefault(prefix, {})[kind] = _array(name, value)
    prefixes = sorted(found, key=_numbers)
    phi = _options.for_each("activation", activation, max(len(found) - 1, 0), activations.get)
    layers: list[Layer] = []
    for i, prefix in enumerate(prefixes):
        where = f"layer {prefix!r}"
        if "weight" not in found[prefix]:
            raise ValueError(f"{where} has no weight")
        layers.append(Dense(where, found[prefix]["weight"], found[prefix].get("bias")))
        if i < len(phi):
            layers.append(Phi(where, phi[i]))
            if i < len(dropout) and dropout[i]:
                layers.append(Drop(where, dropout[i]))
    return assemble(layers, loss)


def _numbers(name: str) -> list[tuple[int, str]]:
    """To sort "10.weight" behind "2.weight"."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _array(name: object, value: Any) -> Array:
    """An array, or a tensor of torch's; half precision as float32, which holds it exactly."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if "16" in str(value.dtype) else value).numpy()
    a = np.asarray(value)
    if a.dtype == np.float16:
        a = a.astype(np.float32)
    if a.dtype not in (np.float32, np.float64):
        raise ValueError(f"{name!r} must be of floating-point numbers, got dtype {a.dtype}")
    return a


def write(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a file that ``safetensors.torch.load_file`` reads; activations and loss go along."""
    functions: list[Activation | Loss] = [*network.activations, network.loss]
    header = {"format": "pt"}  # what other readers ask for
    if all(f.function is None for f in functions):
        header["fastbp"] = json.dumps(
            {
                "activation": [[a.name, a.parameter] for a in network.activations],
                "loss": [network.loss.name, network.loss.parameter],
                "dropout": network.dropout,
            }
        )
    with replacing(path) as file:
        _safetensors.write(file, state_dict(network), header)


def read(
    path: str | os.PathLike[str], activation: Activations | None, loss: str | Loss | None
) -> Network:
    """Read such a file, or one of another library's dense layers.

    Raises
    ------
    ValueError
        If it is damaged, or not of dense layers, or does not say what its activations are and
        `activation` is None.
    OSError
        If it cannot be opened.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        try:
            arrays, header = _safetensors.read(file)
            if "fastbp" in header:
                said = json.loads(header["fastbp"])
                if activation is None:
                    activation = [Activation(*a) for a in said["activation"]]
                loss = Loss(*said["loss"]) if loss is None else loss
                dropout = [_options.check_dropout(p) for p in said["dropout"]]
            elif activation is not None:
                dropout = []
            else:
                raise ValueError("it does not say what its activations are: pass activation")
            return from_state_dict(arrays, activation, loss, dropout)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{name!r} cannot be read as a network: {error}") from error
