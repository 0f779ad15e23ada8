"""How many threads a fit may use, and many fits side by side."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
from joblib.parallel import get_active_backend
from numpy.typing import ArrayLike

from fastbp import threads as machine
from fastbp.threads import get_num_threads

__all__ = ["fit_many"]

T = TypeVar("T")

# Of a thread of `fit_many`: .interrupted, an event; of one of an executor's worker: .remote, True
_worker = threading.local()


def let_interrupt() -> None:
    """Raise KeyboardInterrupt in a `fit_many` that was interrupted: its threads get no signal."""
    if hasattr(_worker, "interrupted") and _worker.interrupted.is_set():
        raise KeyboardInterrupt


def is_in_worker() -> bool:
    """Whether this thread is one of `fit_many`, or of an executor's worker."""
    return hasattr(_worker, "interrupted") or hasattr(_worker, "remote")


def threads_for(n_jobs: int | None) -> int:
    """Return the threads that an estimator with this ``n_jobs`` may use here.

    None is one thread where the fits themselves run side by side (in a worker of joblib, Dask or
    `fit_many`), so that they do not ask for more threads than there are cores; else all of them. In a
    process for such fits it is as many as somebody asked for, as Ray does by OMP_NUM_THREADS.
    """
    if hasattr(_worker, "interrupted"):
        return 1
    if n_jobs is not None and (isinstance(n_jobs, bool) or not isinstance(n_jobs, Integral)):
        raise TypeError(f"n_jobs must be an integer or None, got {n_jobs!r}")
    if n_jobs is None:
        inside_joblib = (getattr(get_active_backend()[0], "nesting_level", None) or 0) > 0
        beside = _tasks_of_dask()
        if getattr(_worker, "remote", False) or beside:
            return max(1, machine.asked_for() // max(1, beside))
        return 1 if inside_joblib else get_num_threads()
    if n_jobs == 0:
        raise ValueError(
            "n_jobs must be None, an integer ≥ 1, or < 0 to count from all cores, got 0"
        )
    return int(n_jobs) if n_jobs > 0 else max(1, get_num_threads() + 1 + n_jobs)


def _tasks_of_dask() -> int:
    """How many tasks the Dask worker that this thread belongs to runs at a time; 0: there is none.

    joblib's nesting level says nothing there: each task is taken for the outermost.
    """
    if "distributed" not in sys.modules:
        return 0
    from distributed import get_worker

    try:
        return int(get_worker().state.nthreads)
    except (AttributeError, ValueError):
        return 0


@contextmanager
def in_worker() -> Iterator[None]:
    """While this thread fits, and others may beside it."""
    _worker.remote = True
    try:
        yield
    finally:
        del _worker.remote


def fit_many(
    estimators: Iterable[T],
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    n_jobs: int | None = None,
    executor: Any = None,
) -> list[T]:
    """Fit every estimator to the same data, side by side, one estimator to a thread.

    Training releases the interpreter lock and the data is shared, not copied. The results are those
    of fitting each alone, bit for bit. For small networks, which cannot keep several cores busy each,
    this is the fastest way to train a number of them.

    Parameters
    ----------
    estimators : iterable of estimators
        `MLPClassifier`, `MLPRegressor`, or whatever else fits and holds them, as pipelines do.
    X, y, sample_weight
        As in their ``fit``; `sample_weight` is passed on if it is not None.
    n_jobs : int or None
        Threads, as in `MLPClassifier`.
    executor : concurrent.futures.Executor or None
        Whose workers fit in place of threads: of processes, of mpi4py.futures, of loky, of Dask
        (``client.get_executor()``). Data in a memory-mapped file are sent as its path, which has to
        be there for the workers; other data are sent with each estimator. How many fits run at a time
        is the executor's to say; each takes one thread, or its ``n_jobs``.

    Returns
    -------
    list
        The estimators, fitted, in their order; with an executor, what comes back from its workers.

    Raises
    ------
    TypeError
        If an estimator has no method ``fit``, `executor` none ``submit``, or `n_jobs` is no integer.
    ValueError
        If `n_jobs` is 0 or given with an executor, or two estimators are the same object, or share a
        RandomState: the draws of one would depend on the timing of the other.
    KeyboardInterrupt
        On Ctrl-C. Fits that have begun end after their epoch, with a warning, the others do not begin.
    Exception
        Whatever a fit raises; the others are completed first.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.data import load_digits
    >>> X, y = load_digits()
    >>> models = [fastbp.MLPClassifier(16, solver="lbfgs", random_state=i) for i in range(3)]
    >>> models = fastbp.fit_many(models, X, y)
    >>> all(model.score(X, y) > 0.95 for model in models)
    True
    """
    listed = list(estimators)
    for estimator in listed:
        if not hasattr(estimator, "fit"):
            raise TypeError(f"estimators must have a method fit, got {estimator!r}")
    _check_apart("estimators", listed)
    states = [getattr(estimator, "random_state", None) for estimator in listed]
    _check_apart("random_state", [s for s in states if isinstance(s, np.random.RandomState)])
    extra = {} if sample_weight is None else {"sample_weight": sample_weight}
    if executor is not None:
        if not hasattr(executor, "submit"):
            raise TypeError(f"executor must have a method submit, got {executor!r}")
        if n_jobs is not None:
            raise ValueError("n_jobs is not for an executor, which has its own number of workers")
        from fastbp.estimators.executors import fit_by

        return fit_by(executor, listed, {"X": X, "y": y} | extra)
    threads = threads_for(n_jobs)
    interrupted = threading.Event()

    def fit(estimator: Any) -> None:
        _worker.interrupted = interrupted
        estimator.fit(X, y, **extra)

    with ThreadPoolExecutor(max(1, min(threads, len(listed))), "fastbp-fit") as pool:
        try:
            fits = [pool.submit(fit, estimator) for estimator in listed]
            wait(fits)
        except BaseException:
            interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for each in fits:
        each.result()
    return listed


def _check_apart(name: str, objects: list[Any]) -> None:
    if len({id(o) for o in objects}) < len(objects):
        raise ValueError(f"{name}: each estimator must have its own, but two share one")
