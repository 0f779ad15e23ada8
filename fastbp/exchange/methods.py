"""The methods by which models go elsewhere and come from there.

`FileExports` is for every model, also for that of a table; `Exports` for networks; `Conversions` has
`MLP`'s ways in too. Each method imports what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _inputs, _options
from fastbp._validation import check_integer
from fastbp.activations import Activation
from fastbp.losses import Loss

if TYPE_CHECKING:
    from fastbp.exchange.c_source import Written
    from fastbp.exchange.description import Network

__all__ = ["Conversions", "EstimatorExports", "Exports", "FileExports"]

Array = NDArray[Any]
Path = str | os.PathLike[str]
Activations = str | Activation | Sequence[str | Activation]


class FileExports:
    """Files that predict elsewhere, encoder of a table included.

    Notes
    -----
    What has been trained in ``precision="bf16"`` is float32 elsewhere: nothing is rounded to bfloat16.
    A function written in Python goes along where its values are those of a known formula
    (`fastbp.exchange.formulas`).
    """

    def to_onnx(self, path: Path) -> None:
        """Write an ONNX file: opset 18, IR version 8.

        Its input is X of shape (N, n_0) in the model's dtype; of a table's model, every column, of
        shape (N, 1), numbers as float64 (NaN: missing), dates as seconds since 1970, or texts. Its
        outputs are what `predict` and `predict_proba` return, in shape and dtype: ``prediction``, or
        ``label`` and ``probabilities``.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced once the new one is complete and on disk.

        Raises
        ------
        ImportError
            If onnx is not installed (extra ``onnx``).
        TypeError
            If `path` is no path.
        ValueError
            If no file can be written there, an activation is written in Python and no known formula,
            or the parameters take more than the 2 GB that an ONNX file holds.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import fastbp
        >>> model = fastbp.MLP([4, 8, 3], activation="gelu", seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.onnx")
        ...     model.to_onnx(path)  # doctest: +SKIP
        ...     same = fastbp.MLP.from_onnx(path)  # doctest: +SKIP
        """
        from fastbp.exchange import onnx_out

        _options.check_output("path", path)
        onnx_out.write(self._network_description(), path)

    def to_c(self, path: Path, *, weights: str = "float", X: ArrayLike | None = None) -> Written:
        """Write a C99 source and its header: ``PATH.c`` and ``PATH.h``.

        They need libm, nothing else: constant arrays, two static buffers, no allocation. The header
        says how to call ``NAME_predict`` (NAME is the last part of the path).

        Parameters
        ----------
        path : str or path-like
            Without a suffix.
        weights : {"float", "int8"}
            ``"int8"``: each row of W is rounded to −127 … 127 times a scale of its own. A quarter of
            the size; the error is measured, returned, and printed in the header.
        X : array_like of shape (n, n_0) or None
            Rows to measure that error on; None: 1,000 of independent standard normal numbers.

        Returns
        -------
        Written
            The paths, the bytes of constants, and the error of int8.

        Raises
        ------
        TypeError, ValueError, OSError
            If an argument is of the wrong kind, or no files can be written there.

        Examples
        --------
        >>> import os, tempfile
        >>> import fastbp
        >>> model = fastbp.MLP([4, 8, 3], seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = model.to_c(os.path.join(folder, "net"))
        >>> written.constants  # bytes
        268
        """
        from fastbp.exchange import c_source

        _options.check_path("path", path)
        return c_source.write(self._network_description(), path, weights, X)

    def to_python(self, path: Path) -> None:
        """Write a Python file that predicts with NumPy alone: `predict`, and `predict_proba`.

        Parameters
        ----------
        path : str or path-like
            Such as ``"net.py"``. An existing file is replaced once the new one is complete.

        Raises
        ------
        TypeError, ValueError, OSError
            If `path` is no path, or no file can be written there.
        """
        from fastbp.exchange import python_source

        _options.check_output("path", path)
        python_source.write(self._network_description(), path)

    def _network_description(self) -> Network:
        from fastbp.exchange.description import describe

        return describe(self)


class Exports(FileExports):
    """Ways out of fastbp."""

    def to_torch(self) -> Any:
        """Return a ``torch.nn.Sequential`` that computes f, the output before the link.

        That is what torch's losses take (``CrossEntropyLoss``, ``BCEWithLogitsLoss``, …).

        Returns
        -------
        torch.nn.Sequential
            Of Linear, activations, and Dropout where there is some; with copies of the parameters.

        Raises
        ------
        ImportError
            If torch is not installed.
        ValueError
            If an activation is written in Python and no known formula.
        """
        from fastbp.exchange import pytorch

        return pytorch.to_torch(self._network_description())

    def to_keras(self) -> Any:
        """Return a ``keras.Sequential`` that computes the prediction, link(f).

        Its last layer has the link as its activation: softmax, sigmoid, exponential or linear. Keras
        computes tanh in float32 on backends other than TensorFlow, in layers of float64 too.

        Returns
        -------
        keras.Sequential
            Of Dense, activations, and Dropout where there is some; with copies of the parameters.

        Raises
        ------
        ImportError
            If keras or its backend is not installed.
        ValueError
            If an activation is written in Python and no known formula, or the backend does not keep
            float64.
        """
        from fastbp.exchange import keras

        return keras.to_keras(self._network_description())

    def to_sklearn(self) -> Any:
        """Return scikit-learn's own MLPClassifier or MLPRegressor with these parameters, fitted.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor

        Raises
        ------
        ImportError
            If scikit-learn is not installed.
        ValueError
            If the hidden layers have different activations, or one that scikit-learn has not.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([4, 8, 3], activation="tanh", seed=0)
        >>> model.to_sklearn().predict([[1, 2, 3, 4]]) == model.predict([[1, 2, 3, 4]])
        array([ True])
        """
        from fastbp.exchange import sklearn

        return sklearn.to_sklearn(self._network_description())

    def state_dict(self) -> dict[str, Array]:
        """Return copies of weights and biases by the names of `to_torch`: ``0.weight``, ``0.bias``.

        Returns
        -------
        dict of str to ndarray
            Shapes (n_l, n_{l−1}) and (n_l,). The numbers count modules: Linear, activation, Dropout.

        Examples
        --------
        >>> import fastbp
        >>> {name: a.shape for name, a in fastbp.MLP([4, 8, 3]).state_dict().items()}
        {'0.weight': (8, 4), '0.bias': (8,), '2.weight': (3, 8), '2.bias': (3,)}
        """
        from fastbp.exchange import state

        return state.state_dict(self._network_description())

    def to_safetensors(self, path: Path) -> None:
        """Write `state_dict` to a safetensors file that ``safetensors.torch.load_file`` reads.

        Activations, loss and dropout go along in the header, for `MLP.from_safetensors`. A file of
        ``MLP.save`` has another layout.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced once the new one is complete and on disk.

        Raises
        ------
        TypeError, ValueError, OSError
            If `path` is no path, or no file can be written there.
        """
        from fastbp.exchange import state

        _options.check_output("path", path)
        state.write(self._network_description(), path)

    def attributions(
        self, X: ArrayLike, baseline: ArrayLike | None = None, *, steps: int = 64
    ) -> Array:
        """Return integrated gradients: what each input has added to each output f.

        Over the inputs they add up to f(x) − f(baseline): to rounding for smooth activations, with an
        error of order 1 / `steps` where a kink (as of relu) lies between baseline and x.

        Parameters
        ----------
        X : array_like of shape (n, n_0)
        baseline : array_like of shape (n_0,) or None
            The input that stands for "nothing"; None: zeros.
        steps : int
            Jacobians taken between baseline and x.

        Returns
        -------
        ndarray of shape (n, n_L, n_0)

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind, shape or range.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([2, 1], loss="squared_error", weight_init=[[[2, 3, 1]]])
        >>> model.attributions([[10, 1]]).ravel()
        array([20.,  3.], dtype=float32)
        """
        from fastbp.exchange.attributions import integrate
        from fastbp.mlp import MLP

        steps = check_integer("steps", steps, minimum=1, maximum=10_000)
        model = self if isinstance(self, MLP) else self._network_description().model(MLP)
        columns, dtype = model.plan.layer_sizes[0], np.dtype(model.plan.dtype)
        X = _inputs.as_matrix("X", X, columns, dtype)
        start = np.zeros(columns, dtype)
        if baseline is not None:
            start = _inputs.as_array("baseline", baseline, dtype)
            if start.shape != (columns,):
                raise ValueError(f"baseline must have shape ({columns},), got {start.shape}")
            _inputs.check_finite("baseline", start)
        return integrate(model.jacobian, X, start, steps)


class EstimatorExports(Exports):
    """Ways out of fastbp, for the estimators, and from scikit-learn's."""

    def to_sklearn(self) -> Any:
        """Return scikit-learn's estimator of the same name: parameters, coefficients, classes.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor
            Fitted. What only fastbp has (solver "adamw", dropout, …) is left at its default.

        Raises
        ------
        NotFittedError
            If it has not been fitted.
        ValueError
            If the hidden layers have different activations, or one that scikit-learn has not.
        """
        from fastbp.exchange import sklearn

        return sklearn.to_peer(self)

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Self:
        """Make an estimator of scikit-learn's fitted one of the same name.

        Parameters
        ----------
        estimator : sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor

        Raises
        ------
        NotFittedError
            If it has not been fitted.
        TypeError
            If it is another estimator.
        """
        from fastbp.exchange import sklearn

        made: Self = sklearn.from_peer(cls, estimator)
        return made


class Conversions(Exports):
    """Ways out of fastbp and into it, for `MLP`.

    Wherever a network comes from, `loss` says what it is trained on here; None takes the one whose
    predictions are the outputs there: squared_error, or after softmax softmax_cross_entropy, after
    sigmoid binary_cross_entropy, after exp poisson. What fastbp has not is refused by its name.
    `seed`, `engine` and `threads` are those of `MLP`.
    """

    @classmethod
    def from_onnx(
        cls,
        path: Path,
        *,
        loss: str | Loss | None = None,
        seed: int | np.random.Generator | None = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Make an MLP of an ONNX file: a chain of dense layers and known activations.

        Gemm, or MatMul and Add, are dense layers. Activations are known by what they compute, as one
        operator or several. Nothing in the file is executed; weights in other files are refused.

        Parameters
        ----------
        path : str or path-like
        loss : str, Loss or None
            None: that of a file written by fastbp, or the one whose predictions are the outputs.
        seed, engine, threads
            As in `MLP`.

        Raises
        ------
        ImportError
            If onnx is not installed (extra ``onnx``).
        OSError
            If the file cannot be opened.
        TypeError, ValueError
            If it is no ONNX file, is damaged, larger than 2 GB, or no MLP; the message names the
            node.
        """
        from fastbp.exchange import onnx_in

        _options.check_path("path", path)
        return cls._of(onnx_in.read(path, loss), seed, engine, threads)

    @classmethod
    def from_torch(
        cls,
        module: Any,
        *,
        loss: str | Loss | None = None,
        seed: int | np.random.Generator | None = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Make an MLP of a ``torch.nn.Sequential`` of Linear, activations and Dropout.

        Parameters
        ----------
        module : torch.nn.Sequential
            Parameters in half precision become float32.
        loss : str, Loss or None
            None: the one whose predictions are the module's outputs.
        seed, engine, threads
            As in `MLP`.

        Raises
        ------
        ImportError
            If torch is not installed.
        TypeError, ValueError
            If it is no Sequential, or a module in it is none of an MLP; the message names it.
        """
        from fastbp.exchange import pytorch

        return cls._of(pytorch.from_torch(module, loss), seed, engine, threads)

    @classmethod
    def from_keras(
        cls,
        model: Any,
        *,
        loss: str | Loss | None = None,
        seed: int | np.random.Generator | None = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Make an MLP of a ``keras.Sequential`` of Dense, activations and Dropout.

        Parameters
        ----------
        model : keras.Sequential
        loss : str, Loss or None
            None: the one whose predictions are the model's outputs.
        seed, engine, threads
            As in `MLP`.

        Raises
        ------
        ImportError
            If keras or its backend is not installed.
        TypeError, ValueError
            If it is no Sequential, or a layer in it is none of an MLP; the message names it.
        """
        from fastbp.exchange import keras

        return cls._of(keras.from_keras(model, loss), seed, engine, threads)

    @classmethod
    def from_sklearn(
        cls,
        estimator: Any,
        *,
        loss: str | Loss | None = None,
        seed: int | np.random.Generator | None = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Make an MLP of a fitted MLPClassifier or MLPRegressor, scikit-learn's or fastbp's.

        Its labels are 0, 1, …, in the order of the estimator's ``classes_``.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
        loss : str, Loss or None
            None: the estimator's.
        seed, engine, threads
            As in `MLP`.

        Raises
        ------
        ImportError
            If scikit-learn is not installed.
        TypeError, ValueError
            If it is no such estimator, is not fitted, or `loss` has other predictions.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([4, 8, 3], seed=0)
        >>> same = fastbp.MLP.from_sklearn(model.to_sklearn())
        >>> bool((same.parameters[0] == model.parameters[0]).all())
        True
        """
        from fastbp.exchange import sklearn

        return cls._of(sklearn.from_sklearn(estimator, loss), seed, engine, threads)

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        *,
        activation: Activations = "relu",
        loss: str | Loss | None = None,
        seed: int | np.random.Generator | None = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Make an MLP of weights and biases by name, such as ``0.weight`` and ``0.bias``.

        Parameters
        ----------
        state : mapping of str to array_like
            Arrays, or tensors of torch; layers are in the order of the numbers in their names.
        activation : str, Activation, or a sequence of them
            As in `MLP`.
        loss : str, Loss or None
            None: squared_error, whose predictions are the outputs.
        seed, engine, threads
            As in `MLP`.

        Raises
        ------
        TypeError, ValueError
            If the arrays are not those of a chain of dense layers; the message names the layer.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.MLP([4, 8, 3], seed=0)
        >>> fastbp.MLP.from_state_dict(model.state_dict(), loss=model.plan.loss).plan.layer_sizes
        (4, 8, 3)
        """
        from fastbp.exchange import state as states

        return cls._of(states.from_state_dict(state, activation, loss), seed, engine, threads)

    @classmethod
    def from_safetensors(
        cls,
        path: Path,
        *,
        activation: Activations | None = None,
        loss: str | Loss | None = None,
        seed: int | np.random.Generator | None = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Make an MLP of a safetensors file of dense layers, F16 and BF16 as float32.

        Parameters
        ----------
        path : str or path-like
        activation : str, Activation, a sequence of them, or None
            As in `MLP`; None: what the file says, if `to_safetensors` wrote it.
        loss : str, Loss or None
            None: what the file says, else squared_error.
        seed, engine, threads
            As in `MLP`.

        Raises
        ------
        OSError
            If the file cannot be opened.
        TypeError, ValueError
            If it is damaged, not of a chain of dense layers, or does not say its activations.
        """
        from fastbp.exchange import state

        _options.check_path("path", path)
        return cls._of(state.read(path, activation, loss), seed, engine, threads)

    @classmethod
    def _of(cls, network: Network, seed: Any, engine: str, threads: int | None) -> Self:
        model: Self = network.model(cls, seed=seed, engine=engine, threads=threads)  # type: ignore[type-var]
        return model
