"""fastbp's estimators beside scikit-learn's: the same fit, number by number.

The two sum in different orders, so they differ by rounding, which 20 epochs of a stable training
multiply by far less than the 1e-6 / 2.2e-16 that the tolerance leaves: 1e-6 is what a user of
scikit-learn may rely on, not what rounding needs.
"""

import itertools
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import scipy.sparse
import sklearn.neural_network
from engine_cases import ENGINES
from error_bounds import assert_within, refuse_idle
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import get_tags

import fastbp
from fastbp.data import load_digits

RTOL = 1e-6
EPOCHS = 20

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

X, LABELS = load_digits()
X, LABELS = X[:400].astype(np.float64), LABELS[:400]
TARGETS = np.column_stack([np.sin(X @ np.arange(64)), X.mean(axis=1), LABELS / 3.0])
MULTILABEL = make_multilabel_classification(300, 20, random_state=0)
WEIGHT = np.random.default_rng(0).uniform(0.1, 3, len(X))

DATA = {
    "multiclass": ("MLPClassifier", X, LABELS),
    "binary": ("MLPClassifier", X, np.where(LABELS % 2, "odd", "even")),
    "multilabel": ("MLPClassifier", *MULTILABEL),
    "one output": ("MLPRegressor", X, TARGETS[:, 2]),
    "three outputs": ("MLPRegressor", X, TARGETS),
}


def both(name, **parameters):
    parameters = {"hidden_layer_sizes": (16, 8), "max_iter": EPOCHS, "random_state": 3} | parameters
    return [getattr(m, name)(**parameters) for m in (sklearn.neural_network, fastbp)]


def assert_same(theirs, ours, X):
    for name in sorted(vars(theirs)):
        if not name.endswith("_") or name.startswith("_"):
            continue
        expected, got = getattr(theirs, name), getattr(ours, name)
        if name in ("coefs_", "intercepts_"):
            assert len(got) == len(expected)
            for a, b in zip(got, expected, strict=True):
                assert a.dtype == b.dtype
                # relative to the layer: a weight near 0 has the rounding of those it is summed with
                np.testing.assert_allclose(a, b, rtol=RTOL, atol=RTOL * np.abs(b).max())
        elif (
            isinstance(expected, str) or expected is None or np.asarray(expected).dtype.kind in "OU"
        ):
            assert np.array_equal(got, expected), name
        else:
            # a loss near 0 is what is left of numbers of about 1
            atol = 64 * np.finfo(float).eps
            np.testing.assert_allclose(got, expected, rtol=RTOL, atol=atol, err_msg=name)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(theirs, method):
            expected = getattr(theirs, method)(X)
            got = getattr(ours, method)(X)
            assert got.dtype == expected.dtype
            assert got.shape == expected.shape
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(got, expected, rtol=RTOL, atol=RTOL)
            else:
                assert np.array_equal(got, expected)


def check_tolerance(model, X, y):
    """The weights have moved further from the first ones than `assert_same` lets them be apart."""
    still = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 1e-300, "max_iter": 1}
    first = clone(model).set_params(**still, early_stopping=False, learning_rate="constant")
    first.fit(X, y)
    for name in ("coefs_", "intercepts_"):
        for a, idle in zip(getattr(model, name), getattr(first, name), strict=True):
            refuse_idle(a, RTOL * (np.abs(a) + np.abs(a).max()), idle)


def compare(case, *, weighted=False, **parameters):
    name, X, y = DATA[case]
    theirs, ours = both(name, **parameters)
    weight = {"sample_weight": WEIGHT[: len(X)]} if weighted else {}
    check_tolerance(theirs.fit(X, y, **weight), X, y)
    assert_same(theirs.fit(X, y, **weight), ours.fit(X, y, **weight), X)


SOLVERS = {
    "adam": {},
    "plain": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.1},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.05},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.05},
    "lbfgs": {"solver": "lbfgs", "activation": "tanh"},
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", DATA)
def test_solvers(case, solver):
    compare(case, **SOLVERS[solver])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", DATA)
def test_sample_weight(case, solver):
    compare(case, weighted=True, **SOLVERS[solver])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("case", ["multiclass", "one output"])
def test_negative_weights(case, sign, engine):
    """Of some rows, and in sum: scikit-learn takes them as they are."""
    name, X, y = DATA[case]
    theirs, ours = both(name, max_iter=2, learning_rate_init=1e-4, solver="sgd", momentum=0)
    weight = sign * np.where(np.arange(len(X)) % 7 == 3, -0.5, 1.0)
    for solver in ("sgd", "lbfgs"):
        for model in (theirs, ours.set_params(engine=engine)):
            model.set_params(solver=solver).fit(X, y, sample_weight=weight)
        assert_same(theirs, ours, X)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("solver", ["adam", "nesterov", "lbfgs"])
@pytest.mark.parametrize("case", ["multiclass", "one output"])
def test_activations(case, solver, activation):
    # with relu, rounding decides on which side of its kink a unit is, and L-BFGS multiplies that
    iterations = 5 if (solver, activation) == ("lbfgs", "relu") else EPOCHS
    parameters = {"activation": activation, "max_iter": iterations, "learning_rate_init": 0.01}
    compare(case, **SOLVERS[solver] | parameters)


@pytest.mark.parametrize(
    ("alpha", "batch_size", "shuffle"),
    list(itertools.product([0, 1.0], ["auto", 7, 400], [True, False])),
)
@pytest.mark.parametrize("case", ["multiclass", "three outputs"])
def test_alpha_batch_size_shuffle(case, alpha, batch_size, shuffle):
    compare(case, alpha=alpha, shuffle=shuffle, batch_size=batch_size)


@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("case", ["multiclass", "binary", "three outputs"])
def test_schedules_and_stopping(case, early_stopping, learning_rate):
    compare(
        case,
        solver="sgd",
        learning_rate=learning_rate,
        learning_rate_init=0.2 if case != "three outputs" else 0.05,
        power_t=0.2,
        early_stopping=early_stopping,
        validation_fraction=0.2,
        n_iter_no_change=2,
        tol=0.05,
    )


@pytest.mark.parametrize("case", DATA)
def test_early_stopping_weighted(case):
    compare(case, weighted=True, early_stopping=True, max_iter=10)


@pytest.mark.parametrize("activation", ["relu", "logistic"])
@pytest.mark.parametrize("hidden", [(), 5, (40,), [17, 3, 9]])
def test_shapes(hidden, activation):
    compare("multiclass", hidden_layer_sizes=hidden, activation=activation)


@pytest.mark.parametrize("solver", ["adam", "nesterov", "lbfgs"])
def test_poisson(solver):
    theirs, ours = both("MLPRegressor", loss="poisson", **SOLVERS[solver])
    y = np.random.default_rng(1).poisson(1 + X[:, 20])
    assert_same(theirs.fit(X, y), ours.fit(X, y), X)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_warm_start(solver, early_stopping):
    theirs, ours = both(
        "MLPClassifier",
        warm_start=True,
        early_stopping=early_stopping,
        **SOLVERS[solver] | {"max_iter": 5},
    )
    for _ in range(3):
        assert_same(theirs.fit(X, LABELS), ours.fit(X, LABELS), X)


@pytest.mark.parametrize("learning_rate", ["constant", "invscaling"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("case", DATA)
def test_partial_fit(case, solver, learning_rate):
    name, X, y = DATA[case]
    theirs, ours = both(name, solver=solver, learning_rate=learning_rate)
    classes = {"classes": np.unique(y)} if name == "MLPClassifier" and case != "multilabel" else {}
    if case == "multilabel":
        classes = {"classes": np.arange(y.shape[1])}
    for start in range(0, 280, 70):
        rows = slice(start, start + 70)
        for model in (theirs, ours):
            model.partial_fit(X[rows], y[rows], **classes)
        assert_same(theirs, ours, X)


def test_partial_fit_goes_on_from_a_fit_and_from_changed_coefficients():
    theirs, ours = both("MLPClassifier", max_iter=3)
    for model in (theirs, ours):
        model.fit(X, LABELS)
        model.coefs_[0] *= 0.5
        model.intercepts_[1] = model.intercepts_[1] + 1
        model.partial_fit(X[:100], LABELS[:100])
    assert_same(theirs, ours, X)


@pytest.mark.parametrize("layout", [scipy.sparse.csr_array, scipy.sparse.csc_matrix])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("case", ["multiclass", "three outputs"])
@pytest.mark.parametrize("share", [0, 2], ids=["dense way", "sparse way"])
def test_sparse(case, solver, layout, share, monkeypatch):
    # the dense way in several blocks of rows in an epoch, and in a prediction
    monkeypatch.setattr("fastbp.rows.DENSE_VALUES", 100 * 64)
    monkeypatch.setattr("fastbp.rows.SPARSE_SHARE", share)
    name, X, y = DATA[case]
    theirs, ours = both(name, batch_size=30, max_iter=8, **SOLVERS[solver])
    S = layout(X)
    for model in (theirs, ours):
        model.fit(S, y, sample_weight=WEIGHT)
    assert_same(theirs, ours, S)


def random_targets(rng, rows):
    """By name, an estimator's name and targets for it."""
    letters = rng.choice(["U", "O"])
    return {
        "two": lambda: ("MLPClassifier", rng.integers(0, 2, rows)),
        "four": lambda: ("MLPClassifier", rng.integers(0, 4, rows) - 1),
        "letters": lambda: ("MLPClassifier", rng.choice(list("abc"), rows).astype(letters)),
        "flags": lambda: ("MLPClassifier", rng.random(rows) > 0.5),
        "one": lambda: ("MLPClassifier", np.full(rows, 3)),
        "labels": lambda: ("MLPClassifier", rng.integers(0, 2, (rows, 3))),
        "numbers": lambda: ("MLPRegressor", rng.standard_normal(rows)),
        "columns": lambda: ("MLPRegressor", rng.standard_normal((rows, rng.choice([1, 3])))),
        "counts": lambda: ("MLPRegressor", rng.poisson(2, rows)),
    }


def random_inputs(rng, rows):
    X = rng.standard_normal((rows, rng.choice([1, 2, 7, 20])))
    if rng.random() < 0.2:
        X = (2 * X).astype(rng.choice(["i4", "i8"]))
    kinds = [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_matrix]
    return kinds[rng.integers(3)](X) if rng.random() < 0.25 else X


def random_parameters(rng):
    choices = {
        "hidden_layer_sizes": [(), 5, (4, 3), [6], np.array([3, 2])],
        "activation": ["relu", "tanh", "logistic", "identity"],
        "solver": ["adam", "adam", "sgd", "sgd", "lbfgs"],
        "alpha": [0.0, 1e-4, 0.1],
        "batch_size": ["auto", 1, 7, 1000],
        "learning_rate": ["constant", "invscaling", "adaptive"],
        "learning_rate_init": [0.001, 0.01],
        "max_iter": [1, 3, 8],
        "shuffle": [True, False],
        "tol": [1e-4, 0.1, 0.0],
        "warm_start": [False, False, True],
        "momentum": [0.9, 0.0, 1.0],
        "nesterovs_momentum": [True, False],
        "early_stopping": [False, False, True],
        "validation_fraction": [0.1, 0.3],
        "n_iter_no_change": [1, 2, 10],
    }
    chosen = {name: values[rng.integers(len(values))] for name, values in choices.items()}
    if chosen["solver"] == "lbfgs":  # it multiplies rounding most of all
        chosen |= {"max_iter": 2, "activation": "tanh"}
    return chosen | {"random_state": int(rng.integers(100))}


def outcome(call, *data, **more):
    """What it returns or raises, and the kinds of its warnings."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            result = call(*data, **more)
        except Exception as error:
            result = type(error)
    kinds = {w.category for w in warned} - {RuntimeWarning}  # of NumPy's, in scikit-learn
    return result, kinds


def compare_at_random(seed):
    """Three calls of any method, on data and with parameters drawn at random."""
    rng = np.random.default_rng(seed)
    rows = int(rng.choice([1, 2, 3, 5, 17, 40, 120]))
    targets = random_targets(rng, rows)
    kind = rng.choice(list(targets))
    name, y = targets[kind]()
    X, parameters = random_inputs(rng, rows), random_parameters(rng)
    if kind == "counts":
        parameters["loss"] = "poisson"
    models = both(name, **parameters)
    methods = ["fit", "fit", "predict", "score"]
    if parameters["solver"] != "lbfgs" and not parameters["early_stopping"]:
        methods.append("partial_fit")
    weight = {"sample_weight": rng.uniform(0.1, 2, rows)} if rng.random() < 0.3 else {}
    for method in rng.choice(methods, 3):
        data = (X,) if method == "predict" else (X, y)
        more = dict(weight) if method != "predict" else {}
        if method == "partial_fit" and name == "MLPClassifier":
            more["classes"] = np.arange(3) if kind == "labels" else np.unique(y)
        theirs, ours = (outcome(getattr(model, method), *data, **more) for model in models)
        if ours[0] is ValueError and not np.isfinite(getattr(models[1], "coefs_", [0])[0]).all():
            # What has diverged ends at once here, not after max_iter epochs, with a warning of them;
            # scikit-learn gives no error at all where it has validation rows but never had a finite
            # score of them: its model is the one before the first step.
            assert theirs[0] is ValueError or np.isnan(models[0].validation_scores_).all()
            theirs = ours
        assert ours[1] == theirs[1], (method, parameters)
        if isinstance(theirs[0], type):
            assert ours[0] == theirs[0], (method, parameters)
        elif method == "score":
            np.testing.assert_allclose(ours[0], theirs[0], rtol=RTOL, atol=RTOL)
        elif method != "predict":
            if np.isfinite(getattr(models[0], "loss_", 0.0)):
                assert_same(*models, X)
            else:  # early stopping had a good epoch before it diverged
                assert models[1].n_iter_ <= models[0].n_iter_
                for a, b in zip(models[1].coefs_, models[0].coefs_, strict=True):
                    np.testing.assert_allclose(a, b, rtol=RTOL, atol=RTOL * np.abs(b).max())


@pytest.mark.parametrize("seed", [*range(200), 14897])
def test_any_parameters(seed):
    """stress/estimators.py has a long run."""
    compare_at_random(seed)


def test_column_order_and_integers():
    theirs, ours = both("MLPClassifier", max_iter=5)
    X_int = np.asfortranarray((X * 16).astype(np.int16))
    assert_same(theirs.fit(X_int, LABELS), ours.fit(X_int, LABELS), X_int)


@pytest.mark.parametrize("case", ["multiclass", "three outputs"])
def test_float32(case):
    # 400 rows in 2 steps an epoch, 20 epochs of 40 roundings in a chain of a few
    name, X, y = DATA[case]
    theirs, ours = (m.fit(X.astype(np.float32), y) for m in both(name))
    first = both(name, max_iter=1, learning_rate_init=1e-30)[0].fit(X, y)
    for a, b, idle in zip(ours.coefs_, theirs.coefs_, first.coefs_, strict=True):
        assert a.dtype == b.dtype == np.float32
        assert_within(a, b, 1e-4, idle)  # see docs/migration.md on float32
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)
    assert (
        ours.predict(X[:50].astype(np.float32)).dtype
        == theirs.predict(X[:50].astype(np.float32)).dtype
    )


@pytest.mark.parametrize("case", DATA)
def test_score(case):
    name, X, y = DATA[case]
    theirs, ours = (m.fit(X, y) for m in both(name, max_iter=5))
    np.testing.assert_allclose(ours.score(X, y), theirs.score(X, y), rtol=RTOL)
    weighted = [m.score(X, y, sample_weight=WEIGHT[: len(X)]) for m in (ours, theirs)]
    np.testing.assert_allclose(*weighted, rtol=RTOL)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("off", [0.0, 0.5])
def test_score_of_constants(loss, off):
    """R² of a constant target, of one of two, and of one that is met exactly."""
    for y in (np.full(50, 2.0), np.column_stack([np.full(50, 2.0), np.arange(50.0)])):
        theirs, ours = (m.fit(X[:50], y) for m in both("MLPRegressor", loss=loss, max_iter=1))
        for model in (theirs, ours):
            model.coefs_[-1][:] = 0
            model.intercepts_[-1][:] = (np.log(2.0) if loss == "poisson" else 2.0) + off
        weight = WEIGHT[:50]
        for rows in (50, 40):  # engines and NumPy
            assert ours.score(X[:rows], y[:rows]) == pytest.approx(
                theirs.score(X[:rows], y[:rows]), rel=RTOL
            )
            assert ours.score(X[:rows], y[:rows], weight[:rows]) == pytest.approx(
                theirs.score(X[:rows], y[:rows], weight[:rows]), rel=RTOL
            )


def test_defaults_are_the_same():
    for theirs, ours in (both(name) for name in ("MLPClassifier", "MLPRegressor")):
        defaults = type(ours)().get_params()
        assert type(theirs)().get_params().items() <= defaults.items()


def test_tags_are_the_same():
    for name in ("MLPClassifier", "MLPRegressor"):
        theirs, ours = map(get_tags, both(name))
        assert ours == theirs


@pytest.mark.parametrize("method", ["score", "partial_fit"])
@pytest.mark.parametrize("case", ["multiclass", "binary", "one output", "three outputs"])
def test_targets_of_another_length_or_shape(case, method):
    name, X, y = DATA[case]
    model = both(name, max_iter=1)[1].fit(X, y)
    wrong = [y[:-1], np.concatenate([y, y[:1]]), y[:0]]
    if case == "three outputs":
        wrong += [y[:, 0], y[:, :2]]
    for targets in wrong:
        with pytest.raises(ValueError, match=r"\S"):
            getattr(model, method)(X, targets)


@pytest.mark.parametrize("labels", [[1, 3, 7], ["b", "d", "f"]], ids=str)
def test_classes_that_there_were_not(labels):
    """Below, between and above those that there were, which are told of in both ways to train."""
    y = np.array(labels)[LABELS[:60] % 3]
    others = [0, 5, 9] if labels[0] == 1 else ["a", "c", "g"]
    for model in both("MLPClassifier", max_iter=1):
        model.partial_fit(X[:60], y, classes=labels)
        for other in others:
            strange = y.copy()
            strange[4] = other
            assert model.score(X[:60], strange) == np.mean(model.predict(X[:60]) == strange)
            with pytest.raises(ValueError, match="classes not in"):
                model.partial_fit(X[:60], strange)
            warm = clone(model).set_params(warm_start=True).fit(X[:60], y)
            for changed in (strange, y[y != labels[0]]):
                with pytest.raises(ValueError, match="warm_start can only be used where"):
                    warm.fit(X[: len(changed)], changed)
        with pytest.raises(ValueError, match="is not the same as on last call"):
            model.partial_fit(X[:60], y, classes=labels[:2])


def test_one_class_and_outputs_of_zero():
    for model in both("MLPClassifier", max_iter=1):
        model.fit(X, np.full(len(X), 7))
        model.intercepts_[-1][:] = 9
        assert set(model.predict(X)) == set(model.predict(X[:1])) == {7}
        assert model.score(X, np.full(len(X), 7)) == 1.0
        model.set_params(early_stopping=True).fit(X, np.full(len(X), 7))
        assert model.validation_scores_ == [1.0]
    for case in ("binary", "multilabel"):
        name, data, y = DATA[case]
        theirs, ours = (m.fit(data, y) for m in both(name, max_iter=1))
        for model in (theirs, ours):
            model.coefs_[-1][:] = 0
            model.intercepts_[-1][:] = 0
        np.testing.assert_array_equal(ours.predict(data), theirs.predict(data))


def test_partial_fit_weighs_plain_arrays():
    theirs, ours = both("MLPRegressor")
    for _ in range(3):
        for model in (theirs, ours):
            model.partial_fit(X, TARGETS[:, 2], sample_weight=WEIGHT)
    assert_same(theirs, ours, X)


def test_a_single_row_of_several_outputs_and_a_column():
    theirs, ours = both("MLPRegressor", max_iter=2)
    assert_same(theirs.fit(X[:1], TARGETS[:1]), ours.fit(X[:1], TARGETS[:1]), X)
    for model in (theirs, ours):
        with pytest.warns(DataConversionWarning, match="column-vector"):
            model.fit(X, TARGETS[:, :1])
    assert_same(theirs, ours, X)


@pytest.mark.parametrize(("batch_size", "warns"), [(400, False), (401, True)])
def test_a_batch_larger_than_the_data_is_warned_of(batch_size, warns):
    for model in both("MLPClassifier", batch_size=batch_size, max_iter=1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, LABELS)
        assert any("Got `batch_size`" in str(w.message) for w in caught) == warns


def test_a_shared_random_state_is_drawn_from_alike():
    generators = [np.random.RandomState(5), np.random.RandomState(5)]
    for generator, model in zip(generators, both("MLPClassifier", max_iter=3), strict=True):
        model.set_params(random_state=generator, early_stopping=True).fit(X, LABELS)
    assert generators[0].randint(1 << 30) == generators[1].randint(1 << 30)


@pytest.mark.parametrize(
    "parameters",
    [
        {"activation": "cosine"},
        {"solver": "newton"},
        {"alpha": -1},
        {"hidden_layer_sizes": (3, 0)},
        {"hidden_layer_sizes": (3, -1)},
        {"batch_size": 0},
        {"learning_rate": "never"},
        {"learning_rate_init": 0},
        {"max_iter": 0},
        {"tol": -1},
        {"momentum": 2},
        {"beta_1": 1},
        {"epsilon": 0},
        {"validation_fraction": 1},
        {"early_stopping": True, "validation_fraction": 0.001},
    ],
    ids=str,
)
def test_errors_are_of_the_same_kind(parameters):
    kinds = []
    for model in both("MLPClassifier", **parameters):
        with pytest.raises(ValueError, match=r"\S") as caught:
            model.fit(X, LABELS)
        kinds.append(type(caught.value))
    assert kinds[0] is kinds[1]


def test_verbose_says_the_same(capsys):
    said = []
    for model in both(
        "MLPClassifier", verbose=True, solver="sgd", learning_rate="adaptive", tol=0.1
    ):
        model.set_params(n_iter_no_change=1, early_stopping=True, max_iter=40).fit(X, LABELS)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "Setting learning rate to" in said[0]
