"""Scores against their formulas, and the history's lines."""

import math

import numpy as np
import pytest

from fastbp.history import History
from fastbp.scores import accuracy, r2

EPS = np.finfo(np.float64).eps


def test_accuracy():
    y = np.array([0, 1, 2, 2])
    assert accuracy(np.array([0, 1, 1, 2]), y) == 0.75
    assert accuracy(np.array([0, 1, 3, 2]), y, np.array([1, 1, 2, 0])) == 0.5
    several = np.array([[0, 1], [1, 1]])
    assert accuracy(np.array([[0, 0], [1, 1]]), several) == 0.75
    assert accuracy(np.array([[0, 0], [1, 1]]), several, np.array([3.0, 1.0])) == 0.625


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_r2_does_not_depend_on_the_unit(scale):
    rng = np.random.default_rng(0)
    y, w = scale * rng.standard_normal((20, 2)), rng.integers(0, 3, 20).astype(float)
    predicted = y + 0.5 * scale * rng.standard_normal((20, 2))
    for weight in (None, w):
        one = np.ones(20) if weight is None else weight
        mean = (one[:, None] * y).sum(axis=0) / one.sum()
        residual = (one[:, None] * (y - predicted) ** 2).sum(axis=0)
        total = (one[:, None] * (y - mean) ** 2).sum(axis=0)
        # sums of 20 terms, the residuals with an error from the cancellation in y − prediction
        wanted = np.mean(1 - residual / total)
        assert r2(predicted, y, weight) == pytest.approx(wanted, rel=200 * EPS)


def test_r2_is_undefined_if_one_output_is_constant():
    y = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    assert math.isnan(r2(y + 1, y))
    assert r2(y[:, :1], y[:, :1]) == 1


def test_history_of_two_epochs_and_of_one():
    history = History(
        loss=[0.5, 0.25],
        validation_loss=[0.75, 0.625],
        validation_score=[0.125, 0.375],
        score_name="accuracy",
        learning_rate=[0.1, 0.1],
        seconds=[1.0, 2.0],
        samples_per_second=[2000.0, 1000.0],
        best_epoch=0,
    )
    assert history.line(100) == (
        "epoch   2/100  loss 0.2500  validation loss 0.6250  validation accuracy 0.3750"
        "  1,000 samples/s"
    )
    history.cut(1)
    assert history.epochs == 1
    lists = {name: value for name, value in vars(history).items() if isinstance(value, list)}
    assert lists.pop("gradient_norm") == []  # nobody has asked
    assert [len(value) for value in lists.values()] == [1] * 6
    assert history.line(1) == (
        "epoch 1/1  loss 0.5000  validation loss 0.7500  validation accuracy 0.1250  2,000 samples/s"
    )
