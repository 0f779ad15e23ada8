"""Arrays in a file of the safetensors format: a JSON header, then raw bytes.

| bytes    | what                                                                              |
| -------- | --------------------------------------------------------------------------------- |
| 8        | N, little-endian                                                                  |
| N        | JSON: ``{"__metadata__": {str: str}, name: {"dtype", "shape", "data_offsets"}, …}`` |
| the rest | the arrays, little-endian, in C order, side by side                               |

Nothing in such a file is ever executed. The reader believes nothing either: sizes, offsets, shapes
and dtypes must agree with each other and with the size of the file before an array is made. Arrays in
half precision, F16 and BF16, are read as float32, which holds them exactly.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
HALF: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
HEADER_MOST = 100_000_000  # bytes, a limit of the format


def write(file: BinaryIO, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays of float32 or float64, and texts by name."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    stored = {name: np.asarray(a, a.dtype.newbyteorder("<"), "C") for name, a in arrays.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, a in stored.items():
        start, end = end, end + a.nbytes
        header[name] = {
            "dtype": names[a.dtype],
            "shape": list(a.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays are aligned
    file.write(len(text).to_bytes(8, "little") + text)
    for a in stored.values():
        file.write(a.data)


def read(file: BinaryIO) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the texts of a file; it ends where the arrays do.

    Raises
    ------
    ValueError
        If the file is anything else than what `write` writes, but for arrays in half precision.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, HEADER_MOST):
        raise ValueError("it has no safetensors header")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(t, str) for t in metadata.values()):
        raise ValueError("its metadata are not texts")

    places = []
    for name, entry in header.items():
        dtype, shape, start, end = _entry(name, entry)
        if end - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"array {name!r} has offsets that do not fit its shape")
        places.append((start, end, name, dtype, shape))
    places.sort(key=lambda place: place[:2])
    position = 0
    for start, end, name, _, _ in places:
        if start != position:
            raise ValueError(f"array {name!r} does not begin where the one before it ends")
        position = end
    if position != size - 8 - length:
        raise ValueError(f"its arrays need {position:,} bytes, it has {size - 8 - length:,}")

    arrays = {}
    for _, _, name, dtype, shape in places:
        a = np.fromfile(file, dtype, math.prod(shape))
        a = a.reshape(shape)
        if dtype == HALF["F16"]:
            arrays[name] = a.astype(np.float32)
        elif dtype == HALF["BF16"]:  # the upper half of a float32
            arrays[name] = (a.astype(np.uint32) << 16).view(np.float32)
        else:
            arrays[name] = a.astype(dtype.newbyteorder("="), copy=False)
    return arrays, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("its header has a name twice")
    return dict(pairs)


def _entry(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Dtype, shape and offsets of an array, each by itself as the format wants it."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"array {name!r} is not described by dtype, shape and offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    known = DTYPES | HALF
    dtype = known.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise ValueError(
            f"array {name!r} has dtype {entry['dtype']!r}, not one of {', '.join(known)}"
        )
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"array {name!r} has a shape or offsets that are not lists of sizes")
    if len(shape) > 8 or len(offsets) != 2:
        raise ValueError(f"array {name!r} has {len(shape)} axes and {len(offsets)} offsets")
    return dtype, tuple(shape), offsets[0], offsets[1]
