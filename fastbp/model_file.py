"""The file of a saved network, and of a checkpoint: safetensors, with a header that has a version.

The file's metadata are ``format`` ("fastbp"), ``version`` (it grows when an older fastbp could not
read the file rightly), ``header`` (JSON: ``network`` describes the network, ``training`` is there in
a checkpoint; see `fastbp.checkpoint`) and ``crc32`` (of all the rest). Arrays ``layer_1`` …
``layer_L`` are the parameters [W | b].
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _safetensors
from fastbp._files import replacing

__all__ = ["VERSION", "layers_from", "read", "write"]

Array = NDArray[Any]

FORMAT = "fastbp"
VERSION = 1


def write(path: str | os.PathLike[str], header: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Write a file, in place of an existing one (`fastbp._files.replacing`)."""
    metadata = {"format": FORMAT, "version": str(VERSION), "header": json.dumps(header)}
    metadata["crc32"] = _checksum(arrays, metadata)
    with replacing(path) as file:
        _safetensors.write(file, arrays, metadata)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header and the arrays.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged, not fastbp's, or written by a newer fastbp.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        try:
            arrays, metadata = _safetensors.read(file)
        except ValueError as error:
            raise ValueError(f"{name!r} is not a fastbp model, or is damaged: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{name!r} is not a fastbp model")
    version = metadata.get("version", "")
    if not (version.isascii() and version.isdigit()) or version.startswith("0"):
        raise ValueError(f"{name!r} is damaged: its version is {version!r}")
    if version != str(VERSION):
        raise ValueError(
            f"{name!r} was written by a newer fastbp (format {version}; this one reads up to "
            f"{VERSION}): upgrade fastbp to load it"
        )
    try:
        if metadata.pop("crc32", None) != _checksum(arrays, metadata):
            raise ValueError("its checksum is not that of its contents")
        header = json.loads(metadata["header"])
        if not isinstance(header, dict) or not isinstance(header.get("network"), dict):
            raise ValueError("its header does not describe a network")
    except (KeyError, RecursionError, ValueError) as error:
        raise ValueError(f"{name!r} is damaged: {error}") from error
    return header, arrays


def layers_from(arrays: dict[str, Array], layers: int, prefix: str = "") -> list[Array]:
    """Take layer_1 … layer_L out of the arrays.

    Raises
    ------
    ValueError
        If one is missing.
    """
    names = [f"{prefix}layer_{i}" for i in range(1, layers + 1)]
    for name in names:
        if name not in arrays:
            raise ValueError(f"it has no array {name!r}")
    return [arrays.pop(name) for name in names]


def _checksum(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    """Checksum of names, shapes, dtypes, values and texts, in whatever order they are stored."""
    names = sorted(arrays)
    outline = [[name, arrays[name].dtype.name, arrays[name].shape] for name in names]
    value = zlib.crc32(json.dumps([sorted(metadata.items()), outline]).encode())
    for name in names:
        a = arrays[name]
        value = zlib.crc32(np.asarray(a, a.dtype.newbyteorder("<"), "C").data, value)
    return f"{value:08x}"
