"""The column to predict: classes or numbers, as the network takes them and as the user reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.tables.columns import (
    codes_of,
    different,
    kind_of,
    numbers_of,
    plain_numbers,
    value_at,
)
from fastbp.tables.parts import Parts
from fastbp.tables.texts import NO_VALUE, PLAIN, Style, Tally

__all__ = ["Target", "learn_target"]

MOST_AUTO_CLASSES = 20  # whole numbers with at most so many different ones are taken for classes
MOST_CLASSES = 5000

Label = str | int | float


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Attributes
    ----------
    name : str
    classes : tuple of str, int or float, or None
        The different values, sorted; None for regression.
    center, scale : float
        Of a regression's target: the network predicts (y − center) / scale.
    style : Style
        How text is read as numbers.
    """

    name: str
    classes: tuple[Label, ...] | None
    center: float = 0.0
    scale: float = 1.0
    style: Style = PLAIN

    def read(self, column: Any, tokens: tuple[str, ...] = ()) -> NDArray[Any]:
        """A column of another table: class indices, −1 where new or missing; or numbers, or NaN."""
        if self.classes is None:
            values, _ = numbers_of(column, self.style, (*NO_VALUE, *tokens))
            return np.where(np.isfinite(values), values, np.nan)
        known = {str(label): i for i, label in enumerate(self.classes)}
        if isinstance(self.classes[0], str):
            indices, texts = codes_of(column, tokens)
            return np.array([known.get(t, -1) if t is not None else -1 for t in texts])[indices]
        values, _ = numbers_of(column, self.style, (*NO_VALUE, *tokens))
        different, indices = np.unique(np.nan_to_num(values, nan=np.inf), return_inverse=True)
        found = [known.get(str(_plain(v)), -1) if np.isfinite(v) else -1 for v in different]
        return np.array(found)[indices]

    def fitted(self, y: NDArray[Any]) -> Self:
        """With mean and standard deviation of the training rows' numbers."""
        if self.classes is not None:
            return self
        center, scale = float(y.mean()), float(y.std())
        rounding = 16 * np.finfo(np.float64).eps * abs(center)
        return replace(self, center=center, scale=scale if scale > rounding else 1.0)

    def scaled(self, y: NDArray[Any]) -> NDArray[Any]:
        """Class indices as they are, (y − center) / scale of numbers."""
        return y if self.classes is not None else (y - self.center) / self.scale

    def answers(self, prediction: NDArray[Any]) -> NDArray[Any]:
        """Classes, or numbers on the scale of the target, from what the network predicts."""
        if self.classes is None:
            return prediction.astype(np.float64).reshape(-1) * self.scale + self.center
        labels: NDArray[Any] = self.labels()[prediction]
        return labels

    def labels(self) -> NDArray[Any]:
        """Return the classes as an array."""
        assert self.classes is not None
        kinds = {type(label) for label in self.classes}
        return np.array(self.classes, None if len(kinds) == 1 else object)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, for JSON."""
        classes = None if self.classes is None else list(self.classes)
        return {"name": self.name, "classes": classes, "center": self.center, "scale": self.scale}

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            If it is anything else than what `to_dict` returns.
        """
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            raise ValueError("the target has no name")
        classes = data.get("classes")
        if classes is not None:
            plain = isinstance(classes, list) and all(
                isinstance(c, str) or (type(c) in (int, float) and math.isfinite(c))
                for c in classes
            )
            if not plain or len(classes) < 2 or len(set(classes)) < len(classes):
                raise ValueError("the target's classes are no list of different labels")
        numbers: list[Any] = [data.get("center"), data.get("scale")]
        if not all(type(v) in (int, float) and math.isfinite(v) for v in numbers) or not numbers[1]:
            raise ValueError("the target has no center or no scale")
        center, scale = map(float, numbers)
        return cls(data["name"], None if classes is None else tuple(classes), center, scale)


def learn_target(
    parts: Parts, name: str, task: str = "auto", tokens: tuple[str, ...] = (), decimal: str = "."
) -> tuple[Target, NDArray[Any], list[str]]:
    """Decide what the target is, and read it.

    Parameters
    ----------
    parts : Parts
    name : str
        Of the target's column.
    task : {"auto", "classification", "regression"}
    tokens : tuple of str
        Cells, in lower case, that stand for no value beside the usual ones.
    decimal : {".", ","}
        Of the files, where the column does not tell.

    Returns
    -------
    Target
        Not yet fitted.
    ndarray of shape (rows,)
        Class indices, −1 where missing; or numbers, NaN where missing.
    list of str
        What the user should know.

    Raises
    ------
    ValueError
        If there is nothing to learn: the column is not there, is empty or constant, or is no target.
    """
    if name not in parts.names:
        raise ValueError(nearest_name("column", name, parts.names))
    kinds = {kind_of(part.columns[name]) for part in parts} - {"empty"}
    if not kinds:
        raise ValueError(f"target {name!r} has no values: all of its cells are missing")
    if kinds & {"date", "other"}:
        raise ValueError(f"target {name!r} holds neither numbers nor names")
    style = Style()
    if "text" in kinds and decimal == "." and _all_plain(parts, name, tokens):
        kinds = {"number"}
    elif "text" in kinds:
        tally = Tally((*NO_VALUE, *tokens), decimal)
        for part in parts:
            if kind_of(part.columns[name]) == "text":
                tally.add(*different(part.columns[name])[:2])
        if not tally.present and kinds == {"text"}:
            raise ValueError(f"target {name!r} has no values: all of its cells are missing")
        found = tally.best()
        if isinstance(found, Style):
            style, kinds = found, {"number"}
    if kinds == {"number"}:
        return _numbers(parts, name, task, tokens, style)
    return _names(parts, name, task, tokens)


def _all_plain(parts: Parts, name: str, tokens: tuple[str, ...]) -> bool:
    """Whether all that is text is plain numbers, which one look tells."""
    texts = (part.columns[name] for part in parts if kind_of(part.columns[name]) == "text")
    return all(plain_numbers(text, (*NO_VALUE, *tokens)) is not None for text in texts)


def _numbers(
    parts: Parts, name: str, task: str, tokens: tuple[str, ...], style: Style
) -> tuple[Target, NDArray[Any], list[str]]:
    pieces: list[NDArray[Any]] = []
    notes: list[str] = []
    for part in parts:
        values, bad = numbers_of(part.columns[name], style, (*NO_VALUE, *tokens))
        infinite = np.isinf(values)
        if infinite.any():
            where = part.place(int(infinite.argmax()))
            raise ValueError(f"{where}, column {name!r}: the target is infinite")
        if bad is not None and bad.any() and not notes:
            row = int(bad.argmax())
            value = str(value_at(part.columns[name], row))[:40]
            notes.append(f"target {name!r} is no number in {part.place(row)}: {value!r}; left out")
        pieces.append(values)
    y = np.concatenate(pieces)
    present = ~np.isnan(y)
    _say_missing(name, present, notes)
    labels, codes = np.unique(y[present], return_inverse=True)
    if task == "auto":
        whole = bool((labels == np.rint(labels)).all())
        few = len(labels) <= MOST_AUTO_CLASSES
        task = "classification" if whole and few else "regression"
    _check_values(name, [_plain(v) for v in labels[:3]], len(labels))
    if task == "regression":
        return Target(name, None, style=style), y, notes
    _check_classes(name, len(labels), len(codes), "; --task regression takes it as a number")
    indices = np.full(len(y), -1)
    indices[present] = codes
    return Target(name, tuple(_plain(v) for v in labels), style=style), indices, notes


def _names(
    parts: Parts, name: str, task: str, tokens: tuple[str, ...]
) -> tuple[Target, NDArray[Any], list[str]]:
    texts: dict[str, int] = {}
    pieces: list[NDArray[Any]] = []
    notes: list[str] = []
    for part in parts:
        indices, values = codes_of(part.columns[name], tokens)
        found = [-1 if v is None else texts.setdefault(v, len(texts)) for v in values]
        pieces.append(np.array(found, np.int64)[indices])
    codes = np.concatenate(pieces)
    present = codes >= 0
    # A text that only stands for nothing: what Arrow has as values may not occur.
    _say_missing(name, present, notes)
    here = np.bincount(codes[present], minlength=len(texts))
    labels = sorted(text for text, code in texts.items() if here[code])
    if task == "regression":
        raise ValueError(f"target {name!r} is text ({labels[0]!r}, …): not for regression")
    _check_values(name, labels[:3], len(labels))
    _check_classes(name, len(labels), int(present.sum()), "")
    rank = np.full(len(texts) + 1, -1)
    for i, label in enumerate(labels):
        rank[texts[label]] = i
    return Target(name, tuple(labels)), rank[codes], notes


def _say_missing(name: str, present: NDArray[np.bool_], notes: list[str]) -> None:
    if not present.any():
        raise ValueError(f"target {name!r} has no values: all of its cells are missing")
    gone = len(present) - int(present.sum())
    if gone:
        rows = "row is" if gone == 1 else "rows are"
        notes.append(f"{gone:,} {rows} left out: the target {name!r} is missing there")


def _check_values(name: str, first: list[Any], different: int) -> None:
    if different < 2:
        raise ValueError(f"target {name!r} has one value only ({first[0]}): nothing to learn")


def _check_classes(name: str, classes: int, rows: int, hint: str) -> None:
    if classes > MOST_CLASSES:
        raise ValueError(
            f"target {name!r} has {classes:,} different values, more than the {MOST_CLASSES:,} classes "
            f"that are taken{hint}"
        )
    if 2 * classes > rows and classes > MOST_AUTO_CLASSES:
        raise ValueError(
            f"target {name!r} has {classes:,} different values in {rows:,} rows, too many to be "
            f"classes{hint}"
        )


def _plain(value: Any) -> Label:
    """A number as int (where it is whole) or float, for JSON."""
    number: float = value.item()
    return int(number) if number.is_integer() else number
