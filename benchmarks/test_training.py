"""Training epochs: seconds of one step, by net and contender; and sweeps of widths and batches."""

import pytest

from benchmarks import cases, groups
from benchmarks.conftest import CLOCK

CASES = [cases.CASES[name] for name in ("tiny", "small", "mnist-small", "mnist-medium")]
ALL_CASES = [
    *(case for case in cases.CASES.values() if case not in CASES),
    *cases.width_sweep(),
    *cases.batch_sweep(),
]
CONTENDERS = [
    "fastbp",
    "fastbp-bf16",
    "fastbp-jit",
    "fastbp-reference",
    "numpy",
    "sklearn",
    "torch",
    "torch-bf16",
    "torch-compile",
    "tensorflow",
    "tensorflow-xla",
    "jax-step",
    "jax-scan",
]


def name_of(case: cases.Case) -> str:
    return case.label


@pytest.mark.benchmark(timer=CLOCK)
def test_epoch(case, contender, measured, pool, report, request):
    names = [*CONTENDERS]
    if not request.config.getoption("--all"):
        names.remove("torch-compile")  # takes minutes to compile
        if contender == "torch-compile":
            pytest.skip("torch-compile: runs with --all")
    rounds = 3 if cases.flops_per_step(case) > 1e11 else 5
    records = measured(case, lambda: groups.train(pool, case, names, rounds))
    report(records, contender)
