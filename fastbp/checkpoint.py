"""A checkpoint: a saved network, and all that `MLP.fit` needs to go on as if it had never stopped.

`Training` is that state at the end of an epoch. Between epochs the sample order is a function of the
random generator alone, so its state stands for the order too; the rows that were set aside for
validation follow from its state at the start.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _inputs, model_file
from fastbp._validation import check_integer
from fastbp.csr import CSR
from fastbp.history import History

__all__ = ["Training", "fingerprints", "make_generator", "read", "write"]

Array = NDArray[Any]
Layers = list[Array]

_LISTS = [f.name for f in fields(History) if f.default_factory is list]


@dataclass
class Training:
    """State of a training after an epoch, besides the parameters.

    Attributes
    ----------
    options : dict
        What has to be the same in a call that goes on: names and JSON values.
    seed : int
        Of the dropout masks.
    generator_at_start, generator : dict
        States of the random generator when `fit` began, and now.
    step : int
        Steps taken; where schedule and optimizer are.
    slots : list of list of ndarray
        The optimizer's state, as `Engine.get_optimizer_state` gives it.
    history : History
    best : list of ndarray or None
        With early stopping, the parameters of epoch `history.best_epoch`.
    data : dict
        `fingerprints` of the data.
    """

    options: dict[str, Any]
    seed: int
    generator_at_start: Mapping[str, Any]
    generator: Mapping[str, Any]
    step: int
    slots: list[Layers]
    history: History
    best: Layers | None
    data: dict[str, str | None]


def fingerprints(data: _inputs.Data, validation: _inputs.Data | None) -> dict[str, str | None]:
    """Tell these data from others: a checksum of a sample of each array, None of one not given.

    All rows of a small array, else up to 256 rows from all over it, whatever its size: of a file that
    is mapped into memory only these are read. So a change of a few rows among many may go unnoticed.
    """
    named = dict(zip(("X", "y", "sample_weight"), data, strict=True))
    if validation is not None:
        names = ("validation X", "validation y", "validation sample_weight")
        named |= dict(zip(names, validation, strict=True))
    return {name: None if a is None else _checksum(a) for name, a in named.items()}


_SMALL = 1 << 16  # values


def _checksum(a: Array | CSR) -> str:
    """Of shape, dtype and a sample of the rows."""
    if isinstance(a, CSR):
        wanted = np.unique(np.linspace(0, max(0, len(a) - 1), 256, dtype=np.int64))
        sampled = a[wanted[: len(a)]]
        parts = sampled.counts(), sampled.columns.astype(np.int64), sampled.values
        return f"{a.shape} {len(a.values)} {' '.join(map(_checksum, parts))}"
    sample = a
    if a.size > _SMALL:
        rows, width = len(a), a.size // len(a)
        count = min(rows, max(16, min(256, _SMALL // width)))
        sample = a[np.arange(count) * (rows - 1) // max(1, count - 1)]
        sample = sample[
            ..., :: -(-sample.size // _SMALL)
        ]  # of very long rows, every so many values
    plain = np.ascontiguousarray(sample, a.dtype.newbyteorder("<"))
    start = zlib.crc32(f"{a.shape} {a.dtype.name}".encode())
    return f"{zlib.crc32(plain.data, start):08x}"


def write(
    path: str | os.PathLike[str], network: dict[str, Any], parameters: Layers, training: Training
) -> None:
    """Write a checkpoint; see `model_file.write` for how."""
    history = training.history
    header = {
        "network": network,
        "training": {
            "options": training.options,
            "seed": training.seed,
            "generator_at_start": _to_json(training.generator_at_start),
            "generator": _to_json(training.generator),
            "step": training.step,
            "data": training.data,
            "score_name": history.score_name,
            "best_epoch": history.best_epoch,
        },
    }
    layers = {"": parameters, "best_": training.best or []}
    layers |= {f"slot_{s}_": slot for s, slot in enumerate(training.slots)}
    arrays = {f"{prefix}layer_{i}": a for prefix, w in layers.items() for i, a in enumerate(w, 1)}
    arrays |= {
        f"history_{name}": np.array(getattr(history, name), float)
        for name in _LISTS
        if name != "gradient_norm" or history.gradient_norm
    }
    model_file.write(path, header, arrays)


def read(
    path: str | os.PathLike[str],
    network: dict[str, Any],
    options: dict[str, Any],
    data: dict[str, str | None],
    slots: int,
    epoch_steps: int,
) -> tuple[Layers, Training]:
    """Return parameters and state for a network, options and data that must be those of the file.

    `data` are the `fingerprints` of what there is to train on; a file of an older fastbp has none.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no checkpoint, is damaged, written by a newer fastbp, or of another network or
        training.
    """
    name = os.fspath(path)
    header, arrays = model_file.read(path)
    found = header.get("training")
    if not isinstance(found, dict):
        raise ValueError(f"{name!r} is a saved model, not a checkpoint: there is nothing to resume")
    for wanted, got in ((network, header["network"]), (options, found.get("options"))):
        got = got if isinstance(got, dict) else {}
        for key in {**wanted, **got}:
            value, saved = wanted.get(key), got.get(key)
            if saved != _to_json(value):
                raise ValueError(
                    f"cannot resume from {name!r}: its {key} is {saved!r}, here it is {value!r}"
                )
    saved_data = found.get("data", data)
    if not isinstance(saved_data, dict):
        raise ValueError(f"{name!r} is damaged: its data are {saved_data!r}")
    for key in {**data, **saved_data}:
        if saved_data.get(key) != data.get(key):
            raise ValueError(
                f"cannot resume from {name!r}: it was trained {_other(key, saved_data, data)}; "
                "a training goes on with the data it began with, in the same order"
            )
    try:
        return _unpack(found, arrays, network, options, data, slots, epoch_steps)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name!r} is damaged: {error}") from error


def _other(key: str, saved: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """How these data differ from those of the file."""
    if saved.get(key) is None:
        return f"without {key}, here there is one"
    if here.get(key) is None:
        return f"with {key}, here there is none"
    return f"on another {key}"


def _unpack(
    found: dict[str, Any],
    arrays: dict[str, Array],
    network: dict[str, Any],
    options: dict[str, Any],
    data: dict[str, str | None],
    slots: int,
    epoch_steps: int,
) -> tuple[Layers, Training]:
    sizes, dtype = network["layer_sizes"], np.dtype(network["dtype"])
    layers = len(sizes) - 1

    def take(prefix: str) -> Layers:
        return model_file.layers_from(arrays, layers, prefix)

    parameters = _inputs.as_parameters("parameters", take(""), sizes, dtype)
    state = [take(f"slot_{s}_") for s in range(slots)]
    for slot in state:
        if [(a.shape, a.dtype) for a in slot] != [(p.shape, p.dtype) for p in parameters]:
            raise ValueError("the optimizer's state is not shaped as the parameters")

    history = History(score_name=str(found["score_name"]), best_epoch=found["best_epoch"])
    for name in _LISTS:
        if name == "gradient_norm" and f"history_{name}" not in arrays:
            continue  # measured only where a callback asks
        values = arrays.pop(f"history_{name}")
        length = len(history.loss) if history.loss else len(values)
        if name.startswith("validation_") and not options["validation_rows"]:
            length = 0
        if values.shape != (length,):
            raise ValueError(f"history {name} has shape {values.shape}, not ({length},)")
        setattr(history, name, values.tolist())
    best = None
    if options["early_stopping"]:
        check_integer("best_epoch", history.best_epoch, minimum=0, maximum=history.epochs - 1)
        best = _inputs.as_parameters("best parameters", take("best_"), sizes, dtype)
    elif history.best_epoch is not None:
        raise ValueError("it has a best epoch without early stopping")
    if arrays:
        raise ValueError(f"it has an array {next(iter(arrays))!r} too many")
    step = check_integer("step", found["step"], minimum=1)
    if step != history.epochs * epoch_steps:
        raise ValueError(f"{step} steps in {history.epochs} epochs of {epoch_steps}")
    training = Training(
        options,
        check_integer("seed", found["seed"], minimum=0, maximum=2**64 - 1),
        found["generator_at_start"],
        found["generator"],
        step,
        state,
        history,
        best,
        data,
    )
    make_generator(training.generator_at_start)
    make_generator(training.generator)
    return parameters, training


def _to_json(value: Any) -> Any:
    """The value as it is after a trip through JSON, arrays as lists."""
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


# NumPy's bit generators, and the largest value of what is a position or a flag in their states.
# (Their C code trusts a position.)
_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
_LARGEST = {"pos": 624, "buffer_pos": 4, "has_uint32": 1, "uinteger": 2**32 - 1}


def make_generator(state: Any) -> np.random.Generator:
    """Return a generator in this state: what a bit generator has, or a checkpoint holds.

    Raises
    ------
    ValueError
        If it is no state of a bit generator of NumPy.
    """
    state = _to_json(state)
    kind = state.get("bit_generator") if isinstance(state, dict) else None
    if not isinstance(kind, str) or kind not in _BIT_GENERATORS:
        raise ValueError(f"bit generator {kind!r} is not one of {', '.join(_BIT_GENERATORS)}")
    bits = getattr(np.random, kind)(0)
    bits.state = _like(bits.state, state, kind)
    return np.random.Generator(bits)


def _like(pattern: Any, value: Any, name: str) -> Any:
    """Return the value, if it has the structure of the pattern and its numbers are in range."""
    if isinstance(pattern, dict):
        if not isinstance(value, dict) or set(value) != set(pattern):
            raise ValueError(f"generator state {name} must have {', '.join(pattern)}")
        return {key: _like(item, value[key], key) for key, item in pattern.items()}
    if isinstance(pattern, np.ndarray):
        if not isinstance(value, list) or len(value) != len(pattern):
            raise ValueError(f"generator state {name} must have {len(pattern)} numbers")
        largest = int(np.iinfo(pattern.dtype).max)
        return np.array([_integer(name, n, largest) for n in value], pattern.dtype)
    if isinstance(pattern, int):
        return _integer(name, value, _LARGEST.get(name, 2**128 - 1))
    return value


def _integer(name: str, value: object, largest: int) -> int:
    return check_integer(f"generator state {name}", value, minimum=0, maximum=largest)
