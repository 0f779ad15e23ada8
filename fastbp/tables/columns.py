"""A column as it comes (NumPy or Arrow) seen as numbers, as moments, or as codes of texts.

NumPy arrays need nothing else; Arrow's are what files and frames are read into.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastbp.tables import _arrow, texts
from fastbp.tables._arrow import one_array
from fastbp.tables.texts import NO_VALUE, Style

__all__ = [
    "Kind",
    "codes_of",
    "is_single",
    "kind_of",
    "moments_of",
    "numbers_of",
    "plain_numbers",
    "value_at",
]

Kind = Literal["number", "category", "text", "date", "empty", "other"]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FEW = 8  # values of which none is looked for twice
_KINDS: dict[int, Kind] = {}  # of Arrow's types, by their id
_KINDS_OF_NUMPY: dict[str, Kind] = {
    **dict.fromkeys("iufm", "number"),
    "b": "category",
    "U": "category",  # typed already: a file of arrays has numbers as numbers
    "M": "date",
}


def kind_of(column: Any) -> Kind:
    """What its type says; "text" may hold numbers, dates or categories."""
    if isinstance(column, np.ndarray):
        return _KINDS_OF_NUMPY.get(column.dtype.kind, "other")
    type_ = column.type
    kind = _KINDS.get(type_.id)  # many columns are of few types
    if kind is None:
        kind = _KINDS[type_.id] = _kind_of_type(type_)
    return kind


def _kind_of_type(type_: Any) -> Kind:
    import pyarrow.types as is_

    if is_.is_dictionary(type_):
        return "category"
    if is_.is_boolean(type_):
        return "category"
    if is_.is_integer(type_) or is_.is_floating(type_) or is_.is_decimal(type_):
        return "number"
    if is_.is_duration(type_) or is_.is_time(type_):
        return "number"
    if is_.is_string(type_) or is_.is_large_string(type_) or is_.is_string_view(type_):
        return "text"
    if is_.is_date(type_) or is_.is_timestamp(type_):
        return "date"
    return "empty" if is_.is_null(type_) else "other"


def is_single(column: Any) -> bool:
    """Whether its numbers are of float32's precision, or of less."""
    if isinstance(column, np.ndarray):
        return column.dtype.char in "fe"
    import pyarrow as pa

    return column.type.id in (pa.lib.Type_FLOAT, pa.lib.Type_HALF_FLOAT)


def numbers_of(
    column: Any, style: Style | None = None, tokens: Iterable[str] = NO_VALUE
) -> tuple[Floats, Mask | None]:
    """Numbers, NaN where one is missing; and which values are none and not missing (None: none)."""
    if isinstance(column, np.ndarray):
        if column.dtype.kind in "USO":
            return _parsed(column)
        if column.dtype.kind == "m":
            seconds = column.astype("timedelta64[ns]").astype(np.float64) / 1e9
            seconds[np.isnat(column)] = np.nan
            return seconds, None
        return _without(column.astype(np.float64, copy=False), tuple(tokens)), None
    import pyarrow as pa
    import pyarrow.types as is_

    kind = kind_of(column)
    if kind == "number" and column.type == pa.float64():  # thousands of columns are of this kind
        return _without(_floats(column), tuple(tokens)), None
    if kind in ("text", "category") and not is_.is_boolean(column.type):
        plain = plain_numbers(column, tokens) if style in (None, Style()) else None
        if plain is not None:
            return plain, None
        return _by_different_values(column, lambda v: _read_numbers(v, style or Style(), tokens))
    if kind in ("other", "date"):
        return np.full(len(column), np.nan), _arrow.valid(column)
    if is_.is_time(column.type) or is_.is_duration(column.type):
        unit = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
        wide = pa.int32() if column.type.bit_width == 32 else pa.int64()
        return _floats(column.cast(wide)) / unit, None
    return _without(_floats(column), tuple(tokens)), None


def plain_numbers(column: Any, tokens: Iterable[str] = NO_VALUE) -> Floats | None:
    """A column of text that is numbers as programs write them, every one; None: it is not.

    What it returns is what `numbers_of` would, at the speed of Arrow's parser.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as is_

    if is_.is_dictionary(column.type) or column.null_count or _numbers_among(tuple(tokens)):
        return None
    try:
        found = _floats(pc.cast(column, pa.float64()))
    except pa.ArrowInvalid:
        return None
    codes = pc.any(pc.match_substring_regex(column, texts.CODE)).as_py()  # 007 is no seven
    return found if np.isfinite(found).all() and not codes else None


def moments_of(
    column: Any, format: str = "", tokens: Iterable[str] = NO_VALUE
) -> tuple[NDArray[np.datetime64], Mask | None]:
    """Moments as datetime64[s] (of UTC where there is a zone), NaT where missing; which are none."""
    if isinstance(column, np.ndarray):
        if column.dtype.kind == "M":
            return column.astype("datetime64[s]"), None
        return np.full(len(column), "NaT", "datetime64[s]"), np.ones(len(column), bool)
    import pyarrow as pa

    kind = kind_of(column)
    if kind in ("text", "category"):
        formats = [format] if format else []
        formats += [f for f in texts.DATE_FORMATS if f.startswith("%Y") and f != format]
        return _by_different_values(column, lambda v: _read_dates(v, formats, tokens))
    if kind in ("other", "number"):
        return np.full(len(column), "NaT", "datetime64[s]"), _arrow.valid(column)
    column = one_array(column.cast(pa.timestamp("s"), safe=False))
    moments = _arrow.values(column, "datetime64[s]").copy()
    moments[~_arrow.valid(column)] = "NaT"
    return moments, None


def codes_of(column: Any, tokens: Iterable[str] = ()) -> tuple[NDArray[np.int64], list[str | None]]:
    """Index of every value, and the different values as text, None for missing.

    Several indices may mean the same text: white space around it does not count.
    """
    words = _words(tuple(tokens))
    if isinstance(column, np.ndarray):
        found, codes = np.unique(column, return_inverse=True)
        return codes.astype(np.int64), [_text(value, words) for value in found.tolist()]
    import pyarrow.types as is_

    if not is_.is_dictionary(column.type):
        if is_.is_date(column.type) or is_.is_timestamp(column.type) or is_.is_time(column.type):
            column = column.cast("string")
        if len(column) <= _FEW:  # as a rule a row to be predicted
            return np.arange(len(column)), [_text(value, words) for value in column.to_pylist()]
        column = column.dictionary_encode()
    column = one_array(column)
    values = [_text(value, words) for value in column.dictionary.to_pylist()]
    indices = _indices(column)
    indices[indices < 0] = len(values)
    return indices, [*values, None]


def value_at(column: Any, row: int) -> object:
    """One value, as Python has it."""
    value = column[row]
    return value.item() if isinstance(value, np.generic) else value.as_py()


def different(column: Any) -> tuple[Any, NDArray[np.int64], NDArray[np.int64]]:
    """(Trimmed) different values of a column of text, how often each is there, all indices."""
    column = one_array(column.dictionary_encode())
    values = texts.trimmed(column.dictionary.cast("string"))
    indices = _indices(column)
    counts = np.bincount(indices + 1, minlength=len(values) + 1)[1:]
    return values, counts, indices


def _by_different_values(column: Any, read: Any) -> tuple[Any, Mask | None]:
    import pyarrow.types as is_

    if is_.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
        if kind_of(column) != "text":
            column = column.cast("string")
    values, _, indices = different(column)
    found, bad = read(values)
    nothing = np.array([np.nan if found.dtype.kind == "f" else "NaT"], found.dtype)
    found = np.concatenate([found, nothing])[indices]  # index −1, a null, is the last
    return found, np.append(bad, False)[indices] if bad.any() else None


def _read_numbers(values: Any, style: Style, tokens: Iterable[str]) -> tuple[Floats, Mask]:
    missing = texts.is_missing(values, tokens)
    found = np.where(missing, np.nan, texts.numbers(values, style))
    bad = np.isnan(found) & ~missing
    if bad.any() and style != Style():  # a file of another country, or one written by a program
        found = np.where(bad, texts.numbers(values, Style()), found)
        bad &= np.isnan(found)
    return found, bad


def _read_dates(values: Any, formats: list[str], tokens: Iterable[str]) -> tuple[Any, Mask]:
    bad = ~texts.is_missing(values, tokens)
    found = np.full(len(values), "NaT", "datetime64[s]")
    for format in formats:
        if bad.any():
            found = np.where(np.isnat(found), texts.dates(values, format), found)
            bad &= np.isnat(found)
    return found, bad


@lru_cache
def _numbers_among(tokens: tuple[str, ...]) -> tuple[float, ...]:
    """Numbers that stand for no value, such as −99."""
    found = []
    for token in tokens:
        with suppress(ValueError):
            found.append(float(token))
    return tuple(number for number in found if number == number)


def _without(values: Floats, tokens: tuple[str, ...]) -> Floats:
    numbers = _numbers_among(tokens)
    return np.where(np.isin(values, numbers), np.nan, values) if numbers else values


def _floats(column: Any) -> Floats:
    import pyarrow as pa

    if column.type != pa.float64():
        column = column.cast(pa.float64(), safe=False)
    column = one_array(column)
    found = _arrow.values(column, np.float64)
    return np.where(_arrow.valid(column), found, np.nan) if column.null_count else found


def _indices(column: Any) -> NDArray[np.int64]:
    """Indices of a dictionary's array, −1 where null."""
    indices = column.indices
    found = _arrow.values(indices, indices.type.to_pandas_dtype()).astype(np.int64)
    found[~_arrow.valid(indices)] = -1
    return found


def _parsed(column: NDArray[Any]) -> tuple[Floats, Mask]:
    """Text in an array of a file that has numbers as numbers: read as Python does."""
    found = np.full(len(column), np.nan)
    bad = np.zeros(len(column), bool)
    for i, value in enumerate(column.tolist()):
        text = str(value).strip()
        if value is not None and text.lower() not in NO_VALUE:
            try:
                found[i] = float(text)
            except ValueError:
                bad[i] = True
    return found, bad


@lru_cache
def _words(tokens: tuple[str, ...]) -> frozenset[str]:
    """All that stand for no value."""
    return frozenset((*texts.NO_TEXT, *tokens))


def _text(value: object, tokens: frozenset[str]) -> str | None:
    """A category's name: a whole number has no decimals, whatever type it comes in."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return None if text.lower() in tokens else text
