"""The file of a saved network: a NumPy ``.npz`` archive without pickled objects.

Entry ``header`` is JSON text: ``format`` ("fastbp model"), ``version`` (an int that grows when an
older fastbp could not read the file rightly), and the network's description. Entries
``layer_1`` … ``layer_L`` are its parameters [W | b]. The optimizer's state is not in it.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["VERSION", "read", "write"]

FORMAT = "fastbp model"
VERSION = 1


def write(
    path: str | os.PathLike[str], description: dict[str, Any], parameters: list[NDArray[Any]]
) -> None:
    """Write a model file; an existing one is replaced in one step, once the new one is complete."""
    path = Path(path)
    header = json.dumps({"format": FORMAT, "version": VERSION, **description}, allow_nan=False)
    arrays: dict[str, Any] = {f"layer_{i}": p for i, p in enumerate(parameters, start=1)}
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with open(descriptor, "wb") as file:
            np.savez(file, header=np.array(header), **arrays)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files for the owner alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Return the description and the parameters.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged, no model of fastbp, or written by a newer fastbp.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        # A damaged archive raises almost anything (zip, zlib, NumPy, JSON): make it one error.
        try:
            archive = np.load(file, allow_pickle=False)
            entries = set(archive.files) if isinstance(archive, np.lib.npyio.NpzFile) else set()
            header = json.loads(archive["header"].item()) if "header" in entries else None
        except Exception as error:
            raise ValueError(f"{name!r} is not a fastbp model, or is damaged: {error}") from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError(f"{name!r} is not a fastbp model")
        version = header.get("version")
        if not isinstance(version, int):
            raise ValueError(f"{name!r} is damaged: its version is {version!r}")
        if version > VERSION:
            raise ValueError(
                f"{name!r} was written by a newer fastbp (format {version}; this one reads up to "
                f"{VERSION}): upgrade fastbp to load it"
            )
        try:
            parameters = [archive[f"layer_{i + 1}"] for i in range(len(entries) - 1)]
        except Exception as error:
            raise ValueError(f"{name!r} is damaged: {error}") from error
    del header["format"], header["version"]
    return header, parameters
