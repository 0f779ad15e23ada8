"""The JIT engine: compiled by Numba at run time, for this CPU; takes functions written by the user.

It needs no C compiler. target.py and layout.py say what is compiled for and how arrays lie,
kernels/ is what is compiled, library.py keeps it on disk, engine.py drives it. Only a process that
has to compile imports Numba.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

from fastbp.stages import PLAIN, Dense

if TYPE_CHECKING:
    from fastbp.engines import Engine
    from fastbp.plan import Plan


@functools.cache
def available() -> bool:
    """Whether the engine can be used here."""
    return importlib.util.find_spec("numba") is not None


def reason() -> str:
    """Why the engine is or is not available."""
    return (
        "numba is installed" if available() else "numba is not installed (pip install fastbp[jit])"
    )


def lacks(plan: Plan) -> str | None:
    """What of `plan` the engine does not have, as the end of a sentence that begins with its name."""
    if not available():
        return f"is not available: {reason()}"
    if plan.precision is not None:
        return f"has no precision {plan.precision!r}; engines 'native' and 'reference' have"
    for stage in plan.stages:
        if type(stage) is not Dense:
            kind = type(stage).__name__
            return f"has no stage of kind {kind}; engines 'native' and 'reference' have"
        if stage.factors != PLAIN:
            return "has no factors of rates; engines 'native' and 'reference' have"
    if plan.loss.levels:
        return "has no levels of a loss; engines 'native' and 'reference' have"
    if plan.label_smoothing:
        return "has no label_smoothing; engines 'native' and 'reference' have"
    return None


def create(plan: Plan) -> Engine:
    """The JIT engine for `plan`, of which it lacks nothing; compiles what is not in the cache."""
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
        If Numba is not installed, or the plan has a precision or a stage that the JIT engine lacks.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.warm_up(fastbp.MLP([4, 16, 3]).plan)
    """
    from fastbp.engines import create

    create(plan, "jit")
