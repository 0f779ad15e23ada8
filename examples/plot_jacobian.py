"""
Derivatives of the network itself
=================================

The Jacobian says how the outputs change with the inputs. A network that learnt a curve from
points knows its slope, too: nobody showed it one.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastbp

x = np.linspace(-np.pi, np.pi, 400)[:, None]
model = fastbp.MLP([1, 64, 64, 1], activation="tanh", loss="squared_error", dtype="float64", seed=0)
rate = fastbp.schedules.Cosine(0.01, steps=200 * 13)
model.fit(x, np.sin(x), epochs=200, optimizer="adam", learning_rate=rate)

ax = plt.figure(layout="constrained").subplots()
ax.plot(x, model.predict(x), label="f(x), trained on sin x")
ax.plot(x, model.jacobian(x)[:, 0, 0], label="∂f/∂x, by the chain rule")
ax.plot(x, np.cos(x), "k:", label="cos x")
ax.set_xlabel("x")
ax.legend()
plt.show()
