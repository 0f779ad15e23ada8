"""
Handwritten digits
==================

The digits that ship with fastbp: train with early stopping, look at the curves, and at what is
mistaken for what.
"""

import matplotlib.pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay

import fastbp
from fastbp.data import load_digits
from fastbp.plots import HistoryDisplay

X, y = load_digits()
model = fastbp.MLP([64, 128, 10], dropout=0.3, seed=0)
history = model.fit(
    X[:1400], y[:1400], epochs=200, optimizer="adam", validation=0.2, early_stopping=20
)
print(model.summary())
print(f"{history.epochs} epochs, stopped by {history.stopped}")
print(f"test accuracy: {model.score(X[1400:], y[1400:]):.3f}")

# %%
# The loss falls on the training rows for as long as they are shown; on rows that were set aside
# it stops falling. The model has the weights of the epoch where that loss was lowest.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
HistoryDisplay.from_history(history, ax=left)
HistoryDisplay.from_history(history, kind="score", ax=right)

# %%
# scikit-learn's displays take predictions of any model.

ConfusionMatrixDisplay.from_predictions(y[1400:], model.predict(X[1400:]), colorbar=False)
plt.show()
