"""A trial of a bf16 module: a small network computed by it and by the reference engine.

For instructions that a CPU says it has, before the first use. The numbers are integers, and so small
that no sum of products reaches 2²⁴, in whatever order it is taken: float32 rounds none of them, and
what both round to bf16 is the same. So there is one right result, to the last bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from fastbp.activations import Activation
from fastbp.engines import Array, Engine, Plan
from fastbp.engines.reference import ReferenceEngine
from fastbp.losses import Loss
from fastbp.stages import dense

# Inputs in more than one block of the sum; panels of 32 outputs and the rest, wide and narrow; rows in
# more than one block, whole tiles of 16 and 32 and the rest, also fewer than one tile.
SIZES = (530, 40, 40)
ROWS = 177
FEWER = (1, 16, 25)


def disagreement(make: Callable[[Plan], Engine]) -> str:
    """What an engine for precision "bf16" computes otherwise than the reference engine; "" if nothing.

    Outputs, and gradients with the weights' products carried down: every kind of matmul there is.
    """
    stages = dense(SIZES, (Activation("identity"),))
    plan = Plan(stages, Loss("squared_error"), batch_size=ROWS, precision="bf16")
    rng = np.random.default_rng(0)

    def integers(most: int, *shape: int) -> Array:
        return rng.integers(-most, most + 1, shape).astype(np.float32)

    # |z| ≤ 530·7·7 + 7 and, v being z rounded, |f| ≤ 40·7·26,112 + 7 < 2²⁴.
    X = integers(7, ROWS, SIZES[0])
    parameters = [integers(7, n, m + 1) for m, n in itertools.pairwise(SIZES)]
    # Residuals of −1, 0, 1 and a total weight of 2⁸: |δ| ≤ 2 and Σ v δ ≤ 177·26,112·2 in units of 2⁻⁸.
    residuals = integers(1, ROWS, SIZES[-1])
    weight = np.ones(ROWS, np.float32)
    weight[: 256 - ROWS] = 2
    judge, engine = ReferenceEngine(plan), make(plan)
    judge.set_parameters(parameters)
    engine.set_parameters(parameters)
    f = np.empty((ROWS, SIZES[-1]), np.float32)
    judge.forward(X, f)
    for rows in (ROWS, *FEWER):
        out = np.full((rows, SIZES[-1]), np.nan, np.float32)
        engine.forward(X[:rows], out)
        if not np.array_equal(out, f[:rows]):
            return "its products are wrong"
    gradients = [[np.full_like(W, np.nan) for W in parameters] for _ in range(2)]
    for each, g in zip((judge, engine), gradients, strict=True):
        each.gradient(X, f - residuals, weight, g)
    if not all(map(np.array_equal, *gradients)):
        return "its gradients are wrong"
    return ""
