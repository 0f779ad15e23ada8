"""Time of fastbp's estimators beside scikit-learn's: the same calls, in turn, medians.

`python -m benchmarks.sklearn_migration` prints the tables of docs/migration.md (how the results differ,
and the times), with `--write` also puts them there, between their marks. `--rounds N` takes N rounds
instead of 5.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
import sklearn.neural_network
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

import fastbp
from benchmarks import interleave

PAGE = Path(__file__).parents[1] / "docs" / "migration.md"
CONTENDERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "scikit-learn": (sklearn.neural_network.MLPClassifier, {}),
    "fastbp": (fastbp.MLPClassifier, {}),
    "fastbp, float32": (fastbp.MLPClassifier, {"precision": "float32"}),
}
GRID = {
    "hidden_layer_sizes": [(16,), (32,), (64,), (32, 32)],
    "alpha": [1e-5, 1e-4, 1e-3, 1e-2],
    "learning_rate_init": [0.001, 0.003],
}

X, Y = load_digits(return_X_y=True)


def fit(data: Any = None, **parameters: Any) -> Callable[[str], Callable[[], object]]:
    def prepare(name: str) -> Callable[[], object]:
        kind, extra = CONTENDERS[name]
        model = kind(random_state=0, **parameters, **extra)
        rows, labels = data() if data else (X, Y)
        return lambda: model.fit(rows, labels)

    return prepare


def fitted(call: Callable[[Any], object]) -> Callable[[str], Callable[[], object]]:
    def prepare(name: str) -> Callable[[], object]:
        kind, extra = CONTENDERS[name]
        model = kind(random_state=0, max_iter=20, **extra).fit(X, Y)
        return lambda: call(model)

    return prepare


def grid_search(name: str) -> Callable[[], object]:
    """On all cores in each library's best way: scikit-learn's in processes, fastbp's on threads."""
    kind, extra = CONTENDERS[name]
    backend = "loky" if name == "scikit-learn" else "threading"
    search = GridSearchCV(kind(random_state=0, **extra), GRID, n_jobs=-1, refit=False)

    def run() -> object:
        with joblib.parallel_config(backend=backend):
            return search.fit(X, Y)

    return run


def many(name: str) -> Callable[[], object]:
    """Eight small networks: one after another, or with fit_many."""
    kind, extra = CONTENDERS[name]
    models = [kind(32, random_state=seed, **extra) for seed in range(8)]
    if name == "scikit-learn":
        return lambda: [model.fit(X, Y) for model in models]
    return lambda: fastbp.fit_many(models, X, Y)


def images() -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    return generator.random((60_000, 784)), generator.integers(10, size=60_000)


# what, calls in a round, rounds at most, how to prepare
CASES: list[tuple[str, int, int, Callable[[str], Callable[[], object]]]] = [
    ("fit digits, all defaults", 1, 9, fit()),
    ("fit digits, hidden_layer_sizes=(256, 256)", 1, 5, fit(hidden_layer_sizes=(256, 256))),
    (
        "fit 60,000 × 784, hidden_layer_sizes=(512, 512), one epoch",
        1,
        3,
        fit(images, hidden_layer_sizes=(512, 512), max_iter=1),
    ),
    (
        "partial_fit on 100 rows of digits",
        100,
        9,
        fitted(lambda m: m.partial_fit(X[:100], Y[:100])),
    ),
    ("predict 1 row", 200, 9, fitted(lambda m: m.predict(X[:1]))),
    ("predict_proba of 1 row", 200, 9, fitted(lambda m: m.predict_proba(X[:1]))),
    ("predict 1,797 rows", 20, 9, fitted(lambda m: m.predict(X))),
    ("score on 1,797 rows", 20, 9, fitted(lambda m: m.score(X, Y))),
    ("8 networks of 32 units on digits, fit_many", 1, 3, many),
    ("grid search on digits, 32 points, 5 folds, all cores", 1, 3, grid_search),
]


def seconds(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def measure(rounds: int) -> list[tuple[str, list[float]]]:
    results = []
    for what, calls, most, prepare in CASES:
        runs = {name: functools.partial(seconds, prepare(name), calls) for name in CONTENDERS}
        times = interleave.run(runs, min(rounds, most))
        results.append((what, [statistics.median(taken) for taken in times.values()]))
        print(what, results[-1][1], flush=True)
    return results


def shown(time_taken: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if time_taken >= size:
            return f"{time_taken / size:.3g} {unit}"
    return f"{time_taken * 1e6:.3g} µs"


def growth() -> str:
    """How far the coefficients are apart after so many epochs (iterations of L-BFGS)."""
    epochs = (20, 100, 300)
    lines = ["| | " + " | ".join(f"{n} epochs" for n in epochs) + " |", "| --- | --- | --- | --- |"]
    kinds: dict[str, dict[str, Any]] = {
        "adam": {},
        "sgd, Nesterov momentum": {"solver": "sgd", "learning_rate_init": 0.05},
        "lbfgs, tanh": {"solver": "lbfgs", "activation": "tanh"},
        "lbfgs, relu": {"solver": "lbfgs"},
    }
    for (name, parameters), dtype in itertools.product(kinds.items(), (np.float64, np.float32)):
        if dtype == np.float32 and "lbfgs" in name:
            continue  # computed in float64
        differences = []
        for n in epochs:
            same = {"random_state": 0, "max_iter": n, "tol": 0, "n_iter_no_change": np.inf}
            models = [
                kind(**same, **parameters).fit((X / 16).astype(dtype), Y)
                for kind in (sklearn.neural_network.MLPClassifier, fastbp.MLPClassifier)
            ]
            pairs = zip(*(model.coefs_ for model in models), strict=True)
            differences.append(f"{max(np.abs(a - b).max() for a, b in pairs):.0e}")
        lines.append(" | ".join([f"| {name}, {np.dtype(dtype).name}", *differences]) + " |")
    return "\n".join(lines) + "\n"


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")


def table(results: list[tuple[str, list[float]]]) -> str:
    machine = (
        f"{time.strftime('%Y-%m-%d')}, {cpu()}, {fastbp.get_num_threads()} cores, "
        f"scikit-learn {sklearn.__version__}, NumPy {np.__version__}, fastbp {fastbp.__version__}."
    )
    lines = [machine, "", "| | scikit-learn | fastbp | | fastbp, float32 | |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for what, (theirs, *ours) in results:
        cells = [cell for t in ours for cell in (shown(t), f"{theirs / t:.1f}×")]
        lines.append(" | ".join(["| " + what, shown(theirs), *cells]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    tables = {"growth": growth(), "timings": table(measure(options.rounds))}
    page = PAGE.read_text()
    for name, text in tables.items():
        print(text)
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = page.partition(start)
        page = before + start + text + end + rest.partition(end)[2]
    if options.write:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
