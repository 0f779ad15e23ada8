"""What each column of a training table is taken for, and what of it the network sees.

Whether a column of text holds numbers, dates or names is decided from all of its rows; everything else
(centers, scales, categories) comes from the training rows only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.tables.columns import (
    codes_of,
    different,
    is_single,
    kind_of,
    moments_of,
    numbers_of,
    value_at,
)
from fastbp.tables.encoding import (
    CIRCLES,
    Category,
    Column,
    Date,
    Encoding,
    Number,
    _days,
    _from_epoch,
    _turns,
    _year,
)
from fastbp.tables.parts import Part, Parts
from fastbp.tables.texts import NO_VALUE, Style, Tally

__all__ = ["Fact", "Learnt", "Wishes", "learn"]

MAX_CATEGORIES = 100
FEW = 8  # categories: with more than these, those that a single row has count as rare
_SAMPLE = 50_000  # training rows that medians and quartiles are taken from
_CELLS = 1 << 22  # numbers that are looked at together
_MOST_VALUES = 50_000  # different texts that are remembered of a column
_MOST_WORDS = 20
_FEW_NUMBERS = 10  # whole numbers of so many different values may be names


@dataclass(frozen=True)
class Wishes:
    """What the user wants of columns.

    Attributes
    ----------
    cat_features : collection of str
        Columns that are categories, whatever is in them.
    keep : collection of str
        Columns that are used though they would be left out.
    tokens : tuple of str
        Cells, in lower case, that stand for no value beside the usual ones.
    scaling : {"robust", "standard"}
    max_categories : int
        Values of a column that have an input of their own; the others share one.
    decimal : {".", ","}
        Of the files, where a column does not tell.
    """

    cat_features: Collection[str] = ()
    keep: Collection[str] = ()
    tokens: tuple[str, ...] = ()
    scaling: str = "robust"
    max_categories: int = MAX_CATEGORIES
    decimal: str = "."


@dataclass
class Fact:
    """A line of the overview: what a column is taken for."""

    name: str
    kind: str
    values: str = ""
    missing: int = 0
    inputs: int = 0


@dataclass
class Learnt:
    """An encoding, what it says of every column, and what the user should know."""

    encoding: Encoding
    facts: list[Fact]
    notes: list[str] = field(default_factory=list)


def learn(
    parts: Parts,
    names: Sequence[str],
    wishes: Wishes,
    training: NDArray[np.bool_] | None = None,
) -> Learnt:
    """Learn from a table.

    Parameters
    ----------
    parts : Parts
    names : sequence of str
        Columns to look at.
    wishes : Wishes
    training : ndarray of bool, shape (rows,), or None
        Which rows to learn from; None: all.

    Raises
    ------
    ValueError
        If a wish names no column, or a number is infinite.
    """
    for wish in (*wishes.cat_features, *wishes.keep):
        if wish not in names:
            raise ValueError(nearest_name("column", wish, names))
    return _Learner(parts, names, wishes, training).learn()


class _Learner:
    """The steps of `learn`, and what they have in common."""

    def __init__(
        self,
        parts: Parts,
        names: Sequence[str],
        wishes: Wishes,
        training: NDArray[np.bool_] | None,
    ) -> None:
        self.parts, self.names, self.wishes = parts, names, wishes
        self.training = np.ones(parts.rows, bool) if training is None else training
        self.rows = int(self.training.sum())
        self.tokens = (*NO_VALUE, *wishes.tokens)
        self.columns: dict[str, Column] = {}
        self.facts: dict[str, Fact] = {}
        self.notes: list[str] = []

    def learn(self) -> Learnt:
        kinds = self._kinds()
        styles: dict[str, Style | str] = {}
        for name, tally in self._tallies([n for n in self.names if kinds[n] == "text"]).items():
            found = tally.best()
            if found is None:
                kinds[name] = "category"
                if tally.number_share >= 0.5 and not tally.codes:
                    self._say_mostly_numbers(name, tally)
                continue
            kinds[name] = "number" if isinstance(found, Style) else "date"
            styles[name] = found
            if tally.ambiguous:
                self.notes.append(
                    f"column {name!r} is read with {found}; {tally.ambiguous} would do as well"
                )
        numbers = [n for n in self.names if kinds[n] == "number"]
        self._learn_numbers({n: styles.get(n, Style()) for n in numbers})  # type: ignore[misc]
        dates = [n for n in self.names if kinds[n] == "date"]
        self._learn_dates({n: str(styles.get(n, "")) for n in dates})
        self._learn_categories([n for n in self.names if kinds[n] == "category"])
        for name in self.names:
            if kinds[name] == "empty":
                self.facts[name] = Fact(name, "left out: no values", missing=self.rows)
            elif kinds[name] == "other":
                self.facts[name] = Fact(name, "left out: neither numbers, names nor dates")
        columns = tuple(self.columns[n] for n in self.names if n in self.columns)
        for name, column in self.columns.items():
            self.facts[name].inputs = len(column.inputs)
        encoding = Encoding(columns, self.wishes.scaling == "robust", self.wishes.tokens)
        return Learnt(encoding, [self.facts[n] for n in self.names], self.notes)

    def _kinds(self) -> dict[str, str]:
        """Kind of every column: the first part that has values tells."""
        kinds: dict[str, str] = dict.fromkeys(self.names, "empty")
        for part in self.parts:
            unknown = [n for n in self.names if kinds[n] == "empty"]
            if not unknown:
                break
            for name in unknown:
                kinds[name] = kind_of(part.columns[name])
        for name in self.names:
            if name in self.wishes.cat_features:
                kinds[name] = "category"
            elif _unnamed(name) and name not in self.wishes.keep:
                kinds[name] = "unnamed"
                self.facts[name] = Fact(name, "left out: a column without a name")
        return kinds

    def _tallies(self, names: Sequence[str]) -> dict[str, Tally]:
        tallies = {n: Tally(self.tokens, self.wishes.decimal) for n in names}
        if names:
            for part in self.parts:
                for name, tally in tallies.items():
                    column = part.columns[name]
                    if kind_of(column) == "text":
                        tally.add(*different(column)[:2])
        return tallies

    def _say_mostly_numbers(self, name: str, tally: Tally) -> None:
        style = max(tally._numbers, key=tally._numbers.__getitem__)
        for part in self.parts:
            _, bad = numbers_of(part.columns[name], style, self.tokens)
            if bad is not None and bad.any():
                row = int(bad.argmax())
                value = value_at(part.columns[name], row)
                self.notes.append(
                    f"column {name!r} is taken for text: {tally.number_share:.0%} of its values are "
                    f"numbers, but not that of {part.place(row)}: {_short(value)}; missing names cells "
                    "that mean no value"
                )
                return

    def _training_slices(
        self, names: Iterable[str], most: int = 1 << 62
    ) -> Iterator[tuple[Part, NDArray[np.bool_]]]:
        """All rows of some columns, at most so many at a time; and the mask of those to learn from."""
        first = 0
        for whole in self.parts:
            for start in range(0, whole.rows, most):
                part = whole.slice(start, min(start + most, whole.rows), names)
                yield part, self.training[first : first + part.rows]
                first += part.rows

    # Numbers

    def _learn_numbers(self, styles: dict[str, Style]) -> None:
        names = list(styles)
        step = max(_CELLS // max(min(self.rows, _SAMPLE), 1), 1)
        hints: list[str] = []
        for start in range(0, len(names), step):
            hints += self._learn_some_numbers({n: styles[n] for n in names[start : start + step]})
        if hints:
            few = ", ".join(hints[:5]) + (f" and {len(hints) - 5:,} more" if len(hints) > 5 else "")
            self.notes.append(
                f"whole numbers with few different values, taken as numbers: {few}; "
                "cat_features takes them as names"
            )

    def _learn_some_numbers(self, styles: dict[str, Style]) -> list[str]:
        k = len(styles)
        low, high = np.full(k, np.inf), np.full(k, -np.inf)
        missing = np.zeros(k, np.int64)
        precision = np.full(k, np.finfo(np.float64).eps)
        sample = np.empty((k, min(self.rows, _SAMPLE)))
        chosen = _chosen_rows(self.rows, _SAMPLE)
        words: dict[str, _Words] = {n: _Words() for n in styles}
        seen = taken = 0
        most = max(_CELLS // 4 // k, 512)
        room = np.empty(
            (k, min(most, self.parts.rows))
        )  # the same for all slices: new memory is slow
        for part, mask in self._training_slices(styles, most):
            M = room[:, : part.rows]
            for i, (name, style) in enumerate(styles.items()):
                raw = part.columns[name]
                M[i], bad = numbers_of(raw, style, self.tokens)
                if bad is not None:
                    words[name].add(part, name, bad)
                if is_single(raw):
                    precision[i] = np.finfo(np.float32).eps
            self._refuse_infinite(M, part, list(styles))
            here = int(mask.sum())
            if here < part.rows:
                M[:, ~mask] = np.nan
            missing += np.isnan(M).sum(axis=1) - (part.rows - here)
            np.fmin(low, np.fmin.reduce(M, axis=1, initial=np.inf), out=low)
            np.fmax(high, np.fmax.reduce(M, axis=1, initial=-np.inf), out=high)
            wanted = chosen[(chosen >= seen) & (chosen < seen + here)] - seen
            rows = np.flatnonzero(mask)[wanted]
            whole = len(rows) == part.rows
            sample[:, taken : taken + len(rows)] = M if whole else M[:, rows]
            taken += len(rows)
            seen += here
        center, scale = _center_and_scale(sample, low, high, precision, self.wishes.scaling)
        with np.errstate(invalid="ignore", over="ignore"):
            may_be_few = (high - low <= 4 * _FEW_NUMBERS) & (low % 1 == 0) & (high % 1 == 0)
        hints = []
        for i, name in enumerate(styles):
            fact = self.facts[name] = Fact(name, "number", missing=int(missing[i]))
            words[name].report(name, self.notes)
            if low[i] > high[i]:
                fact.kind = "left out: no values"
            elif scale[i] == 0 and not missing[i]:
                fact.kind, fact.values = "left out: constant", f"{low[i]:.6g}"
            else:
                fact.values = f"{low[i]:.6g} … {high[i]:.6g}"
                self.columns[name] = Number(
                    name,
                    float(center[i]),
                    float(scale[i]),
                    bool(missing[i]),
                    styles[name],
                    words[name].told,
                )
                if self._counts_rows(sample[i], low[i], high[i]):
                    self.notes.append(
                        f"column {name!r} counts the rows; leave it out if it means nothing"
                    )
                elif may_be_few[i] and _few_whole(sample[i]):
                    hints.append(name)
        return hints

    def _refuse_infinite(self, M: NDArray[np.float64], part: Part, names: list[str]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            sums = M.sum(axis=1)
        for i in np.flatnonzero(~np.isfinite(sums)):
            infinite = np.isinf(M[i])
            if infinite.any():
                raise ValueError(
                    f"{part.place(int(infinite.argmax()))}, column {names[i]!r}: the number is "
                    "infinite; mend it, or leave the column out"
                )

    def _counts_rows(self, sample: NDArray[np.float64], low: float, high: float) -> bool:
        n = self.parts.rows
        return bool(
            n > _FEW_NUMBERS
            and low in (0, 1)
            and n - 3 <= high - low <= n
            and (np.diff(sample) > 0).all()
            and (sample == np.rint(sample)).all()
        )

    # Dates

    def _learn_dates(self, formats: dict[str, str]) -> None:
        for name, format in formats.items():
            pieces = []
            words = _Words()
            for part, mask in self._training_slices([name]):
                moments, bad = moments_of(part.columns[name], format, self.tokens)
                if bad is not None:
                    words.add(part, name, bad)
                pieces.append(moments[mask])
            moments = np.concatenate(pieces)
            missing = int(np.isnat(moments).sum())
            fact = self.facts[name] = Fact(name, "date", missing=missing)
            words.report(name, self.notes)
            moments = moments[~np.isnat(moments)]
            if not len(moments):
                fact.kind = "left out: no values"
                continue
            first, last = moments.min(), moments.max()
            days = bool((_from_epoch(moments, "D") == _days(moments)).all())
            shown = [str(m.astype("datetime64[D]") if days else m) for m in (first, last)]
            fact.values = " … ".join(shown)
            if first == last and not missing:
                fact.kind = "left out: constant"
                continue
            self.columns[name] = Date(
                name,
                self._spread(_days(moments)),
                self._spread(_year(moments)) if len(np.unique(_year(moments))) > 1 else None,
                tuple(c for c in CIRCLES if len(np.unique(_turns(moments, c))) > 1),
                bool(missing),
                format,
                words.told,
            )

    def _spread(self, values: NDArray[np.float64]) -> tuple[float, float]:
        sample = values[None, _chosen_rows(len(values), _SAMPLE)]
        low, high = values.min(keepdims=True), values.max(keepdims=True)
        eps = np.full(1, np.finfo(np.float64).eps)
        center, scale = _center_and_scale(sample, low, high, eps, self.wishes.scaling)
        return float(center[0]), float(scale[0])

    # Categories

    def _learn_categories(self, names: Sequence[str]) -> None:
        counts: dict[str, Counter[str]] = {n: Counter() for n in names}
        missing = dict.fromkeys(names, 0)
        if names:
            for part, mask in self._training_slices(names):
                for name in names:
                    missing[name] += self._count(part.columns[name], mask, counts[name])
        for name in names:
            self._learn_category(name, counts[name], missing[name])

    def _count(self, column: Any, mask: NDArray[np.bool_], counts: Counter[str]) -> int:
        """Add the texts of a part's training rows; return how many are missing."""
        indices, values = codes_of(column, self.wishes.tokens)
        here = np.bincount(indices[mask], minlength=len(values))
        missing = 0
        full = len(counts) >= _MOST_VALUES
        for i in np.flatnonzero(here):
            value, n = values[i], int(here[i])
            if value is None:
                missing += n
            elif not full or value in counts or n > 1:
                counts[value] += n
        return missing

    def _learn_category(self, name: str, counts: Counter[str], missing: int) -> None:
        fact = self.facts[name] = Fact(name, "category", missing=missing)
        present = self.rows - missing
        forced = name in self.wishes.cat_features or name in self.wishes.keep
        few = sorted(counts)[:3]
        shown = ", ".join(map(_plain_short, few)) + (", …" if len(counts) > 3 else "")
        fact.values = f"{len(counts):,}: {shown}"
        if not counts:
            fact.kind, fact.values = "left out: no values", ""
        elif len(counts) == 1 and not missing:
            fact.kind = "left out: constant"
        elif 2 * len(counts) > present and len(counts) > _FEW_NUMBERS and not forced:
            fact.kind = "left out: text, mostly unique"
            self.notes.append(
                f"column {name!r} is left out: {len(counts):,} different texts in {present:,} rows; "
                "cat_features takes it as categories"
            )
        else:
            self.columns[name] = self._category(name, counts, bool(missing))

    def _category(self, name: str, counts: Counter[str], missing: bool) -> Category:
        by_count = sorted(counts, key=lambda text: (-counts[text], text))
        if len(by_count) > FEW:
            by_count = [text for text in by_count if counts[text] > 1]
        own = sorted(by_count[: self.wishes.max_categories])
        rare = len(own) < len(counts)
        return Category(name, tuple(own), rare, missing)


class _Words:
    """Values that a column of numbers or dates could not take, and so count as missing."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""
        self.words: set[str] = set()

    def add(self, part: Part, name: str, bad: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(bad)
        if not len(rows):
            return
        if not self.count:
            value = value_at(part.columns[name], int(rows[0]))
            self.first = f"{part.place(int(rows[0]))}: {_short(value)}"
        self.count += len(rows)
        for row in rows[:1000]:
            self.words.add(str(value_at(part.columns[name], int(row))).strip().lower())

    @property
    def told(self) -> tuple[str, ...]:
        return tuple(sorted(self.words)[:_MOST_WORDS])

    def report(self, name: str, notes: list[str]) -> None:
        if self.count:
            what = "value is" if self.count == 1 else "values are"
            notes.append(
                f"column {name!r}: {self.count:,} {what} taken as missing, the first in {self.first}"
            )


def _unnamed(name: str) -> bool:
    """Row numbers and row names have no name in files, or one that pandas gave them."""
    head, _, number = name.rpartition("unnamed_" if name.startswith("unnamed_") else "Unnamed: ")
    return not head and name != number and number.replace(".", "").isdecimal()


def _chosen_rows(rows: int, most: int) -> NDArray[np.int64]:
    """Rows of a sample, in order: all, or so many at random, the same for every table."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _center_and_scale(
    sample: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    precision: NDArray[np.float64],
    scaling: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every row of `sample` (a column of the table): median and 1 / (q₇₅ − q₂₅), or the like.

    A column that is constant but for rounding has scale 0.
    """
    rounding = 16 * precision * np.maximum(np.abs(low), np.abs(high))
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.where(high > low, high - low, 0)
        constant = (spread <= rounding) | ~(high > low)
    center = np.where(high >= low, low / 2 + high / 2, 0)
    if scaling == "standard":
        with np.errstate(all="ignore"):
            present = ~np.isnan(sample)
            n = np.maximum(present.sum(axis=1), 1)
            mean = np.where(present, sample, 0).sum(axis=1) / n
            away = np.where(present, sample - mean[:, None], 0)
            scale = 1 / np.sqrt(np.square(away).sum(axis=1) / n)
        center = np.where(constant, center, mean)
    else:
        q25, center, q75 = _quartiles(sample, center)
        with np.errstate(all="ignore"):
            scale = np.where(q75 - q25 > rounding, 1 / (q75 - q25), 2 / spread)
    scale = np.where(constant | ~np.isfinite(scale), 0, scale)
    return center, scale


def _quartiles(
    sample: NDArray[np.float64], where_empty: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """25, 50 and 75 % of the numbers in each row, between neighbours as `np.quantile` does."""
    n = sample.shape[1]
    found = [where_empty.copy() for _ in range(3)]
    gaps = np.isnan(sample)
    counts = n - gaps.sum(axis=1)
    if n <= 4096:
        ordered = np.sort(sample, axis=1)  # NaN last
        rows = np.flatnonzero(counts)
        for q, out in zip((0.25, 0.5, 0.75), found, strict=True):
            place = q * (counts[rows] - 1)
            below = np.floor(place).astype(np.int64)
            above = np.ceil(place).astype(np.int64)
            a, b = ordered[rows, below], ordered[rows, above]
            out[rows] = _between(a, b, place - below)
        return found
    for i in np.flatnonzero(counts):
        values = sample[i][~gaps[i]] if counts[i] < n else sample[i]
        places = [q * (counts[i] - 1) for q in (0.25, 0.5, 0.75)]
        kth = sorted({int(f(place)) for place in places for f in (np.floor, np.ceil)})
        ordered = np.partition(values, kth)
        for place, out in zip(places, found, strict=True):
            a, b = ordered[int(np.floor(place))], ordered[int(np.ceil(place))]
            out[i] = _between(a, b, place % 1)
    return found


def _between(a: Any, b: Any, t: Any) -> Any:
    return np.where(a == b, a, (1 - t) * a + t * b)  # of ±1e308, too, without overflow


def _few_whole(sample: NDArray[np.float64]) -> bool:
    values = sample[:20_000]
    values = np.unique(values[~np.isnan(values)])
    few = 2 < len(values) <= min(_FEW_NUMBERS, len(sample) // 4)
    return few and bool((values == np.rint(values)).all())


def _short(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _plain_short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 20 else text[:19] + "…"
