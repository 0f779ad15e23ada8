"""``fastbp inspect``: what would be learnt from files, without learning it."""

from __future__ import annotations

import argparse

from fastbp.command import table as tables
from fastbp.command.progress import Meter
from fastbp.tables.learning import learn
from fastbp.tables.overview import overview

__all__ = ["run"]


def run(args: argparse.Namespace) -> None:
    """Print the overview."""
    with Meter("reading") as meter:
        given = tables.read_given(args, meter)
    learnt = learn(given.parts, given.features, given.wishes)
    inputs = len(learnt.encoding.inputs)
    if args.target is None:
        print(f"{given.parts.rows:,} rows, {inputs:,} inputs")
    else:
        print(tables.summary(int(tables.present(given.y).sum()), inputs, given.target))
    print(overview(learnt.facts, [*given.notes, *learnt.notes]))
