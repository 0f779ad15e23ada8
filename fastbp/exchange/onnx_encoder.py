"""The encoder of a table's rows as nodes: columns in, of shape (N, 1), the network's inputs out.

Numbers are float64, NaN where missing; moments too, as seconds since 1970; texts "" where missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp.exchange.encoder import LIMITS, Category, Date, Encoder, Number
from fastbp.exchange.moments import FARTHEST, PARTS, parts_of
from fastbp.exchange.onnx_nodes import File, Tensor

__all__ = ["coded", "encoded"]

WIDE = np.dtype(np.float64)


def encoded(graph: File, encoder: Encoder) -> tuple[str, list[Any]]:
    """Add the nodes; return the name of the network's inputs, and the graph's."""
    nodes = _Nodes(graph, encoder.clip)
    kinds = {Number: nodes.number, Category: nodes.category, Date: nodes.date}
    inputs, parts = [], []
    for column in encoder.columns:
        dtype = None if isinstance(column, Category) else WIDE
        inputs.append(graph.input(column.name, dtype, 1))
        parts += kinds[type(column)](column)  # type: ignore[operator]
    return graph.add("Concat", *parts, axis=1), inputs


def coded(graph: File, columns: Sequence[Category]) -> tuple[str, list[Any]]:
    """The same of columns that are codes, int64: 0, or 1 + the input that `encoded` would set."""
    nodes = _Nodes(graph, clip=True)
    codes = [nodes.code(column, first=1) for column in columns]
    return graph.add("Concat", *codes, axis=1), [graph.input(c.name, None, 1) for c in columns]


class _Nodes:
    """What the kinds of columns have in common, and the nodes of each."""

    def __init__(self, graph: File, clip: bool) -> None:
        self.graph, self.add, self.clip = graph, graph.add, clip
        self.dtype = graph.onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)

    def number(self, column: Number) -> list[str]:
        """t / √(1 + (t/3)²), and whether the number is missing."""
        none = self.add("IsNaN", column.name)
        found = [self.scaled(column.name, none, column.center, column.scale)]
        return found + [self.cast(none)] * column.flag

    def category(self, column: Category) -> list[str]:
        """1 for the text's own input, 0 for the others."""
        places = self.graph.constant(np.arange(column.inputs), f"{column.name}: inputs")
        return [self.cast(self.add("Equal", self.code(column, first=0), places))]

    def code(self, column: Category, first: int) -> str:
        """The input of the text, counted from `first`."""
        codes = [*range(len(column.values))]
        codes += [column.missing_code] * len(column.missing_texts)
        name: str = self.add(
            "LabelEncoder",
            column.name,
            domain="ai.onnx.ml",
            keys_strings=[*column.values, *column.missing_texts],
            values_int64s=[first + code for code in codes],
            default_int64=first + column.new_code,
        )
        return name

    def date(self, column: Date) -> list[str]:
        """Numbers, then sines and cosines, then whether the moment is missing."""
        none = self.add("IsNaN", column.name)
        present = self.add("Where", none, self.constant(0.0), column.name)
        far = self.constant(-FARTHEST), self.constant(FARTHEST)
        seconds = Tensor(self.graph, self.add("Clip", present, *far), WIDE)
        parts = dict(zip(PARTS, parts_of(_Calendar(), seconds), strict=True))
        found = [
            self.scaled(parts[part].name, none, center, scale)
            for part, (center, scale) in column.scaled.items()
        ]
        for circle in column.circles:
            angle = parts[circle] * (2 * math.pi)
            # cos x = sin (x + π/2): onnxruntime of 2023 has no Cos of float64.
            for x in (angle, angle + math.pi / 2):
                sine = self.add("Where", none, self.constant(0.0), self.add("Sin", x.name))
                found.append(self.cast(sine))
        return found + [self.cast(none)] * column.flag

    def scaled(self, x: str, none: str, center: float, scale: float) -> str:
        """A float64 as an input, 0 where there is none."""
        t = self.add("Sub", x, self.constant(center))
        t = self.add("Mul", t, self.constant(scale))
        none = self.add("Or", none, self.add("IsNaN", t))  # ∞ · 0
        t = self.add("Where", none, self.constant(0.0), t)
        limit = LIMITS[self.clip]
        t = self.add("Clip", t, self.constant(-limit), self.constant(limit))
        if self.clip:
            third = self.add("Div", t, self.constant(3.0))
            square = self.add("Mul", third, third)
            root = self.add("Sqrt", self.add("Add", square, self.constant(1.0)))
            t = self.add("Div", t, root)
        return self.cast(t)

    def constant(self, x: float) -> str:
        name: str = self.graph.constant(np.array(x, WIDE))
        return name

    def cast(self, x: str) -> str:
        """In the network's dtype."""
        name: str = self.add("Cast", x, to=self.dtype)
        return name


class _Calendar:
    """`moments.Operations` as nodes."""

    def floor(self, x: Tensor) -> Tensor:
        return x.with_("Floor")

    def let(self, name: str, x: Tensor) -> Tensor:
        return x
