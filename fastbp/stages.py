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
from fastbp._validation import check_finite_number
from fastbp.activations import Activation

__all__ = [
    "Blend",
    "Dense",
    "Factors",
    "Heads",
    "Lookup",
    "Members",
    "Periodic",
    "Scale",
    "Sparse",
    "Stage",
    "dense",
]

Shape = tuple[int, int]
IDENTITY = Activation("identity")


@dataclass(frozen=True)
class Factors:
    """Factors of a training's rate, of its optimizer's ε, and of rate times decay, for some parameters.

    With a rate of 1/√d, an ε of √d and a decay of 1, a Dense stage of d inputs trains as
    z = W [v; 1] / √d does ("neural-tangent parametrisation").

    Attributes
    ----------
    rate, epsilon, decay : float
        Finite, ≥ 0.

    Examples
    --------
    >>> from fastbp.stages import Factors
    >>> Factors(rate=0.1)
    Factors(rate=0.1, epsilon=1.0, decay=1.0)
    """

    rate: float = 1.0
    epsilon: float = 1.0
    decay: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rate", "epsilon", "decay"):
            check_finite_number(name, getattr(self, name), minimum=0.0)


# Of the penalized columns, and of the others, which do not decay.
PLAIN = (Factors(), Factors(decay=0.0))


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
    factors : pair of Factors
        Of the weights and of the biases.

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
    factors: tuple[Factors, Factors] = PLAIN

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


UPDATES = ("exact", "lazy")


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
        If `update` is neither, or there are factors.

    Examples
    --------
    >>> from fastbp.stages import Sparse
    >>> Sparse(100_000, 64).shapes
    ((64, 100001),)
    """

    update: str = "exact"

    def __post_init__(self) -> None:
        if self.update not in UPDATES:
            raise ValueError(f"update must be 'exact' or 'lazy', got {self.update!r}")
        if self.factors != PLAIN:
            raise ValueError(f"a Sparse stage has no factors, got {self.factors!r}")


class _OfEachInput:
    """What stages have in common whose parameter is a number for each input, 1 at first."""

    inputs: int

    @property
    def units(self) -> int:
        """As many as inputs."""
        return self.inputs

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of its parameters: a column."""
        return ((self.inputs, 1),)

    @property
    def penalized(self) -> tuple[int, ...]:
        """As in `Dense`: what belongs near 1 does not belong near 0."""
        return (0,)

    def first_values(
        self, weight_init: str, dtype: str, generator: np.random.Generator
    ) -> list[NDArray[Any]]:
        """Ones."""
        return [np.ones(self.shapes[0], dtype)]


@dataclass(frozen=True)
class Scale(_OfEachInput):
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
    factors: tuple[Factors, Factors] = PLAIN


@dataclass(frozen=True)
class Blend(_OfEachInput):
    """z = v + α ⊙ (f(v) − v): an activation function f that each unit takes as much of as it wants.

    It follows a stage that has neither activation nor dropout, whose values v are linear.

    Attributes
    ----------
    inputs : int
    blended : Activation
        f.

    Examples
    --------
    >>> from fastbp import activations, stages
    >>> stages.Blend(4, activations.get("mish")).shapes
    ((4, 1),)
    """

    inputs: int
    blended: Activation
    activation: Activation = IDENTITY
    dropout: float = 0.0
    factors: tuple[Factors, Factors] = PLAIN


@dataclass(frozen=True)
class Periodic:
    """Numbers as waves: [e₁; …; e_d; v], eᵢ of each of the first inputs x being Wᵢ cos(2π w x + b) + cᵢ.

    Every number has its own k frequencies w, phases b, weights W and offsets c. The units are e₁ of all
    numbers, e₂ of all numbers, …, and then all inputs as they are.

    Attributes
    ----------
    inputs : int
    numbers : int
        How many of the inputs, the first ones, are numbers to be embedded.
    frequencies, waves : int
        k and d.
    spread : float
        Standard deviation of the first frequencies.

    Examples
    --------
    >>> from fastbp.stages import Periodic
    >>> stage = Periodic(5, numbers=4)
    >>> stage.units, stage.shapes
    (17, ((4, 83),))
    """

    inputs: int
    numbers: int
    frequencies: int = 16
    waves: int = 3
    spread: float = 0.1
    activation: Activation = IDENTITY
    dropout: float = 0.0
    factors: tuple[Factors, Factors] = PLAIN

    def __post_init__(self) -> None:
        if not 0 < self.numbers <= self.inputs or self.frequencies < 1 or not 0 < self.waves <= 16:
            raise ValueError(
                f"1 ≤ numbers ≤ inputs, 1 ≤ frequencies, 1 ≤ waves ≤ 16, but got {self}"
            )

    @property
    def units(self) -> int:
        """The waves of every number, and all inputs."""
        return self.waves * self.numbers + self.inputs

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of its parameters: of each number w, b, W₁ … W_d of the first frequency, …, then c₁ … c_d."""
        return ((self.numbers, (2 + self.waves) * self.frequencies + self.waves),)

    @property
    def penalized(self) -> tuple[int, ...]:
        """As in `Dense`: small ones are no simpler."""
        return (0,)

    def first_values(
        self, weight_init: str, dtype: str, generator: np.random.Generator
    ) -> list[NDArray[Any]]:
        """w from N(0, spread²), b from U(−π, π), W and c from U(−1/√k, 1/√k)."""
        numbers, k, d = self.numbers, self.frequencies, self.waves
        bound = 1 / math.sqrt(k)
        P = generator.uniform(-bound, bound, self.shapes[0])
        each = P[:, : (2 + d) * k].reshape(numbers, k, 2 + d)
        each[:, :, 0] = self.spread * generator.standard_normal((numbers, k))
        each[:, :, 1] = generator.uniform(-math.pi, math.pi, (numbers, k))
        return [P.astype(dtype)]


@dataclass(frozen=True)
class Lookup:
    """Categories as vectors: the last inputs are codes 0, 1, …, each of which is a row of a table.

    The units are the other inputs as they are, then the vectors. A code that its table has no row for
    counts as 0.

    Attributes
    ----------
    inputs : int
    levels : tuple of int
        Rows of the table of each code.
    width : int
        Of the vectors.

    Examples
    --------
    >>> from fastbp.stages import Lookup
    >>> stage = Lookup(5, levels=(10, 20), width=8)
    >>> stage.units, stage.shapes
    (19, ((8, 30),))
    """

    inputs: int
    levels: tuple[int, ...]
    width: int = 8
    activation: Activation = IDENTITY
    dropout: float = 0.0
    factors: tuple[Factors, Factors] = PLAIN

    def __post_init__(self) -> None:
        if not 0 < len(self.levels) <= self.inputs or min(self.levels) < 1 or self.width < 1:
            raise ValueError(f"1 ≤ tables ≤ inputs, 1 ≤ levels, 1 ≤ width, but got {self}")

    @property
    def units(self) -> int:
        """The inputs that are no codes, and a vector for each code."""
        return self.inputs + len(self.levels) * (self.width - 1)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of its parameters: all tables one after the other, a column for each of their rows."""
        return ((self.width, sum(self.levels)),)

    @property
    def penalized(self) -> tuple[int, ...]:
        """As in `Dense`: all."""
        return (sum(self.levels),)

    def first_values(
        self, weight_init: str, dtype: str, generator: np.random.Generator
    ) -> list[NDArray[Any]]:
        """From N(0, 1)."""
        return [generator.standard_normal(self.shapes[0]).astype(dtype)]


@dataclass(frozen=True)
class Members:
    """z = s_m ⊙ v + b_m: numbers of its own for each of k members, which share the stages between them.

    Row r of a call (of X, or of an epoch's order) is the copy of a sample that member r mod k sees: a
    sample has k rows, one after the other, and minibatches are multiples of k rows.

    Attributes
    ----------
    inputs, members : int
        The latter is k.
    scale, shift : bool
        Whether there is s, 1 at first, and whether there is b, 0 at first.

    Examples
    --------
    >>> from fastbp.stages import Members
    >>> Members(4, 3).shapes, Members(4, 3, shift=True).shapes
    (((4, 3),), ((4, 6),))
    """

    inputs: int
    members: int
    scale: bool = True
    shift: bool = False
    activation: Activation = IDENTITY
    dropout: float = 0.0
    factors: tuple[Factors, Factors] = PLAIN

    def __post_init__(self) -> None:
        if self.members < 1 or not (self.scale or self.shift):
            raise ValueError(f"1 ≤ members, and scale or shift, but got {self}")

    @property
    def units(self) -> int:
        """As many as inputs."""
        return self.inputs

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of its parameters: of each input s of all members, then b of all."""
        return ((self.inputs, self.members * (self.scale + self.shift)),)

    @property
    def penalized(self) -> tuple[int, ...]:
        """As in `Dense`: s, not b."""
        return (self.members if self.scale else 0,)

    def first_values(
        self, weight_init: str, dtype: str, generator: np.random.Generator
    ) -> list[NDArray[Any]]:
        """Ones, then zeros."""
        P = np.zeros(self.shapes[0], dtype)
        if self.scale:
            P[:, : self.members] = 1
        return [P]


@dataclass(frozen=True)
class Heads:
    """z = W_m v: weights of its own for each of k members, whose rows are those of `Members`. No bias.

    Attributes
    ----------
    inputs, units, members : int

    Examples
    --------
    >>> from fastbp.stages import Heads
    >>> Heads(4, 2, members=3).shapes
    ((4, 6),)
    """

    inputs: int
    units: int
    members: int
    activation: Activation = IDENTITY
    dropout: float = 0.0
    factors: tuple[Factors, Factors] = PLAIN

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"1 ≤ members, but got {self}")

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of its parameters: of each input the weights of all units of one member after the other."""
        return ((self.inputs, self.members * self.units),)

    @property
    def penalized(self) -> tuple[int, ...]:
        """As in `Dense`: all."""
        return (self.members * self.units,)

    def first_values(
        self, weight_init: str, dtype: str, generator: np.random.Generator
    ) -> list[NDArray[Any]]:
        """From U(−1/√inputs, 1/√inputs)."""
        bound = 1 / math.sqrt(self.inputs)
        return [generator.uniform(-bound, bound, self.shapes[0]).astype(dtype)]


Stage = Dense | Scale | Blend | Periodic | Lookup | Sparse | Members | Heads


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
