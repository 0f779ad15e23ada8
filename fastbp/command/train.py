"""``fastbp train``: from files to a saved model."""

from __future__ import annotations

import argparse
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._options import check_apart, check_output
from fastbp._validation import check_finite_number
from fastbp.command import table as tables
from fastbp.command import tabular
from fastbp.command.digits import train_digits
from fastbp.command.metrics import check_metrics
from fastbp.command.progress import Meter
from fastbp.command.ranks import lead_or_follow
from fastbp.command.report import OfNetwork, Source, Trained
from fastbp.command.report import write as write_page
from fastbp.command.settings import complete, network
from fastbp.command.split import held_out
from fastbp.command.table import encoded
from fastbp.command.training import Rows, Scored, best_epoch, fit, scored, scores
from fastbp.tables.learning import learn
from fastbp.tables.model import TableModel
from fastbp.tables.predictor import Predictor
from fastbp.tables.target import Target

__all__ = ["run"]

Array = NDArray[Any]
Indices = NDArray[np.int64]
_FRACTION = 0.1  # of the rows, for validation


def run(args: argparse.Namespace) -> None:
    """Train on files, or on the digits."""
    args.comm = None
    if args.mpi:
        lead_or_follow(args, _run, _follow)
    else:
        _run(args)


def _follow(args: argparse.Namespace, *sent: Any) -> None:
    """On a rank other than 0."""
    if args.model != "plain":
        tabular.follow(args, *sent)
        return
    sizes, loss, train, aside = sent
    fit(args, network(args, sizes, loss, args.engine), train, aside)


def _run(args: argparse.Namespace) -> None:
    complete(args)
    if args.save is not None:
        check_output("--save", args.save)
    if args.report is not None:
        check_output("--report", args.report)
    inputs = [*args.files, *([] if args.test is None else [args.test])]
    check_apart({"--save": args.save, "--report": args.report}, inputs)
    if args.files:
        _train_files(args)
    else:
        train_digits(args)


def _train_files(args: argparse.Namespace) -> None:
    if args.target is None:
        raise ValueError("--target COLUMN must say which column of the file to predict")
    if args.model != "plain":
        tabular.check(args)
    test_file, test_fraction = _test(args.test)
    with Meter("reading", quiet=args.quiet) as meter:
        given = tables.read_given(args, meter)
    y = given.y
    classes = given.target.classes
    metrics = check_metrics(args.metric, None if classes is None else len(classes))
    sets = _sets(args, y, classes is not None, given.groups, test_fraction)
    train = _train_plain if args.model == "plain" else tabular.train
    trained: Trained
    trained, source, held_out, X = train(args, given, sets, metrics)
    if test_fraction:
        weight = None if given.weight is None else given.weight[sets[2]]
        held_out["test"] = scored(trained.table, (X, y[sets[2]], weight))
    if test_file:
        rows = _test_rows(trained.table, args, test_file)
        X, held_out["test"] = rows[0], scored(trained.table, rows)
    scores(metrics, held_out)
    if args.save is not None:
        trained.table.save(args.save)
        print(f"model saved to {args.save}")
    if args.report is not None:
        write_page(args, source, trained, held_out, X)
        print(f"report written to {args.report}")


def _train_plain(
    args: argparse.Namespace, given: tables.Given, sets: list[Indices], metrics: list[str]
) -> tuple[Trained, Source, dict[str, Scored], Array]:
    """One network; scores of its validation; inputs of the rows to test, or else to validate, on."""
    training = np.zeros(given.parts.rows, bool)
    training[sets[0]] = True
    learnt = learn(given.parts, given.features, given.wishes, training)
    encoding, y = learnt.encoding, given.y
    if not encoding.columns:
        raise ValueError(
            f"no column is left to predict {given.target.name!r} from; `fastbp inspect` says why"
        )
    target = given.target.fitted(y[sets[0]])
    source = tables.source(args, given, learnt, len(encoding.inputs))
    X = encoded(given.parts, encoding, sets, args.dtype)
    given.forget()
    weights = [None if given.weight is None else given.weight[rows] for rows in sets]
    outputs = 1 if target.classes is None else len(target.classes)
    loss = "squared_error" if target.classes is None else "softmax_cross_entropy"
    model = network(args, [len(encoding.inputs), *args.hidden, outputs], loss, args.engine)
    scaled = [target.scaled(y[rows]) for rows in sets]
    history = fit(args, model, (X[0], scaled[0], weights[0]), (X[1], scaled[1], weights[1]))
    table = TableModel(model, encoding, target, given.width)
    best_epoch(history)
    held_out = {"validation": scored(table, (X[1], y[sets[1]], weights[1]))}
    return OfNetwork(args, table, history), source, held_out, X[2] if len(X[2]) else X[1]


def _test(option: str | None) -> tuple[str, float]:
    """--test: a file, or a fraction of the rows."""
    if option is None:
        return "", 0.0
    try:
        fraction = float(option)
    except ValueError:
        if not os.path.exists(option):
            raise ValueError(
                f"--test takes a file or a fraction of the rows, got {option!r}"
            ) from None
        return option, 0.0
    if os.path.exists(option):
        return option, 0.0
    limits: dict[str, Any] = {"open_minimum": True, "open_maximum": True}
    return "", check_finite_number("--test", fraction, minimum=0, maximum=1, **limits)


def _sets(
    args: argparse.Namespace, y: Array, classes: bool, groups: Array | None, test: float
) -> list[NDArray[np.int64]]:
    """Rows to train on, to validate on and to test on."""
    generator = np.random.default_rng(args.seed)
    rows = np.flatnonzero(tables.present(y))
    chosen = []
    for name, fraction in (("test", test), ("validation", args.validation)):
        of_groups = None if groups is None else groups[rows]
        share = _FRACTION if fraction is None else fraction
        aside = held_out(y[rows], share, generator, classes=classes, groups=of_groups)
        if fraction and not aside.any():
            raise ValueError(f"--{name} {fraction:g} of {len(rows)} rows leaves none on one side")
        chosen.append(rows[aside])
        rows = rows[~aside]
    return [rows, chosen[1], chosen[0]]


def _test_rows(table: Predictor, args: argparse.Namespace, file: str) -> Rows:
    """Rows to test on, from a file of their own."""
    target: Target = table.target
    told: list[str] = []
    options = tables.options(args, told)
    also = [target.name] + ([args.weight] if args.weight else [])
    X, y, weights = [], [], []
    for part, rows, inputs in table.encoded([file], options, also):
        found = target.read(part.columns[target.name], options.missing)[rows]
        good = tables.present(found)
        X.append(inputs[good])
        y.append(found[good])
        if args.weight:
            weights.append(tables.weights(part, args.weight)[rows][good])
        gone = len(found) - int(good.sum())
        if gone:
            told.append(
                f"{file}: {gone:,} rows are left out: their target is missing, or of no class"
            )
    for message in told:
        print(f"note: {message}")
    if not sum(map(len, y)):
        raise ValueError(f"{file}: no row can be scored")
    weight = np.concatenate(weights) if weights else None
    return np.concatenate(X), np.concatenate(y), weight
