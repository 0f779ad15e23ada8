"""A fitted network for tables that predicts from files, too: what ``fastbp train`` saves.

The file is that of the estimator (`saving`), with ``table`` in its header: version, ``target``
(`fastbp.tables.target`) and ``width`` (columns of an array without names).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastbp import _options, model_file
from fastbp._validation import check_integer
from fastbp.tables.predictor import Predictor, checked
from fastbp.tables.target import Target
from fastbp.tabular.inputs import Inputs
from fastbp.tabular.saving import estimator_from

__all__ = ["TabularModel"]

Array = NDArray[Any]
VERSION = 1
PREDICTION = "prediction"  # name of what is predicted, where the file says none


@dataclass(frozen=True)
class TabularModel(Predictor):
    """A fitted `fastbp.TabularClassifier` or `fastbp.TabularRegressor`, with the name of its target.

    Attributes
    ----------
    estimator : TabularClassifier or TabularRegressor
    target : Target
        What is predicted. Its classes are those of the table, which training rows may not have had
        all; their probability is then 0.
    width : int or None
        Number of columns, the target's included, if they were those of an array without names.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastbp
    >>> frame = {"size": np.linspace(-1, 1, 200)}
    >>> model = fastbp.TabularRegressor("mlp", epochs=5, random_state=0).fit(frame, frame["size"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     model.save(path)
    ...     again = fastbp.load(path)
    >>> type(again).__name__, again.predict({"size": [0.5]}).shape
    ('TabularModel', (1,))
    """

    estimator: Any
    target: Target
    width: int | None = None

    @property
    def encoder(self) -> Inputs:
        """From columns to inputs."""
        found: Inputs = self.estimator.inputs_
        return found

    @property
    def dtype(self) -> str:
        """Of the inputs."""
        return "float32"

    def answers(self, X: Array) -> Array:
        """Predictions of encoded rows, as the user reads them."""
        if self.target.classes is None:
            numbers: Array = self.estimator._answers(X)
            return numbers
        return self.target.answers(self.probabilities(X).argmax(axis=1))

    def probabilities(self, X: Array) -> Array:
        """Of every class, of encoded rows."""
        return self.of_all_classes(self.estimator._probabilities(X))

    def _names_of_array(self) -> list[str]:
        unnamed = [f"x{j}" for j in range(self.estimator.n_features_in_)]
        return list(getattr(self.estimator, "feature_names_in_", unnamed))

    def of_all_classes(self, p: Array) -> Array:
        """Probabilities of the estimator's classes as those of the target's; others have 0."""
        labels = labels_of(self.target)
        if p.shape[1] == len(labels):
            return p
        found = np.zeros((len(p), len(labels)))
        found[:, np.searchsorted(labels, self.estimator.classes_)] = p
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save all to one file, which `fastbp.load` reads, and `fastbp.tabular.load` the estimator.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced once the new one is complete and on disk.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        table = {"version": VERSION, "target": self.target.to_dict(), "width": self.width}
        self.estimator._write(path, {"table": table})

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write an ONNX file, as `to_onnx` of the estimators, but for all classes of the target.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced once the new one is complete and on disk.

        Raises
        ------
        ImportError, TypeError, ValueError, OSError
            As there.
        """
        from fastbp.exchange import onnx_tabular

        _options.check_output("path", path)
        onnx_tabular.write(self, path)

    def to_python(self, path: str | os.PathLike[str]) -> None:
        """Write a Python file, as `to_python` of the estimators, but for all classes of the target.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced once the new one is complete.

        Raises
        ------
        TypeError, ValueError, OSError
            As there.
        """
        from fastbp.exchange import python_tabular

        _options.check_output("path", path)
        python_tabular.write(self, path)

    def to_c(self, path: str | os.PathLike[str]) -> Any:
        """Write C, as `to_c` of the estimators, but for all classes of the target.

        Parameters
        ----------
        path : str or path-like
            Without a suffix.

        Returns
        -------
        Written

        Raises
        ------
        TypeError, ValueError, OSError
            As there.
        """
        from fastbp.exchange import c_tabular

        _options.check_path("path", path)
        return c_tabular.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> Self:
        """The model of a file that `save`, or `save` of an estimator, wrote.

        Parameters
        ----------
        path : str or path-like
        threads : int or None
            Most threads to use; None: as the estimator was made.

        Raises
        ------
        OSError, ValueError
            If the file cannot be read, is damaged, or holds something else.
        """
        header, arrays = model_file.read(path)
        estimator = estimator_from(path, header, arrays)
        if threads is not None:
            estimator.n_jobs = check_integer("threads", threads, minimum=1)
        try:
            return cls(estimator, *_table_from(header.get("table"), estimator))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)!r} cannot be used: {error}") from None


def labels_of(target: Target) -> Array:
    """The classes as an array of one type, in their order."""
    return np.array(target.classes)


def model_of(estimator: Any) -> TabularModel:
    """The model of a fitted estimator."""
    return TabularModel(estimator, *_table_from(None, estimator))


def _table_from(table: object, estimator: Any) -> tuple[Target, int | None]:
    classes = getattr(estimator, "classes_", None)
    if table is None:  # an estimator's own file
        if classes is None:
            return Target(PREDICTION, None), None
        return Target(PREDICTION, tuple(classes.tolist())), None
    table = checked(table, VERSION)
    target, width = Target.from_dict(table.get("target")), table.get("width")
    if (target.classes is None) != (classes is None) or (
        classes is not None and not set(classes.tolist()) <= set(labels_of(target).tolist())
    ):
        raise ValueError("its target does not fit its estimator")
    if width is not None and (
        type(width) is not int
        or not {*estimator.inputs_.names, target.name} <= {str(j) for j in range(width)}
    ):
        raise ValueError("its width does not fit its columns")
    return target, width
