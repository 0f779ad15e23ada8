"""A contender in a process of its own, and the handle by which it is asked to work.

The parent sends (method, arguments), the child answers ("ok", value) or ("error", message), pickled,
over the child's standard input and output. Times are taken in the child: the pipe is not in them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import cases, contenders, kernels, memory
from benchmarks.cases import Array, Case

ROOT = Path(__file__).parents[1]

# The checkout comes last on the path: what is installed, with its compiled modules, goes first.
_CHILD = (
    f"import sys; sys.path.append({str(ROOT)!r}); from benchmarks import worker; worker.serve()"
)


class WorkerError(RuntimeError):
    """The contender cannot run here, or failed; the message says why."""


def available_threads() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Worker:
    """A handle of the child process; its methods are those of `_Host`.

    Parameters
    ----------
    name : str
        A key of `contenders.CONTENDERS`.
    threads : int
        Most threads the contender may use.
    site : path or None
        A directory that goes before all others on the child's path: another build of fastbp.
    dtype : str
        Of the cases that it is to load.
    """

    def __init__(
        self, name: str, threads: int, site: Path | None = None, dtype: str = "float32"
    ) -> None:
        self.name = name
        reason = None if site else contenders.missing(name)
        if reason:
            raise WorkerError(reason)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(threads, site) | {"JAX_ENABLE_X64": str(int(dtype == "float64"))},
        )
        self._ask("start", name, threads)

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments: self._ask(method, *arguments)

    def _ask(self, method: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
            status, value = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
            self._stderr.seek(0)
            said = self._stderr.read().decode(errors="replace").strip()[-500:]
            raise WorkerError(f"{self.name} ended with code {code}: {said}") from None
        if status == "error":
            raise WorkerError(value)
        return value

    def close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def environment(threads: int, site: Path | None = None) -> dict[str, str]:
    """The environment of a process that may use so many threads."""
    names = ("OMP", "MKL", "OPENBLAS", "FASTBP")
    env = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in names}
    env["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        eigen = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {eigen}".strip()
    if site is not None:
        env["PYTHONPATH"] = str(site)
    return env


class _Host:
    """The child's side: holds one contender at a time."""

    def start(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        if name.startswith("jax") and hasattr(os, "sched_setaffinity"):
            # JAX has one thread for every CPU it sees.
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

    def load(self, case: Case, seed: int = 0) -> None:
        """Make the contender for this case, with its data and initial weights."""
        self.case = case
        self.contender = contenders.create(self.name, case, self.threads)
        self.X, self.y = cases.data(case)
        self.contender.set_data(self.X, self.y)
        self.contender.set_parameters(cases.parameters(case, seed))

    def prove(self, steps: int) -> tuple[float, list[Array], Array, Array]:
        """Train a few steps from the initial weights: mean loss, parameters after, predictions.

        The data and weights of the timed runs are there again afterwards.
        """
        few = cases.first_steps(self.case, steps)
        X, y = cases.data(few)
        initial = cases.parameters(self.case)
        self.contender.set_parameters(initial)
        self.contender.set_data(X, y)
        loss = self.contender.epoch(cases.orders(few, 1)[0])
        trained = self.contender.get_parameters()
        labels, probabilities = self.contender.predict(X), self.contender.predict_proba(X)
        self.contender.set_data(self.X, self.y)
        self.contender.set_parameters(initial)
        return loss, trained, labels, probabilities

    def choose_threads(self, flops: float, method: str, *arguments: Any) -> int:
        """Warm up with every number of threads on offer, and stay with the one fastest at this.

        `flops` is what the contender does between two calls of its library.
        """
        measure = partial(getattr(self, method), *arguments)
        choices = self.contender.thread_choices
        if flops > 1e9:  # milliseconds of work: one thread never wins
            choices = (max(choices),)
        seconds = {}
        for threads in choices:
            self.contender.use_threads(threads)
            measure()  # compiles what is left to compile
            seconds[threads] = first = measure()
            if first < 0.02:
                seconds[threads] = min(first, *(measure() for _ in range(4)))
        fastest = min(seconds, key=seconds.__getitem__)
        self.contender.use_threads(fastest)
        return fastest

    def train(self, epochs: int) -> float:
        """Seconds of so many epochs."""
        orders = cases.orders(self.case, epochs)
        start = time.perf_counter()
        for order in orders:
            self.contender.epoch(order)
        return time.perf_counter() - start

    def predict(self, method: str, rows: int, calls: int) -> float:
        """Seconds of so many calls of "predict" or "predict_proba", each with so many rows."""
        X, call = self.X[:rows], getattr(self.contender, method)
        start = time.perf_counter()
        for _ in range(calls):
            call(X)
        return time.perf_counter() - start

    def digits(self, epochs: int, seed: int) -> list[tuple[float, float, float]]:
        """Training seconds so far, training loss and test accuracy, after every epoch.

        The accuracy is measured outside of the time, by the contender's own predictions.
        """
        _, _, X_test, y_test = cases.digits()
        self.contender.epoch(cases.orders(self.case, 1)[0])  # warm
        self.contender.predict(X_test)
        self.contender.set_parameters(cases.parameters(self.case, seed))
        seconds, curve = 0.0, []
        for order in cases.orders(self.case, epochs, seed):
            start = time.perf_counter()
            loss = self.contender.epoch(order)
            seconds += time.perf_counter() - start
            curve.append((seconds, loss, float((self.contender.predict(X_test) == y_test).mean())))
        return curve

    def choose_kernel_threads(self, name: str) -> int:
        """The number of threads that a kernel is fastest with, used from here on."""
        return kernels.choose_threads(self.name, name, self.threads)

    def kernel(self, name: str, calls: int) -> float:
        """Seconds of so many calls of one kernel (see `kernels.py`)."""
        return kernels.seconds(self.name, name, calls)

    def peak_memory(self) -> int:
        """Most bytes this process has had in memory."""
        return memory.peak()

    def versions(self) -> dict[str, str]:
        """Versions of what the contender needs."""
        requires = contenders.CONTENDERS[self.name].requires or ("numpy",)
        found = {m: str(importlib.import_module(m).__version__) for m in requires}
        if "fastbp" in requires:
            from fastbp import config

            facts = config.describe()
            engine = facts.get("native engine", "")
            found["fastbp"] += f" ({facts['engine']}{', ' + engine if engine else ''})"
        return found | {"python": platform.python_version()}


def serve() -> None:
    """Answer requests until standard input ends."""
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get into the replies
    host = _Host()
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            reply = ("ok", getattr(host, method)(*arguments))
        except contenders.CannotRunError as error:
            reply = ("error", str(error))
        except Exception as error:
            reply = ("error", f"{type(error).__name__}: {error}")
        pickle.dump(reply, replies)
        replies.flush()
