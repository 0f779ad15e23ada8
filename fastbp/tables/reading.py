"""Reading users' files into parts, whatever kind they are of.

NPY and NPZ need NumPy only; CSV and its kin, Parquet and JSON lines need pyarrow, Excel openpyxl. The
name's suffix says the kind, or, where it says nothing known, the first bytes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastbp.tables import frames
from fastbp.tables._extra import need
from fastbp.tables.delimited import Options, conflicts, read_delimited
from fastbp.tables.parts import Part, Parts, check_columns, in_slices

__all__ = ["Options", "read", "stream"]

Only = Collection[str] | None
Texts = Callable[[Sequence[str]], Collection[str]]


def _none(names: Sequence[str]) -> Collection[str]:
    return ()


_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_FIRST_BYTES = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"PAR1": ".parquet",
    b"\x1f\x8b": ".gz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"BZh": ".bz2",
}


def read(files: Sequence[str | os.PathLike[str]], options: Options, texts: Texts = _none) -> Parts:
    """Read whole files, one below the other.

    Parameters
    ----------
    files : sequence of path
        ``"-"`` is standard input.
    options : Options
    texts : callable
        Takes the names of a text file's columns and returns those to read as text, whatever they
        look like: what is a label keeps its zeros.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If one is not what it should be; the message begins with its name.
    ImportError
        If a package is missing that this kind of file needs.
    """
    mixed: set[str] = set()
    with _standard_input(files) as sources:
        while True:
            forced = partial(_all_of, texts, frozenset(mixed))
            parts = Parts(_same_columns(stream(sources, options, texts=forced)))
            found = conflicts(_kinds_only(parts)) - mixed
            if not found:
                return parts
            mixed |= found  # a later part shows that they are text
            options = replace(options, told=lambda message: None)


def _all_of(texts: Texts, more: frozenset[str], names: Sequence[str]) -> Collection[str]:
    return {*texts(names), *more}


def stream(
    files: Sequence[str | os.PathLike[str] | BinaryIO],
    options: Options,
    *,
    only: Only = None,
    texts: Texts = _none,
) -> Iterator[Part]:
    """Read files part by part; a column may be numbers in one part and text in another.

    Parameters
    ----------
    files, options, texts
        As in `read`.
    only : collection of str or None
        Columns to read; None: all.
    """
    for source in files:
        name = "standard input"
        if isinstance(source, str | os.PathLike):
            name = os.fspath(source)
            if name == "-":
                with _standard_input([name]) as (file,):
                    yield from stream([file], options, only=only, texts=texts)
                continue
        try:
            yield from _one(source, name, options, only, texts)
        except (EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{name}: {_sentence(error)}") from None


def _one(source: Any, name: str, options: Options, only: Only, texts: Texts) -> Iterator[Part]:
    if not isinstance(source, str | os.PathLike):
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        for part in _opened(source, name, "", options, only, texts):
            yield part
            options.progress(name, source.tell() if not source.closed else size, size)
        return
    if os.path.isdir(source):
        raise ValueError("this is a folder, not a file")
    with open(source, "rb") as file:
        before = os.fstat(file.fileno())
        for part in _opened(file, name, name, options, only, texts):
            yield part
            options.progress(name, file.tell(), before.st_size)
        after = os.stat(source)
        if (before.st_size, before.st_mtime_ns, before.st_ino) != (
            after.st_size,
            after.st_mtime_ns,
            after.st_ino,
        ):
            raise ValueError("the file changed while it was read; try again")


def _opened(
    file: Any, name: str, path: str, options: Options, only: Only, texts: Texts
) -> Iterator[Part]:
    suffix = _suffix(path, file)
    if suffix in _COMPRESSED:
        pa = need("pyarrow", f"{name}: a compressed file")
        inner = _suffix(os.path.splitext(path)[0], None)
        file = pa.CompressedInputStream(file, _COMPRESSED[suffix])
        suffix = inner
        if suffix not in _TEXTS:  # the others have to be read from anywhere
            whole = tempfile.TemporaryFile()  # noqa: SIM115, gone when it is read
            shutil.copyfileobj(file, whole)
            whole.seek(0)
            file = whole
        else:
            file = _Quiet(file)
    yield from _READERS[suffix](file, name, options, only, texts)


class _Quiet:
    """A decompressing stream as a plain file that can only be read; its errors name the file."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int | None = None) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except OSError as error:  # Arrow's word for damaged data
            raise ValueError(f"the compressed file is damaged: {error}") from None
        return data

    def seekable(self) -> bool:
        return False


def _suffix(path: str, file: Any) -> str:
    """The kind of file: a key of `_READERS` or `_COMPRESSED`."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _READERS or suffix in _COMPRESSED:
        return suffix
    if suffix in (".xls", ".ods", ".feather", ".arrow", ".sav", ".dta", ".rdata", ".pkl", ".h5"):
        raise ValueError(
            f"files of kind {suffix} are not read; save it as CSV or Parquet. "
            f"Known: {', '.join(_READERS)}, and {', '.join(_COMPRESSED)} of them"
        )
    if file is not None:
        first = file.read(8)
        file.seek(0)
        for start, kind in _FIRST_BYTES.items():
            if first.startswith(start):
                return kind
    return ".csv"


@contextmanager
def _standard_input(
    files: Sequence[str | os.PathLike[str]],
) -> Iterator[list[str | os.PathLike[str] | BinaryIO]]:
    """The files, with a copy of standard input for "-": one that can be read again."""
    with tempfile.SpooledTemporaryFile(max_size=64 << 20) as copy:
        if any(os.fspath(file) == "-" for file in files):
            shutil.copyfileobj(sys.stdin.buffer, copy, 1 << 20)
        yield [copy if os.fspath(file) == "-" else file for file in files]  # type: ignore[misc]


def _same_columns(parts: Iterator[Part]) -> Iterator[Part]:
    """Several files must have the same columns, in any order."""
    names: list[str] = []
    first = ""
    for part in parts:
        if not names:
            names, first = list(part.columns), part.where
        elif set(part.columns) != set(names):
            missing = sorted(set(names) - set(part.columns))
            more = sorted(set(part.columns) - set(names))
            what = f"has no column {missing[0]!r}" if missing else f"has a column {more[0]!r} more"
            raise ValueError(
                f"{part.where} {what} than {first}"
                if not missing
                else f"{part.where} {what}, {first} has"
            )
        yield part


def _kinds_only(parts: Parts) -> list[Part]:
    """One row of every part, which is enough to know the types."""
    kept = []
    for part in parts:
        columns = {name: column[:1] for name, column in part.columns.items()}
        kept.append(Part(columns, 1))
    return kept


def _csv(file: BinaryIO, name: str, options: Options, only: Only, texts: Texts) -> Iterator[Part]:
    need("pyarrow", f"{name}: a text file")
    yield from read_delimited(file, name, options, only=only, texts=texts)


def _npy(file: Any, name: str, options: Options, only: Only, _: Texts) -> Iterator[Part]:
    array: NDArray[Any]
    if isinstance(getattr(file, "name", None), str) and _can_be_mapped(file):
        array = np.lib.format.open_memmap(file.name, "r")
    else:
        file.seek(0)
        array = np.lib.format.read_array(file, allow_pickle=False)
    table = _columns_of(_accepted("the array", array, dimensions=(2,)), "{}")
    yield from in_slices(_chosen(table, only), name)


def _can_be_mapped(file: Any) -> bool:
    """Whether it is an array of plain values, which need not all be in memory."""
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        return False
    shape, _, dtype = read_header(file)
    return not dtype.hasobject and 0 not in shape


def _npz(file: Any, name: str, options: Options, only: Only, _: Texts) -> Iterator[Part]:
    if not zipfile.is_zipfile(file):
        raise ValueError("this is not an NPZ file")
    file.seek(0)
    with np.load(file, allow_pickle=False) as npz:
        arrays = {key: np.asarray(npz[key]) for key in npz.files}
    table: dict[str, NDArray[Any]] = {}
    for key, array in arrays.items():
        _accepted(f"array {key!r}", array, dimensions=(1, 2))
        if len(array) != len(next(iter(arrays.values()))):
            lengths = ", ".join(f"{k}: {len(a)}" for k, a in arrays.items())
            raise ValueError(f"the arrays have different lengths ({lengths})")
        table |= {key: array} if array.ndim == 1 else _columns_of(array, key + "[{}]")
    yield from in_slices(_chosen(table, only), name)


def _accepted(name: str, array: NDArray[Any], dimensions: tuple[int, ...]) -> NDArray[Any]:
    wanted = " or ".join(f"{d}-D" for d in dimensions)
    if array.ndim not in dimensions or array.dtype.kind not in "iubfU":
        raise ValueError(
            f"{name} must be {wanted}, numbers or text; got shape {array.shape}, {array.dtype}"
        )
    return array


def _columns_of(array: NDArray[Any], name: str) -> dict[str, NDArray[Any]]:
    return {name.format(j): array[:, j] for j in range(array.shape[1])}


def _chosen(table: dict[str, Any], only: Only) -> dict[str, Any]:
    if only is None:
        return table
    check_columns(only, table)
    return {n: c for n, c in table.items() if n in only}


def _parquet(file: Any, name: str, options: Options, only: Only, _: Texts) -> Iterator[Part]:
    pa = need("pyarrow", f"{name}: a Parquet file")
    parquet = need("pyarrow.parquet", f"{name}: a Parquet file")
    try:
        source = parquet.ParquetFile(file)
        names = source.schema_arrow.names
        check_columns(only, names)
        wanted = [n for n in names if only is None or n in only]
        if len(set(wanted)) < len(wanted):
            twice = next(n for n in wanted if wanted.count(n) > 1)
            raise ValueError(f"column name {twice!r} is there twice; rename one of them")
        first = 1
        for batch in source.iter_batches(
            max(1 << 10, (4 << 20) // max(len(wanted), 1)), columns=wanted
        ):
            if batch.num_rows:
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                yield Part(columns, batch.num_rows, name, first)
                first += batch.num_rows
    except pa.ArrowException as error:
        raise ValueError(f"no Parquet file, or damaged: {error}") from None


def _json(file: Any, name: str, options: Options, only: Only, _: Texts) -> Iterator[Part]:
    pa = need("pyarrow", f"{name}: a file of JSON lines")
    reader = need("pyarrow.json", f"{name}: a file of JSON lines")
    data = file.read()
    if not data.strip():
        raise ValueError("the file is empty")
    if data.lstrip()[:1] == b"[":
        raise ValueError(
            "a JSON list; JSON lines have an object on each line, and no brackets around"
        )
    try:
        read_options = reader.ReadOptions(block_size=max(1 << 20, min(len(data), 1 << 30)))
        table = reader.read_json(pa.BufferReader(data), read_options=read_options)
    except pa.ArrowInvalid as error:
        raise ValueError(f"no JSON lines that can be read: {error}") from None
    columns = dict(zip(table.column_names, table.columns, strict=True))
    yield from in_slices(_chosen(columns, only), name)


def _excel(file: Any, name: str, options: Options, only: Only, _: Texts) -> Iterator[Part]:
    openpyxl = need("openpyxl", f"{name}: an Excel file", "openpyxl")
    need("pyarrow", f"{name}: an Excel file")
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"no Excel file, or damaged: {error}") from None
    sheet = book.worksheets[0]
    if len(book.worksheets) > 1:
        options.told(f"{name}: the first of {len(book.worksheets)} sheets is read, {sheet.title!r}")
    rows = [r for r in sheet.iter_rows(values_only=True) if any(v not in (None, "") for v in r)]
    if not rows:
        raise ValueError("the file is empty")
    header = [str(v).strip() if v is not None else "" for v in rows[0]]
    width = max((j + 1 for j, v in enumerate(header) if v), default=0)
    names = [n or f"unnamed_{header[: j + 1].count('')}" for j, n in enumerate(header[:width])]
    check_columns(only, names)
    table = {}
    for j, n in enumerate(names):
        if only is None or n in only:
            if n in table:
                raise ValueError(f"column name {n!r} is there twice; rename one of them")
            table[n] = frames.from_objects([r[j] if j < len(r) else None for r in rows[1:]])
    yield from in_slices(table, name)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())


_TEXTS = {".csv", ".tsv", ".txt", ".data", ".jsonl", ".ndjson", ".json"}
_READERS: dict[str, Any] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _csv,
    ".data": _csv,
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".xlsx": _excel,
}
