"""Stages of other kinds among Dense ones in precision "bf16": these round operands, the others nothing.

The judge is the reference engine. Both round the same numbers, but v and δ may differ in their last
bits, and then one rounding in some thousands goes the other way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_cases import (
    BF16_ENGINES,
    Array,
    Case,
    assert_keeps_and_restores,
    assert_same_on_any_threads,
    epoch,
    everything,
    forward,
    gradient,
    in_bf16,
    jacobian,
    make_engine,
)
from sparse_cases import sparse_case
from test_stage_members import tabm_case
from test_stage_scale import scaled
from test_stage_tables import table_case

from fastbp import activations
from fastbp.optimizers import SGD, AdamW

NATIVE = [name for name in BF16_ENGINES if name != "reference"]
MAKE: dict[str, Callable[..., Case]] = {
    "Scale": lambda **f: scaled(
        (33, 70, 5), **{"dropout": 0.25, "phi": activations.get("gelu")} | f
    ),
    "Scale, whole panels": lambda **f: scaled((32, 64, 16), phi=activations.get("relu"), **f),
    "Blend, Periodic, Lookup": lambda **f: table_case((17, 5, (2, 70), 9, 33), **f),
    "Blend with dropout": lambda **f: table_case((8, 8, (40, 3), 16, 48), dropout=0.25, **f),
    "Members": lambda **f: tabm_case((8, 17, 33, 3), **f),
    "Members of no power of 2": lambda **f: tabm_case((13, 17, 33, 3), **f),
    "Sparse": lambda **f: sparse_case((90, 70, 40, 3), ("relu", "tanh"), **f)[0],
}


def rounded(name: str, **fields: Any) -> Case:
    return in_bf16(MAKE[name](**{"dtype": "float32", "seed": 3} | fields))


def results(engine: Any, case: Case) -> list[Array]:
    loss, g = gradient(engine, case)
    return [np.array(loss), *g, forward(engine, case.X), jacobian(engine, case.X)]


def members_of(kind: str) -> int:
    """As many rows are one sample."""
    return max(getattr(stage, "members", 1) for stage in rounded(kind).plan.stages)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("kind", MAKE)
def test_values_of_every_stage(kind: str, name: str) -> None:
    case = rounded(kind)
    got = results(make_engine(name, case), case)
    wanted = results(make_engine("reference", case), case)
    whole = results(make_engine("reference", case, precision=None), case)
    # Sums of some hundred terms, each rounded once, and a few operands of some thousands off by 2⁻⁸.
    allowed = 2.0**-8 * (1 / 64) ** 0.5 / 8
    apart = []
    for a, b, unrounded in zip(got, wanted, whole, strict=True):
        norm = np.linalg.norm(b)
        assert np.linalg.norm(a - b) <= allowed * norm
        apart.append(np.linalg.norm(unrounded - b) / norm)
    assert max(apart) > 2 * allowed  # an engine that rounds nothing is found out


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("optimizer", [SGD(), AdamW(epsilon=0.01)], ids=["sgd", "adamw"])
@pytest.mark.parametrize("kind", MAKE)
def test_epochs_end_about_alike(kind: str, optimizer: Any, name: str) -> None:
    members = members_of(kind)
    case = rounded(kind, optimizer=optimizer, clip_norm=0.5, batch_size=8 * members)
    engines = [make_engine(each, case) for each in (name, "reference")]
    for engine in engines:
        for _ in range(2):
            epoch(engine, case, 0.01)
    for a, b, start in zip(*(e.get_parameters() for e in engines), case.parameters, strict=True):
        moved = np.linalg.norm(b - start)
        assert np.linalg.norm(a - b) <= 0.02 * moved + 1e-7 * np.linalg.norm(start)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("batch", [7, 61])
@pytest.mark.parametrize("rows", [1, 10**6], ids=["by rows", "by columns"])
@pytest.mark.parametrize("kind", MAKE)
def test_bits_do_not_depend_on_threads(kind: str, rows: int, batch: int, name: str) -> None:
    members = members_of(kind)

    def train(threads: int) -> list[Array]:
        fields = {"batch_size": batch * members, "threads": threads, "optimizer": AdamW()}
        case = rounded(kind, rows=70 * members, **fields)
        return everything(make_engine(name, case), case)

    assert_same_on_any_threads(train, rows)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("kind", MAKE)
def test_what_was_kept_comes_back(kind: str, name: str) -> None:
    case = rounded(kind, batch_size=2 * members_of(kind))
    assert_keeps_and_restores(make_engine(name, case), make_engine(name, case), case)
