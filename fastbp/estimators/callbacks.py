"""scikit-learn's callbacks (``set_callbacks``, since its 1.9): a fit as a tree of tasks that they see.

The fit is the root; an epoch, or an iteration of L-BFGS, is a task below it. To the loop over epochs
this is one more `fastbp.training.Callback`. In older versions the estimators have no ``set_callbacks``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastbp.engines import Array
from fastbp.estimators.parameters import split
from fastbp.history import History
from fastbp.training import Callback

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback._callback_support import callback_management_context
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing, where scikit-learn has no callbacks."""


__all__ = ["CallbackSupportMixin", "FitTask", "fit_task"]


class FitTask(Callback):
    """A fit that scikit-learn's callbacks are told of.

    Parameters
    ----------
    estimator : BaseMLP
    X, y, sample_weight
        As the user gave them.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        weighted = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._told: dict[str, Any] = {"estimator": estimator, "X": X, "y": y, "metadata": weighted}
        self._root: Any = None
        self._task: Any = None

    def open(self, tasks: int) -> None:
        """The fit begins, with so many tasks at most."""
        self._root = self._told["estimator"]._init_callback_context(max_subtasks=tasks)
        self._root.call_on_fit_task_begin(**self._told)

    def close(self) -> None:
        """The fit is done, and the estimator fitted."""
        self._root.call_on_fit_task_end(**self._told, reconstruction_attributes={})

    def begin(self, model: Any, history: History, epochs: int) -> None:
        """The first epoch is to come."""
        self._left = epochs - history.epochs
        self._next("epoch")

    def __call__(self, model: Any, history: History) -> bool:
        """An epoch has ended, and the estimator has its coefficients; whether one asks to stop."""
        stop = self._done(model.coefs_, model.intercepts_)
        self._left -= 1
        if self._left and not stop and not history.stopped:
            self._next("epoch")
        return stop

    def end(self, model: Any, history: History) -> None:
        """No more epochs; one that was to come did not."""
        if self._task is not None:
            self._task.call_on_fit_task_end(estimator=model)
            self._task = None

    def iteration(self, parameters: list[Array]) -> bool:
        """An iteration of L-BFGS has ended; whether one asks to stop."""
        self._next("iteration")
        return self._done(*split([p.copy() for p in parameters]))

    def _next(self, name: str) -> None:
        self._task = self._root.subcontext(task_name=name)
        self._task.call_on_fit_task_begin(**self._told)

    def _done(self, coefs: list[Array], intercepts: list[Array]) -> bool:
        fitted = {"coefs_": coefs, "intercepts_": intercepts}
        task, self._task = self._task, None
        return bool(task.call_on_fit_task_end(**self._told, reconstruction_attributes=fitted))


@contextmanager
def fit_task(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Iterator[FitTask | None]:
    """The task of a fit; None where nobody listens."""
    if not (hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")):
        yield None
        return
    with callback_management_context(estimator):
        yield FitTask(estimator, X, y, sample_weight)
