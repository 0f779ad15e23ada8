"""The stage Sparse: rows of which only the nonzeros are there, beside the same rows dense.

The judge is the reference engine on the dense rows, in float64; of a lazy update, which a dense X does
not have, a loop that leaves alone what does not occur.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_cases import (
    DTYPES,
    EACH_ENGINE,
    ENGINES,
    OPTIMIZERS,
    Case,
    assert_keeps_and_restores,
    assert_same_on_any_threads,
    epoch,
    everything,
    make_engine,
    oracle,
)
from sparse_cases import awkward_rows, results, sparse_case

from fastbp.activations import Activation
from fastbp.csr import CSR
from fastbp.engines import create, jit
from fastbp.losses import Loss
from fastbp.plan import Plan
from fastbp.stages import Dense, Sparse

HAVE = [name for name in EACH_ENGINE if name != "jit"]
SIZES = [(37, 20, 3), (37, 3), (5, 7, 1), (60, 33, 40, 5), (70, 250, 3)]
PENALTIES = {
    "none": {},
    "l2": {"l2": 0.01},
    "both": {"l1": 0.01, "l2": 0.1},
    "clipped": {"clip_norm": 0.1},
    "l2 and clipped": {"clip_norm": 0.1, "l2": 0.1},
}


def close(got: list[Any], wanted: list[Any], allowed: float) -> None:
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max(initial=0) <= allowed * np.abs(b).max(initial=1e-300)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("batch", [1, 13, 60])
def test_an_exact_update_is_that_of_dense_rows(
    name: str, optimizer: str, penalty: str, batch: int
) -> None:
    rule, _, rate = OPTIMIZERS[optimizer]
    for sizes in SIZES if batch == 13 else SIZES[:2]:
        sparse, dense = sparse_case(
            sizes,
            "relu",
            "softmax_cross_entropy" if sizes[-1] > 1 else "squared_error",
            rows=60,
            batch_size=batch,
            weighted=True,
            penalty_in_sum=True,
            dropout=(0.25,) * (len(sizes) - 2),
            optimizer=rule,
            **PENALTIES[penalty],
        )
        order = np.random.default_rng(1).permutation(60)
        got = results(make_engine(name, sparse), sparse, rate, order)
        wanted = results(oracle(dense), dense, rate, order)
        # 120 steps at the most, of sums of some hundred terms that are taken in another order, and what
        # ReLU and the optimizer's memory make of it
        close(got, wanted, 120 * 100 * 10 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize(
    "loss",
    [
        "squared_error",
        "absolute_error",
        "huber",
        "softmax_cross_entropy",
        "binary_cross_entropy",
        "poisson",
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_losses_dtypes_and_indices(name: str, loss: str, dtype: str, index: str) -> None:
    sparse, dense = sparse_case(
        (50, 24, 3), "tanh", loss, rows=40, batch_size=7, dtype=dtype, index=index
    )
    exact = dense.astype("float64")
    order = np.arange(40)
    got = results(make_engine(name, sparse), sparse, 0.01, order, epochs=1)
    wanted = results(oracle(exact), exact, 0.01, order, epochs=1)
    # A rounding for each term of the chain of sums: entries of a row, units, rows; in each of 6 steps
    close(got, wanted, np.finfo(dtype).eps * 6 * (50 + 24 + 3 + 40))


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("batch", [1, 2, 3, 16, 17, 64, 111, 112, 113, 224, 299, 300])
def test_minibatches(name: str, batch: int) -> None:
    sparse, dense = sparse_case((300, 20, 2), rows=300, batch_size=batch, density=0.03)
    order = np.random.default_rng(2).permutation(300)
    got = results(make_engine(name, sparse), sparse, 0.05, order, epochs=1)
    wanted = results(oracle(dense), dense, 0.05, order, epochs=1)
    close(got, wanted, 300 * 300 * np.finfo(np.float64).eps)


def lazily(case: Case, rate: float, order: np.ndarray) -> list[Any]:
    """Parameters after an epoch: steps of an exact update, and back with what does not occur."""
    dense = replace(case.plan.with_dense(), batch_size=len(case.X))
    engine = create(dense, "reference")
    engine.set_parameters(case.parameters)
    X, batch = case.X, case.plan.batch_size
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        weight = None if case.sample_weight is None else case.sample_weight[rows]
        before = engine.get_parameters()[0]
        _, slots = engine.get_optimizer_state()
        counted = X[rows] if weight is None else X[rows[weight != 0]]
        moving = np.zeros(X.shape[1] + 1, bool)
        moving[counted.columns] = moving[-1] = True
        engine.epoch(
            X[rows].toarray(), case.y[rows], weight, np.arange(len(rows)), np.full(1, rate), np.empty(1)
        )  # fmt: skip
        after, (taken, now) = engine.get_parameters(), engine.get_optimizer_state()
        after[0][:, ~moving] = before[:, ~moving]
        for slot, was in zip(now, slots, strict=True):
            slot[0][:, ~moving] = was[0][:, ~moving]
        engine.set_parameters(after)
        engine.set_optimizer_state(taken, now)
    return engine.get_parameters()


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("penalty", ["none", "l2", "both"])
def test_a_lazy_update_leaves_alone_what_does_not_occur(
    name: str, optimizer: str, penalty: str
) -> None:
    rule, _, rate = OPTIMIZERS[optimizer]
    sparse, _ = sparse_case(
        (90, 20, 3), rows=40, batch_size=9, density=0.05, update="lazy", optimizer=rule,
        weighted=True, **PENALTIES[penalty],
    )  # fmt: skip
    assert sparse.sample_weight is not None
    sparse.sample_weight[::5] = 0
    order = np.random.default_rng(3).permutation(40)
    engine = make_engine(name, sparse)
    assert epoch(engine, sparse, rate, order)[0] == 5
    # 5 steps of sums of some hundred terms, as above
    close(engine.get_parameters(), lazily(sparse, rate, order), 5 * 1000 * np.finfo("f8").eps)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("penalty", ["l2", "both", "clipped", "l2 and clipped"])
def test_a_lazy_update_reports_the_whole_penalty(name: str, optimizer: str, penalty: str) -> None:
    rule, _, rate = OPTIMIZERS[optimizer]
    sparse, _ = sparse_case(
        (90, 20, 3), rows=40, batch_size=9, density=0.05, update="lazy", optimizer=rule,
        **PENALTIES[penalty],
    )  # fmt: skip
    order = np.random.default_rng(3).permutation(40)
    got = results(make_engine(name, sparse), sparse, rate, order)
    wanted = results(make_engine("reference", sparse), sparse, rate, order)
    close(got, wanted, 10 * 1000 * np.finfo(np.float64).eps)


@pytest.mark.skipif("native" not in ENGINES, reason="no native engine")
@pytest.mark.parametrize("rate", [0.5, 30.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_penalty_that_is_applied_late(dtype: str, rate: float) -> None:
    """Plain SGD with L2: 600 steps, in which most columns occur seldom, or never.

    A dense step rounds w ← (1 − ηλ) w every time. Here w is what lies there times the product of the
    factors, which float64 holds: rounded once when a column is touched, and once at the end. So the
    error is at most that of the dense way, a rounding for each step and one for each touch, of the
    largest that a weight was. With the large rate (ηλ = 0.6) the product would be below 2⁻²⁴ after 19
    steps and below what float32 holds after 160: it has to be multiplied out on the way.
    """
    sparse, dense = sparse_case(
        (200, 9, 2), rows=600, batch_size=1, density=0.01, dtype=dtype, l2=0.02, loss="huber"
    )
    exact = dense.astype("float64")
    scale = 1e-3 if rate == 30 else 1.0  # huber's δ is at most 1: the steps are bounded
    sparse, exact = (
        replace(c, X=(CSR(c.X.values * c.X.values.dtype.type(scale), c.X.columns, c.X.starts, c.X.shape)
                      if isinstance(c.X, CSR) else c.X * scale))
        for c in (sparse, exact)
    )  # fmt: skip
    order = np.arange(600)
    engines = [make_engine("native", sparse), oracle(exact)]
    losses = [epoch(e, c, rate, order)[1] for e, c in zip(engines, (sparse, exact), strict=True)]
    assert all(np.isfinite(found).all() for found in losses)
    allowed = np.finfo(dtype).eps * 2 * 600
    largest = max(np.abs(W).max() for W in exact.parameters)
    got, wanted = (e.get_parameters()[0][:, :-1] for e in engines)
    never = np.ones(200, bool)
    never[sparse.X.columns] = False
    assert never.sum() > 40
    assert np.abs(got - wanted)[:, never].max() <= allowed * largest


@pytest.mark.skipif("native" not in ENGINES, reason="no native engine")
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("penalty", ["none", "l2", "clipped"])
@pytest.mark.parametrize("update", ["exact", "lazy"])
@pytest.mark.parametrize("batch", [1, 61])
@pytest.mark.parametrize("rows", [1, 10**6], ids=["by rows", "by columns"])
def test_bits_do_not_depend_on_threads(
    optimizer: str, penalty: str, update: str, batch: int, rows: int
) -> None:
    sparse, _ = sparse_case(
        (300, 101, 5), "relu", "softmax_cross_entropy", rows=122, batch_size=batch, density=0.05,
        dtype="float32", weighted=True, update=update, dropout=(0.25,), seed=3,
        optimizer=OPTIMIZERS[optimizer][0], **PENALTIES[penalty],
    )  # fmt: skip

    def train(threads: int) -> list[Any]:
        return everything(make_engine("native", sparse, threads=threads), sparse)

    assert_same_on_any_threads(train, rows)


@pytest.mark.parametrize("name", HAVE)
@pytest.mark.parametrize("update", ["exact", "lazy"])
def test_what_was_kept_comes_back(name: str, update: str) -> None:
    sparse, _ = sparse_case((37, 20, 3), rows=30, batch_size=4, density=0.05, update=update)
    assert_keeps_and_restores(make_engine(name, sparse), make_engine(name, sparse), sparse)


@pytest.mark.parametrize("name", HAVE)
def test_only_what_is_not_finite_is_not_kept(name: str) -> None:
    sparse, _ = sparse_case((37, 9, 3), rows=30, batch_size=4)
    engine = make_engine(name, sparse)
    for k in (0, 36, 37):  # inputs and the bias
        for j in (0, 7, 8):
            spoilt = [W.copy() for W in sparse.parameters]
            spoilt[0][j, k] = np.nan
            engine.set_parameters(spoilt)
            assert not engine.keep()
    engine.set_parameters(sparse.parameters)
    assert engine.keep()


@pytest.mark.parametrize("name", HAVE)
def test_no_rows_and_empty_rows(name: str) -> None:
    sparse, _ = sparse_case((37, 9, 3), rows=4, batch_size=4, l2=0.1)
    engine = make_engine(name, sparse)
    none = CSR(np.empty(0), np.empty(0, "i4"), np.zeros(1, "i4"), (0, 37))
    out = np.empty((0, 3))
    engine.forward(none, out)
    g = [np.full_like(W, np.nan) for W in sparse.parameters]
    loss = engine.gradient(none, np.empty((0, 3)), None, g)
    np.testing.assert_allclose(g[0][:, :-1], 0.1 * sparse.parameters[0][:, :-1], rtol=1e-15)
    assert loss == pytest.approx(engine.loss(none, np.empty((0, 3)), None))
    empty = replace(sparse, X=CSR(np.empty(0), np.empty(0, "i8"), np.zeros(5, "i8"), (4, 37)))
    judge = oracle(replace(sparse, plan=sparse.plan.with_dense()))
    got = np.empty((4, 3))
    wanted = np.empty((4, 3))
    engine.forward(empty.X, got)
    judge.forward(np.zeros((4, 37)), wanted)
    np.testing.assert_allclose(got, wanted, rtol=1e-13)
    assert epoch(engine, empty)[0] == 1


def test_rows_of_the_other_kind_are_refused() -> None:
    sparse, dense = sparse_case((37, 9, 3))
    for name in HAVE:
        out = np.empty((11, 3))
        with pytest.raises(TypeError, match="X must be CSR for a first stage Sparse, got ndarray"):
            make_engine(name, sparse).forward(dense.X, out)
    for name in EACH_ENGINE:
        with pytest.raises(TypeError, match="X must be an array for a first stage Dense, got CSR"):
            make_engine(name, dense).forward(sparse.X, out)


@pytest.mark.parametrize("name", HAVE)
def test_shapes_are_checked(name: str) -> None:
    sparse, _ = sparse_case((37, 9, 3))
    engine = make_engine(name, sparse)
    X = sparse.X
    with pytest.raises(ValueError, match=r"X must have shape \(n?1?1?, 37\), got \(11, 36\)"):
        engine.forward(CSR(X.values, X.columns, X.starts, (11, 36)), np.empty((11, 3)))
    with pytest.raises(ValueError, match=r"y must have shape"):
        engine.loss(X, np.empty((10, 3)), None)


def test_plans() -> None:
    with pytest.raises(ValueError, match="only the first stage may be Sparse"):
        Plan((Dense(3, 4), Sparse(4, 2)), Loss("squared_error"))
    with pytest.raises(ValueError, match="update must be 'exact' or 'lazy', got 'never'"):
        Sparse(3, 4, Activation("relu"), 0.0, update="never")
    sparse, dense = sparse_case((37, 9, 3))
    assert sparse.plan.with_dense() == dense.plan
    if jit.available():
        with pytest.raises(ValueError, match="engine 'jit' has no stage of kind Sparse"):
            create(sparse.plan, "jit")


def test_a_seen_column_goes_on_when_the_state_is_set() -> None:
    """Columns without a state are passed over; those whose state was put in are not."""
    for optimizer in ("momentum", "adam"):
        sparse, _ = sparse_case(
            (90, 20, 3), rows=40, batch_size=9, density=0.02, optimizer=OPTIMIZERS[optimizer][0]
        )
        one, other = make_engine("auto", sparse), make_engine("auto", sparse)
        epoch(one, sparse)
        other.set_parameters(one.get_parameters())
        other.set_optimizer_state(*one.get_optimizer_state())
        for engine in (one, other):
            epoch(engine, sparse, order=np.arange(5))
        for a, b in zip(one.get_parameters(), other.get_parameters(), strict=True):
            np.testing.assert_array_equal(a, b)


CHANGING = """
import sys, threading
import numpy as np
from fastbp import losses, optimizers, stages, activations
from fastbp.csr import CSR
from fastbp.engines import Plan, create, native
native.COSTS.update(flops_per_thread=1, flops_per_wait=0)
sys.setswitchinterval(1e-4)
name, index, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(0)
n, width = 120, 500
counts = rng.integers(0, 30, n)
starts = np.zeros(n + 1, index); np.cumsum(counts, out=starts[1:])
picked = rng.integers(0, width, starts[-1]).astype(index)
X = CSR(rng.random(starts[-1]).astype("f4"), picked, starts, (n, width))
right = [a.copy() for a in (X.values, X.columns, X.starts)]
top = np.iinfo(index)
garbage = [np.nan, 1e30], [-1, width, top.min, top.max, 10**6], [-1, top.min, top.max, 10**6, 0]
over, writes = threading.Event(), 0

def write():
    global writes
    generator = np.random.default_rng(1)
    while not over.is_set():
        for a, good, bad in zip((X.values, X.columns, X.starts), right, garbage):
            at = generator.integers(0, len(a), 40)
            a[at] = generator.choice(bad, 40)
            a[at] = good[at]
            writes += 1

thread = threading.Thread(target=write); thread.start()
try:
    for optimizer, update, clip, l2, batch in (
        ("sgd", "exact", 0, 0, 17), ("sgd", "exact", 0, 0.1, 8), ("adam", "exact", 1, 0, 17),
        ("adam", "lazy", 0, 0.1, 40), ("momentum", "lazy", 1, 0, 120),
    ):
        plan = Plan(stages.dense((width, 40, 3), (activations.get("relu"),)), losses.get("huber"),
                    optimizers.get(optimizer), batch, threads=threads, clip_norm=clip, l2=l2)
        engine = create(plan.with_sparse(update), name)
        y, out = rng.random((n, 3)).astype("f4"), np.empty((n, 3), "f4")
        W = [rng.random(s).astype("f4") - 0.5 for s in plan.shapes]
        steps = -(-n // batch)
        for _ in range(6):
            engine.set_parameters(W)
            engine.epoch(X, y, None, rng.permutation(n), np.full(steps, 1e-3), np.empty(steps))
            engine.forward(X, out)
            engine.gradient(X, y, None, [w.copy() for w in W])
finally:
    over.set(); thread.join()
assert writes > 100
"""


@pytest.mark.skipif("native" not in ENGINES, reason="the reference engine is NumPy's to guard")
@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_another_thread_changes_the_rows(index: str, threads: int) -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(CHANGING), "native", index, str(threads)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]


def test_rows_of_rows() -> None:
    X = awkward_rows(20, 9)
    dense = X.toarray()
    for wanted in (np.array([3, 3, 0]), slice(2, 17, 3), np.arange(20) % 2 == 0, np.empty(0, int)):
        np.testing.assert_array_equal(X[wanted].toarray(), dense[wanted])
    assert X.share == len(X.values) / 180
