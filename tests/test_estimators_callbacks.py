"""The estimators under scikit-learn's callbacks."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import MLPClassifier, MLPRegressor

skl_callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has no callbacks yet")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).standard_normal((60, 3))
LABELS = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]
SOLVERS = ["adam", "lbfgs"]


class Recorder:
    """Follows scikit-learn's protocol."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.told: list[tuple[str, str]] = []
        self.fitted: list[Any] = []
        self.data: list[Any] = []
        self.stop_at = stop_at

    def setup(self, estimator: Any, context: Any) -> None:
        self.told.append(("setup", context.task_name))

    def on_fit_task_begin(self, estimator: Any, context: Any, *, X: Any = None) -> None:
        self.told.append(("begin", context.task_name))

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ) -> bool:
        self.told.append(("end", context.task_name))
        if fitted_estimator is not None:
            self.fitted.append(fitted_estimator)
            self.data.append((X, y, metadata))
        return len(self.fitted) == self.stop_at

    def teardown(self, estimator: Any, context: Any) -> None:
        self.told.append(("teardown", context.task_name))


def fit(solver: str = "adam", recorder: Any = None, **options: Any) -> Any:
    model = MLPClassifier((4,), solver=solver, random_state=0, **{"max_iter": 3, **options})
    return model.set_callbacks(*([recorder] if recorder else [])).fit(X, LABELS)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_tasks_of_a_fit(solver: str):
    recorder = Recorder()
    model = fit(solver, recorder)
    name = "epoch" if solver == "adam" else "iteration"
    assert model.n_iter_ == 3
    assert recorder.told == [
        ("setup", "fit"),
        ("begin", "fit"),
        *[("begin", name), ("end", name)] * 3,
        ("end", "fit"),
        ("teardown", "fit"),
    ]


@pytest.mark.parametrize("solver", SOLVERS)
def test_each_task_has_an_estimator_as_if_fit_had_ended_there(solver: str):
    recorder = Recorder()
    model = fit(solver, recorder)
    for epochs, fitted in enumerate(recorder.fitted[:3], 1):
        expected = fit(solver, max_iter=epochs)
        assert (fitted.predict_proba(X) == expected.predict_proba(X)).all()
    assert (recorder.fitted[3].predict_proba(X) == model.predict_proba(X)).all()
    assert all(given[0] is X and given[1] is LABELS for given in recorder.data)


@pytest.mark.parametrize("solver", SOLVERS)
def test_callbacks_change_nothing(solver: str):
    told, untold = fit(solver, Recorder()), fit(solver)
    assert all((a == b).all() for a, b in zip(told.coefs_, untold.coefs_, strict=True))
    assert told.n_iter_ == untold.n_iter_


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_may_stop_the_fit(solver: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        recorder = Recorder(stop_at=2)
        model = fit(solver, recorder, max_iter=50)
    assert model.n_iter_ == 2
    assert recorder.told[-2:] == [("end", "fit"), ("teardown", "fit")]
    assert recorder.told.count(("begin", "fit")) == 1
    assert len([t for t in recorder.told if t[0] == "begin"]) == 3


def test_an_end_before_the_last_epoch_leaves_no_task_open():
    stop = {"callbacks": [lambda estimator: estimator.n_iter_ == 2]}
    for options in (
        stop,
        {"tol": 10.0, "n_iter_no_change": 1},
        {"early_stopping": True, "tol": 10},
    ):
        recorder = Recorder()
        model = fit(recorder=recorder, **{"max_iter": 40, **options})
        assert model.n_iter_ < 40
        begun = [t for t in recorder.told if t == ("begin", "epoch")]
        assert len(begun) == len([t for t in recorder.told if t == ("end", "epoch")])


def test_teardown_comes_after_an_error():
    def fail(estimator: Any) -> None:
        raise OSError("disk")

    recorder = Recorder()
    with pytest.raises(OSError, match="disk"):
        fit(recorder=recorder, callbacks=[fail])
    assert recorder.told[-1] == ("teardown", "fit")
    with pytest.raises(ValueError, match="max_iter"):
        fit(recorder=Recorder(), max_iter=-1)


def test_weights_and_partial_fit():
    recorder = Recorder()
    weight = np.ones(len(X))
    model = MLPRegressor(max_iter=1).set_callbacks(recorder).fit(X, X[:, 0], weight)
    assert recorder.data[0][2]["sample_weight"] is weight
    before = len(recorder.told)
    model.partial_fit(X, X[:, 0])  # no fit
    assert len(recorder.told) == before


def test_scoring_monitor():
    monitor = skl_callback.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    model = fit(recorder=monitor, max_iter=5)
    log = monitor.get_logs().data
    epochs = [row for row in log if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in epochs] == list(range(5))
    assert epochs[-1]["accuracy"] == model.score(X, LABELS)
    assert epochs[-1]["neg_log_loss"] > epochs[0]["neg_log_loss"]


def test_progress_bar_of_a_search(capfd: pytest.CaptureFixture[str]):
    pytest.importorskip("rich")
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=2))
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [0.1, 1.0]}, cv=2)
    search.set_callbacks(skl_callback.ProgressBar(max_propagation_depth=None)).fit(X, LABELS)
    assert "MLPClassifier - fit" in capfd.readouterr().out


def test_a_search_and_a_clone_pass_callbacks_on():
    recorder = Recorder()
    model = MLPClassifier((4,), max_iter=2).set_callbacks(recorder)
    assert clone(model)._skl_callbacks == [recorder]
    GridSearchCV(model, {"alpha": [0.1, 1.0]}, cv=2).fit(X, LABELS)
    assert recorder.told.count(("setup", "fit")) == 5  # 2 values, 2 folds, and the refit
    assert copy.deepcopy(model).fit(X, LABELS).n_iter_ == 2


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="callbacks"):
        MLPClassifier().set_callbacks(print)


def test_without_them_the_estimators_are_as_before():
    code = """
import sys
sys.modules["sklearn.callback"] = None  # as in scikit-learn 1.8
from fastbp import MLPClassifier
model = MLPClassifier((4,), max_iter=300).fit([[0.0], [1.0], [0.1], [0.9]], [0, 1, 0, 1])
print(hasattr(model, "set_callbacks"), model.n_iter_ > 0)
"""
    # scikit-learn 1.9 itself needs the module, so it is there until scikit-learn is loaded
    code = "import sklearn.pipeline, sklearn.model_selection, sklearn.neural_network\n" + code
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
