"""Estimators whose training diverges: the user is told, whatever stops the training."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import fastbp
from fastbp import MLPClassifier, MLPRegressor

GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((120, 4))
Y = X @ [1.0, -2.0, 0.5, 1.0]
CLASSES = (Y > 0).astype(int)
SOLVERS = ["sgd", "adam", "adamw", "rmsprop"]
KINDS = {"regressor": (MLPRegressor, Y), "classifier": (MLPClassifier, CLASSES)}
kinds = pytest.mark.parametrize("kind", list(KINDS))
early = pytest.mark.parametrize("early_stopping", [False, True])


def rate(after: int):
    """A rate at which the weights overflow, once `after` steps are done."""
    return lambda step: 1e-3 if step < after else 1e300


def make(kind: str, **options):
    estimator, y = KINDS[kind]
    options = {"hidden_layer_sizes": 8, "random_state": 0, "batch_size": 20} | options
    return estimator(**options), y


@kinds
@early
@pytest.mark.parametrize("solver", SOLVERS)
def test_from_the_first_epoch(kind, solver, early_stopping):
    """There is nothing to restore, and the first weights are not given out as trained."""
    model, y = make(kind, solver=solver, learning_rate=rate(0), early_stopping=early_stopping)
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        model.fit(X, y)
    assert model.n_iter_ <= 2  # not max_iter epochs of NaN


@kinds
@pytest.mark.parametrize("solver", SOLVERS)
def test_after_some_epochs(kind, solver):
    """Six steps an epoch (of the 108 rows that are not for validation)."""
    model, y = make(kind, solver=solver, learning_rate=rate(30), early_stopping=True)
    with pytest.warns(ConvergenceWarning, match=r"Training diverged in epoch [67]") as caught:
        model.fit(X, y)
    assert len(caught) == 1
    assert model.n_iter_ in (6, 7)
    calm = clone(model).set_params(learning_rate=rate(30), max_iter=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        calm.fit(X, y)
    assert model.best_validation_score_ == calm.best_validation_score_
    for a, b in zip(model.coefs_, calm.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.set_params(early_stopping=False).fit(X, y)


@kinds
def test_a_warm_start_that_diverges(kind):
    """Its best score is that of the fit before, whose weights are gone."""
    model, y = make(kind, solver="sgd", learning_rate_init=1e-3, early_stopping=True, max_iter=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    model.set_params(warm_start=True, learning_rate=rate(0))
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.fit(X, y)


@kinds
def test_partial_fit(kind):
    model, y = make(kind, solver="sgd", learning_rate=rate(6))  # the steps of an epoch
    classes = {"classes": [0, 1]} if kind == "classifier" else {}
    model.partial_fit(X, y, **classes)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.partial_fit(X, y)


@kinds
@early
def test_fit_many(kind, early_stopping):
    one, y = make(kind, solver="sgd", early_stopping=early_stopping, max_iter=2)
    two, _ = make(kind, solver="sgd", early_stopping=early_stopping, learning_rate=rate(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(ValueError, match="non-finite parameter weights"):
            fastbp.fit_many([one, two], X, y)
    assert one.n_iter_ == 2  # the others are completed


def test_scores_that_are_never_finite():
    """The weights are; but to predict with them overflows, so that no epoch is better than none."""

    class Overflows(MLPRegressor):
        def _score_outputs(self, f, y, weight):
            return super()._score_outputs(np.full_like(f, np.inf), y, weight)

    model = Overflows(hidden_layer_sizes=8, solver="sgd", early_stopping=True, random_state=0)
    with pytest.raises(ValueError, match="No validation score was finite in 11 epochs"):
        model.fit(X, Y)


def test_lbfgs():
    """SciPy gives back where it began, with a warning that does not say so."""
    model, _ = make("regressor", solver="lbfgs")
    with (
        pytest.warns(ConvergenceWarning),
        pytest.raises(ValueError, match="The loss is not finite where L-BFGS begins"),
    ):
        model.fit(X * 1e300, Y)


def test_lbfgs_that_meets_an_infinite_loss_in_a_line_search(monkeypatch):
    """What SciPy reports is then the loss of a step that was not taken."""
    from fastbp.estimators import lbfgs

    whole, seen = lbfgs.Objective.__call__, set()

    def breaks(self, packed):
        loss, gradient = whole(self, packed)
        if len(seen) < 8:
            seen.add(packed.tobytes())
        return (loss, gradient) if packed.tobytes() in seen else (np.nan, gradient * np.nan)

    monkeypatch.setattr(lbfgs.Objective, "__call__", breaks)
    model, _ = make("regressor", solver="lbfgs")
    with pytest.warns(ConvergenceWarning, match="failed to converge"):
        model.fit(X, Y)
    f = model.predict(X)
    penalty = 0.5 * model.alpha * sum(float((c**2).sum()) for c in model.coefs_) / len(X)
    # float64 means of 120 squares
    assert model.loss_ == pytest.approx(0.5 * np.mean((f - Y) ** 2) + penalty, rel=1e-12)
