"""The JIT engine: compiled by Numba at run time, for this CPU; takes functions written by the user.

It needs no C compiler. target.py and layout.py say what is compiled for and how arrays lie,
kernels/ is what is compiled, library.py keeps it on disk, engine.py drives it. Only a process that
has to compile imports Numba.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastbp.engines import Engine, Plan


@functools.cache
def available() -> bool:
    """Whether the engine can be used here."""
    return importlib.util.find_spec("numba") is not None


def reason() -> str:
    """Why the engine is or is not available."""
    return (
        "numba is installed" if available() else "numba is not installed (pip install fastbp[jit])"
    )


def create(plan: Plan) -> Engine:
    """The JIT engine for `plan`; compiles what is not in the cache."""
    if plan.precision is not None:
        raise ValueError(
            f"engine 'jit' has no precision {plan.precision!r}; engines 'native' and 'reference' have"
        )
    if not available():
        raise ValueError(f"engine 'jit' is not available: {reason()}")
    from fastbp.engines.jit.engine import JitEngine

    return JitEngine(plan)


def describe() -> dict[str, str]:
    """What `fastbp.show_config` says of the JIT engine."""
    return {"jit engine": reason()}


def warm_up(plan: Plan) -> None:
    """Compile now, or load from the cache, what the JIT engine needs for `plan`.

    For servers that must not compile when the first request comes.

    Parameters
    ----------
    plan : Plan
        Of a model: `MLP.plan`.

    Raises
    ------
    ValueError
        If Numba is not installed, or the plan's precision is one that the JIT engine does not have.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.warm_up(fastbp.MLP([4, 16, 3]).plan)
    """
    create(plan)
