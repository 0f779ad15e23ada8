"""Packages that only some files and frames need, imported when they are."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["need"]


def need(module: str, what: str, install: str = '"fastbp[tables]"') -> Any:
    """Import a module.

    Raises
    ------
    ImportError
        If it is not installed: one sentence that says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ImportError(f"{what} needs {package}: pip install {install}") from None
