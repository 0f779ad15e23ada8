"""Numbers under stress, in short: stress/arithmetic.py has the long runs."""

import numpy as np
import pytest
from engine_cases import ENGINES, epoch, gradient, make_case, make_engine
from error_bounds import assert_within, bounds
from floating_point import CONTROL, KNOWN, control, get_control

import fastbp
from fastbp.engines import native

X = np.random.default_rng(0).standard_normal((1024, 64)).astype(np.float32)
LABELS = np.arange(1024) % 10


def use_everything(threads):
    model = fastbp.MLP([64, 256, 10], activation="gelu", dropout=0.1, seed=0, threads=threads)
    model.fit(X, LABELS, epochs=1, batch_size=256, optimizer="adam", validation=(X, LABELS))
    model.predict_proba(X)
    model.gradient(X, LABELS)
    model.jacobian(X[:4])


@pytest.mark.skipif(
    not KNOWN, reason="reads the control register as Linux on x86-64 and ARM has it"
)
@pytest.mark.parametrize("name", list(CONTROL))
@pytest.mark.parametrize("threads", [1, 2])
def test_rounding_mode_and_subnormals_are_left_as_found(name, threads):
    use_everything(threads)
    with control(name):
        use_everything(threads)
        assert get_control() == CONTROL[name]
    assert get_control() == CONTROL["nearest"]


@pytest.mark.skipif(not KNOWN, reason="sets the control register as Linux on x86-64 and ARM has it")
@pytest.mark.parametrize("name", list(CONTROL))
@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_rounding_mode_changes_no_bit(name, threads):
    if not native.available():
        pytest.skip("NumPy computes in the caller's rounding mode")

    case = make_case((64, 256, 10), "gelu", dtype="float32", rows=512, batch_size=128)

    def weights():
        engine = make_engine("native", case, threads=threads)
        epoch(engine, case)
        return engine.get_parameters()

    wanted = weights()
    with control(name):
        got = weights()
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_many_steps_are_the_same_on_any_number_of_threads():
    # A step of 1.6 MFLOP, so that two threads are used; 4,000 steps.
    results = set()
    for threads in (1, 2, 3):
        model = fastbp.MLP([32, 64, 8], seed=0, dropout=0.1, threads=threads)
        model.fit(X[:, :32], LABELS % 8, epochs=500, batch_size=128, optimizer="adam")
        results.add(b"".join(p.tobytes() for p in model.parameters))
    assert len(results) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_sums_over_a_batch_of_65536_keep_the_bound(engine):
    exact = make_case((12, 10, 3), loss="softmax_cross_entropy", rows=65_536, batch_size=65_536)
    case = exact.astype("float32")
    limit = bounds(case)
    wanted_loss, wanted = gradient(make_engine("reference", exact), exact)
    got_loss, got = gradient(make_engine(engine, case, threads=2), case)
    assert_within(got_loss, wanted_loss, limit.loss)
    for g, w, b in zip(got, wanted, limit.gradient, strict=True):
        assert_within(g, w, b)
