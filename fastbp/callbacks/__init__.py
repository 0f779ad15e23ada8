"""Callbacks of training: progress, logs, experiment trackers, pruning, saved models.

Each goes into ``callbacks=`` of `fastbp.MLP.fit`, or of `fastbp.MLPClassifier` and
`fastbp.MLPRegressor`. What they write of an epoch is `fastbp.History.row`: the loss, the validation's
loss and score, the learning rate, the seconds, and the gradient's norm where one asks for it. A
library is imported when a callback of it begins. To stop early, to lower the rate, or to go on after
a crash takes no callback: `early_stopping`, `fastbp.schedules.ReduceOnPlateau` and `checkpoint` do it.
"""

from fastbp.callbacks.files import CSVLog, ModelCheckpoint
from fastbp.callbacks.progress import Progress
from fastbp.callbacks.search import OptunaPruning
from fastbp.callbacks.trackers import MLflow, TensorBoard, WandB
from fastbp.training import Callback

__all__ = [
    "CSVLog",
    "Callback",
    "MLflow",
    "ModelCheckpoint",
    "OptunaPruning",
    "Progress",
    "TensorBoard",
    "WandB",
]
