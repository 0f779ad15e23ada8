"""What activation functions exist and what parameter each takes.

Declarations only: every engine has its own kernels for φ and φ'. `engines/reference.py` holds the
formulas as NumPy, beside the mathematics they come from. `fastbp.functions` makes one of the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fastbp._validation import check_finite_number, nearest_name

__all__ = ["ACTIVATIONS", "SELU_ALPHA", "SELU_SCALE", "Activation", "get"]

Function = Callable[..., float]  # written in Python, of numbers


@dataclass(frozen=True)
class Activation:
    """A hidden layer's activation function φ.

    Attributes
    ----------
    name : str
        One of `ACTIVATIONS`, or the name of a function of the user's.
    parameter : float
        The slope for z < 0 of ``leaky_relu``, the scale α of ``elu``; 0 for the others.
    function, derivative, fingerprint
        Of a function of the user's: made by `fastbp.activation`.

    Examples
    --------
    >>> from fastbp.activations import Activation
    >>> Activation("leaky_relu", 0.2)
    Activation(name='leaky_relu', parameter=0.2)
    """

    name: str
    parameter: float = 0.0
    function: Function | None = field(default=None, compare=False, repr=False)
    derivative: Function | None = field(default=None, compare=False, repr=False)
    fingerprint: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.function is None and self.name not in ACTIVATIONS:
            raise ValueError(nearest_name("activation", self.name, [*ACTIVATIONS, *ALIASES]))
        check_finite_number("activation parameter", self.parameter, minimum=0.0)
        if self.parameter and self.name not in ("leaky_relu", "elu"):
            raise ValueError(f"activation {self.name!r} has no parameter, got {self.parameter!r}")


# name: default parameter
ACTIVATIONS: dict[str, float] = {
    "identity": 0.0,
    "sigmoid": 0.0,
    "tanh": 0.0,
    "relu": 0.0,
    "leaky_relu": 0.01,
    "elu": 1.0,
    "softplus": 0.0,
    "selu": 0.0,
    "silu": 0.0,
    "gelu": 0.0,
    "mish": 0.0,
}

ALIASES = {"logistic": "sigmoid"}

# Of SELU: the fixed point of mean 0 and variance 1 (Klambauer et al. 2017).
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def get(activation: str | Activation) -> Activation:
    """Resolve a name (or an `Activation`, returned as it is) to an `Activation`.

    Raises
    ------
    ValueError
        If the name is unknown; the message suggests the nearest one.
    TypeError
        If `activation` is neither a string nor an `Activation`.

    Examples
    --------
    >>> from fastbp import activations
    >>> activations.get("logistic")
    Activation(name='sigmoid', parameter=0.0)
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(
            f"activation must be a name or an Activation, got {type(activation).__name__}"
        )
    name = ALIASES.get(activation, activation)
    return Activation(name, ACTIVATIONS.get(name, 0.0))
