"""The converter by which skl2onnx puts fastbp's estimators into the graph of a pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.exchange import onnx_out
from fastbp.exchange.description import Network, describe
from fastbp.exchange.optional import need

__all__ = ["register_skl2onnx"]

# Squeeze and Softmax of earlier opsets are others.
_OLDEST_OPSET = 13


def register_skl2onnx() -> None:
    """Make ``skl2onnx.to_onnx`` know `fastbp.MLPClassifier` and `fastbp.MLPRegressor`.

    They then convert by themselves, in a pipeline, a grid search and wherever else an estimator may
    stand, with the options of skl2onnx's own (``zipmap``, ``nocl``, …). The
    network is computed in the dtype of ``coefs_``, whatever the input's. To call it again does nothing.

    Raises
    ------
    ImportError
        If skl2onnx is not installed (extra ``onnx``).

    Examples
    --------
    >>> from fastbp.exchange import register_skl2onnx
    >>> register_skl2onnx()  # doctest: +SKIP
    """
    skl2onnx = need("skl2onnx", "register_skl2onnx", extra="onnx")
    from fastbp.estimators import MLPClassifier, MLPRegressor

    skl2onnx.update_registered_converter(
        MLPClassifier,
        "FastbpMLPClassifier",
        _classifier_shapes,
        _convert,
        options={
            "zipmap": [True, False, "columns"],
            "output_class_labels": [False, True],
            "nocl": [True, False],
        },
    )
    skl2onnx.update_registered_converter(
        MLPRegressor, "FastbpMLPRegressor", _regressor_shape, _convert
    )


def _described(operator: Any) -> Network:
    """The network; with option nocl its labels are numbers, whatever the classes."""
    network = describe(operator.raw_operator)
    if not network.classifies:
        return network
    options = operator.scope_inst.get_options(operator.raw_operator, {"nocl": False})
    return replace(network, classes=None) if options["nocl"] else network


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    network = _described(operator)
    rows = operator.inputs[0].get_first_dimension()
    columns = 2 if network.answer == "binary" else network.sizes[-1]
    text = network.classes is not None and network.classes.dtype.kind == "U"
    shape = [rows, columns] if network.answer == "sign" else [rows]
    operator.outputs[0].set_type((StringTensorType if text else Int64TensorType)(shape))
    operator.outputs[1].type.shape = [rows, columns]


def _regressor_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    rows = operator.inputs[0].get_first_dimension()
    double = isinstance(operator.inputs[0].type, DoubleTensorType)
    shape = [rows, _described(operator).sizes[-1]]
    operator.outputs[0].set_type((DoubleTensorType if double else FloatTensorType)(shape))


class _Container:
    """`onnx_nodes.Graph`, written into a container of skl2onnx's."""

    def __init__(self, scope: Any, container: Any, dtype: np.dtype[Any]) -> None:
        self.scope, self.container, self.dtype = scope, container, dtype

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name: str = self.scope.get_unique_variable_name(op.lower())
        self.container.add_node(
            op,
            list(inputs),
            [name],
            op_domain=domain,
            name=self.scope.get_unique_operator_name(op),
            **attributes,
        )
        return name

    def constant(self, value: NDArray[Any], name: str = "") -> str:
        unique: str = self.scope.get_unique_variable_name(name or "constant")
        if value.dtype.kind == "U":
            kind, values = 8, [text.encode() for text in value.ravel().tolist()]
        else:
            from onnx.helper import np_dtype_to_tensor_dtype

            kind, values = np_dtype_to_tensor_dtype(value.dtype), value.ravel().tolist()
        self.container.add_initializer(unique, kind, list(value.shape), values)
        return unique


def _convert(scope: Any, operator: Any, container: Any) -> None:
    from skl2onnx.common.data_types import guess_proto_type

    if container.target_opset < _OLDEST_OPSET:
        raise ValueError(
            f"fastbp's estimators need target_opset ≥ {_OLDEST_OPSET}, got {container.target_opset}"
        )
    network = _described(operator)
    graph = _Container(scope, container, network.dtype)
    from onnx.helper import np_dtype_to_tensor_dtype

    own = np_dtype_to_tensor_dtype(network.dtype)
    x = graph.add("Cast", operator.inputs[0].full_name, to=own)
    columns = onnx_out.answers(graph, network, onnx_out.outputs(graph, network, x))
    for output, (public, name) in zip(operator.outputs, columns.items(), strict=True):
        if public == "prediction" and network.sizes[-1] == 1:  # a column, as skl2onnx has it
            axis = graph.constant(np.array([1], np.int64))
            name = graph.add("Unsqueeze", name, axis)
        if public == "label":
            last, more = "Identity", {}
        else:
            last, more = "Cast", {"to": guess_proto_type(output.type)}
        container.add_node(
            last, [name], [output.full_name], name=scope.get_unique_operator_name(last), **more
        )
