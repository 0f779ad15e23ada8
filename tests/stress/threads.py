"""Random nets, each trained on one thread and on several: the same bits.

    python tests/stress/threads.py [--seconds 60] [--seed 0]

All the threads are used however small the net, and windows of a few steps let the team grow and shrink.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np

from fastbp import activations, losses, optimizers
from fastbp.engines import Plan, create, native

BATCHES = (1, 1, 2, 3, 5, 8, 16, 31, 32, 50, 60, 100)


def random_plan(rng: np.random.Generator) -> dict[str, Any]:
    """Fields of a Plan, but for the number of threads."""
    hidden = int(rng.choice([0, 1, 1, 1, 1, 2]))
    units = [
        int(rng.choice([rng.integers(1, 400), 32 * rng.integers(1, 9)])) for _ in range(hidden)
    ]
    plan: dict[str, Any] = {
        "layer_sizes": (int(rng.integers(1, 90)), *units, int(rng.integers(2, 40))),
        "activations": (activations.get(rng.choice(["relu", "tanh", "gelu", "logistic"])),)
        * hidden,
        "loss": losses.get("softmax_cross_entropy"),
        "optimizer": optimizers.get(rng.choice(["sgd", "sgd", "momentum", "adam"])),
        "batch_size": int(rng.choice(BATCHES)),
        "dtype": str(rng.choice(["float32", "float64"])),
        "seed": 3,
    }
    if rng.random() < 0.3:
        plan["dropout"] = (0.3,) * hidden
    if rng.random() < 0.2:
        plan["l2"] = 0.01
    return plan


def train(plan: dict[str, Any], threads: int, seed: int) -> list[np.ndarray]:
    """Losses, parameters and outputs after four epochs on random data."""
    rng = np.random.default_rng(seed)
    sizes, dtype, batch = plan["layer_sizes"], plan["dtype"], plan["batch_size"]
    rows = int(rng.integers(1, 20 * batch + 30))
    X = rng.standard_normal((rows, sizes[0])).astype(dtype)
    y = rng.integers(0, sizes[-1], rows)
    weight = rng.random(rows).astype(dtype) if rng.random() < 0.3 else None
    order = rng.permutation(rows)
    engine = create(Plan(**plan, threads=threads), "native")
    engine.set_parameters(
        [
            (rng.standard_normal((n, k + 1)) / np.sqrt(k + 1)).astype(dtype)
            for k, n in itertools.pairwise(sizes)
        ]
    )
    engine.keep_threads(True)
    out = []
    steps = -(-rows // batch)
    for _ in range(4):
        out.append(np.empty(steps))
        engine.epoch(X, y, weight, order, np.full(steps, 0.01), out[-1])
    outputs = np.empty((rows, sizes[-1]), dtype)
    engine.forward(X, outputs)
    engine.keep_threads(False)
    return [*out, *engine.get_parameters(), outputs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for dtype in ("float32", "float64"):
        native.module(native.choice()[0] or "", dtype).thread_costs(1, 1, window=20_000)
    rng = np.random.default_rng(arguments.seed)
    end, nets = time.monotonic() + arguments.seconds, 0
    while time.monotonic() < end:
        plan, threads, seed = random_plan(rng), int(rng.integers(2, 6)), int(rng.integers(2**31))
        one, several = train(plan, 1, seed), train(plan, threads, seed)
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, several, strict=True)):
            raise SystemExit(f"{threads} threads give other bits than one: {plan}, data {seed}")
        nets += 1
    print(f"{nets} nets: the same bits on several threads as on one")


if __name__ == "__main__":
    main()
