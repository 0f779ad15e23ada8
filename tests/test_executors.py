"""`fit_many` by an executor's workers, and how many threads a fit takes in whose worker."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import joblib
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import MLPClassifier, fit_many, threads
from fastbp.data import load_digits
from fastbp.estimators.executors import Mapped, packed
from fastbp.estimators.parallel import threads_for

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits()
X, Y = X[:200].astype(np.float32), Y[:200]


def models() -> list[Any]:
    return [
        MLPClassifier(16, max_iter=3, random_state=0),
        MLPClassifier((8, 8), solver="sgd", dropout=0.2, max_iter=3, random_state=1),
        make_pipeline(StandardScaler(), MLPClassifier(8, max_iter=3, random_state=2)),
    ]


@contextmanager
def of_processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@contextmanager
def of_threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@contextmanager
def of_loky() -> Iterator[Executor]:
    from joblib.externals.loky import get_reusable_executor

    pool = get_reusable_executor(2)
    yield pool
    pool.shutdown(kill_workers=True)  # joblib makes one of its own kind


@contextmanager
def of_dask() -> Iterator[Executor]:
    distributed = pytest.importorskip("distributed")
    with distributed.Client(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as client:
        yield client.get_executor()


EXECUTORS = [of_processes, of_threads, of_loky, of_dask]


@pytest.fixture(scope="module", params=EXECUTORS, ids=lambda make: make.__name__)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with request.param() as made:
        yield made


def outputs(model: Any) -> Any:
    return model.predict_proba(X)


def test_fits_are_those_of_this_process(executor: Executor, tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    weight = np.linspace(0.5, 2, len(X))
    for data in (X, np.load(tmp_path / "X.npy", mmap_mode="r")):
        given = models()[:2]
        alone = [clone(model).fit(X, Y, sample_weight=weight) for model in given]
        for a, b in zip(alone, fit_many(given, data, Y, weight, executor=executor), strict=True):
            np.testing.assert_array_equal(outputs(a), outputs(b))
    found = fit_many(models()[2:], X, Y, executor=executor)
    np.testing.assert_array_equal(outputs(found[0]), outputs(models()[2].fit(X, Y)))


class Asks:
    def fit(self, X: Any, y: Any) -> None:
        self.threads = threads_for(None), threads_for(2)


class Fails:
    def fit(self, X: Any, y: Any) -> None:
        raise ArithmeticError("no fit")


def test_a_fit_takes_one_thread_or_those_it_asks_for(executor: Executor) -> None:
    assert [a.threads for a in fit_many([Asks(), Asks()], X, Y, executor=executor)] == [(1, 2)] * 2


def test_what_a_fit_raises(executor: Executor) -> None:
    with pytest.raises(ArithmeticError, match="no fit"):
        fit_many([Asks(), Fails(), Asks()], X, Y, executor=executor)
    assert fit_many([], X, Y, executor=executor) == []


def test_misuse() -> None:
    with pytest.raises(TypeError, match="executor must have a method submit, got 3"):
        fit_many(models(), X, Y, executor=3)
    with of_threads() as pool, pytest.raises(ValueError, match="n_jobs is not for an executor"):
        fit_many(models(), X, Y, executor=pool, n_jobs=2)


def test_an_interrupt_takes_back_what_has_not_begun() -> None:
    class Slow(Executor):
        def __init__(self) -> None:
            self.given: list[Future[Any]] = []

        def submit(self, *args: Any, **more: Any) -> Future[Any]:
            self.given.append(Interrupted() if not self.given else Future())
            return self.given[-1]

    class Interrupted(Future[Any]):
        def exception(self, timeout: float | None = None) -> BaseException | None:
            raise KeyboardInterrupt

    slow = Slow()
    with pytest.raises(KeyboardInterrupt):
        fit_many(models(), X, Y, executor=slow)
    assert [f.cancelled() for f in slow.given] == [True] * 3


def test_mapped_arrays_travel_as_paths(tmp_path: Path) -> None:
    path = tmp_path / "X.npy"
    np.save(path, X)
    whole = np.load(path, mmap_mode="r")
    for part in (whole, whole[10:], whole[10:20][3:], whole[:, :]):
        sent = packed(part)
        assert isinstance(sent, Mapped)
        assert len(pickle.dumps(sent)) < 1000
        np.testing.assert_array_equal(sent.open(), part)
    for other in (whole[:, 1:], whole[::2], whole[:0], X, [1, 2], np.asfortranarray(X)):
        assert packed(other) is other
    path.unlink()
    assert packed(whole) is whole  # nobody else can open it


def test_an_estimator_comes_back_as_its_weights() -> None:
    model = MLPClassifier(200, max_iter=2, random_state=0).fit(X, Y)
    weights = sum(a.nbytes for a in model.coefs_ + model.intercepts_)
    kept = clone(model)
    # beside them: parameters, classes, curves; and Adam's two moments, which partial_fit goes on with
    assert len(pickle.dumps(model)) < 3 * weights + 20_000
    assert len(pickle.dumps(kept)) < 5_000


def test_threads_in_a_worker_of_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(threads, "_affinity", lambda: 8)
    monkeypatch.setattr(threads, "_container_quota", lambda: None)
    for name in ("OMP_NUM_THREADS", "FASTBP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert threads_for(None) == 8
    with distributed.Client(
        n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None
    ) as client:
        assert client.submit(threads_for, None, pure=False).result() == 1
        assert client.submit(threads_for, 3, pure=False).result() == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "8")
        assert client.submit(threads_for, None, pure=False).result() == 2  # four tasks at a time
        monkeypatch.delenv("OMP_NUM_THREADS")
        with joblib.parallel_config("dask"):
            found = joblib.Parallel(n_jobs=2)(joblib.delayed(threads_for)(None) for _ in range(4))
            assert found == [1] * 4
            grid = {"alpha": [1e-4, 1e-2], "max_iter": [2, 3]}
            search = GridSearchCV(MLPClassifier(8, random_state=0), grid, cv=2).fit(X, Y)
        alone = GridSearchCV(MLPClassifier(8, random_state=0), grid, cv=2).fit(X, Y)
        scores = "mean_test_score"
        np.testing.assert_array_equal(search.cv_results_[scores], alone.cv_results_[scores])
    assert threads_for(None) == 8


RAY = """
import joblib, numpy as np, ray, sys
from ray.util.joblib import register_ray
from sklearn.model_selection import GridSearchCV
import fastbp
from fastbp.data import load_digits
from fastbp.estimators.parallel import threads_for
X, Y = load_digits()
X, Y = X[:200], Y[:200]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
register_ray()
grid = {"alpha": [1e-4, 1e-2]}
with joblib.parallel_config("ray", n_jobs=2):
    assert joblib.Parallel()(joblib.delayed(threads_for)(None) for _ in range(2)) == [1, 1]
    a = GridSearchCV(fastbp.MLPClassifier(8, max_iter=3, random_state=0), grid, cv=2).fit(X, Y)
b = GridSearchCV(fastbp.MLPClassifier(8, max_iter=3, random_state=0), grid, cv=2).fit(X, Y)
assert (a.cv_results_["mean_test_score"] == b.cv_results_["mean_test_score"]).all()
print("good")
"""


def test_searches_by_ray() -> None:
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RAY], capture_output=True, text=True, timeout=400
    )
    assert done.stdout.endswith("good\n"), done.stderr


MPI = """
from mpi4py.futures import MPIPoolExecutor
import fastbp
from fastbp.data import load_digits
X, Y = load_digits()
if __name__ == "__main__":
    models = [fastbp.MLPClassifier(8, max_iter=3, random_state=i) for i in range(4)]
    with MPIPoolExecutor() as pool:
        fitted = fastbp.fit_many(models, X, Y, executor=pool)
    alone = fastbp.fit_many(models, X, Y)
    assert all((a.coefs_[0] == b.coefs_[0]).all() for a, b in zip(fitted, alone))
    print("good")
"""


def test_fits_by_ranks_of_mpi(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py.MPI")
    program = tmp_path / "fits.py"
    program.write_text(MPI)
    mpiexec = shutil.which(
        "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert mpiexec is not None
    command = [mpiexec, "-n", "3", sys.executable, "-W", "ignore", "-m", "mpi4py.futures", program]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=180)
    assert done.stdout.endswith("good\n"), done.stderr
