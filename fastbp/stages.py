"""The kinds of stage that a network is made of: shapes, parameters, first values. No arithmetic.

A network is a chain of stages (`fastbp.plan.Plan`). Each maps its inputs v to z, linearly in its
parameters, and gives on v = φ(z), with dropout in training; the last one has no φ, and its z is the
network's output f. Here stands what a kind of stage is, and nowhere else: whoever allocates, checks,
packs, draws or saves parameters goes by `shapes`. How a kind computes stands, in each engine, in one
file of its name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import initializers
from fastbp.activations import Activation

__all__ = ["Dense", "Scale", "Sparse", "Stage", "dense"]

Shape = tuple[int, int]
IDENTITY = Activation("identity")


@dataclass(frozen=True)
class Dense:
    """z = W [v; 1]: every unit sums all inputs, weighted, and its bias, the last column of W.

    Attributes
    ----------
    inputs, units : int
    activation : Activation
        φ.
    dropout : float
        Probability that a unit's value is set to 0 in training (the others are scaled by 1 / (1 − p)).

    Examples
    --------
    >>> from fastbp.stages import Dense
    >>> Dense(4, 3).shapes
    ((3, 5),)
    """

    inputs: int
    units: int
    activation: Activation = IDENTITY
    dropout: float = 0.0

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of its parameters: [W | b]."""
        return ((self.units, self.inputs + 1),)

    @property
    def penalized(self) -> tuple[int, ...]:
        """How many columns of each parameter, the first ones, penalties and decay apply to."""
        return (self.inputs,)

    def first_values(
        self, weight_init: str, dtype: str, generator: np.random.Generator
    ) -> list[NDArray[Any]]:
        """[W | b], drawn by a rule of `fastbp.initializers`, b = 0."""
        (shape,) = self.shapes
        W = _zeros(shape, dtype, f"a layer of {self.inputs} × {self.units}")
        initializers.draw(weight_init, self.activation, W[:, :-1], generator)
        return [W]


@dataclass(frozen=True)
class Sparse(Dense):
    """Dense for rows of which only the nonzeros are there (`fastbp.csr`): the first stage of a network.

    Attributes
    ----------
    inputs, units, activation, dropout
        As in `Dense`.
    update : str
        ``"exact"``: every weight is updated in every step, as in a Dense stage. ``"lazy"``: the weights
        of an input, their penalties, decay and optimizer's state, move only in the steps in whose rows
        the input occurs.

    Raises
    ------
    ValueError
        If `update` is neither.

    Examples
    --------
    >>> from fastbp.stages import Sparse
    >>> Sparse(100_000, 64).shapes
    ((64, 100001),)
    """

    update: str = "exact"

    def __post_init__(self) -> None:
        if self.update not in ("exact", "lazy"):
            raise ValueError(f"update must be 'exact' or 'lazy', got {self.update!r}")


@dataclass(frozen=True)
class Scale:
    """z = s ⊙ v: every input times a factor of its own, which is trained. There is no bias.

    Attributes
    ----------
    inputs : int

    Examples
    --------
    >>> from fastbp.stages import Scale
    >>> Scale(4).shapes
    ((4, 1),)
    """

    inputs: int
    activation: Activation = IDENTITY
    dropout: float = 0.0

    @property
    def units(self) -> int:
        """As many as inputs."""
        return self.inputs

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of its parameters: s, as a column."""
        return ((self.inputs, 1),)

    @property
    def penalized(self) -> tuple[int, ...]:
        """As in `Dense`: a factor belongs near 1, not near 0."""
        return (0,)

    def first_values(
        self, weight_init: str, dtype: str, generator: np.random.Generator
    ) -> list[NDArray[Any]]:
        """s = 1."""
        return [np.ones(self.shapes[0], dtype)]


Stage = Dense | Scale | Sparse


def dense(
    layer_sizes: Sequence[int],
    activations: Sequence[Activation],
    dropout: Sequence[float] = (),
) -> tuple[Dense, ...]:
    """The stages of a multilayer perceptron.

    Parameters
    ----------
    layer_sizes : sequence of int
        n_0 … n_L: inputs, hidden widths, outputs.
    activations : sequence of Activation
        φ of the L − 1 hidden layers.
    dropout : sequence of float
        Of each hidden layer; none: no dropout.

    Raises
    ------
    ValueError
        If there are not as many activations, or dropouts, as hidden layers.

    Examples
    --------
    >>> from fastbp import activations, stages
    >>> [stage.shapes for stage in stages.dense([4, 8, 3], [activations.get("relu")])]
    [((8, 5),), ((3, 9),)]
    """
    hidden = len(layer_sizes) - 2
    if len(activations) != hidden or len(dropout) not in (0, hidden):
        raise ValueError(
            f"a network of {hidden} hidden layers has as many activations and dropouts, got "
            f"{len(activations)} and {len(dropout)}"
        )
    return tuple(
        Dense(*pair)
        for pair in zip(
            layer_sizes[:-1],
            layer_sizes[1:],
            (*activations, IDENTITY),
            (*(dropout or (0.0,) * hidden), 0.0),
            strict=True,
        )
    )


def _zeros(shape: Shape, dtype: str, what: str) -> NDArray[Any]:
    try:
        return np.zeros(shape, dtype)
    except ValueError:  # more than an address space
        need = math.prod(shape) * np.dtype(dtype).itemsize
        raise MemoryError(f"{what} needs {need:,} bytes") from None
