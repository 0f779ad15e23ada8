"""From a table's columns to a network's X and y, and from its predictions back to answers.

What was learnt from the training table (categories, classes, mean and scale) is plain data that is
saved with the model, so that prediction treats a new table in the same way.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._tables import Table
from fastbp._validation import nearest_name

__all__ = ["Encoding"]

Floats = NDArray[np.float64]

# A text column with more is an identifier, free text, or numbers with a typo.
_MAX_CATEGORIES = 1000
# A target of whole numbers with at most this many different ones is taken for classes.
_MAX_AUTO_CLASSES = 20


@dataclass
class Encoding:
    """How columns become X and y.

    Attributes
    ----------
    target : str
        Name of the column to predict.
    features : dict of str to (list of str or None)
        Names of the other columns, in order; None for a number, for text the categories, each of
        which becomes a column of X that is 1 or 0.
    classes : list or None
        The target's different values, sorted; None for regression.
    mean, scale : list of float
        Of the columns of X: the network sees (X − mean) / scale.
    target_mean, target_scale : float
        The same for a regression's target.
    """

    target: str
    features: dict[str, list[str] | None]
    classes: list[Any] | None
    mean: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    target_mean: float = 0.0
    target_scale: float = 1.0

    @classmethod
    def of(cls, table: Table, target: str, task: str = "auto") -> Encoding:
        """Decide what each column is; `task` is auto, classification or regression."""
        y = _column(table, target)
        features = {name: _categories(name, table[name]) for name in table if name != target}
        if not features:
            raise ValueError(f"column {target!r} is the only one: nothing to predict it from")
        values = np.unique(y)
        is_text = y.dtype.kind == "U"
        if task == "auto":
            whole = is_text or bool((values == np.rint(values)).all())
            few = is_text or len(values) <= _MAX_AUTO_CLASSES
            task = "classification" if whole and few else "regression"
        if task == "regression":
            if is_text:
                raise ValueError(
                    f"target {target!r} is text ({str(y[0])!r}, …): not for regression"
                )
            return cls(target, features, None)
        if len(values) < 2:
            raise ValueError(f"target {target!r} has one value only ({y[0]}): nothing to learn")
        return cls(target, features, [_plain(value) for value in values])

    def fit(self, X: Floats, y: NDArray[Any]) -> None:
        """Take mean and scale from the training rows; a constant column keeps scale 1."""
        self.mean = X.mean(axis=0).tolist()
        scale = X.std(axis=0)
        self.scale = np.where(scale > 0, scale, 1.0).tolist()
        if self.classes is None:
            self.target_mean = float(y.mean())
            self.target_scale = float(y.std()) or 1.0

    def X(self, table: Table) -> Floats:
        """Columns of `table` as numbers, shape (n, columns); not yet standardised."""
        columns: list[NDArray[Any]] = []
        for name, categories in self.features.items():
            column = _column(table, name)
            if (column.dtype.kind == "U") != (categories is not None):
                kinds = ("text", "numbers") if categories is None else ("numbers", "text")
                raise ValueError(f"column {name!r} holds {kinds[0]}, in training {kinds[1]}")
            if categories is None:
                columns.append(column)
                continue
            known = np.isin(column, categories)
            if not known.all():
                row = int((~known).argmax())
                raise ValueError(
                    f"row {row + 1}: "
                    + nearest_name(f"value of column {name!r}", str(column[row]), categories)
                )
            columns.extend(column == category for category in categories)
        return np.stack(columns, axis=1).astype(np.float64)

    def y(self, table: Table) -> NDArray[Any]:
        """Target of every row: an index into `classes`, or a number; not yet standardised."""
        column = _column(table, self.target)
        if self.classes is None:
            return column.astype(np.float64)
        return np.searchsorted(np.array(self.classes), column).astype(np.int64)

    def scale_X(self, X: Floats) -> Floats:
        """(X − mean) / scale."""
        return (X - self.mean) / self.scale

    def scale_y(self, y: NDArray[Any]) -> NDArray[Any]:
        """Class indices as they are, (y − mean) / scale of numbers."""
        return y if self.classes is not None else (y - self.target_mean) / self.target_scale

    def answers(self, prediction: NDArray[Any]) -> list[Any]:
        """Classes, or numbers on the scale of the target, from what `MLP.predict` returns."""
        if self.classes is not None:
            return [self.classes[i] for i in prediction]
        numbers: list[Any] = (
            prediction.astype(np.float64).reshape(-1) * self.target_scale + self.target_mean
        ).tolist()
        return numbers

    def to_json(self) -> str:
        """All fields as JSON text."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Encoding:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))


def _column(table: Table, name: str) -> NDArray[Any]:
    if name not in table:
        raise ValueError(nearest_name("column", name, table))
    return table[name]


def _categories(name: str, column: NDArray[Any]) -> list[str] | None:
    if column.dtype.kind != "U":
        return None
    categories: list[str] = np.unique(column).tolist()
    if len(categories) > _MAX_CATEGORIES:
        raise ValueError(
            f"column {name!r} is text with {len(categories):,} different values "
            f"({categories[-1]!r}, …), more than the {_MAX_CATEGORIES:,} that are encoded; "
            "correct it or leave it out"
        )
    return categories


def _plain(value: Any) -> Any:
    """A NumPy scalar as str, int (where it is whole) or float, for JSON."""
    value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value
