"""What ``fastbp train`` takes for options that are not given, and what it makes of the others."""

from __future__ import annotations

import argparse
import math
from typing import Any

from fastbp._validation import check_finite_number, check_integer
from fastbp.mlp import MLP
from fastbp.optimizers import get as get_optimizer
from fastbp.schedules import Cosine

__all__ = [
    "FOR_A_FILE",
    "FOR_THE_DIGITS",
    "MODELS",
    "RATE_FOR_THE_DIGITS",
    "fit_options",
    "network",
]

MODELS = ("realmlp", "realmlp-s", "tabm", "tabm-mini", "mlp", "plain")
_PLAIN: dict[str, Any] = {
    "activation": "relu",
    "batch_size": 32,
    "l2": 0.0,
    "dtype": "float32",
    "engine": "auto",
}
FOR_A_FILE = {
    **_PLAIN,
    "hidden": [128, 128],
    "epochs": 50,
    "optimizer": "adam",
    "dropout": 0.0,
}
FOR_THE_DIGITS = {
    **_PLAIN,
    "hidden": [512, 256],
    "epochs": 30,
    "optimizer": "nesterov",
    "dropout": 0.4,
}
_OF_PLAIN = ("activation", "optimizer", "l2", "dtype", "precision", "engine")
RATE_FOR_THE_DIGITS = 0.1  # of their optimizer; for a file it is the optimizer's default


def complete(args: argparse.Namespace) -> None:
    """Fill in what was not given, and check what can be before any file is read."""
    check_integer("--seed", args.seed, minimum=0)
    for option in ("epochs", "batch_size", "early_stopping", "threads"):
        if getattr(args, option) is not None:
            check_integer(f"--{option.replace('_', '-')}", getattr(args, option), minimum=1)
    if args.validation is not None:
        check_finite_number(
            "--validation", args.validation, minimum=0, maximum=1, open_maximum=True
        )
    by_default = "realmlp" if args.files else "plain"
    if not args.files and args.model not in (None, "plain"):
        raise ValueError(f"--model {args.model} needs a FILE; the digits have --model plain")
    chosen, args.model = args.model, args.model or by_default
    if args.model == "plain":
        _complete_plain(args)
        return
    for option in _OF_PLAIN:
        if getattr(args, option) is not None:
            said = f"--model {args.model}" + ("" if chosen else " (the default for files)")
            raise ValueError(f"--{option} is an option of --model plain; {said} has its own")
    if args.time_limit is not None:
        check_finite_number("--time-limit", args.time_limit, minimum=0, open_minimum=True)
    if args.early_stopping is not None and args.validation == 0:
        raise ValueError("--early-stopping needs rows of validation, got --validation 0")


def _complete_plain(args: argparse.Namespace) -> None:
    if args.time_limit is not None:
        raise ValueError(
            "--time-limit is an option of the networks for tables, not of --model plain: --epochs"
        )
    if not args.files and args.optimizer is None and args.learning_rate is None:
        args.learning_rate = RATE_FOR_THE_DIGITS
    for name, value in (FOR_A_FILE if args.files else FOR_THE_DIGITS).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
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
