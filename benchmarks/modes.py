"""What each mode of the native engine wins: a step with all of them beside one without it, in turn.

    python -m benchmarks.modes                  # 5 to 8 minutes; every net, on one thread and on all
    python -m benchmarks.modes --rounds 3 --quick

A mode is switched off by a cost (fastbp/engines/native/costs.pxi); where that changes nothing about how
a step is cut, there is nothing to measure. The gain is the time without divided by the time with, the
median of the ratios within a round. A mode that wins less than 3 % everywhere is not worth its lines.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks import cases, interleave
from benchmarks.cases import Array, Case
from fastbp import activations, losses
from fastbp.engines import Plan, native
from fastbp.stages import dense
from fastbp.threads import get_num_threads

# The costs that switch a mode off
MODES: dict[str, dict[str, int]] = {
    "by_columns": {"rows_to_split": 0},
    "by_parts": {"by_parts": 0},
    "two_barriers": {"two_barriers": 0},
    "own_inputs": {"own_inputs": 0},
    "online": {"online": 0},
    "pieces taken over": {"flops_taken": 0},
    "far: weights fetched ahead": {"rows_far": 0},
    "next rows fetched in phase 2": {"bytes_fetched": 0},
    "rows fetched as they are gathered": {"reals_gathered": 0},
}
NOT_OF_THE_CUT = {"rows fetched as they are gathered"}
BETWEEN_THREADS = {"by_columns", "two_barriers", "own_inputs", "pieces taken over"}
BF16 = "bf16"  # beside float32, where there are instructions for it
WORTH = 0.03
FLOPS = 10**9  # of an epoch, about
WIDTHS = (16, 32, 64, 128, 256, 512, 1024)
BATCHES = (1, 4, 16, 64, 256, 1024)


class Gain(NamedTuple):
    """Of a mode at a point: the net and its batch, threads, the median of what it wins, quartiles."""

    label: str
    threads: int
    gain: interleave.Spread


def points(*, quick: bool) -> list[Case]:
    """The cases of the table, and nets of one and of two hidden layers of every width."""
    found = list(cases.CASES.values())
    if quick:
        return found[:5]
    for width, batch in itertools.product(WIDTHS, BATCHES):
        for hidden in (1, 2):
            one = Case(f"{hidden} hidden {width}", (width,) * (hidden + 1) + (10,), batch, batch)
            steps = max(2, min(128, FLOPS // cases.flops_per_step(one)))
            found.append(replace(one, rows=steps * batch))
    return found


def plan_of(case: Case, threads: int) -> Plan:
    """A ReLU net with softmax cross-entropy."""
    relu = activations.get("relu")
    return Plan(
        dense(case.layer_sizes, [relu] * (len(case.layer_sizes) - 2)),
        losses.get("softmax_cross_entropy"),
        batch_size=case.batch_size,
        dtype=case.dtype,
        threads=threads,
    )


def make_engine(plan: Plan, costs: dict[str, int]) -> Any:
    """The native engine by those costs, for the plan's precision whatever its widths."""
    kind = plan.precision or plan.dtype
    return native.module(native.choice(kind)[0] or "", kind).Engine(plan, costs)


def variants(plan: Plan) -> Iterator[tuple[str, Any]]:
    """An engine with all modes, named "", and for each that it takes one without."""
    full = make_engine(plan, {})
    yield "", full
    for name, costs in MODES.items():
        if plan.threads == 1 and name in BETWEEN_THREADS:
            continue
        engine = make_engine(plan, costs)
        if name in NOT_OF_THE_CUT or engine.cut != full.cut:
            yield name, engine
    if native.choice("bf16")[0] in native.BF16_INSTRUCTIONS:
        yield BF16, make_engine(replace(plan, precision="bf16"), {})


def trainer(
    engine: Any, case: Case, data: tuple[Array, Array], seconds: float
) -> Callable[[], float]:
    """A function that trains for about so many seconds and returns those of a step; it has warmed up."""
    X, y = data
    order = cases.orders(case, 1)[0]
    rates = np.full(case.steps, 1e-6)
    values = np.empty(case.steps)
    engine.set_parameters(cases.parameters(case))

    def epochs(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            engine.epoch(X, y, None, order, rates, values)
        return (time.perf_counter() - start) / (count * case.steps)

    epochs(1)
    once = epochs(1) * case.steps
    count = interleave.repetitions(once, seconds)
    if once < seconds:
        epochs(2 * count)  # threads find out how many of them pay
    return lambda: epochs(count)


def measure(case: Case, threads: int, rounds: int, seconds: float) -> dict[str, interleave.Spread]:
    """What each mode that the case takes wins on so many threads."""
    engines = dict(variants(plan_of(case, threads)))
    data = cases.data(case)
    trained = {name: trainer(engine, case, data, seconds) for name, engine in engines.items()}
    interleave.SETTLE = 0.002  # the threads are ours, and wait
    took = interleave.run(trained, min(rounds, 5) if cases.flops_per_step(case) > 1e11 else rounds)
    gains = {
        name: interleave.ratio(took[name], took[""]) for name in took if name not in ("", BF16)
    }
    if BF16 in took:
        gains[BF16] = interleave.ratio(took[""], took[BF16])
    return gains


def table(gains: dict[str, list[Gain]]) -> str:
    """In Markdown: of each mode the best, the median and the worst, and every point that matters."""
    lines = [
        "| mode | points | best | median | worst | keeps its place |",
        "| --- | ---: | --- | ---: | --- | --- |",
    ]
    for name, found in gains.items():
        ordered = sorted(found, key=lambda each: each.gain.median)
        worst, middle, best = ordered[0], ordered[len(ordered) // 2], ordered[-1]
        keep = "yes" if best.gain.low - 1 >= WORTH else "no"
        lines.append(
            f"| {name} | {len(found)} | {_words(best)} | {middle.gain.median - 1:+.1%} "
            f"| {_words(worst)} | {keep} |"
        )
    for name, found in gains.items():
        matter = [each for each in found if abs(each.gain.median - 1) >= WORTH]
        lines += ["", f"{name}, where it wins or loses {WORTH:.0%} or more:", ""]
        lines += [f"- {_words(each)}, quartiles {_quartiles(each.gain)}" for each in matter]
    return "\n".join(lines)


def _words(each: Gain) -> str:
    return f"{each.gain.median - 1:+.1%} ({each.label}; {each.threads} threads)"


def _quartiles(gain: interleave.Spread) -> str:
    return f"{gain.low - 1:+.1%} to {gain.high - 1:+.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.02, help="of each, a round")
    parser.add_argument("--quick", action="store_true", help="five nets only")
    arguments = parser.parse_args()
    gains: dict[str, list[Gain]] = {}
    for case in points(quick=arguments.quick):
        for threads in sorted({1, get_num_threads()}):
            found = measure(case, threads, arguments.rounds, arguments.seconds)
            for name, gain in found.items():
                gains.setdefault(name, []).append(Gain(case.label, threads, gain))
    print(table(gains))


if __name__ == "__main__":
    main()
