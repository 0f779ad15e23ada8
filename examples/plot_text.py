"""
Sparse text
===========

Whose words are these? TF-IDF turns a paragraph into some 20,000 inputs of which it has thirty, and the
network works on those alone. The pipeline is scikit-learn's; only the import of the classifier differs.
"""

import inspect
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.optimize
import scipy.signal
import scipy.sparse
import scipy.stats
import sklearn.metrics
import sklearn.neural_network
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils.discovery import all_estimators, all_functions

import fastbp

# %%
# Each paragraph of a docstring is a text, and the library that it comes from its class. Its own name is
# struck out.
objects = {
    "numpy": [vars(np), vars(np.linalg), vars(np.random), vars(np.fft), vars(np.ma)],
    "scipy": [vars(m) for m in (scipy.optimize, scipy.signal, scipy.sparse, scipy.stats)],
    "pandas": [vars(pd), vars(pd.DataFrame), vars(pd.Series), vars(pd.Index)],
    "scikit-learn": [dict(all_functions()), dict(all_estimators())],
}
found = {}  # a paragraph that two libraries share would be in both
for name, namespaces in objects.items():
    for thing in (value for space in namespaces for value in space.values()):
        for text in (inspect.getdoc(thing) or "").split("\n\n") if callable(thing) else ():
            if len(text.split()) > 8:
                found.setdefault(text, name)
struck = r"numpy|scipy|pandas|sklearn|scikit|learn|np|pd"
texts = [" ".join(text.split()) for text in found]
train, test, y_train, y_test = train_test_split(
    texts, list(found.values()), test_size=0.3, random_state=0
)
words = TfidfVectorizer(
    sublinear_tf=True, ngram_range=(1, 2), token_pattern=rf"(?!\b(?:{struck})\b)\b\w\w+\b",
    dtype=np.float32, min_df=4,
)  # fmt: skip
print(f"{len(train):,} texts to learn from, {words.fit_transform(train).shape[1]:,} inputs")

# %%
options = {"hidden_layer_sizes": (64,), "max_iter": 3, "random_state": 0, "tol": 0}
shown = {}
for label, classifier in {
    "scikit-learn": sklearn.neural_network.MLPClassifier(**options),
    "fastbp": fastbp.MLPClassifier(**options),
    "fastbp, lazy": fastbp.MLPClassifier(**options, sparse_update="lazy"),
}.items():
    pipeline = make_pipeline(words, classifier)
    rows = pipeline[0].fit_transform(train)
    start = time.perf_counter()
    classifier.fit(rows, y_train)
    seconds = time.perf_counter() - start
    accuracy = sklearn.metrics.accuracy_score(y_test, pipeline.predict(test))
    shown[f"{label}: {accuracy:.1%}"] = seconds

ax = plt.figure(layout="constrained").subplots()
bars = ax.barh(list(shown), list(shown.values()))
ax.bar_label(bars, fmt=" %.2f s")
ax.set(xlabel="seconds to fit three epochs", title="test accuracy on other paragraphs")
ax.margins(x=0.15)
plt.show()
