"""Libraries that fastbp can do without, imported when first used."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str, what: str, *, extra: str) -> Any:
    """Import a module, or raise naming what needs it and how to install it.

    Raises
    ------
    ImportError
        If it is not there.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{what} needs {module} (pip install fastbp[{extra}]): {error}"
        ) from error
