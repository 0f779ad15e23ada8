"""Who is compared, and what each of them must offer.

A contender is a class made with (case, threads). All of them train on the same rows in the same
order from the same weights, and return the same mean loss; converting data is not timed.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from benchmarks.cases import Array, Case


class Contender(Protocol):
    """What is timed. Labels are int64, X is float32, parameters are [W | b] of shape (n, k + 1)."""

    thread_choices: tuple[int, ...]  # the fastest one is found out, and used

    def use_threads(self, threads: int) -> None: ...

    def set_data(self, X: Array, y: Array) -> None:
        """Take the training data, in whatever form is fastest to train on."""
        ...

    def set_parameters(self, parameters: list[Array]) -> None: ...

    def get_parameters(self) -> list[Array]: ...

    def epoch(self, order: Array) -> float:
        """Train on every row once, in this order; return the mean of the steps' losses."""
        ...

    def predict(self, X: Array) -> Array:
        """Labels of the rows of a NumPy array, as a NumPy array."""
        ...


@dataclass(frozen=True)
class Entry:
    """A contender's name in tables, where its class is, and what it needs."""

    label: str
    module: str
    class_: str
    requires: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    precision: str = "float32"
    is_fastbp: bool = False


CONTENDERS = {
    "fastbp": Entry("fastbp", "fastbp_mlp", "FastBP", ("fastbp",), is_fastbp=True),
    "fastbp-jit": Entry(
        "fastbp, jit engine",
        "fastbp_mlp",
        "FastBP",
        ("fastbp", "numba"),
        (("engine", "jit"),),
        is_fastbp=True,
    ),
    "fastbp-reference": Entry(
        "fastbp, reference engine",
        "fastbp_mlp",
        "FastBP",
        ("fastbp",),
        (("engine", "reference"),),
        is_fastbp=True,
    ),
    "numpy": Entry("NumPy", "numpy_plain", "NumPy"),
    "sklearn": Entry("scikit-learn", "sklearn_mlp", "ScikitLearn", ("sklearn",)),
    "torch": Entry("PyTorch", "torch_mlp", "Torch", ("torch",)),
    "torch-compile": Entry(
        "PyTorch, compiled", "torch_mlp", "Torch", ("torch",), (("compiled", True),)
    ),
    "torch-bf16": Entry(
        "PyTorch, bf16 autocast",
        "torch_mlp",
        "Torch",
        ("torch",),
        (("autocast", True),),
        "bfloat16",
    ),
    "jax-step": Entry("JAX, jitted step", "jax_mlp", "JaxStep", ("jax",)),
    "jax-scan": Entry("JAX, epoch in lax.scan", "jax_mlp", "JaxScan", ("jax",)),
}


def missing(name: str) -> str | None:
    """Why this contender cannot run here, as far as can be told without importing it."""
    for module in CONTENDERS[name].requires:
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    return None


def create(name: str, case: Case, threads: int) -> Contender:
    """Make the contender; called in the process that is its own."""
    entry = CONTENDERS[name]
    module = importlib.import_module(f"benchmarks.contenders.{entry.module}")
    contender: Contender = partial(getattr(module, entry.class_), **dict(entry.options))(
        case, threads
    )
    return contender
