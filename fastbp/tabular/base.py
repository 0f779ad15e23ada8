"""What `TabularClassifier` and `TabularRegressor` share: from a frame to members, and back."""

from __future__ import annotations

import copy
import dataclasses
import time
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastbp._validation import check_finite_number, check_integer, nearest_name
from fastbp.estimators.parallel import threads_for
from fastbp.estimators.ranks import joined
from fastbp.holder import Holder
from fastbp.losses import Loss
from fastbp.plan import Plan
from fastbp.tables import frames
from fastbp.tables.encoder import table_columns
from fastbp.tables.learning import Learnt, Wishes
from fastbp.tables.parts import Parts
from fastbp.tabular import checks, recipes
from fastbp.tabular.inputs import Inputs, learn_inputs, notes_of
from fastbp.tabular.metrics import Criterion
from fastbp.tabular.passes import outputs_of, predictions_of
from fastbp.tabular.ranks import compare, train_shared
from fastbp.tabular.recipes import MODELS, Recipe
from fastbp.tabular.splits import folds, holdout
from fastbp.tabular.training import Data, Job, Member, Rows, Work, train_all
from fastbp.training import on_root, together

if TYPE_CHECKING:
    from fastbp.distributed.ranks import Ranks

__all__ = ["BaseTabular", "Listener"]

Array = NDArray[Any]
MEMBERS, MEMBERS_IN_TIME = 6, 16  # by default; and at most, where there is a time limit


class Listener:
    """Is told how far a fit has come."""

    def learnt(self, inputs: Inputs, learnt: Learnt) -> None:
        """The columns are known."""

    def begins(self, work: Work) -> None:
        """It is known what is trained on what."""

    def member(self, index: int, member: Member) -> None:
        """A member is trained; they may come in any order, from other threads, one at a time."""


class BaseTabular(BaseEstimator):  # type: ignore[misc]
    """Base of the two estimators; see there."""

    # What a subclass says

    @abstractmethod
    def _learn_targets(self, y: Array) -> None:
        """Check targets, and keep what is needed to encode them."""

    @abstractmethod
    def _targets(self, y: Array) -> Array:
        """Targets as the engine takes them."""

    @abstractmethod
    def _loss(self) -> Loss:
        """The engine's."""

    @abstractmethod
    def _recipe(self) -> Recipe:
        """The model's, as the metric wants it."""

    @abstractmethod
    def _criterion(self) -> Criterion:
        """What decides the best epoch."""

    @abstractmethod
    def _check_metric(self) -> None:
        """Raise unless the metric is one for this task."""

    @property
    @abstractmethod
    def _outputs(self) -> int:
        """Of the network."""

    @property
    def _bounds(self) -> tuple[float, float] | None:
        return None

    # Fitting

    def _check_parameters(self) -> None:
        if not isinstance(self.model, str) or self.model not in MODELS:
            raise ValueError(nearest_name("model", self.model, MODELS))
        self._check_metric()
        if self.n_members is not None:
            check_integer("n_members", self.n_members, minimum=1)
        if self.n_folds is not None:
            check_integer("n_folds", self.n_folds, minimum=2)
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), minimum=1)
        for name in ("learning_rate", "weight_decay"):
            if getattr(self, name) is not None:
                check_finite_number(name, getattr(self, name), minimum=0.0)
        if self.dropout is not None:
            check_finite_number(
                "dropout", self.dropout, minimum=0.0, maximum=1.0, open_maximum=True
            )
        check_finite_number(
            "validation_fraction",
            self.validation_fraction,
            minimum=0.0,
            maximum=1.0,
            open_maximum=True,
        )
        if self.time_limit is not None:
            check_finite_number("time_limit", self.time_limit, minimum=0.0, open_minimum=True)
        if self.hidden_layer_sizes is not None:
            for width in checks.listed(
                "hidden_layer_sizes", self.hidden_layer_sizes, "integers ≥ 1, such as (256, 256)"
            ):
                check_integer("hidden_layer_sizes", width, minimum=1)

    def _check_validation(self, eval_set: Any) -> None:
        """Raise if something needs rows of validation, and there will be none."""
        if self.validation_fraction == 0 and self.n_folds is None and eval_set is None:
            for name in self._needs_validation():
                raise ValueError(
                    f"{name} needs rows of validation: give validation_fraction > 0, n_folds or "
                    f"eval_set, got validation_fraction={self.validation_fraction!r}"
                )

    def _needs_validation(self) -> list[str]:
        return ["patience"] if self.patience is not None else []

    def _fit(self, X: Any, y: Any, weight: Any, eval_set: Any, groups: Any) -> Self:
        """Train a copy, and become it at once: a fit that fails leaves all as it was."""
        started = time.monotonic()
        with joined(self) as ranks:
            with together(ranks):
                self._check_parameters()
                self._check_validation(eval_set)
                fresh = copy.copy(self)
                for name in [n for n in vars(fresh) if n.endswith("_") and not n.startswith("_")]:
                    delattr(fresh, name)
                fresh._remember()
            fresh._words = on_root(ranks, lambda: fresh._words)
            with together(ranks):
                work = fresh._prepare(X, y, weight, eval_set, groups)
            if ranks is not None:
                compare(ranks, work.jobs[0], work.data, fresh)
            told = fresh._train(work, started, ranks=ranks)
        self.__dict__ = fresh.__dict__
        self._say(told)
        return self

    def _given(self) -> dict[str, Any]:
        """The parameters that say what is fitted, not by whom."""
        return {k: v for k, v in self.get_params(deep=False).items() if k != "comm"}

    def _remember(self) -> None:
        """The parameters as they are now, and what is drawn from random_state."""
        self._fitted = copy.deepcopy(self._given())
        self._words = check_random_state(self.random_state).randint(2**31, size=4).tolist()

    def _prepare(self, X: Any, y: Any, weight: Any, eval_set: Any, groups: Any) -> Work:
        """Check, and learn what is learnt before networks."""
        threads_for(self.n_jobs)
        if y is None:
            raise ValueError(
                f"requires y to be passed, but the target y is None: {type(self).__name__}"
            )
        y = self._check_y(y)
        weight = checks.weights("sample_weight", weight, len(y))
        groups = checks.groups(groups, len(y))
        columns = table_columns(self, X, reset=True)
        rows = len(next(iter(columns.values()))) if columns else 0
        if rows != len(y):
            raise ValueError(f"X has {rows} rows, but y has {len(y)}")
        weight, kept = self._weigh(y, weight)
        names = list(columns)
        wishes = Wishes(checks.cat_features(self.cat_features, names))
        parts = frames.parts_from(columns)
        inputs, learnt = self._learn_inputs(parts, names, wishes, kept)
        encoded = inputs.matrix(parts)
        del parts, columns
        data = encoded, self._all_targets(y, kept), weight
        self.notes_ = notes_of(learnt)
        return self._work(inputs, data, kept, y, groups, eval_set)

    def fit_parts(
        self,
        parts: Parts,
        names: Sequence[str],
        wishes: Wishes,
        y: Array,
        weight: Array,
        groups: Array | None,
        listener: Listener,
    ) -> Self:
        """As `fit`, on a table in parts, which is read anew by whoever wants to predict.

        With `comm` this is rank 0; the others need from the listener what to train, and are then to
        `compare` and `train_shared`.

        Parameters
        ----------
        parts : Parts
        names : sequence of str
            Columns to use.
        wishes : Wishes
        y : ndarray of shape (rows,)
            Labels or numbers, which have been checked.
        weight : ndarray of float64, shape (rows,)
            Rows of weight 0 are not looked at.
        groups : ndarray of int, shape (rows,), or None
        listener : Listener
        """
        started = time.monotonic()
        self._check_parameters()
        self._check_validation(None)
        self._remember()
        self.n_features_in_, self.feature_names_in_ = len(names), np.array(names, object)
        weights, kept = self._weigh(y, weight)
        inputs, learnt = self._learn_inputs(parts, names, wishes, kept)
        listener.learnt(inputs, learnt)
        data = inputs.matrix(parts), self._all_targets(y, kept), weights
        self.notes_ = notes_of(learnt)
        work = self._work(inputs, data, kept, y, groups, None)
        listener.begins(work)
        with joined(self) as ranks:
            if ranks is not None:
                compare(ranks, work.jobs[0])
            told = self._train(work, started, listener, ranks)
        self._say(told)
        return self

    def _weigh(self, y: Array, weight: Array | None) -> tuple[Array | None, Rows]:
        """Weights of rows as the engine takes them, and the rows that have some; learns the targets."""
        kept = np.arange(len(y)) if weight is None else np.flatnonzero(weight)
        self._learn_class_factors(y[kept])
        weight = self._class_weighted(y, weight)
        if weight is not None:
            weight = checks.normalized(weight).astype(np.float32)
            kept = np.flatnonzero(weight)
        self._learn_targets(y[kept])
        return weight, kept

    def _learn_inputs(
        self, parts: Parts, names: Sequence[str], wishes: Wishes, kept: Rows
    ) -> tuple[Inputs, Learnt]:
        recipe = self._recipe()
        training = None
        if len(kept) < parts.rows:
            training = np.zeros(parts.rows, bool)
            training[kept] = True
        return learn_inputs(
            parts, names, wishes, training, codes=recipe.waves, scaled=recipe.scaled
        )

    def _work(
        self,
        inputs: Inputs,
        data: Data,
        kept: Rows,
        y: Array,
        groups: Array | None,
        eval_set: Any,
    ) -> Work:
        """The members to be trained on inputs and targets."""
        recipe = self._changed(self._recipe())
        aside = self._eval_data(inputs, eval_set)
        stages = recipes.stages(
            recipe, len(inputs.numbers), len(inputs.plain), inputs.levels, self._outputs
        )
        members, recipe = self._sized(recipe, stages, len(kept))
        splits = self._splits(members, kept, y, groups, aside)
        if not len(splits[0][1]) and aside is None:
            for name in self._needs_validation():
                raise ValueError(
                    f"{name} needs rows of validation, but there are too few to set aside"
                )
        jobs = [
            self._job(recipe, stages, train, held, aside, seed)
            for (train, held), seed in zip(splits, self._seeds(len(splits)), strict=True)
        ]
        return Work(inputs, data, kept, jobs)

    def _train(
        self,
        work: Work,
        started: float,
        listener: Listener | None = None,
        ranks: Ranks | None = None,
    ) -> list[str]:
        """Train members, and set what was learnt; returns what the time limit did."""
        jobs, data, kept = work.jobs, work.data, work.kept
        tell = None if listener is None else listener.member
        if ranks is None:
            threads = threads_for(self.n_jobs)
            trained, told = train_all(jobs, data, threads, self.time_limit, started, tell)
        else:
            trained, told = train_shared(
                ranks, jobs, data, self.n_jobs, self.time_limit, started, tell
            )
        self.inputs_ = work.inputs
        self.notes_ += told
        self.stages_ = jobs[0].stages
        self._adopt(trained)
        held = [job.held for job in jobs[: len(trained)]]
        self._learn_from_held_out(data, held, jobs[0].aside)
        if self.n_folds is not None and len(trained) < len(jobs):
            found = self.oof_prediction_.reshape(len(data[0]), -1)[:, 0]
            known = int(np.isfinite(found).sum())
            if known < len(kept):
                self.notes_.append(
                    f"oof_prediction_ is NaN in {len(kept) - known:,} of {len(kept):,} rows: no "
                    "member was trained that had them for validation"
                )
        self.fit_seconds_ = time.monotonic() - started
        return told

    def _sized(self, recipe: Recipe, stages: Any, rows: int) -> tuple[int, Recipe]:
        """How many members for how many epochs; both fewer where the table is large."""
        timed = self.time_limit is not None
        alone = recipe.members or (self.n_members is None and self.n_folds is not None)
        members = 1 if alone else self.n_members or (MEMBERS_IN_TIME if timed else MEMBERS)
        if timed:  # the clock will say
            return members, recipe
        folds = self.n_folds or 1
        found, epochs = recipes.for_size(
            recipe,
            stages,
            rows,
            members * folds,
            fixed_members=self.n_members is not None or folds > 1,
            fixed_epochs=self.epochs is not None,
        )
        if (found, epochs) != (members * folds, recipe.epochs):
            self.notes_.append(
                f"{rows:,} rows: {found} members for {epochs} epochs, in place of "
                f"{members * folds} for {recipe.epochs}; n_members and epochs say otherwise"
            )
        return found // folds, dataclasses.replace(recipe, epochs=epochs)

    def _learn_class_factors(self, y: Array) -> None:
        """Keep by what the rows of each class are weighed."""

    def _class_weighted(self, y: Array, weight: Array | None) -> Array | None:
        return weight

    @abstractmethod
    def _check_y(self, y: Any) -> Array:
        """y as an array of one dimension, all of it values that a target may have."""

    def _all_targets(self, y: Array, kept: Rows) -> Array:
        """Targets of all rows; where a row has no weight they are of no account."""
        if len(kept) == len(y):
            return self._targets(y)
        some = self._targets(y[kept])
        found = np.zeros((len(y), *some.shape[1:]), some.dtype)
        found[kept] = some
        return found

    def _changed(self, recipe: Recipe) -> Recipe:
        """The recipe with what the user wants otherwise."""
        given = self._fitted
        hidden = given["hidden_layer_sizes"]
        wanted = {
            "hidden": None if hidden is None else tuple(hidden),
            "epochs": given["epochs"],
            "batch": given["batch_size"],
            "rate": given["learning_rate"],
            "dropout": given["dropout"],
            "decay": given["weight_decay"],
        }
        if recipe.members:
            wanted["members"] = given["n_members"]
        return dataclasses.replace(recipe, **{k: v for k, v in wanted.items() if v is not None})

    def _eval_data(self, inputs: Inputs, eval_set: Any) -> Data | None:
        if eval_set is None:
            return None
        if isinstance(eval_set, list) and len(eval_set) == 1:
            eval_set = eval_set[0]
        if not isinstance(eval_set, tuple) or len(eval_set) not in (2, 3):
            raise ValueError(
                "eval_set must be (X, y) or (X, y, sample_weight), got "
                + (
                    f"{len(eval_set)} parts"
                    if isinstance(eval_set, tuple)
                    else repr(type(eval_set))
                )
            )
        X, y, *rest = eval_set
        try:
            y = self._check_y(y)
            columns = self._columns_for(inputs, X)
            rows = len(next(iter(columns.values())))
            if rows != len(y):
                raise ValueError(f"X has {rows} rows, y {len(y)}")
            weight = checks.weights("sample_weight", rest[0] if rest else None, rows)
            encoded = inputs.matrix(frames.parts_from(columns))
            if weight is not None:  # rows of weight 0 are left out, as in training
                kept = np.flatnonzero(weight)
                encoded, y, weight = encoded[kept], y[kept], weight[kept]
            targets = self._targets(y)
            weight = self._class_weighted(y, weight)
        except (TypeError, ValueError) as error:
            raise type(error)(f"eval_set: {error}") from error
        return encoded, targets, None if weight is None else checks.normalized(weight)

    def _splits(
        self, members: int, kept: Rows, y: Array, groups: Array | None, aside: Data | None
    ) -> list[tuple[Rows, Rows]]:
        """Of every member the rows to train on and those to validate on."""
        labels = self._labels(y[kept])
        of_groups = None if groups is None else groups[kept]
        found: list[tuple[Rows, Rows]] = []
        for seed in self._seeds(members):
            generator = np.random.default_rng(seed)
            if self.n_folds is not None:
                pairs = folds(len(kept), self.n_folds, labels, of_groups, generator)
            elif aside is not None:
                pairs = [(np.arange(len(kept)), np.arange(0))]
            else:
                share = self.validation_fraction
                pairs = [holdout(len(kept), share, labels, of_groups, generator)]
            found += [(kept[a], kept[b]) for a, b in pairs]
        return found

    def _labels(self, y: Array) -> Array | None:
        """Classes that splits are to have alike, or None."""
        return None

    def _seeds(self, n: int) -> list[int]:
        """Numbers that follow from random_state."""
        return [int(s) for s in np.random.SeedSequence(self._words).generate_state(n, np.uint64)]

    def _job(
        self,
        recipe: Recipe,
        stages: Any,
        train: Rows,
        held: Rows,
        aside: Data | None,
        seed: int,
    ) -> Job:
        return Job(
            recipe,
            stages,
            self._loss(),
            train,
            held,
            aside,
            self._criterion(),
            self.patience or recipe.patience,
            self._bounds if recipe.clamp else None,
            seed,
        )

    def _adopt(self, members: Sequence[Member]) -> None:
        self.members_ = list(members)
        recipe = self._changed(self._recipe())
        self._clamps, self._copies = recipe.clamp, recipe.copies
        self._holders = [Holder(m.parameters) for m in members]

    def _learn_from_held_out(self, data: Data, held: Sequence[Rows], aside: Data | None) -> None:
        """Outputs for rows that members did not train on, and what follows from them."""
        X = data[0]
        sums = np.zeros((len(X), self._outputs))
        counts = np.zeros(len(X))
        for holder, rows in zip(self._holders, held, strict=True):
            if len(rows):
                sums[rows] += self._member_prediction(holder, X[rows])
                counts[rows] += 1
        with np.errstate(invalid="ignore"):
            found = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], np.nan)
        self.oof_prediction_ = self._readable(found)
        self._held_out(found, data, aside)

    def _held_out(self, found: Array, data: Data, aside: Data | None) -> None:
        """What else is learnt of them."""

    def _readable(self, found: Array) -> Array:
        """A mean of members' predictions as the user sees it."""
        return found

    def _say(self, told: Sequence[str]) -> None:
        members = self.members_
        self.n_iter_ = max(len(m.values) for m in members)
        stopped = {m.stopped for m in members}
        if any(not m.values for m in members) and "time" not in stopped:
            warnings.warn(
                "a member has not finished an epoch: it is as it began",
                RuntimeWarning,
                stacklevel=4,
            )
        shortest = min(len(m.values) for m in members)
        if "time" in stopped or (told and shortest <= 1 < self._changed(self._recipe()).epochs):
            warnings.warn(
                f"time_limit={self._fitted['time_limit']:g} s cut a member short, after "
                f"{shortest} epochs",
                RuntimeWarning,
                stacklevel=4,
            )
        if "diverged" in stopped:
            warnings.warn(
                "a member diverged, its best epoch is kept; a lower learning_rate may help",
                RuntimeWarning,
                stacklevel=4,
            )
        if "interrupt" in stopped:
            warnings.warn(
                "training was interrupted: the model is the best so far",
                RuntimeWarning,
                stacklevel=4,
            )

    # Predicting

    def _plan(self) -> Plan:
        threads = threads_for(self.n_jobs)
        return Plan(self.stages_, self._loss(), batch_size=256 * self._copies, threads=threads)

    def _columns_for(self, inputs: Inputs, X: Any) -> dict[str, Any]:
        """Columns of a table, among them those that the inputs are made of."""
        columns = table_columns(self, X, reset=False)
        lacking = [repr(name) for name in inputs.names if name not in columns]
        if lacking:
            few = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
            raise ValueError(
                f"X lacks column{'s' * (len(lacking) > 1)} {few}, which the model was fitted with"
            )
        return columns

    def _inputs_of(self, X: Any) -> Array:
        if not hasattr(self, "members_"):
            check_is_fitted(self)  # which takes as long as some networks do
        plain = type(X) is np.ndarray and X.dtype.kind == "f" and X.ndim == 2 and len(X) > 0
        if plain and not hasattr(self, "feature_names_in_") and X.shape[1] == self.n_features_in_:
            found = self.inputs_.of_array(X, [f"x{j}" for j in range(X.shape[1])])
            if found is not None:
                return found
        return self.inputs_.matrix(frames.parts_from(self._columns_for(self.inputs_, X)))

    def _mean_prediction(self, X: Any) -> Array:
        """The mean of the members' predictions, shape (rows, outputs)."""
        return self._mean_of(self._inputs_of(X))

    def _mean_of(self, encoded: Array) -> Array:
        """The same of rows that are encoded."""
        total = np.zeros((len(encoded), self._outputs))
        for holder in self._holders:
            total += self._member_prediction(holder, encoded)
        return total / len(self._holders)

    def _member_outputs(self, holder: Holder, encoded: Array, *, link: bool) -> Array:
        with holder.lock:
            engine = holder.engine or holder.use(self._plan())
            return (predictions_of if link else outputs_of)(engine, encoded, self._copies)

    def _member_prediction(self, holder: Holder, encoded: Array) -> Array:
        """On the scale on which members are averaged."""
        return self._member_outputs(holder, encoded, link=True).astype(np.float64)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "members_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.non_deterministic = False
        return tags
