"""Reading and encoding files: fresh processes of fastbp beside pandas with scikit-learn's transformers.

    python -m benchmarks files [--quick]

Both read the same file and end with the float32 matrix that training starts from; or they load a model,
predict a file and write the predictions. Seconds and memory are of the whole process, imports included.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import interleave, tables
from benchmarks.groups import Record
from benchmarks.worker import available_threads, environment

__all__ = ["main", "measure", "table"]

# fastbp, to where training would begin
OURS = """
import sys, fastbp
from fastbp.cli import main
def begin(self, X, y, **options):
    assert X.dtype == "float32" and len(X) > 0
    sys.stdout.flush()
    os._exit(0)
import os
fastbp.MLP.fit = begin
main(["train", sys.argv[1], "--target", "y", "--validation", "0.1", "--task", "regression",
      "--model", "plain"])
os._exit(1)
"""
PEER = """
import sys, numpy as np, pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, RobustScaler
frame = pd.read_csv(sys.argv[1])
y = frame.pop("y").to_numpy()
number = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), RobustScaler())
name = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=100, sparse_output=False)
encoder = ColumnTransformer([
    ("number", number, make_column_selector(dtype_include="number")),
    ("name", name, make_column_selector(dtype_exclude="number")),
])
train, aside, y, _ = train_test_split(frame, y, test_size=0.1, random_state=0)
X = encoder.fit_transform(train).astype(np.float32)
X_aside = encoder.transform(aside).astype(np.float32)
"""
PEER_PREDICT = """
import sys, pickle, numpy as np, pandas as pd
encoder, model = pickle.load(open(sys.argv[1], "rb"))
frame = pd.read_csv(sys.argv[2])
answers = model.predict(encoder.transform(frame[encoder.feature_names_in_]).astype(np.float32))
pd.DataFrame({"y": answers}).to_csv(sys.argv[3], index=False)
"""
PEER_TRAIN = (
    PEER
    + """
import pickle
from sklearn.neural_network import MLPRegressor
model = MLPRegressor(hidden_layer_sizes=(128, 128), max_iter=1, random_state=0).fit(X[:20000], y[:20000])
pickle.dump((encoder, model), open(sys.argv[2], "wb"))
"""
)


def write_numbers(path: Path, rows: int, columns: int) -> None:
    """Numbers of four decimals, and a target."""
    generator = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(",".join([f"x{j}" for j in range(columns)] + ["y"]) + "\n")
        for start in range(0, rows, 10_000):
            X = generator.normal(size=(min(10_000, rows - start), columns))
            block = np.column_stack([X, X[:, :5].sum(axis=1)])
            np.savetxt(file, block, "%.4f", ",")


def write_mixed(path: Path, rows: int) -> None:
    """Ten columns of numbers, one cell in twenty empty, and five of names."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(rows, 10))
    empty = generator.random(X.shape) < 0.05
    names = generator.zipf(1.5, (rows, 5)) % [3, 10, 30, 100, 1000]
    with path.open("w") as file:
        columns = [f"x{j}" for j in range(10)] + [f"c{j}" for j in range(5)] + ["y"]
        file.write(",".join(columns) + "\n")
        for x, gone, c in zip(X.tolist(), empty.tolist(), names.tolist(), strict=True):
            cells = ["" if g else f"{v:.4f}" for v, g in zip(x, gone, strict=True)]
            cells += [f"v{v}" for v in c]
            file.write(",".join([*cells, f"{x[0] + c[1]:.4f}"]) + "\n")


def run(script: str, *arguments: object) -> tuple[float, int]:
    """Seconds and peak memory in bytes of a process."""
    command = [sys.executable, "-P", "-c", script, *map(str, arguments)]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=environment(available_threads())
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"a process ended with status {process.returncode}")
    return seconds, used.ru_maxrss * 1024


def measure(rounds: int, *, quick: bool = False) -> list[Record]:
    """Time both ways on every case; memory is the most of all rounds."""
    rows = 30_000 if quick else 300_000
    records: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder:
        path = Path(folder, "table.csv")
        cases: dict[str, Callable[[], None]] = {
            f"{rows:,} × 30 numbers": partial(write_numbers, path, rows, 29),
            f"{rows // 3:,} × 15, names and gaps": partial(write_mixed, path, rows // 3),
            f"{500 if not quick else 100} × 20,000": partial(
                write_numbers, path, 100 if quick else 500, 20_000
            ),
        }
        for case, write in cases.items():
            write()
            size = path.stat().st_size
            tasks = {"fastbp": partial(run, OURS, path), "pandas": partial(run, PEER, path)}
            records += _timed(f"{case} ({size / 1e6:.0f} MB)", tasks, rounds)
        rows = 100_000 if quick else 1_000_000
        write_numbers(path, 20_000, 29)
        ours, theirs, out = (Path(folder, name) for name in ("model", "pickle", "out.csv"))
        command = "from fastbp.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
        train = ("train", path, "--target", "y", "--epochs", 1, "--model", "plain", "--save", ours)
        run(command, *train)
        run(PEER_TRAIN, path, theirs)
        write_numbers(path, rows, 29)
        tasks = {
            "fastbp": partial(run, command, "predict", ours, path, "--output", out),
            "pandas": partial(run, PEER_PREDICT, theirs, path, out),
        }
        records += _timed(f"predict {rows:,} × 30", tasks, rounds)
        if not quick:
            need = 5_000_000 * 30 * 8
            if shutil.disk_usage(folder).free > 2 * need:
                write_numbers(path, 5_000_000, 29)
                task = {"fastbp": partial(run, OURS, path)}
                records += _timed("5,000,000 × 30 numbers", task, 1)
    return records


def _timed(
    case: str, tasks: dict[str, Callable[[], tuple[float, int]]], rounds: int
) -> list[Record]:
    memory = dict.fromkeys(tasks, 0)

    def once(name: str) -> float:
        seconds, used = tasks[name]()
        memory[name] = max(memory[name], used)
        return seconds

    for name in tasks:  # what is compiled and cached once
        if rounds > 1:
            once(name)
    timed = interleave.run({name: partial(once, name) for name in tasks}, rounds)
    return [
        {
            "group": "files",
            "case": case,
            "contender": name,
            "seconds": timed[name],
            "memory": memory[name],
        }
        for name in tasks
    ]


def table(records: list[Record]) -> list[list[str]]:
    """Rows of texts: case, seconds and memory of both, ratios; the head comes first."""
    rows = [["file", "fastbp, s", "MB", "pandas + ColumnTransformer, s", "MB", "times as long"]]
    cases: dict[str, dict[str, Any]] = {}
    for record in records:
        cases.setdefault(record["case"], {})[record["contender"]] = record
    for case, row in cases.items():
        cells = [case]
        for name in ("fastbp", "pandas"):
            record = row.get(name)
            cells.append(f"{statistics.median(record['seconds']):.2f}" if record else "–")
            cells.append(f"{record['memory'] / 1e6:,.0f}" if record else "–")
        if len(row) == 2:
            ratio = interleave.ratio(row["pandas"]["seconds"], row["fastbp"]["seconds"])
            cells.append(f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})")
        else:
            cells.append("–")
        rows.append(cells)
    return rows


def main(*, quick: bool) -> None:
    """Measure and print the table."""
    tables.show(table(measure(1 if quick else 5, quick=quick)))
