"""Networks for a table that ranks of MPI share: each trains some of them, and then all have all.

All ranks have the same rows and the same estimator, but for n_jobs. What is drawn is rank 0's. Networks
do not depend on each other, so they have the bits of one process. How ranks share the steps of one
network: `fastbp.distributed`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastbp.estimators.parallel import threads_for
from fastbp.estimators.ranks import parameter_facts
from fastbp.tabular.training import Member, Work, planned, said, side_by_side, watch_for

if TYPE_CHECKING:
    from fastbp.distributed.ranks import Ranks

__all__ = ["train_shared"]


def train_shared(
    ranks: Ranks, estimator: Any, work: Work, started: float
) -> tuple[list[Member], list[str]]:
    """`train_all`, where a rank has every P-th of the jobs; all ranks return the same.

    Where time is short, rank 0 says for what there is enough.

    Raises
    ------
    ValueError
        On all ranks, if they differ in something: its name, whose it is, and what rank 0 has.
    """
    from fastbp.distributed.start import threads_of_rank

    _compare(ranks, estimator, work)
    given = estimator.n_jobs
    threads = threads_of_rank(ranks) if given is None else threads_for(given)
    jobs, limit = work.jobs, estimator.time_limit
    watch = watch_for(limit, started, lambda: ranks.interrupted)

    def enough() -> tuple[int, int]:
        some = planned(jobs, work.data, threads * ranks.size, watch)
        return len(some), some[0].recipe.epochs

    count, epochs = ranks.from_root(enough)
    some = [replace(j, recipe=replace(j.recipe, epochs=epochs)) for j in jobs[:count]]
    with ranks.together():
        own = side_by_side(some[ranks.rank :: ranks.size], work.data, threads, watch)
    found = ranks.gather(own)
    members = []
    for i in range(count):  # up to the first that a rank had no time for
        of_rank = found[i % ranks.size]
        if i // ranks.size >= len(of_rank):
            break
        members.append(of_rank[i // ranks.size])
    return members, said(members, len(jobs), jobs[0].recipe.epochs, limit)


def _compare(ranks: Ranks, estimator: Any, work: Work) -> None:
    from fastbp.distributed.start import data_facts, plan_facts

    with ranks.together():
        job = work.jobs[0]
        facts = plan_facts(job.plan(1), "auto") | data_facts(ranks, work.data, job.aside)
        facts |= parameter_facts(estimator)
    ranks.compare(facts)
