"""`TabularClassifier` and `TabularRegressor`: what is wrong is said, and leaves the model as it was."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")


from tabular_cases import QUICK, TINY, Array, mixed, numbers

import fastbp
from fastbp import tabular
from fastbp.tabular import metrics

# What is wrong is said before any work


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "realmpl"}, "model.*realmlp"),
        ({"model": "tabn"}, "did you mean 'tabm'"),
        ({"metric": "rmse"}, "metric"),
        ({"n_members": 0}, "n_members"),
        ({"n_folds": 1}, "n_folds"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"patience": 0}, "patience"),
        ({"dropout": 1.0}, "dropout"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"validation_fraction": 0.0, "patience": 3}, "patience needs"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes"),
        ({"cat_features": ["nothing"]}, "nothing"),
    ],
)
def test_bad_parameters_of_a_classifier(options: dict[str, Any], message: str) -> None:
    X, label, _ = mixed(50)
    model = fastbp.TabularClassifier(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(X, label)
    assert not hasattr(model, "members_")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "log_loss"}, "metric"),
        ({"metric": "quantile", "quantiles": (0.9, 0.1)}, "rising order"),
        ({"metric": "quantile", "quantiles": (0.0, 0.5)}, "quantiles"),
        ({"metric": "quantile", "quantiles": ()}, "rising order"),
        ({"metric": "poisson"}, "targets ≥ 0"),
    ],
)
def test_bad_parameters_of_a_regressor(options: dict[str, Any], message: str) -> None:
    X, _, score = mixed(50)
    with pytest.raises(ValueError, match=message):
        fastbp.TabularRegressor(**options).fit(X, score)


def test_bad_data() -> None:
    X, label, score = mixed(50)
    classifier, regressor = fastbp.TabularClassifier(**QUICK), fastbp.TabularRegressor(**QUICK)
    with pytest.raises(ValueError, match="one class"):
        classifier.fit(X, ["a"] * 50)
    with pytest.raises(ValueError, match=r"50 rows.*y has 49"):
        classifier.fit(X, label[:49])
    with pytest.raises(ValueError, match="sample_weight"):
        classifier.fit(X, label, np.ones(49))
    with pytest.raises(ValueError, match="sample_weight must be finite and ≥ 0"):
        classifier.fit(X, label, -np.ones(50))
    with pytest.raises(ValueError, match="groups"):
        classifier.fit(X, label, groups=np.ones(49))
    with pytest.raises(ValueError, match="eval_set"):
        classifier.fit(X, label, eval_set=X)
    with pytest.raises(ValueError, match="eval_set: X has 50 rows, y 49"):
        classifier.fit(X, label, eval_set=(X, label[:49]))
    with pytest.raises(ValueError, match="label that training has not"):
        classifier.fit(X, label, eval_set=(X, ["other"] * 50))
    with pytest.raises(ValueError, match="must hold numbers"):
        regressor.fit(X, label)
    with pytest.raises(ValueError, match="NaN or infinity"):
        regressor.fit(X, np.where(np.arange(50) == 3, np.nan, score))
    with pytest.raises(ValueError, match=r"size.*infinite"):
        regressor.fit(X.assign(size=np.inf), score)
    assert not hasattr(classifier, "members_")
    assert not hasattr(regressor, "members_")
    with pytest.raises(ValueError, match="predict_quantiles needs metric"):
        fastbp.TabularRegressor("mlp", **QUICK).fit(X, score).predict_quantiles(X)
    with pytest.raises(ValueError, match="calibrate needs rows of validation"):
        fastbp.TabularClassifier(calibrate=True, validation_fraction=0, **QUICK).fit(X, label)


# A model that is fitted


def test_a_fit_that_fails_leaves_the_model_as_it_was() -> None:
    X, label, score = numbers()
    made: list[tuple[Any, Array, list[dict[str, Any]]]] = [
        (fastbp.TabularRegressor(**TINY), score, []),
        (fastbp.TabularClassifier(calibrate=True, **TINY), label, [{"y": ["a"] * 300}]),
    ]
    for model, y, more in made:
        model.fit(X, y)
        before, wanted = dict(vars(model)), model.predict(X)
        other = score * 1000 if y is score else np.where(score > 1, "c", "d")
        for change in (
            {"eval_set": 3},
            {"eval_set": (X, y, -np.ones(300))},
            {"n_folds": 1000},
            {"cat_features": ["no"]},
            {"X": {"u": np.full(300, np.inf)}},
            *more,
        ):
            names = [name for name in change if name in model.get_params()]
            old = {name: getattr(model, name) for name in names}
            model.set_params(**{name: change[name] for name in names})
            data = {"X": X, "y": other, **{k: v for k, v in change.items() if k not in names}}
            with pytest.raises((TypeError, ValueError)):
                model.fit(**data)
            model.set_params(**old)
            assert vars(model) == before
            np.testing.assert_array_equal(model.predict(X), wanted)


def test_predictions_go_by_what_was_fitted(tmp_path: Path) -> None:
    X, _, score = numbers()
    levels = [0.1, 0.4, 0.9]
    model = fastbp.TabularRegressor(metric="quantile", quantiles=levels, **TINY).fit(X, score)
    wanted = [model.predict(X), model.predict_quantiles(X), model.predict_interval(X)]
    levels[:] = [0.5]
    model.set_params(metric="rmse", quantiles=(0.5,), model="mlp", hidden_layer_sizes=(5, 5))
    model.save(tmp_path / "m")
    for same in (model, pickle.loads(pickle.dumps(model)), tabular.load(tmp_path / "m")):
        found = [same.predict(X), same.predict_quantiles(X), same.predict_interval(X)]
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(got, want)
    counts = fastbp.TabularRegressor(metric="poisson", **TINY).fit(X, np.exp(score))
    mean = counts.predict(X)
    np.testing.assert_array_equal(counts.set_params(metric="rmse").predict(X), mean)


def test_the_quantile_nearest_to_the_median_is_predicted() -> None:
    X, _, score = numbers()
    for levels, j in (((0.05, 0.1, 0.6, 0.95), 2), ((0.4, 0.6), 0), ((0.3, 0.7), 0), ((0.9,), 0)):
        model = fastbp.TabularRegressor(metric="quantile", quantiles=levels, **TINY).fit(X, score)
        found = model.predict_quantiles(X)
        assert found.shape == (300, len(levels))
        assert (np.diff(found, axis=1) >= 0).all()
        np.testing.assert_array_equal(model.predict(X), found[:, j])
        held = model.oof_prediction_.reshape(300, -1)
        known = np.isfinite(held[:, 0])
        np.testing.assert_allclose(held[known], found[known], rtol=1e-4, atol=1e-6)
        assert (np.diff(held[known], axis=1) >= 0).all()


def test_class_weights_survive_a_file(tmp_path: Path) -> None:
    X, _, score = numbers()
    y = (score > 0).astype(int)
    for weight in ({0: 2.0, 1: 0.5}, {np.int64(0): 1, np.int64(1): 3}, "balanced"):
        model = fastbp.TabularClassifier(class_weight=weight, **TINY).fit(X, y)
        model.save(tmp_path / "m")
        again = tabular.load(tmp_path / "m")
        assert again.class_weight == weight
        np.testing.assert_array_equal(again.fit(X, y).predict_proba(X), model.predict_proba(X))


def test_patience_with_an_eval_set_needs_no_share(tmp_path: Path) -> None:
    X, label, _ = numbers()
    model = fastbp.TabularClassifier(patience=2, validation_fraction=0, calibrate=True, **TINY)
    model.fit(X, label, eval_set=(X, label))
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(tabular.load(tmp_path / "m").predict(X), model.predict(X))


# Weights and targets of any size


def test_only_proportions_of_weights_matter() -> None:
    X, label, score = numbers()
    weight = np.arange(300) % 3 + 1.0
    for kind, y in ((fastbp.TabularClassifier, label), (fastbp.TabularRegressor, score)):
        wanted = kind(**TINY).fit(X, y, weight, eval_set=(X, y, weight)).predict(X)
        for power in (-1000, -166, 166, 1000):  # exact, but beyond float32
            w = np.ldexp(weight, power)
            model = kind(**TINY).fit(X, y, w, eval_set=(X, y, w))
            np.testing.assert_array_equal(model.predict(X), wanted)


def test_class_weights_hold_for_an_eval_set() -> None:
    X, label, _ = numbers()
    factors = {"a": 4.0, "b": 0.5}
    by_row = np.array([factors[k] for k in label])
    a = fastbp.TabularClassifier(class_weight=factors, **TINY).fit(X, label, eval_set=(X, label))
    b = fastbp.TabularClassifier(**TINY).fit(X, label, by_row, eval_set=(X, label, by_row))
    np.testing.assert_allclose(a.members_[0].values, b.members_[0].values, rtol=1e-6)


@pytest.mark.parametrize("metric", ["rmse", "poisson", "quantile"])
def test_targets_of_any_size(metric: str) -> None:
    X, _, score = numbers()
    score = np.abs(score)
    wanted = fastbp.TabularRegressor("mlp", metric=metric, **TINY).fit(X, score).predict(X)
    for power in (-700, 700):  # exact
        model = fastbp.TabularRegressor("mlp", metric=metric, **TINY).fit(X, np.ldexp(score, power))
        np.testing.assert_array_equal(model.predict(X), np.ldexp(wanted, power))
    model = fastbp.TabularRegressor(metric=metric, **TINY)
    with pytest.raises(ValueError, match=r"eval_set: y has .*, too far"):
        model.fit(X, score, eval_set=(X, np.full(300, 1e200)))


# Tables


def test_columns_that_lack_and_arrays_for_frames() -> None:
    X, label, _ = mixed(100)
    model = fastbp.TabularClassifier(**TINY).fit(X, label)
    with pytest.raises(ValueError, match=r"X lacks columns .*'shop'"):
        model.predict(X[["size", "colour"]])
    with pytest.raises(ValueError, match="X lacks column 'flag', which the model was fitted with"):
        model.predict(X.drop(columns="flag"))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        found = model.predict_proba(X.to_numpy())
    np.testing.assert_array_equal(found, model.predict_proba(X))
    with pytest.raises(ValueError, match="X has 2 f"), pytest.warns(match="feature names"):
        model.predict(X.to_numpy()[:, :2])


def test_masked_values_are_missing() -> None:
    X, label, score = numbers()
    mask = np.random.default_rng(1).random(X.shape) < 0.1
    spoilt = np.ma.masked_array(np.where(mask, 1e9, X), mask)
    missing = np.where(mask, np.nan, X)
    wanted = fastbp.TabularClassifier(**TINY).fit(missing, label).predict_proba(missing)
    model = fastbp.TabularClassifier(**TINY).fit(spoilt, label)
    np.testing.assert_array_equal(model.predict_proba(spoilt), wanted)
    columns = {f"x{j}": spoilt[:, j] for j in range(3)}
    model = fastbp.TabularClassifier(**TINY).fit(columns, label)
    np.testing.assert_array_equal(model.predict_proba(columns), wanted)
    with pytest.raises(ValueError, match="y has masked values"):
        fastbp.TabularRegressor(**TINY).fit(X, np.ma.masked_array(score, mask[:, 0]))


def test_notes_are_for_the_estimator_and_say_what_is_left_out() -> None:
    pd = pytest.importorskip("pandas")
    X, label, _ = mixed(60)
    X["row"] = np.arange(60)
    X["few"] = np.arange(60) % 3
    X["text"] = [f"text {i}" for i in range(60)]
    X["mostly"] = ["?", *map(str, np.arange(59) / 7)]
    X["list"] = [[i] for i in range(60)]
    X["dict"] = [{"a": i} for i in range(60)]
    X["period"] = pd.period_range("2020-01", periods=60, freq="M")
    X["same"] = 1
    X["none"] = None
    model = fastbp.TabularClassifier(**TINY).fit(X, label)
    notes = "\n".join(model.notes_)
    assert "--" not in notes
    assert "cat_features" in notes
    for name in X.columns:
        if name not in model.inputs_.names:
            assert repr(name) in notes, name


def test_notes_of_a_time_limit_say_what_was_trained() -> None:
    X, label, _ = numbers(2000)
    model = fastbp.TabularClassifier(
        n_folds=3, n_jobs=1, time_limit=1e-6, epochs=50, random_state=0
    )
    with pytest.warns(RuntimeWarning):
        model.fit(X, label)
    (member,) = model.members_
    told = f"time_limit: trained 1 of 3 members, for {len(member.values)} of 50 epochs"
    assert told in model.notes_
    unknown = int(np.isnan(model.oof_prediction_[:, 0]).sum())
    assert unknown > 0
    assert any(f"NaN in {unknown:,} of 2,000 rows" in note for note in model.notes_)


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({"hidden_layer_sizes": 100}, {}, "hidden_layer_sizes must be a sequence.*100"),
        ({"cat_features": 7}, {}, "cat_features must be a sequence.*7"),
        ({"cat_features": "x0"}, {}, "cat_features must be a sequence.*'x0'"),
        ({"cat_features": [99]}, {}, "cat_features has the index 99"),
        ({"cat_features": [True]}, {}, "cat_features takes names and indices.*True"),
        ({"model": ["mlp"]}, {}, "model"),
        ({"calibrate": "no"}, {}, "calibrate must be True or False, got 'no'"),
        ({"calibrate": True, "validation_fraction": 0}, {}, "calibrate needs rows of validation"),
        ({"class_weight": {"a": -1.0}}, {}, "class_weight of 'a'.*-1"),
        ({"class_weight": {"a": np.nan}}, {}, "class_weight of 'a'.*nan"),
        ({"class_weight": {"a": np.inf}}, {}, "class_weight of 'a'.*inf"),
        ({"class_weight": {"a": 1, "z": 2}}, {}, "class_weight has .*z.*classes .*a.*b"),
        ({"class_weight": "even"}, {}, "class_weight must be.*'even'"),
        ({}, {"groups": ["g"] * 299 + [None]}, "groups has a missing value, None, in row 299"),
        ({}, {"y": ["a", None] * 150}, "y has a missing value, None, in row 1"),
        ({}, {"y": np.array(["a", np.nan] * 150, object)}, "y has a missing value, nan, in row 1"),
        ({}, {"eval_set": 3}, "eval_set must be.*int"),
        ({}, {"eval_set": "nan"}, "eval_set: sample_weight must be finite and ≥ 0, got nan"),
        ({}, {"eval_set": "-1"}, "eval_set: sample_weight must be finite and ≥ 0, got -1"),
        ({}, {"eval_set": "0"}, "eval_set: sample_weight is zero for every row"),
        ({}, {"sample_weight": ["heavy"] * 300}, "sample_weight must hold 300 numbers"),
        ({"metric": "rmse", "quantiles": (0.5,)}, {}, "quantiles are for metric='quantile'"),
        ({"metric": "quantile", "quantiles": 0.5}, {}, "quantiles must be a sequence.*0.5"),
        ({"metric": "rmse"}, {"y": [1.0, None] * 150}, "y has a missing value, None, in row 1"),
    ],
)
def test_errors_name_the_argument(
    options: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    X, label, score = numbers()
    regression = options.get("metric") in metrics.REGRESSION
    kind: Any = fastbp.TabularRegressor if regression else fastbp.TabularClassifier
    if isinstance(weight := more.get("eval_set"), str):
        more = {"eval_set": (X, label, np.full(300, float(weight)))}
    model = kind(**TINY | options)
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(**{"X": X, "y": score if regression else label, **more})
    assert not hasattr(model, "classes_")


def test_cat_features_by_numpy_index() -> None:
    X, label, _ = numbers()
    X[:, 1] = np.arange(300) % 5
    wanted = fastbp.TabularClassifier(cat_features=[1], **TINY).fit(X, label).predict_proba(X)
    for chosen in ([np.int64(1)], np.array([1]), ("x1",)):
        model = fastbp.TabularClassifier(cat_features=chosen, **TINY).fit(X, label)
        np.testing.assert_array_equal(model.predict_proba(X), wanted)
