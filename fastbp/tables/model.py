"""A network with the encoding of the table it was trained on: predicts from files and frames.

One file holds both: the network as `fastbp.MLP.save` writes it, and in the header ``table``: version,
``encoding`` (`encoding.py`), ``target`` (`target.py`) and ``width`` (columns of an array without
names). Nothing of it is believed unchecked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import model_file, saving
from fastbp._validation import nearest_name
from fastbp.exchange.methods import FileExports
from fastbp.mlp import MLP
from fastbp.tables import frames
from fastbp.tables.columns import value_at
from fastbp.tables.encoding import Bad, Category, Column, Encoding, Number
from fastbp.tables.parts import Part
from fastbp.tables.reading import Options, stream
from fastbp.tables.target import Target

__all__ = ["TableModel", "load"]

VERSION = 1
_CELLS = 1 << 21  # inputs that are encoded at a time
Paths = str | os.PathLike[str]


@dataclass(frozen=True)
class TableModel(FileExports):
    """A network that takes rows of a table.

    Attributes
    ----------
    network : MLP
    encoding : Encoding
        From columns to the network's inputs.
    target : Target
        What is predicted.
    width : int or None
        Number of columns, the target's included, if they were those of an array without names.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastbp
    >>> from fastbp.cli import main
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     X = np.random.default_rng(0).normal(size=(200, 2))
    ...     np.savez(os.path.join(folder, "t.npz"), a=X[:, 0], b=X[:, 1], sum=X.sum(axis=1))
    ...     path = os.path.join(folder, "model.safetensors")
    ...     arguments = ["train", os.path.join(folder, "t.npz"), "--target", "sum", "--save", path]
    ...     status = main([*arguments, "--quiet"])  # doctest: +ELLIPSIS
    ...     model = fastbp.load(path)
    200 rows, 2 inputs: regression of 'sum'
    ...
    >>> bool(abs(model.predict({"b": [1.0], "a": [0.5]})[0] - 1.5) < 0.5)
    True
    """

    network: MLP
    encoding: Encoding
    target: Target
    width: int | None = None

    @property
    def classes(self) -> NDArray[Any] | None:
        """The labels, in the order of the probabilities; None for a regression."""
        return None if self.target.classes is None else self.target.labels()

    def predict(self, data: Any, *, skip_bad_rows: bool = False) -> NDArray[Any]:
        """Predict every row.

        Parameters
        ----------
        data : path, list of paths, frame, dict of columns, or 2-D array
            With the columns that the model uses; others do not matter.
        skip_bad_rows : bool
            Leave out rows with a value that cannot be taken.

        Returns
        -------
        ndarray of shape (rows,)
            Labels, or numbers on the scale of the target.

        Raises
        ------
        OSError
            If a file cannot be read.
        ValueError
            If a column is missing, or a value cannot be taken: the message names file, row, column
            and value.
        """
        options = Options(skip_bad_rows=skip_bad_rows)
        pieces = [self.answers(X) for _, _, X in self.encoded(data, options)]
        return np.concatenate(pieces) if pieces else self.answers(self._no_rows())

    def predict_proba(self, data: Any, *, skip_bad_rows: bool = False) -> NDArray[Any]:
        """Predict the probability of every class.

        Parameters
        ----------
        data, skip_bad_rows
            As in `predict`.

        Returns
        -------
        ndarray of shape (rows, classes)

        Raises
        ------
        OSError, ValueError
            As in `predict`; ValueError also for a regression.
        """
        self.check_proba()
        options = Options(skip_bad_rows=skip_bad_rows)
        pieces = [self.network.predict_proba(X) for _, _, X in self.encoded(data, options)]
        return np.concatenate(pieces) if pieces else self.network.predict_proba(self._no_rows())

    def check_proba(self) -> None:
        """Raise if there are no probabilities."""
        if self.target.classes is None:
            raise ValueError("probabilities need a classification model; this one is a regression")

    def answers(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predictions of encoded rows, as the user reads them."""
        return self.target.answers(self.network.predict(X))

    def encoded(
        self, data: Any, options: Options, also: Sequence[str] = ()
    ) -> Iterator[tuple[Part, NDArray[np.int64], NDArray[Any]]]:
        """Encode data piece by piece: a part, rows of it that can be taken, their inputs.

        Parameters
        ----------
        data
            As in `predict`.
        options : Options
            How to read files, and whether to skip bad rows.
        also : sequence of str
            Columns that the parts are to have besides.
        """
        skipped, first = 0, ""
        step = max(_CELLS // len(self.encoding.inputs), 256)
        for whole in self._parts(data, options, also):
            for start in range(0, whole.rows, step):
                part = whole.slice(start, min(start + step, whole.rows))
                out = np.empty((part.rows, len(self.encoding.inputs)), self.network.plan.dtype)
                X, bad = self.encoding.encode(part, out=out)
                rows = np.arange(part.rows)
                if bad:
                    spoilt = np.logical_or.reduce([b.rows for b in bad])
                    message = _why_bad(part, bad, int(spoilt.argmax()))
                    if not options.skip_bad_rows:
                        raise ValueError(f"{message}; --skip-bad-rows goes on without such rows")
                    skipped, first = skipped + int(spoilt.sum()), first or message
                    rows = np.flatnonzero(~spoilt)
                    X = X[rows]
                yield part, rows, X
        if skipped:
            options.told(f"{skipped:,} row{'s' * (skipped > 1)} left out, the first: {first}")

    def _parts(self, data: Any, options: Options, also: Sequence[str]) -> Iterator[Part]:
        names = self.encoding.names
        if isinstance(data, str | os.PathLike):
            data = [data]
        if isinstance(data, list | tuple) and data and isinstance(data[0], str | os.PathLike):
            texts = {*self.encoding.texts, *also}
            for path in data:
                array = str(path).lower().endswith(".npy")
                only = None if array else {*names, *also}
                for part in stream([path], options, only=only, texts=lambda names: texts):
                    yield self._by_position(part) if array else part
            return
        parts = frames.parts_of(data)
        unnamed = isinstance(data, np.ndarray)
        for part in parts:
            if unnamed:
                part = self._by_position(part)
            for name in names:
                if name not in part.columns:
                    raise ValueError(nearest_name("column", name, part.columns))
            yield part

    def _by_position(self, part: Part) -> Part:
        """Columns of an array, by their index in training; the target's may be left out."""
        columns = list(part.columns.values())
        if self.width is None:
            names = self.encoding.names
        else:
            names = [str(j) for j in range(self.width)]
            if len(columns) == self.width - 1:
                names.remove(self.target.name)
        if len(columns) != len(names):
            raise ValueError(
                f"{part.where or 'the array'}: has {len(columns)} columns, in training {len(names)}"
            )
        return replace(part, columns=dict(zip(names, columns, strict=True)))

    def _no_rows(self) -> NDArray[Any]:
        return np.empty((0, len(self.encoding.inputs)), self.network.plan.dtype)

    def save(self, path: Paths) -> None:
        """Save network and encoding to one file, which `fastbp.load` reads, and `fastbp.MLP.load`.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced once the new one is complete and on disk.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        table = {
            "version": VERSION,
            "encoding": self.encoding.to_dict(),
            "target": self.target.to_dict(),
            "width": self.width,
        }
        saving.save(path, self.network.plan, self.network.parameters, {"table": table})


def load(path: Paths, *, engine: str = "auto", threads: int | None = None) -> TableModel:
    """Load a model that ``fastbp train --save`` or `TableModel.save` wrote.

    Parameters
    ----------
    path : str or path-like
        Of older versions, which wrote a second file ``….json``, both are read.
    engine, threads
        As in `fastbp.MLP`.

    Returns
    -------
    TableModel

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, no model of a table, or written by a newer fastbp.

    Examples
    --------
    See `fastbp.tables.model.TableModel`.
    """
    network = MLP.load(path, engine=engine, threads=threads)
    table = model_file.read(path)[0].get("table")
    name = os.fspath(path)
    if table is None:
        beside = Path(f"{name}.json")
        if not beside.exists():
            raise ValueError(
                f"{name!r} is a network without a table's encoding: fastbp.MLP.load reads it"
            )
        try:
            return _from_pair(network, json.loads(beside.read_text(encoding="utf-8")))
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{str(beside)!r} is damaged: {error}") from None
    try:
        model = _from_header(network, table)
    except ValueError as error:
        raise ValueError(f"{name!r} cannot be used: {error}") from None
    return model


def _why_bad(part: Part, bad: list[Bad], row: int) -> str:
    first = next(b for b in bad if b.rows[row])
    value = str(value_at(part.columns[first.name], row))
    value = repr(value if len(value) <= 40 else value[:39] + "…")
    return f"{part.place(row)}, column {first.name!r}: {value} {first.reason}"


def _from_header(network: MLP, table: object) -> TableModel:
    if not isinstance(table, dict) or type(table.get("version")) is not int:
        raise ValueError("its table has no version")
    if table["version"] > VERSION:
        raise ValueError("it was written by a newer fastbp: upgrade fastbp")
    encoding = Encoding.from_dict(table.get("encoding"))
    target = Target.from_dict(table.get("target"))
    width = table.get("width")
    if width is not None:
        inside = type(width) is int and width > len(encoding.columns)
        if not inside or not {*encoding.names, target.name} <= {str(j) for j in range(width)}:
            raise ValueError("its width does not fit its columns")
    return _fitting(TableModel(network, encoding, target, width))


def _fitting(model: TableModel) -> TableModel:
    """The model, if its parts fit each other."""
    sizes = model.network.plan.layer_sizes
    classes = model.target.classes
    outputs, loss = (1, "squared_error") if classes is None else (len(classes), "")
    loss = loss or "softmax_cross_entropy"
    if (sizes[0], sizes[-1]) != (len(model.encoding.inputs), outputs):
        raise ValueError("its encoding does not fit its network")
    if model.network.plan.loss.name != loss:
        raise ValueError(f"its network has another loss than {loss!r}")
    return model


def _from_pair(network: MLP, old: dict[str, Any]) -> TableModel:
    """Make a model from the second file of older versions.

    They standardised the inputs of categories, too: (x − mean) / scale, which here becomes part of
    the first layer, W / scale and b − W mean / scale.
    """
    columns: list[Column] = []
    features, mean, scale = old["features"], old["mean"], old["scale"]
    if not isinstance(features, dict):
        raise ValueError("its features are not named")
    width = sum(1 if c is None else len(c) for c in features.values())
    inputs = network.plan.layer_sizes[0]
    if not width == len(mean) == len(scale) == inputs or not all(map(float, scale)):
        raise ValueError("mean and scale do not fit the features and the network")
    parameters = network.parameters
    W, b = parameters[0][:, :-1].astype(np.float64), parameters[0][:, -1].astype(np.float64)
    j = 0
    for name, categories in features.items():
        if categories is None:
            columns.append(Number(name, float(mean[j]), 1 / float(scale[j])))
            j += 1
            continue
        columns.append(Category(name, tuple(categories)))
        for i in range(j, j + len(categories)):
            W[:, i] /= float(scale[i])
            b -= W[:, i] * float(mean[i])
        j += len(categories)
    classes = old["classes"]
    target = Target.from_dict(
        {
            "name": old["target"],
            "classes": classes,
            "center": old["target_mean"],
            "scale": old["target_scale"],
        }
    )
    # Checked as what comes from a new file is.
    encoding = Encoding.from_dict(Encoding(tuple(columns), clip=False).to_dict())
    names = {*encoding.names, target.name}
    of_array = names == {str(i) for i in range(len(names))}
    model = _fitting(TableModel(network, encoding, target, len(names) if of_array else None))
    parameters[0] = np.column_stack([W, b])
    network.parameters = parameters
    return model
