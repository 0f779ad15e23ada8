"""The command ``fastbp``: train on a file or on the embedded digits, predict, show what runs.

Errors that a person can mend (a bad file, an unknown column, an option out of range) are one line
on standard error and exit status 2; a training that diverges is status 1.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastbp import MLP, History, __version__, show_config
from fastbp._encoding import Encoding
from fastbp._options import check_output
from fastbp._tables import Table, read_table
from fastbp._validation import check_finite_number, check_integer
from fastbp.data import load_digits
from fastbp.engines.reference import ReferenceEngine
from fastbp.exchange import command
from fastbp.optimizers import get as get_optimizer
from fastbp.schedules import Cosine

__all__ = ["main"]

Array = NDArray[Any]

# What `train` takes for options that are not given.
_FOR_A_FILE = {"hidden": [128, 128], "epochs": 50, "optimizer": "adam", "dropout": 0.0}
_FOR_THE_DIGITS = {"hidden": [512, 256], "epochs": 30, "optimizer": "nesterov", "dropout": 0.4}
_RATE_FOR_THE_DIGITS = 0.1  # of their optimizer; for a file it is the optimizer's default


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: those of the process); return the exit status."""
    try:
        args = _parser().parse_args(argv)
        args.run(args)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ArithmeticError as error:  # a DivergenceError, or engines that disagree
        message, status = str(error), 1
    except OSError as error:
        message, status = f"{error.filename}: {error.strerror}" if error.filename else str(error), 2
    except (ImportError, TypeError, ValueError) as error:
        message, status = str(error), 2
    print("fastbp:", " ".join(message.split()), file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastbp", description="Train multilayer perceptrons on the CPU, fast.")
    parser.add_argument("--version", action="version", version=f"fastbp {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train a network on a file, or on the embedded handwritten digits",
        description="Train a network on FILE. Without FILE: on the embedded handwritten digits, "
        "with test accuracy and the speed against the NumPy reference engine. The learning rate "
        "falls from its initial value to 0 along half a cosine.",
    )
    train.set_defaults(run=_train)
    add = train.add_argument
    add("file", nargs="?", metavar="FILE", help="CSV with a header, .npy, .npz or .parquet")
    add("--target", metavar="COLUMN", help="column to predict: its name or its index")
    add(
        "--task",
        choices=["auto", "classification", "regression"],
        default="auto",
        help="auto: classification if the target is text or has few different whole numbers",
    )
    add(
        "--hidden",
        type=_sizes,
        metavar="N,N,…",
        help=f"widths of the hidden layers ({_default('hidden')})",
    )
    add("--activation", default="relu", help="of the hidden layers (default: relu)")
    add("--epochs", type=int, help=_default("epochs"))
    add("--batch-size", type=int, default=32, help="rows of a minibatch (default: 32)")
    add(
        "--optimizer",
        help="sgd, momentum, nesterov, rmsprop, adam or adamw "
        f"({_default('optimizer')} with rate {_RATE_FOR_THE_DIGITS})",
    )
    add("--learning-rate", type=float, help="initial rate (default: the optimizer's)")
    add(
        "--dropout",
        type=float,
        help=f"probability that a hidden unit is dropped in a step ({_default('dropout')})",
    )
    add("--l2", type=float, default=0.0, help="penalty ½ l2 Σ w² on the weights")
    add(
        "--validation",
        type=float,
        default=0.1,
        metavar="FRACTION",
        help="of the rows, to measure on after every epoch; 0 for none (default: 0.1)",
    )
    add("--early-stopping", type=int, metavar="N", help="stop after N epochs without improvement")
    add("--dtype", choices=["float32", "float64"], default="float32")
    add(
        "--precision",
        choices=["bf16"],
        help="round the operands of matmuls to bfloat16 (faster on CPUs with AMX or AVX512-BF16)",
    )
    add("--seed", type=int, default=0, help="of weights, split, order and dropout (default: 0)")
    add("--threads", type=int, help="most threads to use (default: what the machine allows)")
    add("--engine", default="auto", help="auto, native, jit or reference")
    add(
        "--save", metavar="MODEL", help="write the model here, and how to encode rows to MODEL.json"
    )
    add("--quiet", action="store_true", help="print no line for each epoch")

    predict = commands.add_parser("predict", help="apply a saved model to the rows of a file")
    predict.set_defaults(run=_predict)
    predict.add_argument("model", metavar="MODEL", help="what `fastbp train --save` wrote")
    predict.add_argument(
        "file", metavar="FILE", help="with the feature columns of the training file"
    )
    predict.add_argument("--proba", action="store_true", help="a probability for each class")
    predict.add_argument("--output", metavar="CSV", help="write here instead of standard output")

    command.add_parser(commands)

    info = commands.add_parser("info", help="show the engine, instruction set and threads, and why")
    info.set_defaults(run=lambda args: show_config())
    return parser


def _default(name: str) -> str:
    values = (_FOR_A_FILE[name], _FOR_THE_DIGITS[name])
    file, digits = (",".join(map(str, v)) if isinstance(v, list) else f"{v}" for v in values)
    return f"default: {file}; for the digits {digits}"


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes widths such as 512,512, got {text!r}") from None


def _train(args: argparse.Namespace) -> None:
    if args.file is None and args.optimizer is None and args.learning_rate is None:
        args.learning_rate = _RATE_FOR_THE_DIGITS
    for name, value in (_FOR_A_FILE if args.file else _FOR_THE_DIGITS).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    check_integer("--seed", args.seed, minimum=0)
    check_finite_number("--validation", args.validation, minimum=0, maximum=1, open_maximum=True)
    if args.save is not None:
        check_output("--save", args.save)
    if args.file is None:
        _train_digits(args)
    else:
        _train_file(args)


def _train_file(args: argparse.Namespace) -> None:
    if args.target is None:
        raise ValueError("--target COLUMN must say which column of the file to predict")
    table = read_table(args.file)
    encoding = Encoding.of(table, _column_name(table, args.target), args.task)
    X, y = encoding.X(table), encoding.y(table)
    rows, held_out = _split(y, encoding.classes is not None, args)
    encoding.fit(X[rows], y[rows])
    X, y = encoding.scale_X(X), encoding.scale_y(y)
    if encoding.classes is None:
        print(f"{len(X):,} rows, {X.shape[1]} inputs: regression of {encoding.target!r}")
    else:
        print(
            f"{len(X):,} rows, {X.shape[1]} inputs: "
            f"classification of {encoding.target!r}, {len(encoding.classes)} classes"
        )
    _fit(args, encoding, X[rows], y[rows], (X[held_out], y[held_out]))


def _column_name(table: Table, target: str) -> str:
    """The name, or that of the column with this index (negative: from the end)."""
    try:
        return target if target in table else list(table)[int(target)]
    except (ValueError, IndexError):
        return target  # unknown: the nearest name is suggested where it is looked up


def _train_digits(args: argparse.Namespace) -> None:
    if args.target is not None or args.task != "auto":
        raise ValueError("--target and --task need a FILE")
    X, y = load_digits()
    # Every fourth image is for the test. Inputs are of one kind and scale: no standardisation.
    features: dict[str, list[str] | None] = {f"pixel_{i // 8}_{i % 8}": None for i in range(64)}
    encoding = Encoding("digit", features, list(range(10)), mean=[0.0] * 64, scale=[16.0] * 64)
    is_test = np.arange(len(X)) % 4 == 3
    X_test, y_test, X, y = X[is_test], y[is_test], X[~is_test], y[~is_test]
    print(f"UCI handwritten digits: {len(X):,} images to train on, {len(X_test)} to test")
    rows, held_out = _split(y, True, args)
    model, history = _fit(args, encoding, X[rows], y[rows], (X[held_out], y[held_out]))
    accuracy = np.mean(model.predict(X_test) == y_test)
    print(f"test accuracy: {accuracy:.2%} of {len(X_test)} images that had no part in training")

    if isinstance(model._engine, ReferenceEngine):
        print("speed: not compared, for this was the NumPy reference engine itself")
        return
    # The same weights, order and dropout masks on the reference engine.
    reference = _model(args, [64, *args.hidden, 10], encoding, engine="reference")
    slow = reference.fit(X[rows], y[rows], **_options(args, history.epochs, len(rows)))
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


def _split(y: Array, stratify: bool, args: argparse.Namespace) -> tuple[Array, Array]:
    """Training rows and validation rows, at random; with `stratify`, in each class alike."""
    generator = np.random.default_rng(args.seed)
    groups = y if stratify else np.zeros(len(y))
    rank = np.empty(len(y))  # of every row in a random order of its group, from 0 to 1
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        rank[rows] = (generator.permutation(len(rows)) + 0.5) / len(rows)
    held_out = rank < args.validation
    if args.validation and (held_out.all() or not held_out.any()):
        raise ValueError(
            f"--validation {args.validation:g} of {len(y)} rows leaves none on one side"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _model(
    args: argparse.Namespace, layer_sizes: list[int], encoding: Encoding, engine: str
) -> MLP:
    return MLP(
        layer_sizes,
        activation=args.activation,
        loss="squared_error" if encoding.classes is None else "softmax_cross_entropy",
        dropout=args.dropout,
        l2=args.l2,
        dtype=args.dtype,
        precision=args.precision,
        seed=args.seed,
        engine=engine,
        threads=args.threads,
    )


def _options(args: argparse.Namespace, epochs: int, rows: int) -> dict[str, Any]:
    """Arguments of `MLP.fit` that say how to train for the first `epochs` of args.epochs."""
    check_integer("--epochs", args.epochs, minimum=1)
    check_integer("--batch-size", args.batch_size, minimum=1)
    optimizer = get_optimizer(args.optimizer)
    rate = optimizer.default_learning_rate if args.learning_rate is None else args.learning_rate
    return {
        "epochs": epochs,
        "batch_size": args.batch_size,
        "optimizer": optimizer,
        "learning_rate": Cosine(rate, steps=args.epochs * math.ceil(rows / args.batch_size)),
    }


def _fit(
    args: argparse.Namespace, encoding: Encoding, X: Array, y: Array, held_out: tuple[Array, Array]
) -> tuple[MLP, History]:
    outputs = 1 if encoding.classes is None else len(encoding.classes)
    model = _model(args, [X.shape[1], *args.hidden, outputs], encoding, args.engine)
    history = model.fit(
        X,
        y,
        **_options(args, args.epochs, len(X)),
        validation=held_out if len(held_out[0]) else None,
        early_stopping=args.early_stopping,
        progress=not args.quiet,
    )
    if history.best_epoch is not None:
        print(f"weights of epoch {history.best_epoch + 1}, the one with the lowest validation loss")
    if history.validation_score:
        epoch = -1 if history.best_epoch is None else history.best_epoch
        score = history.validation_score[epoch]
        print(f"validation {history.score_name}: {score:.4f}")
    if args.save is not None:
        model.save(args.save)
        _encoding_path(args.save).write_text(encoding.to_json(), encoding="utf-8")
        print(f"model saved to {args.save}, its encoding to {_encoding_path(args.save)}")
    return model, history


def _encoding_path(model: str) -> Path:
    return Path(f"{model}.json")


def _predict(args: argparse.Namespace) -> None:
    model = MLP.load(args.model)
    encoding = Encoding.from_json(_encoding_path(args.model).read_text(encoding="utf-8"))
    if args.proba and encoding.classes is None:
        raise ValueError("--proba needs a classification model; this one is a regression")
    table = read_table(args.file)
    if Path(args.file).suffix.lower() == ".npy" and len(table) == len(encoding.features):
        # The target's column is left out: the others are meant in their order.
        table = dict(zip(encoding.features, table.values(), strict=True))
    X = encoding.scale_X(encoding.X(table))
    if args.proba:
        header: list[Any] = list(encoding.classes or ())
        lines: list[Any] = model.predict_proba(X).tolist()
    else:
        header, lines = [encoding.target], [[a] for a in encoding.answers(model.predict(X))]
    if args.output:
        with open(args.output, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *lines])
    else:
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *lines])
