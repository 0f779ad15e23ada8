"""DataFrames and other holders of numbers in `fastbp.MLP`: as the plain arrays of the same numbers."""

from __future__ import annotations

import decimal
import fractions
import pickle
import subprocess
import sys

import numpy as np
import pytest

import fastbp
from fastbp._frames import as_numbers, is_mixed

pd = pytest.importorskip("pandas", reason="DataFrames are pandas'")

ROWS = 24
GENERATOR = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "size": GENERATOR.standard_normal(ROWS),
        "count": GENERATOR.integers(0, 9, ROWS),
        "flag": GENERATOR.random(ROWS) < 0.5,
    }
)
X = FRAME.to_numpy(np.float32)
LABELS = np.arange(ROWS) % 2
TARGET = X @ np.array([1, 2, 3], np.float32)
WEIGHT = 1.0 + np.arange(ROWS) % 3


def arrow(value):
    pytest.importorskip("pyarrow", reason="Arrow's columns are pyarrow's")
    return value.convert_dtypes(dtype_backend="pyarrow")


HOLDERS = {
    "numpy": lambda value: value,
    "nullable": lambda value: value.convert_dtypes(),
    "arrow": arrow,
    "objects": lambda value: value.astype(object),
    "float32": lambda value: value.astype(np.float32),
}
holders = pytest.mark.parametrize("holder", list(HOLDERS))


def classifier():
    return fastbp.MLP([3, 8, 2], seed=0)


def regressor():
    return fastbp.MLP([3, 8, 1], loss="squared_error", seed=0)


def assert_same(a, b):
    np.testing.assert_equal(
        [a] if isinstance(a, np.ndarray | float) else a,
        [b] if isinstance(b, np.ndarray | float) else b,
    )


CALLS = {
    "fit": lambda m, X, y, w: m.fit(X, y, epochs=2, sample_weight=w).loss,
    "validation": lambda m, X, y, w: m.fit(X, y, epochs=2, validation=(X, y, w)).validation_loss,
    "fraction": lambda m, X, y, w: m.fit(X, y, epochs=2, validation=0.25).validation_loss,
    "partial_fit": lambda m, X, y, w: m.partial_fit(X, y, w),
    "predict": lambda m, X, y, w: m.predict(X),
    "loss": lambda m, X, y, w: m.loss(X, y, w),
    "gradient": lambda m, X, y, w: m.gradient(X, y, w),
    "jacobian": lambda m, X, y, w: m.jacobian(X),
    "forward": lambda m, X, y, w: m.forward(X)[0],
}
calls = pytest.mark.parametrize("call", list(CALLS))


@holders
@calls
@pytest.mark.parametrize("make", [classifier, regressor])
def test_the_same_as_plain_arrays(make, call, holder):
    y = LABELS if make is classifier else TARGET
    hold = HOLDERS[holder]
    if holder == "float32" and make is classifier:
        held_y = pd.Series(y).astype("int8")
    else:
        held_y = hold(pd.Series(y))
    plain = CALLS[call](make(), X, y, WEIGHT)
    held = CALLS[call](make(), hold(FRAME), held_y, hold(pd.Series(WEIGHT)))
    assert_same(held, plain)


@pytest.mark.parametrize("name", ["boolean", "Int8", "UInt16", "Int64"])
def test_labels_of_nullable_types(name):
    model = classifier()
    assert model.loss(X, pd.Series(LABELS).astype(name)) == model.loss(X, LABELS)
    assert model.loss(X, pd.Series(LABELS == 1)) == model.loss(X, LABELS)
    assert model.loss(X, pd.Series(LABELS).astype("category")) == model.loss(X, LABELS)


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA, pd.NaT], ids=repr)
@pytest.mark.parametrize("holder", ["nullable", "arrow", "objects", "numpy"])
@calls
def test_a_missing_value_is_said_to_be_missing(call, holder, nothing):
    if nothing is pd.NaT and holder != "objects":
        nothing = None
    frame = HOLDERS[holder](FRAME)
    if holder == "numpy":
        frame = frame.astype({"count": float})
        nothing = np.nan
    frame.loc[5, "count"] = nothing
    model = regressor()
    before = pickle.dumps(model)
    with pytest.raises(
        ValueError, match=r"X must not have missing .* row 5 of column 'count' is missing"
    ):
        CALLS[call](model, frame, TARGET, WEIGHT)
    assert pickle.dumps(model) == before


@pytest.mark.parametrize("holder", ["nullable", "arrow", "objects"])
def test_missing_targets_and_weights(holder):
    hold = HOLDERS[holder]
    for make, y in ((classifier, LABELS), (regressor, TARGET)):
        series, weight = hold(pd.Series(y)), hold(pd.Series(WEIGHT))
        series[3] = weight[4] = None
        with pytest.raises(ValueError, match=r"y must not have missing values, but entry \[3"):
            make().fit(X, series)
        with pytest.raises(ValueError, match=r"sample_weight must not have .*, but entry \[4\]"):
            make().fit(X, y, sample_weight=weight)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda f: f.assign(flag="yes"),
            TypeError,
            "row 0 of column 'flag' is an object of type str",
        ),
        (lambda f: f.assign(flag=1j), TypeError, "column 'flag' has dtype complex128"),
        (
            lambda f: f.assign(flag=pd.Timestamp("2000-01-01")),
            TypeError,
            "column 'flag' has dtype datetime64",
        ),
        (
            lambda f: f.assign(flag=f["size"].mask(f.index == 7, np.inf)),
            ValueError,
            "row 7 of column 'flag' is inf",
        ),
        (lambda f: f.assign(flag=[*range(23), 10**400]), ValueError, "finite in float64"),
        (lambda f: f.iloc[:, :2], ValueError, r"shape \(n, 3\), got \(24, 2\)"),
    ],
)
def test_other_faults_name_the_column(change, error, message):
    with pytest.raises(error, match=f"X must.*{message}"):
        regressor().predict(change(FRAME))


def test_columns_of_one_name_and_of_none():
    mixed = FRAME.set_axis(["a", "a", 0], axis=1)
    np.testing.assert_array_equal(regressor().predict(mixed), regressor().predict(X))
    mixed = mixed.convert_dtypes()
    mixed.iloc[2, 2] = None
    with pytest.raises(ValueError, match=r"entry \[2, 2\] is missing"):
        regressor().predict(mixed)


OBJECTS = {
    "bools and floats": [[True, 1.5, 2], [False, np.float32(0.5), np.int8(3)]],
    "exact numbers": [[decimal.Decimal("1.5"), fractions.Fraction(1, 4), 2], [1, 2, 3]],
    "beyond int64": [[2**64, 1, 2], [3, 4, 5]],
    "numpy bools": [[np.True_, np.False_, np.True_], [True, False, True]],
}


@pytest.mark.parametrize("case", list(OBJECTS))
def test_objects_that_are_numbers(case):
    a = np.array(OBJECTS[case], object)
    plain = np.array([[float(x) for x in row] for row in a])
    np.testing.assert_array_equal(regressor().predict(a), regressor().predict(plain))


def test_integers_stay_exact():
    big = 2**53 + 1
    assert as_numbers("y", np.array([big, 1], object)).tolist() == [big, 1]
    assert as_numbers("y", np.array([True, False], object)).dtype == bool
    assert as_numbers("y", np.array([True, 3], object)).dtype == np.int64


def test_masked_arrays():
    a = np.ma.array(X, mask=False)
    np.testing.assert_array_equal(regressor().predict(a), regressor().predict(X))
    a[4, 1] = np.ma.masked
    with pytest.raises(ValueError, match=r"X must not have missing .* entry \[4, 1\]"):
        regressor().predict(a)


def test_a_frame_of_one_type_is_not_taken_apart():
    """Its values are a view where pandas keeps them together."""
    frame = pd.DataFrame(X)
    assert not is_mixed(frame)
    assert np.shares_memory(as_numbers("X", frame), frame.to_numpy())


def test_polars_and_arrow():
    pytest.importorskip("pyarrow", reason="Arrow's tables are pyarrow's")
    import pyarrow

    table = pyarrow.table(FRAME.astype({"flag": int}))
    np.testing.assert_array_equal(regressor().predict(table), regressor().predict(X))
    polars = pytest.importorskip("polars", reason="is not installed")
    frame = polars.DataFrame({name: FRAME[name].to_numpy() for name in FRAME})
    np.testing.assert_array_equal(regressor().predict(frame), regressor().predict(X))
    assert regressor().loss(frame, polars.Series(TARGET)) == regressor().loss(X, TARGET)
    missing = polars.DataFrame({"a": [1, 2], "b": [1.5, None], "c": [True, False]})
    with pytest.raises(ValueError, match="row 1 of column 'b' is missing"):
        regressor().predict(missing)


def test_pandas_is_not_imported():
    code = (
        "import sys, fastbp\n"
        "fastbp.MLP([2, 2], seed=0).fit([[1, True], [2.5, False]], [0, 1], epochs=1)\n"
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
