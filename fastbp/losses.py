"""What losses exist: the form of their targets and the link from network output f to prediction.

Declarations only: every engine has its own kernels for ℓ and ∂ℓ/∂f. `engines/reference.py` holds the
formulas as NumPy. A loss is the sum over the outputs of one sample; a batch's loss is the average of
its samples' losses, weighted by the sample weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastbp._functions import Function, check_function, check_loss, fingerprint
from fastbp._validation import check_finite_number, nearest_name

__all__ = ["LOSSES", "Loss", "get", "loss"]


@dataclass(frozen=True)
class Loss:
    """The loss ℓ(f, y) of one sample.

    Attributes
    ----------
    name : str
        One of `LOSSES`, or the name of a function of the user's.
    parameter : float
        The width δ of the quadratic zone of ``huber``. Of the cross-entropies a floor: ℓ is reported
        as if no probability were nearer to 0 or 1, its gradient is not changed (0: no floor; for
        softmax_cross_entropy with integer labels). 0 for the others.
    function, derivative, fingerprint, user_link
        Of a function of the user's: made by `fastbp.loss`.

    Notes
    -----
    ======================== ============================================== =====================
    name                     ℓ(f, y)                                        prediction (link)
    ======================== ============================================== =====================
    squared_error            ½ Σⱼ (fⱼ − yⱼ)²                                f
    absolute_error           Σⱼ abs(fⱼ − yⱼ), slope 0 at 0                  f
    huber                    Σⱼ ½ r² if abs(r) ≤ δ else δ (abs(r) − ½ δ),   f
                             r = fⱼ − yⱼ
    softmax_cross_entropy    −Σⱼ yⱼ log softmax(f)ⱼ                         softmax(f)
    binary_cross_entropy     −Σⱼ yⱼ log pⱼ + (1 − yⱼ) log(1 − pⱼ)           p = sigmoid(f)
    poisson                  Σⱼ yⱼ log(yⱼ / μⱼ) − yⱼ + μⱼ                   μ = exp(f)
                             (half the Poisson deviance)
    ======================== ============================================== =====================

    For integer labels c, softmax_cross_entropy takes yⱼ = 1 for j = c, else 0.

    Examples
    --------
    >>> from fastbp.losses import Loss
    >>> Loss("huber", 0.5)
    Loss(name='huber', parameter=0.5)
    """

    name: str
    parameter: float = 0.0
    function: Function | None = field(default=None, compare=False, repr=False)
    derivative: Function | None = field(default=None, compare=False, repr=False)
    fingerprint: str = field(default="", repr=False)
    user_link: str = field(default="identity", repr=False)

    def __post_init__(self) -> None:
        if self.function is None and self.name not in LOSSES:
            raise ValueError(nearest_name("loss", self.name, [*LOSSES, *_ALIASES]))
        check_finite_number("loss parameter", self.parameter, minimum=0.0)
        if self.name in CROSS_ENTROPIES and self.parameter >= 0.5:
            raise ValueError(f"the floor of {self.name} must be < 0.5, got {self.parameter!r}")
        if self.parameter and self.name not in ("huber", *CROSS_ENTROPIES):
            raise ValueError(f"loss {self.name!r} has no parameter, got {self.parameter!r}")
        if self.name == "huber" and self.parameter == 0:
            raise ValueError("the parameter of huber (its width δ) must be > 0, got 0")

    @property
    def link(self) -> str:
        """Map from f to the prediction: identity, softmax, sigmoid or exp."""
        return self.user_link if self.function is not None else LOSSES[self.name][1]


# name: (default parameter, link)
LOSSES: dict[str, tuple[float, str]] = {
    "squared_error": (0.0, "identity"),
    "absolute_error": (0.0, "identity"),
    "huber": (1.0, "identity"),
    "softmax_cross_entropy": (0.0, "softmax"),
    "binary_cross_entropy": (0.0, "sigmoid"),
    "poisson": (0.0, "exp"),
}

# Those whose parameter is a floor of the probabilities.
CROSS_ENTROPIES = frozenset({"softmax_cross_entropy", "binary_cross_entropy"})

_ALIASES = {
    "cross_entropy": "softmax_cross_entropy",
    "mse": "squared_error",
    "mae": "absolute_error",
}


_LINKS = ("identity", "softmax", "sigmoid", "exp")


def loss(
    f: Function,
    derivative: Function | None = None,
    *,
    name: str | None = None,
    link: str = "identity",
) -> Loss:
    """Make a loss of a function ℓ(f, y) of an output and its target, written in Python.

    A sample's loss is the sum of ℓ over its outputs. Numba compiles it for the native and the JIT
    engine; the reference engine calls it as it is.

    Parameters
    ----------
    f : callable
        ℓ(f, y), of two numbers; see `fastbp.activation` for what it may use.
    derivative : callable or None
        ∂ℓ/∂f (f, y); None: derived automatically, see `fastbp.activation`.
    name : str or None
        For messages; None: that of the function.
    link : {"identity", "softmax", "sigmoid", "exp"}
        Map from f to the prediction. It says what predictions and scores are: "softmax" makes the
        model a classifier of n_L ≥ 2 classes (`MLP.predict` returns the label argmax_j f_j, the score
        is accuracy, the class of a target is its largest entry), "sigmoid" one of labels 0 and 1
        (1 where sigmoid(f) > ½; a target is 1 where it is > ½, so targets −1 and 1 serve too); with
        the others it is a regression, scored by R². Targets have shape (n, n_L), or (n,) if n_L = 1.

    Raises
    ------
    ValueError
        If Numba cannot compile the function (and where), or the derivative does not agree with
        differences of `f` in float64, or `name` is that of a built-in loss, or `link` is unknown,
        or there is no derivative and no Numba.
    TypeError
        If `f` or `derivative` is no function.

    Examples
    --------
    The quantile loss, whose minimum is the 90 % quantile of y:

    >>> import fastbp
    >>> quantile = fastbp.loss(lambda f, y: max(0.9 * (y - f), 0.1 * (f - y)), name="quantile")
    >>> model = fastbp.MLP([4, 16, 1], loss=quantile)
    """
    name = check_function(f, derivative, name)
    if name in LOSSES or name in _ALIASES:
        raise ValueError(f"name must not be that of a built-in loss, got {name!r}")
    if link not in _LINKS:
        raise ValueError(nearest_name("link", str(link), _LINKS))
    made = Loss(
        name,
        function=f,
        derivative=derivative,
        fingerprint=fingerprint(f, derivative),
        user_link=link,
    )
    check_loss(made)
    return made


def get(loss: str | Loss) -> Loss:
    """Resolve a name (or a `Loss`, returned as it is) to a `Loss`.

    Raises
    ------
    ValueError
        If the name is unknown; the message suggests the nearest one.
    TypeError
        If `loss` is neither a string nor a `Loss`.

    Examples
    --------
    >>> from fastbp import losses
    >>> losses.get("cross_entropy").link
    'softmax'
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss must be a name or a Loss, got {type(loss).__name__}")
    name = _ALIASES.get(loss, loss)
    return Loss(name, LOSSES.get(name, (0.0, ""))[0])
