"""ONNX out: a network as a graph of standard operators, in a file that any runtime reads.

The graph is pinned to opset 18 of the default domain, 3 of ai.onnx.ml, and IR version 8 (onnx 1.13,
onnxruntime 1.14, of 2023), whatever the onnx installed would write. What no operator computes in a
dtype is composed of those that do.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.activations import Activation
from fastbp.exchange import onnx_encoder
from fastbp.exchange.description import Network
from fastbp.exchange.formulas import FORMULAS, LINKS, resolve
from fastbp.exchange.onnx_nodes import File, Graph, Tensor
from fastbp.model_file import replacing

__all__ = [
    "IR_VERSION",
    "ML_OPSET",
    "OPSET",
    "activated",
    "answers",
    "build",
    "check_size",
    "linked",
    "outputs",
    "whole",
    "write",
]

Array = NDArray[Any]

OPSET, ML_OPSET, IR_VERSION = 18, 3, 8
_LARGEST = 2**31 - 2**20  # of a protobuf message, less room for the nodes


class _Operations:
    """`formulas.Operations` as nodes; NumPy's precision where the operators allow it.

    log1p and expm1 have no operators: 1 + x and exp(x) − 1 round to within the dtype's ε of 1, not of
    the result.
    """

    def exp(self, z: Tensor) -> Tensor:
        return z.with_("Exp")

    def expm1(self, z: Tensor) -> Tensor:
        return z.with_("Exp") - 1.0

    def sqrt(self, z: Tensor) -> Tensor:
        return z.with_("Sqrt")

    def tanh(self, z: Tensor) -> Tensor:
        return z.with_("Tanh")

    def abs(self, z: Tensor) -> Tensor:
        return z.with_("Abs")

    def minimum(self, z: Tensor, bound: float) -> Tensor:
        return z.with_("Min", bound)

    def maximum(self, z: Tensor, bound: float) -> Tensor:
        return z.with_("Relu") if bound == 0 else z.with_("Max", bound)

    def if_positive(self, z: Tensor, yes: Tensor, no: Tensor) -> Tensor:
        return z.with_("Greater", 0.0).with_("Where", yes, no)

    def sigmoid(self, z: Tensor) -> Tensor:
        return z.with_("Sigmoid")

    def softplus(self, z: Tensor) -> Tensor:
        e = self.exp(self.abs(z) * -1.0)  # never overflows
        return z.with_("Relu") + (e + 1.0).with_("Log")

    def normal_cdf(self, z: Tensor) -> Tensor:
        if z.graph.dtype == np.float32:
            return ((z * _HALF_ROOT).with_("Erf") + 1.0) * 0.5
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
            v = activated(graph, v, network.activations[i])
    return v


def activated(graph: Graph, z: str, activation: Activation) -> str:
    """Add φ(z)."""
    name, parameter = resolve(activation)
    if name in _WHOLE and graph.dtype == np.float32:
        return graph.add(_WHOLE[name], z, alpha=parameter)
    found: str = FORMULAS[name](_Operations(), Tensor(graph, z), parameter).name
    return found


def linked(graph: Graph, f: str, link: str) -> str:
    """Add link(f)."""
    if link == "softmax":
        return graph.add("Softmax", f, axis=-1)
    found: str = LINKS[link](_Operations(), Tensor(graph, f), 0.0).name
    return found


def answers(graph: Graph, network: Network, f: str) -> dict[str, str]:
    """Add what leads from f to prediction, or label and probabilities; return their names."""
    p = linked(graph, f, network.loss.link)
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


def check_size(parameters: Iterable[Array]) -> None:
    """Raise if they are more than a file holds."""
    size = sum(a.nbytes for a in parameters)
    if size > _LARGEST:
        raise ValueError(
            f"an ONNX file holds up to 2 GB, but the parameters take {size:,} bytes; "
            "save them as safetensors"
        )


def build(network: Network) -> Any:
    """Return the ``onnx.ModelProto`` of a network: X in, the answers of `answers` out."""
    check_size([*network.weights, *network.biases])
    graph = File(network.dtype)
    if network.encoder is None:
        x, inputs = "X", [graph.input("X", network.dtype, network.sizes[0])]
    else:
        graph.take([column.name for column in network.encoder.columns])
        x, inputs = onnx_encoder.encoded(graph, network.encoder)
    named = answers(graph, network, outputs(graph, network, x))
    model = whole(graph, inputs, {n: (x, *_type_of(graph, network, n)) for n, x in named.items()})
    if network.loss.function is None:  # for the way back in
        loss = json.dumps([network.loss.name, network.loss.parameter])
        graph.onnx.helper.set_model_props(model, {"fastbp.loss": loss})
    return model


def whole(graph: File, inputs: list[Any], results: dict[str, tuple[str, int, list[Any]]]) -> Any:
    """The model of a graph; `results` has of every output its tensor, element type and shape."""
    helper = graph.onnx.helper
    outputs = []
    for public, (inner, kind, shape) in results.items():
        graph.nodes.append(helper.make_node("Identity", [inner], [public], name=public))
        outputs.append(helper.make_tensor_value_info(public, kind, shape))
    return helper.make_model(
        helper.make_graph(graph.nodes, "fastbp", inputs, outputs, list(graph.constants.values())),
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("ai.onnx.ml", ML_OPSET),
        ],
        ir_version=IR_VERSION,
        producer_name="fastbp",
    )


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
