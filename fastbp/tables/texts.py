"""Text as people write numbers and dates: how a column of it is to be read, and reading it.

A column is read in one way as a whole: with one decimal mark, one thousands separator, one order of day
and month. `Tally` counts how many of its values each way takes, part by part; `Tally.best` chooses.
Everything works on Arrow arrays of the *different* values, by their regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.tables import _arrow
from fastbp.tables._arrow import strings

Strings = Any  # pyarrow.StringArray

# Cells that stand for "no value" in a column of numbers or dates, compared in lower case. In a column
# of text only the first two do: NA may be Namibia.
NO_TEXT = ("", r"\n")
NO_VALUE = (
    *NO_TEXT,
    *("na", "n/a", "n.a.", "nan", "-nan", "null", "(null)", "none", "nil", "nat", "<na>", "?", "."),
    *(
        "-",
        "--",
        "–",
        "—",
        "#n/a",
        "#na",
        "#n/a n/a",
        "#value!",
        "#ref!",
        "#div/0!",
        "#num!",
        "#name?",
    ),
    *("#null!", "missing", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)
ENOUGH = 0.98  # of a column's values: what they are, the column is

_GAPS = " \u00a0\u2009\u202f"
_SPACES, _APOSTROPHES = f"[{_GAPS}]", "['’]"
_SEPARATORS = {"": "", ",": ",", ".": r"\.", " ": _SPACES, "'": _APOSTROPHES}
_UNIT = r"(?:[$€£¥%]|USD|EUR|GBP)"
_LOOKS_NUMERIC = (
    rf"^[+-]?{_UNIT}?\s*[+-]?[0-9][0-9.,'’{_GAPS}]*(?:[eE][+-]?[0-9]+)?\s*{_UNIT}?$|^[+-]?[.,][0-9]"
)
CODE = "^0[0-9]+$"  # its zeros count: the values are names
_LOOKS_DATED = r"^[0-9]{1,4}[./-][0-9]{1,2}[./-][0-9]{1,4}(?:[ T][0-9]{1,2}:[0-9]{2}.*)?$"
_DAYS = ("%Y-%m-%d", "%d-%m-%Y", "%m-%d-%Y", "%d-%m-%y", "%m-%d-%y")
_DIGITS = {"Y": "4", "y": "2", "M": "2", "S": "2"}
_TIMES = ("", " %H:%M", " %H:%M:%S")
DATE_FORMATS = tuple(day + time for time in _TIMES for day in _DAYS)


@dataclass(frozen=True)
class Style:
    """How numbers are written.

    Attributes
    ----------
    decimal : {".", ","}
    thousands : {"", ",", ".", " ", "'"}
        Between groups of three digits.
    unit : bool
        Whether a sign of currency or per cent before or after a number is taken off.
    """

    decimal: str = "."
    thousands: str = ""
    unit: bool = False

    @property
    def pattern(self) -> str:
        """Regular expression of a whole value."""
        point = re.escape(self.decimal)
        whole = "[0-9]+"
        if self.thousands:
            whole = rf"(?:[0-9]{{1,3}}(?:{_SEPARATORS[self.thousands]}[0-9]{{3}})+|[0-9]+)"
        number = rf"(?:{whole}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?"
        return rf"^[+-]?(?:{number}|(?i:inf|infinity))$"

    def __str__(self) -> str:
        parts = [f"decimal {'comma' if self.decimal == ',' else 'point'}"]
        if self.thousands:
            names = {",": "comma", ".": "point", " ": "space", "'": "apostrophe"}
            parts.append(f"thousands {names[self.thousands]}")
        if self.unit:
            parts.append("sign of currency or per cent taken off")
        return ", ".join(parts)


PLAIN = Style()
_STYLES = tuple(
    Style(decimal, thousands)
    for thousands in ("", ",", ".", " ", "'")
    for decimal in (".", ",")
    if decimal != thousands
)


def trimmed(values: Strings) -> Strings:
    """Without white space around, no-break spaces included."""
    import pyarrow.compute as pc

    return pc.utf8_trim_whitespace(values)


def is_missing(values: Strings, tokens: Iterable[str]) -> NDArray[np.bool_]:
    """Which (trimmed) values stand for no value."""
    import pyarrow.compute as pc

    return _mask(pc.is_in(pc.utf8_lower(values), strings(sorted(set(tokens)))))


def numbers(values: Strings, style: Style) -> NDArray[np.float64]:
    """Read (trimmed) values; NaN where one is no number in this style."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if style.unit:
        values = _without_unit(values)
    good = pc.match_substring_regex(values, style.pattern)
    if style.thousands:
        values = pc.replace_substring_regex(values, _SEPARATORS[style.thousands], "")
    if style.decimal == ",":
        values = pc.replace_substring(values, ",", ".")
    values = pc.utf8_ltrim(values, "+")
    values = pc.if_else(good, values, strings(["nan"])[0])
    return _arrow.values(pc.cast(values, pa.float64()), np.float64)


def dates(values: Strings, format: str) -> NDArray[np.datetime64]:
    """Read (trimmed) values, datetime64[s]; NaT where one is no date of this format."""
    import pyarrow.compute as pc

    plain = _plain_date(values)
    shape = re.sub("%(.)", lambda part: f"[0-9]{{{_DIGITS.get(part[1], '1,2')}}}", format)
    plain = pc.if_else(pc.match_substring_regex(plain, f"^{shape}$"), plain, strings([""])[0])
    parsed = pc.strptime(plain, format=format, unit="s", error_is_null=True)
    found = _arrow.values(parsed, "datetime64[s]").copy()
    found[~_arrow.valid(parsed)] = "NaT"
    return found


@dataclass
class Tally:
    """How many values of a column of text each way of reading it takes.

    Attributes
    ----------
    tokens : tuple of str
        What stands for no value, in lower case.
    decimal : {".", ","}
        Preferred where both fit equally well.
    """

    tokens: tuple[str, ...] = NO_VALUE
    decimal: str = "."
    present: int = 0  # values that are not missing
    codes: int = 0  # whole numbers with a leading zero
    _numbers: dict[Style, int] = field(default_factory=dict)
    _dates: dict[str, int] = field(default_factory=dict)

    def add(self, values: Strings, counts: NDArray[np.int64]) -> None:
        """Count (trimmed) different values, of which each is there so many times."""
        import pyarrow.compute as pc

        counts = np.where(is_missing(values, self.tokens), 0, counts)
        here = int(counts.sum())
        self.present += here
        self.codes += _count(pc.match_substring_regex(values, CODE), counts)
        if 2 * _count(pc.match_substring_regex(values, _LOOKS_NUMERIC), counts) >= here:
            bare = _without_unit(values)
            for style in _STYLES:
                for style_, texts in ((style, values), (replace(style, unit=True), bare)):
                    n = _count(pc.match_substring_regex(texts, style.pattern), counts)
                    self._numbers[style_] = self._numbers.get(style_, 0) + n
        if 2 * _count(pc.match_substring_regex(values, _LOOKS_DATED), counts) >= here:
            for format in DATE_FORMATS:
                n = int(counts[~np.isnat(dates(values, format))].sum())
                self._dates[format] = self._dates.get(format, 0) + n

    def best(self) -> Style | str | None:
        """The style of numbers, or the format of dates, that takes nearly all; None: text."""
        enough = ENOUGH * self.present
        if not self.present or self.codes:
            return None
        # max takes the first of equals: the decimal mark of the file, and as few others as possible.
        style = max(
            sorted(self._numbers, key=lambda s: (s.unit, s.decimal != self.decimal, s.thousands)),
            key=self._numbers.__getitem__,
            default=None,
        )
        if style is not None and self._numbers[style] >= enough:
            if style.unit and self._numbers.get(replace(style, unit=False), 0) >= enough:
                style = replace(style, unit=False)  # a unit in a few cells only is doubtful
            return style
        format = max(self._dates, key=self._dates.__getitem__, default=None)
        return format if format is not None and self._dates[format] >= enough else None

    @property
    def number_share(self) -> float:
        """Of the values that are not missing, in the style that takes most."""
        return max(self._numbers.values(), default=0) / max(self.present, 1)

    @property
    def ambiguous(self) -> str:
        """How else the values could be read just as well; empty: in no other way."""
        best = self.best()
        if isinstance(best, Style):
            # 1,234 is a thousand or about one: not the same as a mark that is not there at all.
            for other in (Style(","), Style(".", ",")):
                same = self._numbers.get(other) == self._numbers[best]
                plain = self._numbers.get(Style()) == self._numbers[best]
                if same and not plain and (other.decimal != best.decimal):
                    return str(other)
        elif isinstance(best, str) and "%d" in best:
            for d, m in (("%d-%m", "%m-%d"), ("%m-%d", "%d-%m")):
                other_date = best.replace(d, m, 1)
                if other_date != best and self._dates.get(other_date) == self._dates[best]:
                    return other_date
        return ""


def _without_unit(values: Strings) -> Strings:
    import pyarrow.compute as pc

    return pc.replace_substring_regex(values, rf"^([+-]?){_UNIT}\s*|\s*{_UNIT}$", r"\1")


def _plain_date(values: Strings) -> Strings:
    """Year, month, day with hyphens, a space before the time, no fraction and no Z."""
    import pyarrow.compute as pc

    values = pc.replace_substring_regex(values, r"^(\d+)[./-](\d+)[./-](\d+)", r"\1-\2-\3")
    values = pc.replace_substring_regex(values, r"^([\d-]+)T", r"\1 ")
    return pc.replace_substring_regex(values, r"(:\d\d)(?:\.\d+)?Z?$", r"\1")


def _mask(values: Any) -> NDArray[np.bool_]:
    return _arrow.values(values, bool) & _arrow.valid(values)


def _count(matches: Any, counts: NDArray[np.int64]) -> int:
    return int(counts[_mask(matches)].sum())
