"""``fastbp info``: what runs here, or what a saved model takes and predicts."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from fastbp.config import show_config
from fastbp.tables.encoding import Category, Column, Date
from fastbp.tables.learning import Fact
from fastbp.tables.model import TableModel, load
from fastbp.tables.overview import overview

__all__ = ["run"]


def run(args: argparse.Namespace) -> None:
    """Print it."""
    if args.model is None:
        show_config()
        return
    model = load(args.model)
    target = model.target
    if target.classes is None:
        print(f"regression of {target.name!r}")
    else:
        shown = ", ".join(map(str, target.classes[:10])) + ", …" * (len(target.classes) > 10)
        print(f"classification of {target.name!r}, {len(target.classes):,} classes: {shown}")
    if isinstance(model, TableModel):
        print(overview([_fact(column) for column in model.encoding.columns]))
        print(model.network.summary())
    else:
        _tabular(model)


def _tabular(model: Any) -> None:
    """Of networks for tables."""
    inputs, estimator = model.encoder, model.estimator
    known = () if inputs.encoding is None else inputs.encoding.columns
    facts = [_fact(column) for column in known]
    facts += [replace(_fact(column), inputs=1) for column in inputs.coded]
    print(overview(facts))
    members = len(estimator.members_)
    parameters = sum(a * b for stage in estimator.stages_ for a, b in stage.shapes)
    print(f"{estimator.model}, metric {estimator.metric}: the mean of {members} networks")
    print(f"{' → '.join(_stage(s) for s in estimator.stages_)}: {parameters:,} parameters each")
    for note in estimator.notes_:
        print(f"note: {note}")


def _stage(stage: Any) -> str:
    return f"{type(stage).__name__} {stage.inputs}-{stage.units}"


def _fact(column: Column) -> Fact:
    if isinstance(column, Category):
        kind, few = "category", ", ".join(column.categories[:3])
        more = ", …" if len(column.categories) > 3 or column.rare else ""
        values = f"{len(column.categories):,}: {few}{more}"
    elif isinstance(column, Date):
        kind, values = "date", ", ".join(i.partition(":")[2] for i in column.inputs if ":" in i)
    else:
        kind, values = "number", f"about {column.center:.6g}"
    return Fact(column.name, kind, values, inputs=len(column.inputs))
