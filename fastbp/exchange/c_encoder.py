"""The encoder of a table's rows as plain C: a struct for a row, and what makes inputs of it."""

from __future__ import annotations

import json
import math
import re

from fastbp.exchange.encoder import LIMITS, Category, Date, Encoder, Number
from fastbp.exchange.moments import FARTHEST, PARTS, Written, parts_of
from fastbp.exchange.text import Text, bare

__all__ = ["c_source", "fields_of", "identifier", "quoted", "struct"]

_KEYWORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile
while asm bool catch class delete explicit export false friend mutable namespace new operator private
protected public template this throw true try typeid typename using virtual wchar_t and or not xor
"""


def identifier(text: str) -> str:
    """The text as a name in C."""
    name = re.sub(r"[^0-9A-Za-z_]", "_", text)
    return name if re.match(r"[A-Za-z]", name) else f"net_{name}"


def quoted(text: str) -> str:
    """A string literal: ASCII as it is, all else, and what C would read otherwise, in octal."""
    plain = {c for c in range(32, 127)} - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def fields_of(encoder: Encoder) -> list[str]:
    """A name in the struct for every column."""
    taken = set(_KEYWORDS.split())
    names = []
    for column in encoder.columns:
        name = identifier(column.name)
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def struct(encoder: Encoder, name: str) -> str:
    """The definition of a row, for the header."""
    lines = []
    for column, field in zip(encoder.columns, fields_of(encoder), strict=True):
        # A comment may not end early, nor hold what looks like a trigraph or another comment.
        said = re.sub(r"(?<=[*/?])(?=[*/?])", " ", json.dumps(column.name))
        if isinstance(column, Number):
            lines.append(f"    double {field}; /* column {said}; NAN: missing */\n")
        elif isinstance(column, Date):
            lines.append(
                f"    double {field}; /* column {said}, seconds since 1970; NAN: missing */\n"
            )
        else:
            lines.append(f"    const char *{field}; /* column {said}, UTF-8; NULL: missing */\n")
    return f"typedef struct {{\n{''.join(lines)}}} {name}_row;\n\n"


def c_source(encoder: Encoder, name: str, kind: str) -> tuple[str, int]:
    """The function `encode`, and what it needs; and the bytes of its constants, without pointers."""
    texts, body, size = "", "", 0
    limit = f"{LIMITS[encoder.clip]:.1e}"
    numbers = any(isinstance(c, Number | Date) for c in encoder.columns)
    categories = any(isinstance(c, Category) for c in encoder.columns)
    dates = [c for c in encoder.columns if isinstance(c, Date)]
    for i, (column, field, start) in enumerate(
        zip(encoder.columns, fields_of(encoder), encoder.starts, strict=True)
    ):
        if isinstance(column, Number):
            learnt = f"{column.center!r}, {column.scale!r}"
            body += f"    x[{start}] = ({kind})number(row->{field}, {learnt});\n"
            if column.flag:
                body += f"    x[{start + 1}] = row->{field} != row->{field};\n"
            continue
        if isinstance(column, Date):
            body += _of_date(column, field, start, kind)
            continue
        values = [*column.values, *column.missing_texts]
        size += sum(len(v.encode()) + 1 for v in values)
        listed = ",\n    ".join(map(quoted, values))
        texts += f"static const char *const texts{i}[{len(values)}] = {{\n    {listed}\n}};\n\n"
        body += (
            f"    for (j = 0; j < {column.inputs}; j++)\n        x[{start} + j] = 0;\n"
            f"    j = find(row->{field}, texts{i}, {len(column.values)}, {len(values)}, "
            f"{column.new_code}, {column.missing_code});\n"
            f"    if (j >= 0)\n        x[{start} + j] = 1;\n"
        )
    helpers = ""
    if numbers:
        last = "t / sqrt(1.0 + t / 3.0 * (t / 3.0))" if encoder.clip else "t"
        helpers += (
            "static double number(double x, double center, double scale)\n{\n"
            "    double t = (x - center) * scale;\n"
            "    if (t != t)\n        return 0.0; /* missing */\n"
            f"    t = t > {limit} ? {limit} : t < -{limit} ? -{limit} : t;\n"
            f"    return {last};\n}}\n\n"
        )
    if dates:
        helpers += _moments()
    if any(column.circles for column in dates):
        helpers += (
            f"static void circle(double turn, {kind} *x)\n{{\n"
            f"    x[0] = turn != turn ? 0 : ({kind})sin({2 * math.pi!r} * turn);\n"
            f"    x[1] = turn != turn ? 0 : ({kind})cos({2 * math.pi!r} * turn);\n}}\n\n"
        )
    if categories:
        helpers += (
            "static int same(const char *a, const char *b)\n{\n"
            "    while (*a && *a == *b) {\n        a++;\n        b++;\n    }\n"
            "    return *a == *b;\n}\n\n"
            "/* The first n of the texts are values, the others stand for none. */\n"
            "static long find(const char *text, const char *const *texts, long n, long all,\n"
            "                 long fresh, long missing)\n{\n    long j;\n"
            "    if (!text)\n        return missing;\n"
            "    for (j = 0; j < all; j++)\n        if (same(text, texts[j]))\n"
            "            return j < n ? j : missing;\n"
            "    return fresh;\n}\n\n"
        )
    declared = ("    long j;\n" if categories else "") + ("    double part[5];\n" if dates else "")
    function = f"static void encode(const {name}_row *row, {kind} *x)\n{{\n{declared}{body}}}\n\n"
    return texts + helpers + function, size


def _of_date(column: Date, field: str, start: int, kind: str) -> str:
    """The statements of a column of moments."""
    body = f"    parts_of(row->{field}, part);\n"
    for part, (center, scale) in column.scaled.items():
        body += (
            f"    x[{start}] = ({kind})number(part[{PARTS.index(part)}], {center!r}, {scale!r});\n"
        )
        start += 1
    for part in column.circles:
        body += f"    circle(part[{PARTS.index(part)}], x + {start});\n"
        start += 2
    return body + f"    x[{start}] = part[0] != part[0];\n" * column.flag


def _moments() -> str:
    """The function that takes a moment apart."""
    written = Written("floor", "    double {} = {};\n")
    far = repr(FARTHEST)
    seconds = Text(f"(s > {far} ? {far} : s < -{far} ? -{far} : s)", repr)
    parts = parts_of(written, seconds)
    lines = "".join(f"    part[{i}] = {bare(part.text)};\n" for i, part in enumerate(parts))
    return (
        f"/* Of seconds since 1970: {', '.join(PARTS)}. */\n"
        f"static void parts_of(double s, double *part)\n{{\n{''.join(written.statements)}{lines}}}\n\n"
    )
