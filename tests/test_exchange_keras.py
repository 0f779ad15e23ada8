"""Keras, both ways, on JAX, with the real libraries where they are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from engine_cases import DTYPES
from exchange_cases import NETWORKS, assert_prediction, assert_same, case_of, model_of, wanted

import fastbp
from fastbp import activations

os.environ.setdefault("KERAS_BACKEND", "jax")
jax = pytest.importorskip("jax", reason="jax is an optional peer and is not installed")
jax.config.update("jax_enable_x64", True)
keras = pytest.importorskip("keras", reason="keras is an optional peer and is not installed")
layers = keras.layers
dtypes = pytest.mark.parametrize("dtype", DTYPES)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras", "ignore:Explicitly req")


@dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_bit_for_bit_there_and_back(name, dtype) -> None:
    model = model_of(case_of(name, dtype))
    assert_same(fastbp.MLP.from_keras(model.to_keras(), loss=model.plan.loss), model)


@dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_the_prediction_is_that_of_the_reference_engine(name, dtype) -> None:
    case = case_of(name, dtype)
    got = np.asarray(model_of(case).to_keras()(case.X))
    want = wanted(case)
    if any(
        a.name == "tanh" for a in case.plan.activations
    ):  # in float32, whatever the layer's dtype
        want = wanted(case.astype("float32"))
    assert_prediction(got, want, dtype)


def test_dropout_goes_along() -> None:
    model = fastbp.MLP([3, 4, 5, 2], dropout=[0.25, 0.0], seed=0)
    back = fastbp.MLP.from_keras(model.to_keras())
    assert back.plan.dropout == (0.25, 0.0)
    assert_same(back, model)


def test_activations_however_they_are_given() -> None:
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, activation="gelu"),
            layers.Dropout(0.5),
            layers.Dense(4),
            layers.LeakyReLU(0.3),
            layers.Dense(4, use_bias=False),
            layers.ReLU(),
            layers.Dense(4),
            layers.ReLU(negative_slope=0.1),
            keras.Sequential([layers.Dense(4), layers.Activation("swish")]),
            layers.Dense(4, activation="elu"),
            layers.Dense(2),
            layers.Softmax(),
        ]
    )
    got = fastbp.MLP.from_keras(model)
    assert got.plan.activations == (
        activations.get("gelu"),
        fastbp.Activation("leaky_relu", 0.3),
        activations.get("relu"),
        fastbp.Activation("leaky_relu", 0.1),
        activations.get("silu"),
        activations.get("elu"),
    )
    assert got.plan.dropout == (0.5, 0, 0, 0, 0, 0)
    assert got.plan.loss.name == "softmax_cross_entropy"
    X = np.random.default_rng(0).standard_normal((5, 3)).astype("f4")
    want = np.asarray(model(X))
    # Seven layers of sums of 4 terms of order 1
    np.testing.assert_allclose(got.predict_proba(X), want, atol=200 * np.finfo("f4").eps, rtol=0)


def sequential(*parts: Any) -> Any:
    return keras.Sequential([keras.Input((3,)), *parts])


REFUSED: dict[str, tuple[Any, str]] = {
    "BatchNormalization": (
        lambda: sequential(layers.Dense(3), layers.BatchNormalization(name="norm")),
        r"layer 'norm' \(BatchNormalization\): fastbp has no such layer",
    ),
    "tanh-GELU": (
        lambda: sequential(
            layers.Dense(3, activation=lambda z: keras.activations.gelu(z, approximate=True)),
            layers.Dense(2),
        ),
        "fastbp has no activation '<lambda>'",
    ),
    "softsign": (
        lambda: sequential(layers.Dense(3, activation="softsign", name="d")),
        r"layer 'd' \(Dense\): fastbp has no activation 'softsign'",
    ),
    "relu6": (lambda: sequential(layers.Dense(3), layers.ReLU(6)), "fastbp has no such layer"),
    "no inputs": (lambda: keras.Sequential([layers.Dense(3)]), "has no weights yet"),
    "relu at the end": (
        lambda: sequential(layers.Dense(3, activation="relu")),
        "relu of the outputs",
    ),
    "noise_shape": (
        lambda: sequential(layers.Dense(3), layers.Dropout(0.5, noise_shape=(1, 3))),
        "fastbp has no noise_shape",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name) -> None:
    make, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        fastbp.MLP.from_keras(make())


def test_tied_layers() -> None:
    twice = layers.Dense(3, name="twice")
    model = sequential(twice)
    model.add(keras.Sequential([twice]))
    with pytest.raises(ValueError, match=r"layer 'twice' \(Dense\): is in the model twice"):
        fastbp.MLP.from_keras(model)


def test_what_is_no_sequential() -> None:
    x = keras.Input((3,))
    functional = keras.Model(x, layers.Dense(2)(x))
    for other in (functional, 3, None):
        with pytest.raises(TypeError, match=r"model must be a keras\.Sequential, got"):
            fastbp.MLP.from_keras(other)


def test_a_backend_without_float64() -> None:
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="keras on jax keeps float64 as float32"):
            model_of(case_of("relu", "float64")).to_keras()
    finally:
        jax.config.update("jax_enable_x64", True)


EXPORT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, keras
kinds = ["gelu", "relu", "elu", "softplus", "leaky_relu", "silu", "tanh"]
dense = [keras.layers.Dense(5, activation=k, bias_initializer="normal") for k in kinds]
dense.insert(2, keras.layers.Dropout(0.2))
model = keras.Sequential([keras.Input((4,)), *dense, keras.layers.Dense(3, activation="softmax")])
X = np.random.default_rng(0).standard_normal((6, 4)).astype("f4")
p = keras.ops.convert_to_numpy(model(X))
model.export(sys.argv[1] + "/m.onnx", format="onnx", verbose=False)
np.save(sys.argv[1] + "/p.npy", p)
"""


def test_onnx_files_that_keras_writes(tmp_path) -> None:
    for name in ("torch", "onnx"):  # keras writes by way of torch's exporter
        pytest.importorskip(name)
    environment = os.environ | {"KERAS_BACKEND": "torch"}  # a process has one backend
    command = [sys.executable, "-c", EXPORT, os.fspath(tmp_path)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    model = fastbp.MLP.from_onnx(tmp_path / "m.onnx")
    assert [a.name for a in model.plan.activations] == [
        *("gelu", "relu", "elu", "softplus", "leaky_relu", "silu", "tanh")
    ]
    X = np.random.default_rng(0).standard_normal((6, 4)).astype("f4")
    want = np.load(tmp_path / "p.npy")
    # Eight layers of sums of 5 terms of order 1
    np.testing.assert_allclose(model.predict_proba(X), want, atol=200 * np.finfo("f4").eps, rtol=0)
