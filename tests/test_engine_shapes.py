"""Any shape: 0 to 4 hidden layers, widths and batches of 1 to 300, primes, tails, short batches.

Two kinds of problem. Smooth ones are compared with the reference engine within derived bounds.
Exact ones have small integers for data and weights, so that no sum rounds in float32, in whatever
order it is taken: the result must be the reference engine's, bit for bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    EACH_ENGINE,
    Case,
    epoch,
    forward,
    gradient,
    jacobian,
    make_case,
    make_engine,
    oracle,
)
from error_bounds import assert_within, bounds, epoch_bound
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

engines = pytest.mark.parametrize("name", EACH_ENGINE)
dtypes = pytest.mark.parametrize("dtype", DTYPES)

# vector widths and tiles, their neighbours, primes, and everything between
sizes_to_try = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 97, 127, 128, 129, 251, 300]
width = st.sampled_from(sizes_to_try) | st.integers(1, 300)


def sizes_of(most_hidden: int) -> st.SearchStrategy[tuple[int, ...]]:
    """0 to `most_hidden` hidden layers, each number of them as likely."""
    return st.integers(2, most_hidden + 2).flatmap(lambda n: st.tuples(*[width] * n))


SMOOTH = ["identity", "sigmoid", "tanh", "elu", "softplus", "silu"]
SMOOTH_LOSSES = ["squared_error", "softmax_cross_entropy", "binary_cross_entropy"]

few = settings(
    max_examples=15,  # of each engine, instruction set and dtype
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@engines
@dtypes
@few
@given(data=st.data(), sizes=sizes_of(4), rows=st.just(0) | width, seed=st.integers(0, 99))
def test_any_shape_matches_the_reference(
    name: str, dtype: str, data: st.DataObject, sizes: tuple[int, ...], rows: int, seed: int
) -> None:
    hidden = tuple(data.draw(st.sampled_from(SMOOTH)) for _ in sizes[1:-1])
    loss = data.draw(st.sampled_from(SMOOTH_LOSSES))
    labels = loss == "softmax_cross_entropy" and data.draw(st.booleans())
    weighted = data.draw(st.booleans())
    case = make_case(
        sizes,
        hidden,
        loss,
        dtype=dtype,
        rows=rows,
        data_seed=seed,
        labels=labels,
        weighted=weighted,
    )
    exact = case.astype("float64")
    engine, reference = make_engine(name, case), oracle(exact)
    limit = bounds(case)
    got_loss, got = gradient(engine, case)
    wanted_loss, wanted = gradient(reference, exact)
    assert_within(got_loss, wanted_loss, limit.loss)
    for g, w, b in zip(got, wanted, limit.gradient, strict=True):
        assert_within(g, w, b)
    assert_within(forward(engine, case.X), forward(reference, exact.X), limit.f)
    few_rows = replace(case, X=case.X[:2], y=case.y[:2], sample_weight=None)
    assert_within(
        jacobian(engine, few_rows.X),
        jacobian(reference, exact.X[:2]),
        bounds(few_rows, with_jacobian=True).jacobian,
    )


@engines
@dtypes
@few
@given(
    sizes=sizes_of(4),
    rows=width,
    batch_size=width,
    hidden=st.sampled_from(["tanh", "softplus", "sigmoid"]),
    seed=st.integers(0, 99),
)
def test_any_batch_size_matches_the_reference(
    name: str,
    dtype: str,
    sizes: tuple[int, ...],
    rows: int,
    batch_size: int,
    hidden: str,
    seed: int,
) -> None:
    order = np.random.default_rng(seed).permutation(rows)[: 4 * batch_size]
    case = make_case(sizes, hidden, dtype=dtype, rows=rows, data_seed=seed, batch_size=batch_size)
    exact = case.astype("float64")
    engine, reference = make_engine(name, case), oracle(exact)
    rate = 0.1 / max(sizes)
    steps, losses = epoch(engine, case, rate, order)
    assert epoch(reference, exact, rate, order)[0] == steps == -(-len(order) // batch_size)
    assert np.isfinite(losses).all()
    first = replace(case, X=case.X[order], y=case.y[order])
    limit = epoch_bound(first, rate, steps, 1)
    # as a whole: what reaches the first of many narrow layers may be less than rounding
    trained, wanted, untrained = (
        np.concatenate([W.ravel() for W in each])
        for each in (engine.get_parameters(), reference.get_parameters(), case.parameters)
    )
    assert_within(trained, wanted, limit, untrained)


def exact_case(sizes: tuple[int, ...], rows: int, dtype: str, seed: int) -> Case:
    """−1, 0 and 1 everywhere, weights of samples that sum up to a power of 2, loss slopes of ±1."""
    rng = np.random.default_rng(seed)
    case = make_case(sizes, "relu", "absolute_error", dtype=dtype, rows=rows)
    weight = np.ones(rows)
    weight[0] += 2.0 ** np.ceil(np.log2(rows)) - rows

    def ternary(shape: tuple[int, ...]) -> np.ndarray:
        return rng.integers(-1, 2, shape).astype(dtype)

    return replace(
        case,
        parameters=[ternary(W.shape) for W in case.parameters],
        X=ternary(case.X.shape),
        y=ternary(case.y.shape),
        sample_weight=weight.astype(dtype),
    )


def largest_sum(case: Case) -> float:
    """Σ|terms| of the largest sum: below 2²⁴, every partial sum is an exact float32 number."""
    z, v = oracle(case).trace(case.X)
    assert case.sample_weight is not None
    largest = float((np.abs(z[-1]) + 1).sum(axis=1).max())
    delta = np.ones_like(z[-1]) * case.sample_weight[:, None]
    for layer in range(len(z) - 1, -1, -1):
        W = np.abs(case.parameters[layer])
        sums = (np.abs(v[layer]) @ W.T).max(), (delta.T @ np.abs(v[layer])).max()
        largest = max(largest, *map(float, sums))
        delta = delta @ W[:, :-1]
    return largest


@engines
@dtypes
@few
@given(sizes=sizes_of(2), rows=width, seed=st.integers(0, 99))
def test_any_shape_is_exact_in_integers(
    name: str, dtype: str, sizes: tuple[int, ...], rows: int, seed: int
) -> None:
    case = exact_case(sizes, rows, dtype, seed)
    exact = case.astype("float64")
    engine, reference = make_engine(name, case), oracle(exact)
    assume(largest_sum(exact) < 2**24)
    np.testing.assert_array_equal(forward(engine, case.X), forward(reference, exact.X))
    loss, got = gradient(engine, case)
    wanted_loss, wanted = gradient(reference, exact)
    assert loss == wanted_loss
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(g, w)
