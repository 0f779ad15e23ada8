"""
The same bits on any number of threads
======================================

Floating-point sums depend on their order, and training multiplies the difference. fastbp has one
order for each sum, which the threads do not change. Below, two trainings that differ in one
thing: the number of threads, or the last bit of one weight at the start.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastbp
from fastbp.data import load_digits

X, y = load_digits()


def weights(threads, nudge=False):
    """All weights, epoch by epoch."""
    model = fastbp.MLP([64, 256, 256, 10], seed=0, threads=threads)
    if nudge:
        parameters = model.parameters
        parameters[0][0, 28] = np.nextafter(parameters[0][0, 28], np.float32(1))
        model.parameters = parameters
    seen = []
    model.fit(X, y, epochs=25, batch_size=64, optimizer="adam", learning_rate=0.003,
              callbacks=[lambda model, history: seen.append(model.weights[1])])  # fmt: skip
    return np.array(seen)


one = weights(threads=1)
ax = plt.figure(layout="constrained").subplots()
for label, other in (
    ("one bit of one weight", weights(threads=1, nudge=True)),
    ("2 threads in place of 1", weights(threads=2)),
):
    ax.plot(np.abs(one - other).max(axis=(1, 2)), "o-", label=label)
ax.set_yscale("symlog", linthresh=1e-9)
ax.set(xlabel="epoch", ylabel="largest difference of a weight")
ax.legend()
plt.show()
