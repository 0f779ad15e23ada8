"""The notes' two theorems on the Jacobian: the chain rule, and Taylor's first-order remainder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_cases import DTYPES, EACH_ENGINE, forward, jacobian, make_case, make_engine, smooth_case
from error_bounds import assert_within, bounds

engines = pytest.mark.parametrize("name", EACH_ENGINE)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@engines
@dtypes
def test_chain_rule_on_stacked_networks(name: str, dtype: str) -> None:
    """J_{g∘f}(x) = J_g(f(x)) J_f(x), where g∘f is one network with a linear layer in the middle."""
    f = make_case((4, 9, 3), "tanh", dtype=dtype, rows=7, data_seed=1)
    g = make_case((3, 8, 6, 2), ("gelu", "sigmoid"), dtype=dtype, rows=7, data_seed=2)
    stacked = make_case((4, 9, 3, 8, 6, 2), ("tanh", "identity", "gelu", "sigmoid"), dtype=dtype)
    stacked = replace(stacked, parameters=f.parameters + g.parameters, X=f.X, y=g.y)
    f_engine, g_engine = make_engine(name, f), make_engine(name, g)
    middle = forward(f_engine, f.X)
    g = replace(g, X=middle)
    J_f, J_g = jacobian(f_engine, f.X), jacobian(g_engine, middle)
    chained = J_g.astype("f8") @ J_f.astype("f8")
    limit = bounds(stacked, with_jacobian=True).jacobian
    limit = limit + np.abs(J_g) @ bounds(f, with_jacobian=True).jacobian
    limit = limit + bounds(g, with_jacobian=True).jacobian @ np.abs(J_f)
    assert_within(jacobian(make_engine(name, stacked), f.X), chained, limit)


@engines
@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "elu", "softplus", "silu", "gelu"])
def test_taylor_remainder_is_of_second_order(name: str, hidden: str) -> None:
    """‖f(x + t d) − f(x) − t J d‖ = a t² + b t³ + …, so halving t divides it by 4 + O(t)."""
    case = smooth_case((4, 9, 7, 3), hidden, rows=1)
    engine = make_engine(name, case)
    d = np.array([[0.5, -0.5, 0.5, 0.5]])
    f, Jd = forward(engine, case.X), jacobian(engine, case.X)[0] @ d[0]

    def remainder(t: float) -> float:
        return float(np.linalg.norm(forward(engine, case.X + t * d) - f - t * Jd))

    # u / t² of rounding and |b / a| t / 2 of the next term are both below 0.1 % here
    t = 2.0**-11
    assert np.log2(remainder(t) / remainder(t / 2)) == pytest.approx(2, abs=0.01)


@engines
@dtypes
def test_relu_networks_are_linear_between_kinks(name: str, dtype: str) -> None:
    case = smooth_case((4, 9, 7, 3), "relu", rows=1, dtype=dtype)
    engine = make_engine(name, case)
    step = np.full((1, 4), 2.0**-13, dtype)  # all kinks are 1e-3 away
    moved = replace(case, X=case.X + step)
    change = forward(engine, moved.X).astype("f8") - forward(engine, case.X)
    wanted = jacobian(engine, case.X)[0].astype("f8") @ step[0]
    limit = bounds(case).f + bounds(moved).f
    assert_within(change, wanted[None], limit)


@engines
@dtypes
def test_jacobian_of_a_linear_network_is_its_weights(name: str, dtype: str) -> None:
    case = make_case((5, 3), (), dtype=dtype, rows=4)
    got = jacobian(make_engine(name, case), case.X)
    np.testing.assert_array_equal(got, np.broadcast_to(case.parameters[0][:, :-1], (4, 3, 5)))
