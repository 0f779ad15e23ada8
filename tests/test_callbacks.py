"""fastbp.callbacks: what each writes, in each of MLP and the estimators."""

from __future__ import annotations

import csv
import math
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import callbacks
from fastbp.callbacks import Callback, CSVLog, ModelCheckpoint, OptunaPruning, Progress

RNG = np.random.default_rng(0)
X = RNG.standard_normal((90, 4)).astype("f4")
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def make(**options: Any) -> fastbp.MLP:
    return fastbp.MLP([4, 8, 3], seed=0, **options)


class Recorder(Callback):
    """Writes down what it is told."""

    def __init__(self, name: str = "", into: list[Any] | None = None) -> None:
        self.name, self.told = name, [] if into is None else into

    def begin(self, model: Any, history: fastbp.History, epochs: int) -> None:
        self.told.append((self.name, "begin", history.epochs, epochs))

    def __call__(self, model: Any, history: fastbp.History) -> None:
        self.told.append((self.name, "epoch", history.epochs))

    def end(self, model: Any, history: fastbp.History) -> None:
        self.told.append((self.name, "end", history.epochs, history.stopped))


# The protocol


def test_begin_epochs_end():
    told: list[Any] = []
    make().fit(X, LABELS, epochs=2, callbacks=[Recorder("a", told), Recorder("b", told)])
    assert told == [
        ("a", "begin", 0, 2),
        ("b", "begin", 0, 2),
        ("a", "epoch", 1),
        ("b", "epoch", 1),
        ("a", "epoch", 2),
        ("b", "epoch", 2),
        ("b", "end", 2, "epochs"),
        ("a", "end", 2, "epochs"),
    ]


def test_the_end_comes_whatever_happens():
    def fail(model: fastbp.MLP, history: fastbp.History) -> None:
        if history.epochs == 2:
            raise OSError("disk")

    told: list[Any] = []
    with pytest.raises(OSError, match="disk"):
        make().fit(X, LABELS, callbacks=[Recorder("a", told), fail])
    assert told[-1] == ("a", "end", 2, "")


def test_a_beginning_that_fails_ends_those_before_it_and_trains_nothing():
    class Fails(Callback):
        def begin(self, model: Any, history: fastbp.History, epochs: int) -> None:
            raise OSError("no")

    told: list[Any] = []
    model = make()
    before = model.parameters
    with pytest.raises(OSError, match="no"):
        model.fit(X, LABELS, callbacks=[Recorder("a", told), Fails(), Recorder("b", told)])
    assert told == [("a", "begin", 0, 10), ("a", "end", 0, "")]
    assert all((p == q).all() for p, q in zip(before, model.parameters, strict=True))


def test_a_resumed_training_tells_of_the_epochs_before(tmp_path: Path):
    path = tmp_path / "run.safetensors"
    make().fit(X, LABELS, epochs=2, checkpoint=path)
    told: list[Any] = []
    make().fit(X, LABELS, epochs=3, resume=path, callbacks=[Recorder("a", told)])
    assert told == [("a", "begin", 2, 3), ("a", "epoch", 3), ("a", "end", 3, "epochs")]


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_estimators_tell_the_same(kind: str):
    pytest.importorskip("sklearn")
    histories = []

    class Keep(Recorder):
        def end(self, model: Any, history: fastbp.History) -> None:
            super().end(model, history)
            histories.append(history)

    recorder = Keep()
    model = getattr(fastbp, kind)(
        hidden_layer_sizes=(5,), max_iter=3, callbacks=[recorder], random_state=0
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, LABELS)
    assert [t[1] for t in recorder.told] == ["begin", "epoch", "epoch", "epoch", "end"]
    assert recorder.told[0][2:] == (0, 3)
    (history,) = histories
    assert history.loss == model.loss_curve_
    assert history.learning_rate == [0.001] * 3
    assert all(s > 0 for s in history.seconds)
    assert set(history.row()) == {"epoch", "loss", "learning_rate", "seconds", "samples_per_second"}


def test_estimators_tell_of_validation_and_of_a_warm_start():
    pytest.importorskip("sklearn")
    rows: list[dict[str, float]] = []

    class Rows(Callback):
        def __call__(self, model: Any, history: fastbp.History) -> None:
            rows.append(history.row())

    model = fastbp.MLPClassifier(
        (5,), max_iter=2, early_stopping=True, warm_start=True, callbacks=[Rows()], random_state=0
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, LABELS).fit(X, LABELS)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["validation_score"] for row in rows] == model.validation_scores_
    assert rows[-1]["seconds"] > 0


def test_functions_and_callbacks_go_together():
    seen = []
    make().fit(X, LABELS, epochs=1, callbacks=[lambda *a: seen.append(len(a)), Recorder()])
    assert seen == [2]


# The gradient's norm


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("validation", [None, 0.3])
def test_gradient_norm(weighted: bool, validation: float | None, tmp_path: Path):
    weight = np.linspace(0.5, 2, len(X)) if weighted else None
    model = make(l2=0.01, dtype="float64")
    model.fit(
        X,
        LABELS,
        epochs=3,
        shuffle=False,
        sample_weight=weight,
        validation=validation,
        callbacks=[CSVLog(tmp_path / "log.csv", gradient_norm=True)],
    )
    assert model.history is not None
    n = len(X) - (0 if validation is None else 27)
    g = model.gradient(X[:n], LABELS[:n], None if weight is None else weight[:n])
    expected = math.sqrt(sum(float((a * a).sum()) for a in g))
    # two orders of summing len(X) terms of float64
    assert model.history.gradient_norm[-1] == pytest.approx(expected, rel=len(X) * 1e-15)
    assert len(model.history.gradient_norm) == 3


@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize("share", [0.02, 0.5])  # which the engines take as they are, and made dense
def test_gradient_norm_of_sparse_rows(share: float, engine: str):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(RNG.random((60, 100)) < share, RNG.standard_normal((60, 100)), 0)
    y = np.arange(60) % 3
    norms = []
    for rows in (scipy_sparse.csr_matrix(dense), dense):
        asks = Recorder()
        asks.gradient_norm = True
        model = fastbp.MLP([100, 5, 3], dtype="float64", seed=0, engine=engine)
        model.fit(rows, y, epochs=2, callbacks=[asks])
        norms.append(model.history.gradient_norm)
        if engine == "auto":
            estimator = fastbp.MLPClassifier((5,), max_iter=2, random_state=0, callbacks=[asks])
            estimator.fit(rows, y)
    # sums of up to 60 rows and 100 columns, in another order, in each of a few steps
    assert norms[0] == pytest.approx(norms[1], rel=60 * 100 * 8 * 2.0**-53)


def test_gradient_norm_only_where_asked_for():
    assert make().fit(X, LABELS, epochs=2, callbacks=[Recorder()]).gradient_norm == []


def test_gradient_norm_goes_through_a_checkpoint(tmp_path: Path):
    path = tmp_path / "run.safetensors"
    asks = Callback()
    asks.gradient_norm = True
    kept = make().fit(X, LABELS, epochs=2, checkpoint=path, callbacks=[asks]).gradient_norm
    model = make()
    assert model.fit(X, LABELS, epochs=3, resume=path, callbacks=[asks]).gradient_norm[:2] == kept
    make().fit(X, LABELS, epochs=2, checkpoint=path)  # nobody asked yet
    norms = model.fit(X, LABELS, epochs=3, resume=path, callbacks=[asks]).gradient_norm
    assert np.isnan(norms).tolist() == [True, True, False]


def test_gradient_norm_of_estimators():
    pytest.importorskip("sklearn")
    histories = []

    class Asks(Callback):
        gradient_norm = True

        def end(self, model: Any, history: fastbp.History) -> None:
            histories.append(history)

    model = fastbp.MLPClassifier((5,), max_iter=2, callbacks=[Asks()], alpha=0.1, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X.astype(float), LABELS)
    # its objective is that of an MLP whose penalty is divided by the rows
    same = fastbp.MLP([4, 5, 3], l2=0.1 / len(X), dtype="float64")
    same.weights, same.biases = [c.T for c in model.coefs_], model.intercepts_
    expected = math.sqrt(sum(float((a * a).sum()) for a in same.gradient(X, LABELS)))
    assert histories[0].gradient_norm[-1] == pytest.approx(expected, rel=len(X) * 1e-15)


# Files


def test_csv(tmp_path: Path):
    path = tmp_path / "log.csv"
    path.write_text("old")
    history = make().fit(X, LABELS, epochs=3, validation=0.2, callbacks=[CSVLog(path)])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    for name in ("loss", "validation_loss", "validation_score", "learning_rate", "seconds"):
        assert [float(row[name]) for row in rows] == getattr(history, name)
    assert [row["gradient_norm"] for row in rows] == [""] * 3


def test_csv_of_a_resumed_training_is_whole(tmp_path: Path):
    path, log = tmp_path / "run.safetensors", tmp_path / "log.csv"
    make().fit(X, LABELS, epochs=2, checkpoint=path)
    history = make().fit(X, LABELS, epochs=4, resume=path, callbacks=[CSVLog(log)])
    with log.open(newline="") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == history.loss


def test_csv_is_on_disk_after_every_epoch(tmp_path: Path):
    path, lines = tmp_path / "log.csv", []

    def look(model: fastbp.MLP, history: fastbp.History) -> None:
        lines.append(len(path.read_text().splitlines()))

    make().fit(X, LABELS, epochs=3, callbacks=[CSVLog(path), look])
    assert lines == [2, 3, 4]


def test_model_checkpoint_keeps_the_best(tmp_path: Path):
    path = tmp_path / "best.safetensors"
    kept = []
    options: dict[str, Any] = {
        "epochs": 30,
        "learning_rate": 1.0,
        "validation": (X[60:], LABELS[60:]),
    }
    model = make()
    history = model.fit(
        X[:60],
        LABELS[:60],
        callbacks=[ModelCheckpoint(path), lambda m, h: kept.append(m.parameters)],
        **options,
    )
    best = int(np.argmin(history.validation_loss))
    assert best < 29  # else this shows nothing
    loaded = fastbp.MLP.load(path).parameters
    assert all((p == q).all() for p, q in zip(loaded, kept[best], strict=True))


def test_model_checkpoint_by_score(tmp_path: Path):
    path = tmp_path / "best-{epoch}.safetensors"
    log = ModelCheckpoint(path, monitor="validation_score")
    history = make().fit(X, LABELS, epochs=20, validation=0.3, callbacks=[log])
    best, expected = -math.inf, []
    for epoch, score in enumerate(history.validation_score, 1):
        if score > best:
            best = score
            expected.append(f"best-{epoch}.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(expected)


def test_model_checkpoint_goes_on_from_the_best_before(tmp_path: Path):
    path, best = tmp_path / "run.safetensors", tmp_path / "best.safetensors"
    make().fit(X, LABELS, epochs=5, checkpoint=path)
    model = make()
    # at this rate the resumed epochs are no better than those before
    model.fit(
        X, LABELS, epochs=7, resume=path, learning_rate=30.0, callbacks=[ModelCheckpoint(best)]
    )
    assert model.history is not None
    improved = min(model.history.loss[5:]) < min(model.history.loss[:5])
    assert best.exists() == improved


def test_model_checkpoint_says_what_is_wrong(tmp_path: Path):
    pytest.importorskip("sklearn")
    path = tmp_path / "m.safetensors"
    with pytest.raises(TypeError, match="MLPClassifier"):
        fastbp.MLPClassifier(callbacks=[ModelCheckpoint(path)]).fit(X, LABELS)
    with pytest.raises(ValueError, match="needs validation"):
        make().fit(X, LABELS, callbacks=[ModelCheckpoint(path, monitor="validation_loss")])
    with pytest.raises(ValueError, match="monitor must be one of"):
        ModelCheckpoint(path, monitor="accuracy")
    with pytest.raises(ValueError, match="every"):
        ModelCheckpoint(path, every=0)
    with pytest.raises(ValueError, match="path"):
        ModelCheckpoint(tmp_path / "none" / "m")
    with pytest.raises(ValueError, match="path"):
        CSVLog(tmp_path)


# Progress


def test_progress_bars(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich, a terminal
    for kind in ("tqdm", "rich"):
        pytest.importorskip(kind)
        make().fit(X, LABELS, epochs=3, callbacks=[Progress(kind)])
        assert "training" in capsys.readouterr().err
    with pytest.raises(ValueError, match="kind"):
        Progress("bar")
    monkeypatch.setitem(sys.modules, "tqdm", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"Progress\('tqdm'\) needs tqdm"):
        Progress("tqdm")


def test_progress_is_lines_where_nobody_looks(capsys, monkeypatch: pytest.MonkeyPatch):
    from fastbp.command import progress

    now = iter(range(0, 1000, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    make().fit(X, LABELS, epochs=3, callbacks=[Progress()])
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines[-2:]] == ["training: 33%", "training: 67%"]
    assert "loss" in lines[-1]


# Trackers


def test_tensorboard(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = callbacks.TensorBoard(tmp_path, gradient_norm=True)
    history = make().fit(X, LABELS, epochs=3, validation=0.2, callbacks=[log])
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name in ("loss", "validation_loss", "learning_rate", "gradient_norm"):
        scalars = events.Scalars(name)
        assert [s.step for s in scalars] == [1, 2, 3]
        assert [np.float32(s.value) for s in scalars] == [
            np.float32(v) for v in getattr(history, name)
        ]


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    mlflow.set_tracking_uri(tmp_path.as_uri())
    experiment = mlflow.set_experiment("e").experiment_id
    history = make().fit(X, LABELS, epochs=3, callbacks=[callbacks.MLflow("first")])
    assert mlflow.active_run() is None
    (run,) = mlflow.MlflowClient().search_runs([experiment])
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert run.data.params["layer_sizes"] == "[4, 8, 3]"
    steps = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [s.value for s in sorted(steps, key=lambda s: s.step)] == history.loss
    with mlflow.start_run() as own:  # which it leaves open
        make().fit(X, LABELS, epochs=1, callbacks=[callbacks.MLflow()])
        assert mlflow.active_run().info.run_id == own.info.run_id

    def fail(*_: object) -> None:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        make().fit(X, LABELS, callbacks=[callbacks.MLflow("bad"), fail])
    (run,) = mlflow.MlflowClient().search_runs([experiment], "tags.`mlflow.runName` = 'bad'")
    assert run.info.status == "FAILED"


WANDB = """
import sys
import fastbp
import wandb
from fastbp.callbacks import WandB
model = fastbp.MLP([1, 2], seed=0)
log = WandB(project="p", mode="offline", dir=sys.argv[1])
calls = []
look = lambda model, history: calls.append(dict(wandb.run.summary))
model.fit([[1], [2]], [0, 1], epochs=3, callbacks=[log, look])
assert wandb.run is None
print(calls[-1]["epoch"], calls[-1]["loss"] == model.history.loss[-1])
"""


def test_wandb_offline(tmp_path: Path):
    pytest.importorskip("wandb")
    # in a process of its own, for wandb starts a service that would outlive the test
    command = [sys.executable, "-c", WANDB, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-2:] == ["3", "True"]
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"samples_per_second" in written.read_bytes()


# Optuna


def objective(trial: Any) -> float:
    rate = trial.suggest_float("rate", 1e-6, 1.0, log=True)
    model = fastbp.MLP([4, 8, 3], seed=0)
    pruning = OptunaPruning(trial)
    fitted = {"epochs": 8, "validation": 0.3, "learning_rate": rate, "callbacks": [pruning]}
    return min(model.fit(X, LABELS, **fitted).validation_loss)


def search(storage: str) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1)
    sampler = optuna.samplers.RandomSampler(seed=multiprocessing.current_process().pid)
    optuna.load_study(study_name="s", storage=storage, pruner=pruner, sampler=sampler).optimize(
        objective, n_trials=10
    )


def test_optuna_prunes_in_a_study_of_two_processes(tmp_path: Path):
    optuna = pytest.importorskip("optuna")
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="s", storage=storage)
    context = multiprocessing.get_context("spawn")
    searches = [context.Process(target=search, args=(storage,)) for _ in range(2)]
    for process in searches:
        process.start()
    for process in searches:
        process.join(120)
        assert process.exitcode == 0
    states = [trial.state.name for trial in study.trials]
    assert len(states) == 20
    assert set(states) == {"COMPLETE", "PRUNED"}
    for trial in study.trials:
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
        assert trial.state.name == "PRUNED" or len(steps) == 8


def test_optuna_says_what_does_not_go_together():
    optuna = pytest.importorskip("optuna")
    trial = optuna.create_study(direction="maximize").ask()
    with pytest.raises(ValueError, match="maximize"):
        OptunaPruning(trial)
    assert OptunaPruning(trial, "validation_score").monitor.is_score
    with pytest.raises(TypeError, match="trial must be a trial of Optuna, got int"):
        OptunaPruning(3)


def test_a_pruned_training_leaves_the_model_usable():
    optuna = pytest.importorskip("optuna")
    trial = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0)).ask()
    model = make()
    with pytest.raises(optuna.TrialPruned):
        model.fit(X, LABELS, callbacks=[OptunaPruning(trial)])
    assert model.history is not None
    assert model.history.epochs == 1
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize(
    ("module", "make_callback"),
    [
        ("tensorboard", lambda: callbacks.TensorBoard("runs")),
        ("mlflow", lambda: callbacks.MLflow()),
        ("wandb", lambda: callbacks.WandB()),
    ],
)
def test_a_library_that_is_not_there(module: str, make_callback: Any, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install fastbp\[callbacks\]"):
        make().fit(X, LABELS, callbacks=[make_callback()])
