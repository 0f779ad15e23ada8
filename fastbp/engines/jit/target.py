"""What the compiled code is made for: this CPU, its vectors, the register tile that fits them."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from fastbp._validation import nearest_name

# FASTBP_ISA: the features that a lesser instruction set goes without
_LEFT_OUT = {
    "amx": (),
    "avx512_bf16": (),
    "avx512": (),
    "avx2": ("avx512", "evex512", "avx10"),
    "baseline": ("avx", "fma", "f16c", "evex512", "xop", "vaes", "vpclmulqdq"),
}


@dataclass(frozen=True)
class Target:
    """A CPU as LLVM names it, and the shape of the register tile: `tile_rows` by two vectors."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    tile_rows: int
    fma: bool

    def lanes(self, dtype: str) -> int:
        """Numbers in a vector."""
        return self.vector_bytes // (4 if dtype == "float32" else 8)

    def panel(self, dtype: str) -> int:
        """Columns of a panel: the width of the register tile."""
        return 2 * self.lanes(dtype)


@functools.cache
def host() -> Target:
    """The CPU this runs on, or what FASTBP_ISA leaves of it.

    Raises
    ------
    ValueError
        If FASTBP_ISA names no instruction set.
    """
    import llvmlite.binding as llvm

    wanted = os.environ.get("FASTBP_ISA", "").strip() or "avx512"
    if wanted not in _LEFT_OUT:
        raise ValueError(f"FASTBP_ISA: {nearest_name('instruction set', wanted, _LEFT_OUT)}")
    features = llvm.get_host_cpu_features()
    for name in features:
        features[name] &= not name.startswith(_LEFT_OUT[wanted])
    has = {name for name, present in features.items() if present}
    triple = llvm.get_process_triple()
    if "avx512f" in has:
        size, rows = 64, 14
    elif {"avx2", "fma"} <= has:
        size, rows = 32, 6
    elif triple.startswith(("aarch64", "arm64")):
        size, rows = 16, 12
    else:
        size, rows = 16, 4
    fma = "fma" in has or triple.startswith(("aarch64", "arm64"))
    return Target(triple, llvm.get_host_cpu_name(), features.flatten(), size, rows, fma)
