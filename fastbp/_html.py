"""Tables and small pictures as HTML with inline SVG: for notebooks, and for the command's report.

No script, no style sheet, nothing fetched. Text and axes have the colour of the text around them, the
lines colours that can be told apart on white and on black.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastbp import _text

if TYPE_CHECKING:
    from fastbp.history import History
    from fastbp.plan import Plan

__all__ = ["bars", "curves", "escape", "grid", "history", "network", "scatter", "table"]

COLOURS = ("#2f80d0", "#e07b00", "#2aa876", "#b455c8")
TABLE = (
    '<div style="overflow-x:auto"><table style="color:inherit;border-collapse:collapse;'
    'white-space:nowrap">'
)
END = "</table></div>"  # wide ones scroll by themselves
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 10, 34  # around the plot, for the axes' texts

escape = html.escape
Point = tuple[float, float]


def network(plan: Plan, history_: History | None) -> str:
    """A network: its layers as a table, and the curves of its last training."""
    head, *rows = _text.rows(plan)
    parts = [f"<b>MLP</b>, {escape(_text.loss_and_dtype(plan))}", table(head, rows)]
    if history_ is not None and history_.epochs:
        parts.append(history(history_))
    return f"<div>{''.join(parts)}</div>"


def history(history: History) -> str:
    """A training: its last epoch as a table, and its losses as curves."""
    if not history.epochs:
        return "<div>History of 0 epochs</div>"
    told = {name: f"{value:.4g}" for name, value in history.row().items()}
    told["epoch"] = f"{history.epochs}"
    if history.stopped:
        told["stopped"] = history.stopped
    head = [name.replace("_", " ") for name in told]
    lines = {"loss": history.loss, "validation loss": history.validation_loss}
    best = history.best_epoch
    picture = ""
    if history.epochs > 1:
        picture = curves({name: values for name, values in lines.items() if values}, best)
    return f"<div>{table(head, [list(told.values())])}{picture}</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table whose cells are escaped; columns of numbers stand on the right."""

    def is_number(value: Any) -> bool:
        text = str(value)
        return text[:1].isdigit() or text[:1] in "−-." or text == "nan"

    right = [rows and all(is_number(r[j]) or r[j] == "" for r in rows) for j in range(len(head))]

    def row(tag: str, values: Sequence[Any]) -> str:
        cells = (
            f'<{tag} style="text-align:{"right" if r else "left"};padding:.2em .6em">'
            f"{escape(str(value))}</{tag}>"
            for r, value in zip(right, values, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    body = "".join(row("td", values) for values in rows)
    return f"{TABLE}<thead>{row('th', head)}</thead><tbody>{body}</tbody>{END}"


def curves(
    lines: Mapping[str, Sequence[float]], best: int | None = None, *, label: str = "epoch"
) -> str:
    """Lines over 1, 2, …; logarithmic where all is positive and spans more than a factor of 20.

    Values that are not finite are left out. `best` is the index of one to mark.
    """
    found = {
        name: [(i, v) for i, v in enumerate(values, 1) if math.isfinite(v)]
        for name, values in lines.items()
    }
    values = [v for points in found.values() for _, v in points]
    if not values:
        return ""
    logarithmic = min(values) > 0 and max(values) > 20 * min(values)
    last = max(len(v) for v in lines.values())
    plot = _Plot((1, max(last, 2)), _range(values, logarithmic), logarithmic=logarithmic)
    parts = [plot.axes(label, "", whole=True)]
    if best is not None:
        x = plot.x(best + 1)
        parts.append(
            f'<path d="M{x:.1f} {plot.top}V{plot.bottom}" stroke="currentColor" '
            f'stroke-dasharray="3 3" opacity=".6"><title>best epoch: {best + 1}</title></path>'
        )
    for colour, points in zip(COLOURS, found.values(), strict=False):
        path = "L".join(f"{plot.x(x):.1f} {plot.y(y):.1f}" for x, y in _thinned(points))
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )
    names = list(found) + ([] if best is None else [f"best epoch: {best + 1}"])
    return plot.svg(parts, ", ".join(names)) + _legend(names)


def scatter(points: Sequence[Point], x_label: str, y_label: str) -> str:
    """Points, with the line on which both coordinates are the same."""
    points = [p for p in points if all(map(math.isfinite, p))]
    if not points:
        return ""
    ends = _range([c for p in points for c in p], False)
    plot = _Plot(ends, ends)
    dots = "".join(f"M{plot.x(x):.1f} {plot.y(y):.1f}h0" for x, y in points)
    line = (
        f"M{plot.x(ends[0]):.1f} {plot.y(ends[0]):.1f}L{plot.x(ends[1]):.1f} {plot.y(ends[1]):.1f}"
    )
    parts = [
        plot.axes(x_label, y_label),
        f'<path d="{line}" stroke="currentColor" stroke-dasharray="4 3" opacity=".6"/>',
        f'<path d="{dots}" stroke="{COLOURS[0]}" stroke-width="5" stroke-linecap="round" '
        'opacity=".5"/>',
    ]
    return plot.svg(parts, f"{y_label} against {x_label}")


def bars(names: Sequence[str], values: Sequence[float]) -> str:
    """Horizontal bars, the largest the whole width."""
    largest = max([*values, 0.0]) or 1.0
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(name)}</td><td style="text-align:left">'
        f'<svg width="220" height="12" role="img"><title>{value:.4g}</title>'
        f'<rect width="{220 * value / largest:.1f}" height="12" fill="{COLOURS[0]}"/></svg>'
        f'</td><td style="text-align:right">{value:.3g}</td></tr>'
        for name, value in zip(names, values, strict=True)
    )
    return f"{TABLE}<tbody>{rows}</tbody>{END}"


def grid(labels: Sequence[str], counts: Sequence[Sequence[float]]) -> str:
    """A confusion matrix: true classes down, predicted ones across; shaded by the share of the row."""
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    rows = []
    for label, row in zip(labels, counts, strict=True):
        total = sum(row) or 1.0
        cells = "".join(
            f'<td style="text-align:right;background:rgba(47,128,208,{0.6 * n / total:.2f})">'
            f"{n:,g}</td>"
            for n in row
        )
        rows.append(f'<tr><th style="text-align:left">{escape(label)}</th>{cells}</tr>')
    return (
        f"{TABLE}<thead><tr><th>true ↓ predicted →</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody>{END}"
    )


def _legend(names: Sequence[str]) -> str:
    marks = [
        f'<span style="color:{colour}">■</span> {escape(name)}'
        for colour, name in zip((*COLOURS[: len(names)],), names, strict=False)
        if not name.startswith("best epoch")
    ]
    marks += [f"┆ {escape(name)}" for name in names if name.startswith("best epoch")]
    return f'<div style="margin:.3em 0 .6em">{", ".join(marks)}</div>'


def _range(values: Sequence[float], logarithmic: bool) -> Point:
    low, high = min(values), max(values)
    if logarithmic:
        return low, high
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _thinned(points: Sequence[Point], most: int = 1000) -> Sequence[Point]:
    """At most so many of them, the last one among them."""
    each = -(-len(points) // most)
    return [*points[:-1:each], points[-1]] if each > 1 else points


class _Plot:
    """A frame of axes: from values to places in the picture."""

    def __init__(
        self,
        x_range: Point,
        y_range: Point,
        *,
        logarithmic: bool = False,
        width: int = 480,
        height: int = 240,
    ) -> None:
        self.x_range, self.y_range, self.logarithmic = x_range, y_range, logarithmic
        self.width, self.height = width, height
        self.left, self.right = _LEFT, width - _RIGHT
        self.top, self.bottom = _TOP, height - _BOTTOM

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def axes(self, x_label: str, y_label: str, *, whole: bool = False) -> str:
        """Frame, ticks and what they mean."""
        text = '<text font-size="11" fill="currentColor" '
        frame = f"M{self.left} {self.top}V{self.bottom}H{self.right}"
        parts = [f'<path d="{frame}" fill="none" stroke="currentColor" opacity=".7"/>']
        for value in _ticks(*self.x_range, 6, whole=whole):
            x = self.x(value)
            parts.append(
                f'{text}x="{x:.1f}" y="{self.bottom + 14}" text-anchor="middle">{value:g}</text>'
            )
        ticks = _powers(*self.y_range) if self.logarithmic else _ticks(*self.y_range, 5)
        for value in ticks:
            y = self.y(value)
            parts.append(
                f'<path d="M{self.left} {y:.1f}H{self.right}" stroke="currentColor" opacity=".15"/>'
                f'{text}x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
            )
        middle = (self.left + self.right) / 2
        parts.append(
            f'{text}x="{middle}" y="{self.height - 4}" text-anchor="middle">{escape(x_label)}</text>'
        )
        if y_label:
            turned = f'transform="translate(12 {(self.top + self.bottom) / 2}) rotate(-90)"'
            parts.append(f'{text}{turned} text-anchor="middle">{escape(y_label)}</text>')
        return "".join(parts)

    def svg(self, parts: Sequence[str], title: str) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'role="img" style="width:100%;max-width:{self.width}px;height:auto;display:block">'
            f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
        )


def _ticks(low: float, high: float, about: int, *, whole: bool = False) -> list[float]:
    """Round numbers in the range, about so many."""
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= min((f for f in (1, 2, 5, 10) if (high - low) / (f * step) <= about), default=10)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    count = int((high / step + 1e-9) - first) + 1
    return [round((first + i) * step, 12) for i in range(count)]


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of 10 in the range; the powers alone where it is wide."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if high > 1e4 * low else (1, 2, 5) if high < 1e2 * low else (1, 3)
    values = [f * 10.0**d for d in decades for f in factors]
    return [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
