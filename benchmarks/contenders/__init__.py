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
    """What is timed. Labels are int64, parameters are [W | b] of shape (n, k + 1).

    X, parameters and arithmetic are of the case's dtype.
    """

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

    def predict_proba(self, X: Array) -> Array:
        """Probabilities of the labels, likewise: shape (len(X), n_L)."""
        ...


class CannotRunError(RuntimeError):
    """This machine lacks what the contender needs; the message says what."""


@dataclass(frozen=True)
class Entry:
    """A contender's name in tables, where its class is, and what it needs.

    `precision` is "bfloat16", or None for the arithmetic of the case's dtype.
    """

    label: str
    module: str
    class_: str
    requires: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    precision: str | None = None
    is_fastbp: bool = False


CONTENDERS = {
    "fastbp": Entry("fastbp", "fastbp_mlp", "FastBP", ("fastbp",), is_fastbp=True),
    "fastbp-bf16": Entry(
        "fastbp, bf16",
        "fastbp_mlp",
        "FastBP",
        ("fastbp",),
        (("precision", "bf16"),),
        "bfloat16",
        is_fastbp=True,
    ),
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
    "tensorflow": Entry(
        "TensorFlow, epoch in a function", "tensorflow_mlp", "TensorFlow", ("tensorflow",)
    ),
    "tensorflow-xla": Entry(
        "TensorFlow, the same by XLA",
        "tensorflow_mlp",
        "TensorFlow",
        ("tensorflow",),
        (("compiled", True),),
    ),
    "jax-step": Entry("JAX, jitted step", "jax_mlp", "JaxStep", ("jax",)),
    "jax-scan": Entry("JAX, epoch in lax.scan", "jax_mlp", "JaxScan", ("jax",)),
}


def precision(name: str, case: Case) -> str:
    """The precision that this contender computes the case in."""
    return CONTENDERS[name].precision or case.dtype


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
