"""A network as plain C99: one file and its header, constant arrays, two static buffers, libm.

Weights lie as W transposed: for each input, what it adds to every unit. The inner loop then runs over
units, whose sums do not depend on each other, so a compiler may make vector instructions of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _inputs
from fastbp._options import check_output
from fastbp._validation import nearest_name
from fastbp.exchange import c_encoder, quantize
from fastbp.exchange.c_encoder import identifier, quoted
from fastbp.exchange.description import Network
from fastbp.exchange.formulas import FORMULAS, LINKS, Formula, resolve, used_by
from fastbp.exchange.text import Text, bare
from fastbp.model_file import replacing

__all__ = ["Source", "Written", "checked", "put", "write"]

Array = NDArray[Any]

_BUFFERS = "odd", "even"  # of the layers' values, by the layer's number


@dataclass(frozen=True)
class Written:
    """What `to_c` has written.

    Attributes
    ----------
    source, header : str
        Paths of the two files.
    constants, buffers : int
        Bytes of constant data, and of the two buffers.
    error : quantize.Error or None
        Of int8 weights: how far the outputs are from those of the float weights.
    """

    source: str
    header: str
    constants: int
    buffers: int
    error: quantize.Error | None


def write(
    network: Network, path: str | os.PathLike[str], weights: str, X: ArrayLike | None
) -> Written:
    """Write PATH.c and PATH.h; see `methods.Exports.to_c`."""
    base, file_name = checked(path)
    if weights not in ("float", "int8"):
        raise ValueError(nearest_name("weights", weights, ["float", "int8"]))
    if X is not None:
        X = _inputs.as_matrix("X", X, network.sizes[0], network.dtype)
        if not len(X):
            raise ValueError("X must have rows to measure the error on, got none")
    error = quantize.error_of(network, X) if weights == "int8" else None
    return put(base, Source(network, identifier(file_name), file_name, error))


def checked(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The path without a suffix, and its last part, if both files can be written."""
    base = os.fspath(path)
    base = base[:-2] if base.endswith(".c") else base
    for suffix in (".c", ".h"):
        check_output("path", base + suffix)
    file_name = os.path.basename(base)
    if bad := set(file_name) & set('"\\\n\r'):
        raise ValueError(f"path must be a name that C can include, got {file_name!r} with {bad}")
    return base, file_name


def put(base: str, source: Source) -> Written:
    """Write the two files."""
    # Both are whole before one of them is put in its place.
    texts = source.c().encode(), source.h().encode()
    for suffix, text in zip((".c", ".h"), texts, strict=True):
        with replacing(base + suffix) as file:
            file.write(text)
    return Written(base + ".c", base + ".h", source.constants, source.buffers, source.error)


class Source:
    """The texts of the two files."""

    def __init__(
        self, network: Network, name: str, file_name: str, error: quantize.Error | None
    ) -> None:
        self.network, self.name, self.file_name, self.error = network, name, file_name, error
        self.int8 = error is not None
        self.type = "float" if network.dtype == np.float32 else "double"
        self.f = "f" if self.type == "float" else ""  # suffix of constants and functions
        self.outputs = 2 if network.answer == "binary" else network.sizes[-1]
        self.several = network.answer == "sign" and self.outputs > 1
        self.constants = 0
        self.encoder = network.encoder
        widths = network.sizes[1:]
        self.widths = [max(widths[0::2]), max(widths[1::2], default=0)]
        if self.encoder is not None:  # the encoded row is layer 0
            self.widths[1] = max(self.widths[1], network.sizes[0])
        self.buffers = sum(self.widths) * network.dtype.itemsize

    # Pieces

    def number(self, x: float) -> str:
        """A constant, to the last bit."""
        text = f"{x:.9g}" if self.type == "float" else f"{x:.17g}"
        return text + ("" if re.search("[.e]", text) else ".0") + self.f

    def array(self, kind: str, name: str, values: Array, per_line: int = 8) -> str:
        """A definition of a constant array."""
        self.constants += values.nbytes
        flat = values.ravel()
        if kind == "signed char":
            texts = list(map(str, flat.tolist()))
            per_line = 20
        else:
            texts = list(map(self.number, flat.tolist()))
        lines = [", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)]
        body = ",\n    ".join(lines)
        return f"static const {kind} {name}[{len(texts)}] = {{\n    {body}\n}};\n"

    def signature(self) -> str:
        """Of the one function."""
        kind, upper = self.type, self.name.upper()
        to = "p" if self.network.classifies else "y"
        given = f"const {kind} x[{upper}_INPUTS]"
        if self.encoder is not None:
            given = f"const {self.name}_row *row"
            kind = kind if self.network.classifies else "double"
        arguments = f"{given}, {kind} {to}[{upper}_OUTPUTS]"
        if self.several:
            arguments += f", int label[{upper}_OUTPUTS]"
        result = "int" if self.network.classifies and not self.several else "void"
        return f"{result} {self.name}_predict({arguments})"

    def meaning(self) -> str:
        """What the function says, for the header."""
        if not self.network.classifies:
            return "Writes the prediction to y."
        if self.several:
            return "Writes the probability of every label to p, and 1 or 0 for each to label."
        if self.network.answer == "sign":
            return "Writes the probability of 1 to p; returns the label, 1 or 0."
        named = f" (an index into {self.name}_classes)" if self.class_names() is not None else ""
        return f"Writes the probabilities of the classes to p; returns the likeliest class{named}."

    def class_names(self) -> tuple[str, list[str]] | None:
        """Type and texts of the classes, where they are not 0, 1, …."""
        classes = self.network.classes
        if classes is None or (
            classes.dtype.kind == "i" and (classes == np.arange(len(classes))).all()
        ):
            return None
        if classes.dtype.kind == "U":
            return "char *const", [quoted(str(c)) for c in classes]
        return "long long", [f"{c}LL" if c > -(2**63) else "(-9223372036854775807LL - 1)"
                             for c in classes.tolist()]  # fmt: skip

    def title(self) -> str:
        """A comment that says what this is."""
        network = self.network
        names = ", ".join(dict.fromkeys(resolve(a)[0] for a in network.activations)) or "linear"
        sizes = " -> ".join(map(str, network.sizes))
        lines = [f"{self.name}: a network {sizes} ({names}; {network.loss.link}), by fastbp."]
        if self.error is not None:
            lines.append(f"Its weights are int8; {self.error}.")
        return "/* " + "\n * ".join(lines) + " */\n"

    # The header

    def h(self) -> str:
        """The header."""
        upper, declared = self.name.upper(), ""
        names = self.class_names()
        if names is not None:
            kind = names[0]
            declared = f"extern const {kind} {self.name}_classes[{len(names[1])}];\n\n"
        if self.encoder is None:
            size = f"#define {upper}_INPUTS {self.network.sizes[0]}\n"
        else:
            size, declared = "", c_encoder.struct(self.encoder, self.name) + declared
        return (
            f"{self.title()}#ifndef {upper}_H\n#define {upper}_H\n\n{size}"
            f"#define {upper}_OUTPUTS {self.outputs}\n\n"
            '#ifdef __cplusplus\nextern "C" {\n#endif\n\n'
            f"{declared}/* {self.meaning()}\n"
            " * Not for two threads at once: it has buffers of its own. */\n"
            f"{self.signature()};\n\n"
            f"#ifdef __cplusplus\n}}\n#endif\n\n#endif\n"
        )

    # The source

    def c(self) -> str:
        """The source."""
        self.constants = 0
        network = self.network
        formulas = [resolve(a) for a in network.activations]
        link = network.loss.link
        needed: list[Formula] = [FORMULAS[name] for name, _ in formulas]
        if link in LINKS:
            needed.append(LINKS[link])
        used = used_by(needed)
        parts = [self.title(), f'#include "{self.file_name}.h"\n\n']
        if used - {"minimum", "maximum", "if_positive"} or link == "softmax" or self.encoder:
            parts.append("#include <math.h>\n\n")
        if (names := self.class_names()) is not None:
            body = ",\n    ".join(names[1])
            parts.append(
                f"const {names[0]} {self.name}_classes[{len(names[1])}] = {{\n    {body}\n}};\n\n"
            )
        for i, (W, b) in enumerate(zip(network.weights, network.biases, strict=True), 1):
            if self.int8:
                q, scale = quantize.quantize(W)
                parts.append(self.array("signed char", f"W{i}", q.T))
                parts.append(self.array(self.type, f"s{i}", scale))
            else:
                parts.append(self.array(self.type, f"W{i}", W.T))
            parts.append(self.array(self.type, f"b{i}", b) + "\n")
        for name, width in zip(_BUFFERS, self.widths, strict=True):
            if width:
                parts.append(f"static {self.type} {name}[{width}];\n")
        parts.append("\n" + self.helpers(used))
        parts += [
            self.function(f"phi{i}", FORMULAS[name], parameter)
            for i, (name, parameter) in enumerate(formulas, 1)
            if name != "identity"
        ]
        if link in LINKS and link != "identity":
            parts.append(self.function("link", LINKS[link], 0.0))
        if self.encoder is not None:
            text, size = c_encoder.c_source(self.encoder, self.name, self.type)
            self.constants += size
            parts.append(text)
        parts += [self.dense(), self._predict(formulas)]
        return "".join(parts)

    def helpers(self, used: Iterable[str]) -> str:
        """The functions that libm has not, of those that are used."""
        t, f = self.type, self.f
        one, half, root = self.number(1), self.number(0.5), self.number(-(0.5**0.5))
        known = {
            # NaN stays NaN
            "minimum": f"static {t} minimum({t} a, {t} b) {{ return a > b ? b : a; }}\n\n",
            "maximum": f"static {t} maximum({t} a, {t} b) {{ return a < b ? b : a; }}\n\n",
            "sigmoid": (
                f"static {t} sigmoid({t} z)\n{{\n"
                f"    {t} e = exp{f}(-fabs{f}(z)); /* never overflows */\n"
                f"    return (z < 0 ? e : {one}) / ({one} + e);\n}}\n\n"
            ),
            "softplus": (
                f"static {t} softplus({t} z)\n{{\n"
                f"    return (z < 0 ? 0 : z) + log1p{f}(exp{f}(-fabs{f}(z)));\n}}\n\n"
            ),
            "normal_cdf": (
                f"static {t} normal_cdf({t} z)\n{{\n"
                f"    return {half} * erfc{f}({root} * z);\n}}\n\n"
            ),
        }
        return "".join(text for name, text in known.items() if name in used)

    def function(self, name: str, formula: Formula, parameter: float) -> str:
        """The definition of a formula as a function of z."""
        z = Text("z", self.number)
        body = bare(formula(_Operations(self.f), z, parameter).text)
        return f"static {self.type} {name}({self.type} z) {{ return {body}; }}\n\n"

    def dense(self) -> str:
        """The function z = W v + b; of int8 weights z = s (q v) + b."""
        t = self.type
        kind, scale = ("signed char", f"const {t} *restrict s, ") if self.int8 else (t, "")
        first = "0" if self.int8 else "b[j]"
        last = "    for (j = 0; j < units; j++)\n        z[j] = s[j] * z[j] + b[j];\n"
        weight = f"({t})W[j]" if self.int8 else "W[j]"
        return (
            f"static void dense(const {kind} *restrict W, {scale}const {t} *restrict b,\n"
            f"                  long inputs, long units, const {t} *restrict v, {t} *restrict z)\n"
            "{\n    long i, j;\n"
            f"    for (j = 0; j < units; j++)\n        z[j] = {first};\n"
            "    for (i = 0; i < inputs; i++, W += units)\n"
            "        for (j = 0; j < units; j++)\n"
            f"            z[j] += {weight} * v[i];\n"
            f"{last if self.int8 else ''}}}\n\n"
        )

    def _predict(self, formulas: list[tuple[str, float]]) -> str:
        network, t = self.network, self.type
        lines: list[str] = []
        loops = False
        source = "x"
        if self.encoder is not None:
            source = _BUFFERS[1]
            lines.append(f"encode(row, {source});")
        for i, (k, n) in enumerate(zip(network.sizes, network.sizes[1:], strict=False), 1):
            to = _BUFFERS[(i - 1) % 2]
            scale = f"s{i}, " if self.int8 else ""
            lines.append(f"dense(W{i}, {scale}b{i}, {k}, {n}, {source}, {to});")
            if i <= len(formulas) and formulas[i - 1][0] != "identity":
                lines.append(f"for (j = 0; j < {n}; j++)\n        {to}[j] = phi{i}({to}[j]);")
                loops = True
            source = to
        answer, more = self._answer(source, network.sizes[-1])
        loops = loops or more
        head = "    long j;\n" if loops else ""
        body = "".join(f"    {line}\n" for line in [*lines, *answer])
        declared = ""
        if network.loss.link == "softmax":
            declared = f"    {t} sum = 0;\n    long best = 0;\n"
        return f"{self.signature()}\n{{\n{head}{declared}{body}}}\n"

    def _answer(self, f: str, n: int) -> tuple[list[str], bool]:
        """Statements that lead from the outputs f to the result, and whether they loop over j."""
        network, suffix = self.network, self.f
        link = network.loss.link
        to = "p" if network.classifies else "y"
        if link == "softmax":
            lines = [
                f"for (j = 1; j < {n}; j++)\n        best = {f}[j] > {f}[best] ? j : best;",
                f"for (j = 0; j < {n}; j++)\n"
                f"        sum += {to}[j] = exp{suffix}({f}[j] - {f}[best]);",
                f"for (j = 0; j < {n}; j++)\n        {to}[j] /= sum;",
            ]
            return [*lines, *(["return (int)best;"] if network.classifies else [])], True
        if network.answer == "binary":
            return [
                f"p[1] = link({f}[0]);",
                f"p[0] = {self.number(1)} - p[1];",
                f"return {f}[0] > 0;",
            ], False
        value = f"{f}[j]" if link == "identity" else f"link({f}[j])"
        if self.encoder is not None and not network.classifies:
            value = f"{value} * {self.encoder.scale!r} + {self.encoder.center!r}"
        if self.several:
            loop = f"for (j = 0; j < {n}; j++) {{\n        p[j] = {value};\n"
            return [f"{loop}        label[j] = {f}[j] > 0;\n    }}"], True
        lines = [f"for (j = 0; j < {n}; j++)\n        {to}[j] = {value};"]
        return [*lines, *([f"return {f}[0] > 0;"] if network.classifies else [])], True


class _Operations:
    """`formulas.Operations` as calls of libm and of the helpers."""

    def __init__(self, f: str) -> None:
        self.f = f

    def exp(self, z: Text) -> Text:
        return z.call(f"exp{self.f}")

    def expm1(self, z: Text) -> Text:
        return z.call(f"expm1{self.f}")

    def sqrt(self, z: Text) -> Text:
        return z.call(f"sqrt{self.f}")

    def tanh(self, z: Text) -> Text:
        return z.call(f"tanh{self.f}")

    def abs(self, z: Text) -> Text:
        return z.call(f"fabs{self.f}")

    def minimum(self, z: Text, bound: float) -> Text:
        return z.call("minimum", bound)

    def maximum(self, z: Text, bound: float) -> Text:
        return z.call("maximum", bound)

    def if_positive(self, z: Text, yes: Text, no: Text) -> Text:
        return z.like(f"({z.text} > 0 ? {yes.text} : {no.text})")

    def sigmoid(self, z: Text) -> Text:
        return z.call("sigmoid")

    def softplus(self, z: Text) -> Text:
        return z.call("softplus")

    def normal_cdf(self, z: Text) -> Text:
        return z.call("normal_cdf")
