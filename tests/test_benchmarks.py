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
    goals,
    groups,
    interleave,
    kernels,
    peak,
    report,
    report_tables,
    tables,
    tabular,
    tabular_parts,
    tabular_tune,
)
from benchmarks.worker import Worker, WorkerError
from fastbp.engines import native

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
    assert cases.parameter_bytes(cases.in_float64(cases.CASES["tiny"])) == 8 * (16 * 5 + 3 * 17)


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
    return loss, contender.get_parameters(), contender.predict(X), contender.predict_proba(X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", AVAILABLE)
def test_contenders_prove_what_they_compute(name: str, dtype: str):
    if contenders.missing(name):
        pytest.skip(str(contenders.missing(name)))
    case = replace(CASE, dtype=dtype)
    errors = equivalence.check(case, dtype, claim(contenders.create(name, case, 1), case))
    assert errors["loss_error"] <= errors["loss_tolerance"]


@pytest.mark.parametrize("optimizer", groups.OPTIMIZERS)
def test_optimizers_prove_what_they_compute(optimizer: str):
    case = cases.with_optimizer(CASE, optimizer)
    claimed = claim(contenders.create("fastbp", case, 1), case)
    equivalence.check(case, "float32", claimed)
    for other in set(groups.OPTIMIZERS) - {optimizer}:
        with pytest.raises(equivalence.NotEquivalentError):
            equivalence.check(replace(case, optimizer=other), "float32", claimed)


def test_bf16_is_proved_with_its_own_tolerance_or_says_why_not():
    case = replace(CASE, layer_sizes=(40, 48, 3))  # wide enough for the instructions
    if native.choice("bf16")[0] not in native.BF16_INSTRUCTIONS:
        with pytest.raises(contenders.CannotRunError, match="no instruction for bf16"):
            contenders.create("fastbp-bf16", case, 1)
        return
    contender = contenders.create("fastbp-bf16", case, 1)
    claimed = claim(contender, case)
    assert contenders.precision("fastbp-bf16", case) == "bfloat16"
    equivalence.check(case, "bfloat16", claimed)
    with pytest.raises(equivalence.NotEquivalentError):
        equivalence.check(case, "float32", claimed)


def test_float32_does_not_pass_for_float64():
    case = cases.in_float64(CASE)
    loss, parameters, labels, p = claim(contenders.create("numpy", case, 1), case)
    rounded = [w.astype(np.float32).astype(np.float64) for w in parameters]
    with pytest.raises(equivalence.NotEquivalentError, match="movement"):
        equivalence.check(case, "float64", (loss, rounded, labels, p))


def numpy_contender():
    return contenders.create("numpy", CASE, 1)


def test_a_wrong_learning_rate_is_caught():
    wrong = contenders.create("numpy", replace(CASE, learning_rate=0.101), 1)
    with pytest.raises(equivalence.NotEquivalentError, match="off by"):
        equivalence.check(CASE, "float32", claim(wrong))


def test_a_bias_that_does_not_learn_is_caught():
    loss, parameters, labels, p = claim(numpy_contender())
    parameters[0][:, -1] = cases.parameters(CASE)[0][:, -1]
    with pytest.raises(equivalence.NotEquivalentError, match="biases of layer 1"):
        equivalence.check(CASE, "float32", (loss, parameters, labels, p))


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
    loss, parameters, labels, p = claim(numpy_contender())
    rounded = [w.astype(np.float16).astype(np.float32) for w in parameters]
    with pytest.raises(equivalence.NotEquivalentError):
        equivalence.check(CASE, "float32", (loss, rounded, labels, p))


def test_wrong_predictions_and_a_wrong_loss_are_caught():
    loss, parameters, labels, p = claim(numpy_contender())
    with pytest.raises(equivalence.NotEquivalentError, match="labels"):
        equivalence.check(CASE, "float32", (loss, parameters, (labels + 1) % 3, p))
    with pytest.raises(equivalence.NotEquivalentError, match="probabilities"):
        equivalence.check(CASE, "float32", (loss, parameters, labels, p**1.01))
    with pytest.raises(equivalence.NotEquivalentError, match="loss"):
        equivalence.check(CASE, "float32", (loss + 0.01, parameters, labels, p))
    with pytest.raises(equivalence.NotEquivalentError, match="loss"):
        equivalence.check(CASE, "float32", (float("nan"), parameters, labels, p))


def test_a_wrong_contender_ends_the_comparison():
    class Wrong:
        name = "numpy"

        def prove(self, steps: int) -> equivalence.Claim:
            loss, parameters, labels, p = claim(numpy_contender())
            return loss, [1.01 * w for w in parameters], labels, p

    with pytest.raises(equivalence.NotEquivalentError, match="numpy, 6-8-5-3"):
        groups.prove(Wrong(), CASE, equivalence.exact(CASE))


# Workers


def test_a_worker_trains_and_proves_as_in_this_process():
    with Worker("numpy", 1) as worker:
        worker.load(CASE)
        loss, parameters, labels, p = worker.prove(equivalence.STEPS)
        assert worker.train(1) > 0
        assert worker.predict("predict_proba", 3, 2) > 0
        assert worker.peak_memory() > 1e6
        with pytest.raises(WorkerError, match="nonsense"):
            worker.kernel("optimizer nonsense", 1)
    here = claim(numpy_contender())
    assert loss == pytest.approx(here[0], rel=1e-6)
    assert (labels == here[2]).all()
    equivalence.check(CASE, "float32", (loss, parameters, labels, p))


def test_a_contender_that_cannot_run_says_why():
    entry = contenders.Entry("x", "numpy_plain", "NumPy", ("no_such_module",))
    contenders.CONTENDERS["absent"] = entry
    try:
        with pytest.raises(WorkerError, match="no_such_module is not installed"):
            Worker("absent", 1)
    finally:
        del contenders.CONTENDERS["absent"]


def test_a_contender_that_fails_is_not_started_again():
    class Failing:
        name = "numpy"

        def load(self, case: cases.Case) -> None:
            raise WorkerError("no such instruction")

        def close(self) -> None:
            closed.append(self.name)

    closed: list[str] = []
    with groups.Pool() as pool:
        pool._workers["numpy", 1, "float32"] = Failing()
        assert groups.train(pool, CASE, ["numpy"], 1, [1]) == []
        assert pool.missing == {"numpy": "no such instruction"}
        assert closed == ["numpy"]
        assert pool.get("numpy", 1) is None


def test_float64_is_a_matter_of_the_process():
    with Worker("numpy", 1, dtype="float64") as worker:
        worker.load(cases.in_float64(CASE))
        _, parameters, _, p = worker.prove(equivalence.STEPS)
        assert {w.dtype for w in [*parameters, p]} == {np.dtype("float64")}


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
            record("fastbp-bf16", [0.25]),
            record("torch-bf16", [0.5]),
            record("numpy", [4.0]),
            record("torch", [3.0]),
        )
    }
    assert tables.best_peer(row) is row["torch"]
    assert tables.times_faster_than_best(row) == (3, 3, 3)
    assert tables.times_faster_in_bf16(row) == (2, 2, 2)
    assert tables.times_faster(row, "sklearn") is None


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
    assert tables.share_spread(r | {"seconds": [1.0, 2.0, 4.0]}, LIMITS) == pytest.approx(
        (0.2, 0.4 / 3, 0.4 / 1.5)
    )
    assert tables.floor(r, LIMITS) == pytest.approx(0.4 + 500 / 8e9)
    assert tables.share_of_floor(r, LIMITS) == pytest.approx(0.2 + 250 / 8e9)
    assert tables.floor(r | {"bytes": 5e9}, LIMITS) == pytest.approx(5.4)
    assert tables.floor(r | {"precision": "float64"}, LIMITS) is None
    assert tables.share_of_peak(r, None) is None


# Goals


def test_every_goal_is_of_a_net_that_the_report_measures():
    named = [*goals.BEST_PEER, *goals.TORCH, *goals.PEAK_SHARE, *goals.TWO_THREADS]
    named += [*goals.STEP_SECONDS, *goals.BF16_AUTOCAST, *goals.BF16_ANY_TORCH]
    assert set(named) <= set(cases.CASES) == set(goals.BEST_PEER)


def test_a_goal_is_reached_by_the_median_or_within_the_spread():
    def reached(median: float, low: float, high: float, *, at_most: bool = False) -> str:
        spread = interleave.Spread(median, low, high)
        return goals.Line("c", "speed", 2.0, spread, at_most=at_most).reached

    assert reached(2.0, 1.9, 2.1) == "yes"
    assert reached(1.9, 1.8, 2.1) == "within the spread"
    assert reached(1.9, 1.8, 1.95) == "no"
    assert reached(2.1, 1.9, 2.2, at_most=True) == "within the spread"
    assert reached(1.5, 1.4, 2.2, at_most=True) == "yes"
    assert reached(2.5, 2.4, 2.6, at_most=True) == "no"
    assert goals.Line("c", "speed", 2.0, None).reached == "not measured"


def small_results() -> report.Results:
    """What a run would measure on one net, with a peer and with bf16."""
    common = {"flops": 40e9, "bytes": 500, "threads": 2, "most_threads": 2, "name": "large"}
    float32, bf16 = common | {"precision": "float32"}, common | {"precision": "bfloat16"}
    training = [
        record("fastbp", [2.0], **float32),
        record("fastbp-bf16", [1.0], **bf16),
        record("torch", [3.0], **float32),
        record("torch-bf16", [5.0], **bf16),
    ]
    bulk = [r | {"name": "bulk", "rows": 60_000} for r in training]
    row = [r | {"name": "single-rows", "rows": 1} for r in training if "bf16" not in r["contender"]]
    peaks = LIMITS["flops"] | {"bfloat16": {"c": {"1": 100e9, "2": 200e9}}}
    return {
        "limits": LIMITS | {"flops": peaks},
        "training": training,
        "float64": [r | {"precision": "float64"} for r in training if "bf16" not in r["contender"]],
        "threads": [training[0], training[0] | {"most_threads": 1, "seconds": [3.0]}],
        "optimizers": [record("sgd", [2.0]), record("adam", [2.1])],
        "predict": [r | {"case": r["name"]} for r in [*bulk, *row]],
        "import": [record("Python alone", [0.01]), record("fastbp", [0.09])],
    }


def test_goals_are_set_beside_what_was_measured():
    found = {
        (line.case, line.what): (line.measured[0], line.reached)
        for line in goals.lines(small_results())
        if line.measured
    }
    assert found["c", "speed, in the fastest float32 peer's"] == (1.5, "yes")
    assert found["c", "speed, in the fastest float64 peer's"] == (1.5, "yes")
    assert found["c", "share of the float32 peak"] == (pytest.approx(0.2), "no")
    assert found["c", "bf16: speed, in PyTorch's with bf16 autocast"] == (5, "yes")
    assert found["c", "bf16: speed, in fastbp's float32"] == (2, "yes")
    assert found["c", "bf16: share of the bf16 peak"] == (pytest.approx(0.2), "no")
    assert found["c", "speed on 2 threads, in that on 1"] == (1.5, "no")
    assert found["c", "time of a step with adam, in plain SGD's"] == (1.05, "yes")
    assert found["bulk", "bf16: speed, in PyTorch's with bf16 autocast"] == (5, "yes")
    assert found["single-rows", "time of a call"] == (2, "no")
    assert found["import fastbp", "time beyond Python's own start"] == (pytest.approx(0.08), "yes")
    assert "<td class=text>1.30×</td>" in report_tables.goals_reached(small_results())


def test_numbers_are_printed_with_two_or_three_digits():
    assert tables.time(1.234e-3) == "1.23 ms"
    assert tables.time(99.96e-6) == "100 µs"
    assert [tables.digits(x) for x in (0.5, 9.96, 99.7, 143.2)] == ["0.50", "10.0", "100", "143"]
    assert tables.microseconds(7.26e-7) == "0.73"
    assert tables.microseconds(9.99e-6) == "10"


def test_the_documentation_says_what_was_measured():
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
    text = report.docs_table(results)
    assert "| c | 2,000,000 | 6,000,000 | 5,000,000 | **2.50×** | 20 % |" in text
    both = report.docs_table(results | small_results())
    assert "| net, batch | fastbp | fastbp, bf16 | PyTorch | PyTorch, bf16 autocast |" in both
    line = "| c | 2,000,000 | 1,000,000 | 3,000,000 | 5,000,000 | **1.50×** | **5.00×** | 20 % | 20 % |"
    assert line in both
    assert "Measured on 2000-01-01 on a CPU, 2 threads, with numpy 9.9." in text
    assert "other programs kept 0.7 CPUs busy" in report.docs_table(results | {"others": 0.7})


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


def test_nothing_was_chosen_by_the_sets_of_tables_that_are_reported():
    assert set(tabular.REPORTED) <= set(tabular.SETS)
    assert not set(tabular.REPORTED) & set(tabular_tune.SETS.split(","))


def test_tables_of_fits_have_medians_means_and_ratios():
    fits = [
        tabular.Result(name, who, split, seconds, loss, 0.1)
        for split in range(3)
        for name, who, seconds, loss in (
            ("one", "fastbp", 1.0 + split, 0.5),
            ("one", "catboost", 4.0, 1.0),
            ("two", "fastbp", 8.0, 0.2),
            ("two", "catboost", 4.0, 0.1),
        )
    ]
    text = tabular.table(fits)
    assert "| one | 2.00 · 0.5000 | 4.00 · 1.0000 |" in text
    assert "| 1.00 · 1.000 (1 of 2 lower) | 1.00 · 1.000 (0 of 2 lower) |" in text
    shown = report_tables.tabular_fits(
        {
            "fits": [vars(f) for f in fits],
            "latencies": {"fastbp": {"1 row of an array": 25e-6}},
        }
    )
    assert "2.00 · 0.5000" in shown
    assert "ratio to fastbp" in report_tables.tabular_fits(
        {"fits": [vars(f) for f in fits], "ablations": [vars(f) for f in fits]}
    )
    assert "25 µs" in shown
    assert report_tables.tabular_fits({}) == ""


def test_sparse_rows_are_told_beside_fastbp():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    from benchmarks import sparse

    records = [
        {"case": "4 × 5, 2", "what": "plain SGD", "contender": name, "seconds": seconds}
        for name, seconds in (("fastbp", [0.001, 0.002]), ("scikit-learn", [0.003, 0.006]))
    ]
    assert sparse.table(records) == [
        ["rows × inputs, nonzeros a row", "", "fastbp", "scikit-learn", "PyTorch", "JAX"],
        ["4 × 5, 2", "plain SGD", "1.5 ms", "4.5 ms (3.0×)", "", ""],
    ]
    assert "4.5 ms (3.0×)" in report_tables.sparse_rows([sparse.table(records)])
    assert report_tables.sparse_rows([]) == ""
    X, y = sparse.texts(40, 300, 5)
    for optimizer, update in (("sgd", "exact"), ("adam", "lazy")):
        assert sparse.fastbp_epochs(X, y, optimizer, update)() > 0
    assert sparse.later_epochs(X, y, "sgd", "exact")() > 0


def test_calibration_is_of_the_predicted_class():
    found = tabular_parts.calibration(
        "one", np.array([0.95, 0.95, 0.55, 0.55, 1.0]), np.array([True, True, True, False, True])
    )
    assert found.rows == [2, 3]
    np.testing.assert_allclose(found.right, [0.5, 1.0])
    np.testing.assert_allclose(found.probability, [0.55, 2.9 / 3])
    np.testing.assert_allclose(found.error, (2 * 0.05 + 3 * (1 - 2.9 / 3)) / 5)
    assert tabular_parts.table_of_calibrations([found])[1][0] == "one"


def test_no_ablation_is_on_a_set_that_is_reported():
    assert not set(tabular.REPORTED) & set(tabular_parts.ABLATION_SETS)
    assert set(tabular_parts.ABLATION_SETS) <= set(tabular.SETS)


def test_a_step_of_realmlp_is_measured():
    from benchmarks import tabular_torch
    from fastbp.tabular import recipes

    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, tabular_torch.NUMBERS), dtype=np.float32)
    y = (X[:, 0] > 0).astype(np.int64)
    for recipe in tabular_torch.RECIPES.values():
        stages = recipes.stages(recipe, tabular_torch.NUMBERS, 0, (), tabular_torch.CLASSES)
        values = recipes.first_values(recipe, stages, X, rng)
        assert tabular_torch.ours(recipe, X, y, values)() > 0
