"""Recipes of networks for tables: their stages, first values, and what changes from step to step.

RealMLP-TD and its short form TD-S are those of Holzmüller, Grinsztajn & Steinwart (2024). Its layers
z = W v / √d + b are plain Dense stages here, with factors (`fastbp.stages.Factors`). The authors train
one network as `AUTHORS` says; here the default is several narrower ones, for fewer epochs, which
`benchmarks/tabular_tune.py` found to be better in less time.

TabM is that of Gorishniy, Kotelnikov & Babenko (2024): members that share the weights W of every layer,
z = s_m ⊙ W (r_m ⊙ v) + b_m, and have heads of their own; TabM-mini has r_m before the first layer only.
A member's copy of a sample is a row of its own (`fastbp.stages.Members`). Here there are 16 members with
256 units by default, where the authors have 32 with 512.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import activations
from fastbp.engines import create
from fastbp.losses import Loss
from fastbp.optimizers import AdamW
from fastbp.plan import Plan
from fastbp.stages import (
    PLAIN,
    Blend,
    Dense,
    Factors,
    Heads,
    Lookup,
    Members,
    Periodic,
    Scale,
    Stage,
)
from fastbp.tabular.passes import outputs_of

__all__ = [
    "AUTHORS",
    "AUTHORS_TABM",
    "MODELS",
    "Recipe",
    "dropouts_and_decays",
    "first_values",
    "for_size",
    "rates",
    "recipe",
    "stages",
]

Array = NDArray[Any]
# Options of the estimators with which "realmlp" and "realmlp-s" are the authors' recipes.
AUTHORS: dict[str, Any] = {
    "hidden_layer_sizes": (256, 256, 256),
    "epochs": 256,
    "batch_size": 256,
    "n_members": 1,
}
# The same of "tabm".
AUTHORS_TABM: dict[str, Any] = {
    "hidden_layer_sizes": (512, 512, 512),
    "epochs": 1000,
    "batch_size": 256,
    "n_members": 32,
}
FIRST_ROWS = 8192  # training rows that first values are fitted to
# Where all members' trainings would take more operations than so many (a minute or two on two cores),
# there are fewer members, and then fewer epochs.
BUDGET = 1e13
LEAST_MEMBERS, LEAST_EPOCHS = 2, 8


@dataclass(frozen=True)
class Recipe:
    """How a network for a table is made and trained.

    Attributes
    ----------
    hidden : tuple of int
        Widths.
    activation : str
    blended : bool
        How much of the activation is taken is trained, unit by unit.
    waves : bool
        Numbers are embedded, and categories of many values have vectors.
    scaled : bool
        A trained factor for each input, and the parametrisation W / √d.
    fitted : bool
        First values are fitted to the data.
    cycles : bool
        The rate goes up and down four times, each time as long as all before; else down once.
    rate, dropout, decay, smoothing : float
    epochs : int
    batch : int or None
        None: an eighth of the training rows, from 64 to 256.
    clamp : bool
        Predicted numbers stay within those of training.
    members : int
        Networks that share weights; 0: the network is one.
    mini : bool
        They share all but their first factors and their heads.
    patience : int or None
        Epochs without a better one, after which training ends.
    """

    hidden: tuple[int, ...] = (128, 128, 128)
    activation: str = "selu"
    blended: bool = True
    waves: bool = True
    scaled: bool = True
    fitted: bool = True
    cycles: bool = True
    rate: float = 0.04
    dropout: float = 0.15
    decay: float = 0.02
    smoothing: float = 0.1
    epochs: int = 64
    batch: int | None = None
    clamp: bool = True
    spread: float = 0.1
    scale_factor: float = 6.0
    wave_factor: float = 0.1
    members: int = 0
    mini: bool = False
    patience: int | None = None

    @property
    def copies(self) -> int:
        """Rows of a sample: one for each member."""
        return max(1, self.members)

    def rows_of_batch(self, rows: int) -> int:
        """Rows of a minibatch where so many are trained on."""
        wanted = self.batch or min(256, max(64, rows // 8))
        return max(1, min(wanted, rows))

    @property
    def optimizer(self) -> AdamW:
        """Adam with a short memory of squares."""
        beta_2 = 0.95 if self.scaled else 0.999
        return AdamW(beta_1=0.9, beta_2=beta_2, epsilon=1e-8, weight_decay=self.decay)


_TD = Recipe()
_TD_S = Recipe(blended=False, waves=False, fitted=False, dropout=0, decay=0, clamp=False)
_MLP = Recipe(
    hidden=(256, 256),
    activation="relu",
    blended=False,
    waves=False,
    scaled=False,
    fitted=False,
    cycles=False,
    rate=1e-3,
    dropout=0.1,
    decay=0.1,
    smoothing=0.0,
    epochs=100,
)
_TABM = Recipe(
    hidden=(256, 256, 256),
    activation="relu",
    blended=False,
    waves=False,
    scaled=False,
    fitted=False,
    cycles=False,
    rate=2e-3,
    dropout=0.1,
    decay=3e-4,
    smoothing=0.0,
    epochs=100,
    clamp=False,
    members=16,
    patience=16,
)
# name: for classification, for regression
MODELS: dict[str, tuple[Recipe, Recipe]] = {
    "realmlp": (_TD, Recipe(activation="mish", rate=0.2)),
    "realmlp-s": (
        _TD_S,
        Recipe(**{**_TD_S.__dict__, "activation": "mish", "rate": 0.07}),
    ),
    "mlp": (_MLP, _MLP),
    "tabm": (_TABM, _TABM),
    "tabm-mini": (replace(_TABM, mini=True),) * 2,
}


def recipe(model: str, *, regression: bool) -> Recipe:
    """The recipe of that name."""
    return MODELS[model][regression]


def stages(
    recipe: Recipe, numbers: int, plain: int, levels: Sequence[int], outputs: int
) -> tuple[Stage, ...]:
    """The network for so many numbers, other columns, and tables of so many rows."""
    phi = activations.get(recipe.activation)
    inputs = max(numbers + plain + len(levels), 1)
    if recipe.members:
        return _sharing(recipe, inputs, outputs)
    made: list[Stage] = []
    if numbers and recipe.waves:
        made.append(
            Periodic(inputs, numbers, spread=recipe.spread, factors=_factors(recipe.wave_factor))
        )
        inputs = made[-1].units
    if levels:
        made.append(Lookup(inputs, tuple(levels)))
        inputs = made[-1].units
    if recipe.scaled:
        made.append(Scale(inputs, factors=_factors(recipe.scale_factor)))
    for width in recipe.hidden:
        factors = _dense_factors(recipe, inputs)
        if recipe.blended:
            made.append(Dense(inputs, width, factors=factors))
            made.append(Blend(width, phi, dropout=recipe.dropout, factors=_factors(0.1)))
        else:
            made.append(Dense(inputs, width, phi, recipe.dropout, factors))
        inputs = width
    made.append(Dense(inputs, outputs, factors=_dense_factors(recipe, inputs)))
    return tuple(made)


def _sharing(recipe: Recipe, inputs: int, outputs: int) -> tuple[Stage, ...]:
    """TabM: members with factors and biases of their own around Dense stages that they share."""
    phi, k = activations.get(recipe.activation), recipe.members
    made: list[Stage] = [Members(inputs, k)] if recipe.mini else []
    for width in recipe.hidden:
        if recipe.mini:
            made.append(Dense(inputs, width, phi, recipe.dropout))
        else:  # whose bias stays 0, as each member has its own
            made.append(Members(inputs, k))
            made.append(Dense(inputs, width, factors=(Factors(), Factors(0.0, decay=0.0))))
            made.append(Members(width, k, shift=True, activation=phi, dropout=recipe.dropout))
        inputs = width
    made.append(Heads(inputs, outputs, k))
    made.append(Members(outputs, k, scale=False, shift=True))
    return tuple(made)


def _factors(rate: float) -> tuple[Factors, Factors]:
    """Decay goes with the square of the rate's factor, as in the authors' package."""
    return Factors(), Factors(rate, 1.0, rate**2)


def _dense_factors(recipe: Recipe, inputs: int) -> tuple[Factors, Factors]:
    if not recipe.scaled:
        return PLAIN
    root = math.sqrt(inputs)
    return Factors(1 / root, root), Factors(0.1, decay=0.0)


def first_values(
    recipe: Recipe,
    stages: Sequence[Stage],
    X: Array,
    generator: np.random.Generator,
    training: Array | None = None,
    threads: int = 1,
) -> list[Array]:
    """Parameters to begin with, for rows of X, or those that are for training.

    Fitted ones give every unit of a Dense stage a standard deviation of 1 over the rows, and as its
    bias minus a random mean of its values at five rows; else W and b are from N(0, 1), and those of the
    last stage 0. The values are an engine's, whose bits do not depend on threads as those of BLAS do.
    """
    if recipe.members:
        return _first_of_members(recipe, stages, generator)
    if not recipe.scaled:
        return [p for s in stages for p in s.first_values("auto", "float32", generator)]
    count = len(X) if training is None else len(training)
    rows = generator.permutation(count)[:FIRST_ROWS]
    sample: Array = X[rows if training is None else training[rows]]
    found: list[Array] = []
    for i, stage in enumerate(stages):
        if isinstance(stage, Dense):
            W = generator.standard_normal(stage.shapes[0]).astype(np.float32)
            W[:, :-1] /= math.sqrt(stage.inputs)
            if recipe.fitted:
                W[:, -1] = 0
                until = (*stages[:i], Dense(stage.inputs, stage.units))
                plan = Plan(until, Loss("squared_error"), threads=threads)
                engine = create(plan)
                engine.set_parameters([*found, W])
                z = outputs_of(engine, sample)
                spread = z.std(axis=0)
                spread[spread == 0] = 1
                W[:, :-1] /= spread[:, None]
                z /= spread
                some = z[generator.integers(0, len(z), (5, stage.units)), np.arange(stage.units)]
                W[:, -1] = -(generator.dirichlet(np.ones(5), stage.units).T * some).sum(axis=0)
            elif stage is stages[-1]:
                W[...] = 0
            values = [W]
        else:
            values = stage.first_values("auto", "float32", generator)
        found += values
    return found


def _first_of_members(
    recipe: Recipe, stages: Sequence[Stage], generator: np.random.Generator
) -> list[Array]:
    """Weights and biases from U(−1/√d, 1/√d), factors 1, but the first ones random signs.

    These make members different; a hidden layer's biases are alike in all of them.
    """
    found: list[Array] = []
    bound = 1.0
    for i, stage in enumerate(stages):
        (values,) = stage.first_values("auto", "float32", generator)
        if isinstance(stage, Dense | Heads):
            bound = 1 / math.sqrt(stage.inputs)
        if isinstance(stage, Dense):
            values[...] = generator.uniform(-bound, bound, values.shape)
            if not recipe.mini:
                values[:, -1] = 0
        elif isinstance(stage, Members) and stage.shift:
            own = stage.inputs, 1 if stage.scale else stage.members
            values[:, -stage.members :] = generator.uniform(-bound, bound, own)
        elif i == 0:
            values[...] = generator.choice((-1, 1), values.shape)
        found.append(values)
    return found


def for_size(
    recipe: Recipe,
    stages: Sequence[Stage],
    rows: int,
    members: int,
    *,
    fixed_members: bool,
    fixed_epochs: bool,
) -> tuple[int, int]:
    """Members and epochs for so many rows: those given and the recipe's, unless the table is large.

    A table has more epochs' worth of different rows the larger it is, and an average of several
    networks gains less. The choice goes by sizes alone, so it is the same on every machine.
    """
    # operations of an epoch
    each = 6.0 * rows * sum(_products(stage) for stage in stages) * recipe.copies
    epochs = recipe.epochs
    share = BUDGET / max(each * members * epochs, 1)
    if share >= 1:
        return members, epochs
    if not fixed_members:
        members = min(members, max(LEAST_MEMBERS, math.ceil(members * math.sqrt(share))))
    if not fixed_epochs:
        epochs = min(epochs, max(LEAST_EPOCHS, math.ceil(BUDGET / (each * members))))
    return members, epochs


def _products(stage: Stage) -> int:
    """Multiplications of a row."""
    if isinstance(stage, Heads):
        return stage.inputs * stage.units
    return (
        0
        if isinstance(stage, Lookup | Members)
        else sum(math.prod(shape) for shape in stage.shapes)
    )


def rates(recipe: Recipe, steps: int) -> NDArray[np.float64]:
    """The learning rate of every step of a training."""
    t = np.arange(steps) / steps
    if recipe.members:
        return np.full(steps, recipe.rate)
    if not recipe.cycles:
        return recipe.rate * 0.5 * (1 + np.cos(np.pi * t))
    wave: NDArray[np.float64] = 1 - np.cos(2 * np.pi * np.log2(1 + 15 * t))
    return recipe.rate * 0.5 * wave


def dropouts_and_decays(recipe: Recipe, steps: int) -> NDArray[np.float64]:
    """Factors of dropout and decay of every step: 1 for half of the training, then down to 0."""
    t = np.arange(steps) / steps
    if not recipe.cycles:
        return np.ones(steps)
    factor: NDArray[np.float64] = 0.5 * (1 + np.cos(np.pi * (np.maximum(1, 2 * t) - 1)))
    return factor
