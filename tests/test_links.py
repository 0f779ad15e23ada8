"""What a model predicts and how it is scored follow from its loss's link, whoever wrote the loss."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastbp
from fastbp import scores
from fastbp.engines import jit, native
from fastbp.losses import Loss

ENGINES = ["reference"]
if jit.available():
    ENGINES += ["jit", *(["native"] if native.available() else [])]
engines = pytest.mark.parametrize("engine", ENGINES)

GENERATOR = np.random.default_rng(0)
LABELS = np.arange(240) % 3
X = np.eye(3)[LABELS] * 4 + GENERATOR.standard_normal((240, 3))  # three classes, far apart
ONE_HOT = np.eye(3)[LABELS]


def sigmoid(f):
    return 1 / (1 + math.exp(-f))


def log_loss(f, y):
    return max(f, 0.0) + math.log1p(math.exp(-abs(f))) - y * f


def log_loss_slope(f, y):
    return 1 / (1 + math.exp(-f)) - y


def hinge(f, y):
    return max(0.0, 1 - y * f)


def hinge_slope(f, y):
    return -y if y * f < 1 else 0.0


def poisson(f, y):
    return math.exp(f) - y * f


def poisson_slope(f, y):
    return math.exp(f) - y


def users(link: str) -> Loss:
    """A loss of the user's that has this link, though its name says nothing of it."""
    if link == "identity":
        return fastbp.loss(lambda f, y: 0.5 * (f - y) ** 2, lambda f, y: f - y, name="mine")
    if link == "exp":
        return fastbp.loss(poisson, poisson_slope, name="mine", link="exp")
    return fastbp.loss(log_loss, log_loss_slope, name="mine", link=link)


def trained(loss: str | Loss, y, engine: str, outputs: int) -> tuple[fastbp.MLP, float]:
    model = fastbp.MLP([3, 8, outputs], loss=loss, seed=0, engine=engine)
    history = model.fit(X, y, epochs=8, optimizer="adam", learning_rate=0.03, validation=(X, y))
    assert history.epochs == 8
    assert history.score_name == ("accuracy" if model.plan.loss.link in CLASSIFY else "R2")
    return model, history.validation_score[-1]


CLASSIFY = ("softmax", "sigmoid")


@engines
def test_softmax(engine):
    model, score = trained(users("softmax"), ONE_HOT, engine, 3)
    predicted = model.predict(X)
    assert (predicted.shape, predicted.dtype) == ((240,), np.int64)
    assert score == scores.accuracy(predicted, LABELS) > 0.95
    probabilities = model.predict_proba(X)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), predicted)
    # a sum of three rounded shares
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=3 * np.finfo(np.float32).eps)
    assert "softmax" in model.summary()


@engines
@pytest.mark.parametrize("outputs", [1, 3])
def test_sigmoid(engine, outputs):
    y = ONE_HOT[:, 0] if outputs == 1 else ONE_HOT
    model, score = trained(users("sigmoid"), y, engine, outputs)
    predicted = model.predict(X)
    assert (predicted.shape, predicted.dtype) == (y.shape, np.int64)
    assert score == scores.accuracy(predicted, y) > 0.95
    np.testing.assert_array_equal(model.predict_proba(X) > 0.5, predicted)
    assert "sigmoid" in model.summary()


@engines
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("link", ["identity", "exp"])
def test_regression(engine, outputs, link):
    y = 1 + (ONE_HOT[:, 0] if outputs == 1 else ONE_HOT)
    model, score = trained(users(link), y, engine, outputs)
    predicted = model.predict(X)
    assert (predicted.shape, predicted.dtype) == (y.shape, np.float32)
    assert score == scores.r2(
        predicted.reshape(240, outputs), y.reshape(240, outputs).astype(np.float32)
    )
    assert score > 0.5
    with pytest.raises(ValueError, match=rf"is 'mine' with link '{link}'"):
        model.predict_proba(X)


@engines
@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_targets_of_minus_one_and_one(engine, link):
    """Hinge losses have them; they are classes as 0 and 1 are."""
    loss = fastbp.loss(hinge, hinge_slope, name="mine", link=link)
    model, score = trained(loss, 2 * ONE_HOT - 1, engine, 3)
    predicted = model.predict(X)
    wanted = LABELS if link == "softmax" else ONE_HOT
    assert score == scores.accuracy(predicted, wanted) > 0.95


@engines
@pytest.mark.parametrize(
    ("built_in", "link"),
    [("softmax_cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid")],
)
def test_a_link_predicts_as_the_built_in_loss_that_has_it(engine, built_in, link):
    one = fastbp.MLP([3, 8, 3], loss=built_in, seed=0, engine=engine)
    two = fastbp.MLP([3, 8, 3], loss=users(link), seed=0, engine=engine)
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_softmax_of_one_output_is_refused():
    with pytest.raises(ValueError, match="loss 'mine' needs at least 2 outputs"):
        fastbp.MLP([3, 1], loss=users("softmax"))


def test_labels_are_for_the_built_in_loss_and_the_error_says_what_to_pass():
    model = fastbp.MLP([3, 3], loss=users("softmax"), seed=0)
    with pytest.raises(ValueError, match=r"\(240, 3\) for loss 'mine', as np\.eye\(3\)\[labels\]"):
        model.fit(X, LABELS)
    model.fit(X, np.eye(3)[LABELS], epochs=1)


def test_a_checkpoint_knows_the_link(tmp_path):
    path = tmp_path / "run.safetensors"
    fastbp.MLP([3, 3], loss=users("softmax"), seed=0).fit(X, ONE_HOT, epochs=1, checkpoint=path)
    other = fastbp.MLP([3, 3], loss=users("sigmoid"), seed=0)
    with pytest.raises(ValueError, match=r"its loss is .*'softmax'.*, here it is .*'sigmoid'"):
        other.fit(X, ONE_HOT, epochs=2, resume=path)
    same = fastbp.MLP([3, 3], loss=users("softmax"), seed=0)
    assert same.fit(X, ONE_HOT, epochs=2, resume=path).epochs == 2
    with pytest.raises(ValueError, match="network with mine, written in Python"):
        fastbp.MLP.load(path)
