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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp import _html
from fastbp.command.metrics import check_metrics, measure
from fastbp.command.training import Scored
from fastbp.config import describe
from fastbp.exchange.attributions import importance
from fastbp.history import History
from fastbp.model_file import replacing
from fastbp.tables.learning import Fact
from fastbp.tables.model import TableModel
from fastbp.tables.predictor import Predictor

__all__ = ["OfNetwork", "Source", "Trained", "named", "some", "write"]

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


class OfNetwork:
    """What a page says of a plain network.

    Parameters
    ----------
    args : argparse.Namespace
        Of ``fastbp train``.
    table : TableModel
        As trained.
    history : History
    """

    def __init__(self, args: argparse.Namespace, table: TableModel, history: History) -> None:
        self.args, self.table, self.history = args, table, history

    def model(self) -> list[str]:
        """What was trained, and how."""
        plan, history, facts = self.table.network.plan, self.history, describe()
        engine, threads = self.args.engine, self.args.threads
        told: list[tuple[str, object]] = [
            ("optimizer", repr(plan.optimizer)),
            ("rows of a minibatch", plan.batch_size),
            ("epochs", f"{history.epochs} of {self.args.epochs}, stopped by {history.stopped}"),
            ("seconds in epochs", f"{sum(history.seconds):.3g}"),
            ("seed", self.args.seed),
            ("engine", f"{facts['engine'] if engine == 'auto' else engine}"),
            ("threads", facts["threads"] if threads is None else threads),
        ]
        if history.best_epoch is not None:
            best = f"{history.best_epoch + 1}, the lowest validation loss"
            told.append(("weights of epoch", best))
        return [_html.network(plan, None), f"<p></p>{named(told)}"]

    def training(self) -> str:
        """How it went."""
        return _html.history(self.history)

    def importance(self, X: NDArray[Any]) -> tuple[list[str], NDArray[np.float64]]:
        """Names of columns, and how much each has to do with the predictions of these rows."""
        columns = self.table.encoding.columns
        starts = np.cumsum([0, *(len(c.inputs) for c in columns[:-1])]).tolist()
        values = importance(self.table.network, X, starts=starts)
        return [column.name for column in columns], values


class Trained(Protocol):
    """What a page says of a model: `OfNetwork`, or that of networks for tables."""

    @property
    def table(self) -> Predictor:
        """What predicts."""

    def model(self) -> list[str]:
        """What was trained, and how."""

    def training(self) -> str:
        """How it went."""

    def importance(self, X: NDArray[Any]) -> tuple[list[str], NDArray[np.float64]]:
        """Names of columns, and how much each has to do with the predictions of these rows."""


def named(rows: Sequence[tuple[str, object]]) -> str:
    """A table of names and values."""
    body = "".join(
        f'<tr><th style="text-align:left">{_html.escape(name)}</th>'
        f"<td>{_html.escape(str(value))}</td></tr>"
        for name, value in rows
    )
    return f"{_html.TABLE}<tbody>{body}</tbody>{_html.END}"


def write(
    args: argparse.Namespace,
    source: Source,
    trained: Trained,
    held_out: dict[str, Scored],
    X: NDArray[Any],
) -> None:
    """Write the page to ``args.report``; one that is there is replaced once the new one is complete.

    Parameters
    ----------
    args : argparse.Namespace
        Of ``fastbp train``.
    source : Source
    trained : Trained
    held_out : dict
        For each set of rows, by name, predictions, targets and weights. The last one that has rows is
        the one to show predictions of.
    X : ndarray
        Inputs of some of them, to say which columns matter; may be none.
    """
    table = trained.table
    held_out = {name: rows for name, rows in held_out.items() if len(rows[1])}
    title = f"{table.target.name}: trained on {source.name}"
    sections = [
        f"<h1>{_html.escape(title)}</h1>",
        f"<p>fastbp {describe()['fastbp']}, {time.strftime('%Y-%m-%d %H:%M')}</p>",
        *_data(source),
        "<h2>Model</h2>",
        *trained.model(),
        "<h2>Training</h2>",
        trained.training(),
    ]
    if held_out:
        sections += _scores(table, held_out)
        name, rows = list(held_out.items())[-1]
        sections += _predictions(table, name, rows)
        if len(X):
            sections += _columns(trained, X, name)
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


def _scores(table: Predictor, held_out: dict[str, Scored]) -> list[str]:
    classes = table.target.classes
    names = check_metrics([], None if classes is None else len(classes), every=True)
    rows = []
    for name, (predicted, y, weight) in held_out.items():
        found = measure(names, predicted, y, weight)
        rows.append([name, f"{len(y):,}", *(f"{value:.4f}" for _, value in found)])
    return ["<h2>Scores</h2>", _html.table(["set", "rows", *names], rows)]


def _predictions(table: Predictor, name: str, rows: Scored) -> list[str]:
    """A confusion matrix, or predicted against true numbers."""
    predicted, y, _ = rows
    classes = table.target.classes
    if classes is None:
        chosen = some(len(y), MOST_POINTS)
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
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (y, predicted.argmax(axis=1)), 1)
    if len(labels) <= MOST_CLASSES:
        shown = _html.grid(labels, counts.tolist())
    else:
        wrong = counts - np.diag(np.diag(counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_COLUMNS]
        pairs = [divmod(int(i), len(labels)) for i in order if wrong.flat[i]]
        cells = [(labels[i], labels[j], int(wrong[i, j])) for i, j in pairs]
        shown = _html.table(["true", "predicted", "rows"], cells)
    return [f"<h2>Confusion of the {name} rows</h2>", shown]


def _columns(trained: Trained, X: NDArray[Any], name: str) -> list[str]:
    X = X[some(len(X), MOST_ROWS)]
    names, values = trained.importance(X)
    largest = np.argsort(-values, kind="stable")[:MOST_COLUMNS]
    return [
        "<h2>Most important columns</h2>",
        f"<p>Mean |attribution| (integrated gradients from the mean row) of {len(X):,} {name} rows.</p>",
        _html.bars([names[i] for i in largest], values[largest].tolist()),
    ]


def _loading(args: argparse.Namespace, table: Predictor) -> list[str]:
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


def some(n: int, most: int) -> NDArray[np.int64]:
    """At most so many of n rows, at random but always the same."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))
