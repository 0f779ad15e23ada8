"""How much a model's score falls when a column is shuffled: `feature_importances_`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import check_integer
from fastbp.tables.encoder import table_columns
from fastbp.tables.frames import from_objects

__all__ = ["Importance", "Importances"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Importances:
    """Of every column, in the order of the table.

    Attributes
    ----------
    names : list of str
    mean, spread : ndarray of shape (columns,)
        Fall of the score, over the shuffles: its mean and its standard deviation.
    """

    names: list[str]
    mean: Array
    spread: Array


class Importance:
    """What an estimator with `score` can say of its columns."""

    def permutation_importance(
        self, X: Any, y: Any, *, n_repeats: int = 5, random_state: int = 0
    ) -> Importances:
        """How much `score` falls when one column's values change rows.

        Parameters
        ----------
        X, y
            Rows that were not trained on, for what counts on new ones.
        n_repeats : int
        random_state : int

        Returns
        -------
        Importances
            Its means are then also `feature_importances_`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastbp
        >>> X = np.random.default_rng(0).normal(size=(300, 2))
        >>> model = fastbp.TabularRegressor("mlp", random_state=0).fit(X, X[:, 0])
        >>> found = model.permutation_importance(X, X[:, 0])
        >>> bool(found.mean[0] > 1 > abs(found.mean[1]))
        True
        """
        check_integer("n_repeats", n_repeats, minimum=1)
        estimator: Any = self
        columns = table_columns(estimator, X, reset=False)
        names = list(columns)
        generator = np.random.default_rng(random_state)
        rows = len(np.asarray(y))
        whole = estimator.score(X, y)
        falls = np.empty((len(names), n_repeats))
        for j, name in enumerate(names):
            for i in range(n_repeats):
                order = generator.permutation(rows)
                falls[j, i] = whole - estimator.score(
                    _Columns({**columns, name: _taken(columns[name], order)}), y
                )
        found = Importances(
            names, falls.mean(axis=1), falls.std(axis=1, ddof=min(1, n_repeats - 1))
        )
        self.feature_importances_ = found.mean
        return found


class _Columns(dict[str, Any]):
    """Columns that are ready: a table that needs no reading."""


def _taken(column: Any, order: Array) -> Any:
    if isinstance(column, np.ndarray):
        return column[order]
    return column.take(order) if hasattr(column, "take") else from_objects(list(column))
