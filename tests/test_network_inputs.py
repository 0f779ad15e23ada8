"""Arrays that `fastbp.MLP` takes: read-only, of any layout, dtype and container."""

import numpy as np
import pytest
from network_cases import CLASSES, LABELS, TARGETS, TRAIN, X, classifier, regressor, same_parameters

import fastbp
from fastbp import _inputs


def frozen(a):
    a = np.array(a)
    a.flags.writeable = False
    return a


def test_read_only_arrays_serve_everywhere_and_stay_as_they_are():
    Xr, yr, wr = frozen(X), frozen(TARGETS), frozen(np.ones(60, np.float32))
    model = regressor()
    model.fit(Xr, yr, sample_weight=wr, validation=(Xr, yr, wr), **TRAIN)
    model.partial_fit(Xr, yr, wr)
    model.predict(Xr)
    model.loss(Xr, yr, wr)
    model.gradient(Xr, yr, wr)
    model.jacobian(Xr)
    model.forward(Xr)
    model.parameters = [frozen(p) for p in model.parameters]
    model.fit(Xr, yr, epochs=1)
    np.testing.assert_array_equal(Xr, X)
    np.testing.assert_array_equal(yr, TARGETS)
    labels = frozen(LABELS)
    classifier().fit(Xr, labels, **TRAIN)
    np.testing.assert_array_equal(labels, LABELS)


def test_right_arrays_are_used_in_place():
    X2, y, _ = _inputs.as_data(regressor().plan, X, TARGETS, np.ones(60, np.float32))
    assert X2 is X
    assert np.shares_memory(y, TARGETS)
    model = classifier()
    labels = LABELS.astype(np.int64)
    assert np.shares_memory(_inputs.as_data(model.plan, X, labels, None)[1], labels)


class Subclass(np.ndarray):
    pass


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        unaligned,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.astype(">f4"),
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.longdouble),
        lambda a: a.tolist(),
        lambda a: tuple(map(tuple, a)),
        lambda a: a.view(Subclass),
    ],
)
def test_any_layout_and_container_gives_the_same(convert):
    a, b = regressor(), regressor()
    a.fit(X, TARGETS, **TRAIN)
    b.fit(convert(X), convert(TARGETS), **TRAIN)
    assert same_parameters(a, b)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4"])
def test_any_integer_labels(dtype):
    a, b = classifier(), classifier()
    a.fit(X, LABELS, **TRAIN)
    b.fit(X, LABELS.astype(dtype), **TRAIN)
    assert same_parameters(a, b)


def test_integer_and_boolean_features_and_overlapping_arrays():
    bits = X > 0
    a, b = regressor(), regressor()
    a.fit(bits, TARGETS, epochs=1)
    b.fit(bits.astype(int), TARGETS, epochs=1)
    assert same_parameters(a, b)
    both = np.ascontiguousarray(np.column_stack([X, TARGETS]))
    c, d = regressor(), regressor()
    c.fit(both[:, :4], both[:, 4:], epochs=1)
    d.fit(X, TARGETS, epochs=1)
    assert same_parameters(c, d)
    np.testing.assert_array_equal(both[:, :4], X)


def test_input_and_target_may_be_the_same_memory():
    a, b = (fastbp.MLP([4, 3, 4], loss="squared_error", seed=0) for _ in range(2))
    data = X.copy()
    a.fit(data, data, **TRAIN)
    b.fit(X, X.copy(), **TRAIN)
    assert same_parameters(a, b)
    np.testing.assert_array_equal(data, X)


def test_one_output_takes_both_shapes_of_y():
    a, b = (fastbp.MLP([4, 8, 1], loss="squared_error", seed=0) for _ in range(2))
    a.fit(X, TARGETS[:, 0], **TRAIN)
    b.fit(X, TARGETS[:, :1], **TRAIN)
    assert same_parameters(a, b)


def test_labels_are_the_distributions_they_stand_for():
    model = classifier(dtype="float64")
    assert model.loss(X, LABELS) == pytest.approx(
        model.loss(X, np.eye(CLASSES)[LABELS]), rel=100 * np.finfo(float).eps
    )
