"""What the small nodes between two dense layers of an ONNX graph compute, in NumPy and float64.

Only to find out which function a piece of a graph is: few operators, each checked, none that makes
more values than it is given. Whatever else a file holds is refused by the node's name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.exchange.formulas import FORMULAS, Numpy

__all__ = ["ELEMENTWISE", "TAIL", "evaluate"]

Array = NDArray[Any]
Operator = Callable[..., Any]

_MOST = 1 << 24  # values of a result

# Element types of ONNX
_FLOATS: dict[int, Any] = {1: np.float32, 10: np.float16, 11: np.float64}
_WHOLE: dict[int, Any] = {6: np.int32, 7: np.int64, 9: np.bool_}


def _of(name: str, **defaults: float) -> Operator:
    """A formula as an operator; its parameter is the attribute alpha, if it has one."""

    def operator(z: Array, *, alpha: float = defaults.get("alpha", 0.0)) -> Any:
        return FORMULAS[name](Numpy(), z, alpha)

    return operator


def _cast(z: Array, *, to: int, saturate: int = 1) -> Array:
    if to in _FLOATS:
        return z.astype(_FLOATS[to]).astype(np.float64)
    return z.astype(_WHOLE[to])


def _clip(z: Array, low: Any = -math.inf, high: Any = math.inf) -> Array:
    clipped: Array = np.minimum(np.maximum(z, low), high)
    return clipped


def _gelu(z: Array, *, approximate: str | bytes = "none") -> Any:
    exact = approximate in ("none", b"none")
    return FORMULAS["gelu" if exact else "gelu_tanh"](Numpy(), z, 0.0)


def _selu(
    z: Array, *, alpha: float = 1.6732631921768188, gamma: float = 1.0507010221481323
) -> Array:
    scaled: Array = gamma * FORMULAS["elu"](Numpy(), z, alpha)
    return scaled


def _hard_sigmoid(z: Array, *, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(alpha * z + beta, 0, 1)


# A ufunc takes more: an array to write to, for one. A file is not to say so.


def _unary(f: Operator) -> Operator:
    return lambda z: f(z)


def _binary(f: Operator) -> Operator:
    return lambda a, b: f(a, b)


def _several(f: Operator) -> Operator:
    return lambda *z: functools.reduce(f, z)


_erf = np.vectorize(math.erf, otypes=[np.float64])

# What computes each output value from the input value in the same place.
ELEMENTWISE: dict[str, Operator] = {
    "Identity": lambda z: z,
    "Dropout": lambda z, *ratio, seed=0: z,
    "Cast": _cast,
    "Abs": _unary(np.abs),
    "Neg": _unary(np.negative),
    "Exp": _unary(np.exp),
    "Log": _unary(np.log),
    "Sqrt": _unary(np.sqrt),
    "Reciprocal": _unary(np.reciprocal),
    "Erf": _unary(_erf),
    "Tanh": _unary(np.tanh),
    "Sigmoid": _of("sigmoid"),
    "Relu": _of("relu"),
    "LeakyRelu": _of("leaky_relu", alpha=0.01),
    "Elu": _of("elu", alpha=1.0),
    "Softplus": _of("softplus"),
    "Gelu": _gelu,
    "Selu": _selu,
    "Mish": _of("mish"),
    "Softsign": _of("softsign"),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _of("hard_swish"),
    "Clip": _clip,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(np.divide),
    "Pow": _binary(np.power),
    "Max": _several(np.maximum),
    "Min": _several(np.minimum),
    "Greater": _binary(np.greater),
    "Less": _binary(np.less),
    "GreaterOrEqual": _binary(np.greater_equal),
    "LessOrEqual": _binary(np.less_equal),
    "Where": lambda c, yes, no: np.where(c, yes, no),
}


def _softmax(z: Array, *, axis: int = -1) -> Array:
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    p: Array = e / e.sum(axis=axis, keepdims=True)
    return p


def _arg_max(z: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    if select_last_index:
        raise ValueError("of equals it takes the last")
    index: Array = z.argmax(axis=axis, keepdims=bool(keepdims))
    return index


def _squeeze(z: Array, axes: Array | None = None) -> Array:
    return z.squeeze() if axes is None else z.squeeze(tuple(np.ravel(axes).tolist()))


def _unsqueeze(z: Array, axes: Array) -> Array:
    return np.expand_dims(z, tuple(np.ravel(axes).tolist()))


def _gather(values: Array, index: Array, *, axis: int = 0) -> Array:
    if values.ndim != 1 or axis != 0:
        raise ValueError("it takes from more than a list of classes")
    return values[index]


def _extract(values: Array, index: Array) -> Array:
    return values.reshape(1, -1)[:, index.ravel()]


def _flatten(z: Array, *, axis: int = 1) -> Array:
    return z.reshape(math.prod(z.shape[:axis]), -1)


def _reshape(z: Array, shape: Array, *, allowzero: int = 0) -> Array:
    wanted = [z.shape[i] if n == 0 else n for i, n in enumerate(np.ravel(shape).tolist())]
    return z.reshape(wanted)


# What leads from the outputs to labels and probabilities.
TAIL: dict[str, Operator] = {
    **ELEMENTWISE,
    "Softmax": _softmax,
    "ArgMax": _arg_max,
    "Concat": lambda *z, axis: np.concatenate(z, axis=axis),
    "Flatten": _flatten,
    "Gather": _gather,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    # ai.onnx.ml
    "ArrayFeatureExtractor": _extract,
    "Binarizer": lambda z, *, threshold=0.0: (z > threshold).astype(np.float64),
    "ZipMap": lambda z, *, classlabels_int64s=None, classlabels_strings=None: z,
}
_BROADCASTS = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "Greater", "Less", "Clip"}


def evaluate(operators: dict[str, Operator], op: str, inputs: list[Any], attributes: Any) -> Any:
    """The output of a node.

    Raises
    ------
    ValueError
        If the operator is not among those, or the node does not hold together.
    """
    if op not in operators:
        raise ValueError("fastbp has nothing of its kind here")
    if op in _BROADCASTS:
        shape = np.broadcast_shapes(*(np.shape(a) for a in inputs))
        if math.prod(shape) > _MOST:
            raise ValueError(f"it makes an array of shape {shape}")
    try:
        with np.errstate(all="ignore"):
            return np.asarray(operators[op](*inputs, **attributes))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"it does not hold together ({error})") from error
