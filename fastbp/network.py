"""The multilayer perceptron: shapes, parameters, training and prediction. No arithmetic.

`MLP` checks what it is given and decides what to run; an engine (`fastbp.engines`) does the work.
The parameters live in the engine once there is one; until its first use they are in
`MLP._parameters`. An engine stays as long as the plan it was made from does.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Self, cast, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp import (
    _inputs,
    _options,
    _text,
    activations,
    initializers,
    losses,
    model_file,
    optimizers,
    schedules,
    scores,
)
from fastbp import (
    checkpoint as checkpoints,
)
from fastbp._inputs import Array, Data
from fastbp._validation import check_finite_number, check_integer
from fastbp.activations import Activation
from fastbp.engines import Engine, Plan, check_precision, create
from fastbp.exchange.methods import Conversions
from fastbp.history import DivergenceError, History
from fastbp.losses import Loss
from fastbp.optimizers import Optimizer
from fastbp.schedules import Schedule
from fastbp.threads import get_num_threads

__all__ = ["MLP"]

Rate = float | Schedule | Callable[[int], float]
Callback = Callable[["MLP", History], object]


class MLP(Conversions):
    """A multilayer perceptron, trained by minibatch stochastic gradient descent.

    With v⁰ = [x; 1], a hidden layer computes zˡ = Wˡ vˡ⁻¹ and vˡ = [φ(zˡ); 1], and the output layer
    f = Wᴸ vᴸ⁻¹. The last column of every Wˡ is its bias.

    Parameters
    ----------
    layer_sizes : sequence of int
        n_0 … n_L: inputs, hidden widths, outputs; at least two.
    activation : str, Activation, or a sequence of them
        φ of the hidden layers, one for all or one for each: identity, sigmoid (or logistic), tanh,
        relu, leaky_relu, elu, softplus, silu, gelu.
    loss : str or Loss
        squared_error, absolute_error, huber, softmax_cross_entropy, binary_cross_entropy (one
        output, or several independent ones) or poisson. See `fastbp.Loss`.
    dropout : float or sequence of float
        Probability, for all or for each hidden layer, that a unit is dropped in a training step.
    l1, l2 : float
        Penalties: l1 Σ|w| + ½ l2 Σ w² over the weights (not the biases) is added to the loss.
    weight_init : str or list of array_like
        ``"auto"`` (he_normal for the relu family, glorot_uniform for the others and the output
        layer), he_normal, he_uniform, glorot_normal, glorot_uniform, lecun_normal, lecun_uniform,
        zeros; or L arrays [W | b] of shape (n_l, n_{l−1} + 1). Biases start at 0.
    dtype : {"float32", "float64"}
        Of parameters, data and arithmetic.
    precision : {None, "bf16"}
        ``"bf16"``, for dtype float32: whatever enters a matmul (weights, values, errors) is rounded
        to bfloat16, 8 significant bits, and the products are summed in float32. All else stays
        float32: parameters, biases, the optimizer's state, activations and the loss. Predictions,
        `loss`, `gradient` and `jacobian` compute like this too. It pays on CPUs that multiply
        bfloat16 matrices (AMX, AVX512-BF16), where wide layers and large batches train faster;
        elsewhere the same is emulated, with the same results to rounding, slower
        than float32. Test accuracy is as a rule what float32 reaches. Networks with no layer of 32
        units or more are computed in float32 all the same, which is faster for them. Not for engine
        ``"jit"``.
    seed : int, numpy.random.Generator or None
        Source of initial weights, dropout masks and shuffles. A Generator is used as it is, and so
        moves on. None: different every time.
    engine : {"auto", "native", "jit", "reference"}
        What computes; ``"auto"`` takes the native engine if it is there, else what Numba compiles
        (as it does where an activation or the loss is a function of yours), else NumPy.
    threads : int or None
        Most threads to use; None: `fastbp.get_num_threads`. Results do not depend on it.

    Attributes
    ----------
    history : History or None
        Of the last call of `fit`, also of one that was interrupted.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range; the message names it.
    MemoryError
        Here and in every method, if there is not enough memory; the message says how much it takes.

    Notes
    -----
    Several threads may use one model: each call waits for the one before it, and training lets others
    in between its epochs. Only one call at a time may train it. In a process forked while another
    thread trained a model, the weights of that model may be lost; using it raises RuntimeError.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> model = fastbp.MLP([1, 32, 1], activation="tanh", loss="squared_error", seed=0)
    >>> history = model.fit(X, X[:, 0] ** 2, epochs=200, optimizer="adam", learning_rate=0.01)
    >>> history.loss[-1] < 1e-3
    True
    >>> model.predict([[0.5]]).shape
    (1,)
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        *,
        activation: str | Activation | Sequence[str | Activation] = "relu",
        loss: str | Loss = "softmax_cross_entropy",
        dropout: float | Sequence[float] = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        weight_init: str | Sequence[ArrayLike] = "auto",
        dtype: DTypeLike = "float32",
        precision: str | None = None,
        seed: int | np.random.Generator | None = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> None:
        sizes = _options.check_sizes(layer_sizes)
        hidden = len(sizes) - 2
        phi = _options.for_each("activation", activation, hidden, activations.get)
        objective = losses.get(loss)
        if objective.name == "softmax_cross_entropy" and sizes[-1] == 1:
            raise ValueError(
                "loss 'softmax_cross_entropy' needs at least 2 outputs, but layer_sizes ends in 1; "
                "one output takes 'binary_cross_entropy' (two classes) or 'squared_error'"
            )
        drop = _options.for_each("dropout", dropout, hidden, _options.check_dropout)
        l1 = check_finite_number("l1", l1, minimum=0.0)
        l2 = check_finite_number("l2", l2, minimum=0.0)
        self._dtype = _options.check_dtype(dtype)
        check_precision(precision, self._dtype.name)
        self._engine_name = _options.check_engine(engine)
        self._threads = _options.check_threads(threads)
        given = None
        if isinstance(weight_init, Sequence) and not isinstance(weight_init, str):
            given = _inputs.as_parameters("weight_init", weight_init, sizes, self._dtype)
        else:
            weight_init = initializers.check(weight_init)

        self._generator = _options.check_seed(seed)
        self._parameters: list[Array] = (
            [p.copy() for p in given]
            if given is not None
            else initializers.draw(
                cast(str, weight_init), sizes, phi, self._dtype.name, self._generator
            )
        )
        self._optimizer_state: tuple[int, list[list[Array]]] = 0, []
        self._engine: Engine | None = None
        self._steps = 0
        self.history: History | None = None
        self._make_locks()
        self._plan = Plan(
            layer_sizes=sizes,
            activations=phi,
            loss=objective,
            dtype=self._dtype.name,
            precision=precision,
            threads=self._threads or get_num_threads(),
            dropout=drop,
            l1=l1,
            l2=l2,
            seed=int(self._generator.integers(1 << 64, dtype=np.uint64)),
        )

    # What it is

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

    def __repr__(self) -> str:
        return _text.call(self._plan)

    def summary(self) -> str:
        """Return a table of the layers and their parameters.

        Examples
        --------
        >>> import fastbp
        >>> print(fastbp.MLP([64, 32, 10]).summary())
        layer  shape    activation  dropout  parameters
            1  64 → 32  relu              0       2,080
            2  32 → 10  softmax           0         330
        total                                     2,410
        loss softmax_cross_entropy, float32
        """
        return _text.table(self._plan)

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
        with self._lock:
            if self._engine is None:
                return [p.copy() for p in self._parameters]
            return self._engine.get_parameters()

    @parameters.setter
    def parameters(self, value: Sequence[ArrayLike]) -> None:
        sizes = self._plan.layer_sizes
        checked = _inputs.as_parameters("parameters", value, sizes, self._dtype)
        with self._lock:
            if self._engine is None:
                self._parameters = [p.copy() for p in checked]
            else:
                self._engine.set_parameters(checked)

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

    # Training

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        optimizer: str | Optimizer = "sgd",
        learning_rate: Rate | None = None,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        validation: float | tuple[ArrayLike, ...] | None = None,
        early_stopping: int | None = None,
        clip_norm: float = 0.0,
        callbacks: Iterable[Callback] = (),
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int = 1,
        resume: str | os.PathLike[str] | None = None,
    ) -> History:
        """Train from the present parameters on, with a fresh optimizer.

        Parameters
        ----------
        X : array_like of shape (n, n_0)
            Finite numbers. Used in place if C-contiguous and of the model's dtype (a memory-mapped
            file is then read as it is needed), else converted once. Never written to.
        y : array_like
            softmax_cross_entropy: integer labels of shape (n,), from 0 to n_L − 1, or
            distributions of shape (n, n_L). Other losses: shape (n, n_L), or (n,) if n_L = 1.
        epochs : int
            Passes over the data.
        batch_size : int
            Rows of a minibatch; the last one of an epoch has the rows that are left.
        optimizer : str or optimizer
            sgd, momentum, nesterov, rmsprop, adam, adamw, or one of `fastbp.optimizers`.
        learning_rate : float, Schedule, callable or None
            A number, one of `fastbp.schedules`, or a callable from the step (an int, from 0) to the
            rate. None: the optimizer's `default_learning_rate`.
        shuffle : bool
            Take the rows in a new random order every epoch.
        sample_weight : array_like of shape (n,) or None
            ≥ 0. A batch's loss is the weighted mean of its rows'.
        validation : float, tuple or None
            (X, y) or (X, y, sample_weight) to measure loss and score on after every epoch; or the
            fraction of the rows to set aside for it, at random with `shuffle`, else the last ones.
        early_stopping : int or None
            Stop after this many epochs without a lower validation loss. Given this, the weights of
            the epoch with the lowest validation loss are restored at the end.
        clip_norm : float
            If > 0, the most that the Euclidean norm of a step's gradient may be.
        callbacks : iterable of callable
            Each is called as ``callback(model, history)`` after every epoch; one that returns True
            ends the training.
        progress : bool
            Print a line for every epoch.
        checkpoint : str, path-like or None
            Write the whole state of the training to this file, which `resume` and `load` read. An
            existing file is replaced once the new one is complete and on disk.
        every : int
            Epochs from one checkpoint to the next. There is one at the end in any case.
        resume : str, path-like or None
            Go on from this checkpoint as if training had never stopped, given the same data and
            options: the weights come out the same, bit for bit, on any number of threads. `epochs`
            counts those that the checkpoint has behind it. A function written in Python must be the
            same, and the Python version.

        Returns
        -------
        History
            With `resume`, of all epochs.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or range, before any work. Of these,
            `resume`: the file is no checkpoint, is damaged, written by a newer fastbp, or of another
            network or training.
        DivergenceError
            If a loss or a weight becomes NaN or infinite. The model has the weights from before the
            epoch that the message names.
        KeyboardInterrupt
            On Ctrl-C. The model has the weights of the last finished step; `history` has the epochs
            so far.
        OSError
            If a checkpoint cannot be read or written.
        RuntimeError
            If another call is training this model.

        Examples
        --------
        >>> import numpy as np
        >>> import fastbp
        >>> X = np.random.default_rng(0).standard_normal((500, 2))
        >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
        >>> model = fastbp.MLP([2, 32, 2], seed=0)
        >>> history = model.fit(
        ...     X, y, epochs=50, optimizer="adam", learning_rate=0.01, validation=0.2
        ... )
        >>> history.validation_score[-1] > 0.9
        True
        """
        epochs = check_integer("epochs", epochs, minimum=1)
        every = check_integer("every", every, minimum=1)
        plan, schedule = self._training_plan(optimizer, batch_size, learning_rate, clip_norm)
        for name, flag in (("shuffle", shuffle), ("progress", progress)):
            _options.check_flag(name, flag)
        callbacks = _options.check_callbacks(callbacks)
        if early_stopping is not None:
            check_integer("early_stopping", early_stopping, minimum=1)
            if validation is None:
                raise ValueError("early_stopping needs validation data, but validation is None")
        if resume is not None:
            _options.check_path("resume", resume)
        if checkpoint is not None:
            _options.check_output("checkpoint", checkpoint)
        data = _inputs.as_training_data(self._plan, X, y, sample_weight)
        n = len(data[0])
        held_out, fraction_rows = _inputs.as_validation(self._plan, validation, n)
        train_rows = n - fraction_rows
        # A batch larger than the data would only make the engine's buffers larger.
        plan = replace(plan, batch_size=min(plan.batch_size, train_rows))
        steps = -(-train_rows // plan.batch_size)
        schedules.rates(schedule, 0, steps)  # a callable that returns nonsense fails here

        with self._training():
            options = {
                "rows": n,
                "validation_rows": fraction_rows if held_out is None else len(held_out[0]),
                "shuffle": bool(shuffle),
                "early_stopping": early_stopping is not None,
                "optimizer": repr(plan.optimizer),
                "batch_size": plan.batch_size,
                "clip_norm": plan.clip_norm,
                "penalty_in_sum": plan.penalty_in_sum,
            }
            resumed = None
            generator = self._generator
            if resume is not None:
                slots = plan.optimizer.slots
                kept, resumed = checkpoints.read(resume, self._network(), options, slots, steps)
                if resumed.history.epochs > epochs:
                    raise ValueError(
                        f"epochs must be ≥ the {resumed.history.epochs} of the checkpoint "
                        f"{os.fspath(resume)!r}, got {epochs}"
                    )
                plan = replace(plan, seed=resumed.seed)
                generator = checkpoints.make_generator(resumed.generator_at_start)
            at_start = generator.bit_generator.state
            if checkpoint is not None:
                checkpoints.make_generator(at_start)  # one that a file cannot hold fails here

            rows = np.arange(n)
            if fraction_rows:
                split = generator.permutation(n) if shuffle else rows
                rows, aside = split[:train_rows], split[train_rows:]
                X_aside, y_aside, weight = (None if a is None else a[aside] for a in data)
                held_out = cast(Data, (X_aside, y_aside, weight))
                _inputs.check_weight_sum(
                    "sample_weight of the rows set aside for validation", weight
                )
            if data[2] is not None:
                _inputs.check_weight_sum("sample_weight", data[2][rows])

            engine = self._use(plan)
            with self._lock:
                engine.keep_threads(True)
            if resumed is None:
                history = History(score_name=self._score_name() if held_out is not None else "")
                self._reset_optimizer(engine)
                good, best = self.parameters, None
            else:
                history, good, best = resumed.history, kept, resumed.best
                with self._lock:
                    engine.set_parameters(good)
                    engine.set_optimizer_state(resumed.step, resumed.slots)
                self._steps = resumed.step
                self._generator = checkpoints.make_generator(resumed.generator)
            self.history = history
            finished = history.epochs
            history.stopped = _why_stop(history, epochs, early_stopping)
            try:
                while not history.stopped:
                    order = self._generator.permutation(rows) if shuffle else rows
                    learning_rates = schedules.rates(schedule, finished * steps, steps)
                    where = f"epoch {finished + 1} of {epochs}"
                    loss, seconds, good = self._run(
                        engine, data, order, learning_rates, good, where
                    )
                    history.loss.append(loss)
                    history.learning_rate.append(float(learning_rates[-1]))
                    history.seconds.append(seconds)
                    history.samples_per_second.append(train_rows / seconds)
                    if held_out is not None:
                        with self._lock:
                            history.validation_loss.append(engine.loss(*held_out))
                        history.validation_score.append(self._score(*held_out))
                    finished += 1
                    if early_stopping is not None and (
                        history.best_epoch is None
                        or history.validation_loss[-1] < history.validation_loss[history.best_epoch]
                    ):
                        history.best_epoch, best = finished - 1, good
                    history.stopped = _why_stop(history, epochs, early_stopping)
                    if progress:
                        print(history.line(epochs), flush=True)
                    # All of them run, even when an early one asks to stop.
                    if True in [callback(self, history) is True for callback in callbacks]:
                        history.stopped = history.stopped or "callback"
                    if callbacks:  # one of them may have set parameters
                        good = self.parameters
                    if checkpoint is not None and (history.stopped or finished % every == 0):
                        now = self._generator.bit_generator.state
                        training = checkpoints.Training(
                            options, plan.seed, at_start, now, *self._state(), history, best
                        )
                        checkpoints.write(checkpoint, self._network(), good, training)
                if best is not None:
                    self.parameters = best
            except BaseException as error:  # an interrupt may come between any two lines
                history._cut(finished)
                history.stopped = "interrupt" if isinstance(error, KeyboardInterrupt) else ""
                raise
        return history

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        batch_size: int = 32,
        optimizer: str | Optimizer = "sgd",
        learning_rate: Rate | None = None,
        shuffle: bool = True,
        clip_norm: float = 0.0,
    ) -> float:
        """Train for one pass over the data, going on from the optimizer's state of the last call.

        The state, and the step count that a schedule sees, go on as long as `optimizer` is the same
        from call to call (of `fit` or `partial_fit`); another optimizer starts afresh. Data that do
        not fit into memory train chunk by chunk, as they come.

        Parameters
        ----------
        X, y, sample_weight, batch_size, optimizer, learning_rate, shuffle, clip_norm
            As in `fit`.

        Returns
        -------
        float
            Mean of the steps' objectives, each taken before its update.

        Raises
        ------
        TypeError, ValueError, DivergenceError, KeyboardInterrupt, RuntimeError
            As in `fit`. After a DivergenceError the weights are those from before the call.

        Examples
        --------
        >>> import numpy as np
        >>> import fastbp
        >>> model = fastbp.MLP([1, 1], loss="squared_error", seed=0)
        >>> generator = np.random.default_rng(0)
        >>> for _ in range(100):
        ...     X = generator.standard_normal((32, 1))
        ...     loss = model.partial_fit(X, 3 * X, learning_rate=0.1)
        >>> model.weights[0].round(2)
        array([[3.]], dtype=float32)
        """
        plan, schedule = self._training_plan(optimizer, batch_size, learning_rate, clip_norm)
        _options.check_flag("shuffle", shuffle)
        data = _inputs.as_training_data(self._plan, X, y, sample_weight)
        n = len(data[0])
        # As in `fit`; to the next power of 2, so that the engine need not change with every n.
        plan = replace(plan, batch_size=min(plan.batch_size, 1 << (n - 1).bit_length()))
        with self._training():
            start = self._steps if plan.optimizer == self._plan.optimizer else 0
            learning_rates = schedules.rates(schedule, start, -(-n // plan.batch_size))
            engine = self._use(plan)
            order = self._generator.permutation(n) if shuffle else np.arange(n)
            return self._run(engine, data, order, learning_rates, self.parameters, "partial_fit")[0]

    def _run(
        self,
        engine: Engine,
        data: Data,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        good: list[Array],
        where: str,
    ) -> tuple[float, float, list[Array]]:
        """Train one epoch; return its mean loss, its seconds, and the parameters after it."""
        steps = len(learning_rates)
        losses_ = np.empty(steps)
        try:
            with self._lock:
                start = time.perf_counter()
                applied = engine.epoch(*data, order, learning_rates, losses_)
                seconds = max(time.perf_counter() - start, 1e-9)  # a clock may be coarse
                after = engine.get_parameters()
            finite = all(map(_inputs.all_finite, after))
            if applied < steps or not finite:
                what = (
                    f"the loss became {losses_[applied]} at step {applied + 1} of {steps}"
                    if applied < steps
                    else "a weight became NaN or infinite"
                )
                raise DivergenceError(
                    f"{where}: {what}; the weights from before it are kept. Try a smaller "
                    "learning_rate, clip_norm, or scaling the data to about unit size"
                )
            self._steps += steps
        except BaseException as error:
            # After an interrupt the engine is at the end of a step: it stays, unless that diverged.
            with self._lock:
                self._steps = self._state()[0]
                after = engine.get_parameters()
                if isinstance(error, DivergenceError) or not all(map(_inputs.all_finite, after)):
                    engine.set_parameters(good)
                    self._reset_optimizer(engine)
            raise
        batch_size = engine.plan.batch_size
        if data[2] is None:
            sizes = np.full(steps, batch_size)
            sizes[-1] = len(order) - (steps - 1) * batch_size
        else:
            sizes = np.add.reduceat(
                data[2][order], np.arange(0, len(order), batch_size), dtype=np.float64
            )
        return float(np.average(losses_, weights=sizes)), seconds, after

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Be the only one that trains the model; leave no threads of the engine behind."""
        if not self._training_lock.acquire(blocking=False):
            raise RuntimeError(
                "this model is being trained by another call of fit or partial_fit; "
                "wait for it, or train a copy (copy.deepcopy)"
            )
        self._trainer = threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                if self._engine is not None:
                    self._engine.keep_threads(False)
            self._trainer = 0
            self._training_lock.release()

    def _training_plan(
        self,
        optimizer: str | Optimizer,
        batch_size: int,
        learning_rate: Rate | None,
        clip_norm: float,
    ) -> tuple[Plan, Schedule | Callable[[int], float]]:
        chosen = optimizers.get(optimizer)
        schedule = schedules.get(
            chosen.default_learning_rate if learning_rate is None else learning_rate
        )
        plan = replace(
            self._plan,
            optimizer=chosen,
            batch_size=check_integer("batch_size", batch_size, minimum=1),
            clip_norm=check_finite_number("clip_norm", clip_norm, minimum=0.0),
            threads=self._threads or get_num_threads(),
        )
        return plan, schedule

    # Prediction

    def predict(self, X: ArrayLike) -> Array:
        """Predict every row of X.

        Parameters
        ----------
        X : array_like of shape (n, n_0)

        Returns
        -------
        ndarray
            softmax_cross_entropy: the labels argmax_j f_j, int64, shape (n,).
            binary_cross_entropy: 1 where p > ½, else 0, int64, shape (n, n_L).
            Other losses: f, or exp(f) for poisson, in the model's dtype, shape (n, n_L).
            With one output (n_L = 1) the shape is (n,), whatever shape the targets had.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 2], weight_init=[[[1, 0], [-1, 0]]])
        >>> model.predict([[5], [-5]])
        array([0, 1])
        """
        loss = self._plan.loss.name
        if loss == "softmax_cross_entropy":
            labels: Array = self._output(X, link=False).argmax(axis=1)
            return labels
        if loss == "binary_cross_entropy":
            return _squeeze((self._output(X, link=False) > 0).astype(np.int64))
        return _squeeze(self._output(X, link=True))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Predict probabilities: softmax(f) for softmax_cross_entropy, sigmoid(f) for binary.

        Parameters
        ----------
        X : array_like of shape (n, n_0)

        Returns
        -------
        ndarray of shape (n, n_L), or (n,) if n_L = 1
            For binary_cross_entropy, each is the probability of 1.

        Raises
        ------
        ValueError
            If the loss is a regression loss.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 2], weight_init="zeros")
        >>> model.predict_proba([[5]])
        array([[0.5, 0.5]], dtype=float32)
        """
        if self._plan.loss.link not in ("softmax", "sigmoid"):
            raise ValueError(
                "predict_proba needs loss 'softmax_cross_entropy' or 'binary_cross_entropy', "
                f"but the model's is {self._plan.loss.name!r}"
            )
        return _squeeze(self._output(X, link=True))

    def forward(self, X: ArrayLike) -> tuple[list[Array], list[Array]]:
        """Return every value of the forward pass, computed by the reference engine.

        Parameters
        ----------
        X : array_like of shape (n, n_0)

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

        X = _inputs.as_matrix("X", X, self._plan.layer_sizes[0], self._dtype)
        engine = ReferenceEngine(replace(self._plan, optimizer=optimizers.SGD()))
        engine.set_parameters(self.parameters)
        return engine.trace(X)

    def jacobian(self, X: ArrayLike) -> Array:
        """Return df/dx at every row of X, f being the network's output before the link.

        Parameters
        ----------
        X : array_like of shape (n, n_0)

        Returns
        -------
        ndarray of shape (n, n_L, n_0)

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([1, 1, 1], loss="squared_error", weight_init=[[[2, 0]], [[3, 0]]])
        >>> model.jacobian([[1], [-1]]).ravel()
        array([6., 0.], dtype=float32)
        """
        X = _inputs.as_matrix("X", X, self._plan.layer_sizes[0], self._dtype)
        sizes = self._plan.layer_sizes
        out = np.empty((len(X), sizes[-1], sizes[0]), self._dtype)
        engine = self._engine or self._use()
        with self._lock:
            engine.jacobian(X, out)
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
        engine = self._engine or self._use()
        with self._lock:
            return engine.loss(*data)

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
        out = self._zeros()
        engine = self._engine or self._use()
        with self._lock:
            engine.gradient(*data, out)
        if split:
            return [g[:, :-1].copy() for g in out], [g[:, -1].copy() for g in out]
        return out

    def _output(self, X: ArrayLike, *, link: bool) -> Array:
        X = _inputs.as_matrix("X", X, self._plan.layer_sizes[0], self._dtype)
        out = np.empty((len(X), self._plan.layer_sizes[-1]), self._dtype)
        engine = self._engine or self._use()
        with self._lock:
            engine.forward(X, out, link=link)
        return out

    def _score_name(self) -> str:
        return "accuracy" if self._plan.loss.link in ("softmax", "sigmoid") else "R2"

    def _score(self, X: Array, y: Array, weight: Array | None) -> float:
        predicted = self.predict(X)
        link = self._plan.loss.link
        if link == "softmax":
            return scores.accuracy(predicted, y if y.ndim == 1 else y.argmax(axis=1), weight)
        predicted = predicted.reshape(y.shape)
        if link == "sigmoid":
            return scores.accuracy(predicted, y > 0.5, weight)
        return scores.r2(predicted, y, weight)

    # The engine

    def _use(self, plan: Plan | None = None) -> Engine:
        """Return the engine of `plan` (None: of the last one), with the model's parameters in it.

        The optimizer's state moves along if the optimizer is the same.
        """
        with self._lock:
            old = self._engine
            if plan is None:
                plan = replace(self._plan, threads=self._threads or get_num_threads())
            if old is not None and old.plan == plan:
                return old
            engine = create(plan, self._engine_name)
            engine.set_parameters(self.parameters)
            state = self._state()
            if plan.optimizer != self._plan.optimizer:
                self._steps = 0
            elif state[0]:
                engine.set_optimizer_state(*state)
            self._engine, self._plan = engine, plan
            self._parameters, self._optimizer_state = [], (0, [])
            return engine

    def _state(self) -> tuple[int, list[list[Array]]]:
        """The optimizer's state; no slots where there has been no engine."""
        with self._lock:
            engine = self._engine
            return self._optimizer_state if engine is None else engine.get_optimizer_state()

    def _zeros(self) -> list[Array]:
        """Arrays shaped as the parameters."""
        shapes = [(n, k + 1) for k, n in itertools.pairwise(self._plan.layer_sizes)]
        return [np.zeros(shape, self._dtype) for shape in shapes]

    def _reset_optimizer(self, engine: Engine) -> None:
        zeros = [self._zeros() for _ in range(engine.plan.optimizer.slots)]
        with self._lock:
            engine.set_optimizer_state(0, zeros)
        self._steps = 0

    # Threads, processes, copies and files

    def _make_locks(self) -> None:
        self._lock = threading.RLock()  # an engine has one workspace: one call at a time
        self._training_lock = threading.Lock()
        self._trainer = 0  # the thread that has it
        _models.add(self)

    def _after_fork(self) -> None:
        """Be usable in a child process, where no thread lives but the one that forked."""
        training = self._trainer not in (0, threading.get_ident())
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()
            if training:  # the fork came in the middle of a step
                self._engine = cast(Engine, _Lost())
        if training:
            self._training_lock = threading.Lock()
            self._trainer = 0

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = self.__dict__ | {
                "_engine": None,
                "_parameters": self.parameters,
                "_optimizer_state": self._state(),
            }
        for name in ("_lock", "_training_lock", "_trainer"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_locks()

    def _network(self) -> dict[str, Any]:
        """Description of the network in a file: arguments of `MLP`."""
        plan = self._plan
        description: dict[str, Any] = {
            "layer_sizes": plan.layer_sizes,
            "activation": [_described(a) for a in plan.activations],
            "loss": _described(plan.loss),
            "dropout": plan.dropout,
            "l1": plan.l1,
            "l2": plan.l2,
            "dtype": plan.dtype,
        }
        if plan.precision is not None:
            description["precision"] = plan.precision
        return description

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the network to a file of the safetensors format.

        The optimizer's state and the random generator are not saved: a checkpoint of `fit` and
        `pickle` keep them. An existing file is replaced once the new one is complete and on disk.

        Parameters
        ----------
        path : str or path-like
            Used as it is, no suffix is added.

        Raises
        ------
        TypeError
            If `path` is no path.
        ValueError
            If an activation or the loss is a function written in Python.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import fastbp
        >>> model = fastbp.MLP([4, 8, 3], seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     model.save(path)
        ...     same = fastbp.MLP.load(path)
        >>> X = [[1, 2, 3, 4]]
        >>> bool((same.predict_proba(X) == model.predict_proba(X)).all())
        True
        """
        _options.check_path("path", path)
        declared: list[Activation | Loss] = [*self._plan.activations, self._plan.loss]
        if users := {f.name for f in declared if f.function is not None}:
            raise ValueError(
                f"a file cannot hold {', '.join(sorted(users))}, written in Python; save "
                "`parameters`, or pickle the model if its functions can be imported"
            )
        arrays = {f"layer_{i}": p for i, p in enumerate(self.parameters, 1)}
        model_file.write(path, {"network": self._network()}, arrays)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        seed: int | np.random.Generator | None = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Load a network that `save` wrote, or the one of a checkpoint.

        Nothing in a file is ever executed.

        Parameters
        ----------
        path : str or path-like
        seed, engine, threads
            As in `MLP`.

        Raises
        ------
        TypeError
            If `path` is no path, or another argument is of the wrong kind.
        OSError
            If the file cannot be opened.
        ValueError
            If it is damaged, no model of fastbp, or written by a newer fastbp; or it is a checkpoint
            of a network with a function written in Python: only a model made with that function can
            go on from it (``fit(resume=path)``).

        Examples
        --------
        See `save`.
        """
        _options.check_path("path", path)
        run: dict[str, Any] = {
            "seed": _options.check_seed(seed),
            "engine": _options.check_engine(engine),
            "threads": _options.check_threads(threads),
        }
        header, arrays = model_file.read(path)
        network = header["network"]
        try:
            layers = len(_options.check_sizes(network["layer_sizes"])) - 1
            parameters = model_file.layers_from(arrays, layers)
            if arrays and "training" not in header:
                raise ValueError(f"it has an array {next(iter(arrays))!r} too many")
            declared = [*network["activation"], network["loss"]]
            users = {
                d[0] for d in declared if isinstance(d, list) and d[1:] and isinstance(d[-1], str)
            }
            if not users:
                network["activation"] = [Activation(*a) for a in network["activation"]]
                network["loss"] = Loss(*network["loss"])
                return cls(**network, weight_init=parameters, **run)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)!r} is damaged: {error}") from error
        raise ValueError(
            f"{os.fspath(path)!r} is of a network with {', '.join(sorted(users))}, written in Python, "
            "which a file cannot hold: make the model anew and go on with fit(resume=...)"
        )


_models: weakref.WeakSet[MLP] = weakref.WeakSet()


def _after_fork() -> None:
    for model in _models:
        model._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Lost:
    """In place of the engine of a model whose weights a fork caught between two steps."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(
            "another thread was training this model when this process was forked, so its weights "
            "are lost here; fork before or after training, or load the model from a file"
        )


def _described(f: Activation | Loss) -> list[str | float]:
    """Arguments of `Activation` or `Loss`; of a function written in Python also which it is."""
    described: list[str | float] = [f.name, float(f.parameter)]
    if f.function is not None:  # what cannot be told from one process to the next has its name only
        told = not f.fingerprint.startswith("#")
        described.append(f"{zlib.crc32(f.fingerprint.encode()):08x}" if told else "")
    return described


def _why_stop(history: History, epochs: int, early_stopping: int | None) -> str:
    """History.stopped after the epochs so far."""
    last = history.epochs - 1
    best = last if history.best_epoch is None else history.best_epoch
    if early_stopping is not None and last - best >= early_stopping:
        return "early_stopping"
    return "epochs" if last + 1 >= epochs else ""


def _squeeze(a: Array) -> Array:
    return a[:, 0] if a.shape[1] == 1 else a
