"""A training step of RealMLP beside a tight loop in PyTorch, and its share of this CPU's peak.

    python -m benchmarks.tabular_torch [--rounds N] [--rows N]

The loop has what PyTorch has for speed: fused AdamW, rows taken by index without a loader, the forward
pass and loss compiled where a compiler is found (and as they are). Both train the same network from the
same values: 20 numbers, embedded, scaled, three hidden layers of activations that are blended, dropout,
two classes, label smoothing; rates and decays follow the schedule step by step.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import fastbp
from benchmarks import interleave, peak, tables
from fastbp.engines import create
from fastbp.losses import Loss
from fastbp.plan import Plan
from fastbp.stages import Blend, Dense, Periodic, Scale
from fastbp.tabular import recipes

NUMBERS, CLASSES, EPOCHS = 20, 2, 4
DEFAULT = recipes.recipe("realmlp", regression=False)
RECIPES = {
    "as it comes: 3 × 128": replace(DEFAULT, batch=256),
    "as its authors: 3 × 256": replace(
        DEFAULT, hidden=recipes.AUTHORS["hidden_layer_sizes"], batch=recipes.AUTHORS["batch_size"]
    ),
}


def ours(recipe: recipes.Recipe, X: Any, y: Any, values: list[Any]) -> Callable[[], float]:
    """Seconds of a step of the engine, over some epochs."""
    stages = recipes.stages(recipe, NUMBERS, 0, (), CLASSES)
    plan = Plan(
        stages,
        Loss("softmax_cross_entropy"),
        recipe.optimizer,
        batch_size=recipe.rows_of_batch(len(X)),
        label_smoothing=recipe.smoothing,
        threads=fastbp.get_num_threads(),
    )
    engine = create(plan)
    engine.set_parameters(values)
    rng = np.random.default_rng(0)
    steps = math.ceil(len(X) / plan.batch_size)
    rates = recipes.rates(recipe, steps * EPOCHS)
    factors = recipes.dropouts_and_decays(recipe, steps * EPOCHS)
    losses = np.empty(steps)

    def run() -> float:
        start = time.perf_counter()
        for epoch in range(EPOCHS):
            now = slice(epoch * steps, (epoch + 1) * steps)
            order = rng.permutation(len(X))
            engine.epoch(X, y, None, order, rates[now], losses, None, factors[now], factors[now])
        return (time.perf_counter() - start) / (steps * EPOCHS)

    run()
    return run


def theirs(
    recipe: recipes.Recipe, X: Any, y: Any, values: list[Any], *, compiled: bool
) -> Callable[[], float]:
    """The same of PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(fastbp.get_num_threads())
    stages = recipes.stages(recipe, NUMBERS, 0, (), CLASSES)
    parameters: list[Any] = []
    groups: list[dict[str, Any]] = []

    def add(value: Any, factor: float, *, decays: bool) -> None:
        parameter = torch.tensor(value, requires_grad=True)
        parameters.append(parameter)
        groups.append(
            {"params": [parameter], "factor": factor, "decay": recipe.decay * factor * decays}
        )

    for stage, p in zip(stages, values, strict=True):
        if isinstance(stage, Dense):
            add(p[:, :-1] * np.float32(math.sqrt(stage.inputs)), 1.0, decays=True)
            add(p[:, -1].copy(), 0.1, decays=False)
        else:
            add(p, {Periodic: 0.1, Scale: 6.0, Blend: 0.1}[type(stage)], decays=True)

    def loss(v: Any, target: Any) -> Any:
        left = iter(parameters)
        for stage in stages:
            p = next(left)
            if isinstance(stage, Periodic):
                k, d, n = stage.frequencies, stage.waves, stage.numbers
                each = p[:, : (2 + d) * k].reshape(n, k, 2 + d)
                cos = torch.cos(2 * torch.pi * each[:, :, 0] * v[:, :n, None] + each[:, :, 1])
                e = torch.einsum("rnk,nkd->rnd", cos, each[:, :, 2:]) + p[:, (2 + d) * k :]
                v = torch.cat([e.transpose(1, 2).flatten(1), v], 1)
            elif isinstance(stage, Scale):
                v = v * p[:, 0]
            elif isinstance(stage, Blend):
                v = v + (functional.selu(v) - v) * p[:, 0]
                v = functional.dropout(v, recipe.dropout)
            else:
                v = torch.addmm(next(left), v, p.T, alpha=1 / math.sqrt(stage.inputs))
        return functional.cross_entropy(v, target, label_smoothing=recipe.smoothing)

    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8, fused=True)
    step = torch.compile(loss) if compiled else loss
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
    batch = recipe.rows_of_batch(len(X))
    steps = math.ceil(len(X) / batch)
    rates = recipes.rates(recipe, steps * EPOCHS)
    factors = recipes.dropouts_and_decays(recipe, steps * EPOCHS)

    def run() -> float:
        start = time.perf_counter()
        for t in range(steps * EPOCHS):
            if t % steps == 0:
                order = torch.randperm(len(X))
            rows = order[t % steps * batch : (t % steps + 1) * batch]
            for group in optimizer.param_groups:
                group["lr"] = rates[t] * group["factor"]
                group["weight_decay"] = group["decay"] * factors[t]
            optimizer.zero_grad(set_to_none=True)
            step(inputs[rows], targets[rows]).backward()
            optimizer.step()
        return (time.perf_counter() - start) / (steps * EPOCHS)

    run()
    return run


def measure(rows: int, rounds: int) -> list[list[str]]:
    """Rows of texts, the head first: times of a step, ratios to ours, share of the peak."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, NUMBERS), dtype=np.float32)
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(np.int64)
    top = peak.top(peak.measure(), "float32", fastbp.get_num_threads())
    lines = [["RealMLP", "fastbp, a step", "of the peak", "PyTorch", "PyTorch, compiled"]]
    for name, recipe in RECIPES.items():
        stages = recipes.stages(recipe, NUMBERS, 0, (), CLASSES)
        values = recipes.first_values(recipe, stages, X, np.random.default_rng(0))
        runs = {"fastbp": ours(recipe, X, y, values)}
        for label, compiled in (("PyTorch", False), ("PyTorch, compiled", True)):
            try:
                runs[label] = theirs(recipe, X, y, values, compiled=compiled)
            except (ImportError, RuntimeError) as error:
                print(f"{label} is left out: {error}")
        times = interleave.run(runs, rounds)
        middle = statistics.median(times["fastbp"])
        products = sum(s.inputs * s.units for s in stages if isinstance(s, Dense))
        flops = 6 * recipe.rows_of_batch(rows) * products
        share = f"{flops / middle / top:.0%}" if top else "–"
        line = [name, f"{1e6 * middle:.0f} µs", share]
        for label in lines[0][3:]:
            if label not in times:
                line.append("–")
                continue
            ratio = interleave.ratio(times[label], times["fastbp"]).median
            line.append(f"{1e6 * statistics.median(times[label]):.0f} µs ({ratio:.1f}×)")
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabular_torch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=4096)
    args = parser.parse_args()
    tables.show(measure(args.rows, args.rounds))


if __name__ == "__main__":
    main()
