"""A table in parts: some rows of all columns at a time, in memory or, where it is large, on disk.

Whatever goes over a table (what is in it, its encoding) goes part by part, so memory does not grow
with the rows. A table is read once; parts beyond a limit are kept in a temporary file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name

__all__ = ["MOST_ROWS", "Part", "Parts", "ahead", "check_columns", "in_slices"]

IN_MEMORY = 256 << 20  # bytes of Arrow columns; what comes after them goes to disk
MOST_ROWS = 1 << 16  # of a part made from an array,
MOST_CELLS = 1 << 22  # and its rows times columns


@dataclass
class Part:
    """Rows of a table.

    Attributes
    ----------
    columns : dict of str to column
        NumPy or Arrow arrays of one length.
    rows : int
    where : str
        The file, for messages; empty for a frame.
    first : int
        Number of the first row in its file, from 1; the header and blank rows do not count.
    numbers : ndarray or None
        Of all rows, where rows between them were left out.
    decimal : {".", ","}
        Of the file.
    """

    columns: dict[str, Any]
    rows: int
    where: str = ""
    first: int = 1
    numbers: NDArray[np.int64] | None = None
    decimal: str = "."

    def number(self, row: int) -> int:
        """Number in its file of a row of this part."""
        return self.first + row if self.numbers is None else int(self.numbers[row])

    def slice(self, start: int, stop: int, names: Iterable[str] | None = None) -> Part:
        """Some of its rows, not copied; and of its columns, where they are named."""
        columns = {
            name: self.columns[name][start:stop]
            for name in (self.columns if names is None else names)
        }
        numbers = None if self.numbers is None else self.numbers[start:stop]
        return Part(columns, stop - start, self.where, self.first + start, numbers, self.decimal)

    def place(self, row: int) -> str:
        """File and row, for a message."""
        return (f"{self.where}: " if self.where else "") + f"row {self.number(row)}"


class Parts:
    """All parts of a table, which can be gone over any number of times.

    Parameters
    ----------
    parts : iterable of Part

    Attributes
    ----------
    names : list of str
        Columns, as the first part has them.
    rows : int
        Of all parts.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        self._kept: list[Part | tuple[Part, int, int]] = []
        self._file: Any = None
        self.names: list[str] = []
        self.rows = 0
        in_memory = 0
        for part in parts:
            if not self.rows:
                self.names = list(part.columns)
            self.rows += part.rows
            size = sum(0 if isinstance(c, np.ndarray) else c.nbytes for c in part.columns.values())
            in_memory += size
            self._kept.append(self._on_disk(part) if size and in_memory > IN_MEMORY else part)

    def __iter__(self) -> Iterator[Part]:
        for kept in self._kept:
            yield kept if isinstance(kept, Part) else self._from_disk(*kept)

    def _on_disk(self, part: Part) -> tuple[Part, int, int]:
        import pyarrow as pa

        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="fastbp")  # noqa: SIM115, gone with self
        start = self._file.seek(0, 2)
        table = pa.table(part.columns)
        with pa.ipc.new_stream(pa.PythonFile(self._file, "w"), table.schema) as writer:
            writer.write_table(table)
        self._file.flush()
        return replace(part, columns={}), start, self._file.tell() - start

    def _from_disk(self, part: Part, start: int, length: int) -> Part:
        import pyarrow as pa

        self._file.seek(start)
        table = pa.ipc.open_stream(self._file.read(length)).read_all()
        return replace(part, columns=dict(zip(table.column_names, table.columns, strict=True)))


def ahead(parts: Iterator[Part]) -> Iterator[Part]:
    """The same parts, of which the next is read by a thread while one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = reader.submit(next, parts, None)
            yield part


def check_columns(wanted: Collection[str] | None, names: Collection[str]) -> None:
    """Raise if a column that is wanted is not there."""
    there = set(names)
    for name in wanted or ():
        if name not in there:
            raise ValueError(nearest_name("column", name, names))


def in_slices(columns: dict[str, Any], where: str = "") -> Iterator[Part]:
    """Parts of columns that are there as a whole."""
    rows = len(next(iter(columns.values()))) if columns else 0
    whole = Part(columns, rows, where)
    step = min(MOST_ROWS, max(MOST_CELLS // max(len(columns), 1), 256))
    for start in range(0, rows, step):
        yield whole.slice(start, min(start + step, rows))
