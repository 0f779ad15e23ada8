"""Checks of `MLP`'s options: each returns the checked value, or raises naming the argument."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from fastbp._validation import check_finite_number, check_integer, nearest_name
from fastbp.engines import ENGINES

DTYPES = ("float32", "float64")
T = TypeVar("T")


def for_each(name: str, value: Any, hidden: int, check: Callable[[Any], T]) -> tuple[T, ...]:
    """One checked value for each hidden layer, from one for all or a sequence of them."""
    if isinstance(value, np.ndarray):
        value = value.tolist()  # of no dimension: its one value
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return (check(value),) * hidden
    if len(value) != hidden:
        raise ValueError(
            f"{name} must be one value, or one for each of the {hidden} hidden layers, "
            f"got {len(value)}"
        )
    return tuple(check(item) for item in value)


def check_dropout(p: object) -> float:
    return check_finite_number("dropout", p, minimum=0.0, maximum=1.0, open_maximum=True)


def check_engine(engine: object) -> str:
    if not isinstance(engine, str):
        raise TypeError(f"engine must be a name, got {type(engine).__name__}")
    if engine not in ENGINES:
        raise ValueError(nearest_name("engine", engine, ENGINES))
    return engine


def check_threads(threads: object) -> int | None:
    return None if threads is None else check_integer("threads", threads, minimum=1)


def check_sizes(layer_sizes: object) -> tuple[int, ...]:
    if isinstance(layer_sizes, np.ndarray):
        layer_sizes = layer_sizes.tolist()
    if isinstance(layer_sizes, str | bytes) or not isinstance(layer_sizes, Sequence):
        raise TypeError(
            "layer_sizes must be a sequence of integers n_0 … n_L, "
            f"got {type(layer_sizes).__name__}"
        )
    sizes = tuple(check_integer("layer_sizes", n, minimum=1) for n in layer_sizes)
    if len(sizes) < 2:
        raise ValueError(
            f"layer_sizes must have at least 2 entries, inputs and outputs, got {list(sizes)}"
        )
    return sizes


def check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype) if dtype is not None else None
    except TypeError:
        found = None
    if found is None or found.newbyteorder("=") != found or found.name not in DTYPES:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return found


def check_seed(seed: int | np.random.Generator | None) -> np.random.Generator:
    if seed is None or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    return np.random.default_rng(check_integer("seed", seed, minimum=0))


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_path(name: str, path: object) -> None:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a path (str or path-like), got {path!r}")


def check_output(name: str, path: str | os.PathLike[str]) -> None:
    """Raise if no file can be written there, as far as can be told before it is."""
    check_path(name, path)
    file = os.fspath(path)
    taken = os.path.exists(file) and not os.path.isfile(file)  # a folder, a device
    if not file or taken or not os.path.isdir(os.path.dirname(file) or "."):
        raise ValueError(f"{name} must be a file in a folder that is there, got {file!r}")


def check_apart(outputs: Mapping[str, str | None], inputs: Iterable[str]) -> None:
    """Raise if a file that is to be written is one that is read, or is written twice."""
    taken = {os.path.realpath(path): f"{path!r}, which is read" for path in inputs if path != "-"}
    for name, path in outputs.items():
        if path is None or not (os.path.isfile(path) or not os.path.exists(path)):
            continue  # a device may be both
        real = os.path.realpath(path)
        if real in taken:
            raise ValueError(f"{name} would replace {taken[real]}")
        taken[real] = f"what {name} writes"


def check_callbacks(callbacks: object) -> list[Any]:
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a sequence of callables, got {callbacks!r}")
    listed = list(callbacks)
    for callback in listed:
        if not callable(callback):
            raise TypeError(f"callbacks must be callables, got {callback!r}")
    return listed
