"""How many threads to use: what was set, else what the environment says, else what is allowed.

The machine's allowance is the CPU affinity of this process, and the CPU quota of its container
(cgroup), rounded up, if that is less.
"""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING

from fastbp._validation import check_integer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["choose", "get_num_threads", "set_num_threads"]

ALLOWED = ("container", "CPUs")  # how `choose` begins to say that nobody asked for a number

_set: int | None = None


def set_num_threads(threads: int | None) -> None:
    """Set the number of threads of every model that has no ``threads`` of its own.

    Takes effect at a model's next `fit` or `partial_fit`, or its first use.
    Results do not depend on it.

    Parameters
    ----------
    threads : int or None
        ≥ 1; None goes back to what the environment or the machine says.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not an integer ≥ 1.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.set_num_threads(2)
    >>> fastbp.get_num_threads()
    2
    >>> fastbp.set_num_threads(None)
    """
    global _set
    _set = None if threads is None else check_integer("threads", threads, minimum=1)


def get_num_threads() -> int:
    """Return the number of threads a model without ``threads`` of its own uses at most.

    In this order: `set_num_threads`, the environment variables FASTBP_NUM_THREADS and
    OMP_NUM_THREADS, and what the machine allows (CPU affinity and container limits).

    Raises
    ------
    ValueError
        If the environment variable that applies is not an integer ≥ 1.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.get_num_threads() >= 1
    True
    """
    return choose()[0]


def asked_for() -> int:
    """The number of threads that somebody asked for, or 1."""
    number, why = choose()
    return 1 if why.startswith(ALLOWED) else number


def choose() -> tuple[int, str]:
    """Return the number of threads, and why."""
    if _set is not None:
        return _set, "set_num_threads"
    for name in ("FASTBP_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").strip()
        if value:
            # OpenMP allows a list, one number for each level of nesting; ours is the outermost.
            first = value.split(",")[0].strip() if name.startswith("OMP") else value
            if not (first.isascii() and first.isdigit() and int(first) >= 1):
                raise ValueError(
                    f"environment variable {name} must be an integer ≥ 1, got {value!r}"
                )
            return int(first), f"environment variable {name}"
    cpus = _affinity()
    quota = _container_quota()
    if quota is not None and math.ceil(quota) < cpus:
        return math.ceil(quota), "container CPU quota"
    return cpus, "CPUs available to this process"


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _container_quota() -> float | None:
    from pathlib import Path  # slow to import

    return cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))


def cgroup_quota(membership: Path, root: Path) -> float | None:
    """Smallest CPU quota, in CPUs, of the cgroups this process is in; None if there is no limit.

    Reads version 2 (``cpu.max``) and version 1 (``cpu.cfs_quota_us``); a limit of any ancestor
    holds too. Inside a container the listed path may not exist below `root`: its ancestors, of
    which the last is the mount point itself, still do.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = [root / controllers, root / "cpu"] if controllers else [root, root / "unified"]
        for mount in dict.fromkeys(mounts):
            leaf = mount / path.lstrip("/")
            for group in (leaf, *leaf.parents):
                if not group.is_relative_to(mount):
                    break
                quotas.append(_read_quota(group))
    return min((q for q in quotas if q is not None), default=None)


def _read_quota(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return cpus if cpus > 0 else None  # version 1 writes −1 for no limit
