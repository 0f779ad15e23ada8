"""``fastbp export``: a saved model as an ONNX, C or Python file."""

from __future__ import annotations

import argparse
import importlib
import os
from typing import Any

from fastbp import model_file
from fastbp._options import check_apart, check_output
from fastbp.mlp import MLP

__all__ = ["add_parser"]

_SUFFIXES = {"onnx": ".onnx", "c": ".c", "python": ".py"}


def add_parser(commands: Any) -> None:
    """Add the command to those of the command line."""
    parser = commands.add_parser(
        "export",
        help="write a saved model as an ONNX, C or Python file",
        description="Write MODEL for programs without fastbp: an ONNX file, C99 source with a header, "
        "or a Python file that needs NumPy alone.",
    )
    parser.set_defaults(run=_run)
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `fastbp train --save` or MLP.save wrote")
    add("--to", choices=list(_SUFFIXES), required=True, help="what to write")
    add("--output", metavar="PATH", help="default: MODEL with another suffix")
    add(
        "--weights",
        choices=["float", "int8"],
        default="float",
        help="of C: int8 takes a quarter of the space, and prints what that costs (default: float)",
    )


def _run(args: argparse.Namespace) -> None:
    if args.weights == "int8" and args.to != "c":
        raise ValueError(f"--weights int8 is for --to c, not for --to {args.to}")
    model = _load(args.model)
    output = args.output or os.path.splitext(args.model)[0] + _SUFFIXES[args.to]
    check_output("--output", output)
    check_apart({"--output": output}, [args.model])
    if args.weights == "int8" and hasattr(model, "estimator"):
        raise ValueError("--weights int8 is for --model plain: a network for tables has float ones")
    if args.to == "c":
        written = (
            model.to_c(output, weights="int8") if args.weights == "int8" else model.to_c(output)
        )
        print(f"written to {written.source} and {written.header}")
        print(f"{written.constants:,} bytes of constants, {written.buffers:,} of buffers")
        if written.error is not None:
            print(f"int8 weights, {written.error}")
        return
    (model.to_onnx if args.to == "onnx" else model.to_python)(output)
    print(f"written to {output}, {os.path.getsize(output):,} bytes")


def _load(path: str) -> Any:
    """The model: of a table, if its file says so or has how rows are encoded beside it."""
    header = model_file.read(path)[0]
    if "tabular" in header or "table" in header or os.path.exists(f"{path}.json"):
        return importlib.import_module("fastbp.tables").load(path)
    return MLP.load(path)
