"""The file of a saved network, and of a checkpoint: safetensors, with a header that has a version.

The file's metadata are ``format`` ("fastbp"), ``version`` (it grows when an older fastbp could not
read the file rightly), ``header`` (JSON: ``network`` describes the network, ``training`` is there in
a checkpoint, see `fastbp.checkpoint`, ``table`` where the network was trained on a table, see
`fastbp.tables.model`) and ``crc32`` (of all the rest). Arrays ``layer_1`` …
``layer_L`` are the parameters [W | b].
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastbp import _safetensors

__all__ = ["VERSION", "layers_from", "read", "write"]

Array = NDArray[Any]

FORMAT = "fastbp"
VERSION = 1


def write(path: str | os.PathLike[str], header: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Write a file; an existing one is replaced in one step, once the new one is safe on disk.

    A process that is killed in between leaves the old file, and a ``.NAME.….tmp`` beside it.
    """
    metadata = {"format": FORMAT, "version": str(VERSION), "header": json.dumps(header)}
    metadata["crc32"] = _checksum(arrays, metadata)
    with replacing(path) as file:
        _safetensors.write(file, arrays, metadata)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` in one step, once it is complete and on disk.

    If anything fails, what is at `path` stays as it is, and the new file goes.
    """
    from pathlib import Path  # slow to import

    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        # A device or a pipe: the new file would take its place in the folder.
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    temporary = path.parent / f".{path.name}.{os.urandom(8).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno and error.filename in (None, os.fspath(temporary)):
            error.filename = os.fspath(path)  # the name that the caller knows
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the folder's entry, too, is to survive a power cut
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


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
