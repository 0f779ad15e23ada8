"""Arrow arrays of plain values as NumPy's, and texts as Arrow's, straight from their buffers.

Arrow's own conversions import pandas wherever it is installed, which takes longer than to read a file
of a million cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["one_array", "strings", "valid", "values"]


def one_array(column: Any) -> Any:
    """An array of one piece."""
    if not hasattr(column, "chunks"):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    column = column.combine_chunks()
    if not hasattr(column, "chunks"):
        return column
    return column.chunk(0) if column.num_chunks else column.slice(0, 0).combine_chunks()


def values(array: Any, dtype: Any) -> NDArray[Any]:
    """Values of an array whose Arrow type is the same as `dtype`; where null, whatever is there.

    Not a copy but for booleans, and not to be written to.
    """
    array = one_array(array)
    n, start = len(array), array.offset
    dtype = np.dtype(dtype)
    if n == 0:
        return np.empty(0, dtype)
    buffer = array.buffers()[1]
    if dtype.kind == "b":
        return _bits(buffer, start, n)
    found: NDArray[Any] = np.frombuffer(buffer, dtype, n, start * dtype.itemsize)
    return found


def valid(array: Any) -> NDArray[np.bool_]:
    """Which entries are not null."""
    array = one_array(array)
    n = len(array)
    if str(array.type) == "null":
        return np.zeros(n, bool)
    buffer = array.buffers()[0] if array.null_count else None
    return np.ones(n, bool) if buffer is None else _bits(buffer, array.offset, n)


def strings(texts: Sequence[str]) -> Any:
    """An Arrow array of texts."""
    import pyarrow as pa

    data = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, data)]).astype(np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def _bits(buffer: Any, start: int, n: int) -> NDArray[np.bool_]:
    """Bits of a bitmap from `start` on."""
    first = start // 8
    octets = np.frombuffer(buffer, np.uint8, (start + n + 7) // 8 - first, first)
    bits = np.unpackbits(octets, bitorder="little")[start % 8 : start % 8 + n]
    return bits.astype(bool)
