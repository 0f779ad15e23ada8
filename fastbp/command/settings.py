"""What ``fastbp train`` takes for options that are not given, and what it makes of the others."""

from __future__ import annotations

import argparse
import math
from typing import Any

from fastbp._validation import check_finite_number, check_integer
from fastbp.mlp import MLP
from fastbp.optimizers import get as get_optimizer
from fastbp.schedules import Cosine

__all__ = ["FOR_A_FILE", "FOR_THE_DIGITS", "RATE_FOR_THE_DIGITS", "fit_options", "network"]

FOR_A_FILE = {"hidden": [128, 128], "epochs": 50, "optimizer": "adam", "dropout": 0.0}
FOR_THE_DIGITS = {"hidden": [512, 256], "epochs": 30, "optimizer": "nesterov", "dropout": 0.4}
RATE_FOR_THE_DIGITS = 0.1  # of their optimizer; for a file it is the optimizer's default


def complete(args: argparse.Namespace) -> None:
    """Fill in what was not given, and check what can be before any file is read."""
    if not args.files and args.optimizer is None and args.learning_rate is None:
        args.learning_rate = RATE_FOR_THE_DIGITS
    for name, value in (FOR_A_FILE if args.files else FOR_THE_DIGITS).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    check_integer("--seed", args.seed, minimum=0)
    check_integer("--epochs", args.epochs, minimum=1)
    check_integer("--batch-size", args.batch_size, minimum=1)
    if args.early_stopping is not None:
        check_integer("--early-stopping", args.early_stopping, minimum=1)
    if args.validation is not None:
        check_finite_number(
            "--validation", args.validation, minimum=0, maximum=1, open_maximum=True
        )
    # A network of some size tells what is wrong with the rest, before a large file is read.
    network(args, [1, *args.hidden, 2], "softmax_cross_entropy", args.engine)
    fit_options(args, 1, 1)


def network(args: argparse.Namespace, layer_sizes: list[int], loss: str, engine: str) -> MLP:
    """The network, untrained."""
    return MLP(
        layer_sizes,
        activation=args.activation,
        loss=loss,
        dropout=args.dropout,
        l2=args.l2,
        dtype=args.dtype,
        precision=args.precision,
        seed=args.seed,
        engine=engine,
        threads=args.threads,
    )


def fit_options(args: argparse.Namespace, epochs: int, rows: int) -> dict[str, Any]:
    """Arguments of `MLP.fit` that say how to train for the first `epochs` of args.epochs."""
    optimizer = get_optimizer(args.optimizer)
    rate = optimizer.default_learning_rate if args.learning_rate is None else args.learning_rate
    return {
        "epochs": epochs,
        "batch_size": args.batch_size,
        "optimizer": optimizer,
        "learning_rate": Cosine(rate, steps=args.epochs * math.ceil(rows / args.batch_size)),
    }
