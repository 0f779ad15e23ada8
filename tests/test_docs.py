"""Every example in a docstring of the installed package, and README's, says what happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import fastbp
from fastbp.engines import jit

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


@pytest.mark.parametrize("page", ["README.md", "docs/tables.md", "docs/tabular.md"])
def test_pages(page: str) -> None:
    result = doctest.testfile(str(Path(__file__).parents[1] / page), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0
