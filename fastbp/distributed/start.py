"""What ranks agree on before they train: versions, data, options, and rank 0's first weights."""

from __future__ import annotations

import os
import re
import socket
import sys
import warnings
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from fastbp import checkpoint, schedules, threads
from fastbp.distributed.epochs import OwnRows
from fastbp.distributed.ranks import Ranks
from fastbp.engines import MODULES, choose, native
from fastbp.training import Data

if TYPE_CHECKING:
    from fastbp.mlp import MLP
    from fastbp.plan import Plan
    from fastbp.request import Request

__all__ = ["agree", "data_facts", "plan_facts", "text", "threads_of_rank"]

_NOT_COMPARED = {"threads", "seed"}  # results do not depend on the first; the second is rank 0's


def agree(ranks: Ranks, model: MLP, request: Request) -> None:
    """Compare, and have rank 0's parameters and random state.

    Raises
    ------
    ValueError
        On all ranks, if they differ in something: its name, whose it is, and what rank 0 has.
    """
    with ranks.together():
        facts = _facts(ranks, model, request)
    ranks.compare(facts)
    with ranks.together():
        _check_own(ranks, request.plan, str(facts["engine"]))
    if ranks.rows == "own":
        request.own = OwnRows.of(ranks, request.data)
        with ranks.together():
            request.size(int(request.own.counts.sum()))
    generator = model._generator.bit_generator
    state, seed, request.kept = ranks.from_root(
        lambda: (generator.state, request.plan.seed, model._holder.parameters)
    )
    generator.state = state
    number = request.plan.threads if model._threads else threads_of_rank(ranks)
    request.plan = replace(request.plan, threads=number, seed=seed)
    request.rows_plan = replace(request.rows_plan, threads=number)


def _check_own(ranks: Ranks, plan: Plan, engine: str) -> None:
    """No rank can compute a step whole of whose rows it has some."""
    if ranks.rows == "shared" or ranks.sync:
        return
    lacks = {
        f"engine 'native', got {engine!r}": MODULES[engine] is not native,
        f"precision None, got {plan.precision!r}": plan.precision is not None,
        "batch_size > 1": plan.batch_size == 1,
    }
    for what, lack in lacks.items():
        if lack:
            raise ValueError(f"rows='own' without sync needs {what}")


def _facts(ranks: Ranks, model: MLP, request: Request) -> dict[str, object]:
    """What has to be the same, by names that a user knows."""
    facts = plan_facts(request.rows_plan, model._holder.engine_name)
    facts["rows"] = repr(ranks.rows)
    facts["sync"] = ranks.sync
    for option in ("epochs", "shuffle", "stopping", "checkpoint_every", "sparse_update"):
        facts[option] = text(getattr(request, option))
    facts["checkpoint"] = "one" if request.checkpoint is not None else "none"
    facts["resume"] = "one" if request.resume is not None else "none"
    rate = request.learning_rate
    if isinstance(rate, schedules.ReduceOnPlateau) or ranks.rows == "own":
        facts["learning_rate"] = text(rate)
    else:
        facts["learning_rate"] = schedules.rates(rate, 0, min(request.steps, 1000)).tolist()
    facts["random generator"] = type(model._generator.bit_generator).__name__
    return facts | data_facts(ranks, request.data, request.held_out)


def plan_facts(plan: Plan, engine: str) -> dict[str, object]:
    """Of what computes: versions, the engine and its instructions, and the plan."""
    import fastbp

    name = choose(plan) if engine == "auto" else engine
    facts: dict[str, object] = {
        "version of fastbp": fastbp.__version__,
        "version of NumPy": np.__version__.rpartition(".")[0],
        "byte order": sys.byteorder,
        "engine": name,
    }
    if MODULES[name] is native:
        facts["instruction set (FASTBP_ISA)"] = native.choice(plan.precision or plan.dtype)[0]
    for field in fields(plan):
        if field.name not in _NOT_COMPARED:
            facts[field.name] = text(getattr(plan, field.name))
    return facts


def data_facts(ranks: Ranks, data: Data, held_out: Data | None) -> dict[str, object]:
    """Shapes, and the values where all ranks have the same rows."""
    X, y, weight = data
    facts: dict[str, object] = {
        "shape of X": X.shape if ranks.rows == "shared" else f"(…, {X.shape[1]})",
        "shape of y": y.shape if ranks.rows == "shared" else f"(…{', …' * (y.ndim - 1)})",
        "sample_weight": "none" if weight is None else "one",
    }
    for name, found in checkpoint.fingerprints(data, held_out).items():
        if ranks.rows == "shared" or name.startswith("validation"):
            facts[f"values of {name}"] = found
    return facts


def text(value: object) -> str:
    """As it is shown, without the addresses of functions."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def threads_of_rank(ranks: Ranks) -> int:
    """A rank's share of the CPUs, where ranks of one machine may run on the same ones."""
    number, why = threads.choose()
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    same = ranks.gather((socket.gethostname(), allowed)).count((socket.gethostname(), allowed))
    if len(allowed) == 1 and (os.cpu_count() or 1) > 1 and "OMPI_COMM_WORLD_SIZE" in os.environ:
        warnings.warn(
            f"rank {ranks.rank} may run on one CPU of {os.cpu_count()} only: mpiexec of Open MPI binds "
            "processes to cores; --bind-to none or --map-by slot:PE=N gives it more",
            RuntimeWarning,
            stacklevel=5,
        )
    return number if not why.startswith(threads.ALLOWED) else max(1, number // same)
