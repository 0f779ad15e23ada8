"""The shape of fastbp's cost: time per step against width, depth, batch and threads, and no cliffs.

A good engine's time follows its arithmetic. So each sweep gives the time per FLOP as well, and the
last two, over every width and every batch from 1 to 300, look for cliffs: a point that costs more per
computed FLOP than the points around it. Computed FLOPs count the lanes of the last vector, which a
tail pays for whether it uses them or not.
"""

from __future__ import annotations

import html
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt

from benchmarks import charts, machine
from fastbp import activations, losses
from fastbp.engines import Plan, create
from fastbp.stages import dense
from fastbp.threads import get_num_threads

LANES = 16  # float32 values of a vector, at most
MOST = 300
AROUND = 4  # points on each side that a point is compared with


class Point(NamedTuple):
    """A net's step: what was varied, seconds, useful and computed FLOPs."""

    x: int
    seconds: float
    flops: float
    computed: float


def flops(sizes: Sequence[int], batch: int) -> float:
    """Multiply-adds of a step, times two: forward and weight gradient with bias, backward-data."""
    work = 0.0
    for layer, (k, n) in enumerate(itertools.pairwise(sizes)):
        work += 2 * batch * n * (2 * (k + 1) + (k if layer else 0))
    return work


def computed(sizes: Sequence[int], batch: int) -> float:
    """`flops` with the output side of every product rounded up to whole vectors."""

    def lanes(n: int) -> int:
        return -(-n // LANES) * LANES

    work = 0.0
    for layer, (k, n) in enumerate(itertools.pairwise(sizes)):
        work += 2 * batch * (2 * (k + 1) * lanes(n) + (n * lanes(k) if layer else 0))
    return work


def make_engine(sizes: Sequence[int], batch: int, threads: int) -> Any:
    """Make the native engine of a ReLU net with softmax cross-entropy."""
    plan = Plan(
        dense(sizes, [activations.get("relu") for _ in sizes[1:-1]]),
        losses.get("softmax_cross_entropy"),
        batch_size=batch,
        threads=threads,
    )
    return create(plan, "native")


def stepper(sizes: Sequence[int], batch: int, threads: int) -> Callable[[], float]:
    """Return a function that trains a while and returns the seconds of a step."""
    engine = make_engine(sizes, batch, threads)
    rng = np.random.default_rng(0)
    engine.set_parameters(
        [
            (rng.standard_normal((n, k + 1)) / math.sqrt(k + 1)).astype(np.float32)
            for k, n in itertools.pairwise(sizes)
        ]
    )
    steps = max(2, min(2000, int(1e9 / flops(sizes, batch))))
    rows = min(steps * batch, max(batch, 2**21 // sizes[0]))
    X = rng.standard_normal((rows, sizes[0]), dtype=np.float32)
    y = rng.integers(0, sizes[-1], rows)
    order = rng.integers(0, rows, steps * batch)
    rates, out = np.full(steps, 1e-3), np.empty(steps)

    def seconds() -> float:
        start = time.perf_counter()
        engine.epoch(X, y, None, order, rates, out)
        return (time.perf_counter() - start) / steps

    return seconds


def sweep(
    cases: Iterable[tuple[int, Sequence[int], int]], threads: int, rounds: int = 5
) -> list[Point]:
    """Time (x, layer sizes, batch) one after the other, round after round; the best of each."""
    cases = list(cases)
    best = [math.inf] * len(cases)
    for first in range(
        0, len(cases), 25
    ):  # neighbours share their rounds, few engines live at once
        some = [stepper(sizes, batch, threads) for _, sizes, batch in cases[first : first + 25]]
        for seconds in some:
            seconds()
        for _ in range(rounds):
            for i, seconds in enumerate(some, first):
                best[i] = min(best[i], seconds())
    return [
        Point(x, t, flops(sizes, batch), computed(sizes, batch))
        for (x, sizes, batch), t in zip(cases, best, strict=True)
    ]


def slope(points: Sequence[Point]) -> float:
    """Exponent of time against x over the upper half of the points."""
    upper = points[len(points) // 2 :]
    x = np.log([p.x for p in upper])
    return float(np.polyfit(x, np.log([p.seconds for p in upper]), 1)[0])


def cliffs(points: Sequence[Point]) -> list[float]:
    """Time per computed FLOP of each point over the median of the points around it."""
    cost = [p.seconds / p.computed for p in points]
    ratios = []
    for i, c in enumerate(cost):
        around = cost[max(0, i - AROUND) : i] + cost[i + 1 : i + 1 + AROUND]
        ratios.append(c / statistics.median(around))
    return ratios


def backward_to_forward(threads: int) -> float:
    """Time of a step less its forward pass, over the forward pass, of four layers of 512."""
    sizes, batch = (512,) * 5, 256
    seconds = stepper(sizes, batch, threads)
    engine = make_engine(sizes, batch, threads)
    X, out = np.zeros((8 * batch, 512), np.float32), np.empty((8 * batch, 512), np.float32)
    ratios = []
    for _ in range(9):
        step = seconds()
        start = time.perf_counter()
        engine.forward(X, out)
        forward = (time.perf_counter() - start) / 8
        ratios.append((step - forward) / forward)
    return statistics.median(ratios)


def memory() -> tuple[float, float]:
    """Bytes of the engine's buffers for one parameter more, and for one row of the batch more."""

    def nbytes(width: int, batch: int) -> int:
        return int(make_engine((width, width, width), batch, 1).nbytes)

    parameters = 2 * (1024 * 1025 - 512 * 513)
    activations_only = nbytes(1024, 256) - nbytes(512, 256)
    per_row = (nbytes(1024, 1024) - nbytes(1024, 512)) / 512
    per_row_narrow = (nbytes(512, 1024) - nbytes(512, 512)) / 512
    rows = 257 * (per_row - per_row_narrow)
    return (activations_only - rows) / parameters, per_row


def main(out: Path, *, rounds: int = 5) -> None:
    """Measure everything and write the page."""
    threads = get_num_threads()
    wide = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]
    deep = [1, 2, 3, 4, 6, 8, 12, 16]
    long = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
    curves = {
        "width (w-w-10, batch 128)": sweep(((w, (w, w, 10), 128) for w in wide), threads, rounds),
        "depth (layers of 256, batch 128)": sweep(
            ((d, (256,) * (d + 1), 128) for d in deep), threads, rounds
        ),
        "batch (256-256-10)": sweep(((b, (256, 256, 10), b) for b in long), threads, rounds),
        "threads (512-512-10, batch 256)": [
            sweep([(t, (512, 512, 10), 256)], t, rounds)[0] for t in range(1, threads + 1)
        ],
    }
    every = range(1, MOST + 1)
    fine = {
        "every width (w-w-10, batch 32)": sweep(
            ((w, (w, w, 10), 32) for w in every), threads, rounds
        ),
        "every batch (128-128-10)": sweep(((b, (128, 128, 10), b) for b in every), threads, rounds),
    }
    per_parameter, per_row = memory()
    ratio = backward_to_forward(threads)
    lines = [
        f"backward-to-forward ratio of 512-512-512-512-512, batch 256: {ratio:.2f} "
        "(by FLOPs 1.75: the first layer has no backward-data product)",
        f"bytes of buffers: {per_parameter:.2f} a parameter (4 is the parameter itself, 4 its "
        f"transposed copy, which a first layer has not), {per_row:,.0f} a row of the batch for "
        "1024-1024-1024; neither depends on the rows of data or the epochs: an engine allocates when "
        "it is made, never later",
    ]
    for name, points in curves.items():
        lines.append(f"{name}: exponent {slope(points):.2f}" if len(points) > 3 else name)
    for name, points in fine.items():
        ratios = cliffs(points)
        i = int(np.argmax(ratios))
        over = [f"{p.x} ({r:.2f})" for p, r in zip(points, ratios, strict=True) if r > 1.3]
        lines.append(
            f"{name}: at most {ratios[i]:.2f} times its neighbours per computed FLOP "
            f"(at {points[i].x}); above 1.3: {', '.join(over) or 'none'}"
        )
    for line in lines:
        print(line, flush=True)
    out.write_text(page(curves, fine, lines), encoding="utf-8")
    print(f"written: {out}")


def curves_chart(curves: dict[str, list[Point]]) -> str:
    """Time of a step against what is varied, both logarithmic, a panel each."""
    figure, panels = plt.subplots(2, 2, figsize=(9.5, 6.4), layout="constrained")
    for axes, (name, points) in zip(panels.flat, curves.items(), strict=True):
        x = [p.x for p in points]
        axes.loglog(x, [1e6 * p.seconds for p in points], "ko-", markersize=4, label="measured")
        rate = max(p.flops / p.seconds for p in points)
        axes.loglog(
            x, [1e6 * p.flops / rate for p in points], color="#0072B2", linestyle="--",
            label="its FLOPs at the best rate seen here",
        )  # fmt: skip
        axes.set_xlabel(name)
        axes.set_ylabel("step, µs")
    panels.flat[0].legend(fontsize=9)
    return charts.svg(figure, "cost-curves")


def fine_chart(name: str, points: list[Point]) -> str:
    """Time per FLOP, useful and computed, at every point."""
    figure, axes = plt.subplots(figsize=(9.5, 3.2), layout="constrained")
    x = [p.x for p in points]
    for label, colour, values in (
        ("per useful FLOP", "#D55E00", [1e12 * p.seconds / p.flops for p in points]),
        ("per computed FLOP", "#000000", [1e12 * p.seconds / p.computed for p in points]),
    ):
        axes.semilogy(x, values, color=colour, linewidth=1, label=label)
    axes.set_xlabel(name)
    axes.set_ylabel("ps per FLOP")
    axes.legend()
    return charts.svg(figure, name)


def page(curves: dict[str, list[Point]], fine: dict[str, list[Point]], lines: Sequence[str]) -> str:
    """Make one self-contained HTML page."""
    pictures = "\n".join([curves_chart(curves), *(fine_chart(n, p) for n, p in fine.items())])
    about = ", ".join(f"{key} {value}" for key, value in machine.describe().items())
    items = "\n".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        "<!doctype html><meta charset='utf-8'><title>The shape of fastbp's cost</title>"
        "<style>body{font:16px/1.45 sans-serif;max-width:62em;margin:2em auto;padding:0 1em}"
        "svg{max-width:100%;height:auto}</style>"
        f"<h1>The shape of fastbp's cost</h1><p>{html.escape(about)}</p>"
        f"<ul>{items}</ul>{pictures}"
    )
