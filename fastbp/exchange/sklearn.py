"""scikit-learn, both ways: its own MLPClassifier and MLPRegressor."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.exchange.description import Network, describe
from fastbp.exchange.optional import need
from fastbp.losses import Loss

__all__ = ["from_peer", "from_sklearn", "to_peer", "to_sklearn"]

_ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
_LINKS = {"identity": "identity", "softmax": "softmax", "sigmoid": "logistic"}


def to_sklearn(network: Network) -> Any:
    """Return scikit-learn's estimator with these coefficients, fitted as far as it can tell."""
    peers = need("sklearn.neural_network", "to_sklearn", extra="sklearn")
    names = {a.name for a in network.activations}
    if len(names) > 1 or not names <= set(_ACTIVATIONS):
        raise ValueError(
            "scikit-learn's MLPs have one activation for all hidden layers, one of "
            f"{', '.join(_ACTIVATIONS.values())}; this has {', '.join(sorted(names))}"
        )
    link, sizes = network.loss.link, network.sizes
    if network.answer == "value" and link not in ("identity", "exp"):
        raise ValueError(f"scikit-learn's MLPs have no loss {network.loss.name!r} by {link}")
    options = {
        "hidden_layer_sizes": tuple(sizes[1:-1]),
        "activation": _ACTIVATIONS[min(names)] if names else "relu",
    }
    if network.classifies:
        estimator = peers.MLPClassifier(**options)
        estimator._label_binarizer = _binarizer(network)
        estimator.classes_ = estimator._label_binarizer.classes_
    elif link == "exp":
        estimator = peers.MLPRegressor(loss="poisson", **options)
    else:
        estimator = peers.MLPRegressor(**options)
    estimator.coefs_ = [np.ascontiguousarray(W.T) for W in network.weights]
    estimator.intercepts_ = [b.copy() for b in network.biases]
    estimator.n_layers_, estimator.n_outputs_ = len(sizes), sizes[-1]
    estimator.n_features_in_ = sizes[0]
    estimator.out_activation_ = _LINKS.get(link, link)
    estimator.n_iter_, estimator.t_, estimator._no_improvement_count = 0, 0, 0
    estimator.loss_curve_, estimator.best_loss_ = [], np.inf  # as partial_fit wants to find them
    estimator.validation_scores_ = estimator.best_validation_score_ = None
    return estimator


def to_peer(estimator: Any) -> Any:
    """Return scikit-learn's estimator for a fitted one of fastbp's: parameters, classes and all."""
    peer = to_sklearn(describe(estimator))
    own = estimator.get_params()
    peer.set_params(
        **{
            name: own[name]
            for name in peer.get_params()
            if name not in ("activation", "solver", "learning_rate")
        }
    )
    from fastbp.estimators.private import constraints_of

    for name in ("solver", "learning_rate"):
        options = constraints_of(peer)[name][0].options
        if isinstance(own[name], str) and own[name] in options:
            peer.set_params(**{name: own[name]})
    _copy_fitted(estimator, peer, keep=("coefs_", "intercepts_", "out_activation_"))
    return peer


def from_peer(cls: Any, peer: Any) -> Any:
    """Make an estimator of fastbp's from scikit-learn's of the same name, fitted."""
    peers = need("sklearn.neural_network", "from_sklearn", extra="sklearn")
    wanted = getattr(peers, "MLPClassifier" if hasattr(cls, "predict_proba") else "MLPRegressor")
    if type(peer) is not wanted:
        raise TypeError(
            f"estimator must be scikit-learn's {wanted.__name__}, got {type(peer).__name__}"
        )
    describe(peer)  # raises if it is not fitted
    estimator = cls(**peer.get_params())
    _copy_fitted(peer, estimator, keep=())
    return estimator


def _copy_fitted(source: Any, target: Any, keep: tuple[str, ...]) -> None:
    """Copy what fitting has left in an estimator, but for the names in `keep`."""
    import copy

    for name, value in vars(source).items():
        fitted = name.endswith("_") and not name.startswith("_")
        if (fitted or name in ("_label_binarizer", "_no_improvement_count")) and name not in keep:
            setattr(target, name, copy.deepcopy(value))


def _binarizer(network: Network) -> Any:
    """What turns outputs into labels, as `fit` leaves it."""
    from sklearn.preprocessing import LabelBinarizer

    outputs = network.sizes[-1]
    binarizer = LabelBinarizer()
    binarizer.sparse_input_ = False
    several = network.answer == "sign" and outputs > 1
    kind = "multilabel-indicator" if several else "binary" if outputs == 1 else "multiclass"
    binarizer.y_type_ = kind
    count = 2 if outputs == 1 else outputs
    classes = network.classes
    binarizer.classes_ = np.arange(count) if classes is None else np.unique(classes)
    return binarizer


def from_sklearn(estimator: Any, loss: str | Loss | None) -> Network:
    """Read a fitted MLPClassifier or MLPRegressor, scikit-learn's or fastbp's.

    An MLP's classes are 0, 1, …: in the order of ``classes_``.
    """
    peers = need("sklearn.neural_network", "from_sklearn", extra="sklearn")
    from dataclasses import replace

    from fastbp import losses
    from fastbp.estimators import MLPClassifier, MLPRegressor

    known = (peers.MLPClassifier, peers.MLPRegressor, MLPClassifier, MLPRegressor)
    if not isinstance(estimator, known):
        raise TypeError(
            f"estimator must be an MLPClassifier or MLPRegressor, got {type(estimator).__name__}"
        )
    found = describe(estimator)
    chosen = found.loss if loss is None else losses.get(loss)
    if chosen.link != found.loss.link:
        raise ValueError(
            f"{type(estimator).__name__} has predictions by {found.loss.link}, but loss "
            f"{chosen.name!r} by {chosen.link}"
        )
    answer = {"binary": "sign"}.get(found.answer, found.answer)
    return replace(found, loss=chosen, answer=answer, classes=None, squeeze=True)
