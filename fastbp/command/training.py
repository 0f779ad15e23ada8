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
from fastbp.tables.predictor import Predictor

__all__ = ["Rows", "Scored", "best_epoch", "fit", "scored", "scores"]

Array = NDArray[Any]
Rows = tuple[Array, Array, Array | None]  # X, y, weight
# Probabilities or numbers on the scale of the target; class indices or numbers; weights.
Scored = tuple[Array, Array, Array | None]


def fit(args: argparse.Namespace, model: MLP, train: Rows, aside: Rows) -> History:
    """Train, with a bar where somebody looks at it and a line for each epoch elsewhere."""
    X, y, weight = train
    validation = tuple(a for a in aside if a is not None) if len(aside[0]) else None
    kind = "plain" if args.quiet else usual_kind()
    send(args, list(model.plan.layer_sizes), model.plan.loss.name, train, aside)
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


def best_epoch(history: History) -> None:
    """Say which epoch's weights these are."""
    if history.best_epoch is not None:
        print(f"weights of epoch {history.best_epoch + 1}, the one with the lowest validation loss")


def scored(table: Predictor, rows: Rows) -> Scored:
    """Predictions for encoded rows, as scores take them."""
    X, y, weight = rows
    predict = table.answers if table.target.classes is None else table.probabilities
    return predict(X), np.asarray(y), weight


def scores(metrics: list[str], held_out: dict[str, Scored]) -> None:
    """Print scores of every set that has rows."""
    for name, (predicted, y, weight) in held_out.items():
        if len(y):
            for metric, value in measure(metrics, predicted, y, weight):
                print(f"{name} {metric}: {value:.4f}")
