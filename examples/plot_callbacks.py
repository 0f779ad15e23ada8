"""
Callbacks: fastbp's and scikit-learn's
======================================

`fastbp.callbacks` write down epochs for people, files and trackers. scikit-learn 1.9 has a
protocol of its own, which goes through searches and pipelines; fastbp's estimators follow it.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.callback import ScoringMonitor

import fastbp
from fastbp.callbacks import CSVLog, ModelCheckpoint
from fastbp.data import load_digits

X, y = load_digits()
with tempfile.TemporaryDirectory() as folder:
    log, best = Path(folder, "log.csv"), Path(folder, "best.safetensors")
    model = fastbp.MLP([64, 32, 10], seed=0)
    callbacks = [CSVLog(log, gradient_norm=True), ModelCheckpoint(best)]
    model.fit(X, y, epochs=40, learning_rate=0.3, validation=0.2, callbacks=callbacks)
    epochs = pd.read_csv(log, index_col="epoch")
    print(f"best model: loss {fastbp.MLP.load(best).loss(X, y):.4f}, last {model.loss(X, y):.4f}")
print(epochs.tail(3).T)

# %%
# scikit-learn's monitor scores the estimator after every epoch as if training had ended there.

monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
estimator = fastbp.MLPClassifier((32,), max_iter=40, random_state=0, tol=0, n_iter_no_change=40)
estimator.set_callbacks(monitor).fit(X, y)
scores = monitor.get_logs().data_as_pandas.query("task_name == 'epoch'")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
epochs[["loss", "validation_loss", "gradient_norm"]].plot(ax=left, logy=True)
scores.plot(x="task_id", y="accuracy", ax=right, xlabel="epoch", ylabel="accuracy", legend=False)
plt.show()
