"""
Can probabilities be taken at their word?
=========================================

Of the tumours that a network calls malignant with 90 %, nine of ten should be. A network that was
trained for too long is too sure of itself; one that was stopped early, or that has dropout, less
so.
"""

import matplotlib.pyplot as plt
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import MLPClassifier

X, y = load_breast_cancer(return_X_y=True)
ways = {
    "trained for long": {"max_iter": 300, "tol": 0, "n_iter_no_change": 300},
    "dropout": {"max_iter": 60, "dropout": 0.5, "tol": 0, "n_iter_no_change": 60},
}
ax = plt.figure(figsize=(5.5, 5), layout="constrained").subplots()
for name, options in ways.items():
    network = MLPClassifier((64,), random_state=0, learning_rate_init=0.003, **options)
    model = make_pipeline(StandardScaler(), network)
    p = cross_val_predict(model, X, y, cv=5, method="predict_proba")[:, 1]
    label = f"{name}: log loss {log_loss(y, p):.3f}"
    CalibrationDisplay.from_predictions(y, p, n_bins=5, name=label, ax=ax)
plt.show()
