"""Wrong input: an exception that names the argument, before any work, the model unchanged."""

import pickle
import re

import numpy as np
import pytest

import fastbp
from fastbp import optimizers

X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
GOOD_X = X
LABELS = np.arange(12) % 3
TARGETS = X[:, :2].copy()


def classifier():
    return fastbp.MLP([4, 5, 3], seed=0)


def regressor():
    return fastbp.MLP([4, 5, 2], loss="squared_error", seed=0)


def with_entry(a, at, value):
    a = np.array(a, dtype=np.float64)
    a[at] = value
    return a


class Sparse:
    """As far as it matters here, SciPy's."""

    shape = (12, 4)

    def toarray(self):
        return X


BAD_X = {
    "one dimension": (X[0], ValueError, r"single row as \[row\]"),
    "three dimensions": (X[None], ValueError, r"shape \(n, 4\)"),
    "pictures": (X[..., None], ValueError, r"\(n, 4\), got \(12, 4, 1\)$"),
    "too few columns": (X[:, :3], ValueError, r"\(n, 4\), got \(12, 3\)"),
    "scalar": (1.0, ValueError, r"shape \(n, 4\)"),
    "none": (None, TypeError, "real numbers, got NoneType"),
    "sparse": (Sparse(), TypeError, r"got Sparse; pass its \.toarray\(\)"),
    "object": (X.astype(str).astype(object), TypeError, r"entry \[0, 0\] is an object of type str"),
    "complex": (X.astype(complex), TypeError, "complex"),
    "strings": (X.astype(str), TypeError, "dtype"),
    "dates": (np.zeros((12, 4), "M8[s]"), TypeError, "datetime64"),
    "records": (np.zeros(12, [("a", "f4")]), TypeError, "dtype"),
    "ragged": ([[1, 2, 3, 4], [1, 2]], ValueError, "numbers"),
    "nan": (with_entry(X, (3, 2), np.nan), ValueError, r"entry \[3, 2\] is nan"),
    "infinity": (with_entry(X, (0, 1), -np.inf), ValueError, r"entry \[0, 1\] is -inf"),
    "beyond float32": (with_entry(X, (1, 1), 1e39), ValueError, "finite in float32"),
}


@pytest.mark.parametrize("case", list(BAD_X))
@pytest.mark.parametrize(
    "use",
    [
        lambda m, X: m.fit(X, TARGETS),
        lambda m, X: m.partial_fit(X, TARGETS),
        lambda m, X: m.predict(X),
        lambda m, X: m.loss(X, TARGETS),
        lambda m, X: m.gradient(X, TARGETS),
        lambda m, X: m.jacobian(X),
        lambda m, X: m.forward(X),
        lambda m, X: m.fit(GOOD_X, TARGETS, validation=(X, TARGETS)),
    ],
    ids=["fit", "partial_fit", "predict", "loss", "gradient", "jacobian", "forward", "validation"],
)
def test_bad_X(case, use):
    value, error, message = BAD_X[case]
    model = regressor()
    before = pickle.dumps(model)
    with pytest.raises(error, match=rf"X must.*{message}"):
        use(model, value)
    assert pickle.dumps(model) == before


@pytest.mark.parametrize("rows", [1, 20_000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_single_bad_entry_is_found_in_small_and_large_arrays(rows, value, dtype):
    model = fastbp.MLP([4, 2], loss="squared_error", seed=0, dtype=dtype)
    data = np.ones((rows, 4), dtype)
    data[-1, -1] = value
    with pytest.raises(ValueError, match=rf"X must be finite.*\[{rows - 1}, 3\]"):
        model.predict(data)


def test_large_finite_values_are_not_mistaken_for_infinite_ones():
    largest = np.full((20_000, 4), np.finfo(np.float32).max)
    model = fastbp.MLP([4, 2], loss="squared_error", weight_init="zeros")
    assert not model.predict(largest).any()


SOFTMAX_Y = {
    "label too large": (with_entry(LABELS, 5, 3).astype(int), ValueError, "from 0 to 2, got 3"),
    "label negative": (with_entry(LABELS, 5, -1).astype(int), ValueError, "from 0 to 2, got -1"),
    "label past 2^63": (np.full(12, 2**64 - 1, np.uint64), ValueError, str(2**64 - 1)),
    "float labels": (LABELS.astype(float), TypeError, "integer labels 0 … 2"),
    "string labels": (LABELS.astype(str), TypeError, "integer labels"),
    "object labels": (LABELS.astype(str).astype(object), TypeError, "object of type str"),
    "nan label": (with_entry(LABELS, 5, np.nan), ValueError, r"missing values, but entry \[5\]"),
    "too few": (LABELS[:-1], ValueError, r"\(12,\)"),
    "a column": (LABELS[:, None], ValueError, r"\(12,\) for integer labels or \(12, 3\)"),
    "negative share": (np.tile([1.5, -0.5, 0.0], (12, 1)), ValueError, "between 0 and 1"),
    "counts": (np.tile([1.0, 1.0, 0.0], (12, 1)), ValueError, "row 0 sums to 2"),
    "nan share": (np.full((12, 3), np.nan), ValueError, "finite"),
    "ragged": ([[1, 0, 0], [1]], ValueError, "numbers"),
    "none": (None, TypeError, "real numbers"),
}

REGRESSION_Y = {
    "one dimension": (TARGETS[:, 0], ValueError, r"\(12, 2\), got \(12,\)"),
    "too few rows": (TARGETS[:-1], ValueError, r"\(12, 2\), got \(11, 2\)"),
    "nan": (with_entry(TARGETS, (2, 0), np.nan), ValueError, r"entry \[2, 0\] is nan"),
    "infinity": (with_entry(TARGETS, (2, 1), np.inf), ValueError, r"entry \[2, 1\] is inf"),
    "complex": (TARGETS.astype(complex), TypeError, "complex"),
    "object": (TARGETS.astype(str).astype(object), TypeError, "object of type str"),
    "strings": (TARGETS.astype(str), TypeError, "dtype"),
}


def check_y(make, value, error, message):
    for use in (
        lambda m: m.fit(X, value),
        lambda m: m.partial_fit(X, value),
        lambda m: m.loss(X, value),
        lambda m: m.gradient(X, value),
    ):
        model = make()
        before = pickle.dumps(model)
        with pytest.raises(error, match=f"y must.*{message}"):
            use(model)
        assert pickle.dumps(model) == before


@pytest.mark.parametrize("case", list(SOFTMAX_Y))
def test_bad_softmax_targets(case):
    check_y(classifier, *SOFTMAX_Y[case])


@pytest.mark.parametrize("case", list(REGRESSION_Y))
def test_bad_regression_targets(case):
    check_y(regressor, *REGRESSION_Y[case])


@pytest.mark.parametrize(
    ("loss", "value", "message"),
    [
        ("binary_cross_entropy", 2.0, "between 0 and 1 .*, got 2$"),
        ("binary_cross_entropy", -0.5, "between 0 and 1 .*, got -0.5$"),
        ("poisson", -0.5, "≥ 0 .*, got -0.5$"),
    ],
)
def test_targets_outside_the_domain_of_the_loss(loss, value, message):
    check_y(
        lambda: fastbp.MLP([4, 1], loss=loss, seed=0),
        np.r_[[0.25] * 11, value],
        ValueError,
        message,
    )


@pytest.mark.parametrize(("loss", "value"), [("binary_cross_entropy", 0.25), ("poisson", 2.5)])
def test_targets_need_not_reach_the_ends_of_the_domain(loss, value):
    model = fastbp.MLP([4, 1], loss=loss, seed=0)
    assert np.isfinite(model.loss(X, np.full(12, value)))


def test_both_shapes_of_one_output_are_named():
    with pytest.raises(ValueError, match=r"shape \(12,\) or \(12, 1\), got \(11,\)"):
        fastbp.MLP([4, 1], loss="squared_error").loss(X, np.ones(11))


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (np.ones(11), ValueError, r"shape \(12,\)"),
        (np.ones((12, 1)), ValueError, r"shape \(12,\)"),
        (1.0, ValueError, r"shape \(12,\)"),
        (-np.ones(12), ValueError, "≥ 0, got -1"),
        (np.full(12, np.nan), ValueError, "finite"),
        (np.ones(12, complex), TypeError, "complex"),
        (np.zeros(12), ValueError, "all zero"),
        ("balanced", TypeError, "dtype"),
    ],
)
def test_bad_sample_weight(weight, error, message):
    model = regressor()
    before = pickle.dumps(model)
    for use in (
        lambda: model.fit(X, TARGETS, sample_weight=weight),
        lambda: model.partial_fit(X, TARGETS, weight),
        lambda: model.fit(X, TARGETS, validation=(X, TARGETS, weight)),
    ):
        with pytest.raises(error, match=f"sample_weight.*{message}"):
            use()
        assert pickle.dumps(model) == before


def test_no_data_to_train_on():
    model = regressor()
    for use in (
        lambda: model.fit(X[:0], TARGETS[:0]),
        lambda: model.partial_fit(X[:0], TARGETS[:0]),
        lambda: model.fit(X, TARGETS, validation=(X[:0], TARGETS[:0])),
    ):
        with pytest.raises(ValueError, match="X must have at least one row"):
            use()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs"),
        ({"epochs": 2.5}, TypeError, "epochs"),
        ({"epochs": True}, TypeError, "epochs"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": -3}, ValueError, "batch_size"),
        ({"batch_size": "all"}, TypeError, "batch_size"),
        ({"optimizer": "adma"}, ValueError, "did you mean 'adam'"),
        ({"optimizer": optimizers.Adam}, TypeError, "optimizer"),
        ({"optimizer": None}, TypeError, "optimizer"),
        ({"learning_rate": -0.1}, ValueError, "learning_rate"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate"),
        ({"learning_rate": "constant"}, TypeError, "learning_rate"),
        ({"learning_rate": lambda step: -1.0}, ValueError, "learning_rate"),
        ({"learning_rate": lambda step: "a"}, TypeError, "learning_rate"),
        ({"shuffle": 1}, TypeError, "shuffle"),
        ({"progress": "yes"}, TypeError, "progress"),
        ({"validation": 0.0}, ValueError, "validation"),
        ({"validation": 1.0}, ValueError, "validation must be .* > 0 and < 1"),
        ({"validation": 0.99}, ValueError, "validation"),
        ({"validation": "some"}, TypeError, "validation"),
        ({"validation": (X,)}, ValueError, "validation"),
        ({"validation": (X, TARGETS, None, 1)}, ValueError, "validation"),
        ({"validation": (X, TARGETS[:3])}, ValueError, "validation y"),
        ({"early_stopping": 3}, ValueError, "early_stopping needs validation"),
        ({"early_stopping": 0, "validation": 0.5}, ValueError, "early_stopping"),
        ({"early_stopping": True, "validation": 0.5}, TypeError, "early_stopping"),
        ({"clip_norm": -1}, ValueError, "clip_norm"),
        ({"clip_norm": None}, TypeError, "clip_norm"),
        ({"callbacks": print}, TypeError, "callbacks"),
        ({"callbacks": [1]}, TypeError, "callbacks"),
    ],
    ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", str(value)),  # the same in each process
)
def test_bad_training_options(options, error, message):
    model = regressor()
    before = pickle.dumps(model)
    with pytest.raises(error, match=message):
        model.fit(X, TARGETS, **options)
    assert pickle.dumps(model) == before
    shared = {"batch_size", "optimizer", "learning_rate", "shuffle", "clip_norm"}
    if set(options) <= shared:
        with pytest.raises(error, match=message):
            model.partial_fit(X, TARGETS, **options)
        assert pickle.dumps(model) == before


def test_weights_of_one_side_of_a_split_all_zero():
    model = regressor()
    w = np.r_[np.ones(6), np.zeros(6)]
    with pytest.raises(ValueError, match="set aside for validation must not be all zero"):
        model.fit(X, TARGETS, sample_weight=w, validation=0.5, shuffle=False)
    with pytest.raises(ValueError, match="sample_weight must not be all zero"):
        model.fit(X, TARGETS, sample_weight=1 - w, validation=0.5, shuffle=False)


@pytest.mark.parametrize(
    ("sizes", "options", "error", "message"),
    [
        ([4], {}, ValueError, "layer_sizes"),
        ([], {}, ValueError, "layer_sizes"),
        ([4, 0, 2], {}, ValueError, "layer_sizes"),
        ([4, -1, 2], {}, ValueError, "layer_sizes"),
        ([4, 2.5], {}, TypeError, "layer_sizes"),
        ([4, True], {}, TypeError, "layer_sizes"),
        (4, {}, TypeError, "layer_sizes"),
        ("4, 2", {}, TypeError, "layer_sizes"),
        ([4, 1], {}, ValueError, "at least 2 outputs"),
        ([4, 5, 1], {}, ValueError, "at least 2 outputs"),
        ([4, 5, 2], {"activation": "rleu"}, ValueError, "did you mean 'relu'"),
        ([4, 5, 2], {"activation": "Relu"}, ValueError, "did you mean 'relu'"),
        (
            [4, 5, 2],
            {"activation": b"relu"},
            TypeError,
            "must be a name or an Activation, got bytes",
        ),
        ([4, 2], {"activation": ["relu"]}, ValueError, "activation"),
        ([4, 5, 2], {"activation": ["relu", "tanh"]}, ValueError, "activation"),
        ([4, 5, 5, 2], {"activation": ["relu"]}, ValueError, "each of the 2 hidden layers, got 1"),
        ([4, 2], {"activation": "rleu"}, ValueError, "activation"),
        ([4, 5, 2], {"activation": None}, TypeError, "activation"),
        ([4, 5, 2], {"activation": [max]}, TypeError, "activation"),
        ([4, 2], {"loss": "softmax"}, ValueError, "softmax_cross_entropy"),
        ([4, 2], {"loss": 3}, TypeError, "loss"),
        ([4, 5, 2], {"dropout": 1.0}, ValueError, "dropout"),
        ([4, 5, 2], {"dropout": -0.1}, ValueError, "dropout"),
        ([4, 5, 2], {"dropout": [0.1, 0.1]}, ValueError, "dropout"),
        ([4, 5, 2], {"dropout": "some"}, TypeError, "dropout"),
        ([4, 5, 2], {"dropout": np.array(2.0)}, ValueError, "dropout"),
        (np.array(4), {}, TypeError, "layer_sizes"),
        (np.array([4.0, 2.0]), {}, TypeError, "layer_sizes"),
        ([4, 2], {"l1": -1.0}, ValueError, "l1"),
        ([4, 2], {"l2": np.inf}, ValueError, "l2"),
        ([4, 2], {"weight_init": "he_norml"}, ValueError, "did you mean 'he_normal'"),
        ([4, 2], {"weight_init": None}, TypeError, "weight_init"),
        ([4, 2], {"weight_init": []}, ValueError, "weight_init"),
        ([4, 2], {"weight_init": [np.ones((2, 4))]}, ValueError, r"layer 1.*\(2, 5\)"),
        ([4, 2], {"weight_init": [np.full((2, 5), np.nan)]}, ValueError, "layer 1.*finite"),
        ([4, 2], {"dtype": "float16"}, ValueError, "dtype"),
        ([4, 2], {"dtype": ">f4"}, ValueError, "dtype"),
        ([4, 2], {"dtype": None}, ValueError, "dtype"),
        ([4, 2], {"dtype": "flaot32"}, ValueError, "dtype"),
        ([4, 2], {"seed": -1}, ValueError, "seed"),
        ([4, 2], {"seed": 1.5}, TypeError, "seed"),
        ([4, 2], {"engine": "natve"}, ValueError, "did you mean 'native'"),
        ([4, 2], {"engine": None}, TypeError, "engine"),
        ([4, 2], {"threads": 0}, ValueError, "threads"),
        ([4, 2], {"threads": "all"}, TypeError, "threads"),
    ],
    ids=str,
)
def test_bad_construction(sizes, options, error, message):
    with pytest.raises(error, match=message):
        fastbp.MLP(sizes, **options)


def test_arrays_of_options():
    model = fastbp.MLP(np.array([4, 5, 2]), dropout=np.array(0.25))
    assert model.plan.layer_sizes == (4, 5, 2)
    assert model.plan.dropout == (0.25,)
    assert fastbp.MLP([4, 5, 2], dropout=np.float32([0.5])).plan.dropout == (0.5,)


def test_parameters_that_a_function_does_not_have():
    with pytest.raises(ValueError, match=r"'relu' has no parameter, got 0\.5"):
        fastbp.Activation("relu", 0.5)
    with pytest.raises(ValueError, match="'squared_error' has no parameter, got 3"):
        fastbp.Loss("squared_error", 3)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("parameters", np.ones((2, 5)), TypeError, "parameters must be a list"),
        ("parameters", [np.ones((5, 5))], ValueError, "2 arrays"),
        ("parameters", [np.ones((5, 5)), np.ones((2, 5))], ValueError, r"layer 2.*\(2, 6\)"),
        ("parameters", [np.ones((5, 5)), np.full((2, 6), np.inf)], ValueError, "layer 2.*finite"),
        ("parameters", [np.ones((5, 5), complex), np.ones((2, 6))], TypeError, "layer 1.*complex"),
        ("parameters", [np.ones((5, 5)), *[np.ones((2, 6))] * 2], ValueError, "2 arrays.*got 3"),
        ("weights", [np.ones((5, 4))], ValueError, "weights must have 2 arrays"),
        ("weights", [np.ones((5, 4)), *[np.ones((2, 5))] * 2], ValueError, "2 arrays.*got 3"),
        (
            "weights",
            [np.ones((5, 4)), np.ones((2, 6))],
            ValueError,
            r"weights of layer 2.*\(2, 5\)",
        ),
        ("weights", 3, TypeError, "weights"),
        ("biases", [np.ones(5), np.ones((2, 1))], ValueError, r"biases of layer 2.*\(2,\)"),
        ("biases", [np.ones(5), [[1], [1, 2]]], ValueError, "biases of layer 2"),
        ("biases", "ab", TypeError, "biases"),
    ],
)
def test_bad_parameters(name, value, error, message, used):
    model = regressor()
    if used:
        model.predict(X)
    before = model.parameters
    with pytest.raises(error, match=message):
        setattr(model, name, value)
    for p, q in zip(model.parameters, before, strict=True):
        np.testing.assert_array_equal(p, q)


def test_probabilities_of_a_regression():
    with pytest.raises(ValueError, match="predict_proba needs loss"):
        regressor().predict_proba(X)


def test_split_must_be_a_flag():
    with pytest.raises(TypeError, match="split"):
        regressor().gradient(X, TARGETS, split="yes")
