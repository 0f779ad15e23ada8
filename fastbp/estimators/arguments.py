"""How estimators keep the arguments of ``__init__``, as scikit-learn wants them: unchanged."""

from __future__ import annotations

from typing import Any

__all__ = ["store"]


def store(estimator: Any, parameters: dict[str, Any]) -> None:
    """Keep the arguments of __init__ as they are: its ``locals()``."""
    for name, value in parameters.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)
