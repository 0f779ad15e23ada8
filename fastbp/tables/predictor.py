"""What models of tables have in common: they predict from files, frames, dicts of columns and arrays."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.tables import frames
from fastbp.tables.columns import value_at
from fastbp.tables.encoding import Bad
from fastbp.tables.parts import Part, ahead
from fastbp.tables.reading import Options, stream
from fastbp.tables.target import Target

__all__ = ["Encoder", "Predictor", "checked"]

_CELLS = 1 << 21  # inputs that are encoded at a time


class Encoder(Protocol):
    """From columns to inputs; see `fastbp.tables.encoding.Encoding`."""

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs."""

    @property
    def names(self) -> list[str]:
        """Of the columns that are used."""

    @property
    def texts(self) -> list[str]:
        """Of those that must be read as text."""

    def encode(
        self, part: Part, rows: NDArray[np.int64] | None = None, out: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], list[Bad]]:
        """Inputs of a part's rows, and the values that cannot be taken."""


class Predictor:
    """Base of `TableModel` and `fastbp.tabular.TabularModel`."""

    target: Target
    width: int | None

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """From columns to the network's inputs."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """Of the network's inputs."""

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
        pieces = [self.probabilities(X) for _, _, X in self.encoded(data, options)]
        return np.concatenate(pieces) if pieces else self.probabilities(self._no_rows())

    def check_proba(self) -> None:
        """Raise if there are no probabilities."""
        if self.target.classes is None:
            raise ValueError("probabilities need a classification model; this one is a regression")

    @abstractmethod
    def answers(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predictions of encoded rows, as the user reads them."""

    @abstractmethod
    def probabilities(self, X: NDArray[Any]) -> NDArray[Any]:
        """Of every class, of encoded rows."""

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
        step = max(_CELLS // len(self.encoder.inputs), 256)
        for whole in ahead(self._parts(data, options, also)):
            for start in range(0, whole.rows, step):
                part = whole.slice(start, min(start + step, whole.rows))
                out = np.empty((part.rows, len(self.encoder.inputs)), self.dtype)
                X, bad = self.encoder.encode(part, out=out)
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
        names = self.encoder.names
        if isinstance(data, str | os.PathLike):
            data = [data]
        if isinstance(data, list | tuple) and data and isinstance(data[0], str | os.PathLike):
            texts = {*self.encoder.texts, *also}
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
            names = self._names_of_array()
        else:
            names = [str(j) for j in range(self.width)]
            if len(columns) == self.width - 1:
                names.remove(self.target.name)
        if len(columns) != len(names):
            raise ValueError(
                f"{part.where or 'the array'}: has {len(columns)} columns, in training {len(names)}"
            )
        return replace(part, columns=dict(zip(names, columns, strict=True)))

    def _names_of_array(self) -> list[str]:
        """Names of an array's columns where training was not on an array without names."""
        return self.encoder.names

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Save all to one file, which `fastbp.load` reads."""

    def _no_rows(self) -> NDArray[Any]:
        return np.empty((0, len(self.encoder.inputs)), self.dtype)


def checked(table: object, newest: int) -> dict[str, Any]:
    """What a file's header says of a table, if it is of a version up to `newest`.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not isinstance(table, dict) or type(table.get("version")) is not int:
        raise ValueError("its table has no version")
    if table["version"] > newest:
        raise ValueError("it was written by a newer fastbp: upgrade fastbp")
    return table


def _why_bad(part: Part, bad: list[Bad], row: int) -> str:
    first = next(b for b in bad if b.rows[row])
    value = str(value_at(part.columns[first.name], row))
    value = repr(value if len(value) <= 40 else value[:39] + "…")
    return f"{part.place(row)}, column {first.name!r}: {value} {first.reason}"
