"""From records to what a reader asks: times, ratio to the best peer, shares of peak and floor."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import peak
from benchmarks.contenders import CONTENDERS
from benchmarks.groups import Record
from benchmarks.interleave import Spread, ratio, spread

# The order of columns, bars and legends
ORDER = [*CONTENDERS]


def by_case(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """case → contender → record, contenders in the order of the columns."""
    cases: dict[str, dict[str, Record]] = {}
    for record in sorted(records, key=lambda r: _position(r["contender"])):
        cases.setdefault(record["case"], {})[record["contender"]] = record
    first_seen = list(dict.fromkeys(record["case"] for record in records))
    return {case: cases[case] for case in first_seen}


def _position(contender: str) -> int:
    return ORDER.index(contender) if contender in ORDER else -1


def label(contender: str) -> str:
    """A contender's name as printed."""
    return CONTENDERS[contender].label if contender in CONTENDERS else contender


def best_peer(row: dict[str, Record]) -> Record | None:
    """The fastest contender that is not fastbp and computes in the case's dtype throughout."""
    peers = [
        r
        for name, r in row.items()
        if name in CONTENDERS
        and not CONTENDERS[name].is_fastbp
        and CONTENDERS[name].precision is None
    ]
    return min(peers, key=lambda r: statistics.median(r["seconds"]), default=None)


def times_faster(row: dict[str, Record], peer: str, ours: str = "fastbp") -> Spread | None:
    """How many times as long the peer takes, within each round; None if one of them is not there."""
    if ours not in row or peer not in row:
        return None
    return ratio(row[peer]["seconds"], row[ours]["seconds"])


def times_faster_than_best(row: dict[str, Record]) -> Spread | None:
    """The same of the fastest peer."""
    peer = best_peer(row)
    return times_faster(row, peer["contender"]) if peer else None


def times_faster_in_bf16(row: dict[str, Record]) -> Spread | None:
    """The same of PyTorch with bf16 autocast, beside fastbp in bf16."""
    return times_faster(row, "torch-bf16", "fastbp-bf16")


def share_of_peak(record: Record, limits: dict[str, Any] | None) -> float | None:
    """Arithmetic rate over this CPU's peak for the record's dtype and threads allowed."""
    if limits is None or not record.get("flops"):
        return None
    threads = record.get("most_threads")
    limit = peak.top(limits, record["precision"], threads)
    if limit is None:
        return None
    return float(record["flops"] / statistics.median(record["seconds"]) / limit)


def share_spread(record: Record | None, limits: dict[str, Any] | None) -> Spread | None:
    """Median and quartiles of the same."""
    if record is None or (share := share_of_peak(record, limits)) is None:
        return None
    seconds = spread(record["seconds"])
    return Spread(share, *(share * seconds.median / s for s in (seconds.high, seconds.low)))


def floor(record: Record | None, limits: dict[str, Any] | None) -> float | None:
    """Least seconds that this CPU could take for the record's unit of work, in its precision."""
    if record is None or limits is None or not limits["bandwidth"] or not record.get("flops"):
        return None
    threads, precision = record.get("most_threads") or record["threads"], record["precision"]
    if peak.top(limits, precision, threads) is None:
        return None
    return peak.floor_seconds(limits, record["flops"], record["bytes"], threads, precision)


def share_of_floor(record: Record | None, limits: dict[str, Any] | None) -> float | None:
    """That, over what it took."""
    least = floor(record, limits)
    return None if record is None or least is None else least / time_spread(record).median


def time(seconds: float) -> str:
    """Three digits with a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{digits(seconds / scale)} {unit}"
    return f"{digits(seconds * 1e9)} ns"


def microseconds(seconds: float) -> str:
    """Microseconds, for tables that are read down a column."""
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def digits(value: float) -> str:
    """Two or three digits."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def times(value: Spread, *, spread_too: bool = True) -> str:
    """1.72× (1.70–1.75)."""
    text = f"{digits(value.median)}×"
    return f"{text} ({digits(value.low)}–{digits(value.high)})" if spread_too else text


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %" if value >= 0.01 else "< 1 %"


def show(lines: Sequence[Sequence[str]]) -> None:
    """Print rows of texts as those of a table in Markdown."""
    for line in lines:
        print("| " + " | ".join(line) + " |", flush=True)


def time_spread(record: Record) -> Spread:
    return spread(record["seconds"])
