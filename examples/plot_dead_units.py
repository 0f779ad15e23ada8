"""
Dead units
==========

A unit of relu whose z is negative for every row gets no gradient, and stays as it is: it is dead. A
learning rate that is too high kills many, here most, and the network with them. The slope of
leaky_relu is never 0: the same rate is no good to it either, but it goes on learning.
"""

import matplotlib.pyplot as plt

import fastbp
from fastbp.data import load_digits
from fastbp.plots import LayersDisplay

X, y = load_digits()
figure, axes = plt.subplots(2, 3, figsize=(10, 6), layout="constrained")
for column, (activation, rate) in enumerate([("relu", 0.1), ("relu", 0.9), ("leaky_relu", 0.9)]):
    model = fastbp.MLP([64, 64, 64, 10], activation=activation, seed=0)
    model.fit(X, y, epochs=5, learning_rate=rate)
    accuracy = model.score(X, y)
    display = LayersDisplay.from_estimator(model, X, y, kind="activations", ax=axes[0, column])
    display.plot(axes[1, column], kind="gradients")
    axes[0, column].set_title(f"{activation}, rate {rate}: {accuracy:.0%} right")
plt.show()
