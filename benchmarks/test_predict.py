"""Predictions: the latency of a single row, and many rows at once."""

import pytest

from benchmarks import cases, groups
from benchmarks.conftest import CLOCK

CASES = [
    (case, rows) for case in (cases.SINGLE_ROWS, cases.CASES["mnist-medium"]) for rows in (1, 4096)
]
CONTENDERS = [name for name in groups.PREDICTING if name != "torch-compile"]


def name_of(case: tuple[cases.Case, int]) -> str:
    return f"{'-'.join(map(str, case[0].layer_sizes))}, {case[1]} rows"


@pytest.mark.benchmark(timer=CLOCK)
def test_predict(case, contender, measured, pool, report):
    net, rows = case
    records = measured(case, lambda: groups.predict(pool, net, rows, 5, CONTENDERS))
    report(records, contender)
