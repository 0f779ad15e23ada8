"""
What the first layer looks for
==============================

Each unit of the first layer has a weight for each pixel: an image. With a penalty on the weights,
what is not needed fades.
"""

import matplotlib.pyplot as plt

import fastbp
from fastbp.data import load_digits
from fastbp.plots import WeightsDisplay

X, y = load_digits()
figure, axes = plt.subplots(1, 2, figsize=(9, 4.8), layout="constrained")
for l2, ax in zip([0.0, 0.003], axes, strict=True):
    model = fastbp.MLP([64, 36, 10], l2=l2, seed=0)
    model.fit(X[:1400], y[:1400], epochs=150, optimizer="adam")
    WeightsDisplay.from_estimator(model, ax=ax)
    ax.set_title(f"l2 = {l2}: test accuracy {model.score(X[1400:], y[1400:]):.3f}")
plt.show()
