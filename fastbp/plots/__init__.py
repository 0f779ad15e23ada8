"""Pictures of training and of networks, with matplotlib, by scikit-learn's convention of displays.

A display computes first (``from_history``, ``from_estimator``) and draws later (``plot(ax=…)``), as
often as wanted; what it drew it keeps, to be changed. Calibration, confusion and residuals are drawn by
scikit-learn's displays (`sklearn.calibration.CalibrationDisplay`,
`sklearn.metrics.ConfusionMatrixDisplay`, `sklearn.metrics.PredictionErrorDisplay`), which take the
estimators, and predictions of an `MLP`. ``pip install "fastbp[plots]"`` brings matplotlib, which is
imported when something is drawn.
"""

from fastbp.plots.attributions import AttributionsDisplay
from fastbp.plots.history import HistoryDisplay
from fastbp.plots.layers import LayersDisplay
from fastbp.plots.weights import WeightsDisplay

__all__ = ["AttributionsDisplay", "HistoryDisplay", "LayersDisplay", "WeightsDisplay"]
