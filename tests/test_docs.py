"""Examples in docstrings of the package, in README and in the pages of the site say what happens."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import fastbp
from fastbp.cli import _parser
from fastbp.engines import jit

ROOT = Path(__file__).parents[1]

# Names of Python modules: compiled ones have no examples, and importing __main__ runs the command.
MODULES = [fastbp.__name__] + [
    module.name
    for module in pkgutil.walk_packages(fastbp.__path__, "fastbp.")
    if not module.name.endswith((".engine", ".__main__"))
    and (jit.available() or ".jit.kernels" not in module.name)
]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in (ROOT / page).read_text()])
def test_pages(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(ROOT / page), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0


def blocks_of(page: str, language: str) -> list[str]:
    """Fenced blocks of a language, but for those of a session, which doctest runs."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    return [block for block in found if ">>> " not in block]


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_python(page: str) -> None:
    for block in blocks_of(page, "python"):
        compile(block, page, "exec")


def test_three_blocks_from_a_frame_to_a_model_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("palmerpenguins", reason="palmerpenguins is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    blocks = blocks_of("docs/start.md", "python")
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/start.md", "exec"), names)
    out = capsys.readouterr().out
    assert float(out.split()[2]) > 0.9
    assert out.split()[-1] == "True"
    assert (tmp_path / "model.png").stat().st_size > 10_000


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_options_that_pages_give_them(page: str) -> None:
    text = (ROOT / page).read_text()
    for block in re.findall(r"^```text\n(.*?)^```$", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("fastbp "):
                _parser().parse_args(shlex.split(line, comments=True)[1:])


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path = target.partition("#")[0]
            if "://" in target or not path or path == "gallery/index.rst":  # made by the build
                continue
            assert (ROOT / page).parent.joinpath(path).exists(), f"{page}: {target}"


def test_the_reference_has_every_public_name() -> None:
    listed = set(re.findall(r"^   (fastbp\.\S+)$", (ROOT / "docs/reference.md").read_text(), re.M))
    modules = [
        "",
        ".callbacks",
        ".data",
        ".exchange",
        ".optimizers",
        ".plots",
        ".schedules",
        ".tables",
        ".tabular",
    ]
    for module in (f"fastbp{name}" for name in modules):
        for name in importlib.import_module(module).__all__:
            found = getattr(importlib.import_module(module), name)
            if name == "__version__" or inspect.ismodule(found) or f"{module}.{name}" in NOT_LISTED:
                continue
            assert listed & {f"{module}.{name}", f"fastbp.{name}"}, f"{module}.{name}"
    for name in listed:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


NOT_LISTED = {"fastbp.optimizers.Optimizer"}  # the type of any of them
