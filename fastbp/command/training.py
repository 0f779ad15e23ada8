"""Training with progress, and what is said afterwards: for files and for the digits."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.callbacks.progress import Progress
from fastbp.command.metrics import measure
from fastbp.command.progress import usual_kind
from fastbp.command.ranks import send
from fastbp.command.settings import fit_options
from fastbp.history import History
from fastbp.mlp import MLP
from fastbp.tables.model import TableModel

__all__ = ["Rows", "fit", "report", "scores"]

Array = NDArray[Any]
Rows = tuple[Array, Array, Array | None]  # X, y, weight


def fit(args: argparse.Namespace, model: MLP, train: Rows, aside: Rows) -> History:
    """Train, with a bar where somebody looks at it and a line for each epoch elsewhere."""
    X, y, weight = train
    validation = tuple(a for a in aside if a is not None) if len(aside[0]) else None
    kind = "plain" if args.quiet else usual_kind()
    send(args, model, train, aside)
    return model.fit(
        X,
        y,
        **fit_options(args, args.epochs, len(X)),
        sample_weight=weight,
        validation=validation,
        early_stopping=args.early_stopping,
        callbacks=[] if kind == "plain" else [Progress(kind)],
        progress=not args.quiet and kind == "plain",
        comm=args.comm,
    )


def report(
    table: TableModel,
    history: History,
    metrics: list[str],
    name: str,
    X: Array,
    y: Array,
    weight: Array | None,
) -> None:
    """Say which epoch's weights these are, and how they do on rows that were held out."""
    if history.best_epoch is not None:
        print(f"weights of epoch {history.best_epoch + 1}, the one with the lowest validation loss")
    if len(X):
        scores(table, metrics, name, X, y, weight)


def scores(
    table: TableModel, metrics: list[str], name: str, X: Array, y: Array, weight: Array | None
) -> None:
    """Print scores; y are class indices, or numbers on the scale of the target."""
    is_regression = table.target.classes is None
    predicted = table.answers(X) if is_regression else table.network.predict_proba(X)
    for metric, value in measure(metrics, predicted, np.asarray(y), weight):
        print(f"{name} {metric}: {value:.4f}")
