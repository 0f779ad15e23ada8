"""The threads of the native engine: one team for the process, asleep when there is nothing to do."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from engine_cases import EVERY_THREAD

import fastbp
from fastbp.engines import native

pytestmark = [
    pytest.mark.skipif(not native.available(), reason=f"native engine: {native.reason()}"),
    pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc here"),
]
BEGIN = """
import atexit, os, signal, sys, threading
import numpy as np

def tasks():
    return len(os.listdir("/proc/self/task"))

def at_exit():
    print("at exit", tasks() - before)

atexit.register(at_exit)  # before fastbp does so: it comes after
before = tasks()
import fastbp
from fastbp.engines import native

X = np.random.default_rng(0).standard_normal((300, 16), dtype=np.float32)
y = np.arange(300) % 4

def use(dtype="float32", threads=2, precision=None):
    options = {"dtype": dtype, "precision": precision, "engine": "native"}
    model = fastbp.MLP([16, 64, 4], seed=0, threads=threads, **options)
    model.fit(X, y, epochs=2, batch_size=100)
    model.jacobian(X)
    return model.predict_proba(X)
"""
OF_COSTS = f"native.COSTS.update({EVERY_THREAD})\n"


def run(program):
    """What a new process prints that may use fastbp so."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", BEGIN + program],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # NumPy's threads come and go
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("\n")[:-1]


def test_none_before_a_call_is_worth_them_and_none_at_the_end():
    assert run("use(threads=1); print(tasks() - before)") == ["0", "at exit 0"]
    assert run("fastbp.MLP([16, 4], threads=2).predict(X); print(tasks() - before)") == [
        "0",
        "at exit 0",
    ]
    assert run(OF_COSTS + "use(); print(tasks() - before)") == ["1", "at exit 0"]


def test_all_kinds_of_number_share_them():
    program = """
for dtype, precision in (("float32", None), ("float64", None), ("float32", "bf16"), ("float64", None)):
    use(dtype, 3, precision)
    print(tasks() - before)
use(threads=2)
print(tasks() - before)
"""
    assert run(OF_COSTS + program) == ["2"] * 5 + ["at exit 0"]


def test_a_forked_child_has_its_own():
    program = """
wanted = use()
for _ in range(3):
    child = os.fork()
    if child == 0:
        first = tasks()
        right = np.array_equal(use(), wanted)
        os._exit(not (right and (first, tasks()) == (1, 2)))
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(use(), wanted)
print(tasks() - before)
"""
    assert run(OF_COSTS + program) == ["1", "at exit 0"]


def test_they_take_no_signal_of_the_process():
    """A program that waits for one has all its own threads hold it back; another's would die of it."""
    program = """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
use()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
for number in (signal.SIGUSR1, signal.SIGUSR2):
    os.kill(os.getpid(), number)
    print(signal.sigwait({number}) == number)
"""
    assert run(OF_COSTS + program) == ["True", "True", "at exit 0"]


def switches(task):
    """How often a thread has gone to sleep or been put aside, and its state."""
    with open(f"/proc/self/task/{task}/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return (
        int(lines["voluntary_ctxt_switches"]),
        int(lines["nonvoluntary_ctxt_switches"]),
        lines["State"].split()[0],
    )


def test_idle_they_sleep(monkeypatch):
    for name, value in EVERY_THREAD.items():
        monkeypatch.setitem(native.COSTS, name, value)
    X = np.zeros((300, 16), np.float32)
    before = set(os.listdir("/proc/self/task"))
    model = fastbp.MLP([16, 64, 4], seed=0, threads=8, engine="native")
    for _ in range(3):
        model.predict(X)
    own = [t for t in os.listdir("/proc/self/task") if t not in before]
    deadline = time.monotonic() + 60
    while any(switches(t)[2] != "S" for t in own) and time.monotonic() < deadline:
        time.sleep(0.01)  # a short spin comes first
    time.sleep(0.05)
    first = [switches(t) for t in own]
    time.sleep(0.3)
    assert [switches(t) for t in own] == first
    assert all(state == "S" for *_, state in first)


@pytest.mark.parametrize("models", [1, 16])
def test_sixteen_callers_at_once(monkeypatch, models):
    """One has the team, the others compute alone: the same bits."""
    rows = [1, 30, 113, 1000, 3000]
    X = np.random.default_rng(0).standard_normal((max(rows), 64), dtype=np.float32)
    alone = fastbp.MLP([64, 100, 10], seed=0, threads=1, engine="native")
    wanted = {n: alone.predict_proba(X[:n]) for n in rows}
    for name, value in EVERY_THREAD.items():
        monkeypatch.setitem(native.COSTS, name, value)
    shared = [fastbp.MLP([64, 100, 10], seed=0, threads=3, engine="native") for _ in range(models)]
    barrier = threading.Barrier(16)

    def call(i):
        barrier.wait()
        return all(
            np.array_equal(shared[i % models].predict_proba(X[:n]), wanted[n])
            for _ in range(20)
            for n in rows
        )

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(16)))
