"""The benchmark suite itself: what could be wrong in it without anyone noticing."""

from __future__ import annotations

import ctypes
import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

# At the end: fastbp is to be the one that is installed, not the checkout's.
sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import (
    cases,
    contenders,
    equivalence,
    groups,
    interleave,
    kernels,
    peak,
    report,
    tables,
)
from benchmarks.worker import Worker, WorkerError

CASE = cases.Case("test", (6, 8, 5, 3), 4, 24, learning_rate=0.1)


def test_flops_of_a_step_are_those_of_its_products():
    """Count by the shapes that NumPy's own products would have."""
    for case in (CASE, cases.CASES["mnist-medium"]):
        B, total = case.batch_size, 0
        for layer, (k, n) in enumerate(itertools.pairwise(case.layer_sizes)):
            products = [((B, k), (k, n)), ((n, B), (B, k))]  # z = x Wᵀ, gradient = δᵀ x
            if layer > 0:
                products.append(((B, n), (n, k)))  # δ W
            total += sum(2 * rows * inner * columns for (rows, inner), (_, columns) in products)
        assert cases.flops_per_step(case) == total


def test_flops_and_bytes_by_hand():
    # 4·16 + 16·3 multiply-adds forward and again for the gradients, 16·3 for the inputs' gradient
    assert cases.flops_per_step(cases.CASES["tiny"]) == 2 * 32 * (2 * (64 + 48) + 48)
    assert cases.flops_per_row(cases.CASES["tiny"]) == 2 * (64 + 48)
    assert cases.parameter_bytes(cases.CASES["tiny"]) == 4 * (16 * 5 + 3 * 17)


@pytest.mark.parametrize(
    "case", [*cases.CASES.values(), cases.DIGITS, *cases.width_sweep(), *cases.batch_sweep()]
)
def test_no_case_has_a_short_last_batch(case: cases.Case):
    assert case.rows % case.batch_size == 0
    assert case.steps >= 2


def test_digits_are_split_without_overlap():
    X, y, X_test, y_test = cases.digits()
    assert (len(X), len(X_test)) == (len(y), len(y_test)) == (1440, 352)
    assert not {row.tobytes() for row in X} & {row.tobytes() for row in X_test}


# Equivalence

AVAILABLE = ["fastbp", "fastbp-reference", "numpy", "sklearn"]


def claim(contender: contenders.Contender, case: cases.Case = CASE) -> equivalence.Claim:
    few = cases.first_steps(case, equivalence.STEPS)
    X, y = cases.data(few)
    contender.set_parameters(cases.parameters(case))
    contender.set_data(X, y)
    loss = contender.epoch(cases.orders(few, 1)[0])
    return loss, contender.get_parameters(), contender.predict(X)


@pytest.mark.parametrize("name", AVAILABLE)
def test_contenders_prove_what_they_compute(name: str):
    if contenders.missing(name):
        pytest.skip(str(contenders.missing(name)))
    errors = equivalence.check(CASE, "float32", claim(contenders.create(name, CASE, 1)))
    assert errors["loss_error"] <= errors["loss_tolerance"]


def numpy_contender():
    return contenders.create("numpy", CASE, 1)


def test_a_wrong_learning_rate_is_caught():
    wrong = contenders.create("numpy", replace(CASE, learning_rate=0.101), 1)
    with pytest.raises(equivalence.NotEquivalentError, match="off by"):
        equivalence.check(CASE, "float32", claim(wrong))


def test_a_bias_that_does_not_learn_is_caught():
    loss, parameters, labels = claim(numpy_contender())
    parameters[0][:, -1] = cases.parameters(CASE)[0][:, -1]
    with pytest.raises(equivalence.NotEquivalentError, match="biases of layer 1"):
        equivalence.check(CASE, "float32", (loss, parameters, labels))


def test_rows_in_another_order_are_caught():
    contender = numpy_contender()
    epoch = contender.epoch
    contender.epoch = lambda order: epoch(order[::-1])
    with pytest.raises(equivalence.NotEquivalentError):
        equivalence.check(CASE, "float32", claim(contender))


def test_a_left_out_step_is_caught():
    contender = numpy_contender()
    epoch = contender.epoch
    contender.epoch = lambda order: epoch(order[: -CASE.batch_size])
    with pytest.raises(equivalence.NotEquivalentError):
        equivalence.check(CASE, "float32", claim(contender))


def test_less_precision_than_claimed_is_caught():
    loss, parameters, labels = claim(numpy_contender())
    rounded = [p.astype(np.float16).astype(np.float32) for p in parameters]
    with pytest.raises(equivalence.NotEquivalentError):
        equivalence.check(CASE, "float32", (loss, rounded, labels))


def test_wrong_labels_and_a_wrong_loss_are_caught():
    loss, parameters, labels = claim(numpy_contender())
    with pytest.raises(equivalence.NotEquivalentError, match="labels"):
        equivalence.check(CASE, "float32", (loss, parameters, (labels + 1) % 3))
    with pytest.raises(equivalence.NotEquivalentError, match="loss"):
        equivalence.check(CASE, "float32", (loss + 0.01, parameters, labels))
    with pytest.raises(equivalence.NotEquivalentError, match="loss"):
        equivalence.check(CASE, "float32", (float("nan"), parameters, labels))


def test_a_wrong_contender_ends_the_comparison():
    class Wrong:
        name = "numpy"

        def prove(self, steps: int) -> equivalence.Claim:
            loss, parameters, labels = claim(numpy_contender())
            return loss, [1.01 * p for p in parameters], labels

    with pytest.raises(equivalence.NotEquivalentError, match="numpy, 6-8-5-3"):
        groups.prove(Wrong(), CASE, equivalence.exact(CASE))


# Workers


def test_a_worker_trains_and_proves_as_in_this_process():
    with Worker("numpy", 1) as worker:
        worker.load(CASE)
        loss, parameters, labels = worker.prove(equivalence.STEPS)
        assert worker.train(1) > 0
        assert worker.predict(3, 2) > 0
        assert worker.peak_memory() > 1e6
        with pytest.raises(WorkerError, match="nonsense"):
            worker.kernel("optimizer nonsense", 1)
    here = claim(numpy_contender())
    assert loss == pytest.approx(here[0], rel=1e-6)
    assert (labels == here[2]).all()
    equivalence.check(CASE, "float32", (loss, parameters, labels))


def test_a_contender_that_cannot_run_says_why():
    entry = contenders.Entry("x", "numpy_plain", "NumPy", ("no_such_module",))
    contenders.CONTENDERS["absent"] = entry
    try:
        with pytest.raises(WorkerError, match="no_such_module is not installed"):
            Worker("absent", 1)
    finally:
        del contenders.CONTENDERS["absent"]


# Ratios


def record(contender: str, seconds: list[float], **more: object) -> groups.Record:
    return {"group": "g", "case": "c", "contender": contender, "seconds": seconds} | more


def test_ratios_are_taken_within_a_round():
    # The machine slows down by 10 from the first round to the last; the ratio is 3 in each.
    slow, fast = [3.0, 6.0, 30.0], [1.0, 2.0, 10.0]
    assert interleave.ratio(slow, fast) == (3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="argument"):
        interleave.ratio(slow, fast[:2])


def test_spread_is_median_and_quartiles():
    assert interleave.spread([5, 1, 4, 2, 3]) == (3, 2, 4)
    assert interleave.spread([7.0]) == (7, 7, 7)


def test_contenders_take_turns_and_each_starts_a_round():
    called: list[str] = []
    measure = {n: (lambda n=n: called.append(n) or float(len(called))) for n in "abc"}
    seconds = interleave.run(measure, 4)
    assert "".join(called) == "abc" + "bca" + "cab" + "abc"
    assert seconds["a"] == [1, 6, 8, 10]


def test_the_best_peer_is_no_fastbp_and_no_lower_precision():
    row = {
        r["contender"]: r
        for r in (
            record("fastbp", [1.0]),
            record("fastbp-reference", [1.5]),
            record("torch-bf16", [0.5]),
            record("numpy", [4.0]),
            record("torch", [3.0]),
        )
    }
    peer = tables.best_peer(row)
    assert peer is row["torch"]
    assert tables.times_faster(row, peer) == (3, 3, 3)


def test_time_to_accuracy_is_the_first_epoch_that_reaches_it():
    curves = [[(1.0, 9.0, 0.96), (2.0, 9.0, 0.98), (3.0, 9.0, 0.97)]]
    assert groups.time_to_accuracy({"curves": curves}, 0.97) == [2.0]
    assert groups.time_to_accuracy({"curves": curves}, 0.99) is None


LIMITS = {
    "flops": {"float32": {"a": {"1": 50e9, "2": 100e9}, "b": {"1": 10e9, "2": 20e9}}},
    "bandwidth": {level: {"1": b / 2, "2": b} for level, b in (("L1", 8e9), ("memory", 1e9))},
    "cache": {"L1": 1000},
}


def test_share_of_peak_and_floor():
    r = record("fastbp", [2.0], flops=40e9, bytes=500, precision="float32", threads=2)
    r["most_threads"] = 2
    assert tables.share_of_peak(r, LIMITS) == pytest.approx(0.2)
    assert tables.floor(r, LIMITS) == pytest.approx(0.4 + 500 / 8e9)
    assert tables.floor(r | {"bytes": 5e9}, LIMITS) == pytest.approx(0.4 + 5)
    assert tables.share_of_peak(r, None) is None


def test_numbers_are_printed_with_two_or_three_digits():
    assert tables.time(1.234e-3) == "1.23 ms"
    assert tables.time(99.96e-6) == "100 µs"
    assert [tables.digits(x) for x in (0.5, 9.96, 99.7, 143.2)] == ["0.50", "10.0", "100", "143"]
    assert tables.microseconds(7.26e-7) == "0.73"
    assert tables.microseconds(9.99e-6) == "10"


def test_readme_says_what_was_measured():
    common = {"flops": 40e9, "bytes": 500, "precision": "float32", "threads": 2, "most_threads": 2}
    training = [
        record("fastbp", [2.0], **common),
        record("numpy", [6.0], **common),
        record("jax-scan", [5.0], **common),
    ]
    results = {
        "training": training,
        "limits": LIMITS,
        "machine": {"cpu": "a CPU", "threads": 2, "date": "2000-01-01"},
        "versions": {"numpy": {"numpy": "9.9"}},
        "others": 0.0,
    }
    text = report.readme_table(results)
    assert "| c | 2,000,000 | 6,000,000 | 5,000,000 | **2.50×** | 20 % |" in text
    assert "Measured on 2000-01-01 on a CPU, 2 threads, with numpy 9.9." in text
    assert "other programs kept 0.7 CPUs busy" in report.readme_table(results | {"others": 0.7})


# The probe


def test_the_probe_counts_and_computes():
    library = peak._library(())
    if library is None:
        pytest.skip("no C compiler")
    assert library.operations(0) == 2 * library.operations(1) == 12 * 2 * 4  # SSE2 or NEON
    assert library.operations(99) == 0
    assert library.run(0, 1, 10**5, 0) > 0
    assert library.run(4, 2, 1, 4096) > 0
    assert isinstance(library, ctypes.CDLL)


def test_thread_counts_double_and_end_with_all():
    assert peak.thread_counts(6) == [1, 2, 4, 6]
    assert peak.thread_counts(1) == [1]


def test_larger_takes_each_maximum():
    other = {"flops": {"float32": {"a": {"1": 60e9, "2": 1}, "b": {"1": 1, "2": 1}}}}
    merged = peak.larger(LIMITS, LIMITS | other)
    assert merged["flops"]["float32"] == {"a": {"1": 60e9, "2": 100e9}, "b": {"1": 10e9, "2": 20e9}}
    assert peak.larger(None, LIMITS) is LIMITS


@pytest.mark.parametrize("name", [n for n in kernels.KERNELS if "1024" not in n])
def test_every_kernel_runs_for_fastbp_and_numpy(name: str):
    for contender in ("fastbp", "numpy"):
        try:
            assert kernels.seconds(contender, name, 1) > 0
        except RuntimeError as error:
            pytest.skip(str(error))
