"""Dropout masks: the bits of their definition, and that they behave as independent coin tosses.

Statistical bounds are five standard deviations of the binomial (or correlation) under independence;
the masks are fixed functions of their arguments, so a test that passes once passes always.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastbp.engines.dropout import mask


def scalar_keep(seed: int, step: int, layer: int, row: int, unit: int, p: float) -> bool:
    """Apply the definition to one unit, in Python's integers."""

    def splitmix64(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    def mix32(x: int) -> int:
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
        return x ^ (x >> 16)

    key = splitmix64(splitmix64(splitmix64(seed) ^ step) ^ layer)
    row_key = mix32((key % 2**32) ^ (row * 0x9E3779B9 % 2**32))
    h = mix32(((unit * 0x85EBCA6B + row_key) % 2**32) ^ (key >> 32))
    return h >= math.floor(p * 2**32)


@pytest.mark.parametrize(
    ("seed", "step", "layer"), [(0, 0, 1), (1, 7, 2), (2**64 - 1, 2**40, 3), (2**33, 1, 1)]
)
def test_bits_are_those_of_the_definition(seed: int, step: int, layer: int) -> None:
    for p in (0.0, 0.25, 0.5, 1 - 2**-53):
        got = mask(seed, step, layer, 9, 11, p)
        want = [[scalar_keep(seed, step, layer, r, u, p) for u in range(11)] for r in range(9)]
        np.testing.assert_array_equal(got, want)


def test_splitmix64_is_the_published_generator() -> None:
    from fastbp.engines.dropout import _splitmix64

    # first output of SplitMix64 seeded with 0, 1234567 (Vigna's reference code)
    assert _splitmix64(0) == 0xE220A8397B1DCDAF
    assert _splitmix64(1234567) == 6457827717110365317


def test_a_mask_is_a_function_of_position_only() -> None:
    whole = mask(3, 5, 1, 40, 70, 0.5)
    np.testing.assert_array_equal(mask(3, 5, 1, 13, 70, 0.5), whole[:13])
    np.testing.assert_array_equal(mask(3, 5, 1, 40, 31, 0.5), whole[:, :31])


def test_p_zero_keeps_every_unit() -> None:
    assert mask(0, 0, 1, 50, 50, 0.0).all()


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.8])
def test_fraction_kept(p: float) -> None:
    rows, units, steps = 200, 150, 30
    kept = np.mean([mask(11, t, 1, rows, units, p).mean() for t in range(steps)])
    assert abs(kept - (1 - p)) <= 5 * math.sqrt(p * (1 - p) / (rows * units * steps))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, 4], ids=["seed", "layer", "step", "row", "unit"])
@pytest.mark.parametrize("distance", [1, 2])
def test_neighbours_are_uncorrelated(axis: int, distance: int) -> None:
    signs = np.array(
        [
            [[mask(seed, t, layer, 64, 61, 0.5) for t in range(5)] for layer in (1, 2, 3)]
            for seed in range(4)
        ]
    )
    x = np.moveaxis(np.where(signs, 1.0, -1.0), axis, 0)
    products = x[distance:] * x[:-distance]
    assert abs(products.mean()) <= 5 / math.sqrt(products.size)


def test_rows_and_units_have_no_favourites() -> None:
    x = np.where([mask(2, t, 1, 90, 80, 0.5) for t in range(60)], 1.0, -1.0)
    for axes in [(0, 1), (0, 2), (1, 2), (0,)]:
        count = math.prod(x.shape[a] for a in axes)
        means = x.mean(axis=axes)
        # mean of the squares of n standard normals: 1 ± sqrt(2 / n)
        spread = (means**2).mean() * count
        assert abs(spread - 1) <= 5 * math.sqrt(2 / means.size)
