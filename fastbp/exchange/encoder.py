"""How a row of numbers, moments and texts becomes a network's inputs, as plain data for the exporters.

With t = scale · (x − center), 0 where x is missing (NaN), a number's input is t / √(1 + (t/3)²), which
stays within ±3, or t itself where there is no clipping. A text's inputs are 1 for its own value and 0
for the others; a value that is none of them, or missing (""), has an input of its own or none. A moment
is given as seconds since 1970; of it some parts (`moments`) are numbers, others points on a circle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Category", "Date", "Encoder", "Number", "encoder_of"]

# Where what is clipped is ±3 to the last bit, and where what is not still fits into float32.
LIMITS = {True: 1e9, False: 1e30}
# Cells that stand for no value in a column of texts.
MISSING = ("", "\\N", "\\n")


@dataclass(frozen=True)
class Number:
    """A column of numbers; with `flag` one more input, 1 where the number is missing."""

    name: str
    center: float
    scale: float
    flag: bool = False

    @property
    def inputs(self) -> int:
        """How many inputs it has."""
        return 1 + self.flag


@dataclass(frozen=True)
class Category:
    """A column of texts; after an input for each of `values` one for new ones, one for missing."""

    name: str
    values: tuple[str, ...]
    new: bool = False
    missing: bool = False
    tokens: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """How many inputs it has."""
        return len(self.values) + self.new + self.missing

    @property
    def new_code(self) -> int:
        """Input of a value that is none of `values`; −1 for none."""
        return len(self.values) if self.new else -1

    @property
    def missing_code(self) -> int:
        """Input of a missing value; −1 for none."""
        return self.inputs - 1 if self.missing else -1

    @property
    def missing_texts(self) -> tuple[str, ...]:
        """Texts that stand for a missing value; words also with a capital, or in capitals."""
        words = [form for t in self.tokens for form in (t, t.capitalize(), t.upper())]
        return tuple(t for t in dict.fromkeys([*MISSING, *words]) if t not in self.values)


@dataclass(frozen=True)
class Date:
    """A column of moments: center and scale of the days since 1970 and of the year, and circles.

    A circle (month, weekday, hour) has two inputs, sine and cosine, both 0 where the moment is missing;
    `flag` is as in `Number`.
    """

    name: str
    elapsed: tuple[float, float]
    year: tuple[float, float] | None = None
    circles: tuple[str, ...] = ()
    flag: bool = False

    @property
    def inputs(self) -> int:
        """How many inputs it has."""
        return len(self.scaled) + 2 * len(self.circles) + self.flag

    @property
    def scaled(self) -> dict[str, tuple[float, float]]:
        """The parts that are numbers, in the order of their inputs."""
        year = {} if self.year is None else {"year": self.year}
        return {"elapsed": self.elapsed, **year}


@dataclass(frozen=True)
class Encoder:
    """Columns in the order of their inputs; and a regression's answer, center + scale · f."""

    columns: tuple[Number | Category | Date, ...]
    clip: bool = True
    center: float = 0.0
    scale: float = 1.0

    @property
    def starts(self) -> list[int]:
        """The first input of every column."""
        starts = [0]
        for column in self.columns:
            starts.append(starts[-1] + column.inputs)
        return starts[:-1]


def encoder_of(encoding: Any, center: float, scale: float) -> Encoder:
    """The encoder of a table's encoding (`fastbp.tables`)."""
    columns: list[Number | Category | Date] = []
    for c in encoding.columns:
        kind = type(c).__name__
        if kind == "Number":
            columns.append(Number(c.name, c.center, c.scale, c.missing))
        elif kind == "Category":
            columns.append(Category(c.name, c.categories, c.rare, c.missing, encoding.tokens))
        else:
            columns.append(Date(c.name, c.elapsed, c.year, c.circles, c.missing))
    return Encoder(tuple(columns), encoding.clip, center, scale)
