"""
Which inputs matter
===================

Integrated gradients say what each input has added to an output. For one row they add up to the
output's difference from the baseline's; their mean size over many rows says what the network
looks at.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp.data import load_digits
from fastbp.plots import AttributionsDisplay

wine = load_wine(as_frame=True)
X = StandardScaler().fit_transform(wine.data)
model = fastbp.MLP([13, 32, 3], l2=0.01, seed=0)
model.fit(X, wine.target, epochs=100, optimizer="adam")
AttributionsDisplay.from_estimator(model, X, names=list(wine.data.columns))

# %%
# Of one row: which strokes of a digit speak for the class that was predicted (blue), and which
# against it.

images, labels = load_digits()
model = fastbp.MLP([64, 64, 10], activation="gelu", l2=0.001, seed=0)
model.fit(images, labels, epochs=60, optimizer="adam")
figure, axes = plt.subplots(2, 6, figsize=(9, 3.2), layout="constrained")
for column, (above, below) in enumerate(axes.T):
    x = images[column : column + 1]
    predicted = int(model.predict(x)[0])
    parts = model.attributions(x)[0, predicted].reshape(8, 8)
    above.imshow(x.reshape(8, 8), cmap="gray_r")
    largest = np.abs(parts).max()
    below.imshow(parts, cmap="RdBu", vmin=-largest, vmax=largest)
    above.set_title(f"predicted {predicted}")
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
