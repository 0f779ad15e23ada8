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


def module(isa: str, dtype: str) -> Any:
    """The compiled module for an instruction set and a dtype."""
    return importlib.import_module(f"fastbp.engines.native.{isa}.{dtype}.engine")


def built(isa: str) -> bool:
    """Whether the modules of this instruction set were compiled."""
    try:
        return importlib.util.find_spec(f"fastbp.engines.native.{isa}.float32.engine") is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def usable() -> tuple[str, ...]:
    """The instruction sets that are compiled and that this CPU offers, best first."""
    if not built("baseline"):
        return ()
    offers = module("baseline", "float32").cpu_offers
    return tuple(isa for isa in INSTRUCTION_SETS if built(isa) and offers(isa))


@functools.cache
def choice() -> tuple[str | None, str]:
    """The instruction set in use (None: the native engine is not available), and why.

    Raises
    ------
    ValueError
        If FASTBP_ISA names an instruction set that is unknown, not built or not offered by this CPU.
    """
    wanted = os.environ.get("FASTBP_ISA", "").strip()
    if wanted and wanted not in INSTRUCTION_SETS:
        raise ValueError(f"FASTBP_ISA: {nearest_name('instruction set', wanted, INSTRUCTION_SETS)}")
    if not usable():
        return None, "no compiled module"
    if not wanted:
        return usable()[0], "the best that is built and that this CPU offers"
    if wanted not in usable():
        lack = "this CPU does not offer it" if built(wanted) else "it is not built"
        raise ValueError(f"FASTBP_ISA={wanted}: {lack}; usable: {', '.join(usable())}")
    return wanted, "FASTBP_ISA names it"


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
    engine: Engine = module(isa, plan.dtype).Engine(plan)
    return engine
