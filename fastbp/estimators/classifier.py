"""MLPClassifier: class labels on one side, what an engine takes on the other."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn import neural_network
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import type_of_target, unique_labels

from fastbp import losses
from fastbp.engines import Array
from fastbp.estimators._base import BaseMLP, constraints, partial_fit_if_stochastic
from fastbp.estimators.arguments import store
from fastbp.estimators.callbacks import fit_task
from fastbp.estimators.private import StrOptions, check_partial_fit_first_call
from fastbp.losses import Loss

_SOFTMAX, _BINARY = losses.get("softmax_cross_entropy"), losses.get("binary_cross_entropy")


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """Drop-in replacement of scikit-learn's MLPClassifier.

    Parameters
    ----------
    hidden_layer_sizes, solver, alpha, batch_size, learning_rate_init, power_t, max_iter, shuffle,\
 random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping,\
 validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in `sklearn.neural_network.MLPClassifier`, with the same defaults and effects.
    activation : str, Activation, or a list of them
        One for all or one for each hidden layer. Beside scikit-learn's identity, logistic, tanh and
        relu: leaky_relu, elu, softplus, selu, silu, gelu, mish. See `fastbp.Activation`.
    solver : {"lbfgs", "sgd", "adam", "adamw", "rmsprop"} or optimizer
        An optimizer is one of `fastbp.optimizers`, whose parameters are its own.
    learning_rate : {"constant", "invscaling", "adaptive"}, Schedule or callable
        The names are for solver "sgd", as in scikit-learn. One of `fastbp.schedules`, or a callable
        from the step (an int, from 0) to the rate, serves every stochastic solver, and replaces
        `learning_rate_init`.
    class_weight : dict, list of dict, "balanced" or None
        Weights of the classes, multiplied into `sample_weight`, as in scikit-learn's classifiers
        that have it; for several labels, a list of dicts.
    dropout : float or list of float
        Probability, for all or for each hidden layer, that a unit is dropped in a training step. Not
        for solver "lbfgs".
    callbacks : list of callable
        Each is called as ``callback(estimator)`` after every epoch of a stochastic solver; one that
        returns True (a bool of Python or NumPy; nothing else counts) ends the training. Or those of
        `fastbp.callbacks`. scikit-learn's own go to ``set_callbacks``.
    n_jobs : int or None
        Most threads to use, < 0 counting from all cores: −1 is all of them. None: all of them
        (`fastbp.get_num_threads`), but one where fits run side by side, in a worker of joblib or of
        `fit_many`. Results do not depend on it.
    progress : bool
        Show a bar on standard error.
    precision : {"auto", "float32", "float64", "bf16"}
        Of the parameters and the arithmetic. "auto": float32 for X in float32, else float64. "bf16":
        float32, but whatever enters a matmul is rounded to bfloat16, for CPUs that multiply such
        matrices faster (see `fastbp.MLP`); not for solver "lbfgs".
    engine : {"auto", "native", "jit", "reference"}
        What computes; "auto" takes the fastest one available, and NumPy for predictions of up to 32
        rows: the last bits of a row's outputs may then be others than among more rows.
    sparse_update : {"exact", "lazy"}
        For a sparse X and a stochastic solver: see `fastbp.MLP.fit`.
    comm : mpi4py.MPI.Comm or None
        Whose ranks share the steps of a fit by a stochastic solver, to the bits of one process; all have
        the same data, and draw what rank 0's `random_state` does. ``MPI.COMM_WORLD`` survives cloning
        and pickling.

    Attributes
    ----------
    classes_, coefs_, intercepts_, loss_, loss_curve_, best_loss_, validation_scores_,\
 best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_,\
 feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> from fastbp import MLPClassifier
    >>> from fastbp.data import load_digits
    >>> X, y = load_digits()
    >>> model = MLPClassifier(max_iter=300, random_state=0).fit(X[:1500], y[:1500])
    >>> model.score(X[1500:], y[1500:]) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **constraints(neural_network.MLPClassifier),
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }
    loss = "log_loss"

    def __init__(
        self,
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
        class_weight: Any = None,
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
        y : array_like of shape (n,) or (n, labels)
            Class labels, or 0 and 1 for each of several labels.
        sample_weight : array_like of shape (n,) or None

        Returns
        -------
        MLPClassifier
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
        See `MLPClassifier`.
        """
        with fit_task(self, X, y, sample_weight) as task:
            return self._fit(X, y, sample_weight, task=task)

    @partial_fit_if_stochastic  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch, going on from where the last call left.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array_like
            All classes there will be; needed in the first call.

        Returns
        -------
        MLPClassifier
            Itself.

        Raises
        ------
        TypeError, ValueError
            As `fit`; or if `y` has a class that is not among `classes`, or `early_stopping` is set.

        Examples
        --------
        >>> from fastbp import MLPClassifier
        >>> from fastbp.data import load_digits
        >>> X, y = load_digits()
        >>> model = MLPClassifier(random_state=0)
        >>> for start in range(0, 1500, 100):
        ...     part = slice(start, start + 100)
        ...     model = model.partial_fit(X[part], y[part], classes=range(10))
        >>> model.n_iter_, model.t_
        (1, 1500)
        """
        if (classes is not None or not hasattr(self, "classes_")) and check_partial_fit_first_call(
            self, classes
        ):
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: ArrayLike) -> Array:
        """Predict the class of every row.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, features)

        Returns
        -------
        ndarray of shape (n,) or (n, labels)

        Raises
        ------
        NotFittedError
            If it has not been fitted.
        TypeError, ValueError
            If X is no array of finite numbers, of as many columns as in `fit`.
        """
        f = self._outputs(X)
        kind = self._label_binarizer.y_type_
        labels: Array
        if kind == "multiclass":
            labels = self.classes_[f.argmax(axis=1)]
        elif kind == "binary":
            classes = self.classes_
            labels = classes[
                (f[:, 0] > 0).view(np.int8) if len(classes) > 1 else np.zeros(len(f), int)
            ]
        else:
            labels = self._label_binarizer.inverse_transform((f > 0).astype(f.dtype))
        return labels

    def predict_proba(self, X: ArrayLike) -> Array:
        """Predict the probability of every class.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, features)

        Returns
        -------
        ndarray of shape (n, classes)
            In the order of ``classes_``.

        Raises
        ------
        NotFittedError
            If it has not been fitted.
        TypeError, ValueError
            If X is no array of finite numbers, of as many columns as in `fit`.
        """
        p = self._outputs(X, link=True)
        return np.hstack([1 - p, p]) if self.n_outputs_ == 1 else p

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithm of `predict_proba`, with the same parameters and errors."""
        p = self.predict_proba(X)
        return np.log(p, out=p)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Share of rows with the right class, or with all labels right.

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
        own = getattr(self.predict, "__func__", None) is MLPClassifier.predict
        quick = self._quick_score(X, y) if own and sample_weight is None else None
        return float(super().score(X, y, sample_weight)) if quick is None else quick

    # Targets

    def _loss(self) -> Loss:
        return _SOFTMAX if self._label_binarizer.y_type_ == "multiclass" else _BINARY

    def _check_targets(self, y: Any, *, incremental: bool) -> tuple[Array, Any, int]:
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same classes as in the "
                        f"previous call to fit. Previously got {self.classes_}, `y` has {classes}"
                    )
            elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(
                    "`y` has classes not in `self.classes_`. "
                    f"`self.classes_` has {self.classes_}. 'y' has {classes}."
                )
        if self._label_binarizer.y_type_ == "multiclass":
            return np.searchsorted(self.classes_, y), None, len(self.classes_)
        indicators = self._label_binarizer.transform(y)
        if scipy.sparse.issparse(indicators):
            indicators = indicators.toarray()
        outputs = indicators.shape[1]
        stratify = indicators.astype(bool) if outputs == 1 else None
        return indicators.astype(np.float64), stratify, outputs

    def _quick_targets(self, y: Any, rows: int) -> Array | None:
        classes = self.classes_
        kind = self._label_binarizer.y_type_
        plain = type(y) is np.ndarray and y.shape == (rows,)
        if not plain or kind not in ("binary", "multiclass"):
            return None
        kinds = y.dtype.kind + classes.dtype.kind
        if kinds != "UU" and not set(kinds) <= {"i", "u", "b"}:
            return None
        index = np.searchsorted(classes, y)
        if (classes[np.minimum(index, len(classes) - 1)] != y).any():
            return None
        targets: Array = index if kind == "multiclass" else index[:, None].astype(np.float64)
        return targets

    def _weights(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Array | None:
        weight = super()._weights(X, y, sample_weight, incremental)
        if self.class_weight is None:
            return weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' needs all data at once; give partial_fit a dict instead"
            )
        by_class: Array = compute_sample_weight(self.class_weight, y)
        return by_class if weight is None else weight * by_class

    def _score_outputs(self, f: Array, y: Array, weight: Array | None) -> float:
        if y.ndim == 1:
            right = f.argmax(axis=1) == y
        elif len(self.classes_) == 1 and self._label_binarizer.y_type_ == "binary":
            right = np.ones(len(f), bool)  # of one class, whatever f is
        else:
            right = ((f > 0) == (y > 0)).all(axis=1)
        return float(np.average(right, weights=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
