"""How a text file is laid out: encoding, delimiter, quotes, header, decimal mark.

All of it is decided from one sample (the file's beginning, and a piece of its middle and end), by how
well the rows agree with each other. What the sample cannot show, such as a byte far behind that is no
UTF-8, the reader finds out and asks for a layout again (`delimited.py`).
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass

from fastbp.tables.texts import ENOUGH, NO_VALUE, Style

__all__ = ["Layout", "sniff"]

DELIMITERS = (",", ";", "\t", "|")
_MOST_ROWS = 400  # of the sample, that are looked at
_STYLES = {mark: re.compile(Style(mark).pattern) for mark in ".,"}
_THOUSANDS = re.compile(r"^[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+$")
_CODE = re.compile("^0[0-9]+$")
_UTF = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"))
_MARKS = (*_UTF, (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out.

    Attributes
    ----------
    encoding : str
    delimiter, quote, decimal : str
        One character each.
    names : tuple of str
        Of the columns, one for each cell of a row; those without one are ``unnamed_1``, ….
    has_header : bool
    skip : int
        Physical lines before the first row.
    spaces : bool
        Whether white space comes before quotes.
    breaks : bool
        Whether a quoted value may go over several lines.
    codes : frozenset of str
        Columns of whole numbers with leading zeros: they are text.
    numbers : frozenset of str
        Columns that are numbers in the sample: to read them as such is faster than to find out.
    """

    encoding: str
    delimiter: str
    names: tuple[str, ...] = ()
    quote: str = '"'
    decimal: str = "."
    has_header: bool = True
    skip: int = 0
    spaces: bool = False
    breaks: bool = False
    codes: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()


def sniff(
    head: bytes,
    pieces: list[bytes],
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> Layout:
    """Find the layout of a file from its beginning and pieces from further on.

    Raises
    ------
    ValueError
        If it is empty, no text, or has no columns.
    """
    encoding = encoding or find_encoding(head)
    text = _decoded(head, encoding)
    lines_before = 0
    match = re.match(r"sep=(.)\r?\n", text)  # a note that one spreadsheet writes to itself
    if match:
        delimiter = delimiter or match[1]
        text, lines_before = text[match.end() :], 1
    if not text.strip():
        raise ValueError("the file is empty")
    rest = [_decoded(piece, encoding) for piece in pieces]
    quote = _quote(text)
    best: tuple[tuple[float, ...], str, list[list[str]], int] | None = None
    for candidate in [delimiter] if delimiter else DELIMITERS:
        rows, lines = _rows(text, candidate, quote)
        later = [row for piece in rest for row in _rows(piece, candidate, quote)[0][1:-1]]
        score = _score(rows, later)
        if best is None or score > best[0]:
            best = score, candidate, rows, lines
    assert best is not None
    if best[0][0] == 0 and not delimiter:  # white space, where nothing else is between the cells
        rows, lines = _rows(text, " ", quote)
        score = _score(rows, [])
        best = max(best, (score, " ", rows, lines), key=lambda found: found[0])
    _, delimiter, rows, lines = best
    has_header = _has_header(rows)
    names, width = _names(rows, has_header)
    columns = list(zip(*[row for row in rows[has_header:] if len(row) == width], strict=False))
    numeric = dict(zip(names, columns, strict=False))
    decimal = decimal or _decimal(columns, delimiter)
    codes = frozenset(name for name, cells in numeric.items() if _is_code(cells))
    return Layout(
        encoding=encoding,
        delimiter=delimiter,
        names=names,
        quote=quote,
        decimal=decimal,
        has_header=has_header,
        skip=lines_before + (lines if has_header else _lines_before(text)),
        spaces=bool(
            re.search(f"{re.escape(delimiter)} +{quote}" if delimiter != " " else "  ", text)
        ),
        breaks=any("\n" in cell or "\r" in cell for row in rows for cell in row),
        codes=codes,
        numbers=frozenset(n for n, c in numeric.items() if _is_plain(c, decimal)) - codes,
    )


def find_encoding(head: bytes) -> str:
    """UTF-8, or what a mark at the beginning says, or UTF-16 without one; else Windows' Latin."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\0" in head:
        even, odd = head[0::2].count(0), head[1::2].count(0)
        if max(even, odd) > 0.3 * len(head) / 2 and min(even, odd) < 0.1 * max(even, odd):
            return "utf-16-be" if even > odd else "utf-16-le"
        raise ValueError("this is no text file")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _decoded(piece: bytes, encoding: str) -> str:
    try:
        decoder = codecs.getincrementaldecoder(encoding)("replace")
    except LookupError:
        raise ValueError(f"unknown encoding {encoding!r}") from None
    return decoder.decode(piece)


def _quote(text: str) -> str:
    """The apostrophe, if it stands around values and the usual mark does not."""
    around = {
        q: len(re.findall(rf"(?:^|[,;\t|]){q}[^{q}\n]*{q}(?=[,;\t|\r\n])", text)) for q in "\"'"
    }
    return "'" if around["'"] > 0 and not around['"'] else '"'


def _rows(text: str, delimiter: str, quote: str) -> tuple[list[list[str]], int]:
    """Rows with anything in them, and the physical lines that the first of them ends with."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, skipinitialspace=True
    )
    rows: list[list[str]] = []
    lines = 0
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines = lines or reader.line_num
            if len(rows) > _MOST_ROWS:
                break
        else:
            # The sample may end within a row.
            if len(rows) > 2 and not text.endswith(("\n", "\r")):
                rows.pop()
    except csv.Error:
        pass
    return rows, lines


def _score(rows: list[list[str]], later: list[list[str]]) -> tuple[float, ...]:
    """How well a delimiter explains the rows: the more, the better."""
    header, body = rows[:1], [*rows[1:], *later]
    if not header:
        return (0.0, 0.0, 0.0, 0.0)
    if not body:
        return (0.0, 0.0, 0.0, len(header[0]))
    width, count = Counter(len(row) for row in body).most_common(1)[0]
    if width < 2:
        return (0.0, 0.0, 0.0, 0.0)
    agree = count / len(body)
    cells = [cell for row in body[:200] for cell in row]
    plain = sum(not re.search(r"[;\t|]|,\S*,", cell) or " " in cell for cell in cells) / len(cells)
    surplus = header[0][width:] or [c for row in body for c in row[len(header[0]) :]]
    fits = len(header[0]) in (width - 1, width) or not any(surplus)
    return (float(round(agree, 1)), float(fits), plain, width)


def _number(cell: str) -> bool:
    return any(style.match(cell) for style in _STYLES.values()) or bool(_THOUSANDS.match(cell))


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names columns rather than holding values like those below."""
    first, body = rows[0], rows[1:]
    if not body or (len(first) < len(body[0]) and not any(len(r) == len(first) for r in body)):
        return not all(_number(cell) for cell in first)
    if _are_counted(first, body):
        return True
    numeric = 0
    for j, cell in enumerate(first):
        below = [row[j] for row in body if j < len(row)]
        below = [value for value in below if value.lower() not in NO_VALUE]
        if below and sum(map(_number, below)) >= ENOUGH * len(below):
            numeric += 1
            if cell.lower() not in NO_VALUE and not _number(cell):
                return True
    return not numeric


def _are_counted(first: list[str], body: list[list[str]]) -> bool:
    """Whether columns are named 0, 1, … or by years, over values that are something else."""
    places = [j for j, cell in enumerate(first) if cell.isdecimal()]
    steps = [int(first[j]) for j in places]
    if len(steps) < 2 or steps != list(range(steps[0], steps[0] + len(steps))):
        return False
    if steps[0] == 0:
        return len(steps) == sum(bool(cell) for cell in first)
    below = [row[j] for row in body for j in places if j < len(row)]
    return 1800 <= steps[0] <= 2200 and not all(re.fullmatch("[12][0-9]{3}", b) for b in below)


def _names(rows: list[list[str]], has_header: bool) -> tuple[tuple[str, ...], int]:
    """Names of all cells of a row, and how many there are.

    A header one short stands over the columns behind the row's name, as R writes it, unless what is
    behind is empty: then a delimiter follows the last value.
    """
    body = rows[has_header:]
    width = Counter(map(len, body)).most_common(1)[0][0] if body else len(rows[0])
    if not has_header:
        return tuple(str(j) for j in range(width)), width
    header = list(rows[0])
    while len(header) > width and not header[-1]:
        header.pop()
    if len(header) < width:
        beyond = any(cell for row in body for cell in row[len(header) :])
        if beyond and len(header) == width - 1:
            header.insert(0, "")
        elif beyond:
            raise ValueError(
                f"the header has {len(header)} names, the rows below it {width} values; if other "
                "lines stand above the header, delete them"
            )
    header += [""] * (width - len(header))
    unnamed = 0
    for j, name in enumerate(header):
        if not name:
            unnamed += 1
            header[j] = f"unnamed_{unnamed}"
    return tuple(header), len(header)


def _decimal(columns: list[tuple[str, ...]], delimiter: str) -> str:
    """A comma, if some column has one in its numbers that cannot be a thousands separator."""
    for cells in columns:
        present = [cell for cell in cells if cell.lower() not in NO_VALUE]
        commas = [cell for cell in present if "," in cell]
        if not commas or sum(bool(_STYLES[","].match(c)) for c in present) < ENOUGH * len(present):
            continue
        if delimiter == ";" or not all(map(_THOUSANDS.match, commas)):
            return ","
    return "."


def _is_code(cells: tuple[str, ...]) -> bool:
    return any(map(_CODE.match, cells)) and not any("." in cell or "," in cell for cell in cells)


def _is_plain(cells: tuple[str, ...], decimal: str) -> bool:
    present = [cell for cell in cells[:100] if cell.lower() not in NO_VALUE]
    return bool(present) and all(map(_STYLES[decimal].match, present))


def _lines_before(text: str) -> int:
    """Blank lines at the beginning."""
    return len(re.match(r"(?:[ \t]*\r?\n)*", text)[0].splitlines())  # type: ignore[index]
