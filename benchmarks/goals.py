"""What fastbp is meant to reach, as plain numbers, and what a run measured of it.

Nets and batch sizes are named as in `cases.py`. Ratios are taken side by side, within a round; shares
are of the arithmetic peak that this CPU was measured to have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from benchmarks import cases, tables
from benchmarks.groups import Record
from benchmarks.interleave import Spread, ratio, spread

LARGE = ("mnist-large-batch", "large", "very-large")
WIDE = ("mnist-medium", *LARGE)

# Speed of a training step, in that of the fastest peer of the same dtype; in float64 the same
BEST_PEER = {
    "tiny": 10.0,
    "small": 6.0,
    "mnist-online": 5.0,
    "mnist-small": 2.5,
    "mnist-medium": 1.7,
    **dict.fromkeys(LARGE, 1.3),
}
TORCH = {"tiny": 80.0}
STEP_SECONDS = {"tiny": 1.5e-6}
PEAK_SHARE = dict.fromkeys(LARGE, 0.88)
# Speed on two threads, in that on one
TWO_THREADS = {"tiny": 1.0, "small": 1.0, "mnist-small": 1.9, **dict.fromkeys(WIDE, 1.9)}
OPTIMIZER_TIME = 1.1  # of a step of plain SGD, on wide nets

# In bf16, on a CPU with AMX
BF16_AUTOCAST = dict.fromkeys(LARGE, 4.0)  # in PyTorch's speed with bf16 autocast
BF16_ANY_TORCH = {"mnist-medium": 2.0}  # in PyTorch's, in the fastest of its ways
BF16_PEAK_SHARE = dict.fromkeys(LARGE, 0.4)
BF16_FLOAT32 = 1.0  # in fastbp's own speed in float32, on every net

SINGLE_ROW_SECONDS = 5e-6
SINGLE_ROW = {"torch": 2.5, "sklearn": 25.0}
BULK_BEST_PEER = 1.3
BULK_PEAK_SHARE = 0.88
BULK_BF16_AUTOCAST = 4.0

IMPORT_SECONDS = 0.1  # beyond what Python itself takes


class Line(NamedTuple):
    """One goal; `measured` is None if this run lacks what it compares."""

    case: str
    what: str
    goal: float
    measured: Spread | None
    unit: Literal["×", "%", "s"] = "×"
    at_most: bool = False

    @property
    def reached(self) -> str:
        """Whether the median reaches the goal, or at least one of the quartiles does."""
        if self.measured is None:
            return "not measured"
        median, low, high = (-v for v in self.measured) if self.at_most else self.measured
        goal = -self.goal if self.at_most else self.goal
        if median >= goal:
            return "yes"
        return "within the spread" if max(low, high) >= goal else "no"


def lines(results: dict[str, Any]) -> Iterator[Line]:
    """Every goal that is a matter of the nets, dtypes and parts of this run."""
    limits = results["limits"]
    training = _by_name(results["training"])
    for name, row in training.items():
        yield from _float32(name, row, limits)
    for name, row in _by_name(results["float64"]).items():
        faster = tables.times_faster_than_best(row)
        what = "speed, in the fastest float64 peer's"
        yield Line(_label(row), what, BEST_PEER[name], faster)
    for name, row in training.items():
        yield from _bf16(name, row, limits)
    yield from _two_threads(results["threads"])
    for row in tables.by_case(results["optimizers"]).values():
        for optimizer, record in row.items():
            if optimizer != "sgd":
                took = ratio(record["seconds"], row["sgd"]["seconds"])
                what = f"time of a step with {optimizer}, in plain SGD's"
                yield Line(record["case"], what, OPTIMIZER_TIME, took, at_most=True)
    yield from _predict(results["predict"], limits)
    took = {r["contender"]: r["seconds"] for r in results["import"]}
    beyond = [a - b for a, b in zip(took["fastbp"], took["Python alone"], strict=True)]
    what = "time beyond Python's own start"
    yield Line("import fastbp", what, IMPORT_SECONDS, spread(beyond), "s", at_most=True)


def _float32(name: str, row: dict[str, Record], limits: Any) -> Iterator[Line]:
    case, ours = _label(row), row.get("fastbp")
    faster = tables.times_faster_than_best(row)
    yield Line(case, "speed, in the fastest float32 peer's", BEST_PEER[name], faster)
    if name in TORCH:
        faster = tables.times_faster(row, "torch")
        yield Line(case, "speed, in PyTorch's", TORCH[name], faster)
    if name in STEP_SECONDS:
        took = spread(ours["seconds"]) if ours else None
        yield Line(case, "time of a step", STEP_SECONDS[name], took, "s", at_most=True)
    if name in PEAK_SHARE:
        share = tables.share_spread(ours, limits)
        yield Line(case, "share of the float32 peak", PEAK_SHARE[name], share, "%")


def _bf16(name: str, row: dict[str, Record], limits: Any) -> Iterator[Line]:
    case, ours = _label(row), "fastbp-bf16"
    if name in BF16_AUTOCAST:
        faster = tables.times_faster_in_bf16(row)
        what = "bf16: speed, in PyTorch's with bf16 autocast"
        yield Line(case, what, BF16_AUTOCAST[name], faster)
    if name in BF16_ANY_TORCH:
        torch = [c for c in row if c.startswith("torch")]
        fastest = min(torch, key=lambda c: spread(row[c]["seconds"]).median, default="torch")
        what = "bf16: speed, in the fastest of PyTorch's ways"
        yield Line(case, what, BF16_ANY_TORCH[name], tables.times_faster(row, fastest, ours))
    if name in BF16_PEAK_SHARE:
        share = tables.share_spread(row.get(ours), limits)
        yield Line(case, "bf16: share of the bf16 peak", BF16_PEAK_SHARE[name], share, "%")
    faster = tables.times_faster(row, "fastbp", ours)
    yield Line(case, "bf16: speed, in fastbp's float32", BF16_FLOAT32, faster)


def _two_threads(records: list[Record]) -> Iterator[Line]:
    ours = [r for r in records if r["contender"] == "fastbp"]
    for case in dict.fromkeys(r["case"] for r in ours):
        seconds = {r["most_threads"]: r for r in ours if r["case"] == case}
        if 1 in seconds and 2 in seconds:
            faster = ratio(seconds[1]["seconds"], seconds[2]["seconds"])
            goal = TWO_THREADS[seconds[1]["name"]]
            yield Line(case, "speed on 2 threads, in that on 1", goal, faster)


def _predict(records: list[Record], limits: Any) -> Iterator[Line]:
    for case, row in tables.by_case(records).items():
        ours = row.get("fastbp")
        what = next(iter(row.values()))
        if (what["name"], what["rows"]) == (cases.SINGLE_ROWS.name, 1):
            took = spread(ours["seconds"]) if ours else None
            yield Line(case, "time of a call", SINGLE_ROW_SECONDS, took, "s", at_most=True)
            for peer, goal in SINGLE_ROW.items():
                faster = tables.times_faster(row, peer)
                yield Line(case, f"speed, in {tables.label(peer)}'s", goal, faster)
        elif what["name"] == cases.BULK.name:
            faster = tables.times_faster_than_best(row)
            yield Line(case, "speed, in the fastest float32 peer's", BULK_BEST_PEER, faster)
            share = tables.share_spread(ours, limits)
            yield Line(case, "share of the float32 peak", BULK_PEAK_SHARE, share, "%")
            faster = tables.times_faster_in_bf16(row)
            what_ = "bf16: speed, in PyTorch's with bf16 autocast"
            yield Line(case, what_, BULK_BF16_AUTOCAST, faster)


def _by_name(records: list[Record]) -> dict[str, dict[str, Record]]:
    return {next(iter(row.values()))["name"]: row for row in tables.by_case(records).values()}


def _label(row: dict[str, Record]) -> str:
    return str(next(iter(row.values()))["case"])
