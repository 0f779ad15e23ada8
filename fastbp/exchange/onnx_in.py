"""ONNX in: a file with a chain of dense layers and known activations, as other tools write them.

The graph is followed from its input. Gemm, and MatMul with the Add behind it, are the dense layers;
which activation the nodes between two of them are is found by what they compute (`onnx_eval`), however
they are written; what follows the last one must be the prediction, the label or both, of one of the
links. Nothing in a file is executed, and no file beside it is opened.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import activations
from fastbp.activations import Activation
from fastbp.exchange.chain import Dense, Drop, Layer, Link, Phi, assemble
from fastbp.exchange.description import Network
from fastbp.exchange.formulas import LINKS, Numpy, find
from fastbp.exchange.onnx_eval import ELEMENTWISE, TAIL, evaluate
from fastbp.exchange.optional import need
from fastbp.losses import Loss

__all__ = ["read"]

Array = NDArray[Any]

_LARGEST = 2**31 - 1  # bytes of a protobuf message
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
# How far what a graph computes may be from a formula: its constants are in its own dtype.
_TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def read(path: str | os.PathLike[str], loss: str | Loss | None) -> Network:
    """Read a network; see `chain.assemble` for `loss`, which None takes from a file of fastbp's.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no ONNX file, is damaged, has its weights in other files, or a graph that is no MLP;
        the message names the node.
    """
    onnx = need("onnx", "from_onnx", extra="onnx")
    name = os.fspath(path)
    with open(name, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{name!r} is not a file")
        if status.st_size > _LARGEST:
            raise ValueError(
                f"{name!r} has {status.st_size:,} bytes; an ONNX file has at most 2 GB"
            )
        data = file.read()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf has its own; its C++ part raises others
        raise ValueError(f"{name!r} is no ONNX file, or is damaged: {error}") from error
    if not model.HasField("graph") or not model.graph.node:
        raise ValueError(f"{name!r} is no ONNX file, or is damaged: it has no graph")
    try:
        layers, said = _Reader(onnx, model).layers()
        return assemble(layers, _loss(model, loss, said))
    except (OverflowError, TypeError, UnicodeError, ValueError) as error:
        raise ValueError(f"{name!r} cannot be read as an MLP: {error}") from error


def _loss(model: Any, loss: str | Loss | None, link: str) -> str | Loss | None:
    """The loss to train on with: the one asked for, or that of fastbp's own file."""
    if loss is not None:
        return loss
    for entry in model.metadata_props:
        if entry.key == "fastbp.loss":
            found = Loss(*json.loads(entry.value))
            return found if found.link == link else None
    return None


class _Reader:
    """A graph on its way to layers."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx, graph = onnx, model.graph
        self.nodes = list(graph.node)
        self.constants: dict[str, Array] = {}
        if model.functions or graph.sparse_initializer:
            raise ValueError("it has functions or sparse tensors of its own")
        for tensor in graph.initializer:
            self.constants[tensor.name] = self._array(tensor)
        made = Counter(name for node in self.nodes for name in node.output)
        for node in self.nodes:
            if not node.output or (not node.input and node.op_type != "Constant"):
                raise ValueError(f"{_name(node)}: has no inputs or no outputs")
            for name in node.output:
                if made[name] > 1 or name in self.constants:
                    raise ValueError(f"{_name(node)}: makes {name!r}, which is there already")
        inputs = [i for i in graph.input if i.name not in self.constants]
        if len(inputs) != 1:
            names = ", ".join(repr(i.name) for i in inputs)
            raise ValueError(f"it has {len(inputs)} inputs ({names}), an MLP has one")
        self.input = inputs[0]
        kinds = {1: "float32", 11: "float64"}
        kind = self.input.type.tensor_type.elem_type
        if kind not in kinds:
            raise ValueError(f"its input {self.input.name!r} is not of float32 or float64")
        self.outputs = [o.name for o in graph.output]
        self.uses = Counter(name for node in self.nodes for name in node.input)
        self.uses.update(self.outputs)

    def layers(self) -> tuple[list[Layer], str]:
        """The layers, and the link that leads to the outputs."""
        self._take_constants()
        dense = [i for i, node in enumerate(self.nodes) if self._is_dense(node)]
        if not dense:
            raise ValueError("it has no Gemm or MatMul with constant weights")
        layers: list[Layer] = []
        entry = self.input.name
        start = 0
        for i in dense:
            if i < start:  # the Add of the layer before
                continue
            node = self.nodes[i]
            layers += self._between(self.nodes[start:i], entry, node, first=not layers)
            layer, entry, start = self._dense(i)
            layers.append(layer)
        link = self._link(self.nodes[start:], entry, layers[-1])
        if link != "identity":
            layers.append(Link(_name(self.nodes[-1]), link))
        return layers, link

    # Constants

    def _array(self, tensor: Any) -> Array:
        """A tensor's values, of a size that its bytes bear out."""
        where = f"tensor {tensor.name!r}"
        types = self.onnx.TensorProto
        if tensor.data_location == types.EXTERNAL or tensor.external_data:
            raise ValueError(f"{where} is in another file, which is not opened; save it all in one")
        shape = tuple(tensor.dims)
        if any(n < 0 for n in shape) or len(shape) > 8:
            raise ValueError(f"{where} has shape {shape}")
        known: dict[int, tuple[str, str]] = {
            types.FLOAT: ("<f4", "float_data"),
            types.DOUBLE: ("<f8", "double_data"),
            types.INT32: ("<i4", "int32_data"),
            types.INT64: ("<i8", "int64_data"),
            types.BOOL: ("?", "int32_data"),
            types.FLOAT16: ("<f2", "int32_data"),
            types.BFLOAT16: ("<u2", "int32_data"),
            types.STRING: ("U", "string_data"),
        }
        if tensor.data_type not in known:
            raise ValueError(f"{where} has element type {tensor.data_type}")
        code, field = known[tensor.data_type]
        values: Array
        if tensor.HasField("raw_data"):
            if code == "U" or len(tensor.raw_data) % np.dtype(code).itemsize:
                raise ValueError(f"{where} has bytes that are no values")
            values = np.frombuffer(tensor.raw_data, code)
        elif code == "U":
            values = np.array([s.decode() for s in tensor.string_data], np.str_)
        elif code in ("<f2", "<u2"):
            values = np.array(getattr(tensor, field), np.uint16).view(code)
        else:
            values = np.array(getattr(tensor, field), code)
        if values.size != int(np.prod(shape, dtype=object)):
            raise ValueError(f"{where} has {values.size:,} values for shape {shape}")
        if tensor.data_type == types.BFLOAT16:  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        elif code == "<f2":
            values = values.astype(np.float32)
        return values.reshape(shape)

    def _take_constants(self) -> None:
        """Move nodes that only say a constant, or pass one on, to the constants."""
        left = []
        for node in self.nodes:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = self._constant(node)
            elif node.op_type in ("Identity", "Transpose") and node.input[0] in self.constants:
                value = self.constants[node.input[0]]
                order = {a.name: list(a.ints) for a in node.attribute}.get("perm")
                try:
                    self.constants[node.output[0]] = (
                        value if node.op_type == "Identity" else value.transpose(order)
                    )
                except ValueError as error:
                    raise ValueError(f"{_name(node)}: {error}") from error
            else:
                left.append(node)
        self.nodes = left

    def _constant(self, node: Any) -> Array:
        if len(node.attribute) != 1:
            raise ValueError(f"{_name(node)}: has {len(node.attribute)} attributes")
        (a,) = node.attribute
        match a.name:
            case "value":
                return self._array(a.t)
            case "value_float":
                return np.array(a.f, np.float32)
            case "value_int":
                return np.array(a.i, np.int64)
            case "value_ints":
                return np.array(a.ints, np.int64)
            case "value_floats":
                return np.array(a.floats, np.float32)
        raise ValueError(f"{_name(node)}: has {a.name!r}, which no MLP has")

    # Dense layers

    def _is_dense(self, node: Any) -> bool:
        if node.op_type not in ("Gemm", "MatMul") or len(node.input) < 2:
            return False
        return node.input[1] in self.constants and node.input[0] not in self.constants

    def _dense(self, at: int) -> tuple[Dense, str, int]:
        """The layer of a node, the name of what comes out, and where the nodes go on."""
        node = self.nodes[at]
        where, W = _name(node), self.constants[node.input[1]]
        bias: Array | None = None
        out, after = node.output[0], at + 1
        if W.ndim != 2:
            raise ValueError(f"{where}: has weights of shape {W.shape}")
        if node.op_type == "Gemm":
            given = self._attributes(node)
            if given.get("transA", 0) or {given.get("alpha", 1.0), given.get("beta", 1.0)} != {1.0}:
                raise ValueError(f"{where}: has transA, alpha or beta, which no MLP has")
            W = W if given.get("transB", 0) else W.T
            if len(node.input) > 2 and node.input[2]:
                if node.input[2] not in self.constants:
                    raise ValueError(f"{where}: its bias {node.input[2]!r} is no constant")
                bias = self._bias(where, self.constants[node.input[2]], len(W))
        else:
            W = W.T
            following = self._next(after)
            while following is not None and self._passes_on(following, out):
                out, after = following.output[0], after + 1
                following = self._next(after)
            if following is not None and following.op_type == "Add" and self.uses[out] == 1:
                others = [i for i in following.input if i != out]
                if len(others) == 1 and others[0] in self.constants:
                    added = self.constants[others[0]]
                    bias = self._bias(_name(following), added, len(W))
                    out, after = following.output[0], after + 1
        return Dense(where, W, bias), out, after

    def _next(self, at: int) -> Any:
        return self.nodes[at] if at < len(self.nodes) else None

    def _passes_on(self, node: Any, name: str) -> bool:
        """Whether a node only passes on the values of that name, as Keras writes many."""
        if list(node.input) != [name] or self.uses[name] != 1:
            return False
        to = self.input.type.tensor_type.elem_type
        cast = node.op_type == "Cast" and self._attributes(node).get("to") == to
        return bool(cast or node.op_type == "Identity")

    def _bias(self, where: str, b: Array, width: int) -> Array:
        if b.shape not in ((width,), (1, width), (1,), ()):
            raise ValueError(f"{where}: adds an array of shape {b.shape} to {width} outputs")
        return np.broadcast_to(b.reshape(-1), (width,))

    # Between and behind them

    def _attributes(self, node: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for a in node.attribute:
            kinds = {1: a.f, 2: a.i, 3: a.s, 6: list(a.floats), 7: list(a.ints), 8: list(a.strings)}
            if a.type not in kinds:
                raise ValueError(f"{_name(node)}: has attribute {a.name!r}, which no MLP has")
            found[a.name] = kinds[a.type]
        return found

    def _follow(self, nodes: list[Any], values: dict[str, Any], *, tail: bool) -> None:
        """Compute the nodes' outputs into `values`, which has the inputs."""
        for node in nodes:
            if node.domain not in _DOMAINS:
                raise ValueError(f"{_name(node)}: is of domain {node.domain!r}")
            operators = TAIL if tail else ELEMENTWISE
            if node.op_type not in operators:
                raise ValueError(f"{_name(node)}: fastbp has nothing of its kind here")
            inputs = []
            for name in node.input:
                if name in values:
                    inputs.append(values[name])
                elif name in self.constants:
                    a = self.constants[name]
                    if not tail and a.size != 1:
                        raise ValueError(f"{_name(node)}: has another constant for each unit")
                    a = a if tail else a.reshape(())
                    inputs.append(a.astype(np.float64) if a.dtype.kind == "f" else a)
                elif name:
                    raise ValueError(
                        f"{_name(node)}: takes {name!r} from elsewhere, which is no chain of layers"
                    )
            if node.op_type == "Dropout":
                inputs = inputs[:1]
            attributes = self._attributes(node)
            if "alpha" in attributes:  # as it was written: 0.1, not 0.10000000149
                attributes["alpha"] = float(str(np.float32(attributes["alpha"])))
            try:
                result = evaluate(operators, node.op_type, inputs, attributes)
            except ValueError as error:
                raise ValueError(f"{_name(node)}: {error}") from error
            values[node.output[0]] = result

    def _between(self, nodes: list[Any], entry: str, dense: Any, *, first: bool) -> list[Layer]:
        """The activation and the dropout of the nodes that lead from `entry` into a dense layer."""
        wanted = dense.input[0]
        where = _name(nodes[-1]) if nodes else _name(dense)
        nodes = [node for node in nodes if not self._unused(node)]
        found: dict[str, Any] = {}

        def phi(z: NDArray[np.float64]) -> NDArray[np.float64]:
            found.clear()
            found[entry] = z
            self._follow(nodes, found, tail=False)
            if wanted not in found:
                raise ValueError(
                    f"{_name(dense)}: takes {wanted!r} from elsewhere, which is no chain of layers"
                )
            value = found[wanted]
            return np.broadcast_to(value, z.shape) if value.dtype.kind == "f" else value

        tolerance = _TOLERANCE[
            "float64" if self.input.type.tensor_type.elem_type == 11 else "float32"
        ]
        tolerances = dict.fromkeys(activations.ACTIVATIONS, tolerance)
        tolerances["softplus"] = max(tolerance, 1e-10)  # torch's is z from 20 on: 2e-9 off
        known = find(phi, tolerances)
        if known is None or (first and known[0] != "identity"):
            names = ", ".join(_name(node) for node in nodes)
            what = "changes the input" if first else "computes no activation that fastbp has"
            raise ValueError(f"{names}: {what}")
        drops = [node for node in nodes if node.op_type == "Dropout"]
        if len(drops) > 1:
            raise ValueError(f"{_name(drops[1])}: a hidden layer has one dropout")
        if first:
            return [Drop(_name(drops[0]), 0.5)] if drops else []  # which `assemble` refuses
        name, parameter = known
        if tolerance > 1e-9:  # of float32: as it was written
            parameter = float(str(np.float32(parameter)))
        layers: list[Layer] = [Phi(where, Activation(name, parameter))]
        if drops:
            layers.append(Drop(_name(drops[0]), self._dropped(drops[0])))
        return layers

    def _unused(self, node: Any) -> bool:
        return all(self.uses[name] == 0 for name in node.output)

    def _dropped(self, node: Any) -> float:
        """The probability of a Dropout: its second input, ½ where it has none."""
        if len(node.input) > 1 and node.input[1] in self.constants:
            a = self.constants[node.input[1]]
            if a.size == 1 and a.dtype.kind == "f":
                return float(str(np.float32(a.reshape(()))))
        return 0.5

    def _link(self, nodes: list[Any], entry: str, last: Layer) -> str:
        """Which of the links explains all outputs of the graph, computed of a few rows of f."""
        assert isinstance(last, Dense)
        columns = len(last.W)
        f = np.random.default_rng(0).normal(0, 3, (5, columns))
        values: dict[str, Any] = {entry: f}
        self._follow(nodes, values, tail=True)
        tolerance = 10 * _TOLERANCE["float32"]
        for name in self.outputs:
            if name not in values:
                raise ValueError(f"output {name!r} does not follow from the last dense layer")
        results = [values[name] for name in self.outputs]
        for link in ("identity", "softmax", "sigmoid", "exp"):
            p = _prediction(link, f)
            values_of = [p, np.hstack([1 - p, p])] if link == "sigmoid" and columns == 1 else [p]
            explained = all(
                _is_label(r, f, link) or any(_same(r, v, tolerance) for v in (*values_of, f))
                for r in results
            )
            valued = any(_same(r, v, tolerance) for r in results for v in values_of)
            if explained and (valued or link == ("sigmoid" if columns == 1 else "softmax")):
                return link
        names = ", ".join(_name(node) for node in nodes) or _name(self.nodes[-1])
        raise ValueError(f"{names}: lead to no prediction that fastbp has")


def _is_label(result: Any, f: Array, link: str) -> bool:
    """Whether a result says the class of each row, by whatever names the classes have."""
    columns = f.shape[1]
    if link == "sigmoid" and columns > 1:
        whole = result.dtype.kind in "ib" and result.size == f.size
        return whole and bool((result.reshape(f.shape) == (f > 0)).all())
    if (
        link not in ("sigmoid", "softmax")
        or result.size != len(f)
        or result.dtype.kind not in "ibU"
    ):
        return False
    index = f.argmax(axis=1) if columns > 1 else (f[:, 0] > 0).astype(int)
    pairs = set(zip(index.tolist(), result.reshape(-1).tolist(), strict=True))
    return len(pairs) == len({i for i, _ in pairs}) == len({label for _, label in pairs})


def _prediction(link: str, f: Array) -> Array:
    with np.errstate(all="ignore"):
        if link == "softmax":
            return np.asarray(TAIL["Softmax"](f))
        return np.asarray(LINKS[link](Numpy(), f, 0.0))


def _same(result: Any, wanted: Array, tolerance: float) -> bool:
    if result.dtype.kind != "f" or result.size != wanted.size:
        return False
    difference = np.abs(result.reshape(wanted.shape) - wanted)
    return bool((difference <= tolerance * (1 + np.abs(wanted))).all())


def _name(node: Any) -> str:
    """What a message calls a node."""
    return f"node {node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"
