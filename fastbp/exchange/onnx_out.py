"""ONNX out: a network as a graph of standard operators, in a file that any runtime reads.

The graph is pinned to opset 18 of the default domain, 3 of ai.onnx.ml, and IR version 8 (onnx 1.13,
onnxruntime 1.14, of 2023), whatever the onnx installed would write. What no operator computes in a
dtype is composed of those that do.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp.exchange.description import Network
from fastbp.exchange.encoder import LIMITS, Encoder, Number
from fastbp.exchange.formulas import FORMULAS, LINKS, resolve
from fastbp.exchange.optional import need
from fastbp.model_file import replacing

__all__ = ["IR_VERSION", "ML_OPSET", "OPSET", "Graph", "answers", "build", "outputs", "write"]

Array = NDArray[Any]

OPSET, ML_OPSET, IR_VERSION = 18, 3, 8
_LARGEST = 2**31 - 2**20  # of a protobuf message, less room for the nodes


class Graph(Protocol):
    """Where nodes are written: `File` here, or a container of skl2onnx's."""

    dtype: np.dtype[Any]

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""

    def constant(self, value: Array, name: str = "") -> str:
        """Add a constant and return its name."""


class Tensor:
    """A node's output, of which formulas are made."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def _with(self, op: str, *others: Any) -> Tensor:
        dtype = self.graph.dtype
        names = [
            o.name if isinstance(o, Tensor) else self.graph.constant(np.array(o, dtype))
            for o in others
        ]
        return Tensor(self.graph, self.graph.add(op, self.name, *names))

    def __add__(self, other: Any) -> Tensor:
        return self._with("Add", other)

    def __sub__(self, other: Any) -> Tensor:
        return self._with("Sub", other)

    def __mul__(self, other: Any) -> Tensor:
        return self._with("Mul", other)

    def __truediv__(self, other: Any) -> Tensor:
        return self._with("Div", other)


class _Operations:
    """`formulas.Operations` as nodes; NumPy's precision where the operators allow it.

    log1p and expm1 have no operators: 1 + x and exp(x) − 1 round to within the dtype's ε of 1, not of
    the result.
    """

    def exp(self, z: Tensor) -> Tensor:
        return z._with("Exp")

    def expm1(self, z: Tensor) -> Tensor:
        return z._with("Exp") - 1.0

    def sqrt(self, z: Tensor) -> Tensor:
        return z._with("Sqrt")

    def tanh(self, z: Tensor) -> Tensor:
        return z._with("Tanh")

    def abs(self, z: Tensor) -> Tensor:
        return z._with("Abs")

    def minimum(self, z: Tensor, bound: float) -> Tensor:
        return z._with("Min", bound)

    def maximum(self, z: Tensor, bound: float) -> Tensor:
        return z._with("Relu") if bound == 0 else z._with("Max", bound)

    def if_positive(self, z: Tensor, yes: Tensor, no: Tensor) -> Tensor:
        return z._with("Greater", 0.0)._with("Where", yes, no)

    def sigmoid(self, z: Tensor) -> Tensor:
        return z._with("Sigmoid")

    def softplus(self, z: Tensor) -> Tensor:
        e = self.exp(self.abs(z) * -1.0)  # never overflows
        return z._with("Relu") + (e + 1.0)._with("Log")

    def normal_cdf(self, z: Tensor) -> Tensor:
        if z.graph.dtype == np.float32:
            return ((z * _HALF_ROOT)._with("Erf") + 1.0) * 0.5
        # onnxruntime has no Erf of float64. With x = |z| / √2, half of erfc(x) is the tail of z's side.
        x = self.abs(z) * _HALF_ROOT
        t = (x - _CENTRE) / (x + _CENTRE)
        p = t * _ERFCX[-1] + _ERFCX[-2]
        for c in _ERFCX[-3::-1]:
            p = p * t + c
        tail = p / (x * 2.0 + 1.0) * self.exp(x * x * -1.0) * 0.5
        return self.if_positive(z, tail * -1.0 + 1.0, tail)


_HALF_ROOT = math.sqrt(0.5)
# (1 + 2x) exp(x²) erfc(x) for x ≥ 0 as a polynomial in t = (x − 3.75) / (x + 3.75): the Chebyshev
# expansion, computed with 60 digits and cut where its terms are below 1e-16.
_CENTRE = 3.75
_ERFCX = [
    *(1.2375126308378275, -0.14024059858554697, 0.0035854154854644293, 0.0822767384901452),
    *(-0.10880393014174886, 0.09230432116037748, -0.05869339858963677, 0.028362277418956406),
    *(-0.009746579558029276, 0.0017556258528952954, 0.0002937136655913448),
    *(-0.0002901540805408417, 5.164909889268241e-05, 2.238423915508223e-05),
    *(-1.1444146237700524e-05, -9.73559896736775e-07, 1.751637648849062e-06),
    *(-5.7218230603224086e-08, -2.5866850716155884e-07, 2.3263508708859124e-08),
    *(3.8675334242222354e-08, -3.744210080962018e-09, -5.1739902140113095e-09),
    *(3.1114333809799254e-10, 4.2514714447963895e-10),
]

# Operators of whole activations, whose parameter is a float32 attribute: in float64 it would be off.
_WHOLE = {"leaky_relu": "LeakyRelu", "elu": "Elu"}


def outputs(graph: Graph, network: Network, x: str) -> str:
    """Add the layers; return the name of f, which follows from x."""
    v = x
    for i, (W, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        W, b = (a.astype(graph.dtype, copy=False) for a in (W, b))
        names = graph.constant(W, f"{i}.weight"), graph.constant(b, f"{i}.bias")
        v = graph.add("Gemm", v, *names, transB=1)
        if i < len(network.activations):
            name, parameter = resolve(network.activations[i])
            if name in _WHOLE and graph.dtype == np.float32:
                v = graph.add(_WHOLE[name], v, alpha=parameter)
            else:
                v = FORMULAS[name](_Operations(), Tensor(graph, v), parameter).name
    return v


def answers(graph: Graph, network: Network, f: str) -> dict[str, str]:
    """Add what leads from f to prediction, or label and probabilities; return their names."""
    link = network.loss.link
    if link == "softmax":
        p = graph.add("Softmax", f, axis=1)
    else:
        p = LINKS[link](_Operations(), Tensor(graph, f), 0.0).name
    one = network.sizes[-1] == 1
    axis = graph.constant(np.array([1], np.int64)) if one else ""

    def squeezed(name: str) -> str:
        return graph.add("Squeeze", name, axis) if one and network.squeeze else name

    if not network.classifies:
        encoder = network.encoder
        if encoder is None:
            return {"prediction": squeezed(p)}
        wide = graph.add("Cast", squeezed(p), to=11)  # float64, as the answers of tables
        for op, x in (("Mul", encoder.scale), ("Add", encoder.center)):
            wide = graph.add(op, wide, graph.constant(np.array(x, np.float64)))
        return {"prediction": wide}
    if network.answer == "argmax":
        label = graph.add("ArgMax", f, axis=1, keepdims=0)
    else:
        zero = graph.constant(np.array(0, graph.dtype))
        label = graph.add("Cast", graph.add("Greater", f, zero), to=7)  # int64
    if network.answer == "binary":
        label = graph.add("Squeeze", label, axis)
        no = graph.add("Sub", graph.constant(np.array(1, graph.dtype)), p)
        p = graph.add("Concat", no, p, axis=1)
    elif network.answer == "sign":
        label, p = squeezed(label), squeezed(p)
    if network.classes is not None:
        label = graph.add("Gather", graph.constant(network.classes, "classes"), label)
    return {"label": label, "probabilities": p}


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

    def _free(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

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


def build(network: Network) -> Any:
    """Return the ``onnx.ModelProto`` of a network: X in, the answers of `answers` out."""
    size = sum(a.nbytes for a in (*network.weights, *network.biases))
    if size > _LARGEST:
        raise ValueError(
            f"an ONNX file holds up to 2 GB, but the parameters take {size:,} bytes; "
            "save them with to_safetensors"
        )
    graph = File(network.dtype)
    if network.encoder is None:
        x, inputs = "X", [_input(graph, "X", network.dtype, network.sizes[0])]
    else:
        x, inputs = _encoded(graph, network.encoder)
    named = answers(graph, network, outputs(graph, network, x))
    helper = graph.onnx.helper
    results = []
    for public, inner in named.items():
        graph.nodes.append(helper.make_node("Identity", [inner], [public], name=public))
        results.append(helper.make_tensor_value_info(public, *_type_of(graph, network, public)))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "fastbp", inputs, results, list(graph.constants.values())),
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("ai.onnx.ml", ML_OPSET),
        ],
        ir_version=IR_VERSION,
        producer_name="fastbp",
    )
    if network.loss.function is None:  # for the way back in
        loss = json.dumps([network.loss.name, network.loss.parameter])
        helper.set_model_props(model, {"fastbp.loss": loss})
    return model


def _input(graph: File, name: str, dtype: np.dtype[Any] | None, columns: int) -> Any:
    """An input of the graph; dtype None: of texts."""
    helper = graph.onnx.helper
    kind = (
        graph.onnx.TensorProto.STRING if dtype is None else helper.np_dtype_to_tensor_dtype(dtype)
    )
    return helper.make_tensor_value_info(name, kind, ["N", columns])


def _encoded(graph: File, encoder: Encoder) -> tuple[str, list[Any]]:
    """Add what makes the network's inputs of columns: float64 numbers and texts, (N, 1) each."""
    parts, inputs = [], []
    wide = np.dtype(np.float64)
    to = graph.onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)
    limit = LIMITS[encoder.clip]

    def constant(x: float) -> str:
        return graph.constant(np.array(x, wide))

    reserved = graph.taken & {column.name for column in encoder.columns}
    if reserved:
        raise ValueError(
            f"column {min(reserved)!r} has the name of an output; rename it, then train"
        )
    graph.taken |= {column.name for column in encoder.columns}
    for column in encoder.columns:
        inputs.append(_input(graph, column.name, wide if isinstance(column, Number) else None, 1))
        if isinstance(column, Number):
            t = graph.add("Sub", column.name, constant(column.center))
            t = graph.add("Mul", t, constant(column.scale))
            none = graph.add("IsNaN", t)
            t = graph.add("Where", none, constant(0.0), t)
            t = graph.add("Clip", t, constant(-limit), constant(limit))
            if encoder.clip:
                third = graph.add("Div", t, constant(3.0))
                square = graph.add("Mul", third, third)
                root = graph.add("Sqrt", graph.add("Add", square, constant(1.0)))
                t = graph.add("Div", t, root)
            parts.append(graph.add("Cast", t, to=to))
            if column.flag:
                parts.append(graph.add("Cast", none, to=to))
            continue
        keys = [*column.values, *column.missing_texts]
        codes = [*range(len(column.values))]
        codes += [column.missing_code] * len(column.missing_texts)
        code = graph.add(
            "LabelEncoder",
            column.name,
            domain="ai.onnx.ml",
            keys_strings=keys,
            values_int64s=codes,
            default_int64=column.new_code,
        )
        places = graph.constant(np.arange(column.inputs), f"{column.name}: inputs")
        parts.append(graph.add("Cast", graph.add("Equal", code, places), to=to))
    return graph.add("Concat", *parts, axis=1), inputs


def _type_of(graph: File, network: Network, output: str) -> tuple[int, list[str | int]]:
    """Element type and shape of an answer."""
    types, columns = graph.onnx.TensorProto, network.sizes[-1]
    flat = columns == 1 and network.squeeze
    if output != "label":
        columns = 2 if network.answer == "binary" else columns
        wide = output == "prediction" and network.encoder is not None
        dtype = np.dtype(np.float64) if wide else graph.dtype
        kind = graph.onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return kind, ["N"] if flat else ["N", columns]
    text = network.classes is not None and network.classes.dtype.kind == "U"
    vector = flat or network.answer != "sign"
    return types.STRING if text else types.INT64, ["N"] if vector else ["N", columns]


def write(network: Network, path: str | os.PathLike[str]) -> None:
    """Write the file; an existing one is replaced once the new one is complete and on disk."""
    serialized: bytes = build(network).SerializeToString()
    with replacing(path) as file:
        file.write(serialized)
