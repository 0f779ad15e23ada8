"""Each kernel alone: matrix products, activations, losses, optimizers."""

import pytest

from benchmarks import groups, kernels
from benchmarks.conftest import CLOCK

CASES = list(kernels.KERNELS)
CONTENDERS = kernels.PEERS


def name_of(case: str) -> str:
    return case


@pytest.mark.benchmark(timer=CLOCK)
def test_kernel(case, contender, measured, pool, report):
    report(measured(case, lambda: groups.kernel(pool, case, 5)), contender)
