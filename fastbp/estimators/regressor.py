"""MLPRegressor: targets as they are."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn import neural_network
from sklearn.base import RegressorMixin

from fastbp import losses
from fastbp._inputs import all_finite
from fastbp.engines import Array
from fastbp.engines.reference import LINKS
from fastbp.estimators._base import BaseMLP, constraints, partial_fit_if_stochastic
from fastbp.estimators.arguments import store
from fastbp.estimators.callbacks import fit_task
from fastbp.losses import Loss


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """Drop-in replacement of scikit-learn's MLPRegressor.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
        As in `sklearn.neural_network.MLPRegressor`.
    hidden_layer_sizes, solver, alpha, batch_size, learning_rate_init, power_t, max_iter, shuffle,\
 random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping,\
 validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As there, with the same defaults and effects.
    activation, solver, learning_rate, dropout, callbacks, n_jobs, progress, precision, engine,\
 sparse_update, comm
        As in `MLPClassifier`.

    Attributes
    ----------
    coefs_, intercepts_, loss_, loss_curve_, best_loss_, validation_scores_,\
 best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_,\
 feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import MLPRegressor
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = X[:, 0] ** 2
    >>> model = MLPRegressor(hidden_layer_sizes=32, solver="lbfgs", random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = constraints(neural_network.MLPRegressor)
    _numeric_targets: ClassVar[bool] = True

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        callbacks: Any = (),
        n_jobs: int | None = None,
        progress: bool = False,
        precision: str = "auto",
        engine: str = "auto",
        sparse_update: str = "exact",
        comm: Any = None,
    ) -> None:
        store(self, locals())

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the network.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, features)
            A sparse X is taken by rows (CSR), at the cost of its nonzeros.
        y : array_like of shape (n,) or (n, outputs)
        sample_weight : array_like of shape (n,) or None

        Returns
        -------
        MLPRegressor
            Itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter of the estimator, X, y or a weight is of the wrong kind, shape or range; or
            training diverged, so that coefficients are not finite.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` ended the training.
        UserWarning
            If Ctrl-C ended it: the estimator has the coefficients of the last finished step; or
            `batch_size` is more than the rows.

        Examples
        --------
        See `MLPRegressor`.
        """
        with fit_task(self, X, y, sample_weight) as task:
            return self._fit(X, y, sample_weight, task=task)

    @partial_fit_if_stochastic  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch, going on from where the last call left.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        MLPRegressor
            Itself.

        Raises
        ------
        TypeError, ValueError
            As `fit`; or if `early_stopping` is set.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import MLPRegressor
        >>> X = np.linspace(-1, 1, 100)[:, None]
        >>> model = MLPRegressor(random_state=0, solver="sgd", learning_rate_init=0.1)
        >>> for _ in range(50):
        ...     model = model.partial_fit(X, 3 * X[:, 0])
        >>> model.score(X, 3 * X[:, 0]) > 0.99
        True
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: ArrayLike) -> Array:
        """Predict the target of every row.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, features)

        Returns
        -------
        ndarray of shape (n,) or (n, outputs)

        Raises
        ------
        NotFittedError
            If it has not been fitted.
        TypeError, ValueError
            If X is no array of finite numbers, of as many columns as in `fit`.
        """
        y = self._outputs(X, link=True)
        return y.ravel() if y.shape[1] == 1 else y

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """R², averaged over the outputs.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        float

        Raises
        ------
        NotFittedError, TypeError, ValueError
            As in `predict`; or if `y` is not as long as X.
        """
        own = getattr(self.predict, "__func__", None) is MLPRegressor.predict
        quick = self._quick_score(X, y) if own and sample_weight is None else None
        return float(super().score(X, y, sample_weight)) if quick is None else quick

    # Targets

    def _loss(self) -> Loss:
        return losses.get(self.loss)

    def _check_targets(self, y: Any, *, incremental: bool) -> tuple[Array, Any, int]:
        y = np.asarray(y)
        if y.dtype.kind not in "biuf":
            raise ValueError(f"y must hold real numbers, got dtype {y.dtype}")
        if self.loss == "poisson" and y.min() < 0:
            raise ValueError(f"y must be ≥ 0 for loss='poisson', got {y.min():g}")
        y = y.astype(np.float64, copy=False)
        y = y.reshape(-1, 1) if y.ndim == 1 else y
        return y, None, y.shape[1]

    def _quick_targets(self, y: Any, rows: int) -> Array | None:
        plain = type(y) is np.ndarray and y.dtype.char in "fd" and y.shape == (rows,)
        if not plain or self.n_outputs_ != 1 or not all_finite(y):
            return None
        if self.loss == "poisson" and y.min() < 0:
            return None
        column: Array = y.reshape(-1, 1)
        return column

    def _score_outputs(self, f: Array, y: Array, weight: Array | None) -> float:
        """R² averaged over the outputs; of a constant output 1 if it is met exactly, else 0."""
        y = y.astype(np.float64)
        with np.errstate(over="ignore"):
            predicted = LINKS[self._loss().link](f)
        if not np.isfinite(predicted).all():
            return float("nan")
        residual = np.average((y - predicted) ** 2, axis=0, weights=weight)
        total = np.average((y - np.average(y, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
        constant = np.where(residual == 0, 1.0, 0.0)
        return float(
            np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), constant).mean()
        )
