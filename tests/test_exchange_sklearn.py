"""scikit-learn, both ways; names and safetensors; attributions."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pytest
from engine_cases import DTYPES
from exchange_cases import NETWORKS, assert_same, case_of, model_of, wanted
from sklearn import neural_network as peers
from sklearn.exceptions import NotFittedError

import fastbp
from fastbp import MLPClassifier, MLPRegressor, _safetensors, losses
from fastbp.exchange.description import describe

dtypes = pytest.mark.parametrize("dtype", DTYPES)
TAKEN = [name for name, (_, hidden, _) in NETWORKS.items() if hidden in (
    "identity", "sigmoid", "tanh", "relu", ())]  # fmt: skip


@dtypes
@pytest.mark.parametrize("name", TAKEN)
def test_bit_for_bit_there_and_back(name, dtype) -> None:
    case = case_of(name, dtype)
    model = model_of(case)
    peer = model.to_sklearn()
    assert_same(fastbp.MLP.from_sklearn(peer, loss=model.plan.loss), model)
    want, predicted = wanted(case), peer.predict(case.X)
    assert predicted.shape == model.predict(case.X).shape
    if hasattr(peer, "predict_proba"):
        p = peer.predict_proba(case.X)
        p = p[:, 1:] if want.prediction.shape[1] == 1 else p
        assert (np.abs(p - want.prediction) <= want.bound).all()
        np.testing.assert_array_equal(predicted, model.predict(case.X))
    else:
        excess = np.abs(predicted.reshape(want.prediction.shape) - want.prediction) - want.bound
        assert (excess <= 0).all()


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_it_can_be_trained_there(name) -> None:
    case = case_of(name, "float64")
    peer = model_of(case).to_sklearn()
    before = peer.coefs_[0].copy()
    peer.partial_fit(case.X, peer.predict(case.X[::-1]))
    assert (peer.coefs_[0] != before).any()


def test_what_scikit_learn_has_not() -> None:
    for name in ("gelu", "of two kinds"):
        with pytest.raises(ValueError, match="MLPs have one activation for all hidden layers"):
            model_of(case_of(name, "float32")).to_sklearn()


@pytest.mark.parametrize("kind", ["three", "texts", "two", "several", "one"])
@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_classifiers_both_ways(kind) -> None:
    generator = np.random.default_rng(0)
    X, index = generator.standard_normal((40, 3)), np.arange(40)
    y = {
        "three": index % 3 - 1,
        "texts": np.array(list("abc"))[index % 3],
        "two": index % 2 == 0,
        "several": (generator.random((40, 3)) > 0.5).astype(int),
        "one": np.full(40, 7),
    }[kind]
    own = MLPClassifier((5,), solver="adamw", alpha=0.5, max_iter=2, random_state=0).fit(X, y)
    peer = own.to_sklearn()
    assert type(peer) is peers.MLPClassifier
    assert peer.get_params()["alpha"] == 0.5
    assert peer.get_params()["solver"] == "adam"
    np.testing.assert_array_equal(peer.predict(X), own.predict(X))
    np.testing.assert_array_equal(peer.classes_, own.classes_)
    peer.partial_fit(X, y)
    back = MLPClassifier.from_sklearn(peer)
    np.testing.assert_array_equal(back.predict(X), peer.predict(X))
    for a, b in zip(back.coefs_, peer.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert back.get_params()["alpha"] == 0.5
    before = peer.coefs_[0].copy()
    back.partial_fit(X, y)
    np.testing.assert_array_equal(peer.coefs_[0], before)
    model = fastbp.MLP.from_sklearn(own)
    expected = own.predict(X)
    if kind != "several":
        expected = np.searchsorted(own.classes_, expected)
    if kind != "one":
        np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_regressors_both_ways(loss) -> None:
    X = np.random.default_rng(0).standard_normal((40, 3))
    own = MLPRegressor(loss, (5,), max_iter=2, random_state=0).fit(X, np.abs(X[:, 0]))
    peer = own.to_sklearn()
    assert peer.get_params()["loss"] == loss
    np.testing.assert_allclose(peer.predict(X), own.predict(X), rtol=1e-13)
    assert fastbp.MLP.from_sklearn(peer).plan.loss.name == loss
    back = MLPRegressor.from_sklearn(peer)
    np.testing.assert_array_equal(back.coefs_[0], own.coefs_[0])


def test_misuse_of_scikit_learn() -> None:
    X = np.random.default_rng(0).standard_normal((20, 2))
    with pytest.warns(UserWarning, match="Maximum iterations"):
        fitted = MLPRegressor(hidden_layer_sizes=(2,), max_iter=1).fit(X, X[:, 0])
    with pytest.raises(TypeError, match="must be scikit-learn's MLPClassifier, got MLPRegressor"):
        MLPClassifier.from_sklearn(fitted)
    with pytest.raises(NotFittedError):
        MLPRegressor.from_sklearn(peers.MLPRegressor())
    with pytest.raises(NotFittedError):
        fastbp.MLP.from_sklearn(peers.MLPClassifier())
    with pytest.raises(TypeError, match="estimator must be an MLPClassifier or MLPRegressor"):
        fastbp.MLP.from_sklearn(3)
    with pytest.raises(ValueError, match="has predictions by identity, but loss 'poisson' by exp"):
        fastbp.MLP.from_sklearn(fitted, loss="poisson")
    assert fastbp.MLP.from_sklearn(fitted, loss="huber").plan.loss == losses.get("huber")
    fitted.coefs_[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="coefs_ and intercepts_ must be finite"):
        fitted.state_dict()
    with pytest.raises(TypeError, match="model must be an MLP or a fitted estimator"):
        describe(3)


def test_without_the_library(monkeypatch) -> None:
    model = model_of(case_of("relu", "float32"))
    for library, method in [("torch", "to_torch"), ("keras", "to_keras")]:
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ImportError, match=f"{method} needs {library}"):
            getattr(model, method)()
        with pytest.raises(ImportError, match=f"from_{library} needs {library}"):
            getattr(fastbp.MLP, f"from_{library}")(3)


# Names and safetensors


@dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_state_dict_and_its_file_there_and_back(name, dtype, tmp_path) -> None:
    model = model_of(case_of(name, dtype))
    plan = model.plan
    state = model.state_dict()
    assert_same(
        fastbp.MLP.from_state_dict(state, activation=plan.activations, loss=plan.loss), model
    )
    model.to_safetensors(tmp_path / "m.safetensors")
    assert_same(fastbp.MLP.from_safetensors(tmp_path / "m.safetensors"), model)


def test_the_file_is_what_others_read(tmp_path) -> None:
    load_file = pytest.importorskip("safetensors.numpy").load_file
    model = model_of(case_of("relu", "float32"))
    model.to_safetensors(tmp_path / "m.safetensors")
    found, state = load_file(tmp_path / "m.safetensors"), model.state_dict()
    assert set(found) == set(state)
    for name, a in state.items():
        np.testing.assert_array_equal(found[name], a)


def test_layers_are_in_the_order_of_their_numbers() -> None:
    sizes = [2] * 13
    model = fastbp.MLP(sizes, loss="squared_error", seed=0)
    state = model.state_dict()
    shuffled = {name: state[name] for name in sorted(state)}  # "10.weight" before "2.weight"
    assert list(shuffled) != list(state)
    assert_same(fastbp.MLP.from_state_dict(shuffled), model)
    named = {f"net.layer{name}": a for name, a in shuffled.items()}
    assert_same(fastbp.MLP.from_state_dict(named), model)


def half(name: str, raw: np.ndarray) -> bytes:
    """A file of one bare layer in half precision."""
    import json

    header = json.dumps(
        {"0.weight": {"dtype": name, "shape": list(raw.shape), "data_offsets": [0, raw.nbytes]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + raw.tobytes()


def test_half_precision_is_read_exactly(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    values = np.array([[1.0, -2.5, 65504.0, 6e-8, 0.333]], np.float16)
    path.write_bytes(half("F16", values))
    model = fastbp.MLP.from_safetensors(path, activation="relu")
    np.testing.assert_array_equal(model.weights[0], values.astype(np.float32))
    single = np.array([[1.0, -2.5, 1e38, 1e-38, 1 / 3]], np.float32)
    path.write_bytes(half("BF16", (single.view(np.uint32) >> 16).astype(np.uint16)))
    model = fastbp.MLP.from_safetensors(path, activation="relu")
    want = (single.view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(model.weights[0], want)
    path.write_bytes(half("F16", np.array([[np.inf]], np.float16)))
    with pytest.raises(ValueError, match="layer '0': parameters must be finite"):
        fastbp.MLP.from_safetensors(path, activation="relu")


STATES: dict[str, tuple[Any, str]] = {
    "a layer norm": ({"0.weight": np.ones(3), "0.bias": np.ones(3)}, "layer '0': weights of shape"),
    "running means": ({"1.running_mean": np.ones(3)}, "'1.running_mean' is not a layer's weight"),
    "no weight": ({"0.bias": np.ones(3)}, "layer '0' has no weight"),
    "integers": ({"0.weight": np.ones((2, 2), int)}, "'0.weight' must be of floating-point"),
    "misfits": (
        {"0.weight": np.ones((2, 3)), "2.weight": np.ones((1, 3))},
        "layer '2': takes 3 inputs, but gets 2",
    ),
    "nothing": ({}, "has no dense layer"),
}


@pytest.mark.parametrize("name", STATES)
def test_states_that_are_no_mlp(name) -> None:
    state, match = STATES[name]
    with pytest.raises(ValueError, match=match):
        fastbp.MLP.from_state_dict(state)
    with pytest.raises(TypeError, match="state must be a mapping"):
        fastbp.MLP.from_state_dict([state])  # type: ignore[arg-type]


def test_files_that_are_no_mlp(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match=f"{os.fspath(path)!r} cannot be read as a network"):
        fastbp.MLP.from_safetensors(path)
    for said in ("3", "{", '{"activation": [["none", 0]], "loss": ["huber", 1], "dropout": []}',
                 '{"activation": [], "loss": [], "dropout": [3]}', "[" * 100_000):  # fmt: skip
        with path.open("wb") as file:
            _safetensors.write(file, {"0.weight": np.ones((2, 3), "f4")}, {"fastbp": said})
        with pytest.raises(ValueError, match="cannot be read as a network"):
            fastbp.MLP.from_safetensors(path)


# Attributions


@dtypes
@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "sigmoid", "softplus"])
def test_attributions_of_smooth_networks_are_complete(name, dtype) -> None:
    case = case_of(name, dtype)
    model = model_of(case)
    baseline = np.array([0.5, -0.5, 0.25], dtype)
    got = model.attributions(case.X, baseline)
    assert got.shape == (len(case.X), 4, 3)
    assert got.dtype == dtype
    f = model.forward(case.X)[0][-1].astype("f8")
    f0 = model.forward(baseline[None])[0][-1].astype("f8")
    # Gauss's rule with 64 points is exact far beyond rounding here; each of its Jacobians, of two
    # hidden layers and values of order 1, rounds by 30 u or so, and the weights add up to 1.
    size = np.abs(got).sum(axis=2) + np.abs(f) + np.abs(f0)
    assert (np.abs(got.sum(axis=2) - (f - f0)) <= 64 * np.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("steps", [16, 256])
def test_attributions_at_kinks_are_complete_to_the_order_of_the_steps(steps) -> None:
    case = case_of("absolute_error, one output", "float64")  # one hidden layer, relu
    model = model_of(case)
    got = model.attributions(case.X, steps=steps).sum(axis=2)[:, 0]
    f, f0 = (model.forward(X)[0][-1][:, 0] for X in (case.X, case.X[:1] * 0))
    # Along the line, ∂f/∂t jumps by |w₂ⱼ (w₁ⱼ · x)| where unit j has its kink; within a gap of the
    # nodes, at most π / (2 steps) + the same for the share of a weight, the rule may err by that jump.
    W1, W2 = model.weights
    jumps = (np.abs(W2) * np.abs(case.X @ W1.T)).sum(axis=1)
    assert (np.abs(got - (f - f0)) <= np.pi / steps * jumps).all()


def test_attributions_of_a_linear_network_are_its_terms() -> None:
    W = np.array([[2.0, 3.0, 1.0], [0.0, -1.0, 5.0]])
    model = fastbp.MLP([2, 2], loss="squared_error", weight_init=[W], dtype="float64")
    got = model.attributions([[10, 1]], baseline=[1, 1])
    np.testing.assert_allclose(got, [[[18, 0], [0, 0]]], rtol=1e-14)


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_attributions_of_an_estimator() -> None:
    X = np.random.default_rng(0).standard_normal((40, 3))
    model = MLPRegressor(hidden_layer_sizes=(5,), activation="tanh", max_iter=2).fit(X, X[:, 0])
    got = model.attributions(X)
    assert got.shape == (40, 1, 3)
    want = model.predict(X) - model.predict(X[:1] * 0)
    np.testing.assert_allclose(got.sum(axis=(1, 2)), want, atol=1e-13)


def test_misuse_of_attributions() -> None:
    model = model_of(case_of("relu", "float32"))
    X = np.ones((2, 3))
    for options, match in [
        ({"steps": 0}, "steps must be an integer ≥ 1"),
        ({"baseline": [1, 2]}, r"baseline must have shape \(3,\), got \(2,\)"),
        ({"baseline": [1, 2, np.nan]}, "baseline must be finite"),
    ]:
        with pytest.raises(ValueError, match=match):
            model.attributions(X, **options)
    with pytest.raises(ValueError, match=r"X must have shape \(n, 3\)"):
        model.attributions(X[:, :2])
    assert model.attributions(X[:0]).shape == (0, 4, 3)
