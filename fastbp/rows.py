"""Passes of an engine over rows of either kind, dense or sparse, and which kind of engine takes them.

An engine whose first stage is Sparse takes sparse rows (`fastbp.csr.CSR`) as they are. Where the plan
has a Dense one (engines that lack Sparse, and X that is hardly sparse), they are made dense some at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.csr import CSR, from_dense
from fastbp.engines import MODULES, Engine, Rows, choose
from fastbp.plan import Plan
from fastbp.stages import UPDATES
from fastbp.training import Data, Epoch, Floats, Order, run_epoch

__all__ = [
    "Data",
    "classes_of",
    "epoch_of",
    "gradient_of",
    "like",
    "loss_of",
    "outputs_of",
    "plan_for",
    "takes",
]

Array = NDArray[Any]

# Of the entries, those that are there: with more of them the dense way is faster.
SPARSE_SHARE = 0.8

# Sparse rows are densified as many batches at a time as fit in so many values: enough to make the
# calls rare, and little beside the data.
DENSE_VALUES = 1 << 21


def plan_for(plan: Plan, X: Rows, engine: str, update: str = "exact") -> Plan:
    """The plan of an engine of that name for such rows.

    Raises
    ------
    ValueError
        If `update` is neither "exact" nor "lazy", or is "lazy" and there is no Sparse stage to do it.
    """
    if update not in UPDATES:
        raise ValueError(f"sparse_update must be 'exact' or 'lazy', got {update!r}")
    plan = plan.with_dense()
    if isinstance(X, CSR):
        sparse = plan.with_sparse(update)
        name = choose(plan) if engine == "auto" else engine
        lack = MODULES[name].lacks(sparse)
        if update != "exact" and lack:
            raise ValueError(
                f"sparse_update={update!r} needs sparse rows, but engine {name!r} {lack}"
            )
        if not lack and (update != "exact" or X.share < SPARSE_SHARE):
            return sparse
    elif update != "exact":
        raise ValueError(f"sparse_update={update!r} needs a sparse X (CSR), but X is dense")
    return plan


def takes(engine: Engine, X: Rows) -> bool:
    """Whether the engine takes X as it is: sparse rows for a Sparse first stage, else dense ones."""
    return isinstance(X, CSR) == engine.plan.is_sparse


def like(X: Rows, plan: Plan) -> Rows:
    """The rows in a form that an engine of the plan takes, or makes dense by itself."""
    return from_dense(X) if plan.is_sparse and not isinstance(X, CSR) else X


def row_blocks(X: Rows, rows: int = 0) -> Iterator[tuple[slice, Array]]:
    """Dense blocks of the rows of a sparse X, `rows` at a time, or as many as are worth a call."""
    rows = rows or dense_rows(X.shape[1])
    for start in range(0, len(X), rows):
        block = slice(start, min(start + rows, len(X)))
        yield block, X[block].toarray()


def dense_rows(features: int, batch_size: int = 1) -> int:
    """Rows of a sparse X to densify at a time: a multiple of the batch."""
    return max(1, DENSE_VALUES // (features * batch_size)) * batch_size


def outputs_of(engine: Engine, X: Rows, *, link: bool = False) -> Array:
    """f(x), or the prediction link(f(x)), of every row of X."""
    out = np.empty((len(X), engine.plan.layer_sizes[-1]), X.dtype)
    if takes(engine, X):
        engine.forward(X, out, link=link)
        return out
    for rows, block in row_blocks(X):
        engine.forward(block, out[rows], link=link)
    return out


def classes_of(engine: Engine, X: Rows) -> NDArray[np.int64]:
    """argmax_j f_j(x) of every row of X."""
    out = np.empty(len(X), np.int64)
    if takes(engine, X):
        engine.classify(X, out)
        return out
    for rows, block in row_blocks(X):
        engine.classify(block, out[rows])
    return out


def loss_of(engine: Engine, data: Data) -> float:
    """The objective over all rows as one batch."""
    X, y, weight = data
    if takes(engine, X) or len(X) == 0:
        return engine.loss(X if takes(engine, X) else X.toarray(), y, weight)
    loss, total, blocks = 0.0, _total(X, weight), 0
    for rows, block in row_blocks(X):
        w = None if weight is None else weight[rows]
        loss += _total(block, w) / total * engine.loss(block, y[rows], w) if total else 0.0
        blocks += 1
    return loss - _penalty_too_much(engine, blocks, total)[0]


def gradient_of(engine: Engine, data: Data, out: list[Array]) -> float:
    """The gradient of that to `out`; returns the objective."""
    X, y, weight = data
    if takes(engine, X) or len(X) == 0:
        return engine.gradient(X if takes(engine, X) else X.toarray(), y, weight, out)
    part = [np.empty_like(g) for g in out]
    for g in out:
        g[...] = 0
    loss, total, blocks = 0.0, _total(X, weight), 0
    for rows, block in row_blocks(X):
        w = None if weight is None else weight[rows]
        share = _total(block, w) / total if total else 0.0
        loss += share * engine.gradient(block, y[rows], w, part)
        for g, p in zip(out, part, strict=True):
            g += share * p
        blocks += 1
    too_much, slopes = _penalty_too_much(engine, blocks, total)
    for g, slope in zip(out, slopes, strict=True):
        g -= slope
    return loss - too_much


def _total(X: Rows, weight: Array | None) -> float:
    return float(len(X)) if weight is None else float(weight.sum(dtype=np.float64))


def _penalty_too_much(engine: Engine, blocks: int, total: float) -> tuple[float, list[Array]]:
    """What blocks have of the penalty and its gradient beyond one: where a batch's weight divides it."""
    plan = engine.plan
    parameters = engine.get_parameters()
    times = (blocks - 1) / total if plan.penalty_in_sum and total else 0.0
    penalty, slopes = 0.0, []
    counts = [columns for stage in plan.stages for columns in stage.penalized]
    for W, columns in zip(parameters, counts, strict=True):
        W[:, columns:] = 0
        penalty += plan.l1 * float(np.abs(W).sum(dtype=np.float64))
        penalty += 0.5 * plan.l2 * float(np.square(W, dtype=np.float64).sum())
        slopes.append(times * (plan.l1 * np.sign(W) + plan.l2 * W))
    return times * penalty, slopes


def epoch_of(
    engine: Engine,
    data: Data,
    order: Order,
    rates: Floats,
    run_epoch: Callable[[Engine, Data, Order, Floats], Epoch] = run_epoch,
) -> Epoch:
    """One pass over the rows in this order, by `run_epoch` of the rows as the engine takes them."""
    X, y, weight = data
    if takes(engine, X):
        return run_epoch(engine, (X, y, weight), order, rates)
    batch = engine.plan.batch_size
    each = dense_rows(X.shape[1], batch) // batch
    losses, penalties = np.full((2, len(rates)), np.nan)
    applied, seconds = 0, 0.0
    for s in range(0, len(rates), each):
        rows = order[s * batch : (s + each) * batch]
        dense = X[rows].toarray(), y[rows], None if weight is None else weight[rows]
        part = run_epoch(engine, dense, np.arange(len(rows)), rates[s : s + each])
        losses[s : s + each], penalties[s : s + each] = part.losses, part.penalties
        applied, seconds = applied + part.applied, seconds + part.seconds
        if part.applied < len(part.losses):
            break
    return Epoch(losses, penalties, applied, seconds)
