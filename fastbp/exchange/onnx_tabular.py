"""ONNX out for networks for tables (`fastbp.tabular`): columns in, the mean of all members out.

Stages are nodes of float32; a member's prediction, and all that follows, float64 as in fastbp. Members
that share weights (TabM) are an axis of their own, (N, k, units), in place of k rows for each sample.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.exchange import onnx_encoder, onnx_out
from fastbp.exchange.encoder import Category
from fastbp.exchange.onnx_nodes import File
from fastbp.exchange.tabular import arrays_of, classes_of, columns_of
from fastbp.model_file import replacing
from fastbp.stages import Blend, Dense, Heads, Lookup, Members, Periodic, Scale, Stage

__all__ = ["build", "write"]

Array = NDArray[Any]
FLOAT, DOUBLE = 1, 11  # element types of ONNX


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a `fastbp.tabular.TabularModel`; an existing file is replaced by a complete one."""
    serialized: bytes = build(model).SerializeToString()
    with replacing(path) as file:
        file.write(serialized)


def build(model: Any) -> Any:
    """Return the ``onnx.ModelProto``."""
    estimator = model.estimator
    onnx_out.check_size(p for member in estimator.members_ for p in member.parameters)
    graph = File(np.dtype(np.float32))
    graph.take(estimator.inputs_.names)
    x, codes, inputs = _inputs(graph, estimator.inputs_)
    predictions = [
        _prediction(graph, estimator, member.parameters, x, codes) for member in estimator.members_
    ]
    total = predictions[0]
    for p in predictions[1:]:
        total = graph.add("Add", total, p)
    mean = graph.add("Div", total, _wide(graph, len(predictions)))
    classes = classes_of(model)
    if classes is None:
        return onnx_out.whole(graph, inputs, {"prediction": (_numbers(graph, estimator, mean),
                                                             DOUBLE, ["N"])})  # fmt: skip
    p = _probabilities(graph, model, mean)
    best = graph.add("ArgMax", p, axis=1, keepdims=0)
    label = graph.add("Gather", graph.constant(classes, "classes"), best)
    kind = (
        graph.onnx.TensorProto.STRING if classes.dtype.kind == "U" else graph.onnx.TensorProto.INT64
    )
    return onnx_out.whole(
        graph,
        inputs,
        {"label": (label, kind, ["N"]), "probabilities": (p, DOUBLE, ["N", len(classes)])},
    )


def _wide(graph: File, x: Any) -> str:
    return graph.constant(np.array(x, np.float64))


# From columns to inputs, as `fastbp.tabular.inputs.Inputs.encode`


def _inputs(graph: File, inputs: Any) -> tuple[str, str, list[Any]]:
    """Inputs that are no codes ("": none), the codes ("": none), and the graph's inputs."""
    given: list[Any] = []
    x = codes = ""
    columns = columns_of(inputs)
    first = len(columns.columns) - len(inputs.coded)
    if inputs.encoding is not None:
        values, given = onnx_encoder.encoded(
            graph, replace(columns, columns=columns.columns[:first])
        )
        pieces = []
        if inputs.numbers:
            pieces.append(_taken(graph, values, inputs.numbers))
        if inputs.plain:
            pieces.append(_plain(graph, values, inputs.plain, inputs.scaling))
        x = graph.add("Concat", *pieces, axis=1)
    if inputs.coded:
        coded = [c for c in columns.columns[first:] if isinstance(c, Category)]
        codes, more = onnx_encoder.coded(graph, coded)
        given += more
    return x, codes, given


def _taken(graph: File, values: str, columns: Sequence[int]) -> str:
    return graph.add("Gather", values, graph.constant(np.array(columns, np.int64), "c"), axis=1)


def _plain(
    graph: File,
    values: str,
    pairs: Sequence[tuple[int, int]],
    scaling: Sequence[tuple[float, float]],
) -> str:
    """Inputs, some minus another, scaled and clipped smoothly."""
    x = _taken(graph, values, [plus for plus, _ in pairs])
    if any(minus >= 0 for _, minus in pairs):
        other = _taken(graph, values, [max(minus, 0) for _, minus in pairs])
        there = np.array([minus >= 0 for _, minus in pairs], np.float32)
        x = graph.add("Sub", x, graph.add("Mul", other, graph.constant(there, "minus")))
    if not scaling:
        return x
    center, scale = (
        graph.constant(np.array(a, np.float32), "s") for a in zip(*scaling, strict=True)
    )
    t = graph.add("Mul", graph.add("Sub", x, center), scale)
    third = graph.add("Div", t, graph.constant(np.array(3, np.float32)))
    square = graph.add("Mul", third, third)
    one = graph.constant(np.array(1, np.float32))
    return graph.add("Div", t, graph.add("Sqrt", graph.add("Add", square, one)))


# The network


def _prediction(
    graph: File, estimator: Any, parameters: Sequence[Array], x: str, codes: str
) -> str:
    """What a member predicts, float64, as members are averaged."""
    left = iter(parameters)
    v, several = x, False
    for stage in estimator.stages_:
        own = arrays_of(stage, [next(left) for _ in stage.shapes])
        if isinstance(stage, Lookup):
            v = _vectors(graph, stage, own[1], v, codes)
        else:
            if isinstance(stage, Members) and not several:
                axis = graph.constant(np.array([1], np.int64))
                v, several = graph.add("Unsqueeze", v, axis), True
            v = _STAGES[type(stage)](graph, stage, v, *own)
        if stage.activation.name != "identity":
            v = onnx_out.activated(graph, v, stage.activation)
    p = graph.add("Cast", onnx_out.linked(graph, v, estimator._loss().link), to=DOUBLE)
    if several:  # whose mean fastbp keeps as float32
        axis = graph.constant(np.array([1], np.int64))
        p = graph.add("ReduceMean", p, axis, keepdims=0)
        p = graph.add("Cast", graph.add("Cast", p, to=FLOAT), to=DOUBLE)
    if estimator._clamps and estimator._bounds is not None:
        p = graph.add("Clip", p, *(_wide(graph, bound) for bound in estimator._bounds))
    return p


def _periodic(graph: File, stage: Periodic, v: str, w: Array, b: Array, W: Array, c: Array) -> str:
    """[e₁; …; e_d; v], eᵢ = Wᵢ cos(w x + b) + cᵢ, w with its factor 2π."""
    numbers = _taken(graph, v, range(len(w)))
    axis = graph.constant(np.array([2], np.int64))
    turns = graph.add("Unsqueeze", numbers, axis)
    theta = graph.add("Mul", turns, graph.constant(w, "w"))
    cosine = graph.add("Cos", graph.add("Add", theta, graph.constant(b, "b")))
    e = graph.add("Einsum", cosine, graph.constant(W, "W"), equation="rnk,nki->rin")
    e = graph.add("Add", e, graph.constant(c, "c"))
    shape = graph.constant(np.array([-1, c.size], np.int64), "shape")
    return graph.add("Concat", graph.add("Reshape", e, shape), v, axis=1)


def _vectors(graph: File, stage: Lookup, T: Array, v: str, codes: str) -> str:
    """[the other inputs; T's column of every code]."""
    levels = np.array(stage.levels, np.int64)
    places = graph.add("Add", codes, graph.constant(np.cumsum(levels) - levels, "starts"))
    found = graph.add("Gather", graph.constant(T, "vectors"), places, axis=0)
    shape = graph.constant(np.array([-1, len(levels) * stage.width], np.int64), "shape")
    found = graph.add("Reshape", found, shape)
    return graph.add("Concat", v, found, axis=1) if v else found


def _dense(graph: File, stage: Dense, v: str, W: Array, b: Array) -> str:
    """W v + b."""
    z = graph.add("MatMul", v, graph.constant(W.T, "weight"))
    return graph.add("Add", z, graph.constant(b, "bias"))


def _scale(graph: File, stage: Scale, v: str, s: Array) -> str:
    """s ⊙ v."""
    return graph.add("Mul", v, graph.constant(s, "scale"))


def _blend(graph: File, stage: Blend, v: str, alpha: Array) -> str:
    """v + α ⊙ (f(v) − v)."""
    bend = graph.add("Sub", onnx_out.activated(graph, v, stage.blended), v)
    return graph.add("Add", v, graph.add("Mul", graph.constant(alpha, "alpha"), bend))


def _members(graph: File, stage: Members, v: str, *own: Array) -> str:
    """s_m ⊙ v + b_m."""
    if stage.scale:
        v = graph.add("Mul", v, graph.constant(own[0], "scales"))
    return graph.add("Add", v, graph.constant(own[-1], "shifts")) if stage.shift else v


def _heads(graph: File, stage: Heads, v: str, W: Array) -> str:
    """W_m v."""
    return graph.add("Einsum", v, graph.constant(W, "heads"), equation="rki,kui->rku")


_STAGES: dict[type[Stage], Callable[..., str]] = {
    Periodic: _periodic,
    Dense: _dense,
    Scale: _scale,
    Blend: _blend,
    Members: _members,
    Heads: _heads,
}


# The answers


def _numbers(graph: File, estimator: Any, mean: str) -> str:
    """On the scale of the target; of quantiles the one that `predict` returns."""
    y = graph.add("Mul", mean, _wide(graph, estimator.scale_))
    y = graph.add("Add", y, _wide(graph, estimator.center_))
    outputs = estimator._outputs
    place = 0
    if outputs > 1:
        how_many = graph.constant(np.array([outputs], np.int64))
        y = graph.add("TopK", y, how_many, axis=1, largest=0, sorted=1)
        graph.nodes[-1].output.append(f"places of {y}")  # which has to be there
        place = estimator._middle
    axis = graph.constant(np.array([1], np.int64))
    return graph.add("Squeeze", _taken(graph, y, [place]), axis)


def _probabilities(graph: File, model: Any, mean: str) -> str:
    """At the temperature of the calibration, of all classes of the target."""
    estimator = model.estimator
    p = mean
    if estimator.temperature_ != 1:
        logs = graph.add("Div", graph.add("Log", p), _wide(graph, estimator.temperature_))
        p = graph.add("Softmax", logs, axis=1)
    axis = graph.constant(np.array([1], np.int64))
    p = graph.add("Div", p, graph.add("ReduceSum", p, axis, keepdims=1))
    known = model.of_all_classes(np.eye(estimator._outputs))
    if known.shape[1] == estimator._outputs:
        return p
    return graph.add("MatMul", p, graph.constant(known, "known"))
