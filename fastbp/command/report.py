"""``fastbp train --report``: what there was to learn from, what was learnt, and how well, as one page.

The page needs no other file and fetches nothing: tables, and pictures as inline SVG (`fastbp._html`).
"""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastbp import _html
from fastbp.command.metrics import check_metrics, measure
from fastbp.command.training import Rows
from fastbp.config import describe
from fastbp.exchange.attributions import importance
from fastbp.history import History
from fastbp.model_file import replacing
from fastbp.tables.learning import Fact
from fastbp.tables.model import TableModel

__all__ = ["Source", "write"]

MOST_CLASSES = 30  # of a confusion matrix
MOST_POINTS = 2000
MOST_ROWS = 300  # whose attributions are taken
MOST_COLUMNS = 20

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff; }
h1, h2 { line-height: 1.2; }
td, th { border-bottom: 1px solid rgba(128, 128, 128, .3); padding: .2em .6em; }
pre { background: rgba(128, 128, 128, .15); padding: 1em; overflow-x: auto; }
@media (prefers-color-scheme: dark) { body { color: #d8dee4; background: #15191e; } }
"""


@dataclass
class Source:
    """What is said of the data.

    Attributes
    ----------
    name : str
        Of files, or of a data set.
    summary : str
        A line.
    facts : sequence of Fact
        Of the columns; may be none.
    notes : sequence of str
    """

    name: str
    summary: str
    facts: Sequence[Fact] = ()
    notes: Sequence[str] = ()


def write(
    args: argparse.Namespace,
    source: Source,
    table: TableModel,
    history: History,
    held_out: dict[str, Rows],
) -> None:
    """Write the page to ``args.report``; one that is there is replaced once the new one is complete.

    Parameters
    ----------
    args : argparse.Namespace
        Of ``fastbp train``.
    source : Source
    table : TableModel
        As trained.
    history : History
    held_out : dict
        For each set of rows, by name, inputs, targets (class indices, or numbers on the scale of the
        target) and weights. The last one that has rows is the one to show predictions of.
    """
    held_out = {name: rows for name, rows in held_out.items() if len(rows[0])}
    title = f"{table.target.name}: trained on {source.name}"
    sections = [
        f"<h1>{_html.escape(title)}</h1>",
        f"<p>fastbp {describe()['fastbp']}, {time.strftime('%Y-%m-%d %H:%M')}</p>",
        *_data(source),
        *_model(args, table, history),
        "<h2>Training</h2>",
        _html.history(history),
    ]
    if held_out:
        sections += _scores(table, held_out)
        sections += _predictions(table, *list(held_out.items())[-1])
        sections += _columns(table, *list(held_out.items())[-1])
    sections += _loading(args, table)
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(sections)}</body></html>\n"
    )
    with replacing(args.report) as file:
        file.write(page.encode())


def _data(source: Source) -> list[str]:
    parts = ["<h2>Data</h2>", f"<p>{_html.escape(source.summary)}</p>"]
    if source.facts:
        head = ("column", "kind", "values", "missing", "inputs")
        rows = [(f.name, f.kind, f.values, f.missing, f.inputs) for f in source.facts]
        parts.append(_html.table(head, rows))
    if source.notes:
        notes = "".join(f"<li>{_html.escape(note)}</li>" for note in source.notes)
        parts.append(f"<ul>{notes}</ul>")
    return parts


def _model(args: argparse.Namespace, table: TableModel, history: History) -> list[str]:
    plan = table.network.plan
    facts = describe()
    told = [
        ("optimizer", repr(plan.optimizer)),
        ("rows of a minibatch", plan.batch_size),
        ("epochs", f"{history.epochs} of {args.epochs}, stopped by {history.stopped}"),
        ("seconds in epochs", f"{sum(history.seconds):.3g}"),
        ("seed", args.seed),
        ("engine", f"{facts['engine'] if args.engine == 'auto' else args.engine}"),
        ("threads", facts["threads"] if args.threads is None else args.threads),
    ]
    if history.best_epoch is not None:
        told.append(("weights of epoch", f"{history.best_epoch + 1}, the lowest validation loss"))
    rows = "".join(
        f'<tr><th style="text-align:left">{_html.escape(name)}</th>'
        f"<td>{_html.escape(str(value))}</td></tr>"
        for name, value in told
    )
    return [
        "<h2>Model</h2>",
        _html.network(plan, None),
        f"<p></p>{_html.TABLE}<tbody>{rows}</tbody>{_html.END}",
    ]


def _scores(table: TableModel, held_out: dict[str, Rows]) -> list[str]:
    classes = table.target.classes
    names = check_metrics([], None if classes is None else len(classes), every=True)
    rows = []
    for name, (X, y, weight) in held_out.items():
        predicted = table.answers(X) if classes is None else table.network.predict_proba(X)
        found = measure(names, predicted, np.asarray(y), weight)
        rows.append([name, f"{len(X):,}", *(f"{value:.4f}" for _, value in found)])
    return ["<h2>Scores</h2>", _html.table(["set", "rows", *names], rows)]


def _predictions(table: TableModel, name: str, rows: Rows) -> list[str]:
    """A confusion matrix, or predicted against true numbers."""
    X, y, _ = rows
    classes = table.target.classes
    if classes is None:
        predicted = table.answers(X)
        chosen = _some(len(X), MOST_POINTS)
        points = list(zip(y[chosen].tolist(), predicted[chosen].tolist(), strict=True))
        residual = y - predicted
        quartiles = np.quantile(residual, (0.05, 0.25, 0.5, 0.75, 0.95))
        head = ["5 %", "25 %", "median", "75 %", "95 %"]
        return [
            f"<h2>Predictions of the {name} rows</h2>",
            _html.scatter(points, "true", "predicted"),
            "<h3>Residuals, true − predicted</h3>",
            _html.table(head, [[f"{q:.4g}" for q in quartiles]]),
        ]
    labels = [str(label) for label in classes]
    predicted = table.network.predict(X)
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (np.asarray(y), predicted), 1)
    if len(labels) <= MOST_CLASSES:
        shown = _html.grid(labels, counts.tolist())
    else:
        wrong = counts - np.diag(np.diag(counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_COLUMNS]
        pairs = [divmod(int(i), len(labels)) for i in order if wrong.flat[i]]
        cells = [(labels[i], labels[j], int(wrong[i, j])) for i, j in pairs]
        shown = _html.table(["true", "predicted", "rows"], cells)
    return [f"<h2>Confusion of the {name} rows</h2>", shown]


def _columns(table: TableModel, name: str, rows: Rows) -> list[str]:
    columns = table.encoding.columns
    starts = np.cumsum([0, *(len(c.inputs) for c in columns[:-1])]).tolist()
    X = rows[0][_some(len(rows[0]), MOST_ROWS)]
    values = importance(table.network, X, starts=starts)
    largest = np.argsort(-values, kind="stable")[:MOST_COLUMNS]
    return [
        "<h2>Most important columns</h2>",
        f"<p>Mean |attribution| (integrated gradients from the mean row) of {len(X):,} {name} rows.</p>",
        _html.bars([columns[i].name for i in largest], values[largest].tolist()),
    ]


def _loading(args: argparse.Namespace, table: TableModel) -> list[str]:
    path = args.save or "model.safetensors"
    saved = "" if args.save else "<p>It was not saved: <code>--save</code> does it.</p>"
    proba = "" if table.target.classes is None else "model.predict_proba(new)\n"
    code = (
        f"import fastbp\n\nmodel = fastbp.load({os.fspath(path)!r})\n"
        f"model.predict(new)  # a frame, a dict of columns, or the path of a file\n{proba}"
    )
    shell = f"fastbp predict {shlex.quote(os.fspath(path))} new.csv"
    return [
        "<h2>Load it again</h2>",
        saved,
        f"<pre>{_html.escape(code)}</pre><pre>{_html.escape(shell)}</pre>",
    ]


def _some(n: int, most: int) -> NDArray[np.int64]:
    """At most so many of n rows, at random but always the same."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))
