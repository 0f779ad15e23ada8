"""What optimizers exist: their hyperparameters and how many state arrays each keeps per weight.

Declarations only: every engine applies the update inside its own kernels. The update of each is in
its docstring; `engines/reference.py` has the same lines as NumPy. g is the gradient of the batch's
objective (penalties included, norm clipped), η the learning rate of the step, t = 1, 2, … the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import by_name, check_finite_number, nearest_name

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "get"]

_named = by_name(
    hint="; the rate is the argument learning_rate of fit and partial_fit "
    "(learning_rate_init of the estimators)"
)


def _keep(optimizer: object, **values: float | bool) -> None:
    """Plain numbers in place of NumPy's, so that equal optimizers also look the same in a file."""
    for name, value in values.items():
        object.__setattr__(optimizer, name, value)


@_named
@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent, with momentum μ (0: plain) and Nesterov's look-ahead.

    Plain: W ← W − η g.
    Momentum (Polyak 1964): u ← μ u − η g; W ← W + u.
    Nesterov (Sutskever et al. 2013): u ← μ u − η g; W ← W + μ u − η g.

    The parameters of all optimizers are given by name. The learning rate is none of them: it is an
    argument of `MLP.fit`.

    Parameters
    ----------
    momentum : float
        μ, from 0 to 1.
    nesterov : bool

    Raises
    ------
    TypeError, ValueError
        Here and in the other optimizers, if a parameter is no number or out of range, or is not
        given by name.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.data import load_digits
    >>> X, y = load_digits()
    >>> optimizer = fastbp.optimizers.SGD(momentum=0.95, nesterov=True)
    >>> model = fastbp.MLP([64, 32, 10], seed=0)
    >>> history = model.fit(X, y, epochs=3, optimizer=optimizer, learning_rate=0.02)
    >>> history.loss[-1] < 0.5
    True
    """

    momentum: float = 0.0
    nesterov: bool = False

    name: ClassVar[str] = "sgd"
    default_learning_rate: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        momentum = check_finite_number("momentum", self.momentum, minimum=0.0, maximum=1.0)
        if not isinstance(self.nesterov, bool | np.bool_):
            raise TypeError(f"nesterov must be True or False, got {self.nesterov!r}")
        _keep(self, momentum=momentum, nesterov=bool(self.nesterov))

    @property
    def slots(self) -> int:
        """Number of state arrays per weight."""
        return 1 if self.momentum > 0 else 0


@_named
@dataclass(frozen=True, kw_only=True)
class RMSprop:
    """RMSprop (Hinton 2012): s ← ρ s + (1 − ρ) g²; W ← W − η g / (√s + ε).

    Parameters
    ----------
    rho : float
        ρ, 0 ≤ ρ < 1.
    epsilon : float
        ε > 0.

    Examples
    --------
    >>> from fastbp.optimizers import RMSprop
    >>> RMSprop(rho=0.99)
    RMSprop(rho=0.99, epsilon=1e-08)
    """

    rho: float = 0.9
    epsilon: float = 1e-8

    name: ClassVar[str] = "rmsprop"
    default_learning_rate: ClassVar[float] = 0.001
    slots: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _keep(
            self,
            rho=check_finite_number("rho", self.rho, minimum=0.0, maximum=1.0, open_maximum=True),
            epsilon=check_finite_number("epsilon", self.epsilon, minimum=0.0, open_minimum=True),
        )


@_named
@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma & Ba 2015, the efficient order of computation at the end of their section 2).

    m ← β₁ m + (1 − β₁) g; s ← β₂ s + (1 − β₂) g²; W ← W − η √(1 − β₂ᵗ)/(1 − β₁ᵗ) m / (√s + ε).

    Parameters
    ----------
    beta_1, beta_2 : float
        β₁ and β₂, 0 ≤ β < 1.
    epsilon : float
        ε > 0.

    Examples
    --------
    >>> from fastbp.optimizers import Adam
    >>> Adam(beta_2=0.99)
    Adam(beta_1=0.9, beta_2=0.99, epsilon=1e-08)
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    name: ClassVar[str] = "adam"
    default_learning_rate: ClassVar[float] = 0.001
    slots: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for name in ("beta_1", "beta_2"):
            beta = getattr(self, name)
            beta = check_finite_number(name, beta, minimum=0.0, maximum=1.0, open_maximum=True)
            _keep(self, **{name: beta})
        epsilon = check_finite_number("epsilon", self.epsilon, minimum=0.0, open_minimum=True)
        _keep(self, epsilon=epsilon)


@_named
@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay λ (Loshchilov & Hutter 2019), on weights, not biases.

    W ← W − η λ W, then Adam's update.

    Parameters
    ----------
    beta_1, beta_2, epsilon
        As in `Adam`.
    weight_decay : float
        λ ≥ 0.

    Examples
    --------
    >>> from fastbp.optimizers import AdamW
    >>> AdamW(weight_decay=0.1)
    AdamW(beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.1)
    """

    weight_decay: float = 0.01

    name: ClassVar[str] = "adamw"

    def __post_init__(self) -> None:
        super().__post_init__()
        decay = check_finite_number("weight_decay", self.weight_decay, minimum=0.0)
        _keep(self, weight_decay=decay)


Optimizer = SGD | RMSprop | Adam | AdamW


def epsilon_in(optimizer: RMSprop | Adam, dtype: str) -> float:
    """ε where it is computed with in `dtype`: were it to round to 0, no gradient at all were 0 / 0."""
    return max(optimizer.epsilon, float(np.finfo(dtype).smallest_subnormal))


def step_sizes(
    optimizer: Optimizer, first: int, learning_rates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """η of the update's formula, of steps `first` (≥ 1) and on; of Adam η √(1 − β₂ᵗ) / (1 − β₁ᵗ)."""
    if not isinstance(optimizer, Adam):
        return learning_rates
    t = np.arange(first, first + len(learning_rates), dtype=np.float64)
    corrected: NDArray[np.float64] = (
        learning_rates * np.sqrt(1 - optimizer.beta_2**t) / (1 - optimizer.beta_1**t)
    )
    return corrected


_NAMED: dict[str, Optimizer] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(),
    "adam": Adam(),
    "adamw": AdamW(),
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Resolve a name (or an optimizer, returned as it is) to an optimizer.

    Raises
    ------
    ValueError
        If the name is unknown; the message suggests the nearest one.
    TypeError
        If `optimizer` is neither a string nor an optimizer.

    Examples
    --------
    >>> from fastbp import optimizers
    >>> optimizers.get("nesterov")
    SGD(momentum=0.9, nesterov=True)
    """
    if isinstance(optimizer, SGD | RMSprop | Adam):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be a name or an optimizer, got {type(optimizer).__name__}")
    if optimizer not in _NAMED:
        raise ValueError(nearest_name("optimizer", optimizer, _NAMED))
    return _NAMED[optimizer]
