"""``fastbp train`` without a file: the embedded handwritten digits, and how fast that was."""

from __future__ import annotations

import argparse
import math

import numpy as np

from fastbp.command.metrics import check_metrics
from fastbp.command.report import OfNetwork, Source, write
from fastbp.command.settings import fit_options, network
from fastbp.command.split import held_out
from fastbp.command.training import best_epoch, fit, scored, scores
from fastbp.data import load_digits
from fastbp.engines import choose
from fastbp.tables.encoding import Encoding, Number
from fastbp.tables.model import TableModel
from fastbp.tables.target import Target

__all__ = ["train_digits"]

_OF_FILES = ("target", "ignore", "cat_features", "keep", "weight", "group", "test", "missing")


def train_digits(args: argparse.Namespace) -> None:
    """Train, test, compare with the NumPy reference engine."""
    given = [name for name in _OF_FILES if getattr(args, name)]
    if given or args.task != "auto":
        raise ValueError(f"--{(given or ['task'])[0].replace('_', '-')} needs a FILE")
    X, y = load_digits()
    # Every fourth image is for the test. Inputs are of one kind and scale: counts of 16 become 1.
    columns = tuple(Number(f"pixel_{i // 8}_{i % 8}", 0.0, 1 / 16) for i in range(64))
    encoding, target = Encoding(columns, clip=False), Target("digit", tuple(range(10)))
    is_test = np.arange(len(X)) % 4 == 3
    X_test, y_test, X, y = X[is_test], y[is_test], X[~is_test], y[~is_test]
    said = f"UCI handwritten digits: {len(X):,} images to train on, {len(X_test)} to test"
    print(said)
    fraction = 0.1 if args.validation is None else args.validation
    aside = held_out(y, fraction, np.random.default_rng(args.seed), classes=True)
    metrics = check_metrics(args.metric, 10)
    model = network(args, [64, *args.hidden, 10], "softmax_cross_entropy", args.engine)
    X_train, y_train = X[~aside], y[~aside]
    history = fit(args, model, (X_train, y_train, None), (X[aside], y[aside], None))
    table = TableModel(model, encoding, target)
    best_epoch(history)
    sets = {"validation": scored(table, (X[aside], y[aside], None))}
    scores(metrics, sets)
    if args.save is not None:
        table.save(args.save)
        print(f"model saved to {args.save}")
    if args.report is not None:
        sets["test"] = scored(table, (X_test, y_test, None))
        page = OfNetwork(args, table, history)
        write(args, Source("the digits", said), page, sets, X_test)
        print(f"report written to {args.report}")
    accuracy = np.mean(model.predict(X_test) == y_test)
    print(f"test accuracy: {accuracy:.2%} of {len(X_test)} images that had no part in training")

    if (choose(model.plan) if args.engine == "auto" else args.engine) == "reference":
        print("speed: not compared, for this was the NumPy reference engine itself")
        return
    # The same weights, order and dropout masks on the reference engine.
    reference = network(args, [64, *args.hidden, 10], "softmax_cross_entropy", "reference")
    slow = reference.fit(X_train, y_train, **fit_options(args, history.epochs, len(X_train)))
    fast_seconds, slow_seconds = sum(history.seconds), sum(slow.seconds)
    print(
        f"speed: {history.epochs} epochs in {fast_seconds:.3f} s, "
        f"on the NumPy reference engine {slow_seconds:.3f} s: "
        f"{slow_seconds / fast_seconds:.1f} times faster"
    )
    print(f"loss of the last epoch: {history.loss[-1]:.4f}, reference {slow.loss[-1]:.4f}")
    # Training makes the engines' rounding differences grow; over one epoch they are still small.
    if not math.isclose(history.loss[0], slow.loss[0], rel_tol=0.01):
        losses = f"{history.loss[0]:g}, reference {slow.loss[0]:g}"
        raise ArithmeticError(f"the engines disagree on the loss of the first epoch: {losses}")
