"""``fastbp train`` with networks for tables: options, progress, and what the page says of them."""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _html
from fastbp.command import table as tables
from fastbp.command.ranks import send
from fastbp.command.report import MOST_ROWS, Source, named, some
from fastbp.command.training import Scored
from fastbp.config import describe
from fastbp.tables._extra import need

__all__ = ["OfTabular", "check", "follow", "train"]

Array = NDArray[Any]
_SAME = ("accuracy", "log_loss", "roc_auc", "rmse", "mae")  # metrics of the estimators, too
_DRAWN = 4  # members whose curves are shown


def check(args: argparse.Namespace) -> None:
    """Raise if the options are none of this model, before a file is read."""
    need("sklearn", f"--model {args.model}", '"fastbp[tables]"; --model plain does without')
    _estimator(args, classes=True, names=[])._check_parameters()


def _estimator(args: argparse.Namespace, *, classes: bool, names: list[str]) -> Any:
    import fastbp

    kind: Any = fastbp.TabularClassifier if classes else fastbp.TabularRegressor
    wanted = {}
    if names and names[0] in _SAME:
        wanted["metric"] = names[0]
    if args.validation is not None:
        wanted["validation_fraction"] = args.validation
    return kind(
        args.model,
        time_limit=args.time_limit,
        hidden_layer_sizes=args.hidden,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        dropout=args.dropout,
        patience=args.early_stopping,
        n_jobs=args.threads,
        random_state=args.seed,
        comm=args.comm,
        **wanted,
    )


def train(
    args: argparse.Namespace,
    given: tables.Given,
    sets: list[NDArray[np.int64]],
    metrics: list[str],
) -> tuple[OfTabular, Source, dict[str, Scored], Array]:
    """Networks; scores of their validation; inputs of the rows to test, or else to validate, on."""
    from fastbp.tabular.model import TabularModel, labels_of

    target, y = given.target, given.y
    weight = np.zeros(given.parts.rows)
    rows = np.sort(np.concatenate(sets[:2]))
    weight[rows] = 1.0 if given.weight is None else given.weight[rows]
    if not weight.any():
        raise ValueError(f"--weight {args.weight} is 0 in every row that is trained on")
    answers = y if target.classes is None else labels_of(target)[y]
    estimator = _estimator(args, classes=target.classes is not None, names=args.metric)
    listener = _listener(args, given)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        estimator.fit_parts(
            given.parts, given.features, given.wishes, answers, weight, given.groups, listener
        )
    for told in [str(w.message) for w in caught if w.category is RuntimeWarning]:
        print(f"note: {told}")
    if all(m.stopped == "diverged" and not m.values for m in estimator.members_):
        raise ArithmeticError(
            "every network diverged in its first epoch; a lower --learning-rate may help"
        )
    for note in estimator.notes_:
        if note not in listener.known:
            print(f"note: {note}")
    table = TabularModel(estimator, target, given.width)
    found = estimator.oof_prediction_
    known = np.flatnonzero(np.isfinite(found if found.ndim == 1 else found[:, 0]))
    predicted = found[known]
    if target.classes is not None:
        predicted = table.of_all_classes(predicted)
    weights = None if given.weight is None else given.weight[known]
    held_out: dict[str, Scored] = {}
    if len(known):
        print("validation: every row by the networks that were not trained on it")
        held_out["validation"] = predicted, y[known], weights
    last = sets[2]
    if args.report is not None and not len(last):
        last = known[some(len(known), MOST_ROWS)]
    (X,) = tables.encoded(given.parts, table.encoder, [last], "float32")
    given.forget()
    return OfTabular(args, table), listener.source, held_out, X


def follow(args: argparse.Namespace, jobs: Any, data: Any) -> None:
    """Train this rank's share of the networks that rank 0 sent."""
    from fastbp.distributed.ranks import join
    from fastbp.tabular.ranks import compare, train_shared

    started = time.monotonic()
    ranks = join(args.comm)
    with ranks.training():
        compare(ranks, jobs[0])
        train_shared(ranks, jobs, data, args.threads, args.time_limit, started)


def _listener(args: argparse.Namespace, given: tables.Given) -> Any:
    """Prints what the columns are taken for, and a line for each network, in order."""
    from fastbp.tabular.base import Listener
    from fastbp.tabular.inputs import notes_of

    class Printer(Listener):
        source: Source
        known: set[str]

        def __init__(self) -> None:
            self.waiting: dict[int, Any] = {}
            self.shown = 0

        def learnt(self, inputs: Any, learnt: Any) -> None:
            if not learnt.encoding.columns:
                raise ValueError(
                    f"no column is left to predict {given.target.name!r} from; "
                    "`fastbp inspect` says why"
                )
            self.known = set(notes_of(learnt))
            self.source = tables.source(args, given, learnt, inputs.width)

        def begins(self, work: Any) -> None:
            send(args, work.jobs, work.data)

        def member(self, index: int, member: Any) -> None:
            self.waiting[index] = member
            while not args.quiet and self.shown in self.waiting:
                done = self.waiting.pop(self.shown)
                self.shown += 1
                print(f"network {self.shown}: {_told(done)}", flush=True)

    return Printer()


def _told(member: Any) -> str:
    epochs = len(member.values)
    if not epochs or not any(member.values):
        return f"{epochs} epochs"
    best = member.best_epoch
    return f"{epochs} epochs, weights of epoch {best + 1}, validation {member.values[best]:.4f}"


class OfTabular:
    """What a page says of networks for tables."""

    def __init__(self, args: argparse.Namespace, table: Any) -> None:
        self.args, self.table = args, table

    def model(self) -> list[str]:
        """What was trained, and how."""
        estimator, facts = self.table.estimator, describe()
        members = estimator.members_
        stopped = ", ".join(sorted({m.stopped for m in members}))
        told: list[tuple[str, object]] = [
            ("model", f"{estimator.model}, the mean of {len(members)} networks"),
            ("metric", estimator.metric),
            ("seconds", f"{estimator.fit_seconds_:.3g}"),
            ("stopped by", stopped),
            ("seed", self.args.seed),
            ("engine", facts["engine"]),
            ("threads", facts["threads"] if self.args.threads is None else self.args.threads),
        ]
        stages = [
            (type(s).__name__, s.inputs, s.units, f"{sum(a * b for a, b in s.shapes):,}")
            for s in estimator.stages_
        ]
        rows = [(i, _told(m)) for i, m in enumerate(members, 1)]
        notes = "".join(f"<li>{_html.escape(note)}</li>" for note in estimator.notes_)
        return [
            named(told),
            f"<ul>{notes}</ul>" if notes else "",
            _html.table(("stage", "inputs", "units", "parameters"), stages),
            _html.table(("network", "epochs"), rows),
        ]

    def training(self) -> str:
        """Values of validation after each epoch."""
        members = [m for m in self.table.estimator.members_ if any(m.values)][:_DRAWN]
        lines = {f"network {i}, validation": m.values for i, m in enumerate(members, 1)}
        return _html.curves(lines) if lines else "<p>Nothing was validated on.</p>"

    def importance(self, X: Array) -> tuple[list[str], NDArray[np.float64]]:
        """Names of columns, and how much each has to do with the predictions of these rows."""
        names, values = self.table.estimator._attributed(X)
        return names, np.abs(values).mean(axis=0)
