"""ONNX in: what PyTorch, Keras, skl2onnx and fastbp write; everything else is refused by its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_cases import DTYPES
from exchange_cases import NETWORKS, assert_same, case_of, model_of

import fastbp
from fastbp import activations

onnx = pytest.importorskip("onnx")

dtypes = pytest.mark.parametrize("dtype", DTYPES)


@dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_bit_for_bit_there_and_back(name, dtype, tmp_path) -> None:
    model = model_of(case_of(name, dtype))
    model.to_onnx(tmp_path / "m.onnx")
    assert_same(fastbp.MLP.from_onnx(tmp_path / "m.onnx"), model)


@dtypes
def test_another_loss_with_the_same_prediction(dtype, tmp_path) -> None:
    model_of(case_of("squared_error", dtype)).to_onnx(tmp_path / "m.onnx")
    back = fastbp.MLP.from_onnx(tmp_path / "m.onnx", loss="huber", seed=0, engine="reference")
    assert back.plan.loss.name == "huber"
    model_of(case_of("relu", dtype)).to_onnx(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="ends in softmax, but loss 'squared_error' has pred"):
        fastbp.MLP.from_onnx(tmp_path / "m.onnx", loss="squared_error")


@pytest.mark.parametrize("kind", ["three", "texts", "two", "two texts", "several", "number"])
@pytest.mark.parametrize("zipmap", [True, False])
@dtypes
@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_what_skl2onnx_writes(kind, zipmap, dtype, tmp_path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    generator = np.random.default_rng(0)
    X = generator.standard_normal((40, 4)).astype(dtype)
    index = np.arange(40)
    y = {
        "three": index % 3,
        "texts": np.array(list("abc"))[index % 3],
        "two": index % 2,
        "two texts": np.array(["no", "yes"])[index % 2],
        "several": (generator.random((40, 3)) > 0.5).astype(int),
        "number": X[:, 0],
    }[kind]
    if kind == "number":
        peer = MLPRegressor(hidden_layer_sizes=(5, 3), activation="tanh", max_iter=2).fit(X, y)
        converted = skl2onnx.to_onnx(peer, X[:1])
    else:
        peer = MLPClassifier((5, 3), activation="logistic", max_iter=2).fit(X, y)
        converted = skl2onnx.to_onnx(peer, X[:1], options={"zipmap": zipmap and kind != "several"})
    path = tmp_path / "m.onnx"
    path.write_bytes(converted.SerializeToString())
    model = fastbp.MLP.from_onnx(path)
    for W, coef in zip(model.weights, peer.coefs_, strict=True):
        np.testing.assert_array_equal(W, coef.T)
    assert model.plan.dtype == dtype
    names = {"number": "squared_error", "three": "softmax_cross_entropy"}
    names["texts"] = names["three"]
    assert model.plan.loss.name == names.get(kind, "binary_cross_entropy")


# Graphs as others write them, made by hand


def tensor(name: str, value: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(value), name)


W1 = np.arange(12, dtype=np.float32).reshape(4, 3) / 10 - 0.5  # of the first layer, (n_1, n_0)
B1 = np.array([0.1, -0.2, 0.3, -0.4], np.float32)
W2 = np.arange(8, dtype=np.float32).reshape(2, 4) / 7 - 0.5
B2 = np.array([0.5, -0.5], np.float32)
WEIGHTS = {"W1": W1, "b1": B1, "W2": W2, "b2": B2, "W1t": W1.T.copy(), "W2t": W2.T.copy()}
FIRST = ("Gemm", ["x", "W1", "b1"], "z1", {"transB": 1})
LAST = ("Gemm", ["v1", "W2", "b2"], "y", {"transB": 1})


def graph(
    nodes: list[Any],
    outputs: tuple[str, ...] = ("y",),
    constants: dict[str, Any] | None = None,
    dtype: Any = np.float32,
    **options: Any,
) -> bytes:
    """The file of these nodes: (operator, inputs, output, attributes)."""
    helper = onnx.helper
    made = [
        helper.make_node(op, inputs, [out], name=f"the {out}", **attributes)
        for op, inputs, out, attributes in nodes
    ]
    used = {i for node in made for i in node.input}
    values = {k: v for k, v in (WEIGHTS | (constants or {})).items() if k in used}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_model(  # type: ignore[no-any-return]
        helper.make_graph(
            made,
            "g",
            [helper.make_tensor_value_info("x", kind, ["N", 3])],
            [helper.make_tensor_value_info(o, kind, None) for o in outputs],
            [tensor(k, v) for k, v in values.items()],
        ),
        **options,
    ).SerializeToString()


def read(data: bytes, folder: Path, **options: Any) -> fastbp.MLP:
    path = folder / "m.onnx"
    path.write_bytes(data)
    return fastbp.MLP.from_onnx(path, **options)


ERF = [
    ("Div", ["z1", "root"], "s", {}),
    ("Erf", ["s"], "e", {}),
    ("Add", ["e", "one"], "a", {}),
    ("Mul", ["z1", "a"], "m", {}),
    ("Mul", ["m", "half"], "v1", {}),
]
CONSTANTS = {
    "root": np.float32(np.sqrt(2)),
    "one": np.float32(1),
    "half": np.array([0.5], np.float32),
    "six": np.float32(6),
    "slope": np.float32(0.25),
}
GELU_TANH = ("Gelu", ["z1"], "v1", {"approximate": "tanh"})

KNOWN: dict[str, tuple[list[Any], fastbp.Activation]] = {
    **{
        name: ([(op, ["z1"], "v1", {})], activations.get(name))
        for op, name in [
            *(("Relu", "relu"), ("Sigmoid", "sigmoid"), ("Tanh", "tanh"), ("Softplus", "softplus")),
            *(("Identity", "identity"), ("Elu", "elu"), ("LeakyRelu", "leaky_relu")),
            *(("Gelu", "gelu"),),
        ]
    },
    "silu": (
        [("Sigmoid", ["z1"], "s", {}), ("Mul", ["s", "z1"], "v1", {})],
        activations.get("silu"),
    ),
    "gelu of erf": (ERF, activations.get("gelu")),
    "leaky 0.2": (
        [("LeakyRelu", ["z1"], "v1", {"alpha": 0.2})],
        fastbp.Activation("leaky_relu", 0.2),
    ),
    "leaky by Where": (
        [
            ("Greater", ["z1", "zero"], "positive", {}),
            ("Mul", ["z1", "slope"], "low", {}),
            ("Where", ["positive", "z1", "low"], "v1", {}),
        ],
        fastbp.Activation("leaky_relu", 0.25),
    ),
    "relu by Clip": ([("Clip", ["z1", "zero"], "v1", {})], activations.get("relu")),
    "relu by Max": ([("Max", ["z1", "zero"], "v1", {})], activations.get("relu")),
    "a Constant": (
        [
            ("Constant", [], "nought", {"value_float": 0.0}),
            ("Max", ["nought", "z1"], "v1", {}),
        ],
        activations.get("relu"),
    ),
    "elu 0.5": ([("Elu", ["z1"], "v1", {"alpha": 0.5})], fastbp.Activation("elu", 0.5)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_activations_however_they_are_written(name, tmp_path) -> None:
    nodes, activation = KNOWN[name]
    data = graph([FIRST, *nodes, LAST], constants=CONSTANTS | {"zero": np.float32(0)})
    model = read(data, tmp_path)
    assert model.plan.activations == (activation,)
    np.testing.assert_array_equal(model.weights[0], W1)
    np.testing.assert_array_equal(model.biases[1], B2)


DENSE: dict[str, list[Any]] = {
    "MatMul and Add": [
        ("MatMul", ["x", "W1t"], "p", {}),
        ("Add", ["p", "b1"], "z1", {}),
        ("Relu", ["z1"], "v1", {}),
        ("MatMul", ["v1", "W2t"], "q", {}),
        ("Add", ["b2", "q"], "y", {}),
    ],
    "Casts to the same wherever they can be, as Keras writes them": [
        ("Cast", ["x"], "x1", {"to": 1}),
        ("MatMul", ["x1", "W1t"], "p", {}),
        ("Cast", ["p"], "p1", {"to": 1}),
        ("Add", ["p1", "b1"], "z1", {}),
        ("Cast", ["z1"], "z2", {"to": 1}),
        ("Relu", ["z2"], "v1", {}),
        ("Cast", ["v1"], "v2", {"to": 1}),
        ("MatMul", ["v2", "W2t"], "q", {}),
        ("Cast", ["q"], "q1", {"to": 1}),
        ("Add", ["q1", "b2"], "q2", {}),
        ("Cast", ["q2"], "y", {"to": 1}),
    ],
    "Gemm without transB": [
        ("Gemm", ["x", "W1t", "b1"], "z1", {}),
        ("Relu", ["z1"], "v1", {}),
        LAST,
    ],
    "Casts to the same, Dropout and Identity": [
        ("Cast", ["x"], "x1", {"to": 1}),
        ("Gemm", ["x1", "W1", "b1"], "z1", {"transB": 1}),
        ("Relu", ["z1"], "r", {}),
        ("Identity", ["r"], "v1", {}),
        ("Gemm", ["v1", "W2", "b2"], "q", {"transB": 1}),
        ("Identity", ["q"], "y", {}),
    ],
    "weights by way of nodes": [
        ("Transpose", ["W1"], "T", {"perm": [1, 0]}),
        ("Identity", ["T"], "T2", {}),
        ("MatMul", ["x", "T2"], "p", {}),
        ("Add", ["p", "b1"], "z1", {}),
        ("Relu", ["z1"], "v1", {}),
        LAST,
    ],
}


@pytest.mark.parametrize("name", DENSE)
def test_dense_layers_however_they_are_written(name, tmp_path) -> None:
    model = read(graph(DENSE[name]), tmp_path)
    for got, want in zip(model.weights, [W1, W2], strict=True):
        np.testing.assert_array_equal(got, want)
    for got, want in zip(model.biases, [B1, B2], strict=True):
        np.testing.assert_array_equal(got, want)
    assert model.plan.loss.name == "squared_error"


def test_a_layer_without_bias(tmp_path) -> None:
    nodes = [("MatMul", ["x", "W1t"], "z1", {}), ("Relu", ["z1"], "v1", {}), LAST]
    model = read(graph(nodes), tmp_path)
    assert (model.biases[0] == 0).all()
    np.testing.assert_array_equal(model.weights[0], W1)


def test_dropout_is_kept(tmp_path) -> None:
    nodes = [
        FIRST,
        ("Relu", ["z1"], "r", {}),
        ("Dropout", ["r", "ratio", "training"], "v1", {}),
        LAST,
    ]
    constants = {"ratio": np.float32(0.3), "training": np.array(True)}
    assert read(graph(nodes, constants=constants), tmp_path).plan.dropout == (0.3,)


@pytest.mark.parametrize("op", ["Tanh", "LeakyRelu", "Add", "Where", "Cast", "Gelu", "Erf"])
def test_too_many_inputs_or_attributes_write_nowhere(op, tmp_path) -> None:
    # NumPy's functions would take them for arrays to write to.
    tanh = graph([FIRST, ("Tanh", ["z1"], "v1", {}), LAST])
    for inputs, attributes in [
        (["z1"] * 5, {}),
        (["z1"] * 2, {"out": 1.0}),
        (["z1"], {"where": 0}),
    ]:
        with pytest.raises(ValueError, match=r"node 'the v1'"):
            read(graph([FIRST, (op, inputs, "v1", attributes), LAST]), tmp_path)
        assert read(tanh, tmp_path).plan.activations == (activations.get("tanh"),)


RELU = ("Relu", ["z1"], "v1", {})
ENDS: dict[str, tuple[list[Any], tuple[str, ...], str]] = {
    "softmax": ([("Softmax", ["y"], "p", {"axis": 1})], ("p",), "softmax_cross_entropy"),
    "sigmoid": ([("Sigmoid", ["y"], "p", {})], ("p",), "binary_cross_entropy"),
    "exp": ([("Exp", ["y"], "p", {})], ("p",), "poisson"),
    "f as well": ([("Softmax", ["y"], "p", {"axis": -1})], ("y", "p"), "softmax_cross_entropy"),
    "label alone": (
        [("ArgMax", ["y"], "p", {"axis": 1, "keepdims": 0})],
        ("p",),
        "softmax_cross_entropy",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_the_outputs_tell(name, tmp_path) -> None:
    nodes, outputs, loss = ENDS[name]
    model = read(graph([FIRST, RELU, LAST, *nodes], outputs), tmp_path)
    assert model.plan.loss.name == loss


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_weights_in_half_precision(kind, tmp_path) -> None:
    import ml_dtypes

    dtype = np.dtype(np.float16) if kind == "float16" else np.dtype(ml_dtypes.bfloat16)
    weights = {k: v.astype(dtype) for k, v in WEIGHTS.items()}
    model = read(graph([FIRST, RELU, LAST], constants=weights), tmp_path)
    for got, want in zip(model.weights, [W1, W2], strict=True):
        np.testing.assert_array_equal(got, want.astype(dtype).astype(np.float32))


REFUSED: dict[str, tuple[list[Any], str]] = {
    "BatchNormalization": (
        [
            FIRST,
            ("BatchNormalization", ["z1", "b1", "b1", "b1", "b1"], "v1", {}),
            LAST,
        ],
        r"node 'the v1' \(BatchNormalization\)",
    ),
    "tanh-GELU": ([FIRST, GELU_TANH, LAST], r"node 'the v1' \(Gelu\): computes no activation"),
    "another Selu": (
        [FIRST, ("Selu", ["z1"], "v1", {"alpha": 2.0}), LAST],
        r"\(Selu\): computes no activation",
    ),
    "PRelu": (
        [FIRST, ("PRelu", ["z1", "b1"], "v1", {}), LAST],
        r"node 'the v1' \(PRelu\): fastbp has nothing of its kind",
    ),
    "another constant for each unit": (
        [FIRST, ("Mul", ["z1", "b1"], "v1", {}), LAST],
        r"node 'the v1' \(Mul\): has another constant for each unit",
    ),
    "a skip connection": (
        [
            ("Gemm", ["x", "square", "three"], "z1", {}),
            ("Relu", ["z1"], "r", {}),
            ("Add", ["r", "x"], "v1", {}),
            ("Gemm", ["v1", "square", "three"], "y", {}),
        ],
        r"node 'the v1' \(Add\): takes 'x' from elsewhere",
    ),
    "a scaled input": (
        [
            ("Mul", ["x", "half"], "x1", {}),
            ("Gemm", ["x1", "W1", "b1"], "z1", {"transB": 1}),
            RELU,
            LAST,
        ],
        r"node 'the x1' \(Mul\): changes the input",
    ),
    "a loop": ([FIRST, ("Loop", ["z1"], "v1", {}), LAST], r"node 'the v1' \(Loop\)"),
    "alpha": (
        [("Gemm", ["x", "W1", "b1"], "z1", {"transB": 1, "alpha": 0.5}), RELU, LAST],
        r"node 'the z1' \(Gemm\): has transA, alpha or beta",
    ),
    "transA": (
        [("Gemm", ["x", "W1", "b1"], "z1", {"transB": 1, "transA": 1}), RELU, LAST],
        r"node 'the z1' \(Gemm\): has transA, alpha or beta",
    ),
    "a bias that is computed": (
        [("Gemm", ["x", "W1", "x"], "z1", {"transB": 1}), RELU, LAST],
        r"its bias 'x' is no constant",
    ),
    "shapes that do not fit": (
        [FIRST, RELU, ("Gemm", ["v1", "W2t", "b2"], "y", {"transB": 1})],
        r"node 'the y' \(Gemm\): adds an array of shape \(2,\) to 4 outputs",
    ),
    "layers that do not fit": (
        [FIRST, RELU, ("MatMul", ["v1", "W1t"], "y", {})],
        r"node 'the y' \(MatMul\): takes 3 inputs, but gets 4",
    ),
    "an end that is none": (
        [FIRST, RELU, ("Gemm", ["v1", "W2", "b2"], "q", {"transB": 1}), ("Relu", ["q"], "y", {})],
        r"node 'the y' \(Relu\): lead to no prediction",
    ),
    "a softmax over rows": (
        [
            FIRST,
            RELU,
            ("Gemm", ["v1", "W2", "b2"], "q", {"transB": 1}),
            ("Softmax", ["q"], "y", {"axis": 0}),
        ],
        r"\(Softmax\): lead to no prediction",
    ),
    "no layer": ([("Relu", ["x"], "y", {})], "it has no Gemm or MatMul with constant weights"),
    "two activations": (
        [FIRST, ("Tanh", ["z1"], "t", {}), ("Relu", ["t"], "v1", {}), LAST],
        r"node 'the t' \(Tanh\), node 'the v1' \(Relu\): computes no activation",
    ),
    "dropout of the inputs": (
        [
            ("Dropout", ["x"], "x1", {}),
            ("Gemm", ["x1", "W1", "b1"], "z1", {"transB": 1}),
            RELU,
            LAST,
        ],
        r"node 'the x1' \(Dropout\): an MLP has no dropout of its inputs",
    ),
}
MORE = CONSTANTS | {"square": np.eye(3, dtype=np.float32), "three": np.zeros(3, np.float32)}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_the_name_of_the_node(name, tmp_path) -> None:
    nodes, match = REFUSED[name]
    with pytest.raises(ValueError, match=match) as caught:
        read(graph(nodes, constants=MORE), tmp_path)
    assert os.fspath(tmp_path / "m.onnx") in str(caught.value)


def test_graphs_that_are_no_chain(tmp_path) -> None:
    model = onnx.ModelProto.FromString(graph([FIRST, RELU, LAST]))
    for change, match in [
        (lambda node: node.ClearField("output"), "has no inputs or no outputs"),
        (lambda node: node.ClearField("input"), "has no inputs or no outputs"),
        (lambda node: node.output.append("z1"), "makes 'z1', which is there already"),
        (lambda node: node.output.append("W1"), "makes 'W1', which is there already"),
    ]:
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        change(changed.graph.node[0])
        with pytest.raises(ValueError, match=match):
            read(changed.SerializeToString(), tmp_path)
    two = onnx.ModelProto()
    two.CopyFrom(model)
    two.graph.input.append(onnx.helper.make_tensor_value_info("more", 1, ["N", 3]))
    with pytest.raises(ValueError, match=r"it has 2 inputs \('x', 'more'\)"):
        read(two.SerializeToString(), tmp_path)
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    whole.graph.input[0].type.tensor_type.elem_type = 7
    with pytest.raises(ValueError, match="its input 'x' is not of float32 or float64"):
        read(whole.SerializeToString(), tmp_path)
    foreign = onnx.ModelProto()
    foreign.CopyFrom(model)
    foreign.graph.node[1].domain = "com.example"
    with pytest.raises(ValueError, match=r"node 'the v1' \(Relu\): is of domain 'com.example'"):
        read(foreign.SerializeToString(), tmp_path)


def test_layers_of_two_dtypes(tmp_path) -> None:
    data = graph([FIRST, RELU, LAST], constants={"W2": W2.astype("f8"), "b2": B2.astype("f8")})
    with pytest.raises(ValueError, match=r"node 'the y' \(Gemm\): all layers must have one dtype"):
        read(data, tmp_path)


def test_weights_that_are_not_finite(tmp_path) -> None:
    data = graph([FIRST, RELU, LAST], constants={"W1": np.full_like(W1, np.inf)})
    with pytest.raises(ValueError, match=r"node 'the z1' \(Gemm\): parameters must be finite"):
        read(data, tmp_path)


# Files


def external(location: str) -> bytes:
    model = onnx.ModelProto.FromString(graph([FIRST, RELU, LAST]))
    first = model.graph.initializer[0]
    first.ClearField("raw_data")
    first.data_location = onnx.TensorProto.EXTERNAL
    entry = first.external_data.add()
    entry.key, entry.value = "location", location
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd", ""])
def test_weights_in_another_file_are_refused(location, tmp_path) -> None:
    (tmp_path / "weights.bin").write_bytes(W1.tobytes())
    with pytest.raises(ValueError, match="is in another file, which is not opened"):
        read(external(location), tmp_path)


def test_files_that_are_none(tmp_path) -> None:
    path = tmp_path / "m.onnx"
    for data in (b"", b"hello", b"\x00" * 100, b"PK\x03\x04" + b"x" * 50, os.urandom(1000)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is no ONNX file, or is damaged"):
            fastbp.MLP.from_onnx(path)
    model_of(case_of("relu", "float32")).save(path)
    with pytest.raises(ValueError, match="is no ONNX file, or is damaged"):
        fastbp.MLP.from_onnx(path)
    with pytest.raises(FileNotFoundError):
        fastbp.MLP.from_onnx(tmp_path / "none.onnx")
    with pytest.raises(IsADirectoryError):
        fastbp.MLP.from_onnx(tmp_path)
    with pytest.raises(TypeError, match="path must be a path"):
        fastbp.MLP.from_onnx(b"m.onnx")  # type: ignore[arg-type]


def test_a_file_of_10_gb(tmp_path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # takes no space
    with pytest.raises(ValueError, match="has 10,737,418,240 bytes; an ONNX file has at most 2 GB"):
        fastbp.MLP.from_onnx(path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no /dev/zero here")
def test_a_device() -> None:
    with pytest.raises(ValueError, match="is not a file"):
        fastbp.MLP.from_onnx("/dev/zero")


def test_tensors_that_claim_more_than_they_have(tmp_path) -> None:
    for dims in ([1 << 40, 1 << 40], [4, -3], [0, 3], [4, 3, 1], [2] * 9):
        model = onnx.ModelProto.FromString(graph([FIRST, RELU, LAST]))
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)
        with pytest.raises(ValueError, match="shape"):
            read(model.SerializeToString(), tmp_path)


def test_constants_that_would_fill_the_memory(tmp_path) -> None:
    # Each Add of an array would make the next result larger; 2¹⁰ rows and columns to begin with.
    large = {f"c{i}": np.zeros((1 << 10,) + (1,) * i, np.float32) for i in range(3, 6)}
    nodes = [FIRST, RELU, LAST, *(("Add", ["y" if i == 3 else f"t{i - 1}", f"c{i}"], f"t{i}", {})
                                   for i in range(3, 6))]  # fmt: skip
    with pytest.raises(ValueError, match=r"node 't|node 'the t\d' \(Add\): it makes an array"):
        read(graph(nodes, ("t5",), constants=large), tmp_path)
