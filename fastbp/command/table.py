"""What `train` and `inspect` have in common: the files, and which of their columns are what."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.command.progress import Meter
from fastbp.command.report import Source
from fastbp.tables.columns import codes_of, numbers_of
from fastbp.tables.learning import Learnt, Wishes
from fastbp.tables.overview import overview
from fastbp.tables.parts import Part, Parts
from fastbp.tables.predictor import Encoder
from fastbp.tables.reading import Options, read
from fastbp.tables.target import Target, learn_target

__all__ = [
    "Given",
    "encoded",
    "names",
    "options",
    "present",
    "read_given",
    "source",
    "summary",
    "weights",
]

Array = NDArray[Any]


@dataclass
class Given:
    """Files that were read, and what was said of their columns."""

    parts: Parts
    features: list[str]
    wishes: Wishes
    notes: list[str]
    target: Target
    y: Array
    groups: Array | None
    weight: Array | None
    width: int | None

    def forget(self) -> None:
        """Let go of the table, which may be large."""
        self.parts = Parts([])


def options(args: argparse.Namespace, told: list[str], progress: Meter | None = None) -> Options:
    """How to read files; what the user should know of them goes to `told`."""
    if args.delimiter is not None:
        args.delimiter = {"\\t": "\t", "tab": "\t"}.get(args.delimiter, args.delimiter)
        if len(args.delimiter) != 1 or not args.delimiter.isascii():
            raise ValueError(f"--delimiter must be one character, got {args.delimiter!r}")
    return Options(
        delimiter=args.delimiter,
        decimal=args.decimal,
        encoding=args.encoding,
        missing=tuple(dict.fromkeys(f for t in args.missing for f in (t, t.strip(), t.lower()))),
        skip_bad_rows=args.skip_bad_rows,
        told=told.append,
        **({} if progress is None else {"progress": progress}),
    )


def names(option: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    """Columns of an option that takes several: names with commas between, or one that has them."""
    found = []
    for text in given:
        for name in [text] if text in known else [part.strip() for part in text.split(",")]:
            if name:
                found.append(column(option, name, known))
    return list(dict.fromkeys(found))


def column(option: str, given: str, known: Sequence[str]) -> str:
    """The column of this name, or with this index (negative: from the end)."""
    if given in known:
        return given
    try:
        return known[int(given)]
    except (ValueError, IndexError):
        raise ValueError(f"{option}: {nearest_name('column', given, known)}") from None


def read_given(args: argparse.Namespace, meter: Meter | None = None) -> Given:
    """Read the files and look up every column that an option names."""
    notes: list[str] = []

    def texts(known: Sequence[str]) -> Collection[str]:
        chosen = {*names("--cat-features", args.cat_features, known)}
        for option in ("target", "group"):
            if getattr(args, option) is not None:
                chosen.add(column(f"--{option}", getattr(args, option), known))
        return chosen

    parts = read(args.files, options(args, notes, meter), texts)
    if not parts.rows:
        raise ValueError(f"{args.files[0]}: there are no rows of data")
    known = parts.names
    tokens = tuple(t.strip().lower() for t in args.missing)
    ignored = {*names("--ignore", args.ignore, known)}
    special = {}
    for option in ("target", "group", "weight"):
        given = getattr(args, option)
        if given is not None:
            special[option] = column(f"--{option}", given, known)
    if len({*special.values()}) < len(special):
        raise ValueError("--target, --group and --weight must be different columns")
    apart = ignored | {*special.values()}
    features = [name for name in known if name not in apart]
    cat_features = names("--cat-features", args.cat_features, known)
    keep = names("--keep", args.keep, known)
    for option, listed in (("--cat-features", cat_features), ("--keep", keep)):
        for name in listed:
            if name in apart:
                raise ValueError(
                    f"{option}: {name!r} is the target, or is left out by another option"
                )
    if not features and special.get("target") is not None:
        raise ValueError(
            f"column {special['target']!r} is the only one: nothing to predict it from"
        )
    decimal = args.decimal or ("," if any(p.decimal == "," for p in parts) else ".")
    wishes = Wishes(cat_features, keep, tokens, decimal=decimal)
    target, y = Target("", None), np.zeros(parts.rows)
    if "target" in special:
        target, y, told = learn_target(parts, special["target"], args.task, tokens, decimal)
        notes += told
    groups = _groups(parts, special["group"], tokens) if "group" in special else None
    weight = None
    if "weight" in special:
        weight = np.concatenate([weights(part, special["weight"]) for part in parts])
        args.weight = special["weight"]
    numbered = known == [str(j) for j in range(len(known))]
    return Given(
        parts,
        features,
        wishes,
        notes,
        target,
        y,
        groups,
        weight,
        len(known) if numbered else None,
    )


def _groups(parts: Parts, name: str, tokens: tuple[str, ...]) -> Array:
    """Index of each row's group; a row without one is a group of its own."""
    known: dict[str, int] = {}
    pieces = []
    alone = -1
    for part in parts:
        indices, texts = codes_of(part.columns[name], tokens)
        found = [-1 if t is None else known.setdefault(t, len(known)) for t in texts]
        piece = np.array(found, np.int64)[indices]
        none = np.flatnonzero(piece < 0)
        piece[none] = alone - np.arange(len(none))
        alone -= len(none)
        pieces.append(piece)
    groups: Array = np.unique(np.concatenate(pieces), return_inverse=True)[1]
    return groups


def weights(part: Part, name: str) -> Array:
    """Weights of a part's rows.

    Raises
    ------
    ValueError
        If one is missing, no number, negative or infinite.
    """
    values, _ = numbers_of(part.columns[name])
    good = np.isfinite(values) & (values >= 0)
    if not good.all():
        row = int((~good).argmax())
        raise ValueError(f"{part.place(row)}, column {name!r}: a weight must be a number ≥ 0")
    return values


def source(args: argparse.Namespace, given: Given, learnt: Learnt, inputs: int) -> Source:
    """What is said of the data; prints it."""
    rows, target = len(given.y[present(given.y)]), given.target
    files = ", ".join(map(os.path.basename, args.files))
    made = Source(files, summary(rows, inputs, target), learnt.facts, [*given.notes, *learnt.notes])
    print(made.summary)
    print(overview(made.facts, made.notes), flush=True)
    return made


def present(y: Array) -> NDArray[np.bool_]:
    """Which targets are not missing."""
    return ~np.isnan(y) if y.dtype.kind == "f" else y >= 0


def summary(rows: int, inputs: int, target: Target) -> str:
    """The first line."""
    if target.classes is None:
        return f"{rows:,} rows, {inputs:,} inputs: regression of {target.name!r}"
    return (
        f"{rows:,} rows, {inputs:,} inputs: classification of {target.name!r}, "
        f"{len(target.classes):,} classes"
    )


def encoded(
    parts: Parts, encoder: Encoder, sets: list[NDArray[np.int64]], dtype: str
) -> list[Array]:
    """Inputs of the rows of each set."""
    inputs = len(encoder.inputs)
    X = [_matrix(len(rows), inputs, dtype) for rows in sets]
    first = 0
    for part in parts:
        for rows, out in zip(sets, X, strict=True):
            start, stop = np.searchsorted(rows, (first, first + part.rows))
            if stop > start:
                here = None if stop - start == part.rows else rows[start:stop] - first
                encoder.encode(part, here, out[start:stop])
        first += part.rows
    return X


def _matrix(rows: int, columns: int, dtype: str) -> Array:
    """In memory, or, if it would take more than a quarter of it, in a temporary file."""
    size = rows * columns * np.dtype(dtype).itemsize
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        memory = 4 << 30
    if size <= memory // 4:
        return np.empty((rows, columns), dtype)
    with tempfile.TemporaryFile(prefix="fastbp") as file:
        return np.memmap(file, dtype, "w+", shape=(rows, columns))
