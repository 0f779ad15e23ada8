"""Compiled code: made when it is first needed, kept on disk, loaded without Numba.

The name of a file in the cache is a hash of all that its contents follow from: the source of the
kernels, of a user's function and what it refers to, the versions of Python, Numba and llvmlite, the
CPU and its features. So a hit is never wrong, and what is out of date is never looked at again. That
it was fastbp that wrote it, no hash tells: `folder` sees to that.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastbp.engines.jit import folder
from fastbp.engines.jit.target import host

_log = logging.getLogger("fastbp")
_lock = threading.Lock()


def _after_fork() -> None:
    """In a child: what another thread was compiling is nobody's work here."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
_loaded: dict[str, Library] = {}


class Library:
    """Object code in memory; `address` finds a function of it."""

    def __init__(self, code: bytes) -> None:
        import llvmlite.binding as llvm

        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Address of the C function of that name."""
        return int(self._engine.get_function_address(name))


def target_machine() -> Any:
    """LLVM's code generator for `host`."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(host().triple)
    return target.create_target_machine(
        cpu=host().cpu, features=host().features, opt=3, codemodel="jitdefault", jit=True
    )


def load(
    key: str, what: str, make: Callable[[], bytes], *, keep: bool = True, level: int = logging.INFO
) -> Library:
    """The library for `key`: of this process, else from the cache, else compiled by `make`.

    `what` is the name in the progress message, logged with `level`; with keep=False nothing goes to
    the cache.
    """
    with _lock:
        if key in _loaded:
            return _loaded[key]
        code = _read(key) if keep else None
        if code is None:
            _log.log(level, "fastbp compiles %s for this CPU, once: some seconds", what)
            start = time.perf_counter()
            code = make()
            _log.info("compiled %s in %.1f s", what, time.perf_counter() - start)
            if keep:
                _write(key, code)
        library = _loaded[key] = Library(code)
        return library


@functools.cache
def versions() -> str:
    """What all compiled code follows from, beside its own source."""
    sources = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        sources.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    packages = [f"{p} {importlib.metadata.version(p)}" for p in ("numba", "llvmlite")]
    return "\n".join([sys.version, *packages, repr(host()), sources.hexdigest()])


def hash_of(*parts: str) -> str:
    """A key for `load`."""
    return hashlib.sha256("\0".join([versions(), *parts]).encode()).hexdigest()


def _read(key: str) -> bytes | None:
    """The code in the cache; None if it is not there, not whole, or might be another's."""
    try:
        at = folder.cache_folder()
        folder.check(at)
        data = folder.read(at / f"{key}.o")
    except folder.UnsafeError as error:
        _warn(str(error))
        return None
    except (OSError, RuntimeError):  # RuntimeError: no home folder, or links that go in circles
        return None
    digest, code = data[:32], data[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(key: str, code: bytes) -> None:
    """Put the code into the cache, if that can be written to; another process may do the same."""
    try:
        at = folder.cache_folder()
        folder.make(at)
        folder.check(at)
        handle, name = tempfile.mkstemp(dir=at)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(name, at / f"{key}.o")
        except OSError:
            os.unlink(name)
            raise
    except folder.UnsafeError as error:
        _warn(str(error))
    except (OSError, RuntimeError) as error:
        _log.info("compiled code is not kept: %s", error)


@functools.cache
def _warn(reason: str) -> None:
    """Say once why the cache is not used."""
    _log.warning("fastbp does not use its cache of compiled code: %s", reason)
