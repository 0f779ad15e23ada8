"""The native engine: ahead-of-time compiled modules, one per instruction set and kind of number.

`engine.pyx` and what it includes are compiled once for each of them (see setup.py). The kinds are the
dtypes, and "bf16" for the plans of that precision. The best instruction set that this CPU offers is
taken when the first engine is made, or the one that FASTBP_ISA names. AMX is tried out before it is
first used.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

from fastbp._validation import nearest_name
from fastbp.engines import jit

if TYPE_CHECKING:
    from fastbp.activations import Activation
    from fastbp.engines import Engine
    from fastbp.losses import Loss
    from fastbp.plan import Plan

# Best first. The first two have instructions for bf16 and modules of that kind only; with the others
# bf16 is computed by float32 instructions.
INSTRUCTION_SETS = ("amx", "avx512_bf16", "avx512", "avx2", "baseline")
BF16_INSTRUCTIONS = INSTRUCTION_SETS[:2]
FIRST = "baseline", "float32"  # the module that is always there, and has the threads of all
BF16_WIDTH = 32  # where no layer has so many units, rounding costs more than it saves

# What engines made from now on take things to cost, where not what costs.pxi says: for tests and
# measurements.
COSTS: dict[str, int] = {}


@functools.cache
def module(isa: str, kind: str) -> Any:
    """The compiled module for an instruction set and a kind of number."""
    found = importlib.import_module(f"fastbp.engines.native.{isa}.{kind}.engine")
    if (isa, kind) == FIRST:
        atexit.register(found.end_threads)
    else:
        found.use_threads(module(*FIRST).threads_address())
    return found


def built(isa: str, kind: str) -> bool:
    """Whether this module was compiled."""
    try:
        return importlib.util.find_spec(f"fastbp.engines.native.{isa}.{kind}.engine") is not None
    except ModuleNotFoundError:
        return False


# What the trial of AMX found; None before it.
_amx_fault: str | None = None


def try_amx() -> None:
    """Before the first use of AMX in this process: leave it alone from now on if it computes wrongly."""
    global _amx_fault
    if _amx_fault is not None:
        return
    from fastbp.engines.native.proof import disagreement

    try:
        _amx_fault = disagreement(module("amx", "bf16").Engine)
    except RuntimeError as error:
        _amx_fault = str(error)
    usable.cache_clear()
    choice.cache_clear()


@functools.cache
def usable(kind: str = "float32") -> tuple[str, ...]:
    """The instruction sets that have a module of this kind and that this CPU offers, best first."""
    if not built(*FIRST):
        return ()
    offers = module(*FIRST).cpu_offers
    return tuple(
        isa
        for isa in INSTRUCTION_SETS
        if built(isa, kind) and offers(isa) and not (isa == "amx" and _amx_fault)
    )


@functools.cache
def choice(kind: str = "float32") -> tuple[str | None, str]:
    """The instruction set in use (None: the native engine is not available), and why.

    Raises
    ------
    ValueError
        If FASTBP_ISA names an instruction set that is unknown, not built or not offered by this CPU.
    """
    wanted = os.environ.get("FASTBP_ISA", "").strip()
    if wanted and wanted not in INSTRUCTION_SETS:
        raise ValueError(f"FASTBP_ISA: {nearest_name('instruction set', wanted, INSTRUCTION_SETS)}")
    if not usable(kind):
        return None, "no compiled module; install fastbp anew where there is a C compiler"
    if not wanted:
        return usable(kind)[0], "the best that is built and that this CPU offers"
    if wanted not in usable() + usable("bf16") and not (wanted == "amx" and _amx_fault):
        lack = "it is not built"
        if built(wanted, "float32") or built(wanted, "bf16"):
            lack = "this CPU does not offer it"
        raise ValueError(f"FASTBP_ISA={wanted}: {lack}; usable: {', '.join(usable('bf16'))}")
    no_better = INSTRUCTION_SETS[INSTRUCTION_SETS.index(wanted) :]
    for isa in usable(kind):
        if isa in no_better:
            return isa, "FASTBP_ISA names it"
    return None, f"no compiled module for {kind} at FASTBP_ISA={wanted}"


def available() -> bool:
    """Whether the native engine can be used here."""
    return choice()[0] is not None


def reason() -> str:
    """Why the instruction set was chosen, or why the engine is not available."""
    return choice()[1]


def describe() -> dict[str, str]:
    """What `fastbp.show_config` says of the native engine."""
    isa, why = choice()
    if isa is None:
        return {"native engine": "not available", "why": why}
    bf16 = choice("bf16")[0] or "not available"
    if bf16 in INSTRUCTION_SETS and bf16 not in BF16_INSTRUCTIONS:
        bf16 = f"emulated by {bf16}"
    if bf16 == "amx" and _amx_fault is None:
        bf16 += " (tried out before its first use)"
    if _amx_fault:
        bf16 += f" (amx is left alone: {_amx_fault})"
    if module(*FIRST).system_refuses("amx"):
        bf16 += " (the CPU has amx, but the operating system does not allow its use)"
    return {"native engine": isa, "why": why, "bf16": bf16}


def _kind(plan: Plan) -> str:
    """Of number; narrow networks are computed in float32 for any precision."""
    wide = max(plan.layer_sizes) >= BF16_WIDTH
    return plan.precision if plan.precision and wide else plan.dtype


def lacks(plan: Plan) -> str | None:
    """What of `plan` the engine does not have, as the end of a sentence that begins with its name."""
    isa, why = choice(_kind(plan))
    if isa is None:
        return f"is not available: {why}"
    declared: list[Activation | Loss] = [*plan.activations, plan.loss]
    users = [f.name for f in declared if f.function is not None]
    if users and not jit.available():
        names = ", ".join(users)
        return f"needs Numba for functions written in Python (here {names}): {jit.reason()}"
    return None


def create(plan: Plan) -> Engine:
    """The native engine for `plan`, of which it lacks nothing."""
    kind = _kind(plan)
    if choice(kind)[0] == "amx":
        try_amx()
    engine: Engine = module(choice(kind)[0] or "", kind).Engine(plan, COSTS)
    return engine
