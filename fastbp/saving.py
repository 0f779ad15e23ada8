"""The file of a saved `MLP`: what it says of the network, and the way back."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from numpy.typing import NDArray

from fastbp import _options, model_file
from fastbp.activations import Activation
from fastbp.losses import Loss
from fastbp.plan import Plan

__all__ = ["describe", "load", "save"]

Model = TypeVar("Model")


def describe(plan: Plan) -> dict[str, Any]:
    """Description of the network in a file: arguments of `MLP`."""
    description: dict[str, Any] = {
        "layer_sizes": plan.layer_sizes,
        "activation": [_described(a) for a in plan.activations],
        "loss": _described(plan.loss),
        "dropout": plan.dropout,
        "l1": plan.l1,
        "l2": plan.l2,
        "dtype": plan.dtype,
    }
    if plan.loss.levels:
        description["levels"] = plan.loss.levels
    if plan.label_smoothing:
        description["label_smoothing"] = plan.label_smoothing
    if plan.precision is not None:
        description["precision"] = plan.precision
    return description


def _described(f: Activation | Loss) -> list[str | float]:
    """Arguments of `Activation` or `Loss`; of a function written in Python also which it is."""
    described: list[str | float] = [f.name, float(f.parameter)]
    if f.function is not None:  # what cannot be told from one process to the next has its name only
        told = not f.fingerprint.startswith("#")
        described.append(f"{zlib.crc32(f.fingerprint.encode()):08x}" if told else "")
        if isinstance(f, Loss) and f.link != "identity":
            described.append(f.link)
    return described


def save(
    path: str | os.PathLike[str],
    plan: Plan,
    parameters: list[NDArray[Any]],
    more: dict[str, Any] | None = None,
) -> None:
    """Write the network, see `MLP.save`; `more` goes into the header, where `load` does not look."""
    _options.check_path("path", path)
    declared: list[Activation | Loss] = [*plan.activations, plan.loss]
    if users := {f.name for f in declared if f.function is not None}:
        raise ValueError(
            f"a file cannot hold {', '.join(sorted(users))}, written in Python; save "
            "`parameters`, or pickle the model if its functions can be imported"
        )
    arrays = {f"layer_{i}": p for i, p in enumerate(parameters, 1)}
    model_file.write(path, {**(more or {}), "network": describe(plan)}, arrays)


def load(path: str | os.PathLike[str], make: Callable[..., Model], run: dict[str, Any]) -> Model:
    """The network of a file, made by `make` of the arguments of `MLP`, those of `run` among them."""
    _options.check_path("path", path)
    header, arrays = model_file.read(path)
    network = header["network"]
    if "tabular" in header:
        raise ValueError(f"{os.fspath(path)!r} is a tabular model: fastbp.tabular.load reads it")
    try:
        layers = len(_options.check_sizes(network["layer_sizes"])) - 1
        parameters = model_file.layers_from(arrays, layers)
        if arrays and "training" not in header:
            raise ValueError(f"it has an array {next(iter(arrays))!r} too many")
        declared = [*network["activation"], network["loss"]]
        users = {d[0] for d in declared if isinstance(d, list) and d[1:] and isinstance(d[-1], str)}
        if not users:
            network["activation"] = [Activation(*a) for a in network["activation"]]
            levels = tuple(map(float, network.pop("levels", ())))
            name, parameter, *more = network["loss"]
            if more:
                raise ValueError(f"its loss {name!r} has more than a parameter")
            network["loss"] = Loss(name, parameter, levels=levels)
            return make(**network, weight_init=parameters, **run)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)!r} is damaged: {error}") from error
    raise ValueError(
        f"{os.fspath(path)!r} is of a network with {', '.join(sorted(users))}, written in Python, "
        "which a file cannot hold: make the model anew and go on with fit(resume=...)"
    )
