"""The value by which epochs are compared, as `ModelCheckpoint` and `OptunaPruning` do."""

from __future__ import annotations

from fastbp.history import History

__all__ = ["Monitor"]

NAMES = ("loss", "validation_loss", "validation_score", "gradient_norm")


class Monitor:
    """A list of the history, by name.

    Parameters
    ----------
    name : str or None
        None: the validation loss, or the loss where there is no validation.
    """

    def __init__(self, name: str | None) -> None:
        if name is not None and name not in NAMES:
            raise ValueError(f"monitor must be one of {', '.join(NAMES)} or None, got {name!r}")
        self.name = name

    @property
    def is_score(self) -> bool:
        """Whether more is better."""
        return self.name == "validation_score"

    def values(self, history: History) -> list[float]:
        """Epoch by epoch.

        Raises
        ------
        ValueError
            If that was not measured.
        """
        name = self.name or ("validation_loss" if history.validation_loss else "loss")
        values: list[float] = getattr(history, name)
        if len(values) != history.epochs:
            need = "a callback with gradient_norm=True" if name == "gradient_norm" else "validation"
            raise ValueError(f"monitor {name!r} needs {need}, of which there is none")
        return values
