"""How much memory this process takes at most."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["growth", "peak"]

_ME = Path("/proc/self")


def peak() -> int:
    """Most bytes this process has had in memory."""
    if (_ME / "status").exists():  # the other source counts what the parent had, too
        return _status("VmHWM")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def growth(run: Callable[[], object]) -> int:
    """Most bytes beyond those that there are now, while `run` runs; on Linux."""
    (_ME / "clear_refs").write_text("5")  # the peak is what there is now
    before = _status("VmRSS")
    run()
    return peak() - before


def _status(name: str) -> int:
    lines = (_ME / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024
