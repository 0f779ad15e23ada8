"""ONNX out: answers equal the reference engine's in onnxruntime and in onnx's reference evaluator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_cases import DTYPES, Case, in_bf16
from exchange_cases import NETWORKS, assert_labels, assert_prediction, case_of, model_of, wanted

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.exchange import onnx_out, register_skl2onnx

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

dtypes = pytest.mark.parametrize("dtype", DTYPES)
networks = pytest.mark.parametrize("name", NETWORKS)


def in_onnxruntime(path: Path, X: Any) -> dict[str, Any]:
    session = runtime.InferenceSession(os.fspath(path))
    return dict(
        zip([o.name for o in session.get_outputs()], session.run(None, {"X": X}), strict=True)
    )


def in_reference_evaluator(path: Path, X: Any) -> dict[str, Any]:
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(os.fspath(path))
    with np.errstate(all="ignore"):
        return dict(zip(session.output_names, session.run(None, {"X": X}), strict=True))


runtimes = pytest.mark.parametrize("run", [in_onnxruntime, in_reference_evaluator])


def check(case: Case, model: fastbp.MLP, answers: dict[str, Any]) -> None:
    want, link = wanted(case), case.plan.loss.link
    if set(answers) == {"prediction"}:
        assert answers["prediction"].shape == model.predict(case.X).shape
        assert_prediction(answers["prediction"], want, case.plan.dtype)
        return
    assert set(answers) == {"label", "probabilities"}
    labels = model.predict(case.X)
    assert (answers["label"].shape, answers["label"].dtype) == (labels.shape, labels.dtype)
    assert_labels(answers["label"], want, link)
    assert answers["probabilities"].shape == model.predict_proba(case.X).shape
    assert_prediction(answers["probabilities"], want, case.plan.dtype)


@runtimes
@dtypes
@networks
def test_answers_are_those_of_the_reference_engine(name, dtype, run, tmp_path) -> None:
    case = case_of(name, dtype)
    model = model_of(case)
    model.to_onnx(tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    check(case, model, run(tmp_path / "m.onnx", case.X))


@runtimes
@dtypes
@pytest.mark.parametrize("name", fastbp.activations.ACTIVATIONS)
def test_far_out_too(name, dtype, run, tmp_path) -> None:
    # z of some hundred: where exp overflows and tails underflow
    case = case_of(name, dtype, scale=300.0)
    model = model_of(case)
    model.to_onnx(tmp_path / "m.onnx")
    got = run(tmp_path / "m.onnx", case.X)
    assert all(np.isfinite(a).all() for a in got.values())
    check(case, model, got)


@runtimes
def test_gelu_in_float64_is_exact_in_the_tail(run, tmp_path) -> None:
    # Its lower tail is z Φ(z), down to 1e-300: rounding of z² there moves it by z² u.
    model = fastbp.MLP(
        [1, 1, 1], activation="gelu", loss="squared_error", weight_init=[[[1, 0]], [[1, 0]]],
        dtype="float64", engine="reference",
    )  # fmt: skip
    model.to_onnx(tmp_path / "m.onnx")
    z = np.concatenate([np.linspace(-37, 8, 4001), [-1e-9, 0.0, 1e-9, -1e4, 1e4]])
    got = run(tmp_path / "m.onnx", z[:, None])["prediction"]
    want = model.predict(z[:, None])
    u = float(np.finfo(np.float64).eps) / 2
    assert (np.abs(got - want) <= (32 + z * z) * u * np.abs(want)).all()


def test_opset_and_ir_version_are_pinned(tmp_path) -> None:
    model_of(case_of("relu", "float32")).to_onnx(tmp_path / "m.onnx")
    read = onnx.load(tmp_path / "m.onnx")
    versions = {o.domain: o.version for o in read.opset_import}
    assert (read.ir_version, versions) == (8, {"": 18, "ai.onnx.ml": 3})
    assert (onnx_out.IR_VERSION, onnx_out.OPSET, onnx_out.ML_OPSET) == (8, 18, 3)


@runtimes
def test_any_number_of_rows(run, tmp_path) -> None:
    case = case_of("relu", "float32")
    model = model_of(case)
    model.to_onnx(tmp_path / "m.onnx")
    for rows in (0, 1, 3):
        got = run(tmp_path / "m.onnx", case.X[:rows])
        assert got["label"].shape == (rows,)
        assert got["probabilities"].shape == (rows, 4)


def test_a_network_of_bf16_is_float32_there(tmp_path) -> None:

    from error_bounds import bounds

    case = case_of("squared_error", "float32")
    rounded = in_bf16(case)
    model = model_of(rounded)
    model.to_onnx(tmp_path / "m.onnx")
    got = in_onnxruntime(tmp_path / "m.onnx", case.X)["prediction"]
    assert_prediction(got, wanted(case), "float32")
    assert (np.abs(got - model.predict(case.X)) <= bounds(rounded).f + bounds(case).f).all()


@runtimes
@dtypes
@pytest.mark.parametrize("kind", ["three", "texts", "two", "two texts", "one", "several", "whole"])
def test_classifiers(kind, dtype, run, tmp_path) -> None:
    generator = np.random.default_rng(0)
    X = generator.standard_normal((60, 4)).astype(dtype)
    index = np.arange(60)
    y = {
        "three": index % 3 - 1,
        "texts": np.array(["ä", "b", "c\\"])[index % 3],
        "two": index % 2 == 0,
        "two texts": np.array(["no", "yes"], object)[index % 2],
        "one": np.full(60, 7),
        "several": (generator.random((60, 3)) > 0.5).astype(int),
        "whole": (index % 3).astype(float),
    }[kind]
    model = MLPClassifier((5, 3), activation=["gelu", "elu"], max_iter=2, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, y)
    model.to_onnx(tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    got = run(tmp_path / "m.onnx", X)
    labels, p = model.predict(X), model.predict_proba(X)
    assert got["label"].shape == labels.shape
    np.testing.assert_array_equal(got["label"], labels.astype(got["label"].dtype))
    # A net of two small layers, z of order 1: 8 roundings of each of its 4 + 5 + 3 terms.
    np.testing.assert_allclose(got["probabilities"], p, atol=100 * np.finfo(dtype).eps, rtol=0)


@runtimes
@dtypes
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_regressors(loss, outputs, dtype, run, tmp_path) -> None:
    X = np.random.default_rng(0).standard_normal((60, 4)).astype(dtype)
    y = np.abs(X[:, :outputs]) if outputs > 1 else np.abs(X[:, 0])
    model = MLPRegressor(loss, (5,), activation="softplus", max_iter=2, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, y)
    model.to_onnx(tmp_path / "m.onnx")
    got = run(tmp_path / "m.onnx", X)["prediction"]
    want = model.predict(X)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=100 * np.finfo(dtype).eps, rtol=0)


# A pipeline, by skl2onnx


@pytest.fixture(scope="module")
def skl2onnx() -> Any:
    module = pytest.importorskip("skl2onnx")
    register_skl2onnx()
    register_skl2onnx()  # again
    return module


@dtypes
@pytest.mark.parametrize("kind", ["three", "texts", "two", "several"])
@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_a_pipeline_converts_whole(kind, dtype, skl2onnx) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = np.random.default_rng(0).normal(3, 2, (60, 4)).astype(dtype)
    index = np.arange(60)
    y = {
        "three": index % 3,
        "texts": np.array(list("abc"))[index % 3],
        "two": index % 2,
        "several": np.stack([index % 2, index % 3 == 0], axis=1).astype(int),
    }[kind]
    classifier = MLPClassifier((5, 3), activation=["silu", "tanh"], max_iter=2, random_state=0)
    model = make_pipeline(StandardScaler(), classifier).fit(X, y)
    labels, p = model.predict(X), model.predict_proba(X)
    options: list[dict[str, Any]] = [{"zipmap": False}]
    if kind != "several":
        options += [{"zipmap": "columns"}, {"zipmap": False, "nocl": True}]
    for option in options:
        converted = skl2onnx.to_onnx(model, X[:1], options={id(classifier): option})
        got = runtime.InferenceSession(converted.SerializeToString()).run(None, {"X": X})
        if "nocl" in option:
            np.testing.assert_array_equal(got[0], p.argmax(axis=1))
        else:
            np.testing.assert_array_equal(got[0], labels.astype(got[0].dtype))
        found = got[1] if len(got) == 2 else np.stack([a.ravel() for a in got[1:]], axis=1)
        # Standardising X of mean 3 and deviation 2 rounds by some ε more.
        np.testing.assert_allclose(found, p, atol=200 * np.finfo(dtype).eps, rtol=0)


@dtypes
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_a_pipeline_of_a_regressor(loss, outputs, dtype, skl2onnx) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = np.random.default_rng(0).normal(3, 2, (60, 4)).astype(dtype)
    y = np.abs(X[:, :outputs]) if outputs > 1 else np.abs(X[:, 0])
    model = make_pipeline(StandardScaler(), MLPRegressor(loss, (5,), max_iter=2, random_state=0))
    model.fit(X, y)
    converted = skl2onnx.to_onnx(model, X[:1])
    (got,) = runtime.InferenceSession(converted.SerializeToString()).run(None, {"X": X})
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got, model.predict(X).reshape(60, -1), atol=200 * np.finfo(dtype).eps, rtol=0
    )


def test_an_old_opset_is_refused(skl2onnx) -> None:
    X = np.random.default_rng(0).standard_normal((20, 2))
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=1).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="target_opset ≥ 13, got 12"):
        skl2onnx.to_onnx(model, X[:1], target_opset=12)


# What cannot be written


def test_a_path_that_cannot_be_written(tmp_path) -> None:
    model = model_of(case_of("relu", "float32"))
    for path in (tmp_path, tmp_path / "no" / "m.onnx", ""):
        with pytest.raises(ValueError, match="path must be a file in a folder that is there"):
            model.to_onnx(path)
    with pytest.raises(TypeError, match="path must be a path"):
        model.to_onnx(3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_half_written(tmp_path, monkeypatch) -> None:
    model = model_of(case_of("relu", "float32"))
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    writes = [model.to_onnx, model.to_safetensors, model.to_python]
    for write in writes:
        with pytest.raises(OSError, match="No space left"):
            write(path)
    with pytest.raises(OSError, match="No space left"):
        model.to_c(tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert path.read_bytes() == b"old"


def test_more_than_an_onnx_file_holds(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_out, "_LARGEST", 100)
    with pytest.raises(ValueError, match="an ONNX file holds up to 2 GB, but the parameters take"):
        model_of(case_of("relu", "float32")).to_onnx(tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_onnx(tmp_path, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    model = model_of(case_of("relu", "float32"))
    with pytest.raises(ImportError, match=r"to_onnx needs onnx \(pip install fastbp\[onnx\]\)"):
        model.to_onnx(tmp_path / "m.onnx")
    with pytest.raises(ImportError, match="from_onnx needs onnx"):
        fastbp.MLP.from_onnx(tmp_path / "m.onnx")


def test_an_estimator_that_is_not_fitted(tmp_path) -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        MLPClassifier().to_onnx(tmp_path / "m.onnx")


def test_classes_that_no_file_can_hold(tmp_path) -> None:
    X = np.random.default_rng(0).standard_normal((20, 2))
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model = MLPClassifier((2,), max_iter=1).fit(X, np.arange(20) % 2)
    model.classes_ = np.array([0.5, 1.5])
    with pytest.raises(ValueError, match="classes must be whole numbers or texts"):
        model.to_onnx(tmp_path / "m.onnx")
