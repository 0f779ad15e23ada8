"""Setting the threads of the BLAS that NumPy and SciPy call, where threadpoolctl is installed."""

from __future__ import annotations

import importlib.util

AVAILABLE = importlib.util.find_spec("threadpoolctl") is not None


def choices(threads: int) -> tuple[int, ...]:
    return (1, threads) if AVAILABLE and threads > 1 else (threads,)


def limit(threads: int) -> None:
    """Set the number of threads, of all BLAS libraries that are loaded."""
    if AVAILABLE:
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)
