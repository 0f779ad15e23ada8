"""
A loss of your own: quantiles
=============================

Squared error predicts the mean. The pinball loss predicts a quantile: it costs 0.9 to be one too
low and 0.1 to be one too high, so nine of ten values end up below. A loss is a function of one
output and one target; Numba compiles it for all engines.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastbp


def pinball(q):
    """The loss of the quantile q."""
    return fastbp.loss(
        lambda f, y: (y - f) * q if y > f else (f - y) * (1 - q),
        lambda f, y: -q if y > f else 1 - q,
        name=f"pinball {q}",
    )


generator = np.random.default_rng(0)
x = generator.uniform(-3, 3, 2000)
y = np.sin(x) + generator.standard_normal(2000) * (0.1 + 0.15 * np.abs(x))

ax = plt.figure(layout="constrained").subplots()
ax.scatter(x, y, s=3, color="0.6")
at = np.linspace(-3, 3, 200)
for q in (0.1, 0.5, 0.9):
    model = fastbp.MLP([1, 32, 32, 1], activation="tanh", loss=pinball(q), seed=0)
    rate = fastbp.schedules.Cosine(0.01, steps=60 * 63)
    model.fit(x[:, None], y, epochs=60, optimizer="adam", learning_rate=rate)
    below = np.mean(y < model.predict(x[:, None]))
    ax.plot(at, model.predict(at[:, None]), label=f"q = {q}: {below:.0%} of the points are below")
ax.legend()
plt.show()
