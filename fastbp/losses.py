"""What losses exist: the form of their targets and the link from network output f to prediction.

Declarations only: every engine has its own kernels for ℓ and ∂ℓ/∂f. `engines/reference.py` holds the
formulas as NumPy. A loss is the sum over the outputs of one sample; a batch's loss is the average of
its samples' losses, weighted by the sample weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from fastbp._validation import check_finite_number, nearest_name
from fastbp.activations import Function

__all__ = ["LINKS", "LOSSES", "Loss", "get"]


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
        softmax_cross_entropy with integer labels). The quantile τ of ``pinball``, where `levels` says
        none. 0 for the others.
    levels : tuple of float
        Of ``pinball``: τ of each output.
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
    pinball                  Σⱼ max(τⱼ r, (τⱼ − 1) r), r = yⱼ − fⱼ           f
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
    levels: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.function is None and self.name not in LOSSES:
            raise ValueError(nearest_name("loss", self.name, [*LOSSES, *ALIASES]))
        check_finite_number("loss parameter", self.parameter, minimum=0.0)
        if self.name in CROSS_ENTROPIES and self.parameter >= 0.5:
            raise ValueError(f"the floor of {self.name} must be < 0.5, got {self.parameter!r}")
        if self.name == "pinball":
            for level in (self.parameter, *self.levels):
                if not 0 < level < 1:
                    raise ValueError(f"the quantile of pinball must be > 0 and < 1, got {level!r}")
        elif self.levels:
            raise ValueError(f"loss {self.name!r} has no levels, got {self.levels!r}")
        if self.parameter and self.name not in ("huber", "pinball", *CROSS_ENTROPIES):
            raise ValueError(f"loss {self.name!r} has no parameter, got {self.parameter!r}")
        if self.name == "huber" and self.parameter == 0:
            raise ValueError("the parameter of huber (its width δ) must be > 0, got 0")

    @property
    def link(self) -> str:
        """Map from f to the prediction: identity, softmax, sigmoid or exp."""
        return self.user_link if self.function is not None else LOSSES[self.name][1]

    @property
    def targets(self) -> tuple[float, float]:
        """The least and the greatest target that it is defined for, ±∞ where there is none."""
        return EVERYTHING if self.function is not None else LOSSES[self.name][2]


EVERYTHING = -inf, inf
# name: (default parameter, link, least and greatest target)
LOSSES: dict[str, tuple[float, str, tuple[float, float]]] = {
    "squared_error": (0.0, "identity", EVERYTHING),
    "absolute_error": (0.0, "identity", EVERYTHING),
    "huber": (1.0, "identity", EVERYTHING),
    "softmax_cross_entropy": (0.0, "softmax", (0.0, 1.0)),
    "binary_cross_entropy": (0.0, "sigmoid", (0.0, 1.0)),
    "poisson": (0.0, "exp", (0.0, inf)),
    "pinball": (0.5, "identity", EVERYTHING),
}

# Those whose parameter is a floor of the probabilities.
CROSS_ENTROPIES = frozenset({"softmax_cross_entropy", "binary_cross_entropy"})

ALIASES = {
    "cross_entropy": "softmax_cross_entropy",
    "mse": "squared_error",
    "mae": "absolute_error",
}


LINKS = ("identity", "softmax", "sigmoid", "exp")


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
    name = ALIASES.get(loss, loss)
    return Loss(name, LOSSES[name][0] if name in LOSSES else 0.0)
