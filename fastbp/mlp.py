"""The multilayer perceptron: how it is made, trained and kept. No arithmetic.

`MLP` checks what it is given and decides what to run. The loop over epochs is in `fastbp.training`,
what a fit records and keeps on the way in `fastbp.fitting`; predictions and derivatives are those of any
`fastbp.network.Network`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp import (
    _inputs,
    _options,
    _text,
    activations,
    fitting,
    initializers,
    losses,
    optimizers,
    saving,
    schedules,
)
from fastbp import rows as passes
from fastbp._validation import check_finite_number, check_integer
from fastbp.activations import Activation
from fastbp.engines import check_precision
from fastbp.exchange.methods import Conversions
from fastbp.history import History
from fastbp.holder import Holder
from fastbp.losses import Loss
from fastbp.network import Network
from fastbp.optimizers import Optimizer
from fastbp.plan import Plan
from fastbp.schedules import Schedule
from fastbp.stages import dense
from fastbp.threads import get_num_threads
from fastbp.training import mean_loss

__all__ = ["MLP"]

Array = NDArray[Any]
Rate = float | Schedule | Callable[[int], float]
Callback = Callable[["MLP", History], object]


class MLP(Conversions, Network):
    """A multilayer perceptron, trained by minibatch stochastic gradient descent.

    With v⁰ = [x; 1], a hidden layer computes zˡ = Wˡ vˡ⁻¹ and vˡ = [φ(zˡ); 1], and the output layer
    f = Wᴸ vᴸ⁻¹. The last column of every Wˡ is its bias.

    Parameters
    ----------
    layer_sizes : sequence of int
        n_0 … n_L: inputs, hidden widths, outputs; at least two.
    activation : str, Activation, or a sequence of them
        φ of the hidden layers, one for all or one for each: identity, sigmoid (or logistic), tanh,
        relu, leaky_relu, elu, softplus, selu, silu, gelu, mish.
    loss : str or Loss
        squared_error, absolute_error, huber, softmax_cross_entropy, binary_cross_entropy (one
        output, or several independent ones), poisson or pinball. See `fastbp.Loss`.
    dropout : float or sequence of float
        Probability, for all or for each hidden layer, that a unit is dropped in a training step.
    l1, l2 : float
        Penalties: l1 Σ|w| + ½ l2 Σ w² over the weights (not the biases) is added to the loss.
    label_smoothing : float
        s: softmax_cross_entropy takes 1 − s + s / n_L for an integer label, s / n_L for the others.
    weight_init : str or list of array_like
        ``"auto"`` (he_normal for the relu family, glorot_uniform for the others and the output
        layer), he_normal, he_uniform, glorot_normal, glorot_uniform, lecun_normal, lecun_uniform,
        zeros; or L arrays [W | b] of shape (n_l, n_{l−1} + 1). Biases start at 0.
    dtype : {"float32", "float64"}
        Of parameters, data and arithmetic.
    precision : {None, "bf16"}
        ``"bf16"``, for dtype float32: what enters a matmul is rounded to bfloat16, 8 significant
        bits, and summed in float32, in training and in every other call; all else stays float32. It
        pays on CPUs that multiply such matrices (AMX, AVX512-BF16), for wide layers and large
        batches; elsewhere it is emulated, and slower. Networks with no layer of 32 units or more are
        computed in float32, which is faster for them. Not for engine ``"jit"``.
    seed : int, numpy.random.Generator or None
        Source of initial weights, dropout masks and shuffles. A Generator is used as it is, and so
        moves on. None: different every time.
    engine : {"auto", "native", "jit", "reference"}
        What computes; ``"auto"`` takes the native engine if it is there, else what Numba compiles,
        else NumPy.
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
    thread was in an epoch of a model, or setting its parameters, the weights of that model are lost;
    using it raises RuntimeError.

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
        label_smoothing: float = 0.0,
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
        if objective.link == "softmax" and sizes[-1] == 1:
            raise ValueError(
                f"loss {objective.name!r} needs at least 2 outputs, but layer_sizes ends in 1; one "
                "output takes 'binary_cross_entropy' (two classes), 'squared_error', or a loss of "
                "yours with another link than 'softmax'"
            )
        drop = _options.for_each("dropout", dropout, hidden, _options.check_dropout)
        l1 = check_finite_number("l1", l1, minimum=0.0)
        l2 = check_finite_number("l2", l2, minimum=0.0)
        smoothing = check_finite_number("label_smoothing", label_smoothing, minimum=0.0)
        kind = _options.check_dtype(dtype)
        check_precision(precision, kind.name)
        engine = _options.check_engine(engine)
        threads = _options.check_threads(threads)
        stages = dense(sizes, phi, drop)
        given = None
        if isinstance(weight_init, Sequence) and not isinstance(weight_init, str):
            given = _inputs.as_parameters("weight_init", weight_init, sizes, kind)
        else:
            weight_init = initializers.check(weight_init)

        self._generator = _options.check_seed(seed)
        parameters: list[Array] = (
            [p.copy() for p in given]
            if given is not None
            else [
                p
                for stage in stages
                for p in stage.first_values(cast(str, weight_init), kind.name, self._generator)
            ]
        )
        plan = Plan(
            stages=stages,
            loss=objective,
            dtype=kind.name,
            precision=precision,
            threads=threads or get_num_threads(),
            l1=l1,
            l2=l2,
            label_smoothing=smoothing,
            seed=int(self._generator.integers(1 << 64, dtype=np.uint64)),
        )
        super().__init__(plan, Holder(parameters, engine), threads)
        self.history: History | None = None

    def __repr__(self) -> str:
        return _text.call(self._plan)

    def _repr_html_(self) -> str:
        from fastbp import _html

        return _html.network(self._plan, self.history)

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

    # Training

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        optimizer: str | Optimizer = "sgd",
        learning_rate: Rate | schedules.ReduceOnPlateau | None = None,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | str | None = None,
        validation: float | tuple[ArrayLike, ...] | None = None,
        early_stopping: int | None = None,
        min_delta: float = 0.0,
        clip_norm: float = 0.0,
        callbacks: Iterable[Callback] = (),
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1,
        resume: str | os.PathLike[str] | None = None,
        sparse_update: str = "exact",
        comm: Any = None,
        rows: str = "shared",
        sync: int = 0,
    ) -> History:
        """Train from the present parameters on, with a fresh optimizer.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n, n_0)
            Finite numbers, never written to. Used in place if C-contiguous and of the model's dtype (a
            memory-mapped file is then read as it is needed), else converted once. A DataFrame may have
            columns of any types of numbers, nullable ones and bools; a missing value is an error that
            names its row and column. A sparse matrix of SciPy costs its nonzeros; CSR arrays of the
            model's dtype are used in place.
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
            A number, one of `fastbp.schedules`, or a callable from the step (an int, from 0). None:
            the optimizer's `default_learning_rate`.
        shuffle : bool
            Take the rows in a new random order every epoch.
        sample_weight : array_like of shape (n,) or None
            ≥ 0. A batch's loss is the weighted mean of its rows'.
        class_weight : dict, "balanced" or None
            For classification: factors of the sample weights by class, 1 for those not named;
            ``"balanced"``: the same total weight for every class. Of the rows of `X`, those that
            `validation` sets aside among them.
        validation : float, tuple or None
            (X, y) or (X, y, sample_weight) to measure loss and score on after every epoch; or the
            fraction of the rows to set aside for it, at random with `shuffle`, else the last ones.
        early_stopping : int or None
            Stop after this many epochs without a lower validation loss (one that is NaN or infinite
            is never lower), and restore the weights of the epoch with the lowest.
        min_delta : float
            By how much a validation loss must be below the lowest one so far to count as lower.
        clip_norm : float
            If > 0, the most that the Euclidean norm of a step's gradient may be.
        callbacks : iterable of callable
            Each is called as ``callback(model, history)`` after every epoch; one that returns True
            (a bool of Python or NumPy; nothing else counts) ends the training; see `fastbp.callbacks`.
        progress : bool
            Print a line for every epoch.
        checkpoint : str, path-like or None
            Write the whole state of the training to this file, which `resume` and `load` read. An
            existing file is replaced once the new one is complete and on disk.
        checkpoint_every : int
            Epochs from one checkpoint to the next. There is one at the end in any case.
        resume : str, path-like or None
            Go on from this checkpoint as if training had never stopped, given the same data and
            options: the weights come out the same, bit for bit, on any number of threads. `epochs`
            counts those that the checkpoint has behind it. A function written in Python must be the
            same, and the Python version. Other data are noticed by a sample of their rows.
        sparse_update : {"exact", "lazy"}
            For a sparse X. ``"exact"``: as with a dense X. ``"lazy"``: an input's weights, their
            penalty, decay and the optimizer's state move only in the steps in whose rows it occurs,
            and so a step's cost does not depend on the number of inputs.
        comm : mpi4py.MPI.Comm or None
            The processes that train this network together, each with its rows of every minibatch, to
            the weights of one process, bit for bit. All call this with the same data and options;
            they begin with the weights and the generator of rank 0, where callbacks run and files
            are written.
        rows : {"shared", "own"}
            Whether all ranks are given the same `X` and `y`, or each some rows of its own.
        sync : int
            If > 0, the ranks train alone and average their weights every so many steps (local SGD):
            fewer exchanges, and a result that depends on the number of ranks.

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
            If a loss or a weight becomes NaN or infinite, or, with early stopping, the first
            validation loss is (a later one is no improvement). The model has the weights from before
            the epoch that the message names.
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
        ranks = None
        if comm is not None:
            from fastbp.distributed.ranks import join

            ranks = join(comm, rows, sync)
        elif rows != "shared" or sync:
            raise ValueError("rows and sync are of a fit by several ranks, but comm is None")
        options = {
            "epochs": epochs,
            "batch_size": batch_size,
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "shuffle": shuffle,
            "sample_weight": sample_weight,
            "class_weight": class_weight,
            "validation": validation,
            "early_stopping": early_stopping,
            "min_delta": min_delta,
            "clip_norm": clip_norm,
            "callbacks": callbacks,
            "progress": progress,
            "checkpoint": checkpoint,
            "checkpoint_every": checkpoint_every,
            "resume": resume,
            "sparse_update": sparse_update,
        }
        self.history = fitting.fit(self, X, y, ranks, **options)
        return self.history

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
        sparse_update: str = "exact",
    ) -> float:
        """Train for one pass over the data, going on from the optimizer's state of the last call.

        The state, and the step count that a schedule sees, go on as long as `optimizer` is the same
        from call to call (of `fit` or `partial_fit`); another optimizer starts afresh. Data that do
        not fit into memory train chunk by chunk, as they come.

        Parameters
        ----------
        X, y, sample_weight, batch_size, optimizer, learning_rate, shuffle, clip_norm, sparse_update
            As in `fit`.

        Returns
        -------
        float
            Mean of the steps' objectives, each taken before its update.

        Raises
        ------
        TypeError, ValueError, DivergenceError, KeyboardInterrupt, RuntimeError
            As in `fit`; after a DivergenceError with the weights from before the call.

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
        plan, rate = self._training_plan(optimizer, batch_size, learning_rate, clip_norm)
        schedule = schedules.get(rate)
        _options.check_flag("shuffle", shuffle)
        data = _inputs.as_training_data(self._plan, X, y, sample_weight)
        n = len(data[0])
        # As in `fit`; to the next power of 2, so that the engine need not change with every n.
        plan = plan.having(batch_size=min(plan.batch_size, 1 << (n - 1).bit_length()))
        holder = self._holder
        rows_plan = passes.plan_for(plan, data[0], holder.engine_name, sparse_update)
        with holder.training():
            start = holder.steps if plan.optimizer == self._plan.optimizer else 0
            rates = schedules.rates(schedule, start, -(-n // plan.batch_size))
            with holder.lock:
                holder.use(rows_plan).keep()
                self._plan = plan
            order = self._generator.permutation(n) if shuffle else np.arange(n)
            epoch = fitting.step(holder, rows_plan, data, order, rates, "partial_fit")
        return mean_loss(epoch.losses, plan.batch_size, order, data[2])

    def _training_plan(
        self,
        optimizer: str | Optimizer,
        batch_size: int,
        learning_rate: Rate | schedules.ReduceOnPlateau | None,
        clip_norm: float,
    ) -> tuple[Plan, Callable[[int], float] | schedules.ReduceOnPlateau]:
        chosen = optimizers.get(optimizer)
        rate = chosen.default_learning_rate if learning_rate is None else learning_rate
        plan = self._plan.having(
            optimizer=chosen,
            batch_size=check_integer("batch_size", batch_size, minimum=1),
            clip_norm=check_finite_number("clip_norm", clip_norm, minimum=0.0),
            threads=self._threads or get_num_threads(),
        )
        return plan, rate if isinstance(rate, schedules.ReduceOnPlateau) else schedules.get(rate)

    # Files

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
        saving.save(path, self._plan, self.parameters)

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
        run: dict[str, Any] = {
            "seed": _options.check_seed(seed),
            "engine": _options.check_engine(engine),
            "threads": _options.check_threads(threads),
        }
        return saving.load(path, cls, run)
