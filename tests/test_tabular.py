"""`TabularClassifier` and `TabularRegressor`: frames in, good predictions out, and what goes wrong."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tabular_cases import MODELS, QUICK, mixed
from threadpoolctl import threadpool_limits

import fastbp
from fastbp import tabular
from fastbp.stages import Blend, Dense, Lookup, Periodic, Scale
from fastbp.tabular import calibration, metrics, recipes, splits
from fastbp.tabular.importance import Importances
from fastbp.tabular.inputs import Inputs


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_from_a_frame(model: str) -> None:
    X, label, score = mixed(800)
    epochs = {"epochs": 60, "hidden_layer_sizes": (64, 64), "n_members": 1, "random_state": 0}
    classifier = fastbp.TabularClassifier(model, **epochs).fit(X[:600], label[:600])
    # half of them by chance, with a standard error of 0.035
    assert classifier.score(X[600:], label[600:]) > 0.68
    p = classifier.predict_proba(X[600:])
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert set(classifier.predict(X)) == {"high", "low"}
    regressor = fastbp.TabularRegressor(model, **epochs).fit(X[:600], score[:600])
    assert regressor.score(X[600:], score[600:]) > 0.2


def test_it_is_about_as_good_as_a_linear_model_where_the_truth_is_one() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    ours = fastbp.TabularClassifier(n_members=2, epochs=64, random_state=0).fit(X[::2], y[::2])
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[::2], y[::2])
    # 284 rows: a standard error of each share is about 0.01
    assert ours.score(X[1::2], y[1::2]) > linear.score(X[1::2], y[1::2]) - 0.05
    X, y = load_diabetes(return_X_y=True)
    model = fastbp.TabularRegressor(n_members=2, epochs=64, random_state=0).fit(X[::2], y[::2])
    assert model.score(X[1::2], y[1::2]) > Ridge().fit(X[::2], y[::2]).score(X[1::2], y[1::2]) - 0.1


def test_stages_are_those_of_the_recipe() -> None:
    X, label, score = mixed()
    for kind, y in ((fastbp.TabularClassifier, label), (fastbp.TabularRegressor, score)):
        model = kind(epochs=1, random_state=0).fit(X, y)
        kinds = [type(stage) for stage in model.stages_]
        assert kinds == [Periodic, Lookup, Scale, *[Dense, Blend] * 3, Dense]
        # size; missing, three colours, and one ±1 of a flag; a code
        assert (len(model.inputs_.numbers), len(model.inputs_.plain)) == (1, 1 + 3 + 1)
        assert model.inputs_.levels == (31,)
        assert model.stages_[4].blended.name == ("selu" if y is label else "mish")
        short = kind("realmlp-s", epochs=1, random_state=0).fit(X, y)
        assert [type(stage) for stage in short.stages_] == [Scale, *[Dense] * 4]


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("model", ["realmlp", "realmlp-s"])
def test_first_values(model: str, regression: bool) -> None:
    recipe = recipes.recipe(model, regression=regression)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 6)).astype(np.float32)
    X[:, 5] = rng.integers(0, 12, 3000)
    made = recipes.stages(recipe, 3, 2, (12,) if recipe.waves else (), 2)
    inputs = X if recipe.waves else X[:, :5]
    values = recipes.first_values(recipe, made, inputs, rng)
    if not recipe.fitted:
        assert (values[-1] == 0).all()
        assert abs(values[1].std() - 1) < 1  # NTP's 1/√d is in the weights
        return
    from fastbp.engines import create
    from fastbp.losses import Loss
    from fastbp.plan import Plan

    # Up to any Dense stage, the standard deviation of every unit over the rows is 1.
    for i, stage in enumerate(made):
        if isinstance(stage, Dense):
            engine = create(Plan(made[: i + 1], Loss("squared_error")))
            engine.set_parameters(values[: i + 1])
            out = np.empty((3000, stage.units), np.float32)
            engine.forward(np.ascontiguousarray(inputs), out)
            np.testing.assert_allclose(out.std(axis=0), 1, rtol=1e-3)


def test_rates_dropouts_and_decays() -> None:
    recipe = recipes.Recipe(rate=2.0)
    rates = recipes.rates(recipe, 1500)
    # 1 − cos 2π log₂(1 + 15 t): 0 at t = 0, 1/15, 3/15, 7/15; highest in between
    np.testing.assert_allclose(rates[[0, 100, 300, 700]], 0, atol=1e-12)
    assert rates.max() == pytest.approx(2.0, abs=1e-3)
    assert rates.min() >= 0
    factors = recipes.dropouts_and_decays(recipe, 1000)
    assert (factors[:501] == 1).all()
    assert factors[750] == pytest.approx(0.5)
    assert (np.diff(factors[500:]) <= 0).all()
    assert factors[-1] < 1e-4


# The same on any number of threads, and from anywhere


@pytest.mark.parametrize("kind", [fastbp.TabularClassifier, fastbp.TabularRegressor])
def test_bits_do_not_depend_on_threads(kind: Any) -> None:
    X, label, score = mixed(700)
    y = label if kind is fastbp.TabularClassifier else score
    found = []
    for threads in (1, 2, 3, 5):
        model = kind(n_jobs=threads, **QUICK | {"n_members": 3}).fit(X, y)
        found.append([p for member in model.members_ for p in member.parameters])
    for other in found[1:]:
        for got, wanted in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_pickles_clones_and_files(tmp_path: Path) -> None:
    X, label, score = mixed()
    made = [
        fastbp.TabularClassifier(calibrate=True, **QUICK | {"n_members": 2}).fit(X, label),
        fastbp.TabularClassifier("mlp", **QUICK).fit(np.c_[score, score**2], np.arange(400) % 3),
        fastbp.TabularRegressor(**QUICK).fit(X, score),
        fastbp.TabularRegressor(metric="poisson", **QUICK).fit(X, np.exp(score)),
        fastbp.TabularRegressor(metric="quantile", **QUICK).fit(X, score),
    ]
    for i, model in enumerate(made):
        data = X if hasattr(model, "feature_names_in_") else np.c_[score, score**2]
        wanted = model.predict(data)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(data), wanted)
        path = tmp_path / f"{i}.safetensors"
        model.save(path)
        again = tabular.load(path)
        assert type(again) is type(model)
        assert again.get_params() == model.get_params()
        np.testing.assert_array_equal(again.predict(data), wanted)
        if isinstance(model, fastbp.TabularClassifier):
            np.testing.assert_array_equal(again.predict_proba(data), model.predict_proba(data))
        else:
            np.testing.assert_array_equal(
                again.predict_interval(data, 0.8), model.predict_interval(data, 0.8)
            )
        assert [m.best_epoch for m in again.members_] == [m.best_epoch for m in model.members_]
        copy = clone(model)
        assert not hasattr(copy, "members_")
        assert copy.get_params() == model.get_params()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    X, label, _ = mixed()
    model = fastbp.TabularClassifier("mlp", **QUICK).fit(X, label)
    path = tmp_path / "model.safetensors"
    model.save(path)
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"model.safetensors"):
            tabular.load(path)
    for word, other in (
        (b"mlp", b"mlq"),
        (b'"width', b'"wirth'),
        (b"TabularClassifier", b"TabularClassifieR"),
    ):
        if word in whole:
            path.write_bytes(whole.replace(word, other))
            with pytest.raises(ValueError, match=r"model.safetensors"):
                tabular.load(path)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="tabular model"):
        fastbp.MLP.load(path)
    with pytest.raises(ValueError, match="engine 'auto' only"):
        fastbp.load(path, engine="reference")
    net = fastbp.MLP([2, 3, 2], seed=0)
    net.save(path)
    with pytest.raises(ValueError, match="holds no tabular model"):
        tabular.load(path)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_arrays_of_numbers_have_a_short_way_to_the_same_bits(dtype: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 5)).astype(dtype)
    X[:, 2] = 1  # is left out
    X[:, 4] *= 1000
    model = fastbp.TabularRegressor("mlp", **QUICK).fit(X, X[:, 0])
    Z = rng.standard_normal((50, 5)).astype(dtype)
    Z[0, 4] = np.finfo(dtype).max  # far, and finite
    for data in (Z, Z[:1], np.asfortranarray(Z), Z[::-1]):
        assert model.inputs_.of_array(data, [f"x{j}" for j in range(5)]) is not None
        wanted = model.predict(data)
        with patch.object(Inputs, "of_array", lambda *_: None):
            np.testing.assert_array_equal(model.predict(data), wanted)
    for bad in (np.nan, np.inf):  # the other way has something to say of them
        Z[3, 0] = bad
        assert model.inputs_.of_array(Z, [f"x{j}" for j in range(5)]) is None
    with pytest.raises(ValueError, match="infinity"):
        model.predict(Z)
    with pytest.raises(ValueError, match="features"):
        model.predict(np.zeros((2, 4), dtype))


# Validation


def test_the_best_epoch_is_kept() -> None:
    X, label, _ = mixed()
    model = fastbp.TabularClassifier(**QUICK).fit(X, label)
    (member,) = model.members_
    assert member.best_epoch == len(member.values) - 1 - int(np.argmin(member.values[::-1]))
    held = np.isfinite(model.oof_prediction_[:, 0])
    assert held.sum() == 80
    y = (label == model.classes_[1]).astype(int)
    p = model.oof_prediction_[held]
    assert -np.log(p[np.arange(80), y[held]]).mean() == pytest.approx(min(member.values), rel=1e-5)
    np.testing.assert_allclose(p, model.predict_proba(X)[held], rtol=1e-5)


def test_an_eval_set_is_what_is_validated_on() -> None:
    X, label, _ = mixed(500)
    y = (label == "low").astype(int)
    model = fastbp.TabularClassifier(**QUICK).fit(
        X[:400], label[:400], eval_set=(X[400:], label[400:])
    )
    p = model.predict_proba(X[400:])
    loss = -np.log(p[np.arange(100), y[400:]]).mean()
    assert loss == pytest.approx(min(model.members_[0].values), rel=1e-5)
    again = fastbp.TabularClassifier(**QUICK).fit(
        X[:400], label[:400], eval_set=[(X[400:], label[400:], np.ones(100))]
    )
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("metric", metrics.CLASSIFICATION)
def test_metrics_of_classes(metric: str) -> None:
    X, label, _ = mixed()
    model = fastbp.TabularClassifier(metric=metric, **QUICK).fit(X, label)
    smoothing = model._recipe().smoothing
    assert smoothing == (0.1 if metric == "accuracy" else 0)
    assert model.score(X, label) > 0.75


def test_patience_stops() -> None:
    X, label, _ = mixed()
    quick = QUICK | {"epochs": 400}
    (member,) = fastbp.TabularClassifier("mlp", patience=5, **quick).fit(X, label).members_
    assert member.stopped == "patience"
    assert len(member.values) == member.best_epoch + 6


def test_folds_and_groups() -> None:
    X, label, score = mixed()
    groups = np.arange(400) // 8
    model = fastbp.TabularRegressor(n_folds=4, **QUICK).fit(X, score, groups=groups)
    assert len(model.members_) == 4
    assert np.isfinite(model.oof_prediction_).all()
    assert len(model.residuals_) == 400
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pairs = [splits.holdout(400, 0.2, None, groups, rng)]
        pairs += splits.folds(400, 5, None, groups, rng)
        for train, held in pairs:
            assert not set(groups[train]) & set(groups[held])
            assert 50 <= len(held) <= 100
        pairs = splits.folds(400, 5, label, None, rng)
        assert sorted(np.concatenate([held for _, held in pairs])) == list(range(400))
        for train, held in pairs:
            assert abs((label[held] == "low").sum() - 40) <= 1
            assert len(train) + len(held) == 400


def test_a_class_of_one_row_is_trained_on() -> None:
    y = np.array(["a"] * 30 + ["b"] * 30 + ["c"])
    X = np.c_[np.arange(61.0), np.arange(61.0) % 7]
    model = fastbp.TabularClassifier(**QUICK).fit(X, y)
    assert list(model.classes_) == ["a", "b", "c"]
    assert model.predict_proba(X).shape == (61, 3)


# Weights


def test_rows_of_weight_0_change_nothing() -> None:
    X, label, score = mixed()
    weight = (np.arange(400) % 4 > 0).astype(float)
    for kind, y, bad in (
        (fastbp.TabularClassifier, label, "low"),
        (fastbp.TabularRegressor, score, 1e9),
    ):
        spoilt = y.copy()
        spoilt[weight == 0] = bad
        a, b = (kind(**QUICK).fit(X, targets, weight) for targets in (y, spoilt))
        np.testing.assert_array_equal(a.predict(X), b.predict(X))


def test_weights_of_classes_and_rows() -> None:
    X, label, _ = mixed()
    rare = (label == "high") & (np.arange(400) % 8 > 0)
    X, label = X[~rare], label[~rare]
    plain = fastbp.TabularClassifier(**QUICK).fit(X, label)
    balanced = fastbp.TabularClassifier(class_weight="balanced", **QUICK).fit(X, label)
    high = [m.predict_proba(X)[:, 0].mean() for m in (plain, balanced)]
    assert high[1] > high[0] + 0.1
    factors = {"high": 2.0, "low": 0.5}
    by_class = fastbp.TabularClassifier(class_weight=factors, **QUICK).fit(X, label)
    by_row = fastbp.TabularClassifier(**QUICK).fit(X, label, [factors[k] for k in label])
    np.testing.assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))


# Numbers


def test_predicted_numbers_stay_in_the_range_of_training() -> None:
    X, _, score = mixed()
    model = fastbp.TabularRegressor(**QUICK).fit(X, score)
    far = X.assign(size=1e6)
    assert model.predict(far).max() <= score.max() + 1e-6
    assert model.predict(far).min() >= score.min() - 1e-6


def test_counts() -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (1500, 2))
    y = rng.poisson(5 * np.exp(X[:, 0]))
    model = fastbp.TabularRegressor(metric="poisson", **QUICK).fit(X[:1000], y[:1000])
    mean = model.predict(X[1000:])
    assert (mean > 0).all()
    truth = 5 * np.exp(X[1000:, 0])
    assert np.abs(mean / truth - 1).mean() < 0.15


def test_quantiles_hold_their_share() -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (4000, 2))
    y = X[:, 0] + (0.2 + np.abs(X[:, 1])) * rng.standard_normal(4000)
    levels = (0.1, 0.5, 0.9)
    model = fastbp.TabularRegressor(metric="quantile", quantiles=levels, **QUICK)
    model.fit(X[:2000], y[:2000])
    found = model.predict_quantiles(X[2000:])
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_array_equal(model.predict(X[2000:]), found[:, 1])
    for j, level in enumerate(levels):
        share = (y[2000:] <= found[:, j]).mean()
        # standard errors of 2,000 rows and of as many trained on; and what a short training leaves
        assert abs(share - level) < 5 * (level * (1 - level) / 1000) ** 0.5 + 0.02
    wide = found[:, 2] - found[:, 0]
    far = np.abs(X[2000:, 1]) > 1.5
    assert wide[far].mean() > 2 * wide[np.abs(X[2000:, 1]) < 0.2].mean()


@pytest.mark.parametrize("metric", ["rmse", "quantile"])
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_cover(metric: str, coverage: float) -> None:
    rng = np.random.default_rng(1)
    X = rng.uniform(-2, 2, (4000, 2))
    y = np.sin(X[:, 0]) + (0.1 + 0.3 * np.abs(X[:, 1])) * rng.standard_normal(4000)
    model = fastbp.TabularRegressor(metric=metric, n_folds=4, **QUICK).fit(X[:2000], y[:2000])
    low, high = model.predict_interval(X[2000:], coverage).T
    share = ((low <= y[2000:]) & (y[2000:] <= high)).mean()
    # Standard errors of 2,000 rows here and of as many residuals.
    assert abs(share - coverage) < 5 * (coverage * (1 - coverage) / 1000) ** 0.5
    assert np.isinf(model.predict_interval(X[:3], 0.9999)).all()


# Calibration


def test_temperature_is_found() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 20_000)
    y = np.array([rng.choice(3, p=row) for row in p])
    for wanted in (0.5, 1.0, 2.0):
        sharpened = calibration.tempered(p, wanted)  # to be softened by its inverse
        assert calibration.temperature(sharpened, y, None) == pytest.approx(1 / wanted, rel=0.05)


def test_calibration_lowers_the_loss_of_what_it_is_fitted_to() -> None:
    X, y = load_wine(return_X_y=True)
    plain, calibrated = (
        fastbp.TabularClassifier(n_folds=3, calibrate=c, **QUICK).fit(X, y) for c in (False, True)
    )
    losses = [log_loss(y, m.oof_prediction_) for m in (plain, calibrated)]
    assert calibrated.temperature_ != 1
    assert losses[1] <= losses[0] + 1e-9


# Columns


def test_importances() -> None:
    X, label, _ = mixed(600)
    model = fastbp.TabularClassifier(**QUICK).fit(X[:400], label[:400])
    assert not hasattr(model, "feature_importances_")
    found = model.permutation_importance(X[400:], label[400:], n_repeats=3)
    assert isinstance(found, Importances)
    assert found.names == list(X.columns)
    assert found.mean[0] > 0.05 > abs(found.mean[3])
    assert (found.spread >= 0).all()
    np.testing.assert_array_equal(model.feature_importances_, found.mean)


def test_gaps_new_names_and_columns_in_another_order() -> None:
    X, label, _ = mixed()
    model = fastbp.TabularClassifier(**QUICK).fit(X, label)
    turned = X[list(X.columns[::-1])].assign(more=1)
    np.testing.assert_array_equal(model.predict_proba(turned), model.predict_proba(X))
    strange = X.assign(shop="new", colour=None, size=np.nan)
    assert np.isfinite(model.predict_proba(strange)).all()
    with pytest.raises(ValueError, match="size"):
        model.predict(X.drop(columns="size"))


def test_a_table_without_any_column_of_use() -> None:
    X = np.ones((40, 2))
    y = np.arange(40) % 2
    model = fastbp.TabularClassifier(**QUICK).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), 0.5, atol=0.1)


# The same bits


def test_bits_do_not_depend_on_the_threads_of_blas() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1125, 38))  # enough for OpenBLAS to share a product
    fits = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="blas"):
            model = fastbp.TabularRegressor(epochs=1, n_members=1, random_state=0).fit(X, X[:, 0])
            arrays = [p for m in model.members_ for p in m.parameters]
            fits.append([*arrays, model.predict(X), model.attributions(X[:5]).values])
    for fit in fits[1:]:
        for got, wanted in zip(fit, fits[0], strict=True):
            np.testing.assert_array_equal(got, wanted)


# Time


def test_as_many_members_as_nobody_asks_for() -> None:
    X, label, _ = mixed(100)
    quick = {"hidden_layer_sizes": (8,), "epochs": 2, "random_state": 0}
    assert len(fastbp.TabularClassifier(**quick).fit(X, label).members_) == 6
    assert len(fastbp.TabularClassifier(n_folds=3, **quick).fit(X, label).members_) == 3
    again = fastbp.TabularClassifier(n_folds=3, n_members=2, **quick).fit(X, label)
    assert len(again.members_) == 6
    timed = fastbp.TabularClassifier(time_limit=600, **quick)
    assert len(timed.fit(X, label).members_) == 16
    assert len(clone(timed).set_params(n_folds=3).fit(X, label).members_) == 3
    assert len(clone(timed).set_params(n_members=2).fit(X, label).members_) == 2


def test_a_time_limit_is_kept_and_said() -> None:
    X, label, _ = mixed(2000)
    start = time.monotonic()
    model = fastbp.TabularClassifier(time_limit=2.0, random_state=0).fit(X, label)
    # Asserted is that it ends, hundreds of times sooner than without a limit on a slow machine.
    assert time.monotonic() - start < 120
    assert any(note.startswith("time_limit:") for note in model.notes_) or len(model.members_) == 16
    assert model.score(X, label) > 0.6


def test_a_time_limit_too_short_for_an_epoch_warns() -> None:
    X, label, _ = mixed(2000)
    with pytest.warns(RuntimeWarning, match="time_limit=1e-06 s"):
        model = fastbp.TabularClassifier(
            hidden_layer_sizes=(32,), epochs=500, time_limit=1e-6, random_state=0
        ).fit(X, label)
    assert len(model.members_) >= 1
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.skipif(not hasattr(os, "kill"), reason="sends itself a signal")
def test_an_interrupt_leaves_the_best_so_far(members: int, request: pytest.FixtureRequest) -> None:
    # What is started in the background ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    X, label, _ = mixed(2000)
    model = fastbp.TabularClassifier("mlp", n_members=members, epochs=100_000, random_state=0)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.warns(RuntimeWarning, match="interrupted"):
        model.fit(X, label)
    timer.join()
    assert {m.stopped for m in model.members_} == {"interrupt"}
    assert model.score(X, label) > 0.6
