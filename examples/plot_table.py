"""
A table with gaps and categories
================================

Penguins as they were measured: numbers, islands, sexes, and cells where nobody wrote anything.
`TableEncoder` learns from the training rows what each column is taken for.
"""

import matplotlib.pyplot as plt
from palmerpenguins import load_penguins
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fastbp import MLPClassifier
from fastbp.plots import AttributionsDisplay
from fastbp.tables import TableEncoder

frame = load_penguins()
train, test = train_test_split(frame, random_state=0, stratify=frame["species"])
network = MLPClassifier((32,), max_iter=400, random_state=0)
model = make_pipeline(TableEncoder(), network).fit(train.drop(columns="species"), train["species"])
print(model[0].overview())

# %%
# A row with nothing but an island on it is no error.

print(model.predict(test.drop(columns="species").assign(bill_length_mm=None, sex="unknown"))[:5])
inputs = model[0].transform(test.drop(columns="species"))
names = model[0].get_feature_names_out()
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
ConfusionMatrixDisplay.from_predictions(
    test["species"], model.predict(test.drop(columns="species")), ax=left, colorbar=False
)
AttributionsDisplay.from_estimator(model[1], inputs, names=names, ax=right)
plt.show()
