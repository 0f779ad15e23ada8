"""What activation functions exist and what parameter each takes.

Declarations only: every engine has its own kernels for φ and φ'. `engines/reference.py` holds the
formulas as NumPy, beside the mathematics they come from. `activation` declares one of the user's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastbp._functions import Function, check_activation, check_function, fingerprint
from fastbp._validation import check_finite_number, nearest_name

__all__ = ["ACTIVATIONS", "Activation", "activation", "get"]


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
            raise ValueError(nearest_name("activation", self.name, [*ACTIVATIONS, *_ALIASES]))
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
    "silu": 0.0,
    "gelu": 0.0,
}

_ALIASES = {"logistic": "sigmoid"}


def activation(
    f: Function, derivative: Function | None = None, *, name: str | None = None
) -> Activation:
    """Make an activation of a function φ(z) of one number, written in Python.

    Numba compiles it for the native and the JIT engine; the reference engine calls it as it is.

    Parameters
    ----------
    f : callable
        φ. It may use arithmetic, comparisons, ``if``, ``min``, ``max``, ``abs``, ``math`` or
        ``numpy`` functions (exp, expm1, log, log1p, tanh, sqrt, sin, cos, atan, erf, where, …),
        constants, and other such functions that ``numba.njit`` has compiled. What it raises is not
        seen: where it is not defined it should return NaN.
    derivative : callable or None
        φ'. None: derived automatically (forward-mode, by dual numbers): exact for the functions
        named above but ``**`` with a varying exponent and a base ≤ 0; at a kink it is the
        derivative of the branch taken.
    name : str or None
        For messages; None: that of the function.

    Raises
    ------
    ValueError
        If Numba cannot compile the function (and where), or the derivative does not agree with
        differences of `f` in float64, or `name` is that of a built-in activation, or there is no
        derivative and no Numba.
    TypeError
        If `f` or `derivative` is no function.

    Examples
    --------
    Mish, its derivative derived, and squareplus, its derivative given:

    >>> import math
    >>> import fastbp
    >>> mish = fastbp.activation(lambda z: z * math.tanh(math.log1p(math.exp(z))), name="mish")
    >>> squareplus = fastbp.activation(
    ...     lambda z: 0.5 * (z + math.sqrt(z * z + 4)),
    ...     derivative=lambda z: 0.5 * (1 + z / math.sqrt(z * z + 4)),
    ...     name="squareplus",
    ... )
    >>> model = fastbp.MLP([4, 16, 16, 3], activation=[mish, squareplus])
    """
    name = check_function(f, derivative, name)
    if name in ACTIVATIONS or name in _ALIASES:
        raise ValueError(f"name must not be that of a built-in activation, got {name!r}")
    made = Activation(
        name, function=f, derivative=derivative, fingerprint=fingerprint(f, derivative)
    )
    check_activation(made)
    return made


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
    name = _ALIASES.get(activation, activation)
    return Activation(name, ACTIVATIONS.get(name, 0.0))
