"""`TableEncoder`: the encoding of tables as a transformer of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import check_integer, nearest_name
from fastbp.tables import frames
from fastbp.tables._extra import need
from fastbp.tables.columns import value_at
from fastbp.tables.learning import MAX_CATEGORIES, Wishes, learn
from fastbp.tables.overview import overview

need("sklearn", "TableEncoder")

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

__all__ = ["TableEncoder", "table_columns"]


class TableEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn a frame of numbers, names and dates into the float32 matrix that a network takes.

    `docs/tables.md` says what becomes of which column; `overview` prints it for one table.

    Parameters
    ----------
    cat_features : sequence of str or int, or None
        Columns (names, or indices of an array) that are categories, whatever is in them.
    scaling : {"robust", "standard"}
        Of numbers: s (x − median) with s = 1 / (q₇₅ − q₂₅), clipped smoothly to ±3; or standard
        score.
    max_categories : int
        Values of a column that have an input of their own, the most frequent ones; all others share
        one.
    missing : sequence of str
        Texts that stand for no value, beside the usual ones.

    Attributes
    ----------
    encoding_ : Encoding
        What was learnt, as plain data.
    notes_ : list of str
        What may be worth a look: columns left out, values that are no numbers.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only of frames whose columns have names.

    Examples
    --------
    >>> from fastbp.tables import TableEncoder
    >>> encoder = TableEncoder()
    >>> encoder.fit_transform({"x": [1.0, 2.0, 3.0], "c": ["u", "v", "u"]}).round(2)
    array([[-0.95,  1.  ,  0.  ],
           [ 0.  ,  0.  ,  1.  ],
           [ 0.95,  1.  ,  0.  ]], dtype=float32)
    >>> encoder.transform({"c": ["w"], "x": [None]})
    array([[0., 0., 0.]], dtype=float32)
    """

    def __init__(
        self,
        cat_features: Sequence[str | int] | None = None,
        *,
        scaling: str = "robust",
        max_categories: int = MAX_CATEGORIES,
        missing: Sequence[str] = (),
    ) -> None:
        self.cat_features = cat_features
        self.scaling = scaling
        self.max_categories = max_categories
        self.missing = missing

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from the rows of a table.

        Parameters
        ----------
        X : frame, dict of columns, or array of shape (n, columns)
            pandas, polars, Arrow and modin frames are taken as they are.
        y
            Not used.

        Raises
        ------
        TypeError, ValueError
            If it is no table, a number is infinite, or a parameter is out of range.
        """
        if self.scaling not in ("robust", "standard"):
            raise ValueError(nearest_name("scaling", self.scaling, ("robust", "standard")))
        check_integer("max_categories", self.max_categories, minimum=1)
        columns = table_columns(self, X, reset=True)
        names = list(columns)
        chosen = [names[c] if isinstance(c, int) else c for c in self.cat_features or ()]
        wishes = Wishes(
            chosen,
            tokens=tuple(str(token).strip().lower() for token in self.missing),
            scaling=self.scaling,
            max_categories=self.max_categories,
        )
        learnt = learn(frames.parts_from(columns), names, wishes)
        self.encoding_, self.notes_, self._facts = learnt.encoding, learnt.notes, learnt.facts
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Encode the rows of a table with the columns that were used in `fit`.

        Parameters
        ----------
        X : as in `fit`
            Columns of frames go by their names, in any order.

        Returns
        -------
        ndarray of shape (n, inputs), float32
            Or what `set_output` asks for.

        Raises
        ------
        ValueError
            If a column is missing, or a value cannot be taken: the message names row, column, value.
        """
        check_is_fitted(self)
        columns = table_columns(self, X, reset=False)
        pieces = []
        for part in frames.parts_from(columns):
            piece, bad = self.encoding_.encode(part)
            for b in bad:
                row = int(b.rows.argmax())
                value = value_at(part.columns[b.name], row)
                raise ValueError(f"{part.place(row)}, column {b.name!r}: {value!r} {b.reason}")
            pieces.append(piece)
        return np.concatenate(pieces)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the inputs: ``size``, ``size=missing``, ``colour=red``, ``colour=(rare)``, ….

        Parameters
        ----------
        input_features
            Must be the names that `fit` saw, if given.
        """
        check_is_fitted(self)
        seen = getattr(self, "feature_names_in_", None)
        if input_features is not None:
            given = list(map(str, input_features))
            if seen is not None and given != list(seen):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(given) != self.n_features_in_:
                raise ValueError(
                    "input_features should have length equal to number of features "
                    f"({self.n_features_in_}), got {len(given)}"
                )
            if seen is None:
                renamed = dict(zip((f"x{j}" for j in range(len(given))), given, strict=True))
                return np.array(self.encoding_.renamed(renamed).inputs, object)
        return np.array(self.encoding_.inputs, object)

    def overview(self) -> str:
        """What every column is taken for, as a table: column, kind, values, missing, inputs."""
        check_is_fitted(self)
        return overview(self._facts, self.notes_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def table_columns(estimator: Any, X: Any, *, reset: bool) -> dict[str, Any]:
    """The columns of a table by name, as an estimator of scikit-learn takes it.

    With reset the estimator learns their number and names, else they are compared with these.
    """
    if isinstance(X, dict) and not hasattr(X, "toarray"):  # SciPy has a sparse one that is a dict
        X = {name: _unmasked(column) for name, column in X.items()}
    X = _unmasked(X)
    is_frame = isinstance(X, dict) or hasattr(X, "columns") or hasattr(X, "schema")
    if not is_frame or hasattr(X, "toarray"):  # a sparse one is refused there
        array = validate_data(
            estimator,
            X,
            reset=reset,
            dtype=None,
            ensure_all_finite="allow-nan",
        )
        columns = frames.columns_of(array)
        names = getattr(estimator, "feature_names_in_", columns)
        return dict(zip(names, columns.values(), strict=True))  # by place, as scikit-learn warned
    columns = frames.columns_of(X)
    rows = len(next(iter(columns.values()))) if columns else 0
    if not rows:
        raise ValueError(f"the table has {rows} rows and {len(columns)} columns: nothing to do")
    if reset:
        estimator.n_features_in_ = len(columns)
        estimator.feature_names_in_ = np.array(list(columns), object)
    elif not hasattr(estimator, "feature_names_in_"):
        if len(columns) != estimator.n_features_in_:
            raise ValueError(
                f"X has {len(columns)} features, but {type(estimator).__name__} is expecting "
                f"{estimator.n_features_in_} features as input"
            )
        columns = {f"x{j}": column for j, column in enumerate(columns.values())}
    return columns


def _unmasked(values: Any) -> Any:
    """An array with None for what is masked; anything else as it is."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if values.dtype.kind in "iuf":
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.ma.filled(values.astype(object), None) if np.ma.is_masked(values) else values.data
