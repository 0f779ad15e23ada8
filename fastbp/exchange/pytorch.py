"""PyTorch, both ways: ``nn.Sequential`` of Linear, activations and Dropout."""

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

__all__ = ["from_torch", "to_torch"]

# torch's softplus is z where z > threshold. From 40 on log(1 + exp z) is z in float64.
_LINEAR_FROM = 40.0


def to_torch(network: Network) -> Any:
    """Return an ``nn.Sequential`` that computes f, as torch's losses take it."""
    torch = need("torch", "to_torch", extra="torch")
    nn = torch.nn
    phi = {
        "identity": lambda a: nn.Identity(),
        "sigmoid": lambda a: nn.Sigmoid(),
        "tanh": lambda a: nn.Tanh(),
        "relu": lambda a: nn.ReLU(),
        "leaky_relu": lambda a: nn.LeakyReLU(a),
        "elu": lambda a: nn.ELU(a),
        "softplus": lambda a: nn.Softplus(threshold=_LINEAR_FROM),
        "silu": lambda a: nn.SiLU(),
        "gelu": lambda a: nn.GELU(),
        "selu": lambda a: nn.SELU(),
        "mish": lambda a: nn.Mish(),
        "softsign": lambda a: nn.Softsign(),
        "relu6": lambda a: nn.ReLU6(),
        "hard_tanh": lambda a: nn.Hardtanh(),
        "hard_sigmoid": lambda a: nn.Hardsigmoid(),
        "hard_swish": lambda a: nn.Hardswish(),
        "gelu_tanh": lambda a: nn.GELU(approximate="tanh"),
    }
    modules: list[Any] = []
    for i, (W, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        if i > 0:
            name, parameter = resolve(network.activations[i - 1])
            if name not in phi:
                raise ValueError(f"torch has no module for activation {name!r}")
            modules.append(phi[name](parameter))
            if network.dropout and network.dropout[i - 1]:
                modules.append(nn.Dropout(network.dropout[i - 1]))
        linear = nn.utils.skip_init(
            nn.Linear, W.shape[1], len(W), dtype=getattr(torch, W.dtype.name)
        )
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W))
            linear.bias.copy_(torch.from_numpy(b))
        modules.append(linear)
    return nn.Sequential(*modules)


def from_torch(module: Any, loss: str | Loss | None) -> Network:
    """Read an ``nn.Sequential``; see `chain.assemble` for `loss` and the rules."""
    torch = need("torch", "from_torch", extra="torch")
    nn = torch.nn
    if type(module) is not nn.Sequential:
        raise TypeError(f"module must be a torch.nn.Sequential, got {type(module).__name__}")
    seen: dict[int, str] = {}
    return assemble(_layers(torch, module, "", seen), loss)


def _layers(torch: Any, module: Any, prefix: str, seen: dict[int, str]) -> Iterator[Layer]:
    nn = torch.nn
    plain = {
        nn.Identity: "identity",
        nn.Tanh: "tanh",
        nn.ReLU: "relu",
        nn.SiLU: "silu",
        nn.SELU: "selu",
        nn.Mish: "mish",
    }
    for name, child in module.named_children():
        kind, where = type(child), f"layer {prefix}{name} ({type(child).__name__})"
        if kind is nn.Sequential:
            yield from _layers(torch, child, f"{prefix}{name}.", seen)
        elif kind is nn.Linear:
            tensors = [child.weight] if child.bias is None else [child.weight, child.bias]
            for tensor in tensors:
                if id(tensor) in seen:
                    raise ValueError(f"{where}: shares a parameter with {seen[id(tensor)]}")
                seen[id(tensor)] = where
            arrays = [_array(torch, tensor) for tensor in tensors]
            yield Dense(where, arrays[0], arrays[1] if len(arrays) > 1 else None)
        elif kind in plain:
            yield Phi(where, Activation(plain[kind]))
        elif kind is nn.LeakyReLU:
            yield Phi(where, Activation("leaky_relu", float(child.negative_slope)))
        elif kind is nn.ELU:
            yield Phi(where, Activation("elu", float(child.alpha)))
        elif kind is nn.Softplus and child.beta == 1 and child.threshold >= 20:
            yield Phi(where, Activation("softplus"))
        elif kind is nn.GELU and child.approximate == "none":
            yield Phi(where, Activation("gelu"))
        elif kind is nn.Dropout:
            yield Drop(where, float(child.p))
        elif kind is nn.Sigmoid:
            yield Link(where, "sigmoid")
        elif kind is nn.Softmax and child.dim in (1, -1):
            yield Link(where, "softmax")
        else:
            raise ValueError(f"layer {prefix}{name}: fastbp has no {child!r}")


def _array(torch: Any, tensor: Any) -> Any:
    """A parameter as an array; half precision as float32, which holds it exactly."""
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return np.array(tensor.numpy())
