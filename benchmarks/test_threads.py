"""Thread scaling: seconds of one step on 1, 2, 4, … threads."""

import pytest

from benchmarks import cases, groups, peak
from benchmarks.conftest import CLOCK

CASES = [cases.CASES["mnist-medium"]]
ALL_CASES = [cases.CASES["mnist-small"], cases.CASES["large"]]
CONTENDERS = groups.SCALING


def name_of(case: cases.Case) -> str:
    return case.label


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("threads", peak.thread_counts())
def test_threads(case, contender, threads, measured, pool, report):
    records = measured(
        ("threads", case),
        lambda: groups.train(pool, case, CONTENDERS, 5, peak.thread_counts(), "threads"),
    )
    chosen = [r for r in records if r["most_threads"] == threads]
    report(chosen, contender)
