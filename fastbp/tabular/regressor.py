"""`TabularRegressor`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d

from fastbp import losses
from fastbp._validation import check_finite_number, nearest_name
from fastbp.estimators.arguments import store
from fastbp.holder import Holder
from fastbp.losses import Loss
from fastbp.tabular import checks
from fastbp.tabular.attributions import Attributions
from fastbp.tabular.base import BaseTabular
from fastbp.tabular.importance import Importance
from fastbp.tabular.metrics import REGRESSION, Criterion, criterion
from fastbp.tabular.recipes import Recipe, recipe
from fastbp.tabular.saving import Saved
from fastbp.tabular.training import Data

__all__ = ["TabularRegressor"]

Array = NDArray[Any]
QUANTILES = (0.05, 0.5, 0.95)
_LOSSES = {"rmse": "squared_error", "mae": "absolute_error", "poisson": "poisson"}


class TabularRegressor(
    Saved,
    Importance,
    Attributions,
    RegressorMixin,  # type: ignore[misc]
    BaseTabular,
):
    """A network, or several, that predicts a number from a table's rows; good without a thought.

    It takes frames as they are: numbers, names and dates, with missing values. A share of the rows is
    set aside to find each member's best epoch; predictions are the members' mean.

    Parameters
    ----------
    model : {"realmlp", "realmlp-s", "tabm", "tabm-mini", "mlp"}
        RealMLP-TD; its short form, with fewer parts; TabM, members that share weights; its short form;
        a plain network. See `docs/tabular.md`.
    metric : {"rmse", "mae", "poisson", "quantile"}
        What is to be low: the root of the mean square of errors, the mean of their sizes, half the
        Poisson deviance (targets ≥ 0, such as counts; the network's output is their mean's logarithm),
        or the pinball loss of `quantiles`.
    quantiles : sequence of float
        With metric "quantile", and no other: in rising order; `predict_quantiles` gives all, `predict`
        the one nearest to the median.
    n_members, n_folds, validation_fraction, time_limit, cat_features, hidden_layer_sizes, epochs,\
 batch_size, learning_rate, dropout, weight_decay, patience, n_jobs, random_state, comm
        As in `TabularClassifier`.

    Attributes
    ----------
    oof_prediction_ : ndarray of shape (rows,) or (rows, quantiles)
        Predictions of training rows by those members that had them for validation; NaN elsewhere.
        Quantiles are in rising order in each row, as `predict_quantiles` gives them.
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
        quantiles: Sequence[float] = QUANTILES,
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
        X, sample_weight, eval_set, groups
            As in `TabularClassifier.fit`.
        y : array_like of shape (rows,)
            Finite numbers.

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
        """Predict a number for every row.

        Parameters
        ----------
        X : frame, dict of columns, or array of shape (rows, columns)

        Returns
        -------
        ndarray of shape (rows,)
            With metric "quantile" that of `predict_quantiles` nearest to the median, the lower of two as
            near.
        """
        return self._answers(self._inputs_of(X))

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
        if (metric := self._fitted["metric"]) != "quantile":
            raise ValueError(
                f"predict_quantiles needs metric 'quantile', but the model was fitted with {metric!r}"
            )
        found: Array = self._readable(self._mean_prediction(X)).reshape(-1, self._outputs)
        return found

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
        if self._fitted["metric"] == "quantile":
            found = self.predict_quantiles(X)[:, [0, -1]]
            ends = np.sort(found + np.array([-margin, margin]), axis=1)
            return ends
        middle = self.predict(X)
        return np.column_stack([middle - margin, middle + margin])

    def _answers(self, encoded: Array) -> Array:
        """What `predict` returns, of rows that are encoded."""
        found = self._readable(self._mean_of(encoded))
        if found.ndim == 1:
            return found
        middle: Array = found[:, self._middle]
        return middle

    @property
    def _middle(self) -> int:
        """Which of the quantiles `predict` returns."""
        far = [round(abs(float(q) - 0.5), 12) for q in self._fitted["quantiles"]]
        return far.index(min(far))

    def _of_outputs(self) -> tuple[float, float]:
        return (
            (1.0, math.log(self.scale_))
            if self._fitted["metric"] == "poisson"
            else (
                self.scale_,
                self.center_,
            )
        )

    # What the base asks for

    @property
    def _outputs(self) -> int:
        return len(self._fitted["quantiles"]) if self._fitted["metric"] == "quantile" else 1

    @property
    def _bounds(self) -> tuple[float, float] | None:
        return None if self._fitted["metric"] == "poisson" else self.range_

    def _check_metric(self) -> None:
        if not isinstance(self.metric, str) or self.metric not in REGRESSION:
            raise ValueError(nearest_name("metric", self.metric, REGRESSION))
        limits: dict[str, Any] = {"open_minimum": True, "open_maximum": True}
        levels = [
            check_finite_number("quantiles", q, minimum=0, maximum=1, **limits)
            for q in checks.listed("quantiles", self.quantiles, "numbers, such as (0.1, 0.5, 0.9)")
        ]
        if self.metric != "quantile":
            if tuple(levels) != QUANTILES:
                raise ValueError(
                    f"quantiles are for metric='quantile', got quantiles={self.quantiles!r} with "
                    f"metric={self.metric!r}"
                )
        elif not levels or sorted(set(levels)) != levels:
            raise ValueError(f"quantiles must be in rising order, got {self.quantiles!r}")

    def _check_y(self, y: Any) -> Array:
        y = column_or_1d(checks.target(y), warn=True)
        try:
            numbers: Array = y.astype(np.float64)
        except (TypeError, ValueError):
            bad = next((v for v in y.tolist() if not _is_number(v)), y[0])
            raise ValueError(f"y must hold numbers, got values such as {bad!r}") from None
        if not np.isfinite(numbers).all():
            bad = numbers[~np.isfinite(numbers)][0]
            raise ValueError(f"y contains {bad} (NaN or infinity): targets must be finite")
        if self.metric == "poisson" and (numbers < 0).any():
            raise ValueError(f"metric 'poisson' needs targets ≥ 0, got {numbers.min()}")
        return numbers

    def _learn_targets(self, y: Array) -> None:
        # Times a power of 2, which is exact, so that no square and no sum overflows or vanishes.
        unit = math.ldexp(1.0, math.frexp(float(np.abs(y).max()))[1] - 1)
        self.center_, self.scale_ = 0.0, 1.0
        if self.metric == "poisson":  # the mean's logarithm
            self.scale_ = float((y / unit).mean()) * unit or 1.0
        else:
            self.center_ = float((y / unit).mean()) * unit
            self.scale_ = float((y / unit).std()) * unit or 1.0
        scaled = self._scaled(y)
        self.range_ = (float(scaled.min()), float(scaled.max()))

    def _scaled(self, y: Array) -> Array:
        """(y − center) / scale, by halves: a difference of large numbers does not overflow."""
        with np.errstate(over="ignore"):
            found: Array = (y / 2 - self.center_ / 2) / self.scale_ * 2
        return found

    def _targets(self, y: Array) -> Array:
        with np.errstate(over="ignore"):
            scaled = self._scaled(y).astype(np.float32)
            far = ~np.isfinite(scaled * scaled)
        if far.any():
            raise ValueError(
                f"y has {y[far][0]:g}, too far from the targets of training, which have the mean "
                f"{self.center_:g} and the scale {self.scale_:g}"
            )
        targets: Array = np.repeat(scaled[:, None], self._outputs, axis=1)
        return targets

    def _loss(self) -> Loss:
        if self._fitted["metric"] == "quantile":
            return Loss("pinball", 0.5, levels=tuple(map(float, self._fitted["quantiles"])))
        return losses.get(_LOSSES[self._fitted["metric"]])

    def _recipe(self) -> Recipe:
        found = recipe(self._fitted["model"], regression=True)
        if self._fitted["metric"] == "poisson":  # e^f is no place for large steps
            return dataclasses.replace(found, rate=min(found.rate, 0.04))
        return found

    def _criterion(self) -> Criterion:
        return criterion(self._fitted["metric"], tuple(self._fitted["quantiles"]))

    def _member_prediction(self, holder: Holder, encoded: Array) -> Array:
        found = super()._member_prediction(holder, encoded)
        return found.clip(*self.range_) if self._clamps and self._bounds is not None else found

    def _readable(self, found: Array) -> Array:
        found = found * self.scale_ + self.center_
        return found[:, 0] if found.shape[1] == 1 else np.sort(found, axis=1)

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


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
