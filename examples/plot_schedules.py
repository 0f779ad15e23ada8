"""
Learning rates
==============

A schedule gives the rate of each step. Left the rates, right what becomes of the loss.
"""

import matplotlib.pyplot as plt

import fastbp
from fastbp.data import load_digits
from fastbp.schedules import Cosine, OneCycle, ReduceOnPlateau, Step

X, y = load_digits()
epochs, steps = 40, 40 * 57  # 1,797 rows, 32 at a time
schedules = {
    "constant": 0.1,
    "step": Step(0.2, every=steps // 4, factor=0.3),
    "cosine": Cosine(0.2, steps=steps),
    "one cycle": OneCycle(0.5, steps=steps),
    "on a plateau": ReduceOnPlateau(initial=0.2, factor=0.3, patience=3, min_delta=0.01),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for name, schedule in schedules.items():
    model = fastbp.MLP([64, 64, 10], seed=0)
    history = model.fit(X, y, epochs=epochs, learning_rate=schedule)
    left.plot(history.learning_rate, label=name)
    right.semilogy(history.loss, label=name)
left.set(xlabel="epoch", ylabel="learning rate")
right.set(xlabel="epoch", ylabel="loss")
right.legend()
plt.show()
