"""The floating-point state of the calling thread: rounding mode and treatment of subnormals."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM = platform.machine().lower() in ("aarch64", "arm64")
KNOWN = sys.platform == "linux" and (X86 or ARM)

if ARM:  # fenv_t is two registers: FPCR, control, and FPSR, exceptions seen so far
    _AT, _SIZE, FLAGS = 0, 8, 0
    CONTROL = {
        "nearest": 0,  # as a process begins
        "downward": 2 << 22,
        "upward": 1 << 22,
        "toward zero": 3 << 22,
        "subnormals are zero": 1 << 24,
    }
else:  # glibc's and musl's fenv_t on x86-64: 28 bytes for the x87 unit, then MXCSR of SSE and AVX
    _AT, _SIZE, FLAGS = 28, 32, 0x3F  # exceptions seen so far: any arithmetic may raise them
    CONTROL = {
        "nearest": 0x1F80,  # as a process begins
        "downward": 0x3F80,
        "upward": 0x5F80,
        "toward zero": 0x7F80,
        "subnormals are zero": 0x1F80 | 0x8000 | 0x0040,  # flush-to-zero, denormals-are-zero
    }


def get_control() -> int:
    """MXCSR or FPCR of this thread without its flags."""
    return _read()[0] & ~FLAGS


def _read() -> tuple[int, ctypes.Array[ctypes.c_char]]:
    environment = ctypes.create_string_buffer(_SIZE)
    assert _library().fegetenv(environment) == 0
    return int.from_bytes(environment.raw[_AT : _AT + 4], "little"), environment


def _library() -> ctypes.CDLL:
    # find_library asks a compiler or ldconfig, which need not be there.
    return ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")


@contextmanager
def control(name: str) -> Iterator[None]:
    """Run a block with the rounding mode, or the treatment of subnormals, of that name."""
    _, before = _read()
    changed = ctypes.create_string_buffer(before.raw, _SIZE)
    changed[_AT : _AT + 4] = CONTROL[name].to_bytes(4, "little")
    assert _library().fesetenv(changed) == 0
    try:
        yield
    finally:
        assert _library().fesetenv(before) == 0
