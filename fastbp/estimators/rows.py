"""Passes of an engine over rows that may be sparse: these are made dense some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.engines import Engine
from fastbp.training import Epoch, Floats, Order, run_epoch

Array = NDArray[Any]
Data = tuple[Any, Array, Array | None]  # X, maybe sparse, y, sample_weight

# Sparse rows are densified as many batches at a time as fit in so many values: enough to make the
# calls rare, and little beside the data.
DENSE_VALUES = 1 << 21


def row_blocks(X: Any, rows: int) -> Iterator[tuple[slice, Array]]:
    """Dense blocks of the rows of X: all of a dense X at once, `rows` at a time of a sparse one."""
    if isinstance(X, np.ndarray):
        yield slice(0, len(X)), X
    else:
        for start in range(0, X.shape[0], rows):
            block = slice(start, min(start + rows, X.shape[0]))
            yield block, X[block].toarray()


def dense_rows(features: int, batch_size: int = 1) -> int:
    """Rows of a sparse X to densify at a time: a multiple of the batch."""
    return max(1, DENSE_VALUES // (features * batch_size)) * batch_size


def outputs_of(engine: Engine, X: Any, *, link: bool = False) -> Array:
    """f(x), or the prediction link(f(x)), of every row of X."""
    plan = engine.plan
    out = np.empty((X.shape[0], plan.layer_sizes[-1]), plan.dtype)
    for rows, block in row_blocks(X, dense_rows(X.shape[1])):
        engine.forward(block, out[rows], link=link)
    return out


def loss_of(engine: Engine, data: Data) -> float:
    """The objective over all rows as one batch."""
    X, y, weight = data
    if isinstance(X, np.ndarray):
        return engine.loss(X, y, weight)
    blocks, shares = [], []
    for rows, block in row_blocks(X, dense_rows(X.shape[1])):
        w = None if weight is None else weight[rows]
        blocks.append(engine.loss(block, y[rows], w))
        shares.append(len(block) if w is None else float(w.sum()))
    return float(np.average(blocks, weights=shares))


def epoch_of(engine: Engine, data: Data, order: Order, rates: Floats) -> Epoch:
    """One pass over the rows in this order."""
    X, y, weight = data
    if isinstance(X, np.ndarray):
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
