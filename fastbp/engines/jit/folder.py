"""The folder of compiled code: where it is, and whether what lies in it may be run.

Whoever can write to it can have code of theirs run by us. So a folder that belongs to another user,
or that others may write to, is not used at all, and a file in it must itself be ours alone. Windows
tells no owner by these means; there the user's own folder is closed to others by its access list.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UnsafeError(OSError):
    """Others could put code here, or have."""


def cache_folder() -> Path:
    """Where compiled code is kept: FASTBP_CACHE_DIR, else the user's cache folder."""
    named = os.environ.get("FASTBP_CACHE_DIR", "").strip()
    if named:
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "fastbp"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastbp"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastbp"


def make(folder: Path) -> None:
    """Make the folder, and those it is to be in, for the user alone; one that is there stays as it is.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def check(folder: Path) -> None:
    """Raise unless only the user (and root) may write to the folder.

    Raises
    ------
    UnsafeError
        If it is another user's, or others may write to it, or may put another one in its place.
    OSError
        If it is not there.
    """
    if not hasattr(os, "geteuid"):
        return
    real = folder.resolve(strict=True)  # where links lead to is what counts
    found = real.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{str(folder)!r} is no folder")
    _check_owner(str(folder), found)
    for parent in real.parents:
        mode = parent.stat().st_mode
        # A sticky folder, as /tmp, lets nobody move what is another's. A group that may write to a
        # parent is let pass, for many systems give each user a group of his own: it could only put
        # another folder of this user in place of this one, and a file in that must be his, too.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise UnsafeError(
                f"{str(folder)!r} can be replaced by others, who may write to {str(parent)!r}"
            )


def read(path: Path) -> bytes:
    """The contents of a file that only the user (and root) may write to.

    Raises
    ------
    UnsafeError
        If it is another user's, or others may write to it, or it is no regular file.
    OSError
        If it cannot be read.
    """
    # Not through a link; and not to wait for ever on a pipe that somebody put there.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
        found = os.fstat(file.fileno())  # of what is open, whatever the name leads to by now
        if not stat.S_ISREG(found.st_mode):
            raise UnsafeError(f"{str(path)!r} is no regular file")
        if hasattr(os, "geteuid"):
            _check_owner(str(path), found)
        return file.read()


def _check_owner(name: str, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise UnsafeError(f"{name!r} is another user's (id {found.st_uid})")
    if found.st_mode & _OTHERS:
        raise UnsafeError(
            f"{name!r} can be written to by others (mode {stat.S_IMODE(found.st_mode):o}; "
            "`chmod go-w` closes it, once it is sure that all in it is yours)"
        )
