"""Activations and losses written by the user in Python.

`activation` and `loss` make the declarations; below stands what tells such functions apart and the
check of their derivatives.
"""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.activations import ACTIVATIONS, Activation, Function
from fastbp.activations import ALIASES as ACTIVATION_ALIASES
from fastbp.engines import jit
from fastbp.losses import ALIASES as LOSS_ALIASES
from fastbp.losses import LINKS, LOSSES, Loss

__all__ = ["activation", "loss"]

Array = NDArray[Any]
_unnamed = itertools.count()
_MODULES = {"math", "numpy", "builtins"}


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
    A bump, its derivative derived, and squareplus, its derivative given:

    >>> import math
    >>> import fastbp
    >>> bump = fastbp.activation(lambda z: math.exp(-z * z), name="bump")
    >>> squareplus = fastbp.activation(
    ...     lambda z: 0.5 * (z + math.sqrt(z * z + 4)),
    ...     derivative=lambda z: 0.5 * (1 + z / math.sqrt(z * z + 4)),
    ...     name="squareplus",
    ... )
    >>> model = fastbp.MLP([4, 16, 16, 3], activation=[bump, squareplus])
    """
    name = check_function(f, derivative, name)
    if name in ACTIVATIONS or name in ACTIVATION_ALIASES:
        raise ValueError(f"name must not be that of a built-in activation, got {name!r}")
    made = Activation(
        name, function=f, derivative=derivative, fingerprint=fingerprint(f, derivative)
    )
    check_activation(made)
    return made


def loss(
    f: Function,
    derivative: Function | None = None,
    *,
    name: str | None = None,
    link: str = "identity",
) -> Loss:
    """Make a loss of a function ℓ(f, y) of an output and its target, written in Python.

    A sample's loss is the sum of ℓ over its outputs. Numba compiles it for the native and the JIT
    engine; the reference engine calls it as it is.

    Parameters
    ----------
    f : callable
        ℓ(f, y), of two numbers; see `fastbp.activation` for what it may use.
    derivative : callable or None
        ∂ℓ/∂f (f, y); None: derived automatically, see `fastbp.activation`.
    name : str or None
        For messages; None: that of the function.
    link : {"identity", "softmax", "sigmoid", "exp"}
        Map from f to the prediction. It says what predictions and scores are: "softmax" makes the
        model a classifier of n_L ≥ 2 classes (`MLP.predict` returns the label argmax_j f_j, the score
        is accuracy, the class of a target is its largest entry), "sigmoid" one of labels 0 and 1
        (1 where sigmoid(f) > ½; a target is 1 where it is > ½, so targets −1 and 1 serve too); with
        the others it is a regression, scored by R². Targets have shape (n, n_L), or (n,) if n_L = 1.

    Raises
    ------
    ValueError
        If Numba cannot compile the function (and where), or the derivative does not agree with
        differences of `f` in float64, or `name` is that of a built-in loss, or `link` is unknown,
        or there is no derivative and no Numba.
    TypeError
        If `f` or `derivative` is no function.

    Examples
    --------
    The quantile loss, whose minimum is the 90 % quantile of y:

    >>> import fastbp
    >>> quantile = fastbp.loss(lambda f, y: max(0.9 * (y - f), 0.1 * (f - y)), name="quantile")
    >>> model = fastbp.MLP([4, 16, 1], loss=quantile)
    """
    name = check_function(f, derivative, name)
    if name in LOSSES or name in LOSS_ALIASES:
        raise ValueError(f"name must not be that of a built-in loss, got {name!r}")
    if link not in LINKS:
        raise ValueError(nearest_name("link", str(link), LINKS))
    made = Loss(
        name,
        function=f,
        derivative=derivative,
        fingerprint=fingerprint(f, derivative),
        user_link=link,
    )
    check_loss(made)
    return made


def fingerprint(*functions: Function | None) -> str:
    """What the compiled code of these functions follows from: their bytecode and all it refers to.

    Starts with # , and is different every time, if a function refers to what this cannot follow.
    """
    try:
        return "\n".join(line for f in functions for line in _describe(f, set()))
    except _UnknownError:
        return f"#{next(_unnamed)}"


class _UnknownError(Exception):
    """A function refers to something other than functions, numbers, math and numpy."""


def _describe(value: Any, seen: set[int]) -> Iterator[str]:
    value = getattr(value, "py_func", value)  # of a function that Numba has jitted
    if value is None or isinstance(value, bool | int | float | str | tuple):
        if isinstance(value, tuple):
            yield f"tuple of {len(value)}"
            for item in value:
                yield from _describe(item, seen)
        else:
            yield f"{type(value).__name__} {value!r}"
    elif isinstance(value, types.FunctionType):
        if id(value) in seen:
            return
        seen.add(id(value))
        yield from _describe_code(value.__code__, value.__globals__, seen)
        yield from _describe(value.__defaults__, seen)
        for cell in value.__closure__ or ():
            yield from _describe(cell.cell_contents, seen)
    elif isinstance(value, types.ModuleType) and value.__name__ in _MODULES:
        yield f"module {value.__name__}"
    elif isinstance(value, types.BuiltinFunctionType | np.ufunc):
        yield f"built-in {getattr(value, '__module__', 'numpy')}.{value.__name__}"
    else:
        raise _UnknownError


def _describe_code(
    code: types.CodeType, namespace: dict[str, Any], seen: set[int]
) -> Iterator[str]:
    yield f"code {code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}"
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _describe_code(constant, namespace, seen)
        else:
            yield from _describe(constant, seen)
    for name in code.co_names:
        if name in namespace:
            yield name
            yield from _describe(namespace[name], seen)


def check_function(f: object, derivative: object, name: object) -> str:
    """The name of the function; raises if one of the arguments of its registration is no good."""
    for argument, value in (("f", f), ("derivative", derivative)):
        python = isinstance(getattr(value, "py_func", value), types.FunctionType)
        if not python and not (argument == "derivative" and value is None):
            raise TypeError(f"{argument} must be a Python function (def or lambda), got {value!r}")
    if name is None:
        name = getattr(f, "__name__", "custom")
        name = "custom" if name == "<lambda>" else name
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a string, got {name!r}")
    return name


def _at_points(f: Function, *points: Array) -> Array:
    """f, called in Python; NaN outside its domain."""

    def one(*x: float) -> float:
        try:
            return float(f(*map(float, x)))
        except (ValueError, ZeroDivisionError, OverflowError):
            return math.nan

    with np.errstate(all="ignore"):
        values: Array = np.vectorize(one, otypes=[np.float64])(*points)
    return values


def check_derivative(
    what: str, f: Function, compiled: tuple[Array, Array], x: Array, *more: Array
) -> None:
    """Compare value and derivative, computed at x, with f and its central differences in float64.

    Kinks and jumps, where the differences to the left and to the right disagree, are passed over.

    Raises
    ------
    ValueError
        If one of them is wrong somewhere, or f has no finite value anywhere.
    """
    h = 1e-4
    middle, left, right = (_at_points(f, x + step, *more) for step in (0.0, -h, h))
    finite = np.isfinite(middle) & np.isfinite(left) & np.isfinite(right)
    if not finite.any():
        raise ValueError(f"{what} is not finite at any of {x.size} points between -6 and 6")
    value, slope = compiled
    difference = (right - left) / (2 * h)
    size = 1 + np.abs(difference)
    smooth = np.abs(right - 2 * middle + left) / h <= 1e-2 * size
    wrong_value = finite & ~(np.abs(value - middle) <= 1e-9 * (1 + np.abs(middle)))
    wrong_slope = finite & smooth & ~(np.abs(slope - difference) <= 1e-5 * size)
    for wrong, got, wanted, name in (
        (wrong_value, value, middle, "value when compiled"),
        (wrong_slope, slope, difference, "derivative"),
    ):
        if wrong.any():
            i = int(np.argmax(wrong))
            place = ", ".join(f"{float(p.ravel()[i]):.6g}" for p in (x, *more))
            raise ValueError(
                f"{what}: the {name} at {place} is {float(got.ravel()[i]):.6g}, but "
                f"{'central differences give' if name == 'derivative' else 'Python gives'} "
                f"{float(wanted.ravel()[i]):.6g}"
            )


def _no_derivative(kind: str) -> ValueError:
    return ValueError(
        f"derivative of this {kind} must be given: without numba (pip install fastbp[jit]) "
        "it cannot be derived"
    )


def check_activation(activation: Any) -> None:
    """Check a user's activation at 49 points; see `check_derivative`."""
    z = np.linspace(-6, 6, 49) + 0.0137
    if jit.available():
        from fastbp.engines.jit.functions import evaluate_activation

        computed = evaluate_activation(activation, z)
    elif activation.derivative is None:
        raise _no_derivative("activation")
    else:
        computed = _at_points(activation.function, z), _at_points(activation.derivative, z)
    check_derivative(f"activation {activation.name!r}", activation.function, computed, z)


def check_loss(loss: Any) -> None:
    """Check a user's loss at 49 outputs for 4 targets; see `check_derivative`."""
    f, y = np.meshgrid(np.linspace(-6, 6, 49) + 0.0137, [0.0, 1.0, 2.5, -1.25])
    if jit.available():
        from fastbp.engines.jit.functions import evaluate_loss

        computed = evaluate_loss(loss, f, y)
    elif loss.derivative is None:
        raise _no_derivative("loss")
    else:
        computed = _at_points(loss.function, f, y), _at_points(loss.derivative, f, y)
    check_derivative(f"loss {loss.name!r}", loss.function, computed, f, y)
