"""Functions written by the user, compiled into C functions that work on a run of numbers.

    activation   void(const real* z, real* v, real* slope, int64 n)                      v may be z
    loss         void(const real* f, const real* y, real* loss, real* slope, int64 n)    slope may be f

The derivative is the user's, or carried along as a dual number (dual.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from fastbp.engines.jit.kernels.code import emit, ir_of
from fastbp.engines.jit.kernels.dual import dual, plain, slope_of, value_of
from fastbp.engines.jit.kernels.intrinsics import kernel, number, of_user
from fastbp.engines.jit.kernels.records import REALS


@intrinsic
def _same(typing, p, q):
    """Whether two pointers are equal."""

    def build(context, builder, signature, arguments):
        return builder.icmp_unsigned("==", *arguments)

    return types.boolean(p, q), build


@kernel
def _copy(source, destination, n):
    if not _same(source, destination):
        for i in range(n):
            destination[i] = source[i]


def _jitted(function: Any) -> Any:
    return of_user(getattr(function, "py_func", function))


@global_compiler_lock
def compile_activation(
    function: Callable[..., Any], derivative: Callable[..., Any] | None, dtype: str
) -> bytes:
    """Object code of ``activation``; raises what Numba raises."""
    phi = _jitted(function)

    if derivative is None:

        def activation(z, v, slope, n):
            _copy(z, v, n)
            for i in range(n):
                x = v[i]
                y = phi(dual(x, number(x, 1.0)))
                v[i] = value_of(x, y)
                slope[i] = slope_of(x, y)
    else:
        phi_slope = _jitted(derivative)

        def activation(z, v, slope, n):
            _copy(z, v, n)
            for i in range(n):
                x = v[i]
                v[i] = value_of(x, phi(plain(x)))
                slope[i] = value_of(x, phi_slope(plain(x)))

    pointer = types.CPointer(REALS[dtype])
    return _code(activation, "activation", (pointer, pointer, pointer, types.int64))


@global_compiler_lock
def compile_loss(
    function: Callable[..., Any], derivative: Callable[..., Any] | None, dtype: str
) -> bytes:
    """Object code of ``loss``; raises what Numba raises."""
    ell = _jitted(function)

    if derivative is None:

        def loss(f, y, value, slope, n):
            _copy(f, slope, n)
            for i in range(n):
                x = slope[i]
                out = ell(dual(x, number(x, 1.0)), plain(y[i]))
                value[i] = value_of(x, out)
                slope[i] = slope_of(x, out)
    else:
        ell_slope = _jitted(derivative)

        def loss(f, y, value, slope, n):
            _copy(f, slope, n)
            for i in range(n):
                x = slope[i]
                value[i] = value_of(x, ell(plain(x), plain(y[i])))
                slope[i] = value_of(x, ell_slope(plain(x), plain(y[i])))

    pointer = types.CPointer(REALS[dtype])
    return _code(loss, "loss", (pointer,) * 4 + (types.int64,))


def _code(function: Any, name: str, arguments: tuple[Any, ...]) -> bytes:
    return emit(ir_of({name: (kernel(function), arguments)}), [name])
