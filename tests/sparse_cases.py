"""Sparse rows for the tests: awkward ones on purpose, and the same problem dense."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from engine_cases import Array, Case, make_case
from numpy.typing import NDArray

from fastbp.csr import CSR


def awkward_rows(
    rows: int, columns: int, density: float = 0.2, *, seed: int = 0, index: str = "int32"
) -> CSR:
    """Unsorted, with repeated columns, explicit zeros, empty rows, and columns that never occur."""
    rng = np.random.default_rng(seed)
    used = rng.permutation(columns)[: max(1, columns * 3 // 4)]
    counts = rng.binomial(max(1, columns), density, rows)
    counts[rng.random(rows) < 0.1] = 0
    starts = np.zeros(rows + 1, index)
    np.cumsum(counts, out=starts[1:])
    picked = rng.choice(used, starts[-1]).astype(index)  # with repetitions
    values = rng.standard_normal(starts[-1]).astype(np.float32).astype(np.float64)
    values[rng.random(starts[-1]) < 0.05] = 0
    return CSR(values, picked, starts, (rows, columns))


def sparse_case(
    sizes: tuple[int, ...],
    *args: Any,
    update: str = "exact",
    density: float = 0.2,
    index: str = "int32",
    dtype: str = "float64",
    **fields: Any,
) -> tuple[Case, Case]:
    """A problem with sparse rows, and the same with dense ones."""
    dense = make_case(sizes, *args, **fields)
    X = awkward_rows(len(dense.X), sizes[0], density, index=index)
    dense = replace(dense, X=X.toarray()).astype(dtype)
    values: NDArray[Any] = X.values.astype(dtype)
    X = CSR(values, X.columns, X.starts, X.shape)
    return replace(dense, X=X, plan=dense.plan.with_sparse(update)), dense  # type: ignore[arg-type]


def results(engine: Any, case: Case, rate: float, order: Array, epochs: int = 2) -> list[Array]:
    """What training and every call give, and the optimizer's state."""
    steps = -(-len(order) // engine.plan.batch_size)
    outputs = engine.plan.layer_sizes[-1]
    losses = np.full((epochs, steps), np.nan)
    penalties = np.full((epochs, steps), np.nan)
    for found, parts in zip(losses, penalties, strict=True):
        engine.epoch(case.X, case.y, case.sample_weight, order, np.full(steps, rate), found, parts)
    g = [np.full(W.shape, np.nan, W.dtype) for W in case.parameters]
    f = np.full((len(case.X), outputs), np.nan, engine.plan.dtype)
    J = np.full((len(case.X), outputs, case.X.shape[1]), np.nan, engine.plan.dtype)
    loss = engine.gradient(case.X, case.y, case.sample_weight, g)
    engine.forward(case.X, f)
    engine.jacobian(case.X, J)
    value = engine.loss(case.X, case.y, case.sample_weight)
    slots = [a for slot in engine.get_optimizer_state()[1] for a in slot]
    return [
        *engine.get_parameters(), losses, penalties, np.array([loss, value]), *g, f, J, *slots
    ]  # fmt: skip
