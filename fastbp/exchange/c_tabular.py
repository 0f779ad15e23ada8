"""Networks for tables (`fastbp.tabular`) as plain C99: as `c_source`, with other kinds of stages.

All members have the same stages, so there is one function for them, and a table of pointers to the
arrays of each. Members that share weights (TabM) run one after the other. The buffers hold one row.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.activations import Activation
from fastbp.exchange import c_encoder
from fastbp.exchange.c_source import Source, Written, checked, put
from fastbp.exchange.description import Network
from fastbp.exchange.formulas import FORMULAS, LINKS, resolve, used_by
from fastbp.exchange.tabular import arrays_of, classes_of, columns_of
from fastbp.stages import Blend, Dense, Heads, Lookup, Members, Periodic, Scale, Stage

__all__ = ["write"]

Array = NDArray[Any]


def write(model: Any, path: str | os.PathLike[str]) -> Written:
    """Write PATH.c and PATH.h of a `fastbp.tabular.TabularModel`."""
    base, file_name = checked(path)
    return put(base, TabularSource(model, c_encoder.identifier(file_name), file_name))


class TabularSource(Source):
    """The texts of the two files."""

    def __init__(self, model: Any, name: str, file_name: str) -> None:
        self.model, self.estimator = model, model.estimator
        self.inputs = inputs = model.encoder
        self.columns = columns_of(inputs)
        classes = classes_of(model)
        width = 1 if classes is None else len(classes)
        given = sum(column.inputs for column in self.columns.columns)
        # What the header says of a network: its classes, and the columns that it takes.
        network = Network(
            [np.zeros((width, given), np.float32)],
            [np.zeros(width, np.float32)],
            (),
            self.estimator._loss(),
            answer="value" if classes is None else "argmax",
            classes=classes,
            encoder=self.columns,
        )
        super().__init__(network, name, file_name, None)
        stages = self.estimator.stages_
        self.width = max(inputs.width, *(s.units for s in stages), *(s.inputs for s in stages))
        self.row = given
        self.buffers = 4 * (given + inputs.width + 2 * self.width)

    def title(self) -> str:
        """A comment that says what this is."""
        return (
            f"/* {self.name}: {len(self.estimator.members_)} networks for a table, by fastbp. */\n"
        )

    def c(self) -> str:
        """The source."""
        self.constants = 0
        estimator = self.estimator
        link = estimator._loss().link
        functions: dict[str, Activation] = {}
        for stage in estimator.stages_:
            phi = stage.blended if isinstance(stage, Blend) else stage.activation
            if phi.name != "identity":
                functions[resolve(phi)[0]] = phi
        needed = [FORMULAS[name] for name in functions]
        needed += [LINKS[link]] if link in LINKS else []
        parts = [self.title(), f'#include "{self.file_name}.h"\n\n#include <math.h>\n\n']
        if (names := self.class_names()) is not None:
            body = ",\n    ".join(names[1])
            parts.append(
                f"const {names[0]} {self.name}_classes[{len(names[1])}] = {{\n    {body}\n}};\n\n"
            )
        parts.append(self._arrays())
        for name, size in (("row_inputs", self.row), ("inputs", self.inputs.width),
                           ("odd", self.width), ("even", self.width)):  # fmt: skip
            parts.append(f"static float {name}[{size}];\n")
        parts.append("\n" + self.helpers(used_by(needed)))
        for name, phi in functions.items():
            parts.append(self.function(f"phi_{name}", FORMULAS[name], resolve(phi)[1]))
        if link in LINKS and link != "identity":
            parts.append(self.function("link", LINKS[link], 0.0))
        text, size = c_encoder.c_source(self.columns, self.name, "float")
        self.constants += size
        parts += [text, self._inputs()]
        kinds = dict.fromkeys(type(s).__name__.lower() for s in estimator.stages_)
        parts += [self.dense() if kind == "dense" else _KINDS.get(kind, "") for kind in kinds]
        parts += [self._member(link), self._answers()]
        return "".join(parts)

    # Constants

    def _arrays(self) -> str:
        """The arrays of all members, and the pointers to them."""
        texts, tables = [], []
        for i, member in enumerate(self.estimator.members_):
            left = iter(member.parameters)
            names = []
            for j, stage in enumerate(self.estimator.stages_):
                for n, a in enumerate(_as_c(stage, [next(left) for _ in stage.shapes])):
                    names.append(f"m{i}_{j}_{n}")
                    texts.append(self.array("float", names[-1], a) + "\n")
            tables.append("{" + ", ".join(names) + "}")
        count = len(names)
        rows = ",\n    ".join(tables)
        return (
            "".join(texts) + f"static const float *const members[{len(tables)}][{count}] = {{\n"
            f"    {rows}\n}};\n\n"
        )

    # From a row to inputs

    def _inputs(self) -> str:
        """The function that makes a network's inputs of what `encode` gives."""
        inputs = self.inputs
        starts = self.columns.starts
        lines: list[str] = []
        plus = [*inputs.numbers, *(a for a, _ in inputs.plain)]
        text = ""
        if plus:
            listed = ", ".join(map(str, plus))
            text += f"static const long taken[{len(plus)}] = {{{listed}}};\n"
            lines += [f"for (j = 0; j < {len(plus)}; j++)\n        x[j] = e[taken[j]];"]
        at = len(inputs.numbers)
        for j, (_, minus) in enumerate(inputs.plain, at):
            if minus >= 0:
                lines.append(f"x[{j}] -= e[{minus}];")
        if inputs.scaling:
            n = len(inputs.plain)
            for name, values in zip(("centers", "scales"), zip(*inputs.scaling, strict=True),
                                    strict=True):  # fmt: skip
                text += self.array("float", name, np.array(values, np.float32))
            lines.append(
                f"for (j = 0; j < {n}; j++) {{\n"
                f"        float t = (x[{at} + j] - centers[j]) * scales[j];\n"
                f"        x[{at} + j] = t / sqrtf(1.0f + t / 3.0f * (t / 3.0f));\n    }}"
            )
        first = len(self.columns.columns) - len(inputs.coded)
        for j, column in enumerate(inputs.coded):
            start, to = starts[first + j], len(plus) + j
            lines.append(f"x[{to}] = 0;")
            lines.append(
                f"for (j = 0; j < {len(column.inputs)}; j++)\n"
                f"        if (e[{start} + j] > 0)\n            x[{to}] = (float)(j + 1);"
            )
        body = "".join(f"    {line}\n" for line in lines)
        return f"{text}\nstatic void to_inputs(const float *e, float *x)\n{{\n    long j;\n{body}}}\n\n"

    # The network

    def _member(self, link: str) -> str:
        """The function that adds what a member predicts."""
        estimator, k = self.estimator, self.estimator._copies
        lines = [f"for (j = 0; j < {self.inputs.width}; j++)\n            odd[j] = inputs[j];"]
        v, z, n = "odd", "even", 0
        for stage in estimator.stages_:
            a = [f"a[{n + i}]" for i in range(len(_counts(stage)))]
            n += len(a)
            call, moves = _call(stage, a, v, z)
            lines.append(call)
            v, z = (z, v) if moves else (v, z)
            phi = stage.activation
            if phi.name != "identity":
                f = f"phi_{resolve(phi)[0]}"
                lines.append(
                    f"for (j = 0; j < {stage.units}; j++)\n            {v}[j] = {f}({v}[j]);"
                )
        outputs = estimator.stages_[-1].units
        if link == "softmax":
            lines.append(
                f"best = {v}[0], total = 0;\n"
                f"        for (j = 1; j < {outputs}; j++)\n"
                f"            best = {v}[j] > best ? {v}[j] : best;\n"
                f"        for (j = 0; j < {outputs}; j++)\n"
                f"            total += {v}[j] = expf({v}[j] - best);\n"
                f"        for (j = 0; j < {outputs}; j++)\n"
                f"            one[j] += {v}[j] / total;"
            )
        else:
            value = f"{v}[j]" if link == "identity" else f"link({v}[j])"
            lines.append(f"for (j = 0; j < {outputs}; j++)\n            one[j] += {value};")
        last = f"one[j] / {float(k)!r}"
        clamp = ""
        if estimator._clamps and estimator._bounds is not None:
            low, high = estimator._bounds
            clamp = (
                f"        one[j] = one[j] < {low!r} ? {low!r} : "
                f"one[j] > {high!r} ? {high!r} : one[j];\n"
            )
        body = "".join(f"        {line}\n" for line in lines)
        declared = "    float best, total;\n" if link == "softmax" else ""
        return (
            "static void member(const float *const *a, double *sum)\n{\n"
            f"    double one[{outputs}];\n    long j, m;\n{declared}"
            f"    for (j = 0; j < {outputs}; j++)\n        one[j] = 0;\n"
            f"    for (m = 0; m < {k}; m++) {{\n{body}    }}\n"
            f"    for (j = 0; j < {outputs}; j++) {{\n        one[j] = {last};\n{clamp}"
            "        sum[j] += one[j];\n    }\n}\n\n"
        )

    # The answers

    def _answers(self) -> str:
        estimator = self.estimator
        outputs, count = estimator._outputs, len(estimator.members_)
        lines = [
            "encode(row, row_inputs);",
            "to_inputs(row_inputs, inputs);",
            f"for (j = 0; j < {outputs}; j++)\n        mean[j] = 0;",
            f"for (i = 0; i < {count}; i++)\n        member(members[i], mean);",
            f"for (j = 0; j < {outputs}; j++)\n        mean[j] /= {float(count)!r};",
        ]
        declared = f"    double mean[{outputs}];\n    long i, j;\n"
        if self.network.classes is None:
            if outputs > 1:  # in rising order
                declared += "    double t;\n"
                lines.append(
                    f"for (i = 1; i < {outputs}; i++)\n"
                    "        for (j = i; j > 0 && mean[j - 1] > mean[j]; j--) {\n"
                    "            t = mean[j];\n            mean[j] = mean[j - 1];\n"
                    "            mean[j - 1] = t;\n        }"
                )
            place = estimator._middle if outputs > 1 else 0
            lines.append(f"y[0] = mean[{place}] * {estimator.scale_!r} + {estimator.center_!r};")
        else:
            declared += "    double total = 0;\n    int best = 0;\n"
            lines += self._probabilities(outputs)
        body = "".join(f"    {line}\n" for line in lines)
        return f"{self.signature()}\n{{\n{declared}{body}}}\n"

    def _probabilities(self, outputs: int) -> list[str]:
        lines = []
        known = self.model.of_all_classes(np.eye(self.estimator._outputs))
        if self.estimator.temperature_ != 1:
            t = self.estimator.temperature_
            lines.append(
                f"for (j = 0; j < {outputs}; j++)\n        mean[j] = pow(mean[j], {1 / t!r});"
            )
        lines.append(f"for (j = 0; j < {outputs}; j++)\n        total += mean[j];")
        for j, column in enumerate(known.T):
            place = np.flatnonzero(column)
            value = f"(float)(mean[{place[0]}] / total)" if len(place) else "0"
            lines.append(f"p[{j}] = {value};")
        lines.append(
            f"for (j = 1; j < {known.shape[1]}; j++)\n        best = p[j] > p[best] ? (int)j : best;"
        )
        return [*lines, "return best;"]


def _counts(stage: Stage) -> str:
    """A letter for each of the arrays of a stage."""
    if isinstance(stage, Members):
        return "s" * stage.scale + "b" * stage.shift
    kinds = {Dense: "Wb", Scale: "s", Blend: "a", Periodic: "wbWc", Lookup: "T", Heads: "W"}
    return kinds[type(stage)]


def _as_c(stage: Stage, parameters: list[Array]) -> list[Array]:
    """A stage's arrays as the functions take them."""
    arrays = arrays_of(stage, parameters)
    if isinstance(stage, Dense):
        return [arrays[0].T, arrays[1]]
    if isinstance(stage, Lookup):
        return [arrays[1]]
    return [arrays[0].transpose(0, 2, 1)] if isinstance(stage, Heads) else arrays


def _call(stage: Stage, a: list[str], v: str, z: str) -> tuple[str, bool]:
    """The statement of a stage, and whether its values are then in z."""
    n = stage.units
    if isinstance(stage, Dense):
        return f"dense({a[0]}, {a[1]}, {stage.inputs}, {n}, {v}, {z});", True
    if isinstance(stage, Heads):
        W = f"{a[0]} + m * {n * stage.inputs}"
        return f"heads({W}, {stage.inputs}, {n}, {v}, {z});", True
    if isinstance(stage, Periodic):
        sizes = f"{stage.numbers}, {stage.frequencies}, {stage.waves}, {stage.inputs}"
        return f"periodic({', '.join(a)}, {sizes}, {v}, {z});", True
    if isinstance(stage, Lookup):
        others = stage.inputs - len(stage.levels)
        lines = [f"for (j = 0; j < {others}; j++)\n            {z}[j] = {v}[j];"]
        start = 0
        for i, levels in enumerate(stage.levels):
            to = others + i * stage.width
            place = f"({start} + (long){v}[{others + i}]) * {stage.width}"
            lines.append(
                f"for (j = 0; j < {stage.width}; j++)\n"
                f"            {z}[{to} + j] = {a[0]}[{place} + j];"
            )
            start += levels
        return "\n        ".join(lines), True
    if isinstance(stage, Scale):
        step = f"{v}[j] *= {a[0]}[j];"
    elif isinstance(stage, Blend):
        step = f"{v}[j] += {a[0]}[j] * (phi_{resolve(stage.blended)[0]}({v}[j]) - {v}[j]);"
    else:
        assert isinstance(stage, Members)
        value = f"{v}[j]" + f" * {a[0]}[m * {n} + j]" * stage.scale
        step = f"{v}[j] = {value}" + f" + {a[-1]}[m * {n} + j]" * stage.shift + ";"
    return f"for (j = 0; j < {n}; j++)\n            {step}", False


_KINDS = {
    "heads": (
        "static void heads(const float *restrict W, long inputs, long units,\n"
        "                  const float *restrict v, float *restrict z)\n"
        "{\n    long i, j;\n    for (j = 0; j < units; j++)\n        z[j] = 0;\n"
        "    for (i = 0; i < inputs; i++, W += units)\n        for (j = 0; j < units; j++)\n"
        "            z[j] += W[j] * v[i];\n}\n\n"
    ),
    "periodic": (
        "/* Waves of the first n inputs, then all of them as they are. */\n"
        "static void periodic(const float *w, const float *b, const float *W, const float *c,\n"
        "                     long n, long k, long d, long inputs, const float *v, float *z)\n"
        "{\n    long r, q, i;\n    for (i = 0; i < d * n; i++)\n        z[i] = c[i];\n"
        "    for (r = 0; r < n; r++)\n        for (q = 0; q < k; q++, W += d) {\n"
        "            float wave = cosf(v[r] * w[r * k + q] + b[r * k + q]);\n"
        "            for (i = 0; i < d; i++)\n                z[i * n + r] += wave * W[i];\n        }\n"
        "    for (i = 0; i < inputs; i++)\n        z[d * n + i] = v[i];\n}\n\n"
    ),
}
