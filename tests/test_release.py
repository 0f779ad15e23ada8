"""setup.py, the checklist of a release, the bill of materials: what they say of sources and wheels."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

import fastbp

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / "tools"
if not TOOLS.is_dir():
    pytest.skip("the tools are in the sources only", allow_module_level=True)


def tool(name: str) -> Any:
    return SimpleNamespace(**runpy.run_path(str(TOOLS / name)))


def test_the_sources_pass_the_checklist() -> None:
    assert tool("release.py").check_sources(False) == []


def wheel(folder: Path, name: str, files: list[str]) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.writestr(file, b"")
    return path


LICENCES = [f"fastbp-{fastbp.__version__}.dist-info/licenses/{name}" for name in ("LICENSE", "R")]
SETS = ("baseline", "avx2", "avx512", "avx512_bf16", "amx")
MODULES = [
    f"fastbp/engines/native/{isa}/bf16/engine.cpython-311-x86_64-linux-gnu.so" for isa in SETS
]


@pytest.mark.parametrize(
    ("tags", "files", "fault"),
    [
        ("cp311-cp311-manylinux2014_x86_64", [*MODULES, *LICENCES], None),
        ("cp314-cp314t-manylinux2014_x86_64", [*MODULES, *LICENCES], None),
        ("cp311-cp311-macosx_11_0_arm64", [*MODULES[:1], *LICENCES], None),
        ("cp311-cp311-manylinux2014_x86_64", [*MODULES[:2], *LICENCES], "has modules for"),
        ("cp311-cp311-manylinux2014_aarch64", LICENCES, r"has modules for \[\] only"),
        ("cp311-cp311-manylinux2014_x86_64", [*MODULES, *LICENCES[:1]], "licence"),
        ("cp311-abi3-manylinux2014_x86_64", [*MODULES, *LICENCES], "its tags are cp311-abi3"),
        (
            "cp311-cp311-win_amd64",
            [*MODULES, *LICENCES, "fastbp/engines/native/engine.c"],
            "products of the build",
        ),
    ],
)
def test_a_wheel_that_lacks_something_is_named(
    tmp_path: Path, tags: str, files: list[str], fault: str | None
) -> None:
    import re

    wrong = tool("release.py").check_wheel(
        wheel(tmp_path, f"fastbp-{fastbp.__version__}-{tags}.whl", files)
    )
    if fault is None:
        assert wrong == []
    else:
        assert len(wrong) == 1
        assert re.search(fault, wrong[0])


def test_bill_of_materials_names_what_is_inside(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a.whl", LICENCES)
    run = subprocess.run(
        [sys.executable, str(TOOLS / "sbom.py"), str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    bill = json.loads(run.stdout)
    assert bill["metadata"]["component"]["version"] == fastbp.__version__
    assert [file["name"] for file in bill["metadata"]["component"]["components"]] == ["a.whl"]
    assert {"numpy", "cython"} <= {component["name"] for component in bill["components"]}


# ---- setup.py -------------------------------------------------------------------------------------


def test_asking_for_the_version_does_no_work(tmp_path: Path) -> None:
    """No Cython is imported, nothing generated: it works where Cython cannot be imported at all."""
    pytest.importorskip("setuptools", "77")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "fastbp" / "data").mkdir(parents=True)
    shutil.copy(ROOT / "fastbp" / "__init__.py", tmp_path / "fastbp")
    shutil.copy(ROOT / "fastbp" / "data" / "README.md", tmp_path / "fastbp" / "data")
    program = (
        "import sys; sys.modules['Cython.Build'] = None; sys.argv = ['setup.py', '--version'];"
    )
    run = subprocess.run(
        [sys.executable, "-c", program + "exec(open('setup.py').read())"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.split()[-1] == fastbp.__version__
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(
    ("platform", "sets", "ending"),
    [
        ("linux-x86_64", {*SETS}, ".so"),
        ("linux-aarch64", {"baseline"}, ".so"),
        ("macosx-11.0-arm64", {"baseline"}, ".so"),
        ("macosx-11.0-x86_64", {*SETS} - {"amx"}, ".so"),
        ("macosx-11.0-universal2", {"baseline"}, ".so"),
        ("win-amd64", {*SETS} - {"amx"}, ".pyd"),
        ("win-arm64", {"baseline"}, ".pyd"),
        ("linux-riscv64", {"baseline"}, ".so"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows' own Python builds for Windows alone")
def test_modules_are_those_of_the_platform_that_the_wheel_is_for(
    platform: str, sets: set[str], ending: str
) -> None:
    setuptools = pytest.importorskip("setuptools", "77")
    with patch.object(setuptools, "setup") as called, patch.dict(os.environ):
        os.environ.pop("FASTBP_MODULES", None)
        os.environ["_PYTHON_HOST_PLATFORM"] = platform
        setup = runpy.run_path(str(ROOT / "setup.py"))
        build = setup["BuildEach"](setuptools.Distribution(called.call_args.kwargs))
        build.ensure_finalized()
        assert {ext.name.split(".")[-3] for ext in build.extensions} == sets
        assert {Path(build.get_ext_filename(ext.name)).name for ext in build.extensions} == {
            f"engine{ending}"
        }
