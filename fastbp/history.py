"""What happened in a call of `MLP.fit`: plain lists, one entry an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["DivergenceError", "History"]


class DivergenceError(ArithmeticError):
    """Training met a loss or a weight that is NaN or infinite.

    The model keeps the weights it had before the epoch named in the message; the optimizer's state
    is cleared. A smaller learning rate, ``clip_norm``, or data scaled to about unit size usually
    helps.

    Examples
    --------
    >>> import fastbp
    >>> model = fastbp.MLP([1, 1], loss="squared_error", seed=0)
    >>> try:
    ...     model.fit([[1e3]], [1.0], epochs=9, learning_rate=1e30)
    ... except fastbp.DivergenceError as error:
    ...     print(str(error).partition(";")[0])
    epoch 2 of 9: the loss became inf at step 1 of 1
    """


@dataclass
class History:
    """Record of a call of `MLP.fit`; the lists have one entry for each finished epoch.

    Attributes
    ----------
    loss : list of float
        Mean of the steps' objectives (penalties included), each taken before its update and
        weighted by the step's rows (or their sample weights).
    validation_loss, validation_score : list of float
        Objective and score on the validation data after the epoch; empty without validation.
    score_name : str
        What the score is: ``"accuracy"`` or ``"R2"`` (1 − residual / total sum of squares).
    learning_rate : list of float
        Of the epoch's last step.
    seconds, samples_per_second : list of float
        Time spent training in the epoch, without validation and callbacks; rows over that time.
    gradient_norm : list of float
        Euclidean norm of the objective's gradient over all training rows, after the epoch; empty
        unless a callback asks for it (NaN in the epochs before one did).
    best_epoch : int or None
        With early stopping, the index of the epoch whose weights the model has; else None.
    stopped : str
        Why training ended: ``"epochs"`` (all done), ``"early_stopping"``, ``"callback"`` or
        ``"interrupt"`` (Ctrl-C); empty while it goes on, and if another exception ended it.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.data import load_digits
    >>> X, y = load_digits()
    >>> history = fastbp.MLP([64, 10], seed=0).fit(X, y, epochs=4, validation=0.1)
    >>> history.epochs, len(history.validation_score), history.stopped
    (4, 4, 'epochs')
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_score: list[float] = field(default_factory=list)
    score_name: str = ""
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    samples_per_second: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    stopped: str = ""

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.loss)

    def cut(self, epochs: int) -> None:
        """Forget what there is of epochs after these."""
        for value in vars(self).values():
            if isinstance(value, list):
                del value[epochs:]

    def add_gradient_norm(self, value: float) -> None:
        """Of the last finished epoch."""
        missing = self.epochs - 1 - len(self.gradient_norm)
        self.gradient_norm += [math.nan] * missing + [value]

    def row(self) -> dict[str, float]:
        """What there is of the last finished epoch, by name: what callbacks write down.

        Examples
        --------
        >>> import fastbp
        >>> history = fastbp.MLP([1, 2], seed=0).fit([[1], [2]], [0, 1], epochs=3)
        >>> list(history.row())
        ['epoch', 'loss', 'learning_rate', 'seconds', 'samples_per_second']
        """
        lists = {name: value for name, value in vars(self).items() if isinstance(value, list)}
        last = {name: value[-1] for name, value in lists.items() if len(value) == self.epochs}
        return {"epoch": self.epochs, **last}

    def _repr_html_(self) -> str:
        from fastbp import _html

        return _html.history(self)

    def line(self, epochs: int) -> str:
        """Progress line of the last finished epoch, out of `epochs`."""
        parts = [f"epoch {self.epochs:>{len(str(epochs))}}/{epochs}", f"loss {self.loss[-1]:.4f}"]
        if self.validation_loss:
            parts.append(f"validation loss {self.validation_loss[-1]:.4f}")
            parts.append(f"validation {self.score_name} {self.validation_score[-1]:.4f}")
        if self.gradient_norm:
            parts.append(f"gradient {self.gradient_norm[-1]:.3g}")
        parts.append(f"{self.samples_per_second[-1]:,.0f} samples/s")
        return "  ".join(parts)
