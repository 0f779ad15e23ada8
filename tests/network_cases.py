"""What the tests of `fastbp.MLP` share: data for a classifier and a regressor, and small models."""

import numpy as np

import fastbp

CLASSES = 3
GENERATOR = np.random.default_rng(7)
X = GENERATOR.standard_normal((60, 4)).astype(np.float32)
LABELS = (X @ GENERATOR.standard_normal((4, CLASSES))).argmax(axis=1)
TARGETS = (X[:, :2] * 2 - 1).astype(np.float32)
TRAIN = {"epochs": 3, "batch_size": 8, "optimizer": "adam", "learning_rate": 0.01}


def classifier(**options):
    return fastbp.MLP([4, 8, CLASSES], **({"seed": 0} | options))


def regressor(**options):
    return fastbp.MLP([4, 8, 2], **({"seed": 0, "loss": "squared_error"} | options))


def same_parameters(a, b):
    return all(map(np.array_equal, a.parameters, b.parameters))
