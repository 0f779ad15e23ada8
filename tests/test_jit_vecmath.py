"""The JIT engine's exp, tanh, logistic and erf: error in units in the last place, and special values."""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastbp.engines import jit

pytestmark = pytest.mark.skipif(not jit.available(), reason=jit.reason())

WIDE = np.longdouble  # 64 bits of mantissa on x86; elsewhere the float64 bounds cannot be checked
WANTED: dict[str, Any] = {
    "exp": np.exp,
    "tanh": np.tanh,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "erf": lambda x: np.array([math.erf(z) for z in x], WIDE),  # itself off by 1 ULP of float64
}


@functools.cache
def compiled(name: str, dtype: str) -> Any:
    import numba

    from fastbp.engines.jit.kernels import vecmath
    from fastbp.engines.jit.kernels.records import REALS

    function = getattr(vecmath, name)
    pointer = numba.types.CPointer(REALS[dtype])

    @numba.cfunc(numba.types.void(pointer, pointer, numba.types.int64))
    def loop(x, out, n):  # type: ignore[no-untyped-def]
        for i in range(n):
            out[i] = function(x[i])

    return loop


def apply(name: str, x: NDArray[Any]) -> NDArray[Any]:
    loop = compiled(name, x.dtype.name)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    out = np.empty_like(x)
    kind(loop.address)(x.ctypes.data, out.ctypes.data, x.size)
    return out


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2), ("float64", 4)])
def test_error_in_ulp(name: str, dtype: str, bound: int) -> None:
    if dtype == "float64" and np.finfo(WIDE).nmant < 63:
        pytest.skip("no long double wider than float64 here")
    edge = 104.0 if dtype == "float32" else 746.0  # exp is denormal before it is 0
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.linspace(-edge, edge, 200_001),
            rng.standard_normal(100_000),
            rng.standard_normal(50_000) * 1e-4,
        ]
    ).astype(dtype)
    with np.errstate(over="ignore"):
        wanted = WANTED[name](x.astype(WIDE))
        finite = np.abs(wanted) <= np.finfo(dtype).max
        wanted, x = wanted[finite], x[finite]
        ulp = np.spacing(np.abs(wanted).astype(dtype)).astype(WIDE)
    got = apply(name, x)
    assert np.isfinite(got).all()
    assert np.max(np.abs(got.astype(WIDE) - wanted) / ulp) <= bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan] * 8, dtype)  # vector lanes and the rest
    wanted = {
        "exp": [1, 1, np.inf, 0, np.nan],
        "tanh": [0, -0.0, 1, -1, np.nan],
        "logistic": [0.5, 0.5, 1, 0, np.nan],
        "erf": [0, -0.0, 1, -1, np.nan],
    }
    for name, values in wanted.items():
        expected = np.array(values * 8, dtype)
        got = apply(name, x)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(np.signbit(got[:-1:5]), np.signbit(expected[:-1:5]))
