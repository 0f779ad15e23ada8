"""Displays keep what they drew; HTML of models and histories is whole and escaped."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import _html
from fastbp.data import load_digits

X, Y = load_digits()
X, Y = X[:300], Y[:300]


@pytest.fixture(scope="module")
def model() -> fastbp.MLP:
    model = fastbp.MLP([64, 24, 12, 10], seed=0)
    model.fit(X, Y, epochs=12, validation=0.2, optimizer="adam", early_stopping=3)
    return model


@pytest.fixture
def plt() -> Any:
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


# History


def test_history(model: fastbp.MLP, plt: Any):
    from fastbp.plots import HistoryDisplay

    history = model.history
    assert history is not None
    _, ax = plt.subplots()
    display = HistoryDisplay.from_history(history, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert list(display.lines_) == ["loss", "validation_loss"]
    assert display.lines_["loss"].get_ydata().tolist() == history.loss
    assert display.lines_["loss"].get_xdata()[0] == 1
    assert display.best_epoch == history.best_epoch
    assert display.best_.get_xdata()[0] == history.best_epoch + 1
    for kind, name in (("score", "validation_score"), ("learning_rate", "learning_rate")):
        (line,) = display.plot(kind=kind).lines_.values()
        assert line.get_ydata().tolist() == getattr(history, name)
        assert display.ax_ is not ax
    assert HistoryDisplay.from_estimator(model).lines_["loss"].get_ydata().tolist() == history.loss


def test_history_of_estimators(plt: Any):
    pytest.importorskip("sklearn")
    from sklearn import neural_network

    from fastbp.plots import HistoryDisplay

    for kind in (fastbp.MLPClassifier, neural_network.MLPClassifier):
        fitted = kind((8,), max_iter=30, early_stopping=True, tol=1.0, random_state=0).fit(X, Y)
        display = HistoryDisplay.from_estimator(fitted, kind="score")
        assert display.ax_.get_legend() is not None
        assert display.best_epoch is not None
    with pytest.raises(ValueError, match="no epochs"):
        HistoryDisplay.from_estimator(fastbp.MLPClassifier(solver="lbfgs").fit(X, Y))


def test_history_says_what_it_does_not_have(model: fastbp.MLP):
    from fastbp.plots import HistoryDisplay

    display = HistoryDisplay(model.history)
    with pytest.raises(ValueError, match="kind must be one of"):
        display.plot(kind="losses")
    with pytest.raises(ValueError, match="no gradient_norm"):
        display.plot(kind="gradient_norm")
    with pytest.raises(ValueError, match="no epochs"):
        HistoryDisplay(fastbp.History())


# Networks


def test_weights(model: fastbp.MLP, plt: Any):
    from fastbp.plots import WeightsDisplay

    display = WeightsDisplay.from_estimator(model, most=6)
    W = model.weights[0]
    largest = W[np.argmax(np.square(W).sum(axis=1))].reshape(8, 8)
    assert (display.weights[0] == largest).all()
    mosaic = display.image_.get_array()
    assert (mosaic[:8, :8] == largest).all()
    assert mosaic.shape == (2 * 9 - 1, 3 * 9 - 1)
    assert display.image_.get_clim()[1] == pytest.approx(np.abs(display.weights).max())
    with pytest.raises(ValueError, match="64 inputs, got 8 × 7"):
        WeightsDisplay.from_estimator(model, shape=(8, 7))
    with pytest.raises(TypeError, match="model must be"):
        WeightsDisplay.from_estimator(object())


def test_layers_find_dead_units(plt: Any):
    from fastbp.plots import LayersDisplay

    model = fastbp.MLP([64, 8, 10], seed=0)
    biases = model.biases
    biases[0][:3] = -1e6  # z < 0 whatever comes in
    model.biases = biases
    display = LayersDisplay.from_estimator(model, X, Y)
    assert display.dead[0].tolist() == [True] * 3 + [False] * 5
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == [
        "layer 1\n3/8 dead",
        "layer 2",
    ]
    assert display.gradients is not None
    assert not display.gradients[0][:3].any()
    values = display.plot(kind="activations").boxes_["medians"]
    assert len(values) == 1
    assert values[0].get_ydata()[0] == np.median(display.activations[0])
    with pytest.raises(ValueError, match="needs a y"):
        LayersDisplay.from_estimator(model, X, kind="gradients")
    with pytest.raises(ValueError, match="hidden layer"):
        LayersDisplay.from_estimator(fastbp.MLP([64, 10]), X)


def test_layers_without_any_gradient(plt: Any):
    from fastbp.plots import LayersDisplay

    model = fastbp.MLP([64, 4, 10], seed=0)
    biases = model.biases
    biases[0][:] = -1e6
    model.biases = biases
    display = LayersDisplay.from_estimator(model, X, Y)
    assert display.dead[0].all()
    medians = [line.get_ydata()[0] for line in display.boxes_["medians"]]
    assert np.isfinite(medians).tolist() == [False, True]  # the biases of the outputs have one


def test_layers_of_saturated_sigmoids_are_not_dead_by_rounding_alone():
    from fastbp.plots import LayersDisplay

    model = fastbp.MLP(
        [1, 2, 2], activation="sigmoid", weight_init=[[[1, 0], [1, 50]], [[1, 1, 0]] * 2]
    )
    display = LayersDisplay.from_estimator(model, [[0.0], [1.0]], plot=False)
    assert display.dead[0].tolist() == [False, True]  # φ'(50) is 0 in float32


def test_layers_of_a_classifier_with_names(plt: Any):
    pytest.importorskip("sklearn")
    from fastbp.plots import LayersDisplay

    names = np.array(list("zyxwvutsrq"))[Y]
    fitted = fastbp.MLPClassifier((8,), tol=0.01, random_state=0).fit(X, names)
    display = LayersDisplay.from_estimator(fitted, X, names)
    network = fastbp.MLP([64, 8, 10], dtype="float64")
    network.weights, network.biases = [c.T for c in fitted.coefs_], fitted.intercepts_
    expected = network.gradient(X.astype(float), np.searchsorted(fitted.classes_, names))
    for g, h in zip(display.gradients, expected, strict=True):
        assert np.allclose(g, h, rtol=0, atol=1e-4 * np.abs(h).max())  # X is float32, sums of 300


def test_attributions(plt: Any):
    from fastbp.plots import AttributionsDisplay

    model = fastbp.MLP([3, 1], loss="squared_error", weight_init=[[[1, -4, 0.5, 7]]])
    rows = np.array([[1, 1, 0], [-1, 1, 2]], "f4")
    display = AttributionsDisplay.from_estimator(model, rows, names=["a", "b", "c"], most=2)
    assert display.values.tolist() == [1, 0, 0.5]  # b never differs from its mean
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["c", "a"]
    assert [bar.get_width() for bar in display.bars_] == [0.5, 1]
    zero = AttributionsDisplay.from_estimator(model, rows, baseline=[0, 0, 0], plot=False)
    assert zero.values.tolist() == [1, 4, 0.5]
    with pytest.raises(ValueError, match="names must be 3"):
        AttributionsDisplay.from_estimator(model, rows, names=["a"])


def test_attributions_in_blocks_are_the_same(model: fastbp.MLP, monkeypatch: pytest.MonkeyPatch):
    from fastbp.exchange import attributions

    whole = attributions.importance(model, X)
    monkeypatch.setattr(attributions, "ENTRIES", 64 * 10 * 7)
    assert attributions.importance(model, X) == pytest.approx(whole, rel=len(X) * 1e-15)


def test_without_matplotlib(model: fastbp.MLP, monkeypatch: pytest.MonkeyPatch):
    from fastbp.plots import HistoryDisplay

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install fastbp\[plots\]"):
        HistoryDisplay(model.history).plot()


# HTML


def pictures(text: str) -> list[ET.Element]:
    """The pictures of a page, which is checked to be well-formed."""
    root = ET.fromstring(f"<main>{text}</main>")
    return list(root.iter("{http://www.w3.org/2000/svg}svg"))


def test_html_of_a_model(model: fastbp.MLP):
    text = model._repr_html_()
    assert len(pictures(text)) == 1
    assert "64 → 24" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<table" in fastbp.MLP([2, 2])._repr_html_()
    assert not pictures(fastbp.MLP([2, 2])._repr_html_())
    quoted = fastbp.activation(lambda z: z * 2, name="<b>&", derivative=lambda z: 2.0)
    assert "&lt;b&gt;&amp;" in fastbp.MLP([2, 3, 2], activation=quoted)._repr_html_()


def test_html_of_a_history(model: fastbp.MLP):
    assert model.history is not None
    (svg,) = pictures(model.history._repr_html_())
    paths = [
        p for p in svg.iter("{http://www.w3.org/2000/svg}path") if p.get("stroke-width") == "2"
    ]
    assert len(paths) == 2
    assert paths[0].get("d", "").count("L") == model.history.epochs - 1
    assert "0 epochs" in fastbp.History()._repr_html_()
    nothing = fastbp.History(loss=[np.nan, np.inf], seconds=[1, 1])
    assert not pictures(nothing._repr_html_())


def test_curves_of_any_numbers():
    for values in ([1.0, 1.0], [0.0, 1e300], [1e-300, 1e300], [-5.0, 5.0], [1.0, np.nan, 3.0]):
        (svg,) = pictures(_html.curves({"a<b": values}, best=1))
        assert svg.findtext("{http://www.w3.org/2000/svg}title") == "a<b, best epoch: 2"
    long = _html.curves({"loss": np.linspace(1, 2, 10**5).tolist()})
    assert len(long) < 30_000


def test_scatter_bars_and_grid():
    (svg,) = pictures(_html.scatter([(0, 1), (1, 2), (np.nan, 1)], "true", "predicted"))
    assert sum(p.get("d", "").count("h0") for p in svg.iter()) == 2
    bars = ET.fromstring(_html.bars(["a", "<b"], [2.0, 0.0]))
    assert [bar.get("width") for bar in bars.iter("rect")] == ["220.0", "0.0"]
    assert "rgba(47,128,208,0.60)" in _html.grid(["x", "y"], [[3, 0], [0, 0]])
