"""A network as one Python file that predicts with NumPy alone."""

from __future__ import annotations

import base64
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.exchange.description import Network
from fastbp.exchange.encoder import LIMITS, Date, Encoder, Number
from fastbp.exchange.formulas import FORMULAS, LINKS, resolve, used_by
from fastbp.exchange.moments import FARTHEST, PARTS, Written, parts_of
from fastbp.exchange.text import Text, bare
from fastbp.model_file import replacing

__all__ = ["ARRAY", "HELPERS", "encoded", "encoding", "function", "source", "write"]

Array = NDArray[Any]


def write(network: Network, path: str | os.PathLike[str]) -> None:
    """Write the file; an existing one is replaced once the new one is complete and on disk."""
    text = source(network).encode()
    with replacing(path) as file:
        file.write(text)


def source(network: Network) -> str:
    """The text of the file."""
    formulas = [resolve(a) for a in network.activations]
    link = network.loss.link
    used = used_by(
        [*(FORMULAS[name] for name, _ in formulas), *([LINKS[link]] if link in LINKS else [])]
    )
    names = ", ".join(dict.fromkeys(name for name, _ in formulas)) or "linear"
    sizes = " -> ".join(map(str, network.sizes))
    imports = "import base64\n" + ("import math\n" if "normal_cdf" in used else "")
    parts = [
        f'"""A network {sizes} ({names}; {link}), written by fastbp. It needs NumPy alone."""\n\n'
        f"{imports}\nimport numpy as np\n\n",
        f'DTYPE = np.dtype("{network.dtype.name}")\n'
        f"INPUTS, OUTPUTS = {network.sizes[0]}, {network.sizes[-1]}\n",
    ]
    if network.classes is not None:
        parts.append(f"CLASSES = np.array({network.classes.tolist()!r})\n")
    parts.append(ARRAY.replace("DTYPE_TEXT", network.dtype.str.replace("=", "<")))
    layers = [
        f"    (\n{encoded(W)},\n{encoded(b)},\n    ),\n"
        for W, b in zip(network.weights, network.biases, strict=True)
    ]
    parts.append(f"# (W, b) of every layer\nLAYERS = [\n{''.join(layers)}]\n\n\n")
    parts += [text for name, text in HELPERS.items() if name in used]
    for i, (name, parameter) in enumerate(formulas, 1):
        parts.append(function(f"phi_{i}", FORMULAS[name], parameter))
    if link == "softmax":
        parts.append(_SOFTMAX)
    else:
        parts.append(function("link", LINKS[link], 0.0))
    phi = ", ".join(f"phi_{i}" for i in range(1, len(formulas) + 1))
    parts.append(_OUTPUTS.replace("PHI", phi + ("," if len(formulas) == 1 else "")))
    if network.encoder is not None:
        parts.append(encoding(network.encoder))
    parts.append(_answers(network))
    return "".join(parts)


def encoded(a: Array) -> str:
    """A call that makes the array of text."""
    text = base64.b64encode(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes()).decode()
    lines = [f'            "{text[i : i + 88]}"' for i in range(0, len(text), 88)]
    return f"        _array({a.shape},\n" + "\n".join(lines) + ")"


def _number(x: float) -> str:
    return repr(x)


def function(name: str, formula: Any, parameter: float) -> str:
    """The definition of a formula as a function of z."""
    body = bare(formula(_Operations(), Text("z", _number), parameter).text)
    return f"def {name}(z):\n    return {body}\n\n\n"


ARRAY = '''

def _array(shape, text):
    """An array of its bytes in base64."""
    return np.frombuffer(base64.b64decode(text), "DTYPE_TEXT").reshape(shape).astype(DTYPE)


'''

HELPERS = {
    "sigmoid": (
        "def sigmoid(z):\n    e = np.exp(-np.abs(z))  # never overflows\n"
        "    return np.where(z >= 0, 1, e) / (1 + e)\n\n\n"
    ),
    "normal_cdf": (
        "_erfc = np.vectorize(math.erfc, otypes=[np.float64])\n\n\n"
        "def normal_cdf(z):\n    return (0.5 * _erfc(z * -math.sqrt(0.5))).astype(z.dtype)\n\n\n"
    ),
}

_SOFTMAX = """def link(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


"""

_OUTPUTS = '''def outputs(X):
    """The outputs f of every row of X, shape (n, OUTPUTS)."""
    v = np.asarray(X, DTYPE)
    if v.ndim != 2 or v.shape[1] != INPUTS:
        raise ValueError(f"X must have shape (n, {INPUTS}), got {v.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        for (W, b), phi in zip(LAYERS, [PHI, None], strict=True):
            v = v @ W.T + b
            v = v if phi is None else phi(v)
    return v


'''.replace("[PHI, None]", "[*(PHI), None]")


def encoding(encoder: Encoder, coded: int = 0) -> str:
    """The columns, and the function that makes inputs of them; the last ones are codes."""
    lines = []
    of_inputs = len(encoder.columns) - coded
    for i, column in enumerate(encoder.columns):
        if isinstance(column, Number):
            learnt = [column.center, column.scale, column.flag]
            lines.append(f"    ({column.name!r}, {', '.join(map(repr, learnt))}),")
        elif isinstance(column, Date):
            scaled = [(PARTS.index(part), *pair) for part, pair in column.scaled.items()]
            circles = [PARTS.index(part) for part in column.circles]
            lines.append(f"    ({column.name!r}, {scaled!r}, {circles!r}, {column.flag}),")
        else:
            codes = dict.fromkeys(column.missing_texts, column.missing_code)
            codes |= {value: j for j, value in enumerate(column.values)}
            width = column.inputs if i < of_inputs else 0
            codes_text = f"{column.new_code}, {column.missing_code}, {width}"
            lines.append(f"    ({column.name!r}, {codes!r}, {codes_text}),")
    clip = "t / np.sqrt(1 + np.square(t / 3))" if encoder.clip else "t"
    dates = any(isinstance(column, Date) for column in encoder.columns)
    return (_moments() if dates else "") + _ENCODE.replace(
        "COLUMN_LINES", "\n".join(lines)
    ).replace("OF_DATES", _OF_DATES if dates else "").replace(
        "LIMIT", repr(LIMITS[encoder.clip])
    ).replace("CLIPPED", clip)


def _moments() -> str:
    """The function that takes moments apart."""
    written = Written("np.floor", "    {} = {}\n")
    parts = parts_of(written, Text("second", _number))
    lines = ",\n".join(f"        {bare(part.text)}" for part in parts)
    return (
        _SECONDS.replace("FARTHEST", repr(FARTHEST))
        + f'def parts_of(second):\n    """Of moments: {", ".join(PARTS)}."""\n'
        + f"{''.join(written.statements)}    return [\n{lines},\n    ]\n\n\n"
    )


_SECONDS = '''\
def seconds_of(column):
    """Seconds since 1970, NaN where missing: of such numbers, or of what NumPy takes as datetime64."""
    moments = np.asarray(column)
    if moments.dtype.kind not in "iuf":
        moments = moments.astype("datetime64[s]")
        none = np.isnat(moments)
        moments = np.where(none, np.nan, moments.astype(np.int64))
    return np.clip(moments.astype(np.float64), -FARTHEST, FARTHEST)


'''

_OF_DATES = """\
        if isinstance(learnt[0], list):
            scaled, circles, flag = learnt
            parts = parts_of(seconds_of(column))
            none = np.isnan(parts[0])
            inputs += [scale(parts[i], *pair)[:, None] for i, *pair in scaled]
            for i in circles:
                angle = 2 * np.pi * np.where(none, 0, parts[i])
                inputs += [np.where(none, 0, f(angle))[:, None] for f in (np.sin, np.cos)]
            if flag:
                inputs.append(none[:, None])
            continue
"""

_ENCODE = '''\
# Of numbers: name, center, scale, whether an input says that it is missing. Of texts: name, the
# input of each value, of a new one, of a missing one (-1: none), and how many inputs there are (0: one,
# the code itself). Of moments: name, center and scale of some parts, parts that are circles, and again
# whether.
COLUMNS = [
COLUMN_LINES
]


def scale(x, center, factor):
    """Numbers as an input, 0 where there is none."""
    with np.errstate(over="ignore", invalid="ignore"):
        t = (x - center) * factor
    t = np.clip(np.where(np.isnan(t), 0, t), -LIMIT, LIMIT)
    return CLIPPED


def encode(table):
    """The network's inputs, of a dict of columns (or a frame): numbers, NaN where missing, and texts."""
    inputs = []
    for name, *learnt in COLUMNS:
        column = table[name]
        if isinstance(learnt[0], dict):
            codes, new, missing, width = learnt
            texts = [None if v is None or v != v else str(v).strip() for v in column]
            code = np.array([missing if t is None else codes.get(t, new) for t in texts], int)
            inputs.append(np.equal.outer(code, np.arange(width)) if width else code[:, None] + 1)
            continue
OF_DATES\
        *pair, flag = learnt
        x = np.array(column, np.float64)
        inputs.append(scale(x, *pair)[:, None])
        if flag:
            inputs.append(np.isnan(x)[:, None])
    return np.hstack(inputs).astype(DTYPE)


'''


def _answers(network: Network) -> str:
    """The functions `predict` and, in classification, `predict_proba`."""
    text = _plain_answers(network)
    encoder = network.encoder
    if encoder is None:
        return text
    text = text.replace("outputs(X)", "outputs(encode(X))").replace(
        "row of X", "row of the table X"
    )
    if not network.classifies:
        scaled = f".astype(np.float64) * {encoder.scale!r} + {encoder.center!r}\n"
        text = text.rstrip("\n") + scaled
    return text


def _plain_answers(network: Network) -> str:
    one = "[:, 0]" if network.sizes[-1] == 1 and network.squeeze else ""
    if not network.classifies:
        return (
            'def predict(X):\n    """The prediction for every row of X."""\n'
            f"    return link(outputs(X)){one}\n"
        )
    named = "CLASSES[{}]" if network.classes is not None else "{}"
    label = {
        "argmax": named.format("outputs(X).argmax(axis=1)"),
        "binary": named.format("(outputs(X)[:, 0] > 0).astype(np.int64)"),
        "sign": f"(outputs(X) > 0).astype(np.int64){one}",
    }[network.answer]
    probabilities = f"    return link(outputs(X)){one}\n"
    if network.answer == "binary":
        probabilities = "    p = link(outputs(X))\n    return np.hstack([1 - p, p])\n"
    return (
        f'def predict(X):\n    """The label of every row of X."""\n    return {label}\n\n\n'
        'def predict_proba(X):\n    """The probabilities for every row of X."""\n' + probabilities
    )


class _Operations:
    """`formulas.Operations` as calls of NumPy and of the helpers."""

    def exp(self, z: Text) -> Text:
        return z.call("np.exp")

    def expm1(self, z: Text) -> Text:
        return z.call("np.expm1")

    def sqrt(self, z: Text) -> Text:
        return z.call("np.sqrt")

    def tanh(self, z: Text) -> Text:
        return z.call("np.tanh")

    def abs(self, z: Text) -> Text:
        return z.call("np.abs")

    def minimum(self, z: Text, bound: float) -> Text:
        return z.call("np.minimum", bound)

    def maximum(self, z: Text, bound: float) -> Text:
        return z.call("np.maximum", bound)

    def if_positive(self, z: Text, yes: Text, no: Text) -> Text:
        return z.like(f"np.where({z.text} > 0, {yes.text}, {no.text})")

    def sigmoid(self, z: Text) -> Text:
        return z.call("sigmoid")

    def softplus(self, z: Text) -> Text:
        return z.call("np.logaddexp", 0.0)

    def normal_cdf(self, z: Text) -> Text:
        return z.call("normal_cdf")
