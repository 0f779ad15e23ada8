"""fastbp: trains multilayer perceptrons on multicore CPUs, fast.

Examples
--------
>>> import fastbp
>>> model = fastbp.MLP([2, 16, 2], seed=0)
>>> X = [[0, 0], [0, 1], [1, 0], [1, 1]] * 50
>>> y = [0, 1, 1, 0] * 50
>>> history = model.fit(X, y, epochs=100, optimizer="adam", learning_rate=0.01)
>>> model.predict([[0, 1], [1, 1]])
array([1, 0])
"""

from typing import TYPE_CHECKING, Any

from fastbp import optimizers, schedules
from fastbp.activations import Activation
from fastbp.config import show_config
from fastbp.engines.jit import warm_up
from fastbp.functions import activation, loss
from fastbp.history import DivergenceError, History
from fastbp.losses import Loss
from fastbp.mlp import MLP
from fastbp.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from fastbp.estimators import MLPClassifier as MLPClassifier
    from fastbp.estimators import MLPRegressor as MLPRegressor
    from fastbp.estimators import fit_many as fit_many
    from fastbp.tables import load as load
    from fastbp.tabular import TabularClassifier as TabularClassifier
    from fastbp.tabular import TabularRegressor as TabularRegressor

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "Activation",
    "DivergenceError",
    "History",
    "Loss",
    "__version__",
    "activation",
    "get_num_threads",
    "load",
    "loss",
    "optimizers",
    "schedules",
    "set_num_threads",
    "show_config",
    "warm_up",
]

# Imported when asked for. Those of scikit-learn are not in __all__: `from fastbp import *` is to work
# without it.
_LATER = {
    **dict.fromkeys(("MLPClassifier", "MLPRegressor", "fit_many"), "fastbp.estimators"),
    **dict.fromkeys(("TabularClassifier", "TabularRegressor"), "fastbp.tabular"),
    "load": "fastbp.tables",
}
_MODULES_LATER = ("callbacks", "data", "plots", "tables")


def __getattr__(name: str) -> Any:
    """Import what takes longer, such as scikit-learn, when it is first asked for."""
    from importlib import import_module

    if name in _MODULES_LATER:
        return import_module(f"fastbp.{name}")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'fastbp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(globals().keys() | _LATER.keys() | {*_MODULES_LATER})
