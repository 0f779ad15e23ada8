"""Networks for a table that ranks of MPI share: each trains some of them, and then all have all.

All ranks have the same rows and the same estimator, but for n_jobs, or rank 0 sends what is to be
trained on what. What is drawn is rank 0's. Networks do not depend on each other, so they have the bits
of one process. How ranks share the steps of one network: `fastbp.distributed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastbp.estimators.parallel import threads_for
from fastbp.estimators.ranks import parameter_facts
from fastbp.tabular.training import Data, Job, Member, planned, said, side_by_side, watch_for

if TYPE_CHECKING:
    from fastbp.distributed.ranks import Ranks

__all__ = ["compare", "train_shared"]


def train_shared(
    ranks: Ranks,
    jobs: Sequence[Job],
    data: Data,
    n_jobs: int | None,
    limit: float | None,
    started: float,
    tell: Callable[[int, Member], None] | None = None,
) -> tuple[list[Member], list[str]]:
    """`train_all`, where a rank has every P-th of the jobs; all ranks return the same.

    Where time is short, rank 0 says for what there is enough. `tell` hears of this rank's members when
    they are trained, and then of the others.
    """
    from fastbp.distributed.start import threads_of_rank

    threads = threads_of_rank(ranks) if n_jobs is None else threads_for(n_jobs)
    watch = watch_for(limit, started, lambda: ranks.interrupted)

    def enough() -> tuple[int, int]:
        some = planned(jobs, data, threads * ranks.size, watch)
        return len(some), some[0].recipe.epochs

    def tell_own(index: int, member: Member) -> None:
        if tell is not None:
            tell(ranks.rank + index * ranks.size, member)

    count, epochs = ranks.from_root(enough)
    some = [replace(j, recipe=replace(j.recipe, epochs=epochs)) for j in jobs[:count]]
    with ranks.together():
        own = side_by_side(some[ranks.rank :: ranks.size], data, threads, watch, tell_own)
    found = ranks.gather(own)
    members = []
    for i in range(count):  # up to the first that a rank had no time for
        of_rank = found[i % ranks.size]
        if i // ranks.size >= len(of_rank):
            break
        members.append(of_rank[i // ranks.size])
        if tell is not None and i % ranks.size != ranks.rank:
            tell(i, members[-1])
    return members, said(members, len(jobs), jobs[0].recipe.epochs, limit)


def compare(ranks: Ranks, job: Job, data: Data | None = None, estimator: Any = None) -> None:
    """Have all ranks train the same: networks like this job's; data and estimator where all have them.

    Raises
    ------
    ValueError
        On all ranks, if they differ in something: its name, whose it is, and what rank 0 has.
    """
    from fastbp.distributed.start import data_facts, plan_facts

    with ranks.together():
        facts = plan_facts(job.plan(1), "auto")
        if data is not None:
            facts |= data_facts(ranks, data, job.aside) | parameter_facts(estimator)
    ranks.compare(facts)
