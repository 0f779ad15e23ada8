"""What fastbp's estimators take beyond scikit-learn's, and how they fit in with the rest of it."""

import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import scipy.sparse
from error_bounds import assert_within
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import MLPClassifier, MLPRegressor, optimizers, schedules
from fastbp.activations import ACTIVATIONS, Activation
from fastbp.data import load_digits
from fastbp.engines.reference import ReferenceEngine
from fastbp.rows import DENSE_VALUES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits()
X, Y = X[:300].astype(np.float64), Y[:300]


def fit(*args, data=(X, Y), weight=None, **parameters):
    parameters = {"hidden_layer_sizes": (12, 6), "max_iter": 5, "random_state": 0} | parameters
    return MLPClassifier(*args, **parameters).fit(*data, sample_weight=weight)


def assert_identical(a, b):
    for p, q in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_every_activation_trains_and_predicts_alike_from_few_and_many_rows(activation, solver):
    model = fit(activation=activation, solver=solver)
    few = np.vstack([model.predict_proba(X[i : i + 1]) for i in range(40)])
    # float64 sums of up to 64 terms in another order
    np.testing.assert_allclose(few, model.predict_proba(X[:40]), rtol=1e-11)
    assert model.loss_ < np.log(10) * 1.2


def test_activations_for_each_layer():
    model = fit(activation=["tanh", Activation("leaky_relu", 0.3)])
    v = np.tanh(X @ model.coefs_[0] + model.intercepts_[0])
    z = v @ model.coefs_[1] + model.intercepts_[1]
    f = np.where(z > 0, z, 0.3 * z) @ model.coefs_[2] + model.intercepts_[2]
    np.testing.assert_array_equal(model.predict(X), f.argmax(axis=1))
    assert_identical(fit(activation=["tanh", "tanh"]), fit(activation="tanh"))


def test_dropout():
    model = fit(dropout=0.5)
    assert_identical(model, fit(dropout=[0.5, 0.5]))
    assert not np.array_equal(model.coefs_[0], fit().coefs_[0])
    assert_identical(fit(dropout=0), fit())


def test_class_weight():
    weights = {label: 1.0 + label for label in range(10)}
    # the same numbers multiplied in, so the same result to the bit
    assert_identical(fit(class_weight=weights), fit(weight=1.0 + Y))
    counts = np.bincount(Y)
    balanced = len(Y) / (10 * counts[Y])
    assert_identical(fit(class_weight="balanced"), fit(weight=balanced))
    both = fit(class_weight=weights, weight=2.0 - Y / 10)
    assert_identical(both, fit(weight=(2.0 - Y / 10) * (1.0 + Y)))
    partly = MLPClassifier(class_weight=weights, random_state=0)
    partly.partial_fit(X, Y, classes=range(10))
    other = MLPClassifier(random_state=0).partial_fit(X, Y, 1.0 + Y, classes=range(10))
    assert_identical(partly, other)


@pytest.mark.parametrize(
    ("solver", "same"),
    [
        (optimizers.SGD(momentum=0.9, nesterov=True), {"solver": "sgd"}),
        (optimizers.Adam(), {"solver": "adam"}),
        (optimizers.AdamW(), {"solver": "adamw"}),
        (optimizers.RMSprop(), {"solver": "rmsprop"}),
    ],
    ids=str,
)
def test_solvers_that_are_optimizers(solver, same):
    model = fit(solver=solver)
    assert_identical(model, fit(**same))
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_schedules():
    constant = schedules.Constant(0.02)
    assert_identical(fit(learning_rate=constant), fit(learning_rate_init=0.02))
    seen = []

    def rate(step):
        seen.append(step)
        return 0.01 / (1 + step)

    model = fit(learning_rate=rate, solver="sgd", batch_size=100)
    assert seen == [0, *range(15)]  # first as a check; then 3 steps an epoch
    for _ in range(2):
        model.partial_fit(X[:100], Y[:100])
    assert seen[16:] == [15, 16]


def test_callbacks():
    losses = []

    def stop_at_third(model):
        losses.append(model.loss_)
        model.predict(X)  # the coefficients are those of now
        return len(losses) == 3

    model = fit(max_iter=10, callbacks=[stop_at_third])
    assert model.n_iter_ == 3
    assert losses == model.loss_curve_
    assert_identical(model, fit(max_iter=3))


@pytest.mark.parametrize(
    ("answer", "stops"), [(np.True_, True), (np.False_, False), (1, False), (None, False)]
)
def test_only_a_bool_that_is_true_stops(answer, stops):
    assert fit(max_iter=3, callbacks=[lambda _: answer]).n_iter_ == (1 if stops else 3)


def test_flags_may_be_numpy_bools():
    """Those of the estimator, and of its optimizer."""
    flags = {"shuffle": False, "early_stopping": True, "nesterovs_momentum": False}
    one = fit(solver="sgd", max_iter=3, **flags)
    two = fit(solver="sgd", max_iter=3, **{k: np.bool_(v) for k, v in flags.items()})
    for a, b in zip(one.coefs_, two.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_callback_may_change_the_model():
    def halve(model):
        model.coefs_[0] *= 0.5

    model = fit(max_iter=1, callbacks=[halve])
    np.testing.assert_array_equal(model.coefs_[0], fit(max_iter=1).coefs_[0] * 0.5)


def test_an_interrupt_keeps_what_was_learned():
    def interrupt(model):
        if model.n_iter_ == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = fit(callbacks=[interrupt])
    assert_identical(model, fit(max_iter=2))


def test_a_sparse_matrix_is_never_dense_as_a_whole():
    S = scipy.sparse.random_array((20_000, 2_000), density=1e-3, format="csr", rng=0)
    dense = S.shape[0] * S.shape[1] * 8
    tracemalloc.start()
    try:
        model = fit(data=(S, np.arange(20_000) % 2), hidden_layer_sizes=4, max_iter=1)
        model.predict(S)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # a block, its copy in another dtype or order, and room for the rest
    assert peak < 3 * 8 * DENSE_VALUES < dense / 5


def test_threads_make_no_difference():
    assert_identical(fit(n_jobs=1, hidden_layer_sizes=300), fit(n_jobs=2, hidden_layer_sizes=300))


def test_progress(capsys):
    model = fit(progress=True)
    assert (
        capsys.readouterr().err
        == "".join(
            f"\r[{'######' * i:30}] epoch {i}/5, loss {loss:.6f}"
            for i, loss in enumerate(model.loss_curve_, 1)
        )
        + "\n"
    )


def test_precision():
    single = fit(precision="float32")
    assert {a.dtype for a in single.coefs_ + single.intercepts_} == {np.dtype(np.float32)}
    assert_identical(single, fit(data=(X.astype(np.float32), Y)))
    double = fit(data=(X.astype(np.float32), Y), precision="float64")
    assert_identical(double, fit(data=(X.astype(np.float32).astype(np.float64), Y)))
    assert fit(precision="float32", solver="lbfgs").coefs_[0].dtype == np.float32


@pytest.mark.parametrize("rows", [2, 40])  # NumPy predicts a few, an engine more
@pytest.mark.parametrize("given", ["?", "i1", "f4", "f8", "g"])
def test_predictions_have_the_dtype_of_the_precision(rows, given):
    for precision in ("auto", "float32", "float64", "bf16"):
        p = fit(precision=precision).predict_proba(np.ones((rows, 64), given))
        assert p.dtype == ("float32" if precision in ("float32", "bf16") else "float64")


def test_engine():
    a, b, still = fit(engine="reference"), fit(), fit(learning_rate_init=1e-300)
    # 5 epochs of 2 steps in float64
    for p, q, idle in zip(a.coefs_, b.coefs_, still.coefs_, strict=True):
        assert_within(p, q, 1e-8 * np.abs(q) + 1e-10, idle)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"activation": ["relu"]}, "activation must be one value, or one for each of the 2"),
        ({"activation": ["relu", "cosine"]}, "unknown activation 'cosine'"),
        ({"dropout": 1.0}, "The 'dropout' parameter of MLPClassifier must be"),
        ({"hidden_layer_sizes": (4, -1)}, r"hidden_layer_sizes must be > 0, got \[4, -1\]"),
        ({"dropout": [0.1]}, "dropout must be one value, or one for each of the 2"),
        ({"dropout": 0.5, "solver": "lbfgs"}, "dropout needs a stochastic solver"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"precision": "float16"}, "precision"),
        ({"engine": "steam"}, "engine"),
        ({"class_weight": "uneven"}, "class_weight"),
    ],
    ids=str,
)
def test_errors(parameters, says):
    with pytest.raises(ValueError, match=says):
        fit(**parameters)


def test_partial_fit_does_not_balance():
    with pytest.raises(ValueError, match="balanced"):
        MLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=range(10))


def test_partial_fit_is_for_stochastic_solvers():
    for kind in (MLPClassifier, MLPRegressor):
        assert hasattr(kind(), "partial_fit")
        assert not hasattr(kind(solver="lbfgs"), "partial_fit")


def test_another_number_of_outputs():
    model = MLPRegressor(hidden_layer_sizes=4).partial_fit(X, Y)
    with pytest.raises(ValueError, match="y 2 outputs, but the network of coefs_ has 64 and 1"):
        model.partial_fit(X, np.column_stack([Y, Y]))


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_pickle_and_clone(solver):
    model = fit(solver=solver)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    if solver != "lbfgs":  # the optimizer's state goes along
        assert_identical(again.partial_fit(X, Y), model.partial_fit(X, Y))
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


def test_what_changes_coefs_changes_predictions():
    model = fit()
    model.coefs_[-1][:] = 0
    model.intercepts_[-1][:] = np.arange(10)
    assert set(model.predict(X)) == set(model.predict(X[:1])) == {9}


def test_feature_names():
    pandas = pytest.importorskip("pandas", reason="names of columns come from pandas")
    frame = pandas.DataFrame(X, columns=[f"pixel{i}" for i in range(64)])
    model = fit(data=(frame, Y))
    assert list(model.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(model.predict(frame), fit().predict(X))
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(X)


def test_in_a_pipeline_and_calibrated():
    mlp = MLPClassifier(16, max_iter=60, learning_rate_init=0.01, random_state=0)
    pipeline = make_pipeline(StandardScaler(), mlp).fit(X, Y)
    assert pipeline.score(X, Y) > 0.95
    calibrated = CalibratedClassifierCV(mlp, cv=2).fit(X, Y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    assert "MLPClassifier" in mlp._repr_html_()


def test_wrong_inputs_for_a_quick_prediction():
    model = fit()
    many = np.hstack([X, X])
    for wrong in (
        X[:1, :5],
        many[:1],
        many[:64],
        many,
        X[0],
        X[:1] * np.nan,
        [["a"] * 64],
        np.empty((0, 64)),
    ):
        with pytest.raises(ValueError, match=r"\S"):
            model.predict(wrong)


def test_without_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
import fastbp
try:
    fastbp.MLPClassifier
except ImportError as error:
    assert "fastbp[sklearn]" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_another_engine_from_one_call_to_the_next():
    model, other = fit(), fit(engine="reference")
    before = [a.copy() for a in other.coefs_]
    for each in (model.set_params(engine="reference"), other):
        each.partial_fit(X, Y)
        assert isinstance(each._optimizer.holder.engine, ReferenceEngine)
    # an epoch more than in test_engine; the state went along
    for p, q, idle in zip(model.coefs_, other.coefs_, before, strict=True):
        assert_within(p, q, 1e-8 * np.abs(q) + 1e-10, idle)


def test_own_defaults():
    own = {"dropout": 0.0, "callbacks": (), "n_jobs": None, "progress": False}
    own |= {"precision": "auto", "engine": "auto"}
    for kind in (MLPClassifier, MLPRegressor):
        assert own.items() <= kind().get_params().items()
    assert MLPClassifier().class_weight is None


def test_names_are_there():
    assert {"MLPClassifier", "MLPRegressor", "fit_many"} <= set(dir(fastbp))
    with pytest.raises(AttributeError, match="MLPTransformer"):
        fastbp.MLPTransformer  # noqa: B018
