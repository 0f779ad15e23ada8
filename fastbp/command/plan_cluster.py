"""``fastbp plan-cluster``: what ranks on a network would win."""

from __future__ import annotations

import argparse

from fastbp._validation import check_finite_number, check_integer
from fastbp.distributed.cost import NETWORKS, Network, Step, measure, plan_for
from fastbp.threads import get_num_threads

__all__ = ["run"]


def run(args: argparse.Namespace) -> None:
    """Print it, for 1, 2, 4, … ranks."""
    if len(args.layers) < 2 or min(args.layers) < 1:
        raise ValueError(f"--layers takes at least two widths ≥ 1, got {args.layers}")
    check_integer("--batch", args.batch, minimum=1)
    check_integer("--ranks", args.ranks, minimum=1)
    network = NETWORKS[args.network]
    if args.latency is not None:
        check_finite_number("--latency", args.latency, minimum=0)
        network = Network(args.latency * 1e-6, network.bandwidth)
    plan = plan_for(args.layers, args.batch, args.optimizer, args.threads)
    weights = sum(n * m for n, m in plan.shapes)
    layers = "-".join(map(str, args.layers))
    print(f"{layers}, {weights:,} weights, minibatches of {args.batch} rows, {args.optimizer}")
    print(
        f"network: {network.bandwidth / 1e9:.3g} GB/s, {network.latency * 1e6:.3g} µs a message; "
        f"each rank a machine like this one, {args.threads or get_num_threads()} threads\n"
    )
    print(
        "ranks   compute  exchange      step  speed-up  efficiency  exchanged, beside the weights"
    )
    steps: list[Step] = []
    ranks = 1
    while ranks <= min(args.ranks, args.batch):
        step = measure(plan, ranks, network)
        steps.append(step)
        gain = steps[0].seconds / step.seconds
        print(
            f"{ranks:5}  {_time(step.compute)}  {_time(step.exchange)}  {_time(step.seconds)}"
            f"  {gain:7.2f}×  {gain / ranks:9.0%}   {_exchanged(step)}",
            flush=True,
        )
        ranks *= 2
    print(f"\n{_verdict(steps)}")


def _exchanged(step: Step) -> str:
    if step.ranks == 1:
        return "nothing"
    return "sums of gradients" if step.by_gradients else "values and errors of the rows"


def _time(seconds: float) -> str:
    unit, scale = ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
    return f"{seconds * scale:5.3g} {unit}" if seconds < 1 else f"{seconds:6.3g} s"


def _verdict(steps: list[Step]) -> str:
    """Where it stops paying, in a sentence."""
    best = min(steps, key=lambda step: step.seconds)
    if best.ranks == 1:
        return (
            "It does not pay: what is exchanged takes longer than the arithmetic that it saves. "
            "A larger minibatch or wider layers would change that; many small networks train side by "
            "side instead (fit_many)."
        )
    half = [s.ranks for s in steps if steps[0].seconds / s.seconds >= s.ranks / 2]
    used = f"up to {max(half)} of them are used to a half or more"
    return f"Fastest of these are {best.ranks} ranks; {used}."
