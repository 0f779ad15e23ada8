"""The command ``fastbp``: its options, and what becomes of errors.

Errors that a person can mend (a bad file, an unknown column, an option out of range) are one line
on standard error and exit status 2; a training that diverges is status 1. What the subcommands do is
in `fastbp/command/`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fastbp import __version__
from fastbp.command.metrics import METRICS
from fastbp.command.settings import FOR_A_FILE, FOR_THE_DIGITS, MODELS, RATE_FOR_THE_DIGITS
from fastbp.distributed.cost import NETWORKS
from fastbp.exchange import command as export

__all__ = ["main"]

_LONGEST_MESSAGE = 600


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
    except MemoryError as error:
        message, status = str(error) or "there is not enough memory", 2
    except (ImportError, TypeError, ValueError) as error:
        message, status = str(error), 2
    message = " ".join(message.split())
    if len(message) > _LONGEST_MESSAGE:
        message = message[: _LONGEST_MESSAGE - 1] + "…"
    print("fastbp:", message, file=sys.stderr)
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
        help="train a network on a table, or on the embedded handwritten digits",
        description="Train a network on FILE: by default several networks for tables, whose mean "
        "predicts. Without FILE: a plain one on the embedded handwritten digits, with test accuracy "
        "and the speed against the NumPy reference engine.",
    )
    train.set_defaults(run=_later("train"))
    _add_files(train.add_argument, "*")
    _add_columns(train.add_argument)
    _add_reading(train.add_argument)
    _add_training(train.add_argument)

    predict = commands.add_parser(
        "predict",
        help="apply a saved model to the rows of a file",
        description="Predict the rows of FILE. It needs the columns that the model uses, by name, in "
        "any order; all others, the target's too, are ignored. Categories that are new, and values "
        "that are missing, are predicted as such.",
    )
    predict.set_defaults(run=_later("predict"))
    add = predict.add_argument
    add("model", metavar="MODEL", help="what `fastbp train --save` wrote")
    _add_files(add, "+")
    add("--proba", action="store_true", help="a probability for each class")
    add("--output", metavar="CSV", help="write here instead of standard output")
    _add_names(add, "--keep", "columns of FILE to write in front of the predictions")
    _add_reading(add)

    inspect = commands.add_parser(
        "inspect",
        help="show what would be learnt from a file",
        description="Show what each column of FILE is taken for; with --target, the task, too.",
    )
    inspect.set_defaults(run=_later("inspect"))
    _add_files(inspect.add_argument, "+")
    _add_columns(inspect.add_argument)
    _add_reading(inspect.add_argument)

    export.add_parser(commands)

    plan = commands.add_parser(
        "plan-cluster",
        help="show what training a network by several machines would win",
        description="The arithmetic of a step is measured on this machine, for 1, 2, 4, … ranks; what "
        "they exchange is reckoned from the network's latency and bandwidth.",
    )
    plan.set_defaults(run=_later("plan_cluster"))
    add = plan.add_argument
    add("--layers", type=_sizes, required=True, metavar="N,N,…", help="widths, inputs to outputs")
    add("--batch", type=int, default=256, help="rows of a minibatch (default: 256)")
    add("--ranks", type=int, default=256, help="at most (default: 256)")
    add("--network", choices=list(NETWORKS), default="10G", help="between machines (default: 10G)")
    add(
        "--latency",
        type=float,
        metavar="µs",
        help="of a message (default: as the network's usually)",
    )
    add("--optimizer", default="adam", help="default: adam")
    add("--threads", type=int, help="of each rank (default: what this machine allows)")

    info = commands.add_parser(
        "info", help="show what runs here, and why; or what a saved model takes and predicts"
    )
    info.set_defaults(run=_later("info"))
    info.add_argument("model", nargs="?", metavar="MODEL", help="what `fastbp train --save` wrote")
    return parser


def _later(name: str) -> Callable[[argparse.Namespace], None]:
    """A subcommand, imported when it runs."""

    def run(args: argparse.Namespace) -> None:
        from importlib import import_module

        import_module(f"fastbp.command.{name}").run(args)

    return run


def _add_files(add: Callable[..., Any], number: str) -> None:
    add(
        "files",
        nargs=number,
        metavar="FILE",
        help="text with a delimiter (.csv, .tsv, …), .parquet, .npy, .npz, .jsonl or .xlsx; text and "
        "JSON lines also as .gz, .zst or .bz2; - is standard input; several are taken as one",
    )


def _add_names(add: Callable[..., Any], option: str, help: str) -> None:
    add(option, action="append", default=[], metavar="COLUMN,…", help=help)


def _add_columns(add: Callable[..., Any]) -> None:
    add("--target", metavar="COLUMN", help="column to predict: its name or its index")
    add(
        "--task",
        choices=["auto", "classification", "regression"],
        default="auto",
        help="auto: classification if the target is text or has few different whole numbers",
    )
    _add_names(add, "--ignore", "columns to leave out")
    _add_names(add, "--cat-features", "columns that are categories, whatever is in them")
    _add_names(add, "--keep", "columns to use though they would be left out")
    add("--weight", metavar="COLUMN", help="weight of each row in training and in scores, ≥ 0")
    add("--group", metavar="COLUMN", help="rows with one value here stay on one side of a split")


def _add_reading(add: Callable[..., Any]) -> None:
    found = "(default: found from the file)"
    add("--delimiter", metavar="CHARACTER", help=f"between the cells of a text file {found}")
    add("--decimal", choices=[".", ","], help=f"decimal mark of a text file {found}")
    add("--encoding", help=f"of a text file, such as utf-8 or cp1252 {found}")
    add(
        "--missing",
        action="append",
        default=[],
        metavar="TEXT",
        help="a cell that stands for no value, beside the empty one, NA, null and their kin; may be "
        "given several times",
    )
    add(
        "--skip-bad-rows",
        action="store_true",
        help="leave out rows that cannot be taken, and say so",
    )


def _add_training(add: Callable[..., Any]) -> None:
    add(
        "--model",
        choices=MODELS,
        help="realmlp, realmlp-s, tabm, tabm-mini, mlp: networks for tables (needs scikit-learn); "
        "plain: one multilayer perceptron, which all options below are of but --time-limit "
        "(default: realmlp; for the digits plain)",
    )
    add(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="that training may take: as many networks as that is enough for, up to 16, or two with "
        "shorter trainings (not with --model plain)",
    )
    add(
        "--hidden",
        type=_sizes,
        metavar="N,N,…",
        help=f"widths of the hidden layers ({_default('hidden')})",
    )
    add("--activation", help="of the hidden layers (plain only; default: relu)")
    add("--epochs", type=int, help=_default("epochs"))
    add("--batch-size", type=int, help=f"rows of a minibatch ({_default('batch_size')})")
    add(
        "--optimizer",
        help="sgd, momentum, nesterov, rmsprop, adam or adamw (plain only; "
        f"{_default('optimizer')} with rate {RATE_FOR_THE_DIGITS})",
    )
    add(
        "--learning-rate",
        type=float,
        help="highest rate (default: the optimizer's, or the model's)",
    )
    add(
        "--dropout",
        type=float,
        help=f"probability that a hidden unit is dropped in a step ({_default('dropout')})",
    )
    add("--l2", type=float, help="penalty ½ l2 Σ w² on the weights (plain only)")
    add(
        "--validation",
        type=float,
        metavar="FRACTION",
        help="of the rows, to measure on after every epoch; 0 for none (default: 0.2, each network of "
        "a table's its own, plain 0.1; or what there is)",
    )
    add(
        "--test",
        metavar="FILE|FRACTION",
        help="rows that have no part in training, to score the model on at the end",
    )
    add(
        "--metric",
        action="append",
        default=[],
        choices=list(METRICS),
        help="what to score by (default: accuracy or r2); may be given several times; networks for "
        "tables are trained for the first one",
    )
    add("--early-stopping", type=int, metavar="N", help="stop after N epochs without improvement")
    add(
        "--dtype",
        choices=["float32", "float64"],
        help="of parameters (plain only; default: float32)",
    )
    add(
        "--precision",
        choices=["bf16"],
        help="round the operands of matmuls to bfloat16 (faster on CPUs with AMX or AVX512-BF16; "
        "plain only)",
    )
    add("--seed", type=int, default=0, help="of weights, split, order and dropout (default: 0)")
    add("--threads", type=int, help="most threads to use (default: what the machine allows)")
    add("--engine", help="auto, native, jit or reference (plain only; default: auto)")
    add(
        "--mpi",
        action="store_true",
        help="under mpiexec or srun: train by all ranks, which share each step of plain, and the "
        "networks of other models; rank 0 reads, reports and saves",
    )
    add("--save", metavar="MODEL", help="write the model here: the network, and how to encode rows")
    add(
        "--report",
        metavar="HTML",
        help="write a page here: data, model, curves, scores, predictions",
    )
    add("--quiet", action="store_true", help="print no line for each epoch, and no progress")


def _default(name: str) -> str:
    values = (FOR_A_FILE[name], FOR_THE_DIGITS[name])
    file, digits = (",".join(map(str, v)) if isinstance(v, list) else f"{v}" for v in values)
    said = file if file == digits else f"{file}; for the digits {digits}"
    return f"default of plain: {said}"


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes widths such as 512,512, got {text!r}") from None
