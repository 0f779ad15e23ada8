"""Functions of the user's: what identifies one, and which errors its check finds and which not."""

from __future__ import annotations

import math
from math import tanh

import numpy as np
import pytest

from fastbp.functions import check_derivative, fingerprint

FACTOR = 2.0
NOWHERE = {"a": 1}


def test_the_fingerprint_is_that_of_the_code():
    def scaled(factor):
        return lambda z: factor * z

    assert fingerprint(scaled(2.0)) == fingerprint(scaled(2.0))
    different = [
        scaled(2.0),
        scaled(3.0),
        scaled(3),
        lambda z: 2.0 * z,
        lambda z: 3.0 * z,
        lambda z: FACTOR * z,
        lambda z: z in (1.0, 2.0),
        lambda z: z in (1.0, 3.0),
        lambda z, a=1.0: a * z,
        lambda z, a=2.0: a * z,
        lambda z: (lambda x: x + 1.0)(z),
        lambda z: (lambda x: x + 2.0)(z),
        lambda z: abs(z),
        lambda z: round(z),
        lambda z: tanh(z),
        lambda z: math.tanh(z),
        lambda z: np.tanh(z),
    ]
    prints = [fingerprint(f) for f in different]
    assert len(set(prints)) == len(different)
    assert not any(p.startswith("#") for p in prints)
    assert fingerprint(different[0], None) != fingerprint(different[0], different[3])


def test_the_fingerprint_follows_globals(monkeypatch):
    def f(z):
        return FACTOR * z

    before = fingerprint(f)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert fingerprint(f) != before
    monkeypatch.setitem(globals(), "FACTOR", np.exp)
    assert not fingerprint(f).startswith("#")


def test_the_fingerprint_of_what_cannot_be_followed_is_never_the_same():
    def f(z):
        return NOWHERE["a"] * z

    first, second = fingerprint(f), fingerprint(f)
    assert first.startswith("#")
    assert second.startswith("#")
    assert first != second


def recursive(z):
    return z if z < 1 else recursive(z / 2)


def test_the_fingerprint_of_a_function_that_calls_itself():
    assert "recursive" in fingerprint(recursive)


def check(f, slope, *, value_error=0.0, slope_error=0.0, at=(-2.0, -0.5, 0.0, 1.0, 3.0)):
    x = np.array(at)
    value = np.array([f(v) for v in at]) * (1 + value_error)
    check_derivative("f", f, (value, np.array([slope(v) for v in at]) * (1 + slope_error)), x)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e6])
def test_errors_count_relative_to_one_plus_their_size(size):
    line, slope = (lambda z: size * z + size), (lambda z: size)
    check(line, slope, value_error=1e-10, slope_error=1e-7)
    if size == 1e-9:  # wrong by as much as it is large, and far below 1
        check(lambda z: size, lambda z: 0.0, value_error=0.5)
        check(lambda z: size * z, slope, slope_error=0.5)
        return
    with pytest.raises(ValueError, match=r"the value when compiled at .* but Python gives"):
        check(line, slope, value_error=1e-7)
    with pytest.raises(ValueError, match=r"the derivative at .* but central differences give"):
        check(line, slope, slope_error=1e-4)


def test_kinks_are_passed_over_and_bends_are_not():
    check(lambda z: z + 0.5 * max(z, 0.0), lambda z: 1.5 if z > 0 else 1.0)
    # f'' h is large beside 1, small beside f': no kink
    bent, slope = (lambda z: 1e4 * z * z + 1e5 * z), (lambda z: 2e4 * z + 1e5)
    check(bent, slope)
    with pytest.raises(ValueError, match="derivative"):
        check(bent, slope, slope_error=1e-3)


@pytest.mark.filterwarnings("error")
def test_points_outside_the_domain_are_passed_over():
    f, slope = math.sqrt, lambda z: 0.5 / math.sqrt(z) if z > 0 else 7.0
    x = np.array([-1.0, 0.0, 1.0, 4.0])
    value = np.array([5.0, 0.0, 1.0, 2.0])
    check_derivative("f", f, (value, np.array([slope(v) for v in x])), x)
    with pytest.raises(ValueError, match="at 4 is 3, but Python gives 2"):
        check_derivative("f", f, (np.array([5.0, 0.0, 1.0, 3.0]), value), x)
    with pytest.raises(ValueError, match="f is not finite at any of 2 points"):
        check_derivative("f", f, (value[:2], value[:2]), np.array([-1.0, 0.0]))
