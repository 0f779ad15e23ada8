"""From a table's columns to the inputs of a network: numbers, then columns as they are, then codes.

What columns are taken for is decided by `fastbp.tables`. A category with few values becomes a column for
each (one of ±1 where there are two), one with many a code, 0 for what is missing or new. All columns
that are not codes are scaled by their quartiles and clipped smoothly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastbp.tables.columns import value_at
from fastbp.tables.encoding import Bad, Category, Date, Encoding, Number, within
from fastbp.tables.learning import MAX_CATEGORIES, Fact, Learnt, Wishes, _center_and_scale, learn
from fastbp.tables.parts import Part, Parts

__all__ = ["FEW", "Inputs", "learn_inputs", "notes_of"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

FEW = 8  # values of a category that have a column each
MOST_CODES = 10_000
_SAMPLE = 50_000


@dataclass(frozen=True)
class Inputs:
    """What was learnt of a table's columns.

    Attributes
    ----------
    encoding : Encoding or None
        Of the columns that are not coded; None where there are none.
    coded : tuple of Category
    numbers : tuple of int
        Inputs of the encoding that are numbers.
    plain : tuple of (int, int)
        The others: an input, and one to subtract from it, or −1.
    scaling : tuple of (float, float)
        Center and scale of each of the others.
    """

    encoding: Encoding | None
    coded: tuple[Category, ...]
    numbers: tuple[int, ...]
    plain: tuple[tuple[int, int], ...]
    scaling: tuple[tuple[float, float], ...] = ()

    @property
    def levels(self) -> tuple[int, ...]:
        """Rows of a table of vectors for each code."""
        return tuple(len(column.inputs) + 1 for column in self.coded)

    @property
    def names(self) -> list[str]:
        """Of the columns that are used."""
        plain = self.encoding.names if self.encoding is not None else []
        return [*plain, *(column.name for column in self.coded)]

    @property
    def texts(self) -> list[str]:
        """Names of the columns that are names, and so must be read as text."""
        plain = self.encoding.texts if self.encoding is not None else []
        return [*plain, *(column.name for column in self.coded)]

    @property
    def width(self) -> int:
        """Inputs of the network."""
        return len(self.numbers) + len(self.plain) + len(self.coded) or 1

    @cached_property
    def inputs(self) -> list[str]:
        """Names of the inputs of the network."""
        known = self.encoding.inputs if self.encoding is not None else []
        plain = [known[j] for j in (*self.numbers, *(a for a, _ in self.plain))]
        return [*plain, *(column.name for column in self.coded)] or ["(nothing)"]

    @cached_property
    def columns(self) -> list[str]:
        """Of every input the column that it is of."""
        encoding = self.encoding
        of = [] if encoding is None else [c.name for c in encoding.columns for _ in c.inputs]
        plain = [of[j] for j in (*self.numbers, *(a for a, _ in self.plain))]
        return [*plain, *(column.name for column in self.coded)] or ["(nothing)"]

    @cached_property
    def _of_numbers(self) -> tuple[list[str], Array, Array, bool] | None:
        """Names, centers, scales of the columns, where all are numbers that are never missing; clip."""
        encoding = self.encoding
        if encoding is None or self.plain or self.coded:
            return None
        columns = [c for c in encoding.columns if isinstance(c, Number)]
        if len(columns) < len(encoding.columns):
            return None
        center, scale = (np.array([getattr(c, k) for c in columns]) for k in ("center", "scale"))
        return [c.name for c in columns], center, scale, encoding.clip

    def of_array(self, X: Array, names: Sequence[str]) -> Floats | None:
        """Inputs of an array of finite numbers with columns of these names, or None: ask `matrix`.

        The same bits as `matrix`, in a fraction of its time where rows are few.
        """
        if self._of_numbers is None:
            return None
        used, center, scale, clip = self._of_numbers
        if len(used) < len(names):
            places = {name: j for j, name in enumerate(names)}
            X = X[:, [places[name] for name in used]]
        with np.errstate(over="ignore", invalid="ignore"):
            t = X.astype(np.float64)
            t -= center
            t *= scale
            if not np.isfinite(t).all():
                return None
            within(t, clip)
        return t.astype(np.float32, order="C")

    def matrix(self, parts: Parts) -> Floats:
        """Inputs of all rows, shape (rows, width).

        Raises
        ------
        ValueError
            If a column is missing, or a value cannot be taken: the message names row, column, value.
        """
        X = np.empty((parts.rows, self.width), np.float32)
        first = 0
        for part in parts:
            _, bad = self.encode(part, out=X[first : first + part.rows])
            for b in bad:
                row = int(b.rows.argmax())
                value = value_at(part.columns[b.name], row)
                raise ValueError(f"{part.place(row)}, column {b.name!r}: {value!r} {b.reason}")
            first += part.rows
        return X

    def encode(
        self, part: Part, rows: NDArray[np.int64] | None = None, out: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], list[Bad]]:
        """Compute the inputs of a part's rows; as `fastbp.tables.encoding.Encoding.encode`."""
        X = out
        if X is None:
            X = np.empty((part.rows if rows is None else len(rows), self.width), np.float32)
        X[:, len(self.numbers) + len(self.plain) :] = 0  # where there is no column at all
        bad: list[Bad] = []
        at = len(self.numbers)
        if self.encoding is not None:
            values, bad = self.encoding.encode(part, rows)
            X[:, :at] = values[:, list(self.numbers)]
            X[:, at : at + len(self.plain)] = self._plain_of(values)
        tokens = self.encoding.tokens if self.encoding is not None else ()
        for j, column in enumerate(self.coded, at + len(self.plain)):
            codes = column.codes(part, tokens)
            X[:, j] = codes if rows is None else codes[rows]
        return X, bad

    def _plain_of(self, values: NDArray[Any]) -> NDArray[Any]:
        if not self.plain:
            return values[:, :0]
        plus, minus = np.array(self.plain).T
        x = values[:, plus]
        pairs = np.flatnonzero(minus >= 0)
        x[:, pairs] -= values[:, minus[pairs]]
        if self.scaling:
            center, scale = np.array(self.scaling, np.float32).T
            x -= center
            x *= scale
            x /= np.sqrt(1 + (x / 3) ** 2)
        return x

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, for JSON."""
        coded = Encoding(self.coded, True, ()).to_dict() if self.coded else None
        return {
            "encoding": None if self.encoding is None else self.encoding.to_dict(),
            "coded": coded,
            "numbers": list(self.numbers),
            "plain": [list(pair) for pair in self.plain],
            "scaling": [list(pair) for pair in self.scaling],
        }

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            If it is anything else than what `to_dict` returns.
        """
        try:
            encoding = None if data["encoding"] is None else Encoding.from_dict(data["encoding"])
            coded = () if data["coded"] is None else Encoding.from_dict(data["coded"]).columns
            made = cls(
                encoding,
                tuple(c for c in coded if isinstance(c, Category)),
                tuple(int(j) for j in data["numbers"]),
                tuple((int(a), int(b)) for a, b in data["plain"]),
                tuple((float(a), float(b)) for a, b in data["scaling"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the inputs are not described: {error}") from None
        known = range(0 if encoding is None else len(encoding.inputs))
        used = [*made.numbers, *(a for a, _ in made.plain), *(b for _, b in made.plain if b != -1)]
        if not set(used) <= set(known) or len(made.scaling) not in (0, len(made.plain)):
            raise ValueError("the inputs are not those of the encoding")
        return made


def learn_inputs(
    parts: Parts,
    names: Sequence[str],
    wishes: Wishes,
    training: NDArray[np.bool_] | None = None,
    *,
    codes: bool,
    scaled: bool,
) -> tuple[Inputs, Learnt]:
    """Learn from a table's rows.

    Parameters
    ----------
    parts : Parts
    names : sequence of str
        Columns to look at.
    wishes : Wishes
        How many categories may have an input each is decided here.
    training : ndarray of bool, shape (rows,), or None
        Which rows to learn from; None: all.
    codes : bool
        Whether categories with many values become codes.
    scaled : bool
        Whether what is not a number is scaled, too.

    Returns
    -------
    Inputs
    Learnt
        What the columns were taken for, and what the user may want to know.
    """
    most = MOST_CODES if codes else MAX_CATEGORIES
    learnt = learn(parts, names, replace(wishes, max_categories=most), training)
    columns = learnt.encoding.columns
    coded = tuple(c for c in columns if codes and isinstance(c, Category) and len(c.inputs) > FEW)
    others = tuple(c for c in columns if c not in coded)
    numbers: list[int] = []
    plain: list[tuple[int, int]] = []
    at = 0
    for column in others:
        here, at = at, at + len(column.inputs)
        rest = here
        if isinstance(column, Number):
            numbers.append(here)
            rest = here + 1
        elif isinstance(column, Date):
            rest = here + 1 + (column.year is not None)
            numbers += range(here, rest)
        elif len(column.categories) == 2 and not column.rare:
            plain.append((here, here + 1))
            rest = here + 2
        plain += [(j, -1) for j in range(rest, at)]
    encoding = Encoding(others, True, learnt.encoding.tokens) if others else None
    made = Inputs(encoding, coded, tuple(numbers), tuple(plain))
    for fact in learnt.facts:
        if fact.name in {c.name for c in coded}:
            fact.inputs = 1
    if scaled and plain:
        X = made.matrix(parts)[:, len(numbers) : len(numbers) + len(plain)]
        if training is not None and not training.all():
            X = X[training]
        rows = np.random.default_rng(0).permutation(len(X))[:_SAMPLE]
        sample = np.ascontiguousarray(X[rows].T.astype(np.float64))
        eps = np.full(len(sample), float(np.finfo(np.float32).eps))
        low, high = X.min(axis=0).astype(float), X.max(axis=0).astype(float)
        center, scale = _center_and_scale(sample, low, high, eps, "robust")
        scaling = tuple(zip(center.tolist(), scale.tolist(), strict=True))
        made = Inputs(encoding, coded, tuple(numbers), tuple(plain), scaling)
    return made, learnt


def notes_of(learnt: Learnt) -> list[str]:
    """What the user of an estimator may want to know of the columns."""
    return [*learnt.notes, *_left_out(learnt.facts)]


def _left_out(facts: Sequence[Fact]) -> list[str]:
    """A note for each reason to leave columns out, but for those that have one of their own."""
    by_reason: dict[str, list[str]] = {}
    for fact in facts:
        said, _, reason = fact.kind.partition(": ")
        if said == "left out" and "unique" not in reason:
            by_reason.setdefault(reason, []).append(repr(fact.name))
    return [
        f"left out: {', '.join(names[:5])}"
        + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
        + f" ({reason})"
        for reason, names in by_reason.items()
    ]
