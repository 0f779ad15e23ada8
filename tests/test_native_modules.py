"""The native engine's compiled modules one by one: each instruction set that this CPU offers, the
vectorised functions' errors in ULP, and no allocation in the epoch loop.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from engine_cases import DTYPES, epoch, forward, gradient, jacobian, make_case, oracle, smooth_case
from error_bounds import assert_within, bounds, check_weights, epoch_bound

from fastbp import activations, losses
from fastbp.engines import Plan, create, native
from fastbp.stages import dense

if not native.available():
    pytest.skip(f"no native engine: {native.reason()}", allow_module_level=True)

USABLE = native.usable()

each_module = pytest.mark.parametrize(
    ("isa", "dtype"), [(isa, dtype) for isa in USABLE for dtype in DTYPES]
)


@each_module
@pytest.mark.parametrize("activation", activations.ACTIVATIONS)
def test_module_matches_reference(isa: str, dtype: str, activation: str) -> None:
    case = smooth_case((37, 45, 23, 5), activation, "huber", dtype=dtype, rows=29, batch_size=13)
    engine = native.module(isa, dtype).Engine(case.plan)
    engine.set_parameters(case.parameters)
    bound = bounds(case, with_jacobian=True)
    exact = case.astype("float64")
    loss, g = gradient(engine, case)
    wanted_loss, wanted = gradient(oracle(case), exact)
    assert_within(loss, wanted_loss, bound.loss)
    for got, want, limit in zip(g, wanted, bound.gradient, strict=True):
        assert_within(got, want, limit)
    assert_within(forward(engine, case.X), forward(oracle(case), exact.X), bound.f)
    assert_within(jacobian(engine, case.X), jacobian(oracle(case), exact.X), bound.jacobian)


@each_module
@pytest.mark.parametrize("loss", losses.LOSSES)
def test_module_trains_as_reference(isa: str, dtype: str, loss: str) -> None:
    case = smooth_case((19, 33, 7), "tanh", loss, dtype=dtype, rows=41, batch_size=16, l2=0.01)
    engine = native.module(isa, dtype).Engine(case.plan)
    engine.set_parameters(case.parameters)
    reference = oracle(case)
    limit = epoch_bound(case, 0.05, 3, 1.0)
    assert epoch(engine, case, 0.05)[0] == epoch(reference, case.astype("float64"), 0.05)[0] == 3
    check_weights(engine, reference, case, limit)


FLAGS = {
    "avx2": {"avx2", "fma"},
    "avx512": {"avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"},
}


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="asks Linux on x86-64"
)
@pytest.mark.parametrize("isa", FLAGS)
def test_cpu_offers_what_the_system_says(isa: str) -> None:
    """Whatever compiler made the module: one whose library cannot tell would leave us the slow one."""
    wanted = FLAGS[isa] <= set(Path("/proc/cpuinfo").read_text().split())
    assert native.module("baseline", "float32").cpu_offers(isa) == wanted


# ---- vecmath.h ---------------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan]


def logistic(x: Any) -> Any:
    return np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))


FUNCTIONS = {"exp": np.exp, "tanh": np.tanh, "logistic": logistic}


def ulps(got: Any, wanted: Any, dtype: str) -> Any:
    """Error in units in the last place of `got`'s dtype, `wanted` being in a longer one."""
    return np.abs(got.astype(wanted.dtype) - wanted) / np.spacing(np.abs(wanted.astype(dtype)))


def call(isa: str, dtype: str, name: str, x: Any) -> Any:
    out = np.empty_like(x)
    native.module(isa, dtype).vector_function(name, x, out)
    return out


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_functions_within_2_ulp(isa: str, name: str) -> None:
    # every 509th bit pattern: all exponents, both signs, denormals, infinities and NaNs
    x = np.arange(0, 2**32, 509, dtype=np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        got, wanted = call(isa, "float32", name, x), FUNCTIONS[name](x.astype(np.float64))
        rounded = wanted.astype(np.float32)
        finite = np.isfinite(rounded) & np.isfinite(got)
        assert ulps(got[finite], wanted[finite], "float32").max() <= 2
        np.testing.assert_array_equal(got[~finite], rounded[~finite])


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sine_and_cosine(isa: str, dtype: str) -> None:
    u = np.finfo(dtype).eps / 2
    x = np.linspace(-1e4, 1e4, 1_000_003).astype(dtype)
    longer = x.astype(np.float64 if dtype == "float32" else np.longdouble)
    for name, exact in (("sin", np.sin), ("cos", np.cos)):
        got = call(isa, dtype, name, x)
        # The reduction is off by two roundings of r ≤ π/4, the series by two of a value ≤ 1, and
        # the judge by one.
        assert np.abs(got - exact(longer)).max() <= 5 * u
    far = np.array([1e6, -1e9, np.finfo(dtype).max], dtype)
    for name in ("sin", "cos"):
        assert np.abs(call(isa, dtype, name, far)).max() <= 1.001
        assert np.isnan(call(isa, dtype, name, np.array([np.nan], dtype))).all()


@pytest.mark.skipif(
    np.finfo(np.longdouble).nmant <= 52, reason="the judge needs a long double longer than double"
)
@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_functions_within_4_ulp(isa: str, name: str) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            rng.uniform(-745.2, 709.78, 100_000),
            rng.uniform(-40, 40, 100_000),
            rng.uniform(-1, 1, 100_000),
            np.ldexp(rng.uniform(-1, 1, 100_000), rng.integers(-1074, 4, 100_000)),
        ]
    )
    with np.errstate(all="ignore"):
        got, wanted = call(isa, "float64", name, x), FUNCTIONS[name](x.astype(np.longdouble))
        assert np.isfinite(got).all()
        assert ulps(got, wanted, "float64").max() <= 4


@each_module
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(isa: str, dtype: str, name: str) -> None:
    tiny, largest = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    x = np.array([*SPECIAL, tiny, -tiny, largest, -largest], dtype)
    with np.errstate(all="ignore"):
        wanted = FUNCTIONS[name](x).astype(dtype)
    got = call(isa, dtype, name, x)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(np.signbit(got[:4]), np.signbit(wanted[:4]))


# ---- memory ------------------------------------------------------------------------------------

COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
static atomic_long count;
long allocations(void) { return count; }
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
void *malloc(size_t n) { count++; return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { count++; return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { count++; return __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { count++; return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) {
    count++;
    return (*p = __libc_memalign(a, n)) ? 0 : 12;
}
"""

EPOCHS = """
import ctypes, sys
import numpy as np
from fastbp import activations, losses, optimizers
from fastbp.engines import Plan, create
from fastbp.stages import dense

count = ctypes.CDLL(None).allocations
count.restype = ctypes.c_long
plan = Plan(
    dense((64, 128, 10), (activations.get("gelu"),), (0.2,)),
    losses.get("cross_entropy"), optimizers.get("adam"), batch_size=32, threads=2,
    l2=0.01, clip_norm=1.0,
)
engine = create(plan, "native")
rng = np.random.default_rng(0)
X = rng.standard_normal((64_000, 64)).astype(np.float32)
y = rng.integers(0, 10, len(X))

def allocations(steps):
    order, rates, out = np.arange(steps * 32), np.full(steps, 1e-3), np.empty(steps)
    engine.epoch(X, y, None, order, rates, out)
    before = count()
    engine.epoch(X, y, None, order, rates, out)
    return count() - before

print(allocations(200), allocations(2000))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc",
    reason="counts allocations by preloading what GNU's C library calls",
)
def test_no_allocation_in_the_epoch_loop(tmp_path: Path) -> None:
    """Ten times the steps allocate no more: every allocation is the call's, none a step's."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library = tmp_path / "count.c", tmp_path / "count.so"
    source.write_text(COUNTER)
    subprocess.run(
        [*compiler.split(), "-shared", "-fPIC", "-o", str(library), str(source)], check=True
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(EPOCHS)],
        env=os.environ | {"LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(int, run.stdout.split())
    assert few == many, f"{few} allocations in 200 steps, {many} in 2000"


@pytest.mark.parametrize("batch_size", [2**46, 2**62, 10**30])
def test_work_beyond_any_count_is_refused(batch_size: int) -> None:
    plan = Plan(
        dense((255, 256), ()), losses.get("squared_error"), batch_size=batch_size, dtype="float32"
    )
    with pytest.raises(MemoryError, match="bytes"):
        native.create(plan)


def test_unknown_costs_are_refused() -> None:
    with (
        patch.dict(native.COSTS, flops_per_thread=1, flops=1),
        pytest.raises(ValueError, match=r"unknown costs \['flops'\]; there are flops_per_thread, "),
    ):
        create(make_case((3, 2)).plan, "native")
