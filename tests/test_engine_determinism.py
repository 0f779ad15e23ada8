"""Weights after several epochs are the same bits on any number of threads, and from run to run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from unittest.mock import patch

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    EACH_ENGINE,
    ISAS,
    THREAD_SHAPES,
    Array,
    cut_at,
    epoch,
    everything,
    make_case,
    make_engine,
)

from fastbp.engines import native


def train(name: str, dtype: str, shape: str, threads: int) -> list[Array]:
    case = make_case(**THREAD_SHAPES[shape], dtype=dtype, threads=threads)
    return everything(make_engine(name, case), case)


one_thread = cache(train)


@pytest.fixture(params=[1, 10**6], ids=["by rows", "by columns"])
def every_thread_is_worth_it(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the native engine start all the threads it may, however small the problem, and cut the
    first phase of a step both ways.
    """
    with patch.dict(native.COSTS, cut_at(request.param)):
        yield


@pytest.mark.usefixtures("every_thread_is_worth_it")
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", THREAD_SHAPES)
@pytest.mark.parametrize("threads", [1, 2, 5])  # 1: from run to run
def test_bits_do_not_depend_on_threads(isa: str, dtype: str, shape: str, threads: int) -> None:
    check_threads(f"native-{isa}", dtype, shape, threads)


@pytest.mark.parametrize("name", [name for name in EACH_ENGINE if not name.startswith("native")])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", THREAD_SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_bits_of_other_engines(name: str, dtype: str, shape: str, threads: int) -> None:
    check_threads(name, dtype, shape, threads)


def check_threads(name: str, dtype: str, shape: str, threads: int) -> None:
    first = one_thread(name, dtype, shape, 1)
    for got, wanted in zip(train(name, dtype, shape, threads), first, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.usefixtures("every_thread_is_worth_it")
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", THREAD_SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_bits_do_not_depend_on_what_is_fetched_ahead(
    isa: str, dtype: str, shape: str, threads: int
) -> None:
    name = f"native-{isa}"
    with patch.dict(native.COSTS, bytes_near=0, rows_far=1, threads_far=64):  # all weights are far
        fetched = train(name, dtype, shape, threads)
    for got, wanted in zip(fetched, one_thread(name, dtype, shape, 1), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("hidden", [20, 330])  # 330: each of the threads has its own v⁰
@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("rows", [2, 10])
@pytest.mark.parametrize("steps", [2, 400])  # of an epoch
def test_bits_do_not_depend_on_how_many_threads_rest(
    isa: str, threads: int, hidden: int, batch: int, rows: int, steps: int
) -> None:
    """Windows of a few steps, so that the team grows and shrinks all along the epoch, or from call to
    call, and with few rows to split its steps are cut by columns or by rows as it does.
    """
    costs = cut_at(rows) | {"flops_per_window": 50_000}
    case = make_case(
        (9, hidden, 4),
        "tanh",
        dtype="float32",
        rows=steps * batch,
        batch_size=batch,
        labels=True,
        loss="softmax_cross_entropy",
        l2=0.01,
    )
    order, rates = np.arange(steps * batch), np.full(steps, 0.01)
    trained = []
    for count in (1, threads):
        with patch.dict(native.COSTS, costs):
            engine = make_engine(f"native-{isa}", case, threads=count)
        trained.append([])
        for _ in range(4 if steps > 2 else 60):
            losses, penalties = np.full((2, steps), np.nan)
            data = (case.X, case.y, case.sample_weight, order)
            assert engine.epoch(*data, rates, losses, penalties) == steps
            trained[-1] += [losses, penalties]
        trained[-1] += engine.get_parameters()
    for got, wanted in zip(*trained, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", EACH_ENGINE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_depends_on_its_seed(name: str, dtype: str) -> None:
    fields = THREAD_SHAPES["tails"] | {"dtype": dtype}
    weights = []
    for seed in (3, 3, 4):
        case = make_case(**fields | {"seed": seed})
        engine = make_engine(name, case)
        epoch(engine, case)
        weights.append(engine.get_parameters()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])
