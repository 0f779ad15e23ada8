"""A trained network as plain data: what every way out starts from, and every way in ends with.

`describe` takes one from an `MLP` or an estimator; `Network.model` makes an `MLP` of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbp._inputs import all_finite
from fastbp.activations import Activation
from fastbp.exchange.encoder import Encoder, encoder_of
from fastbp.losses import Loss

if TYPE_CHECKING:
    from fastbp.mlp import MLP

__all__ = ["Network", "describe", "plain_classes"]

Array = NDArray[Any]
M = TypeVar("M", bound="MLP")


@dataclass(frozen=True)
class Network:
    """Layers, and what their outputs mean.

    Attributes
    ----------
    weights, biases : list of ndarray
        W of shape (n_l, n_{l−1}) and b of shape (n_l,) of every layer, float32 or float64.
    activations : tuple of Activation
        φ of every hidden layer.
    loss : Loss
        Its link leads from f to the prediction.
    dropout : tuple of float
        Of every hidden layer; in training only.
    answer : str
        What `predict` says: "value": link(f); "argmax": the class of the largest f; "sign": for
        every output whether f > 0; "binary": one of two classes, by the sign of the only output,
        with a probability for each.
    classes : ndarray or None
        What the class numbers stand for, int64 or str; None: themselves.
    squeeze : bool
        A single output makes a vector, not a matrix of one column.
    encoder : Encoder or None
        From a row of a table to the inputs; None: the inputs are given as they are.
    """

    weights: list[Array]
    biases: list[Array]
    activations: tuple[Activation, ...]
    loss: Loss
    dropout: tuple[float, ...] = ()
    answer: str = "value"
    classes: Array | None = None
    squeeze: bool = True
    encoder: Encoder | None = None

    @property
    def sizes(self) -> list[int]:
        """n_0 … n_L."""
        return [self.weights[0].shape[1], *map(len, self.biases)]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        dtype: np.dtype[Any] = self.weights[0].dtype
        return dtype

    @property
    def classifies(self) -> bool:
        """Whether `predict` says labels, of which there are probabilities."""
        return self.answer != "value"

    def model(self, cls: type[M], **options: Any) -> M:
        """Make an `MLP`, or a subclass, of it; `options` are seed, engine, threads."""
        return cls(
            self.sizes,
            activation=self.activations,
            loss=self.loss,
            dropout=self.dropout or 0.0,
            weight_init=[
                np.column_stack([W, b]) for W, b in zip(self.weights, self.biases, strict=True)
            ],
            dtype=self.dtype,
            **options,
        )


def describe(model: Any) -> Network:
    """Describe a model of fastbp.

    Raises
    ------
    TypeError
        If it is none.
    ValueError
        If it has coefficients that do not make a network of finite numbers.
    """
    if isinstance(model, Network):
        return model
    if hasattr(model, "plan"):
        return _of_mlp(model)
    if hasattr(model, "encoding"):
        return _of_table_model(model)
    if hasattr(model, "solver"):
        return _of_estimator(model)
    raise TypeError(f"model must be an MLP or a fitted estimator, got {type(model).__name__}")


_ANSWERS = {"softmax_cross_entropy": "argmax", "binary_cross_entropy": "sign"}


def _of_mlp(model: MLP) -> Network:
    plan = model.plan
    parameters = model.parameters
    return Network(
        [p[:, :-1].copy() for p in parameters],
        [p[:, -1].copy() for p in parameters],
        plan.activations,
        plan.loss,
        tuple(plan.dropout) if any(plan.dropout) else (),
        _ANSWERS.get(plan.loss.name, "value"),
    )


def _of_table_model(model: Any) -> Network:
    """Of `fastbp.tables`: a network, an encoding and a target."""
    target = model.target
    encoder = encoder_of(model.encoding, target.center, target.scale)
    classes = None if target.classes is None else plain_classes(np.array(target.labels()))
    return replace(_of_mlp(model.network), classes=classes, encoder=encoder)


def _of_estimator(model: Any) -> Network:
    """Of fastbp's or scikit-learn's: they have the same attributes."""
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(model, "coefs_")
    from fastbp.estimators.parameters import sizes_of

    coefs, intercepts = model.coefs_, model.intercepts_
    sizes = sizes_of(coefs, intercepts)
    if not all(map(all_finite, (*coefs, *intercepts))):
        raise ValueError("coefs_ and intercepts_ must be finite")
    dtype = np.result_type(*coefs, *intercepts)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"coefs_ and intercepts_ must be float32 or float64, got {dtype}")
    answer, classes, loss = "value", None, getattr(model, "loss", "squared_error")
    binarizer = getattr(model, "_label_binarizer", None)
    if binarizer is not None:
        kind = binarizer.y_type_
        answer = {"multiclass": "argmax", "binary": "binary"}.get(kind, "sign")
        loss = "softmax_cross_entropy" if kind == "multiclass" else "binary_cross_entropy"
        if answer != "sign":
            classes = plain_classes(model.classes_)
            if answer == "binary" and len(classes) == 1:
                classes = np.repeat(classes, 2)  # one class, whatever f is
    from fastbp import _options, activations, losses

    return Network(
        [np.ascontiguousarray(a.T, dtype) for a in coefs],
        [np.ascontiguousarray(a, dtype) for a in intercepts],
        _options.for_each("activation", model.activation, len(sizes) - 2, activations.get),
        losses.get(loss),
        _options.for_each(
            "dropout", getattr(model, "dropout", 0.0), len(sizes) - 2, _options.check_dropout
        ),
        answer,
        classes,
        squeeze=answer == "value",
    )


def plain_classes(classes: Array) -> Array:
    """Classes as int64 or str, or as they are where they are neither (fractions)."""
    if classes.dtype.kind in "biu":
        return classes.astype(np.int64)
    if classes.dtype.kind == "O" and all(isinstance(c, str) for c in classes):
        return classes.astype(np.str_)
    if classes.dtype.kind == "f":
        whole = classes.astype(np.int64)
        if (whole == classes).all():
            return whole
        raise ValueError(f"classes must be whole numbers or texts to be exported, got {classes}")
    if classes.dtype.kind != "U":
        raise ValueError(f"classes must be numbers or texts to be exported, got {classes}")
    return classes
