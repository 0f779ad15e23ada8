"""A network that is there: its parameters, predictions, loss, derivatives. No arithmetic.

What is given is checked here; an engine (`fastbp.engines`), in the hands of a holder (`fastbp.holder`),
does the work. How networks are made, trained and kept: `fastbp.mlp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _inputs, _options, optimizers, rows, scores
from fastbp.csr import CSR
from fastbp.engines import Engine, Rows
from fastbp.holder import Holder
from fastbp.plan import Plan
from fastbp.threads import get_num_threads

__all__ = ["Network"]

Array = NDArray[Any]


class Network:
    """What can be asked of a network; see `fastbp.MLP`."""

    def __init__(self, plan: Plan, holder: Holder, threads: int | None) -> None:
        self._plan = plan
        self._holder = holder
        self._threads = threads
        self._dtype = np.dtype(plan.dtype)

    @property
    def plan(self) -> Plan:
        """Everything the engine goes by: sizes, activations, loss, the last training options.

        Examples
        --------
        >>> import fastbp
        >>> fastbp.MLP([64, 32, 10]).plan.layer_sizes
        (64, 32, 10)
        """
        return self._plan

    # Parameters

    @property
    def parameters(self) -> list[Array]:
        """Parameters in the homogeneous form: L arrays [W | b] of shape (n_l, n_{l−1} + 1).

        Reading gives copies. Setting checks shapes and values, and copies; the optimizer's state
        stays.

        Raises
        ------
        TypeError, ValueError
            When set: if it is no list of L finite arrays of these shapes.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([2, 1], loss="squared_error", seed=0)
        >>> model.parameters = [[[1, 2, 3]]]
        >>> model.predict([[1, 1]])
        array([6.], dtype=float32)
        """
        return self._holder.parameters

    @parameters.setter
    def parameters(self, value: Sequence[ArrayLike]) -> None:
        sizes = self._plan.layer_sizes
        self._holder.parameters = _inputs.as_parameters("parameters", value, sizes, self._dtype)

    @property
    def weights(self) -> list[Array]:
        """Weights without the biases: L arrays of shape (n_l, n_{l−1}). See `parameters`."""
        return [p[:, :-1].copy() for p in self.parameters]

    @weights.setter
    def weights(self, value: Sequence[ArrayLike]) -> None:
        self.parameters = _inputs.join(value, self.biases, self._plan.layer_sizes)

    @property
    def biases(self) -> list[Array]:
        """Biases: L arrays of shape (n_l,). See `parameters`."""
        return [p[:, -1].copy() for p in self.parameters]

    @biases.setter
    def biases(self, value: Sequence[ArrayLike]) -> None:
        self.parameters = _inputs.join(self.weights, value, self._plan.layer_sizes)

    # Prediction and derivatives

    def predict(self, X: ArrayLike) -> Array:
        """Predict every row of X.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, n_0)

        Returns
        -------
        ndarray
            By the loss's link, also of a loss written in Python.
            softmax (softmax_cross_entropy): the labels argmax_j f_j, int64, shape (n,).
            sigmoid (binary_cross_entropy): 1 where p > ½, else 0, int64, shape (n, n_L).
            exp (poisson): exp(f); identity (the others): f; in the model's dtype, shape (n, n_L).
            With one output (n_L = 1) the shape is (n,), whatever shape the targets had.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 2], weight_init=[[[1, 0], [-1, 0]]])
        >>> model.predict([[5], [-5]])
        array([0, 1])
        """
        link = self._plan.loss.link
        if link == "softmax":
            given = _inputs.as_rows("X", X, self._plan.layer_sizes[0], self._dtype)
            with self._holder.lock:
                return rows.classes_of(self._present(given), given)
        if link == "sigmoid":
            return _squeeze((self._output(X, link=False) > 0).astype(np.int64))
        return _squeeze(self._output(X, link=True))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Predict probabilities: softmax(f) or sigmoid(f), whichever is the loss's link.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, n_0)

        Returns
        -------
        ndarray of shape (n, n_L), or (n,) if n_L = 1
            With link sigmoid (binary_cross_entropy), each is the probability of 1.

        Raises
        ------
        ValueError
            If the loss is a regression loss: its link is neither of these.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 2], weight_init="zeros")
        >>> model.predict_proba([[5]])
        array([[0.5, 0.5]], dtype=float32)
        """
        if self._plan.loss.link not in ("softmax", "sigmoid"):
            raise ValueError(
                "predict_proba needs loss 'softmax_cross_entropy' or 'binary_cross_entropy', or one "
                "with link 'softmax' or 'sigmoid', but the model's is "
                f"{self._plan.loss.name!r} with link {self._plan.loss.link!r}"
            )
        return _squeeze(self._output(X, link=True))

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return accuracy for classification, R² (1 − residual / total sum of squares) for regression.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; at least one row.

        Returns
        -------
        float
            By the loss's link: accuracy for softmax and sigmoid (averaged over a row's labels, if it
            has several), else R², averaged over the outputs.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 2], weight_init=[[[1, 0], [-1, 0]]])
        >>> model.score([[5], [-5], [3]], [0, 1, 1]).__round__(3)
        0.667
        """
        given, y, weight = _inputs.as_training_data(self._plan, X, y, sample_weight)
        return scores.of_link(self._plan.loss.link).function(self.predict(given), y, weight)

    def evaluate(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> dict[str, float]:
        """Return `loss` and `score` under their names.

        Parameters
        ----------
        X, y, sample_weight
            As in `score`.

        Returns
        -------
        dict
            ``"loss"``, and ``"accuracy"`` or ``"R2"``.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 1], loss="squared_error", weight_init=[[[2, 0]]])
        >>> model.evaluate([[1], [2]], [2, 5])
        {'loss': 0.25, 'R2': 0.7777777777777778}
        """
        given, y, weight = _inputs.as_training_data(self._plan, X, y, sample_weight)
        name = scores.of_link(self._plan.loss.link).name
        return {"loss": self.loss(given, y, weight), name: self.score(given, y, weight)}

    def forward(self, X: ArrayLike) -> tuple[list[Array], list[Array]]:
        """Return every value of the forward pass, computed by the reference engine.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, n_0)

        Returns
        -------
        z : list of ndarray
            z¹ … zᴸ of shape (n, n_l); the last is the network's output f.
        v : list of ndarray
            v⁰ … vᴸ⁻¹ of shape (n, n_l + 1); the last column is the bias node, 1.

        Examples
        --------
        The notes' example, f(x) = w φ(w' x) with w = 3, w' = 2 and φ = relu:

        >>> import fastbp
        >>> model = fastbp.MLP(
        ...     [1, 1, 1], loss="squared_error", weight_init=[[[2, 0]], [[3, 0]]], dtype="float64"
        ... )
        >>> z, v = model.forward([[1]])
        >>> z
        [array([[2.]]), array([[6.]])]
        >>> v
        [array([[1., 1.]]), array([[2., 1.]])]
        """
        from fastbp.engines.reference import ReferenceEngine

        given = _inputs.as_rows("X", X, self._plan.layer_sizes[0], self._dtype)
        plan = replace(self._plan, optimizer=optimizers.SGD())
        engine = ReferenceEngine(plan.with_sparse() if isinstance(given, CSR) else plan)
        engine.set_parameters(self.parameters)
        return engine.trace(given)

    def jacobian(self, X: ArrayLike) -> Array:
        """Return df/dx at every row of X, f being the network's output before the link.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, n_0)

        Returns
        -------
        ndarray of shape (n, n_L, n_0)
            Dense, of a sparse X too: n · n_L · n_0 numbers, for 1,000 rows of 100,000 inputs and 5
            outputs 2 GB in float32.

        Raises
        ------
        MemoryError
            If that is more than there is; the message says how much.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 1, 1], loss="squared_error", weight_init=[[[2, 0]], [[3, 0]]])
        >>> model.jacobian([[1], [-1]]).ravel()
        array([6., 0.], dtype=float32)
        """
        given = _inputs.as_rows("X", X, self._plan.layer_sizes[0], self._dtype)
        sizes = self._plan.layer_sizes
        out = np.empty((len(given), sizes[-1], sizes[0]), self._dtype)
        with self._holder.lock:
            engine = self._present(given)
            engine.jacobian(given if rows.takes(engine, given) else given.toarray(), out)
        return out

    def loss(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the objective: the (weighted) mean loss of the rows, plus the penalties.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; no rows have loss 0.

        Returns
        -------
        float

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 1], loss="squared_error", weight_init=[[[2, 0]]])
        >>> model.loss([[1]], [5])
        4.5
        """
        data = _inputs.as_data(self._plan, X, y, sample_weight)
        with self._holder.lock:
            return rows.loss_of(self._present(data[0]), data)

    @overload
    def gradient(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        split: Literal[False] = False,
    ) -> list[Array]: ...

    @overload
    def gradient(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        split: Literal[True],
    ) -> tuple[list[Array], list[Array]]: ...

    def gradient(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        split: bool = False,
    ) -> list[Array] | tuple[list[Array], list[Array]]:
        """Return the gradient of `loss` with respect to the parameters, layer by layer.

        Parameters
        ----------
        X, y, sample_weight
            As in `loss`.
        split : bool
            Return the gradients of weights and biases apart.

        Returns
        -------
        list of ndarray
            L arrays of shape (n_l, n_{l−1} + 1), as `parameters`; with `split`, two lists, of
            shapes (n_l, n_{l−1}) and (n_l,).

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 1], loss="squared_error", weight_init=[[[2, 0]]])
        >>> model.gradient([[1]], [5])
        [array([[-3., -3.]], dtype=float32)]
        """
        _options.check_flag("split", split)
        data = _inputs.as_data(self._plan, X, y, sample_weight)
        out = [np.zeros(shape, self._dtype) for shape in self._plan.shapes]
        with self._holder.lock:
            rows.gradient_of(self._present(data[0]), data, out)
        if split:
            return [g[:, :-1].copy() for g in out], [g[:, -1].copy() for g in out]
        return out

    def _output(self, X: ArrayLike, *, link: bool) -> Array:
        given = _inputs.as_rows("X", X, self._plan.layer_sizes[0], self._dtype)
        with self._holder.lock:
            return rows.outputs_of(self._present(given), given, link=link)

    def _present(self, X: Rows) -> Engine:
        """An engine for such rows, if it takes them the one that there is; for who has the lock."""
        holder = self._holder
        engine = holder.engine
        if engine is None:
            self._plan = self._plan.having(threads=self._threads or get_num_threads())
            return holder.use(rows.plan_for(self._plan, X, holder.engine_name))
        # Parameters take a while from one engine to another. So in a training sparse rows are made dense
        # where its engine takes dense ones.
        if rows.takes(engine, X) or (isinstance(X, CSR) and holder.is_training):
            return engine
        return holder.use(rows.plan_for(engine.plan, X, holder.engine_name))


def _squeeze(a: Array) -> Array:
    return a[:, 0] if a.shape[1] == 1 else a
