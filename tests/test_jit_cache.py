"""Compiled code on disk: found again, never wrongly; and the package without compiled modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
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
print(type(model._holder.engine).__name__, "numba" in sys.modules, model.predict([[0, 1], [1, 1]]))
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
    assert run(tmp_path, copy, FASTBP_CACHE_DIR=cache) == "JitEngine False [1 0]"
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


posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes here")


def keeps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether code is kept in this folder, and found again."""
    monkeypatch.setenv("FASTBP_CACHE_DIR", str(folder))
    library._write("key", b"code")
    found = library._read("key")
    assert found in (b"code", None)
    return found is not None


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings so far."""
    library._warn.cache_clear()
    return lambda: [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


@posix
def test_folders_are_made_for_the_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0)
    try:
        assert keeps(tmp_path / "a" / "b", monkeypatch)
    finally:
        os.umask(before)
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b" / "key.o").stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777, 0o2775])
def test_a_folder_that_others_may_write_to_is_not_used(
    mode: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[[], list[str]],
) -> None:
    folder = tmp_path / "cache"
    assert keeps(folder, monkeypatch)
    folder.chmod(mode)
    assert library._read("key") is None  # though there is good code
    library._write("other", b"code")
    assert [path.name for path in folder.iterdir()] == ["key.o"]
    (message,) = told()  # once
    assert "does not use its cache" in message
    assert f"{str(folder)!r} can be written to by others (mode {mode:o}" in message
    folder.chmod(0o755)
    assert library._read("key") == b"code"


@posix
def test_a_folder_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[str]]
) -> None:
    folder = tmp_path / "cache"
    assert keeps(folder, monkeypatch)
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    else:  # be another user
        mine = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert library._read("key") is None
    library._write("other", b"code")
    assert len(list(folder.iterdir())) == 1
    (message,) = told()
    assert "is another user's" in message


@posix
def test_what_root_has_put_there_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an image that root has made and a user runs."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of root's")
    assert keeps(tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert library._read("key") == b"code"


@posix
@pytest.mark.parametrize(("mode", "used"), [(0o777, False), (0o1777, True), (0o775, True)])
def test_the_folder_that_it_is_in(
    mode: int,
    used: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[[], list[str]],
) -> None:
    """Who may write there can put another folder in its place, unless it is sticky."""
    outer = tmp_path / "outer"
    (outer / "inner" / "cache").mkdir(parents=True, mode=0o700)
    outer.chmod(mode)
    assert keeps(outer / "inner" / "cache", monkeypatch) == used
    assert bool(told()) == (not used)
    if not used:
        assert f"by others, who may write to {str(outer)!r}" in told()[0]


@posix
def test_a_link_is_judged_by_where_it_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "safe").mkdir(mode=0o700)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("safe", "open"):
        (tmp_path / f"to_{name}").symlink_to(tmp_path / name)
        assert keeps(tmp_path / f"to_{name}", monkeypatch) == (name == "safe")
        inner = tmp_path / name / "inner"
        inner.mkdir(mode=0o700)
        assert keeps(tmp_path / f"to_{name}" / "inner", monkeypatch) == (name == "safe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert not keeps(tmp_path / "circle", monkeypatch)


@posix
@pytest.mark.parametrize("kind", ["damaged", "group", "others", "link", "pipe", "folder", "owner"])
def test_a_file_that_is_not_whole_or_might_be_of_others_is_compiled_anew(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keeps(tmp_path, monkeypatch)
    entry = tmp_path / "key.o"
    match kind:
        case "damaged":
            entry.write_bytes(entry.read_bytes()[:-1])
        case "group":
            entry.chmod(0o660)
        case "others":
            entry.chmod(0o602)
        case "link":
            entry.rename(tmp_path / "elsewhere")
            entry.symlink_to(tmp_path / "elsewhere")
        case "pipe":
            entry.unlink()
            os.mkfifo(entry)
        case "folder":
            entry.unlink()
            entry.mkdir()
        case "owner":
            if os.geteuid() != 0:
                pytest.skip("only root can give a file away")
            os.chown(entry, 12345, -1)
    assert library._read("key") is None
    if kind != "folder":
        assert keeps(tmp_path, monkeypatch)  # it is replaced
        assert entry.is_file()
        assert not entry.is_symlink()


def test_a_system_without_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "geteuid", raising=False)
    monkeypatch.delattr(os, "getuid", raising=False)
    assert keeps(tmp_path / "cache", monkeypatch)
    (tmp_path / "cache").chmod(0o777)
    assert keeps(tmp_path / "cache", monkeypatch)


@posix
def test_work_goes_on_without_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setenv("FASTBP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(library, "Library", bytes)
    monkeypatch.setattr(library, "_loaded", {})
    library._warn.cache_clear()
    for key in ("one", "two"):
        assert library.load(key, "a function", lambda: b"code") == b"code"
    assert caplog.text.count("does not use its cache") == 1
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
