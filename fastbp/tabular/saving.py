"""One file for a tabular model: its inputs, stages' sizes, targets and members; and the way back."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from fastbp import _options, model_file
from fastbp.tabular import recipes
from fastbp.tabular.inputs import Inputs
from fastbp.tabular.training import Member

__all__ = ["Saved", "load"]

Array = NDArray[Any]
VERSION = 1
# Attributes that are plain numbers, of those that an estimator has.
_NUMBERS = ("temperature_", "center_", "scale_", "n_iter_", "fit_seconds_", "n_features_in_")


class Saved:
    """What a fitted estimator does with files."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, which `fastbp.tabular.load` reads; nothing of the data is in it.

        Parameters are written as they were when the model was fitted.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        TypeError
            If a label, or a parameter, cannot be written: no number, no text and no list of these.
        """
        check_is_fitted(self)
        _options.check_path("path", path)
        self._write(path, {})

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write an ONNX file: opset 18, IR version 8.

        Every column that the model uses is an input of its own, of shape (N, 1): numbers as float64, NaN
        where missing, dates as seconds since 1970, and texts, "" where missing. The outputs are what
        `predict` and `predict_proba` return: ``prediction``, or ``label`` and ``probabilities``.

        Parameters
        ----------
        path : path-like
            An existing file is replaced once the new one is complete and on disk.

        Raises
        ------
        ImportError
            If onnx is not installed (extra ``onnx``).
        TypeError, ValueError, OSError
            If `path` is no path, no file can be written there, the model uses no column, or labels are
            neither whole numbers nor texts.
        """
        from fastbp.tabular.model import model_of

        check_is_fitted(self)
        model_of(self).to_onnx(path)

    def to_python(self, path: str | os.PathLike[str]) -> None:
        """Write a Python file that predicts with NumPy alone: `predict`, and `predict_proba`.

        They take a dict of columns, or a frame: numbers, NaN where missing, dates, and texts.

        Parameters
        ----------
        path : path-like
            Such as ``"net.py"``. An existing file is replaced once the new one is complete.

        Raises
        ------
        TypeError, ValueError, OSError
            As `to_onnx`.
        """
        from fastbp.tabular.model import model_of

        check_is_fitted(self)
        model_of(self).to_python(path)

    def to_c(self, path: str | os.PathLike[str]) -> Any:
        """Write a C99 source and its header: ``PATH.c`` and ``PATH.h``.

        They need libm, nothing else; the header says how to call ``NAME_predict`` with a row.

        Parameters
        ----------
        path : path-like
            Without a suffix.

        Returns
        -------
        Written
            The paths, and the bytes of constants and of buffers.

        Raises
        ------
        TypeError, ValueError, OSError
            As `to_onnx`.
        """
        from fastbp.tabular.model import model_of

        check_is_fitted(self)
        return model_of(self).to_c(path)

    def _write(self, path: str | os.PathLike[str], more: dict[str, Any]) -> None:
        """Write the file, with more in its header."""
        me: Any = self
        parameters = dict(me._fitted)
        if not isinstance(parameters["random_state"], int):
            parameters["random_state"] = None
        arrays: dict[str, Array] = {}
        for i, member in enumerate(me.members_):
            for j, p in enumerate(member.parameters):
                arrays[f"member_{i}_{j}"] = p
        tabular: dict[str, Any] = {
            "version": VERSION,
            "estimator": type(self).__name__,
            "parameters": {name: _plain(value) for name, value in parameters.items()},
            "inputs": me.inputs_.to_dict(),
            "members": [
                {"values": m.values, "best_epoch": m.best_epoch, "stopped": m.stopped}
                for m in me.members_
            ],
            "numbers": {name: getattr(self, name) for name in _NUMBERS if hasattr(self, name)},
            "notes": me.notes_,
            "names": list(me.feature_names_in_) if hasattr(self, "feature_names_in_") else None,
            "classes": _plain(me.classes_) if hasattr(self, "classes_") else None,
            "range": _plain(me.range_) if hasattr(self, "range_") else None,
        }
        if hasattr(self, "residuals_"):
            arrays["residuals"] = me.residuals_
        model_file.write(path, {"network": {}, "tabular": tabular, **more}, arrays)


def load(path: str | os.PathLike[str]) -> Any:
    """The estimator of a file that `save` wrote.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is damaged, or holds something else.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastbp
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> model = fastbp.TabularRegressor("mlp", epochs=5, random_state=0).fit(X, X[:, 0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     model.save(path)
    ...     again = fastbp.tabular.load(path)
    >>> bool((again.predict(X) == model.predict(X)).all())
    True
    """
    _options.check_path("path", path)
    return estimator_from(path, *model_file.read(path))


def estimator_from(
    path: str | os.PathLike[str], header: dict[str, Any], arrays: dict[str, Array]
) -> Any:
    """The estimator of a file that was read."""
    from fastbp.tabular.classifier import TabularClassifier
    from fastbp.tabular.regressor import TabularRegressor

    tabular = header.get("tabular")
    if not isinstance(tabular, dict):
        raise ValueError(f"{os.fspath(path)!r} holds no tabular model; fastbp.load may read it")
    if tabular.get("version") != VERSION:
        raise ValueError(
            f"{os.fspath(path)!r} was written by a newer fastbp: upgrade fastbp to load it"
        )
    kinds: dict[str, Any] = {c.__name__: c for c in (TabularClassifier, TabularRegressor)}
    try:
        parameters = {name: _parameter(value) for name, value in tabular["parameters"].items()}
        model: Any = kinds[tabular["estimator"]](**parameters)
        model._check_parameters()
        model._fitted = model._given()
        _restore(model, tabular, arrays)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)!r} is damaged: {error}") from error
    return model


def _restore(model: Any, tabular: dict[str, Any], arrays: dict[str, Array]) -> None:
    model.inputs_ = inputs = Inputs.from_dict(tabular["inputs"])
    model.notes_ = [str(note) for note in tabular["notes"]]
    for name, value in tabular["numbers"].items():
        if name not in _NUMBERS or type(value) not in (int, float):
            raise ValueError(f"{name!r} is no number")
        setattr(model, name, value)
    if tabular["names"] is not None:
        model.feature_names_in_ = np.array(tabular["names"], object)
    if tabular["classes"] is not None:
        model.classes_ = np.array(tabular["classes"])
    if tabular["range"] is not None:
        low, high = tabular["range"]
        model.range_ = (float(low), float(high))
    if "residuals" in arrays:
        model.residuals_ = arrays["residuals"]
    recipe = model._changed(model._recipe())
    model.stages_ = recipes.stages(
        recipe, len(inputs.numbers), len(inputs.plain), inputs.levels, model._outputs
    )
    model._copies = recipe.copies
    plan = model._plan()
    members = []
    for i, told in enumerate(tabular["members"]):
        parameters = [arrays[f"member_{i}_{j}"] for j in range(len(plan.shapes))]
        plan.check_shapes(parameters)
        members.append(Member(parameters, told["values"], told["best_epoch"], told["stopped"]))
    if not members:
        raise ValueError("it has no members")
    model._adopt(members)


def _plain(value: Any) -> Any:
    """For JSON."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict):
        return {"pairs": [[_plain(k), _plain(v)] for k, v in value.items()]}  # keys may be numbers
    raise TypeError(f"a file cannot hold {value!r}: no number, no text and no list of these")


def _parameter(value: Any) -> Any:
    """Inverse of `_plain`; sequences become tuples."""
    if isinstance(value, dict):
        return {key: kept for key, kept in value["pairs"]}
    return tuple(value) if isinstance(value, list) else value
