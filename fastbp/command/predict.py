"""``fastbp predict``: a saved model applied to files; the predictions are CSV."""

from __future__ import annotations

import argparse
import csv
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from fastbp._options import check_apart, check_output
from fastbp.command import table as tables
from fastbp.command.progress import Meter
from fastbp.model_file import replacing
from fastbp.tables.model import load

__all__ = ["run"]


def run(args: argparse.Namespace) -> None:
    """Predict; nothing is written if a row cannot be taken."""
    check_apart({"--output": args.output}, [args.model, *args.files])
    model = load(args.model)
    if args.proba and model.target.classes is None:
        raise ValueError("--proba needs a classification model; this one is a regression")
    told: list[str] = []
    keep = [name for given in args.keep for name in _names(given)]
    with (
        Meter("predicting", quiet=False) as meter,
        _output(args.output) as file,
    ):
        options = tables.options(args, told, meter)
        writer = csv.writer(file, lineterminator="\n")
        heads = [*(model.target.classes or ())] if args.proba else [model.target.name]
        writer.writerow([*keep, *heads])
        for part, rows, X in model.encoded(args.files, options, keep):
            predicted = model.probabilities(X) if args.proba else model.answers(X)
            columns = [column.tolist() for column in predicted.reshape(len(rows), len(heads)).T]
            if keep:
                columns = [_texts(part.columns[name], rows) for name in keep] + columns
            elif predicted.dtype.kind in "if":  # faster than the writer, which looks for quotes
                texts = [map(repr, column) for column in columns]
                file.write("".join([f"{row}\n" for row in map(",".join, zip(*texts, strict=True))]))
                continue
            writer.writerows(zip(*columns, strict=True))
    for message in told:
        print("fastbp: note:", message, file=sys.stderr)


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


def _texts(column: Any, rows: Any) -> list[Any]:
    values = column.tolist() if hasattr(column, "tolist") else column.to_pylist()
    return [values[i] for i in rows]


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    """A text file that is at its place, or in standard output, once all of it has been written."""
    if path is not None and (os.path.isfile(path) or not os.path.exists(path)):
        check_output("--output", path)
        with replacing(path) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=True)
            try:
                yield text
            finally:
                text.detach()  # the file is closed by whom it belongs to
        return
    with tempfile.SpooledTemporaryFile(1 << 26, "w+", encoding="utf-8", newline="") as copy:
        yield copy  # type: ignore[misc]
        copy.seek(0)
        if path is None:
            shutil.copyfileobj(copy, sys.stdout)
        else:  # a device, or a pipe
            with open(path, "w", encoding="utf-8", newline="") as file:
                shutil.copyfileobj(copy, file)
