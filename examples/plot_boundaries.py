"""
Activations, as boundaries
==========================

Two half-moons that a line cannot part. What relu puts together from straight pieces is round with
tanh, and without a hidden layer there is only the line.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay

from fastbp import MLPClassifier

X, y = make_moons(300, noise=0.2, random_state=0)
nets = {"no hidden layer": ((), "identity"), "relu": ((16,), "relu"), "tanh": ((16,), "tanh")}
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
for ax, (name, (hidden, activation)) in zip(axes, nets.items(), strict=True):
    model = MLPClassifier(
        hidden, activation=activation, solver="lbfgs", max_iter=2000, random_state=1, alpha=0.01
    )
    model.fit(X, y)
    DecisionBoundaryDisplay.from_estimator(
        model,
        X,
        response_method="predict_proba",
        class_of_interest=1,
        ax=ax,
        cmap="RdBu",
        alpha=0.6,
    )
    ax.scatter(*X.T, c=y, cmap="RdBu", edgecolor="k", s=18)
    ax.set_title(f"{name}: accuracy {model.score(X, y):.2f}")
plt.show()
