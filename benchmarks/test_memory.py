"""Memory: the most that a training process has, in MB where pytest-benchmark says seconds."""

import pytest

from benchmarks import groups
from benchmarks.conftest import CLOCK

CONTENDERS = groups.STARTING


@pytest.mark.benchmark(timer=CLOCK)
def test_peak_memory(contender, measured, report):
    def measure():
        records = groups.memory()
        for record in records:
            record["seconds"] = [record["memory"] / 1e6]
            record["group"] = "memory, MB"
        return records

    report(measured("memory", measure), contender)
