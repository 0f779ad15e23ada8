"""TabM and TabM-mini: members that share weights, from first values to the mean of their predictions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import fastbp
from fastbp.stages import Dense, Members
from fastbp.tabular import recipes


@pytest.mark.parametrize("model", ["tabm", "tabm-mini"])
def test_tabm_predicts_the_mean_of_its_members(model: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 5))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    quick = {"hidden_layer_sizes": (12, 7), "epochs": 6, "n_members": 5, "random_state": 0}
    fitted = fastbp.TabularClassifier(model, **quick).fit(X, y)
    (member,) = fitted.members_
    v = fitted._inputs_of(X).astype(np.float64)
    parameters = [p.astype(np.float64) for p in member.parameters]
    *hidden, heads, biases = parameters
    p = np.zeros((300, 2))
    for m in range(5):
        a = v
        if model == "tabm":
            assert len(hidden) == 6
            for R, W, S in (hidden[:3], hidden[3:]):
                assert (W[:, -1] == 0).all()  # the shared stage has no bias
                a = np.maximum((a * R[:, m]) @ W[:, :-1].T * S[:, m] + S[:, 5 + m], 0)
        else:
            a = a * hidden[0][:, m]
            for W in hidden[1:]:
                a = np.maximum(a @ W[:, :-1].T + W[:, -1], 0)
        f = a @ heads[:, 2 * m : 2 * m + 2] + biases[:, m]
        e = np.exp(f - f.max(axis=1, keepdims=True))
        p += e / e.sum(axis=1, keepdims=True) / 5
    # Sums of 12 terms and fewer, three times, in float32.
    np.testing.assert_allclose(fitted.predict_proba(X), p, rtol=0, atol=64 * 1.2e-7)
    # The best epoch is that of the mean's loss.
    held = np.isfinite(fitted.oof_prediction_[:, 0])
    loss = -np.log(p[held][np.arange(held.sum()), y[held]]).mean()
    assert min(member.values) == pytest.approx(loss, rel=1e-4)


def test_first_members_differ_by_signs() -> None:
    recipe = recipes.recipe("tabm", regression=False)
    stages = recipes.stages(recipe, 9, 3, (), 2)
    assert [type(s).__name__ for s in stages[:4]] == ["Members", "Dense", "Members", "Members"]
    first = recipes.first_values(recipe, stages, np.zeros((4, 12)), np.random.default_rng(0))
    assert set(np.unique(first[0])) == {-1.0, 1.0}
    assert abs(first[0].mean()) < 4 / np.sqrt(first[0].size)
    for stage, values in zip(stages[1:], first[1:], strict=True):
        if isinstance(stage, Members) and stage.scale:
            assert (values[:, : stage.members] == 1).all()
        if isinstance(stage, Members) and stage.scale and stage.shift:
            assert (values[:, stage.members :] == values[:, stage.members :][:, :1]).all()
        if isinstance(stage, Dense):
            assert np.abs(values).max() <= 1 / np.sqrt(stage.inputs)
            assert (values[:, -1] == 0).all()


def test_tabm_stops_when_it_has_not_been_better_for_16_epochs() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 3)), rng.standard_normal(200)  # nothing to learn
    quick = {"hidden_layer_sizes": (32, 32), "n_members": 4, "random_state": 0}
    (member,) = fastbp.TabularRegressor("tabm", **quick).fit(X, y).members_
    assert member.stopped == "patience"
    assert len(member.values) == member.best_epoch + 17
    whole = fastbp.TabularRegressor("tabm", validation_fraction=0, epochs=20, **quick).fit(X, y)
    assert len(whole.members_[0].values) == 20


@pytest.mark.parametrize("model", ["tabm", "tabm-mini"])
@pytest.mark.parametrize("metric", ["rmse", "poisson", "quantile"])
def test_tabm_of_numbers_is_the_same_on_any_number_of_threads(model: str, metric: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 4))
    y = np.exp(X[:, 0])
    quick = {"hidden_layer_sizes": (32, 32), "epochs": 10, "n_members": 7, "random_state": 0}
    found = [
        fastbp.TabularRegressor(model, metric=metric, n_jobs=n, **quick).fit(X, y).predict(X)
        for n in (1, 2)
    ]
    np.testing.assert_array_equal(*found)
    assert np.corrcoef(found[0], X[:, 0])[0, 1] > 0.6
