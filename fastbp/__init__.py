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

from fastbp import optimizers, schedules
from fastbp.activations import Activation
from fastbp.config import show_config
from fastbp.history import DivergenceError, History
from fastbp.losses import Loss
from fastbp.network import MLP
from fastbp.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "Activation",
    "DivergenceError",
    "History",
    "Loss",
    "__version__",
    "get_num_threads",
    "optimizers",
    "schedules",
    "set_num_threads",
    "show_config",
]
