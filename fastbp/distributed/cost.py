"""What a step takes when ranks share it: its arithmetic measured here, its exchange by a model.

Two messages go to all ranks in a step: v, δ and loss of the minibatch's rows, and the weights; or three,
with sums of gradients in place of v and δ. Each rank sends each other one its part, to 32 of them at a
time (MPICH), and gets (P − 1) / P of the bytes. With latency α and bandwidth β

    t = α ⌈(P − 1) / 32⌉ + bytes (P − 1) / (P β)

The arithmetic of a rank is that of rank 0 of P, run without the others; all else that a step takes is in
it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastbp.distributed import epochs
from fastbp.distributed.ranks import Exchange, Ranks, can_share
from fastbp.engines import create
from fastbp.mlp import MLP
from fastbp.optimizers import get
from fastbp.plan import Plan
from fastbp.training import run_epoch

__all__ = ["NETWORKS", "Network", "Step", "exchange_seconds", "measure", "plan_for"]

_AT_A_TIME = 32  # ranks that another sends to


@dataclass(frozen=True)
class Network:
    """What is between two ranks: seconds until a message arrives, and bytes a second."""

    latency: float
    bandwidth: float


# Latencies of messages between two programs: TCP over Ethernet, and adapters that bypass the kernel.
NETWORKS = {
    "1G": Network(50e-6, 0.117e9),
    "10G": Network(30e-6, 1.17e9),
    "25G": Network(25e-6, 2.9e9),
    "100G": Network(3e-6, 11.7e9),
    "200G": Network(2e-6, 23e9),
}


@dataclass(frozen=True)
class Step:
    """Of one of `ranks`: seconds of arithmetic and of exchange, and the bytes that a rank gets.

    by_gradients: these are sums of gradients, not v and δ of rows.
    """

    ranks: int
    compute: float
    exchange: float
    bytes: float
    by_gradients: bool = False

    @property
    def seconds(self) -> float:
        """Of all of it: nothing of the one goes on during the other."""
        return self.compute + self.exchange


def plan_for(layers: Sequence[int], batch: int, optimizer: str, threads: int | None) -> Plan:
    """Of a classifier with ReLU; other activations and losses cost about the same."""
    loss = "softmax_cross_entropy" if layers[-1] > 1 else "squared_error"
    plan = MLP(list(layers), loss=loss, seed=0, threads=threads).plan
    return replace(plan, optimizer=get(optimizer), batch_size=batch)


def exchange_seconds(size: float, ranks: int, network: Network) -> float:
    """Until all ranks have a message of so many bytes, of which each has an even part.

    Or until each has its share of what all ranks have in such a message.
    """
    rounds = math.ceil((ranks - 1) / _AT_A_TIME)
    return rounds * network.latency + size * (ranks - 1) / ranks / network.bandwidth


class _Alone:
    """Rank 0 of so many, which hears nothing of the others.

    messages: bytes of each, and whether it is one of sums.
    """

    rank = sync = 0
    interrupted = False

    def __init__(self, size: int) -> None:
        self.size = size
        self.messages: list[tuple[int, bool]] = []

    def to_all(self, message: NDArray[Any], starts: NDArray[np.int64]) -> Exchange:
        return lambda: self.messages.append((int(starts[-1]) * message.itemsize, False))

    def to_owners(
        self, sums: NDArray[Any], starts: NDArray[np.int64], of_mine: NDArray[Any]
    ) -> Exchange:
        return lambda: self.messages.append((len(sums), True))


def measure(plan: Plan, ranks: int, network: Network, seconds: float = 0.2) -> Step:
    """A step's cost; takes about so many seconds.

    Raises
    ------
    ValueError
        If there is no engine whose steps ranks share, or the minibatch has fewer rows than there are
        ranks.
    """
    if ranks > plan.batch_size:
        raise ValueError(
            f"a minibatch of {plan.batch_size} rows has none for each of {ranks} ranks"
        )
    engine = create(plan)
    if not can_share(engine):
        raise ValueError(
            "ranks share the steps of engine 'native' alone, which is not available here"
        )
    rng = np.random.default_rng(0)
    engine.set_parameters([p for s in plan.stages for p in s.first_values("auto", plan.dtype, rng)])
    steps, batch = 1000, plan.batch_size
    X = rng.standard_normal((2 * batch, plan.layer_sizes[0])).astype(plan.dtype)
    outputs = plan.layer_sizes[-1]
    y = rng.integers(0, outputs, len(X)) if outputs > 1 else X[:, :1].copy()
    order = rng.integers(0, len(X), steps * batch)
    alone = _Alone(ranks)

    def step_seconds(steps: int) -> float:
        """As one process trains, or as rank 0 does."""
        few, rates = order[: steps * batch], np.full(steps, 1e-9)
        data = X, y, None
        if ranks == 1:
            return run_epoch(engine, data, few, rates).seconds / steps
        shared = epochs.run_epoch(cast(Ranks, alone), engine, data, few, rates, None)
        return shared.seconds / steps

    first = step_seconds(2)
    messages = alone.messages[: (len(alone.messages) - plan.optimizer.slots) // 2]  # of a step
    compute = step_seconds(int(np.clip(seconds / first, 2, steps)))
    exchange = sum(exchange_seconds(size, ranks, network) for size, _ in messages)
    size = sum(size for size, _ in messages) * (ranks - 1) / ranks
    return Step(ranks, compute, exchange, size, any(sums for _, sums in messages))
