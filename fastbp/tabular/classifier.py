"""`TabularClassifier`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from fastbp import losses
from fastbp._validation import check_finite_number, nearest_name
from fastbp.estimators.arguments import store
from fastbp.losses import Loss
from fastbp.tabular import calibration, checks
from fastbp.tabular.attributions import Attributions
from fastbp.tabular.base import BaseTabular
from fastbp.tabular.importance import Importance
from fastbp.tabular.metrics import CLASSIFICATION, Criterion, criterion
from fastbp.tabular.recipes import Recipe, recipe
from fastbp.tabular.saving import Saved
from fastbp.tabular.training import Data

__all__ = ["TabularClassifier"]

Array = NDArray[Any]


class TabularClassifier(
    Saved,
    Importance,
    Attributions,
    ClassifierMixin,  # type: ignore[misc]
    BaseTabular,
):
    """A network, or several, that tells classes of a table's rows; good without a thought.

    It takes frames as they are: numbers, names and dates, with missing values. A share of the rows is
    set aside to find each member's best epoch; probabilities are the members' mean.

    Parameters
    ----------
    model : {"realmlp", "realmlp-s", "tabm", "tabm-mini", "mlp"}
        RealMLP-TD; its short form, with fewer parts; TabM, members that share weights; its short form;
        a plain network. See `docs/tabular.md`.
    metric : {"log_loss", "accuracy", "roc_auc"}
        What is to be good. It decides which epoch is best (for "roc_auc" the log-loss does, which says
        nearly the same with less noise), and whether labels are smoothed (for "accuracy").
    n_members : int or None
        Networks to be averaged, each with its own first values, order and validation rows. None: 6, or
        1 with `n_folds`. Of "tabm" and "tabm-mini" the members that share weights, which are one
        entry of `members_`; None: 16.
    n_folds : int or None
        Members for each part of so many, which is their validation; `oof_prediction_` then has all rows.
    validation_fraction : float
        Share of the rows for validation where there are neither folds nor an `eval_set`; 0: none, and
        the last epoch is taken.
    time_limit : float or None
        Seconds that `fit` may take: as many members as there is time for (`n_members`, or 16), or two
        with shorter trainings; `notes_` says what was trained.
    calibrate : bool
        Have a temperature, found on the rows of validation, sharpen or soften the probabilities.
    class_weight : "balanced", dict or None
        As in scikit-learn; it multiplies `sample_weight`, that of an `eval_set`, too.
    cat_features : sequence of str or int, or None
        Columns (names, or indices of an array) that are categories, whatever is in them.
    hidden_layer_sizes, epochs, batch_size, learning_rate, dropout, weight_decay
        None: those of the model: three layers of 128 units, 64 epochs, and minibatches of an eighth
        of the rows, from 64 to 256 (of "mlp" two layers of 256, and 100 epochs; of "tabm" three of
        256, and at most 100 epochs, 16 after the best). The authors of RealMLP
        have other ones: `fastbp.tabular.recipes.AUTHORS`.
    patience : int or None
        Epochs without a better one, after which a member stops.
    n_jobs : int or None
        Threads, as in `fastbp.MLPClassifier`; results do not depend on them.
    random_state : int, RandomState or None
    comm : mpi4py.MPI.Intracomm or None
        Ranks of MPI that all have the rows and call `fit` with them: each trains some of the members,
        and then all have all. Results are those of one process. See `docs/cluster.md`.

    Attributes
    ----------
    classes_ : ndarray
    members_ : list of Member
        What was trained: parameters, values of validation, best epoch, why it stopped.
    oof_prediction_ : ndarray of shape (rows, classes)
        Probabilities of training rows by those members that had them for validation; NaN elsewhere, as
        in the rows of folds that `time_limit` left no time for.
    notes_ : list of str
        What may be worth a look: of columns, and of the time limit.
    inputs_ : Inputs
        How columns become inputs.
    n_features_in_, feature_names_in_, n_iter_, fit_seconds_

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.data import load_digits
    >>> X, y = load_digits()
    >>> model = fastbp.TabularClassifier("mlp", epochs=20, random_state=0).fit(X[:500], y[:500])
    >>> model.score(X[500:], y[500:]) > 0.85
    True
    """

    def __init__(
        self,
        model: str = "realmlp",
        *,
        metric: str = "log_loss",
        n_members: int | None = None,
        n_folds: int | None = None,
        validation_fraction: float = 0.2,
        time_limit: float | None = None,
        calibrate: bool = False,
        class_weight: Any = None,
        cat_features: Sequence[str | int] | None = None,
        hidden_layer_sizes: Sequence[int] | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        dropout: float | None = None,
        weight_decay: float | None = None,
        patience: int | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        comm: Any = None,
    ) -> None:
        store(self, locals())

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        eval_set: Any = None,
        groups: Any = None,
    ) -> Self:
        """Train on the rows of a table.

        Parameters
        ----------
        X : frame, dict of columns, or array of shape (rows, columns)
            pandas, polars, Arrow and modin frames are taken as they are.
        y : array_like of shape (rows,)
            Labels.
        sample_weight : array_like of shape (rows,) or None
            Only their proportions matter. Rows of weight 0 are left out.
        eval_set : (X, y) or (X, y, sample_weight), or None
            For validation, in place of a share of the rows.
        groups : array_like of shape (rows,) or None
            Rows of one group are either trained or validated on.

        Raises
        ------
        TypeError, ValueError
            If something cannot be taken, before any training; the model is left as it was.

        Warns
        -----
        RuntimeWarning
            If training was cut short, by `time_limit` or Ctrl-C, or diverged.
        """
        return self._fit(X, y, sample_weight, eval_set, groups)

    def predict(self, X: Any) -> Array:
        """Predict labels.

        Parameters
        ----------
        X : as in `fit`
            Columns of frames go by their names.

        Returns
        -------
        ndarray of shape (rows,)
        """
        return self._answers(self._inputs_of(X))

    def predict_proba(self, X: Any) -> Array:
        """Predict the probability of every class.

        Parameters
        ----------
        X : as in `predict`

        Returns
        -------
        ndarray of shape (rows, classes)
        """
        return self._probabilities(self._inputs_of(X))

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    # The same of rows that are encoded

    def _answers(self, encoded: Array) -> Array:
        labels: Array = self.classes_[self._probabilities(encoded).argmax(axis=1)]
        return labels

    def _probabilities(self, encoded: Array) -> Array:
        p = self._readable(self._mean_of(encoded))
        p /= p.sum(axis=1, keepdims=True)
        return p

    # What the base asks for

    @property
    def _outputs(self) -> int:
        return len(self.classes_)

    def _check_metric(self) -> None:
        if not isinstance(self.metric, str) or self.metric not in CLASSIFICATION:
            raise ValueError(nearest_name("metric", self.metric, CLASSIFICATION))
        if not isinstance(self.calibrate, bool | np.bool_):
            raise TypeError(f"calibrate must be True or False, got {self.calibrate!r}")
        if isinstance(self.class_weight, dict):
            for label, value in self.class_weight.items():
                check_finite_number(f"class_weight of {label!r}", value, minimum=0.0)
        elif self.class_weight is not None and not (
            isinstance(self.class_weight, str) and self.class_weight == "balanced"
        ):
            raise ValueError(
                f"class_weight must be 'balanced', a dict or None, got {self.class_weight!r}"
            )

    def _needs_validation(self) -> list[str]:
        return super()._needs_validation() + ["calibrate"] * bool(self.calibrate)

    def _check_y(self, y: Any) -> Array:
        labels: Array = column_or_1d(checks.target(y), warn=True)
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            row = int(np.isnan(labels).argmax())
            raise ValueError(f"Input y contains NaN, first in row {row}: every row needs a label")
        check_classification_targets(labels)
        return labels

    def _learn_targets(self, y: Array) -> None:
        self.classes_ = np.unique(y)
        self.temperature_ = 1.0
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has one class only, {self.classes_[0]!r}: a classifier needs two or more"
            )

    def _targets(self, y: Array) -> Array:
        found = np.searchsorted(self.classes_, y).clip(0, len(self.classes_) - 1)
        if (new := self.classes_[found] != y).any():
            raise ValueError(f"y has a label that training has not: {y[new.argmax()]!r}")
        labels: Array = found.astype(np.int64)
        return labels

    def _learn_class_factors(self, y: Array) -> None:
        self._class_factors: tuple[Array, Array] | None = None
        if self.class_weight is None:
            return
        classes = np.unique(y)
        try:
            factors = compute_class_weight(self.class_weight, classes=classes, y=y)
        except ValueError:
            known = classes.tolist()
            strange = [label for label in self.class_weight if label not in known]
            raise ValueError(f"class_weight has {strange}, but y has the classes {known}") from None
        self._class_factors = classes, factors

    def _class_weighted(self, y: Array, weight: Array | None) -> Array | None:
        if self._class_factors is None:
            return weight
        classes, factors = self._class_factors
        codes = np.searchsorted(classes, y).clip(0, len(classes) - 1)
        # Only the proportions matter: products must neither overflow nor vanish.
        sizes = 1.0 if weight is None else weight / weight.max()
        weights: Array = factors[codes] / (factors.max() or 1.0) * sizes
        if not weights.any():
            raise ValueError(f"class_weight is zero for every row, got {self.class_weight!r}")
        return weights

    def _labels(self, y: Array) -> Array | None:
        return y

    def _loss(self) -> Loss:
        return losses.get("softmax_cross_entropy")

    def _recipe(self) -> Recipe:
        found = recipe(self._fitted["model"], regression=False)
        smooth = found.smoothing if self._fitted["metric"] == "accuracy" else 0.0
        return dataclasses.replace(found, smoothing=smooth)

    def _criterion(self) -> Criterion:
        return criterion(self._fitted["metric"])

    def _held_out(self, found: Array, data: Data, aside: Data | None) -> None:
        if not self.calibrate:
            return
        y, weight = data[1:]
        known = np.isfinite(found[:, 0])
        if aside is not None:
            found, y, weight = self._mean_of(aside[0]), aside[1], aside[2]
            known = np.ones(len(found), bool)
        weights = None if weight is None else weight[known]
        self.temperature_ = calibration.temperature(found[known], y[known], weights)
        self.oof_prediction_ = self._readable(self.oof_prediction_)

    def _readable(self, found: Array) -> Array:
        return calibration.tempered(found, self.temperature_)
