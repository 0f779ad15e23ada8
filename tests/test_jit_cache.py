"""Compiled code on disk: found again, never wrongly; and the package without compiled modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastbp
from fastbp.engines import jit
from fastbp.engines.jit import library
from fastbp.engines.jit.target import host
from fastbp.functions import fingerprint

pytestmark = pytest.mark.skipif(not jit.available(), reason=jit.reason())
PACKAGE = Path(fastbp.__file__).parent

SCRIPT = """
import sys
import fastbp
assert "numba" not in sys.modules
model = fastbp.MLP([2, 16, 2], seed=0{options})
X = [[0, 0], [0, 1], [1, 0], [1, 1]] * 50
history = model.fit(X, [0, 1, 1, 0] * 50, epochs=100, optimizer="adam", learning_rate=0.01)
print(type(model._engine).__name__, "numba" in sys.modules, model.predict([[0, 1], [1, 1]]))
"""


def run(cwd: Path, path: Path, options: str = "", **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT.format(options=options)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(path)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip() + done.stderr.strip()


def test_an_installation_without_compiled_modules(tmp_path: Path) -> None:
    """It trains with engine="auto", and a second process needs no Numba to load what is compiled."""
    copy = tmp_path / "install"
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "*.c", "*.pyx")
    shutil.copytree(PACKAGE, copy / "fastbp", ignore=ignored)
    cache = str(tmp_path / "cache")
    first = run(tmp_path, copy, FASTBP_CACHE_DIR=cache)
    assert first.startswith("JitEngine True [1 0]")
    assert "compiles the float32 engine" in first  # the progress message
    (entry,) = (tmp_path / "cache").iterdir()
    assert run(tmp_path, copy, FASTBP_CACHE_DIR=cache) == "JitEngine False [1 0]"
    data = entry.read_bytes()
    entry.write_bytes(data[:-100])  # a damaged file is compiled anew
    assert run(tmp_path, copy, FASTBP_CACHE_DIR=cache).startswith("JitEngine True [1 0]")
    assert entry.read_bytes() == data
    # a cache that cannot be written to (here, a file is in its place) is done without
    options = ', engine="reference"'
    assert run(tmp_path, copy, options).startswith("ReferenceEngine False [1 0]")


FACTOR = 2.0


def helper(z):
    return FACTOR * z


def uses_helper(z):
    return helper(z) + 1


def test_fingerprint_follows_all_that_a_function_refers_to(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(uses_helper)
    assert fingerprint(uses_helper) == before
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert fingerprint(uses_helper) != before
    monkeypatch.undo()
    assert fingerprint(uses_helper) == before
    monkeypatch.setitem(globals(), "helper", lambda z: z)
    assert fingerprint(uses_helper) != before
    assert fingerprint(lambda z: z + 1) != fingerprint(lambda z: z + 2)
    assert fingerprint(lambda z: z + 1) != fingerprint(lambda z: z + 1.0)
    assert fingerprint(lambda z, a=1: z + a) != fingerprint(lambda z, a=2: z + a)
    assert fingerprint(helper, None) != fingerprint(None, helper)


def test_what_cannot_be_followed_is_never_the_same() -> None:
    table = [1.0, 2.0]

    def f(z):
        return table[0] * z

    assert fingerprint(f).startswith("#")
    assert fingerprint(f) != fingerprint(f)


def test_key_follows_versions_and_parts() -> None:
    assert library.hash_of("a", "b") == library.hash_of("a", "b")
    assert library.hash_of("a", "b") != library.hash_of("ab", "")
    for word in (sys.version, "numba", "llvmlite", library.host().cpu, library.host().features):
        assert word in library.versions()


def test_code_is_kept_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_CACHE_DIR", str(tmp_path / "new"))
    assert library._read("key") is None
    library._write("key", b"code")
    assert library._read("key") == b"code"
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("FASTBP_CACHE_DIR", str(blocked))
    library._write("key", b"code")  # cannot be kept: no error
    assert library._read("key") is None


def test_nothing_is_left_of_code_that_could_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setenv("FASTBP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(library.os, "replace", full)
    library._write("key", b"code")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_compiles() -> None:
    with library._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if library._lock.acquire(timeout=10) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("isa", ["amx", "avx512_bf16", "avx512"])
def test_bf16_instruction_sets_leave_nothing_out(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = host.__wrapped__
    monkeypatch.delenv("FASTBP_ISA", raising=False)
    wanted = whole()
    monkeypatch.setenv("FASTBP_ISA", isa)
    assert whole() == wanted


def test_warm_up() -> None:
    fastbp.warm_up(fastbp.MLP([4, 16, 3], seed=0).plan)
    assert any(library._loaded)
