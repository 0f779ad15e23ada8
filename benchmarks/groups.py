"""What is measured, group by group: each returns records, plain dicts that go into tables and JSON.

A record has ``group``, ``case``, ``contender`` and ``seconds``, one number for each round, in rounds
that it shares with all others of the same group and case; and what else its group has to say: ``flops``
and ``bytes`` of one unit of work, ``threads``, ``proof``, ``memory``, ``curves``.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks import cases, contenders, equivalence, interleave, kernels
from benchmarks.cases import Case
from benchmarks.worker import ROOT, Worker, WorkerError, available_threads, environment

Record = dict[str, Any]

ROUND_SECONDS = 0.04  # least time of one measurement
PREDICTING = (
    "fastbp",
    "fastbp-bf16",
    "fastbp-jit",
    "numpy",
    "sklearn",
    "torch",
    "torch-compile",
    "torch-bf16",
    "jax-step",
)
FLOAT64 = ("fastbp", "numpy", "sklearn", "torch", "jax-step", "jax-scan")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam")
SWEEPING = ("fastbp", "numpy", "sklearn", "torch", "jax-scan")
SCALING = ("fastbp", "numpy", "torch", "jax-scan")
STARTING = ("fastbp", "numpy", "sklearn", "torch", "jax-scan")
MODULES = {
    "Python alone": "sys",
    "fastbp": "fastbp",
    "numpy": "numpy",
    "sklearn": "sklearn.neural_network",
    "torch": "torch",
    "jax-scan": "jax.numpy",
}


class Pool:
    """The running workers, by contender, threads and dtype, and why the others do not run."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, int, str], Worker] = {}
        self.missing: dict[str, str] = {}

    def get(self, name: str, threads: int, dtype: str = "float32") -> Worker | None:
        """The worker, started if need be; None if it cannot run."""
        key = name, threads, dtype
        if key not in self._workers and name not in self.missing:
            try:
                self._workers[key] = Worker(name, threads, dtype=dtype)
            except WorkerError as error:
                self.missing[name] = str(error)
        return self._workers.get(key)

    def drop(self, worker: Worker, reason: str) -> None:
        """Close a worker that failed, and start none of that contender any more."""
        key = next(k for k, w in self._workers.items() if w is worker)
        self._workers.pop(key).close()
        self.missing[worker.name] = reason

    def close(self) -> None:
        while self._workers:
            self._workers.popitem()[1].close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def train(
    pool: Pool,
    case: Case,
    names: Iterable[str],
    rounds: int,
    thread_counts: Sequence[int] = (),
    group: str = "training",
) -> list[Record]:
    """Time one epoch, per step, of every contender that proves what it computes.

    Raises
    ------
    equivalence.NotEquivalentError
        If one computes something else. A lone wrong contender makes the comparison worthless.
    """
    truth = equivalence.exact(case)
    records: dict[str, Record] = {}
    measure: dict[str, Callable[[], float]] = {}
    for name in names:
        for threads in thread_counts or (available_threads(),):
            worker = pool.get(name, threads, case.dtype)
            if worker is None:
                continue
            key = f"{name} {threads}"
            try:
                records[key], measure[key] = _ready_to_train(worker, case, truth)
            except WorkerError as error:
                pool.drop(worker, str(error))
                continue
            records[key] |= {"group": group, "contender": name, "most_threads": threads}
    return _timed(records, measure, rounds)


def _ready_to_train(
    worker: Worker, case: Case, truth: equivalence.Truth
) -> tuple[Record, Callable[[], float]]:
    """Prove and warm up; return most of the record, and what measures the seconds of a step."""
    flops = cases.flops_per_step(case)
    worker.load(case)
    proof = prove(worker, case, truth)
    used = worker.choose_threads(flops, "train", 1)
    epochs = interleave.repetitions(worker.train(1), ROUND_SECONDS)
    record = {
        "case": case.label,
        "name": case.name,
        "threads": used,
        "precision": contenders.precision(worker.name, case),
        "flops": flops,
        "bytes": cases.parameter_bytes(case),
        "proof": proof,
    }
    return record, per(worker.train, epochs, epochs * case.steps)


def optimizers(case: Case, rounds: int) -> list[Record]:
    """Time a step of fastbp with each optimizer, which takes the contender's place in the record."""
    records: dict[str, Record] = {}
    measure: dict[str, Callable[[], float]] = {}
    with ExitStack() as workers:
        for name in OPTIMIZERS:
            worker = workers.enter_context(Worker("fastbp", available_threads()))
            its = cases.with_optimizer(case, name)
            records[name], measure[name] = _ready_to_train(worker, its, equivalence.exact(its))
            records[name] |= {"group": "optimizers", "contender": name}
        return _timed(records, measure, rounds)


def prove(worker: Worker, case: Case, truth: equivalence.Truth) -> dict[str, float]:
    """Check what the worker computes; see `equivalence.check`."""
    claim = worker.prove(equivalence.STEPS)
    try:
        return equivalence.check(case, contenders.precision(worker.name, case), claim, truth)
    except equivalence.NotEquivalentError as error:
        raise equivalence.NotEquivalentError(f"{worker.name}, {case.label}: {error}") from None


def predict(
    pool: Pool,
    case: Case,
    rows: int,
    rounds: int,
    names: Iterable[str] = PREDICTING,
    method: str = "predict",
) -> list[Record]:
    """Time predicting labels, or probabilities, of so many rows in one call: array in, array out."""
    records, measure = {}, {}
    flops = rows * cases.flops_per_row(case)
    net = f"{'-'.join(map(str, case.layer_sizes))}, {rows:,} row{'s' * (rows > 1)}"
    for name in names:
        worker = pool.get(name, available_threads())
        if worker is None:
            continue
        try:
            worker.load(case)
            used = worker.choose_threads(flops, "predict", method, rows, 1)
            few = 1 if flops > 1e9 else 20
            once = worker.predict(method, rows, few) / few
            calls = interleave.repetitions(once, ROUND_SECONDS)
        except WorkerError as error:
            pool.drop(worker, str(error))
            continue
        measure[name] = per(partial(worker.predict, method, rows), calls, calls)
        records[name] = {
            "group": "predict",
            "case": f"{net}, probabilities" if method == "predict_proba" else net,
            "name": case.name,
            "rows": rows,
            "contender": name,
            "threads": used,
            "precision": contenders.precision(name, case),
            "flops": flops,
            "bytes": cases.parameter_bytes(case),
        }
    return _timed(records, measure, rounds)


def kernel(pool: Pool, name: str, rounds: int) -> list[Record]:
    """Time one kernel."""
    group, flops, bytes_ = kernels.KERNELS[name]
    # vector functions of fastbp run in the thread that calls them
    threads = 1 if group == "activations" else available_threads()
    records, measure = {}, {}
    for contender in kernels.PEERS:
        worker = pool.get(contender, threads)
        if worker is None:
            continue
        try:
            used = worker.choose_kernel_threads(name)
            once = worker.kernel(name, 3) / 3
        except WorkerError:
            continue  # an engine without this kernel
        calls = interleave.repetitions(once, ROUND_SECONDS / 2)
        measure[contender] = per(
            lambda calls, worker=worker: worker.kernel(name, calls), calls, calls
        )
        records[contender] = {
            "group": group,
            "case": name.partition(" ")[2],
            "contender": contender,
            "threads": used,
            "precision": "float32",
            "flops": flops,
            "bytes": bytes_,
        }
    return _timed(records, measure, rounds)


def import_time(rounds: int) -> list[Record]:
    """Time a fresh process that imports the library and ends."""
    records, measure = {}, {}
    path = f"import sys; sys.path.append({str(ROOT)!r})"
    env = environment(available_threads())
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # what pip installs is compiled
    for name, module in MODULES.items():
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            continue
        command = [sys.executable, "-P", "-c", f"{path}; import {module}"]

        def once(command: list[str] = command) -> float:
            start = time.perf_counter()
            subprocess.run(command, check=True, env=env)
            return time.perf_counter() - start

        once()
        measure[name] = once
        records[name] = {"group": "start-up", "case": "import", "contender": name}
    return _timed(records, measure, rounds)


def first_fit(rounds: int) -> list[Record]:
    """Time from starting a process to the end of its first epoch, compilation included."""
    case = replace(cases.CASES["small"], rows=1440)
    records, measure = {}, {}
    for name in STARTING:
        if contenders.missing(name):
            continue

        def once(name: str = name) -> float:
            start = time.perf_counter()
            with Worker(name, available_threads()) as worker:
                worker.load(case)
                worker.train(1)
                return time.perf_counter() - start

        once()
        measure[name] = once
        records[name] = {
            "group": "start-up",
            "case": f"first epoch of {case.label}, {case.rows} rows",
            "contender": name,
        }
    return _timed(records, measure, rounds)


def memory() -> list[Record]:
    """Most memory of a process that trains, in bytes."""
    case = cases.CASES["mnist-medium"]
    data = 4 * case.rows * case.layer_sizes[0]
    records = []
    for name in STARTING:
        if contenders.missing(name):
            continue
        with Worker(name, available_threads()) as worker:
            worker.load(case)
            worker.train(2)
            records.append(
                {
                    "group": "memory",
                    "case": f"training {case.label} on {data / 1e6:.0f} MB of data",
                    "contender": name,
                    "memory": worker.peak_memory(),
                    "seconds": [],
                }
            )
    return records


def digits(pool: Pool, names: Iterable[str], seeds: int, epochs: int) -> list[Record]:
    """Training seconds, loss and test accuracy by epoch, from several initial weights."""
    case = cases.DIGITS
    truth = equivalence.exact(case)
    records = {}
    for name in names:
        worker = pool.get(name, available_threads())
        if worker is None:
            continue
        worker.load(case)
        records[name] = {
            "group": "digits",
            "case": case.label,
            "contender": name,
            "proof": prove(worker, case, truth),
            "threads": worker.choose_threads(cases.flops_per_step(case), "train", 1),
            "curves": [],
            "seconds": [],
        }
    for seed in range(1, seeds + 1):
        for name, record in records.items():
            time.sleep(interleave.SETTLE)
            worker = pool.get(name, available_threads())
            assert worker is not None
            record["curves"].append(worker.digits(epochs, seed))
    return list(records.values())


def time_to_accuracy(record: Record, accuracy: float) -> list[float] | None:
    """Seconds to the first epoch that reaches it, for every seed; None if a seed does not."""
    reached = []
    for curve in record["curves"]:
        seconds = next((s for s, _, a in curve if a >= accuracy), None)
        if seconds is None:
            return None
        reached.append(seconds)
    return reached


def per(measure: Callable[[int], float], repeats: int, units: int) -> Callable[[], float]:
    """Seconds per unit of work: `repeats` of something, all of which are `units`."""
    return lambda: measure(repeats) / units


def _timed(
    records: dict[str, Record], measure: dict[str, Callable[[], float]], rounds: int
) -> list[Record]:
    for key, seconds in interleave.run(measure, rounds).items():
        records[key]["seconds"] = seconds
    return list(records.values())
