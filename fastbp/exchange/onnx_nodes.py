"""Nodes of an ONNX graph, one after the other: where they go, and expressions that add them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp.exchange.optional import need

__all__ = ["File", "Graph", "Tensor"]

Array = NDArray[Any]


class Graph(Protocol):
    """Where nodes are written: `File` here, or a container of skl2onnx's."""

    dtype: np.dtype[Any]

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""

    def constant(self, value: Array, name: str = "") -> str:
        """Add a constant and return its name."""


class Tensor:
    """A node's output, of which formulas are made; `dtype` is that of their constants."""

    def __init__(self, graph: Graph, name: str, dtype: Any = None) -> None:
        self.graph, self.name, self.dtype = graph, name, dtype or graph.dtype

    def with_(self, op: str, *others: Any) -> Tensor:
        """The output of a node of this and others, tensors or numbers."""
        names = [
            o.name if isinstance(o, Tensor) else self.graph.constant(np.array(o, self.dtype))
            for o in others
        ]
        return Tensor(self.graph, self.graph.add(op, self.name, *names), self.dtype)

    def __add__(self, other: Any) -> Tensor:
        return self.with_("Add", other)

    def __sub__(self, other: Any) -> Tensor:
        return self.with_("Sub", other)

    def __mul__(self, other: Any) -> Tensor:
        return self.with_("Mul", other)

    def __truediv__(self, other: Any) -> Tensor:
        return self.with_("Div", other)


class File:
    """A graph on its way into a file."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.onnx = need("onnx", "to_onnx", extra="onnx")
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._scalars: dict[tuple[str, bytes], str] = {}
        self.taken: set[str] = {"X", "prediction", "label", "probabilities"}  # by inputs, outputs

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = self._free(f"{op}_{len(self.nodes)}")
        self.nodes.append(
            self.onnx.helper.make_node(op, inputs, [name], name=name, domain=domain, **attributes)
        )
        return name

    def take(self, names: Sequence[str]) -> None:
        """Give columns their names, before anything else has one."""
        reserved = self.taken & set(names)
        if reserved:
            raise ValueError(
                f"column {min(reserved)!r} has the name of an output; rename it, then train"
            )
        self.taken |= set(names)

    def _free(self, name: str) -> str:
        found, more = name, 1
        while found in self.taken:
            found, more = f"{name}_{more}", more + 1
        self.taken.add(found)
        return found

    def input(self, name: str, dtype: np.dtype[Any] | None, columns: int) -> Any:
        """An input of the graph; dtype None: of texts."""
        helper, kind = self.onnx.helper, self.onnx.TensorProto.STRING
        if dtype is not None:
            kind = helper.np_dtype_to_tensor_dtype(dtype)
        return helper.make_tensor_value_info(name, kind, ["N", columns])

    def constant(self, value: Array, name: str = "") -> str:
        """Add a constant, each scalar once, and return its name."""
        key = value.dtype.str + str(value.shape), value.tobytes() if value.size == 1 else b""
        if not name:
            if key in self._scalars:
                return self._scalars[key]
            name = self._scalars[key] = self._free(f"constant_{len(self.constants)}")
        else:
            name = self._free(name)
        if value.dtype.kind == "U":
            helper, kind = self.onnx.helper, self.onnx.TensorProto.STRING
            tensor = helper.make_tensor(name, kind, value.shape, [s.encode() for s in value.flat])
        else:
            tensor = self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        self.constants[name] = tensor
        return name
