"""What MLPClassifier and MLPRegressor share: inputs, training, outputs.

The parameters' home is ``coefs_`` and ``intercepts_``, as in scikit-learn: they are put into an engine
for a fit and read back after it, so whoever changes them changes the model.
"""

from __future__ import annotations

import functools
import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import scipy.sparse
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from fastbp import _options, activations, csr, optimizers, rows
from fastbp._inputs import all_finite
from fastbp._validation import check_integer
from fastbp.activations import Activation
from fastbp.engines import ENGINES, Array
from fastbp.engines.reference import ACTIVATIONS, LINKS
from fastbp.estimators import lbfgs, prediction
from fastbp.estimators.callbacks import CallbackSupportMixin, FitTask
from fastbp.estimators.fitting import EstimatorFit
from fastbp.estimators.parallel import threads_for
from fastbp.estimators.parameters import join, sizes_of, split
from fastbp.estimators.private import (
    Interval,
    StrOptions,
    check_optimize_result,
    check_sample_weight,
    constraints_of,
)
from fastbp.estimators.ranks import agree, draws_of_all, joined
from fastbp.estimators.solver import Solver
from fastbp.exchange.methods import EstimatorExports
from fastbp.losses import CROSS_ENTROPIES, Loss
from fastbp.optimizers import SGD, Adam, AdamW, RMSprop
from fastbp.plan import Plan
from fastbp.rows import Data
from fastbp.schedules import Schedule
from fastbp.stages import UPDATES, dense
from fastbp.training import run, together

if TYPE_CHECKING:
    from fastbp.distributed.ranks import Ranks

FLOATS = (np.float64, np.float32)
SOLVERS = {"lbfgs", "sgd", "adam", "adamw", "rmsprop"}
# Up to so many rows, NumPy is through before an engine's parameters would be compared with coefs_.
FEW_ROWS = 32

_FLOAT32, _FLOAT64 = map(np.dtype, ("float32", "float64"))
_activation = functools.cache(activations.get)
# A small partial_fit takes no longer than to make its plan.
_plan = functools.lru_cache(maxsize=16)(Plan)
_stages = functools.lru_cache(maxsize=16)(dense)


@functools.cache
def _floored(name: str, dtype: np.dtype[Any]) -> Loss:
    return Loss(name, float(np.finfo(dtype).eps))


def constraints(peer: Any) -> dict[str, Any]:
    """scikit-learn's constraints of the parameters, widened by what fastbp takes, and its own."""
    own: dict[str, Any] = constraints_of(peer)
    own["activation"] = [
        StrOptions({*activations.ACTIVATIONS, "logistic"}),
        "array-like",
        Activation,
    ]
    own["solver"] = [StrOptions(SOLVERS), SGD, Adam, RMSprop]
    own["learning_rate"] = [*own["learning_rate"], Schedule, callable]
    own["dropout"] = ["array-like", Interval(Real, 0, 1, closed="left")]
    own["callbacks"] = ["array-like", None]
    own["n_jobs"] = [Integral, None]
    own["progress"] = ["boolean"]
    own["precision"] = [StrOptions({"auto", "float32", "float64", "bf16"})]
    own["engine"] = [StrOptions(set(ENGINES))]
    own["sparse_update"] = [StrOptions(set(UPDATES))]
    own["comm"] = "no_validation"  # mpi4py may not be there; `joined` looks at it
    return own


def trains_stepwise(estimator: Any) -> bool:
    """Whether partial_fit is there."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
        )
    return True


partial_fit_if_stochastic: Any = available_if(trains_stepwise)


class BaseMLP(EstimatorExports, CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the two estimators; see there."""

    # What a subclass says of its targets

    @abstractmethod
    def _loss(self) -> Loss:
        """The engine's loss."""

    def _reported_loss(self, dtype: np.dtype[Any]) -> Loss:
        """The same, with the floor of scikit-learn's log losses: p is taken to be within ε of 0 and 1.

        It shows in ``loss_curve_``, in what stops training and in the line search of L-BFGS.
        """
        loss = self._loss()
        return _floored(loss.name, dtype) if loss.name in CROSS_ENTROPIES else loss

    @abstractmethod
    def _check_targets(self, y: Any, *, incremental: bool) -> tuple[Array, Any, int]:
        """Targets as the engine takes them, what to stratify a split by, and the outputs."""

    @abstractmethod
    def _quick_targets(self, y: Any, rows: int) -> Array | None:
        """The same targets for a y that can be checked in no time, or None."""

    @abstractmethod
    def _score_outputs(self, f: Array, y: Array, weight: Array | None) -> float:
        """Score of network outputs for targets in the engine's form."""

    # Fitting

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        incremental: bool = False,
        task: FitTask | None = None,
    ) -> Self:
        with joined(self) as ranks:
            draws = None if ranks is None else draws_of_all(ranks, self.random_state)
            with together(ranks):
                make_plan, data, stratify, draws, callbacks = self._prepare(
                    X, y, sample_weight, draws, incremental=incremental, task=task
                )
            if self.solver == "lbfgs":
                self._fit_lbfgs(make_plan(), *data, task)
            else:
                callbacks = callbacks if ranks is None or ranks.rank == 0 else []
                self._fit_stochastic(
                    make_plan, data, stratify, draws, callbacks, incremental, ranks
                )
        if not _finite([*self.coefs_, *self.intercepts_]):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        if task is not None:
            task.close()
        return self

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        random_state: Any,
        *,
        incremental: bool,
        task: FitTask | None,
    ) -> tuple[Callable[..., Plan], Data, Any, Any, list[Callable[..., object]]]:
        """Check all that was given, and have first weights; returns what `_fit_stochastic` takes."""
        fitted = hasattr(self, "coefs_")
        if not ((incremental and fitted) or get_config()["skip_parameter_validation"]):
            self._validate_params()
        hidden = self.hidden_layer_sizes
        hidden = list(hidden) if hasattr(hidden, "__iter__") else [hidden]
        if any(n <= 0 for n in hidden):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        hidden = [check_integer("hidden_layer_sizes", n, minimum=1) for n in hidden]
        first = not fitted or not (self.warm_start or incremental)
        sizes = () if first else sizes_of(self.coefs_, self.intercepts_)
        phi = self._activations(len(hidden) if first else len(sizes) - 2)
        if self.precision == "bf16" and self.solver == "lbfgs":
            raise ValueError(
                "precision 'bf16' needs a stochastic solver, but solver is 'lbfgs', whose line search "
                "needs a gradient that agrees with the loss more closely than bfloat16 products do"
            )
        dropout = self._dropout(len(phi))
        threads = threads_for(self.n_jobs)
        solver = None if self.solver == "lbfgs" else self._solver_of(incremental)
        callbacks = _options.check_callbacks(self.callbacks or ())
        if task is not None:
            task.open(int(self.max_iter))
            callbacks.append(task)

        X, y, stratify, outputs, weight = self._inputs(
            X, y, sample_weight, first=first, incremental=incremental
        )
        if random_state is None:
            random_state = self._draws()
        self.__dict__.setdefault(
            "_engines", []
        )  # here, as predictions leave attributes as they are
        if first:
            sizes = (X.shape[1], *hidden, outputs)
            self._initialize(sizes, phi, self._given_dtype() or X.dtype, random_state)
        elif (sizes[0], sizes[-1]) != (X.shape[1], outputs):
            raise ValueError(
                f"X has {X.shape[1]} features and y {outputs} outputs, but the network of coefs_ has "
                f"{sizes[0]} and {sizes[-1]}"
            )
        self.n_outputs_ = outputs
        dtype = self._compute_dtype()
        X = _as_rows(X, dtype)
        if y.dtype.kind == "f":
            y = np.ascontiguousarray(y, dtype)
        if weight is not None:
            weight = np.ascontiguousarray(weight, dtype)
        make_plan = functools.partial(
            _plan,
            stages=_stages(sizes, phi, dropout),
            loss=self._reported_loss(dtype),
            dtype="float32" if dtype == np.float32 else "float64",  # quicker than dtype.name
            precision="bf16" if self.precision == "bf16" else None,
            threads=threads,
            l2=float(self.alpha),
            penalty_in_sum=True,
            seed=int(random_state.randint(np.iinfo(np.int32).max)) if dropout else 0,
        )
        if solver is not None:
            self._optimizer = solver
        return make_plan, (X, y, weight), stratify, random_state, callbacks

    def _activations(self, hidden: int) -> tuple[Activation, ...]:
        if isinstance(self.activation, str):
            return (_activation(self.activation),) * hidden
        return _options.for_each("activation", self.activation, hidden, activations.get)

    def _draws(self) -> Any:
        """The RandomState of this call. To seed one again takes a tenth of making one."""
        if not isinstance(self.random_state, Integral):
            return check_random_state(self.random_state)
        own: Any = getattr(self, "_random_state", None)
        if own is None:
            own = self._random_state = check_random_state(self.random_state)
        else:
            own.seed(self.random_state)
        return own

    def _dropout(self, hidden: int) -> tuple[float, ...]:
        if isinstance(self.dropout, float) and self.dropout == 0:
            return ()
        dropout = _options.for_each("dropout", self.dropout, hidden, _options.check_dropout)
        if not any(dropout):
            return ()
        if self.solver == "lbfgs":
            raise ValueError("dropout needs a stochastic solver, but solver is 'lbfgs'")
        return dropout

    def _inputs(
        self, X: Any, y: Any, sample_weight: Any, *, first: bool, incremental: bool
    ) -> tuple[Any, Array, Any, int, Array | None]:
        """X, y as the engine takes them, what to stratify by, the outputs, and the weights."""
        unweighted = sample_weight is None and getattr(self, "class_weight", None) is None
        if incremental and not first and not self.warm_start and unweighted and self._is_plain(X):
            quick = self._quick_targets(y, len(X))
            if quick is not None:
                return X, quick, None, self.n_outputs_, None
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=self._numeric_targets,
            dtype=FLOATS,
            reset=first,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        targets, stratify, outputs = self._check_targets(y, incremental=incremental)
        return X, targets, stratify, outputs, self._weights(X, y, sample_weight, incremental)

    _numeric_targets: ClassVar[bool] = False

    def _weights(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Array | None:
        return None if sample_weight is None else check_sample_weight(sample_weight, X)

    def _is_plain(self, X: Any) -> bool:
        """Whether X is a finite matrix of the right width, as NumPy has them: nothing to check."""
        return (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.shape[1] == self.n_features_in_
            and len(X) > 0
            and X.dtype.char in "fd"
            and X.dtype.isnative
            and not hasattr(self, "feature_names_in_")
            and all_finite(X)
        )

    def _given_dtype(self) -> np.dtype[Any] | None:
        """The dtype that `precision` asks for; None where it is that of the data."""
        if self.precision == "auto":
            return None
        return np.dtype("float32" if self.precision == "bf16" else self.precision)

    def _compute_dtype(self) -> np.dtype[Any]:
        """Of the arithmetic: that of the parameters, but SciPy's L-BFGS is float64."""
        if self.precision == "auto" and self.solver == "lbfgs":
            return np.dtype(np.float64)
        dtype: np.dtype[Any] = self.coefs_[0].dtype
        return self._given_dtype() or dtype

    def _initialize(
        self, sizes: tuple[int, ...], phi: tuple[Activation, ...], dtype: Any, random_state: Any
    ) -> None:
        """Draw the first parameters, layer by layer, weights before biases."""
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._loss().link
        if self.out_activation_ == "sigmoid":
            self.out_activation_ = "logistic"
        coefs, intercepts = [], []
        names = [activation.name for activation in phi]
        if (
            not names
        ):  # without hidden layers the output layer is drawn for the one that is not used
            given = _activation(self.activation) if isinstance(self.activation, str) else None
            names = [getattr(given or self.activation, "name", "identity")]
        for n_in, n_out, name in zip(sizes, sizes[1:], [*names, names[-1]], strict=False):
            bound = np.sqrt((2.0 if name == "sigmoid" else 6.0) / (n_in + n_out))
            coef = random_state.uniform(-bound, bound, (n_in, n_out))
            intercept = random_state.uniform(-bound, bound, n_out)
            coefs.append(coef.astype(dtype, copy=False))
            intercepts.append(intercept.astype(dtype, copy=False))
        self.coefs_, self.intercepts_ = coefs, intercepts
        if self.early_stopping:
            self._best_parameters = join(coefs, intercepts, dtype)
        if self.solver != "lbfgs":
            self._begin_record()

    def _begin_record(self) -> None:
        """What a stochastic solver tells, and stops by."""
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        early = self.early_stopping
        self.validation_scores_: list[float] | None = [] if early else None
        self.validation_loss_curve_: list[float] | None = [] if early else None
        self.best_validation_score_: Any = -np.inf if early else None
        self.best_loss_ = None if early else np.inf

    def _fit_lbfgs(
        self, plan: Plan, X: Any, y: Array, weight: Array | None, task: FitTask | None
    ) -> None:
        share = 1.0 / self.n_outputs_ if plan.loss.name == "squared_error" else 1.0
        objective = lbfgs.Objective(plan, self.engine, X, y, weight, share)
        start = np.hstack([a.ravel() for a in (*self.coefs_, *self.intercepts_)])
        result = lbfgs.minimize(
            objective,
            start.astype(np.float64),
            max_fun=self.max_fun,
            max_iter=self.max_iter,
            tol=self.tol,
            stop=None if task is None else task.iteration,
        )
        self.n_iter_ = int(result.nit)
        if result.status != lbfgs.STOPPED:
            self.n_iter_ = check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = result.fun
        if not np.isfinite(self.loss_):  # of a step that the line search tried and did not take
            self.loss_ = objective(result.x)[0]
        self.coefs_, self.intercepts_ = split(objective.unpack(result.x))
        if not np.isfinite(self.loss_):
            raise ValueError(
                "The loss is not finite where L-BFGS begins. The input data may contain large values "
                "and need to be preprocessed."
            )

    def _optimizer_of_solver(self) -> optimizers.Optimizer:
        match self.solver:
            case "sgd":
                return SGD(momentum=self.momentum, nesterov=bool(self.nesterovs_momentum))
            case "adam":
                return Adam(beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon)
            case "adamw":
                return AdamW(beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon)
            case "rmsprop":
                return RMSprop(epsilon=self.epsilon)
        return cast(optimizers.Optimizer, self.solver)

    def _solver_of(self, incremental: bool) -> Solver:
        """A new optimizer, or the one to go on with. scikit-learn's schedules are for SGD, as there."""
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if incremental and hasattr(self, "_optimizer"):
            return self._optimizer
        optimizer = self._optimizer_of_solver()
        named = isinstance(self.learning_rate, str)
        schedule = "constant" if named and optimizer.name != "sgd" else self.learning_rate
        return Solver(optimizer, self.learning_rate_init, schedule, self.power_t)

    def _fit_stochastic(
        self,
        make_plan: Callable[..., Plan],
        data: Data,
        stratify: Any,
        random_state: np.random.RandomState,
        callbacks: list[Callable[..., object]],
        incremental: bool,
        ranks: Ranks | None,
    ) -> None:
        X, y, weight = data
        solver = self._optimizer
        by_score = getattr(self, "best_loss_", ()) is None
        if not hasattr(self, "loss_curve_") or by_score != bool(self.early_stopping):
            self._begin_record()  # goes on from what was fitted by another solver or rule
        order = np.arange(len(X))
        validation = None
        if self.early_stopping:
            order, aside = train_test_split(
                order,
                random_state=random_state,
                test_size=self.validation_fraction,
                stratify=stratify,
            )
            if len(aside) < 2:
                raise ValueError(
                    "The validation set is too small. Increase 'validation_fraction' or the size "
                    "of your dataset."
                )
            validation = X[aside], y[aside], None if weight is None else weight[aside]
        plan = rows.plan_for(
            make_plan(optimizer=solver.optimizer, batch_size=self._batch_size(len(order))),
            X,
            self.engine,
            self.sparse_update,
        )
        if ranks is not None:
            plan = agree(ranks, self, plan, data)
        scored = len(self.validation_scores_ or ()) if self.early_stopping else 0
        holder = solver.holder
        holder.engine_name = self.engine
        with holder.training():
            with holder.lock:
                engine = holder.use(
                    plan, parameters=join(self.coefs_, self.intercepts_, plan.dtype)
                )
            if ranks is not None:
                ranks.warn_of(engine)
            epochs = 1 if incremental else self.max_iter
            fit = EstimatorFit(
                self, solver, plan, data, validation, order, random_state, epochs, callbacks, ranks
            )
            self.n_iter_ = 0
            try:
                run(fit)
                if fit.history.stopped == "epochs" and not incremental:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and "
                        "the optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=4,
                    )
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=4)
            finally:
                if self.progress and not incremental and fit.tells:
                    print(file=sys.stderr, flush=True)
            last = holder.parameters
        self._take_result(fit.best, last, scored)

    def _batch_size(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        if not 1 <= self.batch_size <= rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                stacklevel=5,
            )
        return max(1, min(int(self.batch_size), rows))

    def _take_result(self, best: list[Array] | None, last: list[Array], scored: int) -> None:
        """Have the best parameters, or the last ones; `scored`: scores there were before this fit."""
        has_score = self.early_stopping and np.isfinite(self.best_validation_score_)
        if best is None or (not has_score and not _finite(last)):
            best = last  # not the first weights, as if they were the result: `_fit` looks at these
        elif not _finite(last):
            warnings.warn(
                f"Training diverged in epoch {self.n_iter_}: a loss or a weight became NaN or infinite. "
                "The coefficients are those of the best validation score before. Try a smaller "
                "learning_rate_init, or data scaled to about unit size.",
                ConvergenceWarning,
                stacklevel=5,
            )
        self.coefs_, self.intercepts_ = split(best)
        scores = (self.validation_scores_ or [])[scored:] if self.early_stopping else []
        if scores and not np.isfinite(scores).any():
            raise ValueError(
                f"No validation score was finite in {len(scores)} epochs: training diverged. The input "
                "data may contain large values and need to be preprocessed."
            )

    # Prediction

    def _outputs(self, X: Any, *, link: bool = False) -> Array:
        """f(x), or the prediction link(f(x)), of every row."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self, "coefs_")
        if not self._is_plain(X):
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        coefs, intercepts = self.coefs_, self.intercepts_
        phi = self._activations(len(coefs) - 1)
        known = all(activation.name in ACTIVATIONS for activation in phi)
        bf16 = self.precision == "bf16"
        dtype = self._given_dtype()
        if dtype is None:
            own = coefs[0].dtype  # NumPy takes a while to tell the type of a result
            common = own if X.dtype == own else np.result_type(X.dtype, own)
            dtype = _FLOAT32 if common.char == "f" else _FLOAT64
        few = X.shape[0] <= FEW_ROWS  # also of sparse ones, which SciPy multiplies
        if few and self.engine == "auto" and known and not bf16:
            v = (X if X.dtype == dtype else X.astype(dtype)).dot(coefs[0])  # quicker than @
            v += intercepts[0]
            for activation, coef, intercept in zip(phi, coefs[1:], intercepts[1:], strict=True):
                v = ACTIVATIONS[activation.name][0](v, activation.parameter).dot(coef)
                v += intercept
            return LINKS[self._loss().link](v) if link else v
        sizes = sizes_of(coefs, intercepts)
        if sizes[0] != X.shape[1]:
            raise ValueError(f"X has {X.shape[1]} features, but coefs_[0] takes {sizes[0]}")
        plan = _plan(
            stages=_stages(sizes, phi),
            loss=self._loss(),
            dtype=dtype.name,
            precision="bf16" if bf16 else None,
            threads=threads_for(self.n_jobs),
        )
        kept = self.__dict__.setdefault("_engines", [])
        given = _as_rows(X, dtype)
        plan = rows.plan_for(plan, given, self.engine)
        with prediction.engine_for(kept, plan, self.engine, coefs, intercepts) as engine:
            return rows.outputs_of(engine, given, link=link)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_engines"}

    def _quick_score(self, X: Any, y: Any) -> float | None:
        """The score, where X and y are plain arrays that need no checks; else None."""
        if not hasattr(self, "coefs_") or not self._is_plain(X) or len(X) < 2:
            return None
        targets = self._quick_targets(y, len(X))
        if targets is None:
            return None
        score = self._score_outputs(self._outputs(X), targets, None)
        return score if np.isfinite(score) else None  # scikit-learn's raises, and says why

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _finite(arrays: list[Array]) -> bool:
    return all(map(all_finite, arrays))


def _as_rows(X: Any, dtype: np.dtype[Any]) -> Any:
    """X of that dtype: C-contiguous, or sparse by rows (CSR)."""
    if scipy.sparse.issparse(X):
        return csr.as_csr("X", X, X.shape[1], dtype)
    return np.require(X, dtype, ["C_CONTIGUOUS", "ALIGNED"])
