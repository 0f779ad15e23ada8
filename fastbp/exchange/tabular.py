"""What the exporters of networks for tables have in common, of a `fastbp.tabular.TabularModel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.exchange.description import plain_classes
from fastbp.exchange.encoder import Encoder, encoder_of
from fastbp.stages import Blend, Dense, Heads, Lookup, Members, Periodic, Scale, Stage
from fastbp.tables.encoding import Encoding

__all__ = ["arrays_of", "classes_of", "columns_of"]

Array = NDArray[Any]


def columns_of(inputs: Any) -> Encoder:
    """The encoder of all columns, those that become codes last.

    Raises
    ------
    ValueError
        If there is no column.
    """
    if not inputs.names:
        raise ValueError("the model uses no column, so there is nothing to export")
    plain = inputs.encoding
    columns = (*(() if plain is None else plain.columns), *inputs.coded)
    return encoder_of(Encoding(columns, True, () if plain is None else plain.tokens), 0.0, 1.0)


def classes_of(model: Any) -> Array | None:
    """What may be predicted, int64 or str; None of a regression."""
    target = model.target
    return None if target.classes is None else plain_classes(np.array(target.labels()))


def arrays_of(stage: Stage, parameters: Sequence[Array]) -> list[Array]:
    """A stage's parameters as its function takes them."""
    (P,) = parameters
    if isinstance(stage, Dense):
        return [P[:, :-1], P[:, -1]]
    if isinstance(stage, Scale | Blend):
        return [P[:, 0]]
    if isinstance(stage, Periodic):
        k, d = stage.frequencies, stage.waves
        each = P[:, : (2 + d) * k].reshape(stage.numbers, k, 2 + d)
        w = (2 * np.pi * each[:, :, 0]).astype(P.dtype)
        return [w, each[:, :, 1], each[:, :, 2:], P[:, (2 + d) * k :].T]
    if isinstance(stage, Lookup):
        levels = np.array(stage.levels)
        return [(np.cumsum(levels) - levels).astype(P.dtype), P.T]
    if isinstance(stage, Heads):
        return [P.T.reshape(stage.members, stage.units, stage.inputs)]
    assert isinstance(stage, Members)
    return [P.T[: stage.members]] * stage.scale + [P.T[-stage.members :]] * stage.shift
