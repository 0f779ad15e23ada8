"""An epoch that ranks share, step by step. Weights, losses and the optimizer's state end up on all.

Where the engine can (the native one), a rank computes its rows of a minibatch, all get v and δ of all
rows, a rank updates its tiles of the weights, and all get the weights: the sums are those of one
process, in its order. Other engines compute every step whole on every rank: the same bits, and no gain.
With `sync` there is a local SGD instead.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.distributed.ranks import Ranks, can_share
from fastbp.engines import Engine
from fastbp.training import Data, Epoch, Floats, Order

__all__ = ["OwnRows", "interleave", "run_epoch"]

Array = NDArray[Any]


def part(total: int, ranks: int, grain: int = 1) -> NDArray[np.int64]:
    """Where each rank's even part of 0 … total − 1 begins, a multiple of grain, and the end.

    >>> part(70, 2), part(70, 2, 32)
    (array([ 0, 35, 70]), array([ 0, 32, 70]))
    """
    return np.minimum(np.arange(ranks + 1) * -(-total // grain) // ranks * grain, total)


def interleave(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whose row comes when, where each rank has so many: spread evenly over all.

    >>> interleave(np.array([4, 2]))
    array([0, 1, 0, 0, 1, 0])
    """
    when = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    return np.repeat(np.arange(len(counts)), counts)[np.argsort(when, kind="stable")]


@dataclass(frozen=True)
class Shares:
    """Which rows of an epoch's minibatches are whose.

    Attributes
    ----------
    order : ndarray of int64
        Rows of this rank's X, in the epoch's order. Where it is another's row, anything.
    bounds : ndarray of int64, shape (steps, ranks + 1)
        Of each minibatch's rows, where each rank's begin, and the end.
    own : bool
        Whether X has this rank's rows only.
    weights : ndarray or None
        Sample weights of all rows, in the epoch's order.
    """

    order: Order
    bounds: NDArray[np.int64]
    own: bool
    weights: Array | None


def share_rows(
    ranks: Ranks, batch: int, grain: int, order: Order, data: Data, rows: OwnRows | None
) -> Shares:
    """Of an epoch in this order: of X's rows or, where ranks have their own, of all ranks'."""
    if rows is not None:
        return rows.shares(ranks, batch, order)
    sizes = np.diff(np.append(np.arange(0, len(order), batch), len(order)))
    weight = data[2]
    return Shares(
        order,
        np.array([part(n, ranks.size, grain) for n in sizes]),
        False,
        None if weight is None else weight[order],
    )


@dataclass(frozen=True)
class OwnRows:
    """The rows of all ranks, of which each has its own: numbered through, rank by rank.

    Attributes
    ----------
    counts : ndarray of int64
    weight : ndarray or None
        Sample weights of all.
    """

    counts: NDArray[np.int64]
    weight: Array | None

    @staticmethod
    def of(ranks: Ranks, data: Data) -> OwnRows:
        """Those of data of which each rank has its part."""
        found = ranks.gather((len(data[0]), data[2]))
        weight = None if data[2] is None else np.concatenate([w for _, w in found])
        return OwnRows(np.array([n for n, _ in found]), weight)

    def order(self, generator: np.random.Generator | None) -> Order:
        """Of an epoch: each rank's rows in their own random order (None: as they are), interleaved."""
        starts = np.cumsum(self.counts) - self.counts
        each = [
            start + (np.arange(n) if generator is None else generator.permutation(n))
            for start, n in zip(starts, self.counts, strict=True)
        ]
        order = np.empty(self.counts.sum(), np.int64)
        whose = interleave(self.counts)
        for rank, rows in enumerate(each):
            order[whose == rank] = rows
        return order

    def shares(self, ranks: Ranks, batch: int, order: Order) -> Shares:
        """In such an order; within a minibatch the rows of rank 0 come first."""
        starts = np.cumsum(self.counts) - self.counts
        whose = np.searchsorted(starts, order, side="right") - 1
        step = np.arange(len(order)) // batch
        sort = np.lexsort((whose, step))  # stable
        order, whose = order[sort], whose[sort]
        bounds = np.zeros((step[-1] + 1, ranks.size + 1), np.int64)
        np.add.at(bounds, (step, whose + 1), 1)
        mine = np.where(whose == ranks.rank, order - starts[ranks.rank], 0)
        weights = None if self.weight is None else self.weight[order]
        return Shares(mine, bounds.cumsum(axis=1), True, weights)


def run_epoch(
    ranks: Ranks, engine: Engine, data: Data, order: Order, rates: Floats, rows: OwnRows | None
) -> Epoch:
    """One pass over the rows in this order, as `fastbp.training.run_epoch`.

    Raises
    ------
    KeyboardInterrupt
        On all ranks, if one got a SIGINT: after a step that all have taken.
    """
    losses, penalties = np.full((2, len(rates)), np.nan)
    start = time.perf_counter()
    run = _local_steps if ranks.sync else _shared_steps if can_share(engine) else _whole_steps
    grain = getattr(engine, "row_grain", 1) if run is _shared_steps else 1
    share = share_rows(ranks, engine.plan.batch_size, grain, order, data, rows)
    applied, stopped = run(ranks, engine, data, share, rates, losses, penalties)
    if stopped:
        ranks.raise_interrupt()
    return Epoch(losses, penalties, applied, max(time.perf_counter() - start, 1e-9))


def _shared_steps(
    ranks: Ranks,
    engine: Any,
    data: Data,
    share: Shares,
    rates: Floats,
    losses: Floats,
    penalties: Floats,
) -> tuple[int, bool]:
    """The steps applied, and whether one of the ranks was interrupted."""
    epoch = engine.share(
        *data,
        share.order,
        rates,
        losses,
        penalties,
        rank=ranks.rank,
        ranks=ranks.size,
        inputs=share.own,
        weights=share.weights if share.own else None,
    )
    clips = engine.plan.clip_norm > 0
    message, stopped = epoch.rows_message, False
    exchange_tiles = ranks.to_all(epoch.tiles_message, epoch.tile_starts)
    exchange_squares = ranks.to_all(epoch.squares, epoch.task_starts)
    if epoch.sums is not None:
        exchange_sums = ranks.to_owners(epoch.sums, epoch.tile_starts, epoch.sums_of_mine)
    for s, bounds in enumerate(share.bounds):
        if s == 0 or (bounds != share.bounds[s - 1]).any():
            starts = epoch.row_starts(bounds)
            exchange_rows = ranks.to_all(message, starts)
        epoch.rows(s, bounds)
        message[starts[ranks.rank]] = ranks.interrupted
        exchange_rows()
        stopped = message[starts[:-1]].any()
        if stopped:
            break
        if epoch.sums is not None:
            exchange_sums()
        if not epoch.update():
            break
        if clips:
            exchange_squares()
            epoch.clip()
        exchange_tiles()
        epoch.finish()
    for slot in range(engine.plan.optimizer.slots):
        epoch.give_slot(slot)
        exchange_tiles()
        epoch.take_slot(slot)
    return epoch.end(), bool(stopped)


def _whole_steps(
    ranks: Ranks,
    engine: Engine,
    data: Data,
    share: Shares,
    rates: Floats,
    losses: Floats,
    penalties: Floats,
) -> tuple[int, bool]:
    """The same, where every rank computes all of each step."""
    ends = np.cumsum(share.bounds[:, -1])
    for s, end in enumerate(ends):
        if any(ranks.gather(ranks.interrupted)):
            return s, True
        rows = share.order[end - share.bounds[s, -1] : end]
        step = slice(s, s + 1)
        if not engine.epoch(*data, rows, rates[step], losses[step], penalties[step]):
            return s, False
    return len(ends), False


def _local_steps(
    ranks: Ranks,
    engine: Engine,
    data: Data,
    share: Shares,
    rates: Floats,
    losses: Floats,
    penalties: Floats,
) -> tuple[int, bool]:
    """Local SGD: a rank takes its steps on its own rows; every `sync` of them all take the ranks' mean.

    It is that of the weights and of the optimizer's state. A rank without rows in a minibatch rests.
    """
    ends = np.cumsum(share.bounds[:, -1])
    starts = ends - share.bounds[:, -1] + share.bounds[:, ranks.rank]
    counts = np.diff(share.bounds, axis=1)[:, ranks.rank]
    began = engine.get_optimizer_state()[0]
    weight = np.zeros(len(rates))  # of this rank's rows in each step
    done, good, stopped = 0, True, False
    while done < len(rates) and good and not stopped:
        until = min(done + ranks.sync, len(rates))
        for s in range(done, until if good else done):
            mine, step = slice(starts[s], starts[s] + counts[s]), slice(s, s + 1)
            rows = share.order[mine]
            weight[s] = counts[s] if share.weights is None else share.weights[mine].sum()
            if weight[s] > 0 and good:
                good = engine.epoch(*data, rows, rates[step], losses[step], penalties[step]) == 1
        found = ranks.gather((good, ranks.interrupted))
        good, stopped = all(each for each, _ in found), any(each for _, each in found)
        if good:
            _average(ranks, engine, began + until)
            done = until
    _combine(ranks, weight, losses, penalties)
    if not good:  # where a rank's loss was not finite
        done = int(np.argmin(np.isfinite(losses[:until])))
    return done, stopped and good


def _average(ranks: Ranks, engine: Engine, step: int) -> None:
    """Have the ranks' mean of the weights and of the optimizer's state."""
    arrays = [*engine.get_parameters()]
    for slot in engine.get_optimizer_state()[1]:
        arrays += slot
    flat = ranks.mean(np.concatenate([a.ravel() for a in arrays]))
    ends = np.cumsum([a.size for a in arrays])
    means = [
        np.ascontiguousarray(flat[end - a.size : end].reshape(a.shape))
        for a, end in zip(arrays, ends, strict=True)
    ]
    count = len(engine.plan.shapes)
    engine.set_parameters(means[:count])
    slots = [means[i : i + count] for i in range(count, len(means), count)]
    engine.set_optimizer_state(step, slots)


def _combine(ranks: Ranks, weight: Floats, losses: Floats, penalties: Floats) -> None:
    """The steps' mean over the ranks' rows, in place."""
    found = ranks.gather((weight, losses, penalties))
    total = np.sum([each for each, _, _ in found], axis=0)
    for i, values in ((1, losses), (2, penalties)):
        mean = sum(np.where(each[0] > 0, each[0] * each[i], 0) for each in found)
        values[...] = np.divide(mean, total, out=np.zeros_like(total), where=total > 0)
