"""`fastbp plan-cluster`: what it reckons of an exchange, and what it says."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from fastbp.cli import main
from fastbp.distributed.cost import NETWORKS, Network, Step, exchange_seconds, measure, plan_for
from fastbp.engines import native

NATIVE = pytest.mark.skipif(not native.available(), reason="needs the native engine")


def test_an_exchange_takes_rounds_and_bytes() -> None:
    network = Network(latency=1e-3, bandwidth=1e6)
    assert exchange_seconds(1e9, 1, network) == 0
    assert exchange_seconds(1000, 2, network) == pytest.approx(1e-3 + 500e-6)
    assert exchange_seconds(1e6, 5, network) == pytest.approx(1e-3 + 0.8)
    assert exchange_seconds(1e6, 64, network) == pytest.approx(2e-3 + 63 / 64)


def test_networks_are_in_order() -> None:
    for faster, slower in zip(list(NETWORKS.values())[1:], list(NETWORKS.values()), strict=False):
        assert faster.bandwidth > slower.bandwidth
        assert faster.latency < slower.latency


@NATIVE
@pytest.mark.parametrize("layers", [(20, 50, 3), (20, 64, 32, 1)])
@pytest.mark.parametrize("ranks", [1, 2, 7])
def test_bytes_of_a_step(layers: tuple[int, ...], ranks: int) -> None:
    batch = 24
    plan = plan_for(layers, batch, "adam", 1)
    found = measure(plan, ranks, Network(0.0, 1.0), seconds=0.0)
    weights = sum(n * m for n, m in plan.shapes)
    values = 2 * sum(layers[1:-1]) + layers[-1]
    least = 4 * (weights + batch * values) * (ranks - 1) / ranks
    # rows and tiles are of whole panels, of at most 32 columns each
    wide = [-(-n // 32) * 32 for n in layers]
    padded = sum((n + 1) * m for n, m in zip(layers, wide[1:], strict=False))
    tiles = sum(-(-(n + 1) // 8) * -(-m // 8) for n, m in itertools.pairwise(layers))
    most = 4 * (padded + batch * (2 * sum(wide[1:-1]) + wide[-1])) + 8 * (batch + tiles)
    assert least <= found.bytes <= most * (ranks - 1) / ranks
    assert found.exchange == pytest.approx(found.bytes)
    assert found.compute > 0
    assert found.seconds == found.compute + found.exchange


@NATIVE
@pytest.mark.parametrize(("ranks", "wanted"), [(1, False), (2, True), (3, False), (4, True)])
def test_sums_of_gradients_are_exchanged_where_they_are_less(ranks: int, wanted: bool) -> None:
    plan = plan_for((20, 50, 3), 600, "adam", 1)
    found = measure(plan, ranks, Network(0.0, 1.0), seconds=0.0)
    assert found.by_gradients == wanted
    if wanted:
        tiles = -(-21 // 8) * -(-50 // 8) + -(-51 // 8) * -(-3 // 8)
        padded = (20 + 1) * 64 + (50 + 1) * 32
        most = 2 * (4 * padded + 8 * tiles) + 8 * (600 + 32)  # and the rows' losses
        weights = sum(n * m for n, m in plan.shapes)
        assert 8 * weights <= found.bytes * ranks / (ranks - 1) <= most


def of_one_step(rows: int) -> tuple[Any, ...]:
    """What an engine is given for an epoch of one minibatch, four inputs each."""
    losses, penalties = np.empty((2, 1))
    X, y = np.ones((rows, 4), "f"), np.zeros(rows, np.int64)
    return X, y, None, np.arange(rows), np.ones(1), losses, penalties


@NATIVE
def test_ranks_with_sums_of_gradients_have_whole_shards() -> None:
    plan = plan_for((4, 5, 3), 256, "adam", 1)
    engine: Any = native.create(plan)
    assert engine.cut["shards"] == 2
    epoch = engine.share(*of_one_step(256), rank=1, ranks=2, inputs=False)
    with pytest.raises(ValueError, match="begin with a shard"):
        epoch.rows(0, np.array([0, 96, 256]))
    epoch.rows(0, np.array([0, 128, 256]))
    assert len(epoch.sums) == epoch.tile_starts[-1]
    assert len(epoch.sums_of_mine) == 2 * (epoch.tile_starts[2] - epoch.tile_starts[1])
    assert epoch.end() == 0


@NATIVE
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    args = "plan-cluster --layers 20,30,3 --batch 6 --network 1G --ranks 64 --threads 1"
    assert main(args.split()) == 0
    out = capsys.readouterr().out
    assert "20-30-3, 723 weights, minibatches of 6 rows, adam" in out
    ranks = [int(line.split()[0]) for line in out.splitlines() if re.match(r" *\d+ ", line)]
    assert ranks == [1, 2, 4]  # no more than there are rows
    assert "It does not pay" in out  # microseconds of work, and 50 µs for each message
    assert out.count("values and errors of the rows") == 2


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ("--layers 5", "--layers takes at least two widths"),
        ("--layers 5,0", "--layers takes at least two widths"),
        ("--layers 5,3 --batch 0", "--batch must be an integer ≥ 1"),
        ("--layers 5,3 --ranks 0", "--ranks must be an integer ≥ 1"),
        ("--layers 5,3 --latency -1", "--latency must be"),
        ("--layers 5,3 --optimizer adan", "adam"),
        ("--layers 5,3 --threads 0", "threads must be an integer ≥ 1"),
    ],
)
def test_misuse(capsys: pytest.CaptureFixture[str], args: str, wanted: str) -> None:
    assert main(["plan-cluster", *args.split()]) == 2
    assert wanted in capsys.readouterr().err


def test_more_ranks_than_rows() -> None:
    with pytest.raises(ValueError, match="a minibatch of 4 rows has none for each of 5 ranks"):
        measure(plan_for((3, 2), 4, "sgd", 1), 5, NETWORKS["10G"])


def test_what_is_said_of_steps() -> None:
    from fastbp.command.plan_cluster import _verdict

    def steps(*seconds: float) -> list[Step]:
        return [Step(2**i, s, 0.0, 0.0) for i, s in enumerate(seconds)]

    assert "It does not pay" in _verdict(steps(1.0, 2.0))
    said = _verdict(steps(8.0, 4.1, 3.0, 2.5))
    assert "Fastest of these are 8 ranks; up to 4 of them are used to a half or more." in said


@NATIVE
def test_parts_of_a_shared_step_come_in_order() -> None:
    plan = plan_for((4, 5, 3), 6, "adam", 1)
    engine = native.create(plan)
    given = of_one_step(6)

    def share(rank: int = 0, ranks: int = 2) -> Any:
        return engine.share(*given, rank=rank, ranks=ranks, inputs=False)  # type: ignore[attr-defined]

    for rank in (-1, 2):
        with pytest.raises(ValueError, match="rank must be one of 2"):
            share(rank)
    epoch = share()
    with pytest.raises(RuntimeError, match=r"in the middle|cannot use the model"):
        engine.get_parameters()
    for call in (epoch.update, epoch.clip, epoch.finish):
        with pytest.raises(RuntimeError, match="in the order of rows, update, clip, finish"):
            call()
    for bounds in ([0, 6], [0, 7, 6], [0, 3, 7], [1, 3, 6]):
        with pytest.raises(ValueError, match="bounds must go from 0 to 6 in 2 parts"):
            epoch.rows(0, np.array(bounds))
    with pytest.raises(ValueError, match="s must be a step of 1, got 1"):
        epoch.rows(1, np.array([0, 3, 6]))
    epoch.rows(0, np.array([0, 3, 6]))
    with pytest.raises(RuntimeError, match="in the order of rows"):
        epoch.rows(0, np.array([0, 3, 6]))
    assert epoch.update()
    with pytest.raises(RuntimeError, match="in the order of rows"):
        epoch.update()
    epoch.finish()
    for slot in (-1, 2):
        with pytest.raises(ValueError, match="no slot"):
            epoch.give_slot(slot)
    assert epoch.end() == 1
    for call in (epoch.end, epoch.update):
        with pytest.raises(RuntimeError, match=r"has ended|in the order"):
            call()
    engine.get_parameters()
