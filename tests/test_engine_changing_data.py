"""Another thread writes to the arrays that an engine trains on: no access outside them, and no hang.

What comes out is anyone's guess. Each run has a process of its own, which a wrong address would end and
a barrier that not all threads come to would keep for ever.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from engine_cases import BF16_ENGINES, DTYPES, ENGINES

PRELUDE = """
import os, sys, threading
import numpy as np
from fastbp import activations, losses, optimizers
from fastbp.engines import Plan, create, jit, native
from fastbp.stages import dense

name, kind, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
if hasattr(os, "sched_setaffinity"):  # on one CPU, where threads hand the interpreter over in no time
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
dtype, precision = ("float32", "bf16") if kind == "bf16" else (kind, None)
if name == "native":  # steps this small are worth a thread each
    native.COSTS.update(flops_per_thread=1, flops_per_wait=0)
if name == "jit":
    from fastbp.engines.jit import engine as jit_engine
    jit_engine.FLOPS_PER_THREAD = jit_engine.FLOPS_PER_START = 1
sys.setswitchinterval(1e-4)  # both threads want Python's lock
rng = np.random.default_rng(0)
ROWS = 120
shown = {"writes": 0, "stopped": 0, "whole": 0}


def train(sizes, batch, loss, y, garbage, optimizer="adam", clip=0.0, epochs=4):
    \"\"\"Epochs from the same weights while another thread writes garbage, and puts it right.\"\"\"
    rows = min(ROWS, 8 * batch)
    y = y[:rows]
    hidden = (activations.get("gelu"),) * (len(sizes) - 2)
    plan = Plan(
        dense(sizes, hidden), loss, optimizers.get(optimizer), batch_size=batch, dtype=dtype,
        precision=precision, threads=threads, clip_norm=clip,
    )
    engine = create(plan, name)
    weights = [rng.standard_normal(W.shape).astype(dtype) / 8 for W in engine.get_parameters()]
    X = rng.standard_normal((rows, sizes[0])).astype(dtype)
    weight = np.ones(rows, dtype)
    data = {"X": X, "y": y.copy(), "weight": weight}
    right = {key: a.copy() for key, a in data.items()}
    over = threading.Event()

    def write():
        generator = np.random.default_rng(1)
        while not over.is_set():
            for key, values in garbage.items():
                row = int(generator.integers(0, rows))
                bad, good, a = generator.choice(values), right[key][row].copy(), data[key]
                for _ in range(200):  # threads that read it must be found between two reads
                    a[row] = bad
                    a[row] = good
                shown["writes"] += 200

    writer = threading.Thread(target=write)
    writer.start()
    try:
        steps = 8
        rates, found = np.full(steps, 1e-3), np.empty(steps)
        out = [np.empty_like(W) for W in weights]
        for i in range(epochs):
            engine.set_parameters(weights)
            order = np.resize(rng.permutation(rows), 8 * batch)
            done = engine.epoch(X, data["y"], weight, order, rates, found)
            shown["whole" if done == steps else "stopped"] += 1
            assert done == steps or not np.isfinite(found[done])
            if i % 5 == 0:
                engine.loss(X, data["y"], weight)
                engine.gradient(X, data["y"], weight, out)
    finally:
        over.set()
        writer.join()
"""

RUN = """
labels = rng.integers(0, 10, ROWS)
far = [-(2**62), -(2**40), -1, 10, 2**33, 2**62, np.iinfo(np.int64).min, np.iinfo(np.int64).max]
ill = [np.nan, np.inf, -np.inf, 1e30, -1.0, 0.0]
softmax = losses.get("softmax_cross_entropy")
everything = {"X": ill, "y": far, "weight": ill}
for sizes, batch, optimizer, clip in (
    ((20, 70, 10), 17, "adam", 0.0),
    ((20, 70, 40, 10), 16, "rmsprop", 1.0),
    ((20, 10), 1, "sgd", 0.0),
    ((20, 70, 10), 1, "sgd", 0.0),
):
    for garbage in (everything, {"weight": ill}):
        train(sizes, batch, softmax, labels, garbage, optimizer, clip)
# One weight turns NaN and back between two threads' reads of it.
train((20, 70, 10), ROWS, softmax, labels, {"weight": [np.nan]}, epochs=40)
targets = rng.random((ROWS, 10)).astype(dtype)
for loss in ("softmax_cross_entropy", "squared_error"):
    train((20, 70, 10), 17, losses.get(loss), targets, {"X": ill, "y": ill, "weight": ill})
print(shown)
assert shown["writes"] > 0
"""

KINDS = [*DTYPES, *(["bf16"] if any("native" in name for name in BF16_ENGINES) else [])]


@pytest.mark.parametrize(
    ("name", "kind", "threads"),
    [
        (name, kind, threads)
        for name in ENGINES
        for kind in KINDS
        for threads in ((1,) if name == "reference" else (1, 3))  # it leaves threads to NumPy
        if kind != "bf16" or name != "jit"
    ],
)
def test_garbage_while_training(name: str, kind: str, threads: int) -> None:
    script = PRELUDE + textwrap.dedent(RUN)
    run = subprocess.run(
        [sys.executable, "-P", "-c", script, name, kind, str(threads)],
        capture_output=True,
        text=True,
        timeout=240,  # a hundred times what it takes: this is against a hang
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
