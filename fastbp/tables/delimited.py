"""Reading CSV and its kin, block by block, with Arrow.

Arrow's reader wants rows of one length. A block in which some row is blank, short or long, or has
white space before quotes, is first put in order by Python's own reader, which is slower. A layout
(`sniffing.py`) comes from a sample; what the rest of the file shows to be otherwise is mended here:
values with line breaks, and bytes that are no UTF-8.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from fastbp.tables._arrow import one_array
from fastbp.tables.columns import kind_of
from fastbp.tables.parts import Part, check_columns
from fastbp.tables.sniffing import Layout, sniff
from fastbp.tables.texts import NO_VALUE

__all__ = ["Options", "read_delimited"]

BLOCK = 16 << 20  # bytes that are in memory at a time
SAMPLE = 256 << 10
# A block of long lines has so many rows, but no more bytes.
_LONG, _LEAST_ROWS, _LARGEST = 16 << 10, 2000, 256 << 20
_WORDS = [v for v in NO_VALUE if v != "."] + ["."]
_NULLS = sorted({form for v in _WORDS for form in (v, v.upper(), v.capitalize())} | {"NaN", "NaT"})
# Arrow takes time for each of them in each column: of very many columns, only the usual ones.
_USUAL_NULLS = ["", "NA", "NaN", "nan", "null", "NULL", "N/A", "#N/A", "None", "?", "-", "\\N"]
_MANY = 2000  # columns
_NULLS += ["-NaN", "-1.#IND", "-1.#QNAN", "n.A.", "k.A."]


@dataclass(frozen=True)
class Options:
    """What the user says of the files to read; None: find out.

    Attributes
    ----------
    delimiter, decimal, encoding : str or None
    missing : tuple of str
        Cells that stand for no value, beside the usual ones.
    skip_bad_rows : bool
        Leave out rows with too many or too few values.
    told : callable
        Takes sentences that the user should read.
    progress : callable
        Takes the file's name, how many of its bytes have been read, and its size.
    """

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    missing: tuple[str, ...] = ()
    skip_bad_rows: bool = False
    told: Callable[[str], None] = lambda message: None
    progress: Callable[[str, int, int], None] = lambda name, done, size: None


def read_delimited(
    file: BinaryIO,
    name: str,
    options: Options,
    *,
    only: Collection[str] | None = None,
    texts: Callable[[Sequence[str]], Collection[str]],
) -> Iterator[Part]:
    """Read a file in parts.

    Parameters
    ----------
    file : binary file
        Of which this reads, and seeks where it can.
    name : str
        For messages.
    options : Options
    only : collection of str or None
        Columns to read; None: all.
    texts : callable
        Takes the columns' names and returns those to read as text, whatever they look like.

    Raises
    ------
    ValueError
        If it is no text, is empty, or has rows of another length than its header.
    """
    head = file.read(SAMPLE)
    pieces = _pieces(file, len(head))
    layout = sniff(
        head,
        pieces,
        encoding=options.encoding,
        delimiter=options.delimiter,
        decimal=options.decimal,
    )
    if not layout.has_header:
        options.told(
            f"{name}: the first line is taken for values, since it has numbers where the lines below "
            "have; the columns are named 0, 1, …"
        )
    check_columns(only, layout.names)
    named = [n for n in layout.names if only is None or n in only]
    counts = Counter(layout.names)
    twice = next((n for n in named if counts[n] > 1), None)
    if twice is not None:
        raise ValueError(f"column name {twice!r} is there twice; rename one of them")
    yield from _Reader(name, layout, options, only, {*texts(layout.names), *layout.codes}).parts(
        head, file
    )


def _pieces(file: BinaryIO, position: int) -> list[bytes]:
    """A piece of the middle and of the end of a file that can be read anywhere."""
    if not file.seekable():
        return []
    size = file.seek(0, os.SEEK_END)
    pieces = []
    for start in (size // 2, size - SAMPLE // 4):
        if start > position:
            file.seek(start - start % 4)  # whole characters of UTF-16 and UTF-32
            pieces.append(file.read(SAMPLE // 4))
    file.seek(position)
    return pieces


class _Reader:
    """State of reading one file."""

    def __init__(
        self,
        name: str,
        layout: Layout,
        options: Options,
        only: Collection[str] | None,
        texts: Collection[str],
    ) -> None:
        self.name, self.layout, self.options, self.only = name, layout, options, only
        self.texts = [n for n in layout.names if n in texts and (only is None or n in only)]
        self.row = 1
        self.utf8_seen = False
        given = [i for i, n in enumerate(layout.names, 1) if not n.startswith("unnamed_")]
        self.least = max(given, default=len(layout.names))  # cells of a row

    def parts(self, head: bytes, file: BinaryIO) -> Iterator[Part]:
        skip = self.layout.skip
        carry = b""
        for text in self._in_utf8(head, file):
            text = carry + text
            cut = self._cut(text)
            carry, text = text[cut:], text[:cut]
            if skip:
                text, skip = _without_lines(text, skip)
            if text:
                part, rest = self._part(text)
                carry = rest + carry
                if part is not None:
                    yield part
        if carry:
            if skip:
                carry, skip = _without_lines(carry, skip)
            if carry.count(self.layout.quote.encode()) % 2:
                self._check_end(carry)
            part, rest = self._part(carry)
            if part is not None:
                yield part
            if rest:
                raise ValueError(f"row {self.row}: a quote is opened and never closed")

    def _check_end(self, text: bytes) -> None:
        """Raise if the last row is within quotes when the file ends."""
        text = text.rstrip()
        row: list[str] = []
        row_number = self.row - 1
        for row in self._python_reader(text + b"\n"):
            row_number += bool(row)
        if row and row[-1].endswith("\n") and not text.endswith(self.layout.quote.encode()):
            raise ValueError(f"row {row_number}: a quote is opened and never closed")

    def _python_reader(self, text: bytes) -> Iterator[list[str]]:
        return csv.reader(
            io.StringIO(text.decode(), newline=""),
            delimiter=self.layout.delimiter,
            quotechar=self.layout.quote,
            skipinitialspace=self.layout.spaces,
        )

    def _in_utf8(self, head: bytes, file: BinaryIO) -> Iterator[bytes]:
        """The file's bytes, as UTF-8 where they are something else."""
        if self.layout.encoding not in ("utf-8", "utf-8-sig"):
            decoder = codecs.getincrementaldecoder(self.layout.encoding)("strict")
            block = head
            try:
                while block:
                    yield decoder.decode(block).encode()
                    block = file.read(BLOCK)
                yield decoder.decode(b"", True).encode()
            except UnicodeDecodeError as error:
                raise ValueError(f"is no {self.layout.encoding}: {error}; see --encoding") from None
            return
        line = len(head) // max(head.count(b"\n"), 1)
        size = BLOCK if line < _LONG else min(line * _LEAST_ROWS, _LARGEST)
        block = head.removeprefix(codecs.BOM_UTF8) + file.read(size)
        rest = b""
        latin = False
        while block:
            if latin:
                block = block.decode("cp1252", "replace").encode()
            elif not block.isascii() or rest:
                block, rest = _whole_characters(rest + block)
                try:
                    block.decode()
                    self.utf8_seen = self.utf8_seen or not block.isascii()
                except UnicodeDecodeError:
                    if self.utf8_seen or self.options.encoding:
                        raise ValueError(
                            f"after row {self.row} a byte is no UTF-8; --encoding says what it is"
                        ) from None
                    latin = True
                    self.options.told(
                        f"{self.name}: read as Windows-1252, for it is no UTF-8 (see --encoding)"
                    )
                    block = (block + rest).decode("cp1252", "replace").encode()
                    rest = b""
            yield block
            block = file.read(size)
        if rest:
            yield rest.decode("cp1252", "replace").encode()

    def _cut(self, text: bytes) -> int:
        """Where the last whole row ends."""
        end = text.rfind(b"\n") + 1
        if not end:
            return text.rfind(b"\r", 0, len(text) - 1) + 1
        quote = self.layout.quote.encode()
        odd = text.count(quote, 0, end) % 2
        if odd and not self.layout.breaks:
            self.layout = replace(self.layout, breaks=True)
        if self.layout.breaks:
            while odd and end:
                before = text.rfind(b"\n", 0, end - 1) + 1
                odd ^= text.count(quote, before, end) % 2
                end = before
        return end

    def _part(self, text: bytes) -> tuple[Part | None, bytes]:
        """A part from whole rows; and what has to wait for the next block."""
        numbers = None
        delimiter = self.layout.delimiter.encode()
        blank = b"\n" + delimiter * (len(self.layout.names) - 1)
        odd = self.layout.spaces or text.startswith(blank[1:]) or blank in text
        invalid: list[Any] = []
        table = None
        if not odd:
            table = self._table(text, invalid)
        if invalid and not self.layout.breaks and self.layout.quote.encode() in text:
            self.layout = replace(self.layout, breaks=True)
            cut = self._cut(text)
            return (self._part(text[:cut])[0] if cut else None), text[cut:]
        if odd or invalid:
            text, numbers = self._in_order(text)
            layout = self.layout
            self.layout = replace(layout, delimiter=",", quote='"', breaks=True)
            try:
                table = self._table(text, [])
            finally:
                self.layout = replace(layout, numbers=self.layout.numbers)
        assert table is not None
        if not table.num_rows:
            return None, b""
        whole = map(one_array, table.combine_chunks().columns)
        columns = dict(zip(table.column_names, whole, strict=True))
        rows = table.num_rows
        first = self.row
        if numbers is None:
            self.row += rows
        else:
            first = int(numbers[0])
            if numbers[-1] - numbers[0] == rows - 1:
                numbers = None
        return Part(columns, rows, self.name, first, numbers, self.layout.decimal), b""

    def _table(self, text: bytes, invalid: list[Any]) -> Any:
        """Arrow's table; rows of a wrong length are left out, and put on a list."""
        import pyarrow as pa
        from pyarrow import csv as arrow

        def handle(row: Any) -> str:
            invalid.append(row)
            return "skip"

        layout = self.layout
        line = text.find(b"\n", len(text) // 2) - text.rfind(b"\n", 0, len(text) // 2)
        names = self.layout.names
        firsts = {n: i for i, n in reversed(list(enumerate(names)))}
        unique = [n if firsts[n] == i else f"{n}\0{i}" for i, n in enumerate(names)]
        wanted = [n for n in names if self.only is None or n in self.only]
        if text.isspace() or not text:
            return pa.table({n: pa.array([], pa.null()) for n in wanted})
        # Many short blocks are parsed side by side; of long lines, each would be many small arrays.
        block = max(1 << 18, 256 * line) if line < _LONG else len(text) + 1
        nulls = _NULLS if len(wanted) < _MANY else _USUAL_NULLS
        types = dict.fromkeys(layout.numbers.intersection(wanted), pa.float64())
        types |= dict.fromkeys(self.texts, pa.string())
        try:
            return arrow.read_csv(
                pa.BufferReader(text),
                read_options=arrow.ReadOptions(column_names=unique, block_size=block),
                parse_options=arrow.ParseOptions(
                    delimiter=layout.delimiter,
                    quote_char=layout.quote,
                    newlines_in_values=layout.breaks,
                    invalid_row_handler=handle,
                ),
                convert_options=arrow.ConvertOptions(
                    column_types=types,
                    include_columns=[] if self.only is None else wanted,
                    null_values=[*nulls, *self.options.missing],
                    true_values=[],
                    false_values=[],
                    decimal_point=layout.decimal,
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if "conversion error" in str(error) and layout.numbers:
                invalid.clear()
                self.layout = replace(layout, numbers=frozenset())  # they are not, further on
                return self._table(text, invalid)
            if "straddling object" in str(error):
                raise ValueError(
                    "a quoted value is longer than 1 MB; is there a quote that is never closed?"
                ) from None
            raise

    def _in_order(self, text: bytes) -> tuple[bytes, Any]:
        """Rows of one length, without blank ones; and the number of each."""
        layout = self.layout
        names = layout.names
        width = len(names)
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        numbers: list[int] = []
        try:
            for row in self._python_reader(text):
                if not any(cell and not cell.isspace() for cell in row):
                    continue
                number = self.row
                self.row += 1
                if len(row) > width and not any(cell.strip() for cell in row[width:]):
                    del row[width:]
                elif self.least <= len(row) < width:
                    row += [""] * (width - len(row))
                if len(row) != width:
                    message = (
                        f"row {number} has {len(row)} values "
                        f"({_shortened(layout.delimiter.join(row))}), the header {width} names"
                    )
                    if not self.options.skip_bad_rows:
                        raise ValueError(f"{message}; --skip-bad-rows goes on without such rows")
                    self.options.told(f"{self.name}: {message}: left out")
                    continue
                numbers.append(number)
                writer.writerow(row)
        except csv.Error as error:
            raise ValueError(f"row {self.row}: {error}") from None
        return out.getvalue().encode(), np.array(numbers, np.int64)


def _without_lines(text: bytes, lines: int) -> tuple[bytes, int]:
    """The text without so many physical lines at its beginning; lines still to go."""
    start = 0
    end_of_line = b"\n" if b"\n" in text else b"\r"
    while lines:
        end = text.find(end_of_line, start)
        if end < 0:
            return b"", 0
        start, lines = end + 1, lines - 1
    return text[start:], 0


def _whole_characters(text: bytes) -> tuple[bytes, bytes]:
    """The text up to its last whole UTF-8 character, and the rest."""
    for back in range(1, min(4, len(text)) + 1):
        byte = text[-back]
        if byte >= 0xC0:  # begins a character of 2 to 4 bytes
            length = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return (text[:-back], text[-back:]) if back < length else (text, b"")
        if byte < 0x80:
            break
    return text, b""


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")


def conflicts(parts: Collection[Part]) -> set[str]:
    """Columns that are text in one part and numbers or dates in another: to be read again as text."""
    kinds: dict[str, set[str]] = {}
    for part in parts:
        for name, column in part.columns.items():
            kinds.setdefault(name, set()).add(kind_of(column))
    return {name for name, found in kinds.items() if len(found - {"empty"}) > 1}
