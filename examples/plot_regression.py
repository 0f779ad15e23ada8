"""
Regression, and its residuals
=============================

How far diabetes had gone a year later, from ten measurements of 442 patients.
"""

import matplotlib.pyplot as plt
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import MLPRegressor

X, y = load_diabetes(return_X_y=True)
network = MLPRegressor(
    hidden_layer_sizes=(16,), alpha=1.0, learning_rate_init=0.01, max_iter=60, random_state=0, tol=0
)
model = TransformedTargetRegressor(
    make_pipeline(StandardScaler(), network), transformer=StandardScaler()
)
predicted = cross_val_predict(model, X, y, cv=5)

# %%
# scikit-learn's display of residuals takes predictions; here each row was predicted by a network
# that had not seen it.

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for kind, ax in zip(["actual_vs_predicted", "residual_vs_predicted"], axes, strict=True):
    PredictionErrorDisplay.from_predictions(y, predicted, kind=kind, ax=ax, subsample=None)
plt.show()
