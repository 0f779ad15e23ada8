"""What was measured on, and when."""

from __future__ import annotations

import datetime
import itertools
import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import peak
from benchmarks.worker import ROOT, available_threads


def describe() -> dict[str, Any]:
    """CPU, caches, memory, system, compiler, revision and date, as far as they can be found out."""
    return {
        "cpu": _cpu(),
        "threads": available_threads(),
        "caches": ", ".join(f"{k} {_size(v)}" for k, v in peak.cache_sizes().items()),
        "memory": _size(_memory()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "compiler": _output([os.environ.get("CC", "cc"), "--version"]).partition("\n")[0],
        "revision": _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d"),
    }


class Others:
    """How many CPUs other programs keep busy, from when this is made."""

    def __init__(self) -> None:
        self._start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Time, CPU seconds of the machine, CPU seconds of this process and its ended children."""
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        except OSError:
            return time.monotonic(), 0.0, 0.0
        ticks = map(int, fields)
        user, nice, system, _idle, _wait, irq, softirq = itertools.islice(ticks, 7)
        busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy, sum(os.times()[:4])

    def cpus(self) -> float:
        """Average since then; only right when this process has no running children."""
        elapsed, busy, own = (b - a for a, b in zip(self._start, self._now(), strict=True))
        return max(0.0, (busy - own) / elapsed)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = re.search(r"^model name\s*:\s*(.*)$", info.read_text(), re.MULTILINE)
        if name:
            flags = info.read_text()
            isa = [
                label
                for label, flag in (
                    ("AVX2", " avx2"),
                    ("AVX-512", " avx512f"),
                    ("AVX-512 BF16", " avx512_bf16"),
                    ("AMX", " amx_tile"),
                )
                if flag in flags
            ]
            return f"{name[1]} ({', '.join(isa)})" if isa else name[1]
    return platform.processor() or platform.machine()


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.0f} TB"


def _output(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
