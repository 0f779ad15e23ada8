"""Networks for tables: `TabularClassifier` and `TabularRegressor`, scikit-learn estimators.

    frame → inputs (inputs) → recipe (recipes: stages, rates) → members (training, side by side) → mean

`docs/tabular.md` says when to take which, and what they were measured to do.
"""

from typing import TYPE_CHECKING, Any

from fastbp.tables._extra import need

if TYPE_CHECKING:
    from fastbp.tabular.classifier import TabularClassifier as TabularClassifier
    from fastbp.tabular.model import TabularModel as TabularModel
    from fastbp.tabular.regressor import TabularRegressor as TabularRegressor

__all__ = ["TabularClassifier", "TabularModel", "TabularRegressor", "load"]

_LATER = {
    "TabularClassifier": "fastbp.tabular.classifier",
    "TabularModel": "fastbp.tabular.model",
    "TabularRegressor": "fastbp.tabular.regressor",
    "load": "fastbp.tabular.saving",
}


def __getattr__(name: str) -> Any:
    """Import scikit-learn when an estimator is first asked for."""
    if name in _LATER:
        from importlib import import_module

        need("sklearn", name)
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'fastbp.tabular' has no attribute {name!r}")
