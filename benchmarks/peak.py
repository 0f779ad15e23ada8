"""The limits of this CPU, measured: arithmetic per dtype and instruction set, bandwidth per level.

The probe is `peak.c`, compiled when first needed by the C compiler of this machine.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.interleave import repetitions
from benchmarks.worker import available_threads

_SOURCE = Path(__file__).with_name("peak.c")
_AVX512 = ["-mavx2", "-mfma", "-mavx512f", "-mprefer-vector-width=512"]

# name: flags of the compiler, what /proc/cpuinfo must list, kinds of peak.c with their dtype
_X86 = {
    "SSE2": ([], [], {"float32": 0, "float64": 1}),
    "AVX2": (["-mavx2", "-mfma"], ["avx2", "fma"], {"float32": 0, "float64": 1}),
    "AVX-512": (_AVX512, ["avx512f"], {"float32": 0, "float64": 1}),
    "AVX-512 BF16": ([*_AVX512, "-mavx512bf16"], ["avx512_bf16"], {"bfloat16": 2}),
    "AMX": ([*_AVX512, "-mamx-tile", "-mamx-bf16"], ["amx_bf16"], {"bfloat16": 3}),
}
_OTHER = {"native": ([], [], {"float32": 0, "float64": 1})}
_UPDATE = 4
_SECONDS = 0.05  # of each of a few runs, of which the fastest counts: a limit is not an average


def thread_counts(most: int | None = None) -> list[int]:
    """1, 2, 4, … and the number of CPUs."""
    most = most or available_threads()
    return sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})


def _cpu_flags() -> set[str]:
    try:
        listed = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(listed[1].split()) if listed else set()


@cache
def _library(flags: tuple[str, ...]) -> ctypes.CDLL | None:
    """The compiled probe; None if there is no compiler or it does not take the flags."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.so"
        command = [compiler, "-O3", "-std=gnu11", "-shared", "-fPIC", *flags, str(_SOURCE)]
        built = subprocess.run([*command, "-o", str(path), "-pthread"], capture_output=True)
        if built.returncode:
            return None
        library = ctypes.CDLL(str(path))
    library.operations.restype = ctypes.c_int64
    library.run.restype = ctypes.c_double
    library.run.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return library


def _fastest(library: ctypes.CDLL, kind: int, threads: int, bytes_: int = 0) -> float:
    """Seconds per iteration, of the fastest of a few runs."""
    iterations, seconds = 1, 0.0
    while seconds < _SECONDS / 10:
        iterations *= 8
        seconds = library.run(kind, threads, iterations, bytes_)
        if seconds < 0:
            return float("inf")
    iterations = repetitions(seconds / iterations, _SECONDS)
    return min(library.run(kind, threads, iterations, bytes_) for _ in range(5)) / iterations


def cache_sizes() -> dict[str, int]:
    """Bytes of each level of data cache that CPU 0 sees, as Linux lists them."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "type").read_text().strip() != "Instruction":
            kilobytes = int((index / "size").read_text().strip().removesuffix("K"))
            sizes[f"L{(index / 'level').read_text().strip()}"] = kilobytes * 1024
    return sizes


def measure() -> dict[str, Any] | None:
    """Peaks and bandwidths; None where there is no C compiler.

    Returns
    -------
    dict
        ``"flops"``: dtype → instruction set → threads → operations per second.
        ``"bandwidth"``: level → threads → bytes per second read, and as many written at once.
        ``"cache"``: level → bytes. Threads are strings, as in JSON.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    cpu, flops = _cpu_flags(), {}
    best = None
    for isa, (flags, needed, kinds) in (_X86 if x86 else _OTHER).items():
        library = _library(tuple(flags)) if cpu.issuperset(needed) else None
        if library is None:
            continue
        best = library
        for dtype, kind in kinds.items():
            operations = library.operations(kind)
            if operations:
                flops.setdefault(dtype, {})[isa] = {
                    str(t): t * operations / _fastest(library, kind, t) for t in thread_counts()
                }
    if best is None:
        return None
    cache = cache_sizes()
    # Half of a level of its own, a quarter of the last level together, and well beyond it.
    last = max(cache, default="")
    shared = max(available_threads(), 1)
    sizes = {level: size // 2 for level, size in cache.items() if level != last}
    if last:
        sizes[last] = cache[last] // (4 * shared)
    sizes["memory"] = max(4 * cache.get(last, 0), 64 << 20) // shared
    bandwidth = {
        level: {str(t): t * size / _fastest(best, _UPDATE, t, size) for t in thread_counts()}
        for level, size in sizes.items()
    }
    return {"flops": flops, "bandwidth": bandwidth, "cache": cache}


def larger(first: dict[str, Any] | None, second: dict[str, Any] | None) -> dict[str, Any] | None:
    """The higher of each figure in two measurements of the same machine."""
    if first is None or second is None:
        return first or second

    def merge(a: Any, b: Any) -> Any:
        return {k: merge(a[k], b[k]) for k in a} if isinstance(a, dict) else max(a, b)

    merged: dict[str, Any] = merge(first, second)
    return merged


def top(peak: dict[str, Any], dtype: str = "float32", threads: int | None = None) -> float | None:
    """The highest peak of a dtype over the instruction sets; None if it was not measured."""
    key = str(threads or available_threads())
    return max((counts[key] for counts in peak["flops"].get(dtype, {}).values()), default=None)


def floor_seconds(
    peak: dict[str, Any], flops: float, bytes_: float, threads: int, dtype: str = "float32"
) -> float:
    """Least seconds of a step: its arithmetic at the peak, its weights through their level once.

    The level is the smallest one that the weights fit: all threads' caches together, where each core
    has its own.
    """
    peak_flops = top(peak, dtype, threads)
    assert peak_flops is not None
    return (
        flops / peak_flops + bytes_ / peak["bandwidth"][level(peak, bytes_, threads)][str(threads)]
    )


def level(peak: dict[str, Any], bytes_: float, threads: int) -> str:
    """The smallest level of memory that holds so many bytes, divided among the threads."""
    levels = list(peak["cache"].items())
    for i, (name, size) in enumerate(levels):
        if bytes_ <= size * (1 if i == len(levels) - 1 else threads):
            return name
    return "memory"
