"""Networks for tables (`fastbp.tabular`) as one Python file that predicts with NumPy alone.

Stages are calls of the file's own functions, in float32; the mean of the members, and all that follows,
is float64 as in fastbp. Members that share weights (TabM) are an axis of their own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.activations import Activation
from fastbp.exchange.formulas import FORMULAS, LINKS, resolve, used_by
from fastbp.exchange.python_source import ARRAY, HELPERS, encoded, encoding, function
from fastbp.exchange.tabular import arrays_of, classes_of, columns_of
from fastbp.model_file import replacing
from fastbp.stages import Blend, Members, Stage

__all__ = ["source", "write"]

Array = NDArray[Any]


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a `fastbp.tabular.TabularModel`; an existing file is replaced by a complete one."""
    text = source(model).encode()
    with replacing(path) as file:
        file.write(text)


def source(model: Any) -> str:
    """The text of the file."""
    estimator = model.estimator
    inputs = estimator.inputs_
    columns = columns_of(inputs)
    functions = _Functions()
    stages = [functions.stage(s) for s in estimator.stages_]
    members = []
    for member in estimator.members_:
        left = iter(member.parameters)
        arrays = [
            [encoded(a) for a in arrays_of(s, [next(left) for _ in s.shapes])]
            for s in estimator.stages_
        ]
        members.append(
            "    (\n" + "".join("        (\n" + "".join(f"{a},\n" for a in stage) + "        ),\n"
                                for stage in arrays) + "    ),\n"
        )  # fmt: skip
    link = functions.link(estimator._loss().link)
    return "".join(
        [
            f'"""{len(members)} networks for a table, written by fastbp. They need NumPy alone."""\n\n',
            f"import base64\n{functions.imports}\nimport numpy as np\n\n",
            'DTYPE = np.dtype("float32")\n',
            _classes(model),
            ARRAY.replace("DTYPE_TEXT", "<f4"),
            f"# The arrays of every stage of every member\nMEMBERS = [\n{''.join(members)}]\n\n\n",
            functions.text,
            encoding(columns, len(inputs.coded)),
            _inputs(inputs),
            f"def member(arrays, v):\n    {_unpacked(stages)}\n"
            + "".join(f"    v = {call}\n" for call in stages)
            + f"    return {_averaged(estimator, link)}\n\n\n",
            _answers(model),
        ]
    )


def _unpacked(stages: Sequence[str]) -> str:
    return ", ".join(f"s{i}" for i in range(len(stages))) + ", = arrays"


def _averaged(estimator: Any, link: str) -> str:
    """What a member predicts, as members are averaged."""
    p = f"{link}(v)"
    if estimator._copies > 1:  # whose mean fastbp keeps as float32
        p = f"{p}.mean(axis=1, dtype=np.float64).astype(DTYPE)"
    p = f"{p}.astype(np.float64)"
    if estimator._clamps and estimator._bounds is not None:
        low, high = estimator._bounds
        p = f"{p}.clip({low!r}, {high!r})"
    return p


class _Functions:
    """The functions of the file, each once, and calls of them."""

    def __init__(self) -> None:
        self.text, self.imports = "", ""
        self._known: dict[str, str] = {}
        self._stages = 0

    def stage(self, stage: Stage) -> str:
        """The values after a stage, of those before it and its arrays s0, s1, …."""
        name = type(stage).__name__.lower()
        if name not in self._known and name != "blend":
            self._known[name] = _KINDS[name]
            self.text += _KINDS[name]
        arrays = f"s{self._stages}"
        self._stages += 1
        if isinstance(stage, Blend):
            call = f"v + {arrays}[0] * ({self.activation(stage.blended)}(v) - v)"
        elif isinstance(stage, Members):
            call = f"members(v, {stage.scale}, {stage.shift}, *{arrays})"
        else:
            call = f"{_NAMES.get(name, name)}(v, *{arrays})"
        if stage.activation.name != "identity":
            call = f"{self.activation(stage.activation)}({call})"
        return call

    def activation(self, activation: Activation) -> str:
        """The name of its function."""
        name, parameter = resolve(activation)
        return self._formula(f"phi_{name}", FORMULAS[name], parameter)

    def link(self, link: str) -> str:
        """The name of its function."""
        if link != "softmax":
            return self._formula(f"link_{link}", LINKS[link], 0.0)
        self.text += _SOFTMAX
        return "softmax"

    def _formula(self, name: str, formula: Any, parameter: float) -> str:
        for helper in sorted(used_by([formula]) & HELPERS.keys()):
            if helper not in self._known:
                self._known[helper] = HELPERS[helper]
                self.text += HELPERS[helper]
                self.imports = "import math\n" if helper == "normal_cdf" else self.imports
        if name not in self._known:
            self._known[name] = function(name, formula, parameter)
            self.text += self._known[name]
        return name


# `scale` is what makes an input of a column.
_NAMES = {"scale": "scale_each"}
_KINDS = {
    "dense": "def dense(v, W, b):\n    return v @ W.T + b\n\n\n",
    "scale": "def scale_each(v, s):\n    return v * s\n\n\n",
    "periodic": (
        "def periodic(v, w, b, W, c):\n"
        '    e = np.einsum("rnk,nki->rin", np.cos(v[:, : len(w), None] * w + b), W) + c\n'
        "    return np.hstack([e.reshape(len(v), c.size), v])\n\n\n"
    ),
    "lookup": (
        "def lookup(v, starts, T):\n    n = len(starts)\n"
        "    vectors = T[(v[:, -n:] + starts).astype(int)]\n"
        "    return np.hstack([v[:, :-n], vectors.reshape(len(v), n * T.shape[1])])\n\n\n"
    ),
    "members": (
        "def members(v, scale, shift, *arrays):\n"
        "    v = v[:, None] if v.ndim == 2 else v\n"
        "    v = v * arrays[0] if scale else v\n"
        "    return v + arrays[-1] if shift else v\n\n\n"
    ),
    "heads": (
        'def heads(v, W):\n    return np.einsum("rki,kui->rku", v, W)\n\n\n'
    ),
}  # fmt: skip

_SOFTMAX = """def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


"""


def _inputs(inputs: Any) -> str:
    """The function that makes a network's inputs of what `encode` gives."""
    lines = [f"    numbers = X[:, {list(inputs.numbers)}]\n"]
    plus = [a for a, _ in inputs.plain]
    minus = [max(b, 0) for _, b in inputs.plain]
    there = [float(b >= 0) for _, b in inputs.plain]
    lines.append(f"    plain = X[:, {plus}]\n")
    if any(there):
        lines.append(f"    plain = plain - X[:, {minus}] * np.array({there}, DTYPE)\n")
    if inputs.scaling:
        center, scale = (list(a) for a in zip(*inputs.scaling, strict=True))
        lines.append(f"    t = (plain - np.array({center}, DTYPE)) * np.array({scale}, DTYPE)\n")
        lines.append("    plain = t / np.sqrt(1 + np.square(t / 3))\n")
    coded = len(inputs.coded)
    codes = f"X[:, X.shape[1] - {coded} :]"
    return (
        'def inputs(table):\n    """A member\'s inputs: numbers, other columns, codes."""\n'
        f"    X = encode(table)\n{''.join(lines)}    return np.hstack([numbers, plain, {codes}])\n\n\n"
    )


def _classes(model: Any) -> str:
    classes = classes_of(model)
    return "" if classes is None else f"CLASSES = np.array({classes.tolist()!r})\n"


def _answers(model: Any) -> str:
    estimator = model.estimator
    mean = "sum(member(arrays, X) for arrays in MEMBERS) / len(MEMBERS)"
    if model.target.classes is None:
        ordered = "np.sort(y, axis=1)" if estimator._outputs > 1 else "y"
        place = estimator._middle if estimator._outputs > 1 else 0
        return (
            'def predict(table):\n    """The prediction for every row of the table."""\n'
            "    X = inputs(table)\n"
            f"    y = {mean} * {estimator.scale_!r} + {estimator.center_!r}\n"
            f"    return {ordered}[:, {place}]\n"
        )
    lines = ["    X = inputs(table)\n", f"    p = {mean}\n"]
    if estimator.temperature_ != 1:
        lines.append(
            '    with np.errstate(divide="ignore"):\n'
            f"        p = softmax(np.log(p) / {estimator.temperature_!r})\n"
        )
    lines.append("    p = p / p.sum(axis=1, keepdims=True)\n")
    known = model.of_all_classes(np.eye(estimator._outputs))
    if known.shape[1] != estimator._outputs:
        lines.append(f"    p = p @ np.array({known.tolist()!r})\n")
    return (
        'def predict_proba(table):\n    """The probabilities for every row of the table."""\n'
        f"{''.join(lines)}    return p\n\n\n"
        'def predict(table):\n    """The label of every row of the table."""\n'
        "    return CLASSES[predict_proba(table).argmax(axis=1)]\n"
    )
