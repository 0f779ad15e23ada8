"""Where the engine gets compiled code from: the general engine, and functions written by the user."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.activations import Activation
from fastbp.engines import Array
from fastbp.engines.jit.library import Library, hash_of, load
from fastbp.losses import Loss


def general_library(dtype: str) -> Library:
    """The engine of that dtype, for any plan."""

    def make() -> bytes:
        from fastbp.engines.jit.kernels.code import compile_engine

        code: bytes = compile_engine(dtype)
        return code

    return load(hash_of("engine", dtype), f"the {dtype} engine", make, level=logging.WARNING)


def activation_address(activation: Activation, dtype: str) -> int:
    """Address of the C function void(const real* z, real* v, real* slope, int64 n) of φ and φ'.

    v may be z.
    """
    return _user_library("activation", activation, dtype).address("activation")


def loss_address(loss: Loss, dtype: str) -> int:
    """Address of void(const real* f, const real* y, real* loss, real* slope, int64 n).

    slope may be f.
    """
    return _user_library("loss", loss, dtype).address("loss")


def _user_library(kind: str, declared: Activation | Loss, dtype: str) -> Library:
    function = declared.function
    assert function is not None

    def make() -> bytes:
        from numba.core.errors import NumbaError

        from fastbp.engines.jit.kernels import user

        compile_: Callable[..., bytes] = getattr(user, f"compile_{kind}")
        try:
            return compile_(function, declared.derivative, dtype)
        except NumbaError as error:
            raise ValueError(_explain(kind, declared, error)) from error

    key = hash_of(kind, dtype, declared.fingerprint)
    return load(
        key, f"{kind} {declared.name!r}", make, keep=not declared.fingerprint.startswith("#")
    )


def _explain(kind: str, declared: Activation | Loss, error: Any) -> str:
    """What Numba could not compile, where, and the first lines of why."""
    function: Any = declared.function
    code = getattr(function, "py_func", function).__code__
    where = f"{code.co_filename}:{code.co_firstlineno}"
    lines = [line.strip() for line in str(error).splitlines()]
    why = [x for x in lines if x and not x.startswith(("Failed in nopython", "\x1b", "-", "<<<"))]
    return f"{kind} {declared.name!r}: Numba cannot compile {code.co_name} ({where}): " + " ".join(
        why[:3]
    )


def evaluate_activation(activation: Activation, z: Array) -> tuple[Array, Array]:
    """φ(z) and φ'(z) of a user's activation, by the compiled function."""
    z = np.ascontiguousarray(z)
    v, slope = np.empty_like(z), np.empty_like(z)
    _call(activation_address(activation, z.dtype.name), z, v, slope)
    return v, slope


def evaluate_loss(loss: Loss, f: Array, y: Array) -> tuple[Array, Array]:
    """ℓ(f, y) and ∂ℓ/∂f of every element for a user's loss, by the compiled function."""
    f, y = np.ascontiguousarray(f), np.ascontiguousarray(y, f.dtype)
    value, slope = np.empty_like(f), np.empty_like(f)
    _call(loss_address(loss, f.dtype.name), f, y, value, slope)
    return value, slope


def _call(address: int, *arrays: Array) -> None:
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(arrays), ctypes.c_int64)
    kind(address)(*[a.ctypes.data for a in arrays], arrays[0].size)
