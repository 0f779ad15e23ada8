"""
Optimizers
==========

The same network, the same order of rows, six optimizers at the rates that are their defaults.
"""

import matplotlib.pyplot as plt

import fastbp
from fastbp.data import load_digits
from fastbp.plots import HistoryDisplay

X, y = load_digits()
ax = plt.figure(layout="constrained").subplots()
for optimizer in ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"):
    model = fastbp.MLP([64, 64, 10], seed=0)
    history = model.fit(X, y, epochs=30, optimizer=optimizer)
    display = HistoryDisplay.from_history(history, ax=ax)
    display.lines_["loss"].set_label(optimizer)
ax.set_yscale("log")
ax.legend()
plt.show()
