"""The floating-point state of the calling thread: rounding mode and treatment of subnormals."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Iterator
from contextlib import contextmanager

X86 = platform.machine().lower() in ("x86_64", "amd64") and platform.system() == "Linux"

# glibc's fenv_t on x86-64: 28 bytes for the x87 unit, then the MXCSR register of SSE and AVX.
_AT, _SIZE = 28, 32
FLAGS = 0x3F  # exceptions seen so far: any arithmetic may raise them
CONTROL = {
    "nearest": 0x1F80,  # as a process begins
    "downward": 0x3F80,
    "upward": 0x5F80,
    "toward zero": 0x7F80,
    "subnormals are zero": 0x1F80 | 0x8000 | 0x0040,  # flush-to-zero, denormals-are-zero
}


def get_control() -> int:
    """MXCSR of this thread without its flags."""
    return _read()[0] & ~FLAGS


def _read() -> tuple[int, ctypes.Array[ctypes.c_char]]:
    environment = ctypes.create_string_buffer(_SIZE)
    assert _library().fegetenv(environment) == 0
    return int.from_bytes(environment.raw[_AT:], "little"), environment


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("m"))


@contextmanager
def control(name: str) -> Iterator[None]:
    """Run a block with the rounding mode, or the treatment of subnormals, of that name."""
    _, before = _read()
    changed = ctypes.create_string_buffer(before.raw, _SIZE)
    changed[_AT:_SIZE] = CONTROL[name].to_bytes(4, "little")
    assert _library().fesetenv(changed) == 0
    try:
        yield
    finally:
        assert _library().fesetenv(before) == 0
