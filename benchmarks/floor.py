"""Small and middle networks beside the least time that this CPU could take: no peers, two minutes.

    python -m benchmarks floor [--dtype float64] [--rounds 9] [--engine jit]

Timed is the engine's call for an epoch, as in the report, and beside it `MLP.fit`, whole: what it
checks, its random orders and its history, too. The floor of a step is its arithmetic at the measured
peak and one read and write of all parameters and of the optimizer's state; of a prediction its
arithmetic. On one thread and on all, in turns; the share is the floor's of the fastest round, as other
programs only ever make a round longer, and beside it that of the median.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

import fastbp
from benchmarks import cases, interleave, modes, peak, tables
from benchmarks.cases import Case
from fastbp import activations, engines, losses, optimizers
from fastbp.engines import Plan
from fastbp.stages import dense
from fastbp.threads import get_num_threads

SECONDS = 0.03  # of each in a round
FLOPS = 3 * 10**8  # of an epoch, about
MIDDLE = (100, 256, 256, 256, 2)  # what tables need


@dataclass(frozen=True)
class Point:
    """A net that is trained, or predicted with."""

    layer_sizes: tuple[int, ...]
    batch: int
    optimizer: str = "sgd"
    dropout: float = 0.0
    predict: bool = False

    @property
    def label(self) -> str:
        more = [self.optimizer] * (self.optimizer != "sgd") + ["dropout"] * (self.dropout > 0)
        what = "predict" if self.predict else "train"
        return " ".join([what, f"{'-'.join(map(str, self.layer_sizes))}, {self.batch}", *more])


POINTS = (
    Point((4, 16, 3), 32),
    Point((16, 16, 10), 128),
    Point((64, 64, 10), 32),
    Point((64, 64, 10), 128),
    Point((30, 64, 64, 2), 32, "adam"),
    Point((784, 128, 10), 1),
    Point((784, 128, 10), 32),
    Point((256, 256, 10), 1),
    *(Point((256, 256, 10), batch) for batch in (64, 128, 512, 4096)),
    Point(MIDDLE, 256),
    Point(MIDDLE, 256, "adam"),
    Point(MIDDLE, 256, "adam", 0.1),
    Point((784, 512, 512, 10), 1024),
    Point((1024, 1024, 1024, 1024, 10), 256),
    Point((4096, 4096, 4096, 10), 512),
    *(Point((64, 100, 10), rows, predict=True) for rows in (1, 100, 1000, 4096)),
)


def case_of(point: Point, dtype: str) -> Case:
    """Its data: an epoch of some steps, or the rows to predict."""
    one = Case(point.label, point.layer_sizes, point.batch, point.batch, 1e-6, dtype=dtype)
    if point.predict:
        return one
    return cases.first_steps(one, max(2, min(512, FLOPS // cases.flops_per_step(one))))


def timer(point: Point, case: Case, threads: int, engine: str) -> Callable[[], float]:
    """What returns the seconds of a step, or of a prediction, over some of them."""
    hidden = len(case.layer_sizes) - 2
    optimizer = optimizers.get(point.optimizer)
    plan = Plan(
        dense(case.layer_sizes, [activations.get("relu")] * hidden, [point.dropout] * hidden),
        losses.get("softmax_cross_entropy"),
        optimizer=optimizer,
        batch_size=case.batch_size,
        dtype=case.dtype,
        threads=threads,
    )
    made = engines.create(plan, engine)
    made.set_parameters(cases.parameters(case))
    X, y = cases.data(case)
    if not point.predict:
        return modes.trainer(made, case, (X, y), SECONDS)
    out = np.empty((case.rows, case.layer_sizes[-1]), case.dtype)

    def times(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            made.forward(X, out)
        return (time.perf_counter() - start) / count

    times(1)
    count = interleave.repetitions(times(1), SECONDS)
    times(count)
    return lambda: times(count)


def fit_timer(point: Point, case: Case, threads: int, engine: str) -> Callable[[], float]:
    """The same of `MLP.fit`."""
    hidden = len(case.layer_sizes) - 2
    model = fastbp.MLP(
        case.layer_sizes,
        dropout=[point.dropout] * hidden,
        dtype=case.dtype,
        engine=engine,
        threads=threads,
        seed=0,
    )
    X, y = cases.data(case)

    def times(epochs: int) -> float:
        start = time.perf_counter()
        model.fit(
            X,
            y,
            epochs=epochs,
            batch_size=case.batch_size,
            optimizer=point.optimizer,
            learning_rate=1e-6,
        )
        return (time.perf_counter() - start) / (epochs * case.steps)

    times(1)
    epochs = max(5, interleave.repetitions(times(1) * case.steps, SECONDS))
    times(epochs)
    return lambda: times(epochs)


def floor_of(point: Point, case: Case, limits: dict[str, object], threads: int) -> float:
    """Seconds."""
    if point.predict:
        flops, bytes_ = cases.flops_per_row(case) * case.rows, 0
    else:
        flops = cases.flops_per_step(case)
        bytes_ = cases.parameter_bytes(case) * (1 + optimizers.get(point.optimizer).slots)
    return peak.floor_seconds(limits, flops, bytes_, threads, case.dtype)


def main(*, dtype: str, rounds: int, engine: str) -> None:
    limits = peak.measure()
    if limits is None:
        raise SystemExit("the floor needs a C compiler to measure the CPU's limits")
    interleave.SETTLE = 0.002  # the threads are ours, and wait
    counts = sorted({1, get_num_threads()})
    print(f"fastbp {fastbp.__version__}, engine {engine}, {dtype}; peak of one thread and of all: ")
    print(", ".join(f"{(peak.top(limits, dtype, t) or 0) / 1e9:.0f} GFLOP/s" for t in counts), "\n")
    head = [f"{t} thread{'s' * (t > 1)}: µs | share of floor | median" for t in counts]
    print(
        f"| case | {' | '.join(head)} | speed on {counts[-1]} in that on 1 | MLP.fit: µs a step |"
    )
    print("| --- |" + " ---: |" * (3 * len(counts) + 2), flush=True)
    for point in POINTS:
        case = case_of(point, dtype)
        timers = {str(t): timer(point, case, t, engine) for t in counts}
        if not point.predict:
            timers["fit"] = fit_timer(point, case, counts[-1], engine)
        heavy = cases.flops_per_step(case) > 1e10
        took = interleave.run(timers, min(rounds, 3) if heavy else rounds)
        line = [point.label]
        for threads in counts:
            seconds = took[str(threads)]
            floor = floor_of(point, case, limits, threads)
            line += [
                tables.microseconds(min(seconds)),
                tables.percent(floor / min(seconds)),
                tables.percent(floor / median(seconds)),
            ]
        line.append(tables.digits(min(took["1"]) / min(took[str(counts[-1])])))
        line.append(tables.microseconds(min(took["fit"])) if "fit" in took else "")
        print(f"| {' | '.join(line)} |", flush=True)
