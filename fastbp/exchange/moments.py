"""What a network sees of a moment, written once for every target: NumPy, ONNX, C, Python.

A moment is the seconds since 1970 as float64, NaN where it is missing: no operator of ONNX reads dates.
As in `formulas`, `parts_of` computes with arrays and writes down with texts and nodes. The calendar is
the Gregorian one, counted in years that begin with March, so that the leap day is a year's last.
"""

from __future__ import annotations

from typing import Any, Protocol

from fastbp.exchange.text import Text, bare

__all__ = ["FARTHEST", "PARTS", "Operations", "Written", "parts_of"]

PARTS = ("elapsed", "year", "month", "weekday", "hour")
FARTHEST = 9e15  # seconds: whole numbers up to here are exact


class Operations(Protocol):
    """What a target computes beside + − * /."""

    def floor(self, x: Any) -> Any:
        """The largest whole number that is not larger."""

    def let(self, name: str, x: Any) -> Any:
        """The expression, by a name if the target has names."""


def parts_of(o: Operations, seconds: Any) -> list[Any]:
    """`PARTS`: days since 1970, the year, and as shares of a turn month, weekday and time of day.

    `seconds` are finite, or NaN.
    """
    seconds = o.let("second", o.floor(seconds))
    days = o.let("days", seconds / 86400.0)
    day = o.let("day", o.floor(days))
    era = o.let("era", o.floor((day + 719468.0) / 146097.0))  # of 400 years, from March of year 0
    d = o.let("of_era", day + 719468.0 - era * 146097.0)
    leap = o.floor(d / 1460.0) - o.floor(d / 36524.0) + o.floor(d / 146096.0)
    year = o.let("years", o.floor((d - leap) / 365.0))
    before = year * 365.0 + o.floor(year / 4.0) - o.floor(year / 100.0)
    month = o.let("months", o.floor(((d - before) * 5.0 + 2.0) / 153.0))  # 0 is March
    new_year = o.let("new_year", o.floor(month / 10.0))
    week = day + 3.0  # 1970 began on a Thursday; 0 is Monday
    return [
        days,
        era * 400.0 + year + new_year,
        (month + 2.0 - new_year * 12.0) / 12.0,
        (week - o.floor(week / 7.0) * 7.0) / 7.0,
        days - day,
    ]


class Written:
    """The operations as text: statements that assign, and expressions of them."""

    def __init__(self, floor: str, assign: str) -> None:
        self.function, self.assign = floor, assign
        self.statements: list[str] = []

    def floor(self, x: Text) -> Text:
        return x.like(f"{self.function}({bare(x.text)})")

    def let(self, name: str, x: Text) -> Text:
        self.statements.append(self.assign.format(name, bare(x.text)))
        return x.like(name)
