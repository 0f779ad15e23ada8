"""pytest-benchmark's view of the measurements.

All contenders of a case are measured together, round by round, when the first of them is asked for;
each test then hands its contender's times to pytest-benchmark through a clock that shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks import peak, tables
from benchmarks.contenders import CONTENDERS, missing
from benchmarks.groups import Pool, Record


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all", action="store_true", help="all nets, widths, batches and contenders; minutes"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test of a module its `CASES`, and `ALL_CASES` as well with --all."""
    if "case" in metafunc.fixturenames:
        every = metafunc.config.getoption("--all", default=False)
        chosen = getattr(metafunc.module, "ALL_CASES", []) if every else []
        metafunc.parametrize("case", [*metafunc.module.CASES, *chosen], ids=metafunc.module.name_of)
    if "contender" in metafunc.fixturenames:
        metafunc.parametrize("contender", metafunc.module.CONTENDERS)


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with Pool() as running:
        yield running


@pytest.fixture(scope="session")
def limits() -> Any:
    return peak.measure()


@pytest.fixture(scope="session")
def measured() -> Callable[..., list[Record]]:
    """Call a function of `groups` once for each key, and remember what it returns."""
    results: dict[Any, list[Record]] = {}

    def once(key: Any, measure: Callable[[], list[Record]]) -> list[Record]:
        if key not in results:
            results[key] = measure()
        return results[key]

    return once


@pytest.fixture
def report(
    benchmark: Any, pool: Pool, request: pytest.FixtureRequest
) -> Callable[[list[Record], str], None]:
    """Hand one contender's record to pytest-benchmark, with its ratio and share of the peak."""

    def hand_over(records: list[Record], contender: str) -> None:
        row = {r["contender"]: r for r in records}
        if contender not in row:
            reason = pool.missing.get(contender)
            if reason is None and contender in CONTENDERS:
                reason = missing(contender)
            pytest.skip(f"{contender}: {reason or 'has no such kernel'}")
        record = row[contender]
        benchmark.group = f"{record['group']}: {record['case']}"
        faster = tables.times_faster_than_best(row)
        if faster is not None:
            benchmark.extra_info["fastbp, times the best peer's speed"] = tables.times(faster)
        if record.get("flops"):
            share = tables.share_of_peak(record, request.getfixturevalue("limits"))
            benchmark.extra_info["share of peak"] = tables.percent(share)
        seconds = iter(record["seconds"])
        rounds = len(record["seconds"])
        benchmark.pedantic(lambda: CLOCK.advance(next(seconds)), rounds=rounds)

    return hand_over
