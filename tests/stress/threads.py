"""Random nets, each trained on one thread and on several: the same bits.

    python tests/stress/threads.py [--seconds 60] [--seed 0]

All the threads are used however small the net, and windows of a few steps let the team grow and shrink.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastbp import optimizers
from fastbp.engines import native

sys.path.insert(0, str(Path(__file__).parents[1]))
from engine_cases import DTYPES, EVERY_THREAD, Array, Case, everything, make_case, make_engine

BATCHES = (1, 1, 2, 3, 5, 8, 16, 31, 32, 50, 60, 100, 150, 300)


def random_case(rng: np.random.Generator) -> Case:
    hidden = int(rng.choice([0, 1, 1, 1, 1, 2]))
    units = [
        int(rng.choice([rng.integers(1, 400), 32 * rng.integers(1, 9)])) for _ in range(hidden)
    ]
    batch = int(rng.choice(BATCHES))
    return make_case(
        (int(rng.integers(1, 90)), *units, int(rng.integers(2, 40))),
        str(rng.choice(["relu", "tanh", "gelu", "logistic"])),
        "softmax_cross_entropy",
        dtype=str(rng.choice(DTYPES)),
        rows=int(rng.integers(1, 20 * batch + 30)),
        data_seed=int(rng.integers(2**31)),
        labels=True,
        weighted=bool(rng.random() < 0.3),
        optimizer=optimizers.get(rng.choice(["sgd", "sgd", "momentum", "adam"])),
        batch_size=batch,
        dropout=(0.3,) * hidden if rng.random() < 0.3 else (),
        l2=0.01 if rng.random() < 0.4 else 0.0,
        seed=3,
    )


def train(case: Case, threads: int) -> list[Array]:
    """`everything`."""
    engine = make_engine("native", replace(case, plan=replace(case.plan, threads=threads)))
    return everything(engine, case)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    end, nets = time.monotonic() + arguments.seconds, 0
    while time.monotonic() < end:
        case, threads = random_case(rng), int(rng.integers(2, 6))
        columns = int(rng.choice([0, 1 << 20]))
        native.COSTS.update(EVERY_THREAD, bytes_of_columns=columns, flops_per_window=20_000)
        pairs = zip(train(case, 1), train(case, threads), strict=True)
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
            raise SystemExit(f"{threads} threads give other bits than one: {case.plan}")
        nets += 1
    print(f"{nets} nets: the same bits on several threads as on one")


if __name__ == "__main__":
    main()
