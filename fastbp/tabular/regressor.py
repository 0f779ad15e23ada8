"""`TabularRegressor`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d

from fastbp import losses
from fastbp._validation import check_finite_number, nearest_name
from fastbp.holder import Holder
from fastbp.losses import Loss
from fastbp.tabular.base import BaseTabular
from fastbp.tabular.importance import Importance
from fastbp.tabular.metrics import REGRESSION, Criterion, criterion
from fastbp.tabular.recipes import Recipe, recipe
from fastbp.tabular.saving import Saved
from fastbp.tabular.training import Data

__all__ = ["TabularRegressor"]

Array = NDArray[Any]
_LOSSES = {"rmse": "squared_error", "mae": "absolute_error", "poisson": "poisson"}


class TabularRegressor(Saved, Importance, RegressorMixin, BaseTabular):  # type: ignore[misc]
    """A network, or several, that predicts a number from a table's rows; good without a thought.

    It takes frames as they are: numbers, names and dates, with missing values. A share of the rows is
    set aside to find each member's best epoch; predictions are the members' mean.

    Parameters
    ----------
    model : {"realmlp", "realmlp-s", "mlp"}
        RealMLP-TD; its short form, with fewer parts; a plain network. See `docs/tabular.md`.
    metric : {"rmse", "mae", "poisson", "quantile"}
        What is to be low: the root of the mean square of errors, the mean of their sizes, half the
        Poisson deviance (targets ≥ 0, such as counts; the network's output is their mean's logarithm),
        or the pinball loss of `quantiles`.
    quantiles : sequence of float
        With metric "quantile": in rising order; `predict` gives the middle one, `predict_quantiles` all.
    n_members, n_folds, validation_fraction, time_limit, cat_features, hidden_layer_sizes, epochs,\
 batch_size, learning_rate, dropout, weight_decay, patience, n_jobs, random_state
        As in `TabularClassifier`.

    Attributes
    ----------
    oof_prediction_ : ndarray of shape (rows,) or (rows, quantiles)
        Predictions of training rows by those members that had them for validation; NaN elsewhere.
    residuals_ : ndarray
        Sizes of the errors on these rows, sorted: `predict_interval` goes by them.
    members_, notes_, inputs_, n_features_in_, feature_names_in_, n_iter_, fit_seconds_
        As in `TabularClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp
    >>> X = np.random.default_rng(0).uniform(-2, 2, (400, 2))
    >>> y = np.sin(X[:, 0]) + X[:, 1] ** 2
    >>> model = fastbp.TabularRegressor(epochs=64, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        model: str = "realmlp",
        *,
        metric: str = "rmse",
        quantiles: Sequence[float] = (0.05, 0.5, 0.95),
        n_members: int | None = None,
        n_folds: int | None = None,
        validation_fraction: float = 0.2,
        time_limit: float | None = None,
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
    ) -> None:
        self.model = model
        self.metric = metric
        self.quantiles = quantiles
        self.n_members = n_members
        self.n_folds = n_folds
        self.validation_fraction = validation_fraction
        self.time_limit = time_limit
        self.cat_features = cat_features
        self.hidden_layer_sizes = hidden_layer_sizes
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.patience = patience
        self.n_jobs = n_jobs
        self.random_state = random_state

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
        X, sample_weight, eval_set, groups
            As in `TabularClassifier.fit`.
        y : array_like of shape (rows,)
            Finite numbers.

        Raises
        ------
        TypeError, ValueError
            If something cannot be taken, before any training.

        Warns
        -----
        RuntimeWarning
            If training was cut short, by `time_limit` or Ctrl-C, or diverged.
        """
        self._words = check_random_state(self.random_state).randint(2**31, size=4).tolist()
        return self._fit(X, y, sample_weight, eval_set, groups)

    def predict(self, X: Any) -> Array:
        """Predict a number for every row.

        Parameters
        ----------
        X : frame, dict of columns, or array of shape (rows, columns)

        Returns
        -------
        ndarray of shape (rows,)
            With metric "quantile" the middle quantile.
        """
        found = self._readable(self._mean_prediction(X))
        return found if found.ndim == 1 else found[:, found.shape[1] // 2]

    def predict_quantiles(self, X: Any) -> Array:
        """Predict all `quantiles`; needs metric "quantile".

        Parameters
        ----------
        X : as in `predict`

        Returns
        -------
        ndarray of shape (rows, quantiles)
            In rising order in each row.
        """
        check_is_fitted(self)
        if self.metric != "quantile":
            raise ValueError(
                f"predict_quantiles needs metric 'quantile', but it is {self.metric!r}"
            )
        found: Array = self._mean_prediction(X) * self.scale_ + self.center_
        return np.sort(found, axis=1)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> Array:
        """Predict intervals that hold the target with this probability: split-conformal ones.

        They are as wide as the errors on rows of validation were (Vovk et al. 2005); with metric
        "quantile" around the outermost quantiles (Romano et al. 2019), and so wider where these are. On
        rows like those of training they hold at least so many targets on average, but for what choosing
        the best epoch by the same rows flatters them.

        Parameters
        ----------
        X : as in `predict`
        coverage : float
            Between 0 and 1.

        Returns
        -------
        ndarray of shape (rows, 2)
            Lower and upper bounds; infinite where there were too few rows to tell.
        """
        check_is_fitted(self)
        limits: dict[str, Any] = {"open_minimum": True, "open_maximum": True}
        share = check_finite_number("coverage", coverage, minimum=0, maximum=1, **limits)
        n = len(self.residuals_)
        place = math.ceil((n + 1) * share)
        margin = self.residuals_[place - 1] if 0 < place <= n else math.inf
        if self.metric == "quantile":
            found = self.predict_quantiles(X)[:, [0, -1]]
            ends = np.sort(found + np.array([-margin, margin]), axis=1)
            return ends
        middle = self.predict(X)
        return np.column_stack([middle - margin, middle + margin])

    # What the base asks for

    @property
    def _outputs(self) -> int:
        return len(self.quantiles) if self.metric == "quantile" else 1

    @property
    def _bounds(self) -> tuple[float, float] | None:
        return None if self.metric == "poisson" else self.range_

    def _check_metric(self) -> None:
        if self.metric not in REGRESSION:
            raise ValueError(nearest_name("metric", self.metric, REGRESSION))
        if self.metric == "quantile":
            limits: dict[str, Any] = {"open_minimum": True, "open_maximum": True}
            levels = [
                check_finite_number("quantiles", q, minimum=0, maximum=1, **limits)
                for q in self.quantiles
            ]
            if not levels or sorted(set(levels)) != levels:
                raise ValueError(f"quantiles must be in rising order, got {self.quantiles!r}")

    def _check_y(self, y: Any) -> Array:
        y = column_or_1d(np.asarray(y), warn=True)
        try:
            numbers: Array = y.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"y must hold numbers, got values such as {y[0]!r}") from None
        if not np.isfinite(numbers).all():
            bad = numbers[~np.isfinite(numbers)][0]
            raise ValueError(f"y contains {bad} (NaN or infinity): targets must be finite")
        if self.metric == "poisson" and (numbers < 0).any():
            raise ValueError(f"metric 'poisson' needs targets ≥ 0, got {numbers.min()}")
        return numbers

    def _learn_targets(self, y: Array) -> None:
        self.center_, self.scale_ = 0.0, 1.0
        if self.metric == "poisson":  # the mean's logarithm
            self.scale_ = float(y.mean()) or 1.0
        else:
            self.center_ = float(y.mean())
            self.scale_ = float(y.std()) or 1.0
        scaled = (y - self.center_) / self.scale_
        self.range_ = (float(scaled.min()), float(scaled.max()))

    def _targets(self, y: Array) -> Array:
        scaled = ((y - self.center_) / self.scale_).astype(np.float32)
        targets: Array = np.repeat(scaled[:, None], self._outputs, axis=1)
        return targets

    def _loss(self) -> Loss:
        if self.metric == "quantile":
            return Loss("pinball", 0.5, levels=tuple(map(float, self.quantiles)))
        return losses.get(_LOSSES[self.metric])

    def _recipe(self) -> Recipe:
        found = recipe(self.model, regression=True)
        if self.metric == "poisson":  # e^f is no place for large steps
            return dataclasses.replace(found, rate=min(found.rate, 0.04))
        return found

    def _criterion(self) -> Criterion:
        return criterion(self.metric, tuple(self.quantiles))

    def _member_prediction(self, holder: Holder, encoded: Array) -> Array:
        check_is_fitted(self)
        found = super()._member_prediction(holder, encoded)
        return found.clip(*self.range_) if self._clamps and self._bounds is not None else found

    def _readable(self, found: Array) -> Array:
        found = found * self.scale_ + self.center_
        return found[:, 0] if found.shape[1] == 1 else found

    def _held_out(self, found: Array, data: Data, aside: Data | None) -> None:
        y = data[1][:, 0]
        if aside is not None:
            found, y = self._mean_of(aside[0]), aside[1][:, 0]
        known = np.isfinite(found[:, 0])
        found, y = found[known], y[known].astype(np.float64)
        if self.metric == "quantile":
            errors = np.maximum(found.min(axis=1) - y, y - found.max(axis=1))
        else:
            errors = np.abs(found[:, 0] - y)
        self.residuals_ = np.sort(errors) * self.scale_
