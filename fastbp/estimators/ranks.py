"""Fits of an estimator that ranks of MPI share: who they are, and what they agree on before they begin.

All ranks have the same rows and the same estimator, but for what does not change its results: n_jobs,
callbacks and what it prints. Draws are rank 0's. How steps are shared: `fastbp.distributed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from fastbp.checkpoint import fingerprints
from fastbp.estimators.parallel import is_in_worker
from fastbp.plan import Plan
from fastbp.rows import Data

if TYPE_CHECKING:
    from fastbp.distributed.ranks import Ranks

__all__ = ["agree", "draws_of_all", "joined", "parameter_facts"]

_OWN = {"callbacks", "comm", "n_jobs", "progress", "random_state", "verbose"}


@contextmanager
def joined(estimator: Any) -> Iterator[Ranks | None]:
    """The ranks of an estimator's ``comm`` while it is fitted; None where it has none."""
    if estimator.comm is None:
        yield None
        return
    from fastbp.distributed.ranks import join

    if getattr(estimator, "solver", None) == "lbfgs":
        raise ValueError("comm needs a stochastic solver, but solver is 'lbfgs'")
    if is_in_worker():
        raise ValueError("comm is for fits one after the other, but this one runs beside others")
    ranks = join(estimator.comm)
    with ranks.training():
        yield ranks


def draws_of_all(ranks: Ranks, random_state: Any) -> Any:
    """A RandomState that draws on every rank what rank 0's does; there it is that of the user."""
    own: Any = np.random.RandomState(0)
    with ranks.together():
        given = check_random_state(random_state)
        own = given if ranks.rank == 0 else own
    own.set_state(ranks.from_root(own.get_state))
    return own


def parameter_facts(estimator: Any) -> dict[str, str]:
    """The parameters that change what is fitted, as texts."""
    from fastbp.distributed.start import text

    given = estimator.get_params(deep=False)
    return {name: text(value) for name, value in given.items() if name not in _OWN}


def agree(ranks: Ranks, estimator: Any, plan: Plan, data: Data) -> Plan:
    """Compare; returns the plan with the threads that this rank is to use.

    Raises
    ------
    ValueError
        On all ranks, if they differ in something: its name, whose it is, and what rank 0 has.
    """
    from fastbp.distributed.start import data_facts, plan_facts, threads_of_rank

    with ranks.together():
        facts = plan_facts(plan, estimator.engine) | data_facts(ranks, data, None)
        for name, value in parameter_facts(estimator).items():
            facts.setdefault(name, value)
        arrays = [*estimator.coefs_, *estimator.intercepts_]
        values = np.concatenate([np.ravel(a) for a in arrays]).astype(np.float64)
        facts["coefs_"] = fingerprints((values, values, None), None)["y"]
    ranks.compare(facts)
    if estimator.n_jobs is not None:
        return plan
    return replace(plan, threads=threads_of_rank(ranks))
