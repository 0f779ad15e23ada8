"""What must stay, or change in a known way, when a problem is rewritten as an equal one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_cases import DTYPES, EACH_ENGINE, epoch, forward, gradient, make_case, make_engine
from error_bounds import assert_within, bounds, epoch_bound

engines = pytest.mark.parametrize("name", EACH_ENGINE)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@engines
@dtypes
def test_permuting_hidden_units_permutes_the_solution(name: str, dtype: str) -> None:
    case = make_case((6, 13, 9, 4), "tanh", dtype=dtype, rows=24, batch_size=8)
    p = np.random.default_rng(0).permutation(13)
    bias_last = [*p, 13]
    first, second, third = case.parameters
    permuted = replace(case, parameters=[first[p], second[:, bias_last].copy(), third])
    engine, other = make_engine(name, case), make_engine(name, permuted)
    losses = [epoch(e, c)[1] for e, c in ((engine, case), (other, permuted))]
    limit = 2 * epoch_bound(case, 0.1, 3, 1)
    slope = sum(float(np.abs(g).sum()) for g in gradient(engine, case)[1])
    assert_within(losses[1], losses[0], 8 * (bounds(case).loss + (1 + slope) * limit))
    a, b = engine.get_parameters(), other.get_parameters()
    before = permuted.parameters
    assert_within(b[0], a[0][p].astype("f8"), limit, before[0])
    assert_within(b[1], a[1][:, bias_last].astype("f8"), limit, before[1])
    assert_within(b[2], a[2].astype("f8"), limit, before[2])


@engines
@dtypes
@pytest.mark.parametrize("split", [1, 8, 13])
def test_splitting_a_batch_averages_the_gradients(name: str, dtype: str, split: int) -> None:
    case = make_case(
        (5, 10, 3), "gelu", "binary_cross_entropy", dtype=dtype, rows=21, weighted=True
    )
    assert case.sample_weight is not None
    total, average = 0.0, [np.zeros_like(W, dtype="f8") for W in case.parameters]
    limits = [b.copy() for b in bounds(case).gradient]
    for rows in (slice(0, split), slice(split, 21)):
        part = replace(case, X=case.X[rows], y=case.y[rows], sample_weight=case.sample_weight[rows])
        share = float(case.sample_weight[rows].sum() / case.sample_weight.sum())
        loss, g = gradient(make_engine(name, case), part)
        total += share * loss
        for sum_, a, limit, more in zip(average, g, limits, bounds(part).gradient, strict=True):
            sum_ += share * a
            limit += share * more
    loss, whole = gradient(make_engine(name, case), case)
    assert_within(total, loss, 4 * bounds(case).loss)
    for got, wanted, limit in zip(whole, average, limits, strict=True):
        assert_within(got, wanted, limit)


@engines
@dtypes
def test_a_weight_of_two_is_the_sample_twice(name: str, dtype: str) -> None:
    case = make_case((5, 10, 3), "tanh", "poisson", dtype=dtype, rows=9)
    weights = np.array([1, 2, 1, 1, 0, 3, 1, 1, 2])
    repeated = np.repeat(np.arange(9), weights)
    twice = replace(case, X=case.X[repeated], y=case.y[repeated])
    weighted = replace(case, sample_weight=weights.astype(dtype))
    loss, g = gradient(make_engine(name, case), weighted)
    wanted_loss, wanted = gradient(make_engine(name, case), twice)
    assert_within(loss, wanted_loss, 2 * bounds(twice).loss)
    for a, b, limit in zip(g, wanted, bounds(twice).gradient, strict=True):
        assert_within(a, b.astype("f8"), 2 * limit)


@engines
@dtypes
def test_weights_count_in_proportion(name: str, dtype: str) -> None:
    case = make_case((5, 10, 3), "tanh", dtype=dtype, rows=9, weighted=True)
    assert case.sample_weight is not None
    scaled = replace(case, sample_weight=8 * case.sample_weight)
    loss, g = gradient(make_engine(name, case), case)
    scaled_loss, scaled_g = gradient(make_engine(name, case), scaled)
    assert scaled_loss == loss  # a power of 2 changes no rounding
    for a, b in zip(g, scaled_g, strict=True):
        np.testing.assert_array_equal(a, b)


@engines
@dtypes
@pytest.mark.parametrize("hidden", ["relu", "leaky_relu"])
def test_scale_symmetry_of_relu(name: str, dtype: str, hidden: str) -> None:
    """φ(c z) = c φ(z) for c > 0: row j of W¹ times c, column j of W² over c, is the same f."""
    case = make_case((6, 13, 4), hidden, dtype=dtype, rows=24)
    c = 2.0 ** np.random.default_rng(0).integers(-3, 4, 13)  # powers of 2: no rounding changes
    first, second = (W.copy() for W in case.parameters)
    first *= c[:, None].astype(dtype)
    second[:, :-1] /= c.astype(dtype)
    scaled = replace(case, parameters=[first, second])
    engine, other = make_engine(name, case), make_engine(name, scaled)
    f, g = forward(engine, case.X), gradient(engine, case)
    scaled_f, scaled_g = forward(other, case.X), gradient(other, scaled)
    limits = bounds(case)
    assert_within(scaled_f, f.astype("f8"), 2 * limits.f)
    assert_within(scaled_g[0], g[0], 2 * limits.loss)
    assert_within(scaled_g[1][0] * c[:, None], g[1][0].astype("f8"), 2 * limits.gradient[0])
    columns = np.append(c, 1)
    assert_within(scaled_g[1][1] / columns, g[1][1].astype("f8"), 2 * limits.gradient[1])


@engines
@dtypes
def test_a_unit_that_is_never_used_learns_nothing(name: str, dtype: str) -> None:
    """A relu unit with z < 0 on all rows has a gradient of exactly 0."""
    case = make_case((6, 13, 4), "relu", dtype=dtype, rows=24)
    case.parameters[0][5] = [0, 0, 0, 0, 0, 0, -1]
    _, (first, second) = gradient(make_engine(name, case), case)
    assert not first[5].any()
    assert not second[:, 5].any()
    assert first[4].any()


@engines
@dtypes
@pytest.mark.parametrize("sizes", [(5, 3), (40, 33, 17), (70, 64, 64, 10)])
def test_a_row_has_the_same_bits_among_however_many(
    name: str, dtype: str, sizes: tuple[int, ...]
) -> None:
    if name == "reference":
        pytest.skip("NumPy's sums are BLAS's, whose order depends on the number of rows")
    case = make_case(sizes, "tanh", dtype=dtype, rows=300, threads=2)
    together = forward(make_engine(name, case), case.X)
    for rows in (1, 2, 3, 7, 32, 33, 113, 225):
        engine = make_engine(name, case)
        for start in range(0, 300, rows):
            part = slice(start, start + rows)
            np.testing.assert_array_equal(forward(engine, case.X[part]), together[part])
