"""Start-up: importing a library in a fresh process, and the first epoch in a fresh process."""

import pytest

from benchmarks import groups
from benchmarks.conftest import CLOCK

CASES = ["import", "first epoch"]
CONTENDERS = groups.STARTING


def name_of(case: str) -> str:
    return case


@pytest.mark.benchmark(timer=CLOCK)
def test_startup(case, contender, measured, report):
    measure = groups.import_time if case == "import" else groups.first_fit
    report(measured(case, lambda: measure(3)), contender)
