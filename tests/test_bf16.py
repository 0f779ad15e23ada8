"""Precision "bf16" from the user's side: the model, its files, the estimators, the command."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_cases import BF16_ENGINES

import fastbp
from fastbp import _safetensors, model_file
from fastbp.cli import main
from fastbp.data import load_digits
from fastbp.engines import Plan
from fastbp.engines.native import BF16_WIDTH

# "native" as soon as one of its modules has it
ENGINES = sorted({name.partition("-")[0] for name in BF16_ENGINES})
engines = pytest.mark.parametrize("engine", ENGINES)

GENERATOR = np.random.default_rng(3)
X = GENERATOR.standard_normal((70, 5)).astype(np.float32)
LABELS = GENERATOR.integers(0, 3, 70)
IMAGES, DIGITS = load_digits()
IS_TEST = np.arange(len(IMAGES)) % 4 == 3
OPTIONS: dict[str, Any] = {"batch_size": 16, "optimizer": "adam", "learning_rate": 0.01}


def make(**options: Any) -> fastbp.MLP:
    defaults: dict[str, Any] = {"seed": 1, "activation": "tanh", "precision": "bf16"}
    return fastbp.MLP([5, 9, 3], **(defaults | options))


def assert_same(a: fastbp.MLP, b: fastbp.MLP) -> None:
    for p, q in zip(a.parameters, b.parameters, strict=True):
        np.testing.assert_array_equal(p, q)


# ---- the model ---------------------------------------------------------------------------------


@engines
def test_digits_are_learnt(engine: str) -> None:
    right = []
    for precision in ("bf16", None):
        model = fastbp.MLP([64, 64, 10], seed=0, precision=precision, engine=engine)
        model.fit(
            IMAGES[~IS_TEST], DIGITS[~IS_TEST], epochs=20, optimizer="adam", learning_rate=0.003
        )
        right.append(np.mean(model.predict(IMAGES[IS_TEST]) == DIGITS[IS_TEST]))
    assert right[0] > 0.95
    # Near 97 % of 449 images, chance alone moves the share by 0.8 %.
    assert abs(right[0] - right[1]) < 0.02


def first(*numbers: float) -> Any:
    """Rows of as many numbers as make the native engine round: these, then zeros."""
    rows = np.zeros((len(numbers), BF16_WIDTH), np.float32)
    rows[:, 0] = numbers
    return rows


def one_weight(engine: str, *, width: int) -> fastbp.MLP:
    """f = w x₁ with w = 1 + 2⁻⁸, which rounds to 1."""
    W = np.zeros((1, width + 1))
    W[0, 0] = 1 + 2**-8
    return fastbp.MLP(
        [width, 1], loss="squared_error", weight_init=[W], precision="bf16", engine=engine
    )


@engines
def test_every_call_rounds_its_operands(engine: str) -> None:
    model = one_weight(engine, width=BF16_WIDTH)
    assert model.weights[0][0, 0] == 1 + 2**-8
    np.testing.assert_array_equal(model.predict(first(1, 1 + 2**-8, 2)), [1, 1, 2])
    assert model.loss(first(1), [3]) == 2
    gradient = model.gradient(first(1 + 2**-8), [0.5])[0]
    assert gradient[0, [0, -1]].tolist() == [0.5, 0.5]
    assert model.jacobian(first(1))[0, 0, 0] == 1
    z, v = model.forward(first(1 + 2**-8))
    assert z[0].item() == 1
    assert v[0][0, [0, -1]].tolist() == [1 + 2**-8, 1]  # x as it is: the rounding is the matmul's
    model.fit(first(1), [0], epochs=1, learning_rate=2**-10)
    assert model.weights[0][0, 0] == 1 + 2**-8 - 2**-10


@pytest.mark.skipif("native" not in ENGINES, reason="needs the native engine")
def test_narrow_networks_are_computed_in_float32_by_the_native_engine() -> None:
    model = one_weight("native", width=BF16_WIDTH - 1)
    assert model.predict(first(1)[:, :-1]).item() == 1 + 2**-8


def test_precision_is_told_and_none_is_not() -> None:
    model, plain = make(), make(precision=None)
    assert model.plan.precision == "bf16"
    assert repr(model).endswith("dtype='float32', precision='bf16')")
    assert model.summary().endswith("float32, bf16 matmuls")
    assert plain.plan.precision is None
    assert "precision" not in repr(plain)
    assert plain.summary().endswith("float32")
    assert [p.dtype for p in model.parameters] == [np.float32] * 2
    assert_same(model, plain)  # the draw of the weights is the same


@pytest.mark.parametrize(
    "precision", ["bf8", "bfloat16", "BF16", "", 16, True, ["bf16"], np.array(1)]
)
def test_other_precisions_are_refused(precision: Any) -> None:
    with pytest.raises(ValueError, match=r"precision must be None or 'bf16', got"):
        make(precision=precision)


def test_bf16_is_for_float32() -> None:
    with pytest.raises(ValueError, match=r"precision 'bf16' needs dtype 'float32'.*'float64'"):
        make(dtype="float64")


def test_the_jit_engine_is_refused_and_the_model_stays() -> None:
    model = make(engine="jit")
    before = model.parameters
    for call in (
        lambda: model.fit(X, LABELS),
        lambda: model.partial_fit(X, LABELS),
        lambda: model.predict(X),
        lambda: fastbp.warm_up(model.plan),
    ):
        with pytest.raises(ValueError, match="engine 'jit' has no precision 'bf16'"):
            call()
    for p, q in zip(before, model.parameters, strict=True):
        np.testing.assert_array_equal(p, q)


# ---- copies and files --------------------------------------------------------------------------


@engines
@pytest.mark.parametrize("how", ["save", "pickle", "deepcopy"])
def test_copies_go_on_alike(tmp_path: Path, engine: str, how: str) -> None:
    model = make(engine=engine)
    model.fit(X, LABELS, epochs=2, **OPTIONS)
    if how == "save":
        model.save(tmp_path / "m")
        same = fastbp.MLP.load(tmp_path / "m", engine=engine)
    else:
        same = pickle.loads(pickle.dumps(model)) if how == "pickle" else copy.deepcopy(model)
    assert same.plan.precision == "bf16"
    assert repr(same) == repr(model)
    assert_same(model, same)
    np.testing.assert_array_equal(same.predict_proba(X), model.predict_proba(X))
    if how != "save":
        same.partial_fit(X, LABELS, **OPTIONS)
        model.partial_fit(X, LABELS, **OPTIONS)
        assert_same(model, same)


@engines
def test_resumed_is_never_stopped(tmp_path: Path, engine: str) -> None:
    path, options = tmp_path / "run", OPTIONS | {"validation": 0.2}
    whole = make(engine=engine, dropout=0.2, threads=1)
    whole.fit(X, LABELS, epochs=6, **options)
    make(engine=engine, dropout=0.2, threads=2).fit(X, LABELS, epochs=3, checkpoint=path, **options)
    assert fastbp.MLP.load(path).plan.precision == "bf16"
    rest = make(engine=engine, dropout=0.2, threads=3, seed=9)
    rest.fit(X, LABELS, epochs=6, resume=path, **options)
    assert_same(whole, rest)


@pytest.mark.parametrize(("saved", "here"), [("bf16", None), (None, "bf16")])
def test_a_checkpoint_of_another_precision_is_refused(
    tmp_path: Path, saved: str | None, here: str | None
) -> None:
    path = tmp_path / "run"
    make(precision=saved).fit(X, LABELS, epochs=1, checkpoint=path, **OPTIONS)
    message = f"its precision is {saved!r}, here it is {here!r}"
    with pytest.raises(ValueError, match=message):
        make(precision=here).fit(X, LABELS, epochs=2, resume=path, **OPTIONS)


def header_of(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        header: dict[str, Any] = json.loads(_safetensors.read(file)[1]["header"])
    return header


def test_files_of_models_without_it_do_not_name_it(tmp_path: Path) -> None:
    make(precision=None).save(tmp_path / "m")
    make(precision=None).fit(X, LABELS, epochs=1, checkpoint=tmp_path / "c", **OPTIONS)
    known = {"layer_sizes", "activation", "loss", "dropout", "l1", "l2", "dtype"}
    for name in "mc":
        assert set(header_of(tmp_path / name)["network"]) == known
        assert fastbp.MLP.load(tmp_path / name).plan.precision is None


@pytest.mark.parametrize(
    ("precision", "dtype", "message"),
    [
        ("fp4", "float32", "precision must be None or 'bf16', got 'fp4'"),
        ({}, "float32", "precision must be None or 'bf16', got {}"),
        ("bf16", "float64", "precision 'bf16' needs dtype 'float32', but dtype is 'float64'"),
    ],
)
def test_files_of_unknown_precision_are_refused(
    tmp_path: Path, precision: Any, dtype: str, message: str
) -> None:
    make(precision=None, dtype=dtype).save(tmp_path / "m")
    header, arrays = model_file.read(tmp_path / "m")
    header["network"]["precision"] = precision
    model_file.write(tmp_path / "m", header, arrays)
    with pytest.raises(ValueError, match=f"is damaged: {message}"):
        fastbp.MLP.load(tmp_path / "m")


def test_pickles_from_before_precision_load() -> None:
    """The plan in them lacks the field."""
    model = make(precision=None)
    del model.plan.__dict__["precision"]
    old = pickle.loads(pickle.dumps(model))
    assert "precision" not in old.plan.__dict__
    assert {f.name for f in fields(Plan)} - set(old.plan.__dict__) == {"precision"}
    old.fit(X, LABELS, epochs=1, **OPTIONS)
    assert old.plan.precision is None


# ---- the estimators ----------------------------------------------------------------------------


@engines
def test_estimators_learn_and_keep_float32(engine: str) -> None:
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    from sklearn.base import clone

    X, X_test = (IMAGES[rows].astype(np.float64) for rows in (~IS_TEST, IS_TEST))
    model = fastbp.MLPClassifier(
        (64,),
        learning_rate_init=0.005,
        max_iter=25,
        random_state=0,
        precision="bf16",
        engine=engine,
        tol=0.0,
        n_iter_no_change=99,
    )
    assert clone(model).precision == "bf16"
    with pytest.warns(Warning, match="Maximum iterations"):
        model.fit(X, DIGITS[~IS_TEST])
    assert model.score(X_test, DIGITS[IS_TEST]) > 0.95
    assert {a.dtype.name for a in (*model.coefs_, *model.intercepts_)} == {"float32"}
    assert model.predict_proba(X_test).dtype == np.float32
    before = model.coefs_[0].copy()
    model.partial_fit(X, DIGITS[~IS_TEST])
    assert not np.array_equal(before, model.coefs_[0])


@engines
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_estimators_round_in_predictions_of_few_and_many_rows(engine: str, rows: int) -> None:
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    model = fastbp.MLPRegressor(
        hidden_layer_sizes=(1,),
        activation="identity",
        max_iter=1,
        random_state=0,
        precision="bf16",
        engine=engine,
    )
    data = first(*range(1, 9))
    with pytest.warns(Warning, match="Maximum iterations"):
        model.fit(data, data[:, 0])
    model.coefs_ = [first(1 + 2**-8).T, np.array([[3.0]], "f4")]
    model.intercepts_ = [np.array([2**-12], "f4"), np.array([2**-12], "f4")]
    x = first(*[1 + 3 * 2.0**-8] * rows)  # rounds to 1 + 2⁻⁶, and so does v = that + 2⁻¹²
    for data in (x.astype(np.float64), x):
        np.testing.assert_array_equal(model.predict(data), [3 * (1 + 2**-6) + 2**-12] * rows)


def test_estimators_refuse_lbfgs_and_other_precisions() -> None:
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    for kind in (fastbp.MLPClassifier, fastbp.MLPRegressor):
        with pytest.raises(
            ValueError, match="'bf16' needs a stochastic solver, but solver is 'lbfgs'"
        ):
            kind(precision="bf16", solver="lbfgs").fit(X, LABELS)
        with pytest.raises(ValueError, match="The 'precision' parameter"):
            kind(precision="fp8").fit(X, LABELS)
        with pytest.raises(ValueError, match="engine 'jit' has no precision 'bf16'"):
            kind(precision="bf16", engine="jit").fit(X, LABELS)


# ---- the command -------------------------------------------------------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*args: object) -> tuple[int, str, str]:
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as exit_:  # argparse
            status = int(exit_.code or 0)
        return status, *capsys.readouterr()

    return call


@engines
def test_the_command_trains_saves_and_predicts(run: Any, tmp_path: Path, engine: str) -> None:
    path = tmp_path / "points.csv"
    lines = [f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in X[:, :2].tolist()]
    path.write_text("\n".join(["a,b,kind", *lines]))
    model = tmp_path / "m"
    how = (
        "--target",
        "kind",
        "--hidden",
        16,
        "--learning-rate",
        0.05,
        "--quiet",
        "--model",
        "plain",
    )
    precise = ("--precision", "bf16", "--engine", engine)
    status, out, err = run("train", path, *how, *precise, "--save", model)
    assert (status, err) == (0, "")
    assert "validation accuracy" in out
    assert fastbp.MLP.load(model).plan.precision == "bf16"
    status, out, _ = run("predict", model, path)
    assert status == 0
    assert set(out.split()) == {"kind", "yes", "no"}


@engines
def test_the_command_s_digits_train(run: Any, engine: str) -> None:
    options = ("--precision", "bf16", "--engine", engine, "--epochs", 3, "--hidden", 64, "--quiet")
    status, out, err = run("train", *options)
    assert (status, err) == (0, "")
    assert "test accuracy" in out


def test_the_command_refuses_what_does_not_go_together(run: Any) -> None:
    status, _, err = run("train", "--precision", "bf16", "--dtype", "float64")
    assert status == 2
    assert err == "fastbp: precision 'bf16' needs dtype 'float32', but dtype is 'float64'\n"
    status, _, err = run("train", "--precision", "fp8")
    assert status == 2
    assert "--precision" in err
