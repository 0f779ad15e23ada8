"""
Many networks at once
=====================

One network says little about how good a choice was: another seed gives another result. `fit_many`
trains a list of networks side by side, one to a core.
"""

import time

import matplotlib.pyplot as plt

import fastbp
from fastbp.data import load_digits

X, y = load_digits()
widths, seeds = [4, 8, 16, 32, 64], range(8)
models = [
    fastbp.MLPClassifier(
        (width,),
        random_state=seed,
        max_iter=40,
        tol=0,
        n_iter_no_change=40,
        learning_rate_init=0.003,
    )
    for width in widths
    for seed in seeds
]
start = time.perf_counter()
models = fastbp.fit_many(models, X[:1000], y[:1000])
seconds = time.perf_counter() - start
scores = [model.score(X[1000:], y[1000:]) for model in models]

ax = plt.figure(layout="constrained").subplots()
ax.boxplot([scores[i : i + len(seeds)] for i in range(0, len(models), len(seeds))])
ax.set_xticks(range(1, len(widths) + 1), widths)
ax.set(xlabel="hidden units", ylabel="test accuracy of 8 seeds")
ax.set_title(f"{len(models)} networks in {seconds:.1f} s on {fastbp.get_num_threads()} threads")
plt.show()
