"""The native engine: ahead-of-time compiled modules, one per instruction set and dtype.

`engine.pyx` and what it includes are compiled once for each of them (see setup.py); the best set that
this CPU offers is taken when the first engine is made, or the one that FASTBP_ISA names.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

from fastbp._validation import nearest_name

if TYPE_CHECKING:
    from fastbp.engines import Engine, Plan

INSTRUCTION_SETS = ("avx512", "avx2", "baseline")  # best first


def _module(isa: str, dtype: str) -> Any:
    return importlib.import_module(f"fastbp.engines.native.{isa}.{dtype}.engine")


@functools.cache
def choice() -> tuple[str | None, str]:
    """The instruction set in use (None: the native engine is not available), and why.

    Raises
    ------
    ValueError
        If FASTBP_ISA names an instruction set that is unknown, not built or not offered by this CPU.
    """
    try:
        cpu_offers = _module("baseline", "float32").cpu_offers
    except ImportError as error:
        return None, f"no compiled module ({error})"
    built = [isa for isa in INSTRUCTION_SETS if _built(isa)]
    usable = [isa for isa in built if cpu_offers(isa)]
    wanted = os.environ.get("FASTBP_ISA", "").strip()
    if not wanted:
        return usable[0], "the best that is built and that this CPU offers"
    if wanted not in INSTRUCTION_SETS:
        raise ValueError(f"FASTBP_ISA: {nearest_name('instruction set', wanted, INSTRUCTION_SETS)}")
    if wanted not in usable:
        lack = "this CPU does not offer it" if wanted in built else "it is not built"
        raise ValueError(f"FASTBP_ISA={wanted}: {lack}; usable: {', '.join(usable)}")
    return wanted, "FASTBP_ISA names it"


def _built(isa: str) -> bool:
    return importlib.util.find_spec(f"fastbp.engines.native.{isa}.float32.engine") is not None


def available() -> bool:
    """Whether the native engine can be used here."""
    return choice()[0] is not None


def reason() -> str:
    """Why the instruction set was chosen, or why the engine is not available."""
    return choice()[1]


def describe() -> dict[str, str]:
    """What `fastbp.show_config` says of the native engine."""
    isa, why = choice()
    return {"native engine": "not available" if isa is None else isa, "why": why}


def create(plan: Plan) -> Engine:
    """The native engine for `plan`."""
    isa, why = choice()
    if isa is None:
        raise ValueError(f"engine 'native' is not available: {why}")
    engine: Engine = _module(isa, plan.dtype).Engine(plan)
    return engine
