"""From a table's columns to a network's inputs: what was learnt, as plain data, and its use.

| column   | inputs                                                                                   |
| -------- | ---------------------------------------------------------------------------------------- |
| number   | t / √(1 + (t/3)²) with t = s (x − center); the center where x is missing                 |
| category | 1 for its own value, 0 for the others; one input for all rare values together            |
| date     | days since 1970 and the year, as numbers; month, weekday, hour as points on a circle     |

A column in which training rows missed a value has one more input that says so. A category that was
not there in training counts as a rare one, or, if there were none, has 0 in all inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.tables.columns import codes_of, moments_of, numbers_of
from fastbp.tables.parts import Part
from fastbp.tables.texts import DATE_FORMATS, NO_VALUE, PLAIN, Style

__all__ = ["Bad", "Category", "Column", "Date", "Encoding", "Number"]

Floats = NDArray[np.float64]
VERSION = 1
_WRITTEN = {"False": ("0", "false", "FALSE"), "True": ("1", "true", "TRUE")}
CIRCLES = ("month", "weekday", "hour")
_BLOCK = 1 << 15  # inputs that are computed at a time: they stay in the cache


@dataclass(frozen=True)
class Number:
    """A column of numbers; `words` are cells that meant "missing" in training."""

    name: str
    center: float
    scale: float
    missing: bool = False
    style: Style = PLAIN
    words: tuple[str, ...] = ()

    @cached_property
    def inputs(self) -> list[str]:
        """Names of its inputs."""
        return [self.name] + [f"{self.name}=missing"] * self.missing


@dataclass(frozen=True)
class Category:
    """A column of names; its codes are 0 for missing and new ones, else 1 + index in `slots`."""

    name: str
    categories: tuple[str, ...]
    rare: bool = False
    missing: bool = False

    @cached_property
    def inputs(self) -> list[str]:
        """Names of its inputs."""
        extra = ["rare"] * self.rare + ["missing"] * self.missing
        return [f"{self.name}={c}" for c in self.categories] + [f"{self.name}=({e})" for e in extra]

    def codes(self, part: Part, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Of every row: 0 … len(inputs)."""
        indices, values = codes_of(_column(part, self.name), tokens)
        known = {category: i for i, category in enumerate(self.categories, 1)}
        if known.keys() <= _WRITTEN.keys():  # truth values, which others write as numbers
            known |= {other: i for name, i in known.items() for other in _WRITTEN[name]}
        new = len(self.categories) + 1 if self.rare else 0
        none = len(self.inputs) if self.missing else 0
        found = [none if value is None else known.get(value, new) for value in values]
        return np.array(found, np.int64)[indices]


@dataclass(frozen=True)
class Date:
    """A column of moments; `elapsed` and `year` are center and scale (year: none if all in one)."""

    name: str
    elapsed: tuple[float, float]
    year: tuple[float, float] | None = None
    circles: tuple[str, ...] = ()
    missing: bool = False
    format: str = ""
    words: tuple[str, ...] = ()

    @cached_property
    def inputs(self) -> list[str]:
        """Names of its inputs."""
        parts = ["elapsed"] + ["year"] * (self.year is not None)
        parts += [f"{c}_{f}" for c in self.circles for f in ("sin", "cos")]
        return [f"{self.name}:{part}" for part in parts] + [f"{self.name}=missing"] * self.missing


Column = Number | Category | Date
_KINDS: dict[str, type[Column]] = {"number": Number, "category": Category, "date": Date}


@dataclass(frozen=True)
class Bad:
    """Values that a column cannot take: which rows of the part, and why the first of them."""

    name: str
    rows: NDArray[np.bool_]
    reason: str


@dataclass(frozen=True)
class Encoding:
    """How a table's columns become inputs.

    Attributes
    ----------
    columns : tuple of Number, Category or Date
        Those that are used, in the order of their inputs.
    clip : bool
        Whether numbers are clipped smoothly to ±3.
    tokens : tuple of str
        Cells, in lower case, that stand for no value beside the usual ones.
    """

    columns: tuple[Column, ...]
    clip: bool = True
    tokens: tuple[str, ...] = ()

    @cached_property
    def inputs(self) -> list[str]:
        """Names of all inputs."""
        return [name for column in self.columns for name in column.inputs]

    @property
    def names(self) -> list[str]:
        """Names of the columns that are used."""
        return [column.name for column in self.columns]

    @property
    def texts(self) -> list[str]:
        """Names of the columns that are names, and so must be read as text."""
        return [column.name for column in self.columns if isinstance(column, Category)]

    def encode(
        self, part: Part, rows: NDArray[np.int64] | None = None, out: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], list[Bad]]:
        """Compute the inputs of a part's rows.

        Parameters
        ----------
        part : Part
            With the columns that are used; others do not matter.
        rows : ndarray of int or None
            Rows to take; None: all.
        out : ndarray of shape (len(rows), inputs) or None
            Where to write; None: a new float32 array.

        Returns
        -------
        ndarray of shape (len(rows), inputs)
            A value that cannot be taken counts as missing.
        list of Bad
            Of all rows of the part.

        Raises
        ------
        ValueError
            If a column is not there.
        """
        n = part.rows if rows is None else len(rows)
        inputs = self.inputs
        if out is None:
            out = np.empty((n, len(inputs)), np.float32)
        bad: list[Bad] = []
        scaled: list[tuple[int, Floats, float, float]] = []  # input, values, center, scale
        flags: list[tuple[int, NDArray[np.bool_]]] = []
        hot: list[tuple[int, int, NDArray[np.int64]]] = []  # first input, inputs, codes
        circles: list[tuple[int, Floats]] = []  # input of the sine, turns
        at = 0
        for column in self.columns:
            here, at = at, at + len(column.inputs)
            if isinstance(column, Category):
                hot.append((here, at - here, _taken(column.codes(part, self.tokens), rows)))
                continue
            raw = _column(part, column.name)
            words = (*NO_VALUE, *self.tokens, *column.words)
            if isinstance(column, Number):
                values, wrong = numbers_of(raw, column.style, words)
                scaled.append((here, values, column.center, column.scale))
                if wrong is not None:
                    bad.append(Bad(column.name, wrong, "is no number"))
            else:
                moments, wrong = moments_of(raw, column.format, words)
                values = _days(moments)
                scaled.append((here, values, *column.elapsed))
                here += 1
                if column.year is not None:
                    scaled.append((here, _year(moments), *column.year))
                    here += 1
                for name in column.circles:
                    circles.append((here, _turns(moments, name)))
                    here += 2
                if wrong is not None:
                    bad.append(Bad(column.name, wrong, "is no date"))
            if column.missing:
                flags.append((at - 1, np.isnan(values)))
        self._scale(scaled, bad, part, rows, out)
        for j, flag in flags:
            out[:, j] = _taken(flag, rows)
        for j, width, codes in hot:
            out[:, j : j + width] = 0
            known = np.flatnonzero(codes)
            out[known, j + codes[known] - 1] = 1
        for j, turns in circles:
            angle = 2 * np.pi * _taken(turns, rows)
            out[:, j] = np.where(np.isnan(angle), 0, np.sin(angle))
            out[:, j + 1] = np.where(np.isnan(angle), 0, np.cos(angle))
        return out, bad

    def _scale(
        self,
        scaled: list[tuple[int, Floats, float, float]],
        bad: list[Bad],
        part: Part,
        rows: NDArray[np.int64] | None,
        out: NDArray[Any],
    ) -> None:
        """Write the inputs that are scaled numbers, a block of rows of all of them at a time."""
        if not scaled:
            return
        inputs = np.array([j for j, _, _, _ in scaled])
        # A slice is much faster to write to than a list of columns.
        where: Any = inputs
        if len(inputs) == inputs[-1] - inputs[0] + 1:
            where = slice(inputs[0], inputs[-1] + 1)
        center = np.array([c for _, _, c, _ in scaled])[:, None]
        scale = np.array([s for _, _, _, s in scaled])[:, None]
        infinite: set[int] = set()
        step = max(_BLOCK // len(scaled), 64)
        for start in range(0, len(out), step):
            stop = min(start + step, len(out))
            chosen = slice(start, stop) if rows is None else rows[start:stop]
            t = np.array([values[chosen] for _, values, _, _ in scaled])
            t -= center
            with np.errstate(over="ignore", invalid="ignore"):  # ∞ · 0 in a column without spread
                t *= scale
                sums = t.sum(axis=1)
                if not np.isfinite(sums).all():  # something is missing or infinite
                    infinite.update(np.flatnonzero(np.isinf(t).any(axis=1)).tolist())
                    np.copyto(t, 0, where=np.isnan(t))
                within(t, self.clip)
            out[start:stop, where] = t.T
        for i in sorted(infinite):
            name = self._column_of(int(inputs[i]))
            values = np.isinf(scaled[i][1])
            if values.any():
                bad.append(Bad(name, values, "is infinite"))

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same, of columns with other names."""
        columns = tuple(replace(column, name=names[column.name]) for column in self.columns)
        return replace(self, columns=columns)

    def _column_of(self, j: int) -> str:
        """Name of the column that an input belongs to."""
        for column in self.columns:
            j -= len(column.inputs)
            if j < 0:
                return column.name
        raise IndexError(j)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, for JSON."""
        names = {kind: name for name, kind in _KINDS.items()}
        columns = [{"kind": names[type(c)], **_plain(asdict(c))} for c in self.columns]
        return {
            "version": VERSION,
            "clip": self.clip,
            "tokens": list(self.tokens),
            "columns": columns,
        }

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            If it is anything else than what `to_dict` returns, or of a newer version.
        """
        if not isinstance(data, dict) or type(data.get("version")) is not int:
            raise ValueError("the encoding has no version")
        if data["version"] > VERSION:
            raise ValueError("the encoding was written by a newer fastbp: upgrade fastbp")
        columns = data.get("columns")
        if not isinstance(columns, list) or not columns or not isinstance(data.get("clip"), bool):
            raise ValueError("the encoding has no columns")
        made = tuple(_column_from(c) for c in columns)
        if len({c.name for c in made}) < len(made):
            raise ValueError("the encoding has a column twice")
        return cls(made, data["clip"], _texts("tokens", data.get("tokens")))


def within(t: Floats, clip: bool) -> None:
    """t / √(1 + (t/3)²) in place; without `clip` only finite in float32, too."""
    if not clip:
        np.clip(t, -1e30, 1e30, out=t)
        return
    np.clip(t, -1e9, 1e9, out=t)  # farther out the quotient is ±3 all the same
    u = t * t
    u *= 1 / 9
    u += 1
    t /= np.sqrt(u, out=u)


def _column(part: Part, name: str) -> Any:
    if name not in part.columns:
        where = f"{part.where}: " if part.where else ""
        raise ValueError(where + nearest_name("column", name, part.columns))
    return part.columns[name]


def _taken(values: NDArray[Any], rows: NDArray[np.int64] | None) -> NDArray[Any]:
    return values if rows is None else values[rows]


def _days(moments: NDArray[np.datetime64]) -> Floats:
    days = moments.astype(np.int64) / 86400
    days[np.isnat(moments)] = np.nan
    return days


def _year(moments: NDArray[np.datetime64]) -> Floats:
    return _from_epoch(moments, "Y") + 1970


def _turns(moments: NDArray[np.datetime64], name: str) -> Floats:
    """Share of the year's months, the week's days or the day's hours that is over, 0 to 1."""
    if name == "month":
        return _from_epoch(moments, "M") % 12 / 12
    if name == "weekday":
        return (_from_epoch(moments, "D") + 3) % 7 / 7  # 1970 began on a Thursday; 0 is Monday
    return _days(moments) % 1


def _from_epoch(moments: NDArray[np.datetime64], unit: str) -> Floats:
    """Whole units since 1970."""
    found = moments.astype(f"datetime64[{unit}]").astype(np.int64).astype(np.float64)
    found[np.isnat(moments)] = np.nan
    return found


# What comes from a file is believed only if it is what `to_dict` writes.


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _column_from(data: object) -> Column:
    if not isinstance(data, dict):
        raise ValueError("a column of the encoding is not described")
    fields = dict(data)
    kind = _KINDS.get(str(fields.pop("kind", None)))
    name = fields.get("name")
    if kind is None or not isinstance(name, str):
        raise ValueError("a column of the encoding has no kind or no name")
    try:
        if not isinstance(fields.get("missing"), bool):
            raise ValueError("missing is not true or false")
        if kind is Number:
            fields["center"], fields["scale"] = _numbers([fields["center"], fields["scale"]], 2)
            fields["style"] = _style(fields["style"])
            fields["words"] = _texts("words", fields["words"])
        elif kind is Category:
            fields["categories"] = _texts("categories", fields["categories"])
            if len(set(fields["categories"])) < len(fields["categories"]):
                raise ValueError("a category is there twice")
            if not isinstance(fields["rare"], bool) or not kind(**fields).inputs:
                raise ValueError("it has no inputs")
        else:
            fields["elapsed"] = _numbers(fields["elapsed"], 2)
            if fields["year"] is not None:
                fields["year"] = _numbers(fields["year"], 2)
            fields["circles"] = _texts("circles", fields["circles"])
            fields["words"] = _texts("words", fields["words"])
            known = set(fields["circles"]) <= set(CIRCLES)
            if not known or fields["format"] not in ("", *DATE_FORMATS):
                raise ValueError("circles or format are unknown")
        return kind(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the encoding of column {name!r} is damaged: {error}") from None


def _numbers(value: object, length: int) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"not {length} numbers")
    if not all(type(v) in (int, float) and math.isfinite(v) for v in value):
        raise ValueError("not finite numbers")
    return tuple(float(v) for v in value)


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{name} of the encoding are no texts")
    return tuple(value)


def _style(value: object) -> Style:
    if not isinstance(value, dict) or set(value) != {"decimal", "thousands", "unit"}:
        raise ValueError("style is not described")
    if value["decimal"] not in (".", ",") or value["thousands"] not in ("", ",", ".", " ", "'"):
        raise ValueError("style is unknown")
    return Style(value["decimal"], value["thousands"], bool(value["unit"]))
