"""What goes wrong around an estimator is told, costs no memory, and leaves what was fitted."""

import copy
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import sklearn
from engine_cases import ENGINES
from error_bounds import assert_within
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import fastbp
from fastbp import MLPClassifier, MLPRegressor, schedules
from fastbp.data import load_digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits()
X, Y = X[:300].astype(np.float64), Y[:300]


def fit(model=MLPClassifier, **parameters):
    parameters = {"hidden_layer_sizes": (12, 6), "max_iter": 3, "random_state": 0} | parameters
    return model(**parameters).fit(X, Y)


def parameters_of(model):
    return [a.copy() for a in (*model.coefs_, *model.intercepts_)]


def assert_unchanged(model, before):
    for a, b in zip(parameters_of(model), before, strict=True):
        np.testing.assert_array_equal(a, b)


# What users put into coefs_ and intercepts_


def one_row_less(model):
    model.coefs_[1] = model.coefs_[1][:3]


def taller(model):
    model.coefs_[0] = np.vstack([model.coefs_[0]] * 50)


def narrower(model):
    model.coefs_[0] = model.coefs_[0][:, :5]


def one_layer_less(model):
    model.coefs_ = model.coefs_[:-1]


def one_bias_less(model):
    model.intercepts_[-1] = model.intercepts_[-1][:-1]


def columns_of_biases(model):
    model.intercepts_[0] = model.intercepts_[0][:, None]


def fewer_inputs(model):
    model.coefs_[0] = model.coefs_[0][:40].copy()


CHANGES = [
    one_row_less,
    taller,
    narrower,
    one_layer_less,
    one_bias_less,
    columns_of_biases,
    fewer_inputs,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("engine", ENGINES)
def test_coefficients_that_make_no_network(engine, change):
    model = fit(engine=engine)
    change(model)
    for rows in (200, 20):  # an engine, and NumPy
        with pytest.raises(ValueError, match=r"shapes|take|mismatch|broadcast|argument"):
            model.predict(X[:rows])
    with pytest.raises(ValueError, match="coefs_"):
        model.partial_fit(X, Y)
    with pytest.raises(ValueError, match="coefs_"):
        model.set_params(warm_start=True).fit(X, Y)
    model.set_params(warm_start=False).fit(X, Y).predict(X)  # and afresh


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_callback_that_makes_no_network(engine, change):
    with pytest.raises(ValueError, match="shapes"):
        fit(engine=engine, callbacks=[change])


def test_a_callback_that_makes_another_network():
    def wider(model):
        model.coefs_[0] = np.zeros((64, 20))
        model.coefs_[1] = np.zeros((20, 6))
        model.intercepts_[0] = np.zeros(20)

    with pytest.raises(ValueError, match="shapes"):
        fit(callbacks=[wider])


def test_another_dtype_from_one_call_to_the_next():
    """Adam goes on from what it had."""
    model, same = fit(), fit()
    model.coefs_ = [a.astype(np.float32) for a in model.coefs_]
    model.intercepts_ = [a.astype(np.float32) for a in model.intercepts_]
    before = [a.copy() for a in same.coefs_]
    for each in (model, same):
        for _ in range(3):
            each.partial_fit(X, Y)
    assert model.coefs_[0].dtype == np.float32
    for a, b, idle in zip(model.coefs_, same.coefs_, before, strict=True):
        # 3 epochs of 2 steps: a few roundings of numbers below 1 each, and Adam's rate of 0.001
        assert_within(a, b, 1e-4, idle)
    model.set_params(precision="float64").partial_fit(X, Y)


def test_another_network_from_one_call_to_the_next():
    """The optimizer begins anew: what it had was of other shapes."""
    model = fit().partial_fit(X, Y)
    twin = fit(hidden_layer_sizes=5, solver="lbfgs")
    model.coefs_, model.intercepts_ = copy.deepcopy((twin.coefs_, twin.intercepts_))
    twin.set_params(solver="adam")
    assert_unchanged(model.partial_fit(X, Y), parameters_of(twin.partial_fit(X, Y)))
    model.set_params(solver="lbfgs", hidden_layer_sizes=9).fit(X, Y)
    model.set_params(solver="adam").partial_fit(X, Y)
    assert model.coefs_[0].shape == (64, 9)


def test_a_refused_first_call_leaves_an_estimator_that_is_not_fitted():
    model = MLPClassifier(early_stopping=True)
    with pytest.raises(ValueError, match="early_stopping"):
        model.partial_fit(X, Y, classes=range(10))
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize("early_stopping", [True, False])
def test_another_rule_of_stopping_from_one_call_to_the_next(early_stopping):
    model = fit(early_stopping=early_stopping, warm_start=True)
    model.set_params(early_stopping=not early_stopping).fit(X, Y)
    assert (model.best_loss_ is None) is (not early_stopping)
    assert len(model.loss_curve_) == 3
    model.set_params(early_stopping=False).partial_fit(X, Y)


# Threads and processes


def test_fits_of_one_estimator_from_several_threads():
    """Some may be refused; none is wrong in memory."""
    model = fit(hidden_layer_sizes=8)
    other = X[:100, :30].copy()
    refused = []

    def train(data, method):
        for _ in range(30):
            try:
                getattr(model, method)(data, Y[: len(data)])
                model.predict(data)
            except (RuntimeError, ValueError) as error:
                refused.append(error)

    work = [(X, "fit"), (X, "partial_fit"), (other, "fit"), (other, "partial_fit")]
    threads = [threading.Thread(target=train, args=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in refused:
        assert str(error)
    assert_unchanged(model.fit(X, Y), parameters_of(fit(hidden_layer_sizes=8)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_another_thread_trains():
    model = fit()
    end = threading.Event()

    def train():
        while not end.is_set():
            model.partial_fit(X, Y)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(10):
            child = multiprocessing.get_context("fork").Process(target=use, args=(model,))
            child.start()
            child.join(60)
            assert child.exitcode == 0
    finally:
        end.set()
        thread.join()


def use(model):
    copy.deepcopy(model).partial_fit(X, Y)
    model.partial_fit(X, Y).predict(X)


CHILD = """
import os, signal, threading
import numpy as np
import fastbp

signal.signal(signal.SIGINT, signal.default_int_handler)
X = np.random.default_rng(0).standard_normal((2000, 8))
y = (X[:, 0] > 0).astype(int)
models = [fastbp.MLPClassifier(64, max_iter=10**6, n_iter_no_change=10**6) for _ in range(6)]
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    fastbp.fit_many(models, X, y, n_jobs=2)
except KeyboardInterrupt:
    print(sum(hasattr(model, "coefs_") for model in models))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C goes to a whole group")
def test_ctrl_c_ends_fit_many():
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-P", "-c", CHILD],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "2\n"  # those that had begun


def test_a_handler_cannot_use_the_estimator_it_interrupts():
    model = fit(hidden_layer_sizes=64, max_iter=5)
    said = []

    def handler(number, frame):
        try:
            model.partial_fit(X, Y)
        except RuntimeError as error:
            said.append(str(error))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)  # between two computations it may
    try:
        for _ in range(1000):
            model.partial_fit(np.tile(X, (300, 1)), np.tile(Y, 300))
            if said:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "signal handler" in said[0]


# Parameters and data


class Rates(schedules.Schedule):
    def __init__(self, rates):
        self.rates = rates

    def _rate(self, step):
        return self.rates


@pytest.mark.parametrize(
    "rates",
    [np.ones(0), np.ones(7), np.ones((2, 2)), np.array(np.nan), np.array(-1.0)],
)
def test_a_schedule_of_other_rates(rates):
    schedule = Rates(rates)
    with pytest.raises(ValueError, match="learning_rate"):
        fastbp.MLP([64, 10], seed=0).fit(X, Y, learning_rate=schedule)
    model = fit(solver="sgd")
    before = parameters_of(model)
    with pytest.raises(ValueError, match="learning_rate"):
        model.set_params(learning_rate=schedule).fit(X, Y)
    assert_unchanged(model, before)


def test_a_schedule_of_one_rate_for_all_steps():
    constant = fit(solver="sgd", learning_rate=schedules.Constant(0.1))
    assert_unchanged(fit(solver="sgd", learning_rate=Rates(np.array(0.1))), parameters_of(constant))


@pytest.mark.parametrize(
    "parameters",
    [
        {"callbacks": [3]},
        {"callbacks": "ab"},
        {"learning_rate": lambda step: -1.0},
        {"learning_rate": lambda step: "fast"},
        {"hidden_layer_sizes": (5.7,)},
        {"hidden_layer_sizes": (0.5,)},
        {"hidden_layer_sizes": [True]},
        {"n_jobs": 0},
        {"dropout": [0.1]},
        {"activation": ["tanh"]},
    ],
)
def test_a_wrong_parameter_leaves_what_was_fitted(parameters):
    model = fit()
    before = parameters_of(model)
    with pytest.raises((TypeError, ValueError), match=next(iter(parameters))):
        model.set_params(**parameters).fit(X, Y)
    assert_unchanged(model, before)


def test_parameters_that_are_not_validated():
    with sklearn.config_context(skip_parameter_validation=True):
        fit(solver="lbfgs", n_iter_no_change="?")
    with pytest.raises(ValueError, match="n_iter_no_change"):
        fit(n_iter_no_change="?")


@pytest.mark.parametrize("batch_size", [0, -5, 1000])
def test_a_batch_size_set_later_is_clipped(batch_size):
    model = fit()
    same = clone(model).fit(X, Y).set_params(batch_size=len(X) if batch_size > 0 else 1)
    with pytest.warns(UserWarning, match="clipped"):
        model.set_params(batch_size=batch_size).partial_fit(X, Y)
    assert_unchanged(model, parameters_of(same.partial_fit(X, Y)))


@pytest.mark.parametrize(
    ("loss", "y", "says"),
    [
        ("poisson", Y - 1.0, "y must be ≥ 0"),
        ("squared_error", Y.astype(str), "real numbers"),
        ("squared_error", Y.astype("m8[s]"), "real numbers|dtype|timedelta"),
    ],
)
def test_targets_that_a_regressor_cannot_take(loss, y, says):
    model = MLPRegressor(loss=loss, hidden_layer_sizes=3, max_iter=2, random_state=0)
    with pytest.raises((TypeError, ValueError), match=says):
        model.fit(X, y)
    model.fit(X, Y)
    with pytest.raises((TypeError, ValueError), match=says):
        model.partial_fit(X, y)


def test_infinite_predictions_have_no_score():
    model = fit(MLPRegressor, loss="poisson")
    model.intercepts_[-1][:] = 1000.0
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="infinity"):
        model.score(X, Y.astype(float))


def test_score_is_that_of_predict():
    class Contrary(MLPClassifier):
        def predict(self, X):
            return super().predict(X) + 100

    assert fit(Contrary).score(X, Y) == 0.0

    class Cautious(MLPRegressor):
        def predict(self, X):
            return np.full(len(X), Y.mean())

    assert fit(Cautious).score(X, Y.astype(float)) == pytest.approx(0.0)


def test_early_stopping_that_fails_leaves_no_parameters_for_the_next_fit():
    model = fit(early_stopping=True, warm_start=True)

    def fail(model):
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        model.set_params(callbacks=[fail]).fit(X, Y)
    assert model.set_params(callbacks=[]).fit(X, Y).n_iter_ >= 1  # and nothing of that one is left
