"""Learning-rate schedules against their formulas, written out."""

import math

import numpy as np
import pytest

from fastbp import schedules
from fastbp.schedules import Constant, Cosine, InverseScaling, OneCycle, Step

EPS = np.finfo(np.float64).eps
ALL = [
    Constant(0.3),
    InverseScaling(0.1, scale=7.0, power=0.75),
    Step(0.2, every=4, factor=0.5),
    Cosine(0.1, steps=20, final=0.01),
    OneCycle(0.1, steps=20, warmup=0.25, start=0.1, final=0.01),
]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_arrays_agree_with_ints_and_keep_their_shape(schedule):
    steps = np.arange(24).reshape(4, 6)
    at_once = schedule(steps)
    assert at_once.shape == steps.shape
    one_by_one = [schedule(int(s)) for s in steps.ravel()]
    assert all(type(r) is float for r in one_by_one)
    # vector and scalar cos and pow may differ in the last place
    np.testing.assert_allclose(at_once.ravel(), one_by_one, rtol=8 * EPS, atol=EPS)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_rates_are_those_of_the_steps(schedule):
    got = schedules.rates(schedule, 3, 5)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, schedule(np.arange(3, 8)))


def test_formulas():
    for s in range(30):
        assert InverseScaling(0.1, scale=7, power=0.75)(s) == pytest.approx(
            0.1 / (1 + s / 7) ** 0.75, rel=8 * EPS
        )
        assert Step(0.2, every=4, factor=0.5)(s) == 0.2 * 0.5 ** (s // 4)
        turn = math.cos(math.pi * min(s, 20) / 20)
        assert Cosine(0.1, steps=20, final=0.01)(s) == pytest.approx(
            0.01 + 0.09 * (1 + turn) / 2, rel=8 * EPS
        )


def test_one_cycle_rises_to_its_peak_and_falls():
    schedule = OneCycle(0.5, steps=40, warmup=0.25, start=0.1, final=0.01)
    rates = schedule(np.arange(60))
    assert rates[0] == pytest.approx(0.05, rel=8 * EPS)
    assert rates[10] == 0.5
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:41]) < 0).all()
    np.testing.assert_allclose(rates[40:], 0.005, rtol=8 * EPS)


@pytest.mark.parametrize(("warmup", "first", "last"), [(0.0, 0.5, 0.0), (1.0, 0.05, 0.5)])
def test_one_cycle_without_one_of_its_phases(warmup, first, last):
    schedule = OneCycle(0.5, steps=10, warmup=warmup, start=0.1)
    assert schedule(0) == pytest.approx(first, rel=8 * EPS)
    assert schedule(10) == pytest.approx(last, rel=8 * EPS)


def test_plain_callable_is_called_with_ints():
    seen = []

    def rate(step):
        seen.append(step)
        return 0.1

    np.testing.assert_array_equal(schedules.rates(rate, 2, 3), [0.1] * 3)
    assert seen == [2, 3, 4]
    assert all(type(s) is int for s in seen)


def test_a_number_is_a_constant():
    assert schedules.get(0.1) == Constant(0.1)
    assert schedules.get(np.float32(0.5)) == Constant(0.5)
    assert schedules.get(1) == Constant(1)
    assert schedules.get(ALL[3]) is ALL[3]


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Constant(-1), "rate"),
        (lambda: Constant(math.nan), "rate"),
        (lambda: InverseScaling(0.1, scale=0), "scale"),
        (lambda: InverseScaling(0.1, power=-1), "power"),
        (lambda: Step(0.1, every=0), "every"),
        (lambda: Step(0.1, every=2, factor=2), "factor"),
        (lambda: Cosine(0.1, steps=0), "steps"),
        (lambda: Cosine(0.1, steps=5, final=-1), "final"),
        (lambda: OneCycle(0.1, steps=5, warmup=1.5), "warmup"),
        (lambda: OneCycle("a", steps=5), "peak"),
        (lambda: schedules.get(-0.1), "learning_rate"),
        (lambda: schedules.get(math.inf), "learning_rate"),
        (lambda: schedules.get("fast"), "learning_rate"),
        (lambda: schedules.rates(lambda s: -1.0 if s == 2 else 1.0, 0, 3), r"learning_rate\(2\)"),
        (lambda: schedules.rates(lambda s: None, 0, 3), r"learning_rate\(0\)"),
    ],
)
def test_bad_values_are_named(make, argument):
    with pytest.raises((TypeError, ValueError), match=argument):
        make()
