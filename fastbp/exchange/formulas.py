"""Activations and links as formulas, each written once for every target: NumPy, ONNX, C, Python.

A formula is a function of (o, z, a): `o` offers the functions of a target, z is an expression of that
target, which knows + − * /, and a is the activation's parameter. A target with NumPy arrays for
expressions computes; one with texts or nodes writes down. Beyond fastbp's own activations there are
some that users write in Python: `resolve` finds them by their values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fastbp.activations import ACTIVATIONS, SELU_ALPHA, SELU_SCALE, Activation

__all__ = ["FORMULAS", "LINKS", "Numpy", "Operations", "find", "resolve", "used_by"]

Floats = NDArray[np.float64]


class Operations(Protocol):
    """What a target computes beside + − * /. Arguments are expressions or numbers."""

    def exp(self, z: Any) -> Any: ...
    def expm1(self, z: Any) -> Any: ...
    def sqrt(self, z: Any) -> Any: ...
    def tanh(self, z: Any) -> Any: ...
    def abs(self, z: Any) -> Any: ...
    def minimum(self, z: Any, bound: float) -> Any: ...
    def maximum(self, z: Any, bound: float) -> Any: ...
    def if_positive(self, z: Any, yes: Any, no: Any) -> Any: ...
    def sigmoid(self, z: Any) -> Any: ...
    def softplus(self, z: Any) -> Any: ...
    def normal_cdf(self, z: Any) -> Any: ...


Formula = Callable[[Operations, Any, float], Any]

_ROOT = math.sqrt(2 / math.pi)


def _elu(o: Operations, z: Any, a: float) -> Any:
    return o.if_positive(z, z, o.expm1(o.minimum(z, 0.0)) * a)


def _hard_sigmoid(o: Operations, z: Any, a: float) -> Any:
    return o.minimum(o.maximum(z / 6.0 + 0.5, 0.0), 1.0)


FORMULAS: dict[str, Formula] = {
    "identity": lambda o, z, a: z,
    "sigmoid": lambda o, z, a: o.sigmoid(z),
    "tanh": lambda o, z, a: o.tanh(z),
    "relu": lambda o, z, a: o.maximum(z, 0.0),
    "leaky_relu": lambda o, z, a: o.maximum(z, 0.0) + o.minimum(z, 0.0) * a,
    "elu": _elu,
    "softplus": lambda o, z, a: o.softplus(z),
    "silu": lambda o, z, a: z * o.sigmoid(z),
    "gelu": lambda o, z, a: z * o.normal_cdf(z),
    "selu": lambda o, z, a: _elu(o, z, SELU_ALPHA) * SELU_SCALE,
    "mish": lambda o, z, a: z * o.tanh(o.softplus(z)),
    # Not fastbp's own
    "softsign": lambda o, z, a: z / (o.abs(z) + 1.0),
    "squareplus": lambda o, z, a: (o.sqrt(z * z + 4.0) + z) * 0.5,
    "relu6": lambda o, z, a: o.minimum(o.maximum(z, 0.0), 6.0),
    "hard_tanh": lambda o, z, a: o.minimum(o.maximum(z, -1.0), 1.0),
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda o, z, a: z * _hard_sigmoid(o, z, a),
    "gelu_tanh": lambda o, z, a: (
        z * (o.tanh((z * z * 0.044715 + 1.0) * z * _ROOT) + 1.0) * 0.5
    ),
}  # fmt: skip

# From an output f to the prediction. softmax is of a whole row, so each target has its own.
LINKS: dict[str, Formula] = {
    "identity": lambda o, z, a: z,
    "sigmoid": lambda o, z, a: o.sigmoid(z),
    "exp": lambda o, z, a: o.exp(z),
}


class Numpy:
    """The operations on arrays."""

    exp = staticmethod(np.exp)
    expm1 = staticmethod(np.expm1)
    sqrt = staticmethod(np.sqrt)
    tanh = staticmethod(np.tanh)
    abs = staticmethod(np.abs)
    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)

    @staticmethod
    def if_positive(z: Any, yes: Any, no: Any) -> Any:
        return np.where(z > 0, yes, no)

    @staticmethod
    def sigmoid(z: Any) -> Any:
        e = np.exp(-np.abs(z))  # never overflows
        return np.where(z >= 0, 1, e) / (1 + e)

    @staticmethod
    def softplus(z: Any) -> Any:
        return np.logaddexp(z, 0)

    @staticmethod
    def normal_cdf(z: Any) -> Any:
        erfc = np.vectorize(math.erfc, otypes=[np.float64])
        return 0.5 * erfc(-math.sqrt(0.5) * z)


class _Recorder:
    """Operations that only note which were used; every expression is 1.0."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., float]:
        self.names.add(name)
        return lambda *arguments: 1.0


def used_by(formulas: Iterable[Formula]) -> set[str]:
    """Return the names of the operations that the formulas use."""
    recorder = _Recorder()
    for formula in formulas:
        formula(cast(Operations, recorder), 1.0, 1.0)
    return recorder.names


# Both sides, both signs of small and large, and the kinks at ±1, ±3 and 6.
_POINTS: Floats = np.concatenate(
    [np.linspace(-7, 7, 141) + 0.0137, np.linspace(-30, 30, 41) + 0.0037, [0.0, 1e-6, -1e-6]]
)
_POINTS.flags.writeable = False


def find(
    f: Callable[[Floats], Floats], tolerances: Mapping[str, float]
) -> tuple[str, float] | None:
    """Find which of the formulas named computes f: name and parameter, or None.

    Parameters
    ----------
    f : callable
        From z in float64 to φ(z), elementwise.
    tolerances : mapping of str to float
        Names of `FORMULAS`, and how far |f(z) − φ(z)| / (1 + |z|) may be from 0: what the constants in
        f allow for.
    """
    with np.errstate(all="ignore"):
        values = np.asarray(f(_POINTS), np.float64)
        at_minus_1 = float(np.asarray(f(np.array([-1.0])), np.float64).reshape(-1)[0])
        if values.shape != _POINTS.shape or not np.isfinite(values).all():
            return None
        for name, tolerance in tolerances.items():
            for parameter in _parameters(name, at_minus_1):
                wanted = FORMULAS[name](Numpy(), _POINTS, parameter)
                if (np.abs(values - wanted) <= tolerance * (1 + np.abs(_POINTS))).all():
                    return name, parameter
    return None


def _parameters(name: str, at_minus_1: float) -> Iterator[float]:
    """Values of the parameter to try: the default, and the one that f(−1) tells."""
    yield ACTIVATIONS.get(name, 0.0)
    fitted = {"leaky_relu": -at_minus_1, "elu": at_minus_1 / math.expm1(-1)}.get(name, 0.0)
    if fitted > 0:
        yield fitted


def resolve(activation: Activation) -> tuple[str, float]:
    """Name and parameter of the formula of an activation, also of one written in Python.

    Raises
    ------
    ValueError
        If it is a function written in Python whose values are none of `FORMULAS`'.

    Examples
    --------
    >>> import math
    >>> import fastbp
    >>> resolve(fastbp.activation(lambda z: z * math.tanh(math.log1p(math.exp(z))), name="mine"))
    ('mish', 0.0)
    """
    function = activation.function
    if function is None:
        return activation.name, float(activation.parameter)
    plain = getattr(function, "py_func", function)

    def values(z: Floats) -> Floats:
        return np.array([plain(float(x)) for x in z], np.float64)

    try:  # 64 roundings of a function of a few operations
        found = find(values, dict.fromkeys(FORMULAS, 64 * float(np.finfo(np.float64).eps)))
    except Exception:  # the function is the user's: it may raise anything
        found = None
    if found is None:
        raise ValueError(
            f"activation {activation.name!r} is written in Python and none of the formulas that can "
            f"be exported: {', '.join(FORMULAS)}"
        )
    return found
