"""What runs here and why: the engine, the instruction set, the number of threads."""

from __future__ import annotations

import platform

import numpy as np

from fastbp import losses, threads
from fastbp.engines import choose, jit, native
from fastbp.plan import Plan
from fastbp.stages import dense

__all__ = ["describe", "show_config"]


def describe() -> dict[str, str]:
    """Return what `show_config` prints, as a dict of name to value."""
    from fastbp import __version__

    count, why = threads.choose()
    facts = {
        "fastbp": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.machine()} ({platform.system()})",
        "threads": f"{count} ({why})",
    }
    engine = choose(Plan(dense((1, 1), ()), losses.get("squared_error")))
    return facts | {"engine": engine} | native.describe() | jit.describe()


def show_config() -> None:
    """Print which engine, instruction set and number of threads fastbp uses, and why.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.show_config()  # doctest: +ELLIPSIS
    fastbp ...0.1.0...
    """
    facts = describe()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
