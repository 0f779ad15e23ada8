"""From a table's columns to the inputs of a network: numbers, then columns as they are, then codes.

What columns are taken for is decided by `fastbp.tables`. A category with few values becomes a column for
each (one of ±1 where there are two), one with many a code, 0 for what is missing or new. All columns
that are not codes are scaled by their quartiles and clipped smoothly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastbp.tables.columns import value_at
from fastbp.tables.encoding import Category, Date, Encoding, Number
from fastbp.tables.learning import MAX_CATEGORIES, Fact, Wishes, _center_and_scale, learn
from fastbp.tables.parts import Part, Parts

__all__ = ["FEW", "Inputs", "learn_inputs"]

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
    def width(self) -> int:
        """Inputs of the network."""
        return len(self.numbers) + len(self.plain) + len(self.coded) or 1

    def encode(self, parts: Parts) -> Floats:
        """Inputs of all rows, shape (rows, width).

        Raises
        ------
        ValueError
            If a column is missing, or a value cannot be taken: the message names row, column, value.
        """
        X = np.zeros((parts.rows, self.width), np.float32)
        first = 0
        for part in parts:
            self._encode_part(part, X[first : first + part.rows])
            first += part.rows
        return X

    def _encode_part(self, part: Part, X: Floats) -> None:
        at = len(self.numbers)
        if self.encoding is not None:
            values, bad = self.encoding.encode(part)
            for b in bad:
                row = int(b.rows.argmax())
                value = value_at(part.columns[b.name], row)
                raise ValueError(f"{part.place(row)}, column {b.name!r}: {value!r} {b.reason}")
            X[:, :at] = values[:, list(self.numbers)]
            for j, (plus, minus) in enumerate(self.plain, at):
                X[:, j] = values[:, plus] - values[:, minus] if minus >= 0 else values[:, plus]
                if self.scaling:
                    center, scale = self.scaling[j - at]
                    t = (X[:, j] - center) * scale
                    X[:, j] = t / np.sqrt(1 + (t / 3) ** 2)
        tokens = self.encoding.tokens if self.encoding is not None else ()
        for j, column in enumerate(self.coded, at + len(self.plain)):
            X[:, j] = column.codes(part, tokens)

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
    parts: Parts, names: Sequence[str], cat_features: Sequence[str], *, codes: bool, scaled: bool
) -> tuple[Inputs, list[str]]:
    """Learn from a table's rows.

    Parameters
    ----------
    parts : Parts
    names, cat_features : sequence of str
        Columns to look at, and those of them that are categories whatever is in them.
    codes : bool
        Whether categories with many values become codes.
    scaled : bool
        Whether what is not a number is scaled, too.

    Returns
    -------
    Inputs
    list of str
        What the user may want to know.
    """
    most = MOST_CODES if codes else MAX_CATEGORIES
    learnt = learn(parts, names, Wishes(cat_features, max_categories=most))
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
    if scaled and plain:
        X = made.encode(parts)[:, len(numbers) : len(numbers) + len(plain)]
        rows = np.random.default_rng(0).permutation(len(X))[:_SAMPLE]
        sample = np.ascontiguousarray(X[rows].T.astype(np.float64))
        eps = np.full(len(sample), float(np.finfo(np.float32).eps))
        low, high = X.min(axis=0).astype(float), X.max(axis=0).astype(float)
        center, scale = _center_and_scale(sample, low, high, eps, "robust")
        scaling = tuple(zip(center.tolist(), scale.tolist(), strict=True))
        made = Inputs(encoding, coded, tuple(numbers), tuple(plain), scaling)
    return made, [*learnt.notes, *_left_out(learnt.facts)]


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
