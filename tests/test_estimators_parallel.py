"""Many fits side by side: `fit_many`, and scikit-learn's own searches on joblib's threads."""

from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import MLPClassifier, MLPRegressor, fit_many
from fastbp.data import load_digits
from fastbp.estimators import parallel
from fastbp.estimators.parallel import threads_for

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits()
X, Y = X[:300].astype(np.float64), Y[:300]


def assert_identical(a, b):
    for p, q in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("n_jobs", [None, -1, 1, 3])
def test_fit_many_is_fitting_each_alone(n_jobs):
    models = [
        MLPClassifier(16, solver=solver, dropout=dropout, max_iter=8, random_state=seed)
        for solver, dropout in (("adam", 0.0), ("sgd", 0.2), ("lbfgs", 0.0))
        for seed in range(3)
    ]
    models.append(
        MLPRegressor(hidden_layer_sizes=(8, 8), early_stopping=True, max_iter=8, random_state=1)
    )
    weight = np.linspace(0.5, 2, len(X))
    alone = [clone(model).fit(X, Y, sample_weight=weight) for model in models]
    together = fit_many(models, X, Y, weight, n_jobs=n_jobs)
    assert together == models
    for a, b in zip(alone, together, strict=True):
        assert_identical(a, b)


class Asks:
    def fit(self, X, y):
        self.threads = threads_for(None), threads_for(2)


@pytest.mark.parametrize(
    ("n_jobs", "threads"), [(None, 8), (-1, 8), (1, 1), (3, 3), (20, 12), (-2, 7)]
)
def test_threads_of_fit_many(n_jobs, threads, monkeypatch):
    pools = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, *args):
            pools.append(args[0])
            super().__init__(*args)

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(parallel, "get_num_threads", lambda: 8)
    models = fit_many([Asks() for _ in range(12)], X, Y, n_jobs=n_jobs)
    assert pools == [threads]
    assert [model.threads for model in models] == [(1, 1)] * 12


def test_fit_many_of_others():
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(8, max_iter=3, random_state=0))
    expected = clone(pipeline).fit(X, Y)
    fit_many([pipeline, LogisticRegression(max_iter=10)], X, Y)
    assert_identical(pipeline[-1], expected[-1])
    assert fit_many([], X, Y) == []


def test_fit_many_errors():
    model = MLPClassifier()
    with pytest.raises(ValueError, match="estimators: each estimator must have its own"):
        fit_many([model, model], X, Y)
    shared = np.random.RandomState(0)
    pair = [MLPClassifier(random_state=shared) for _ in range(2)]
    with pytest.raises(ValueError, match="random_state: each estimator must have its own"):
        fit_many(pair, X, Y)
    with pytest.raises(TypeError, match="method fit"):
        fit_many([3], X, Y)
    with pytest.raises(ValueError, match=r"n_jobs must be None, .*got 0"):
        fit_many([model], X, Y, n_jobs=0)
    with pytest.raises(TypeError, match=r"n_jobs must be an integer or None, got 1\.5"):
        fit_many([model], X, Y, n_jobs=1.5)
    good = MLPClassifier(4, max_iter=2)
    with pytest.raises(ValueError, match="alpha"):
        fit_many([MLPClassifier(alpha=-1), good], X, Y)
    assert good.n_iter_ == 2


def test_a_grid_search_on_threads_is_the_one_without():
    grid = {"hidden_layer_sizes": [8, (8, 4)], "alpha": [1e-4, 1.0]}
    search = GridSearchCV(MLPClassifier(max_iter=5, random_state=0), grid, cv=2)
    alone = clone(search).fit(X, Y)
    with joblib.parallel_backend("threading", n_jobs=2):
        together = search.fit(X, Y)
    for key in ("mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(together.cv_results_[key], alone.cv_results_[key])
    assert_identical(together.best_estimator_, alone.best_estimator_)


def test_fits_side_by_side_take_one_thread_each():
    fastbp.set_num_threads(8)
    try:
        assert threads_for(None) == 8
        assert threads_for(-1) == 8
        assert threads_for(-3) == 6
        assert threads_for(-8) == threads_for(-20) == threads_for(1) == 1
        assert threads_for(3) == 3
        with pytest.raises(ValueError, match=r"n_jobs must be None, .*, got 0"):
            threads_for(0)
        for backend in ("threading", "loky"):
            inside = joblib.Parallel(2, backend=backend)(
                joblib.delayed(threads_for)(n) for n in (None, 3)
            )
            assert inside == [1, 3]
        assert joblib.Parallel(1)([joblib.delayed(threads_for)(None)]) == [8]
    finally:
        fastbp.set_num_threads(None)
