"""RealMLP as its authors write it, in PyTorch, step by step beside the engine with the recipe's stages.

There a layer is z = W v / √d + b with W of unit variance, each parameter has a factor f of the rate, and
decay is θ ← θ (1 − rate · decay · f²). Parameters and losses must be the same after a training in which
rate and decay change at every step. Dropout is left out: its masks are a matter of the generator.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_cases import EACH_ENGINE, new_engine

from fastbp.losses import Loss
from fastbp.plan import Plan
from fastbp.stages import Blend, Dense, Lookup, Periodic, Scale
from fastbp.tabular import recipes

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
torch = pytest.importorskip("torch", reason="it is the judge")

NUMBERS, PLAIN, LEVELS, ROWS, BATCH, EPOCHS = 4, 3, (9, 12), 96, 16, 5


class Peer:
    """The network in the authors' form, float64."""

    def __init__(self, recipe: recipes.Recipe, stages: Any, values: list[Any]) -> None:
        self.recipe, self.stages = recipe, stages
        self.groups: list[tuple[Any, float, bool]] = []  # parameter, factor, whether it decays
        self.parameters: list[Any] = []
        for stage, p in zip(stages, values, strict=True):
            if isinstance(stage, Dense):
                W = self._add(p[:, :-1] * np.sqrt(stage.inputs), 1.0, True)
                b = self._add(p[:, -1], 0.1, False)
                self.parameters.append((W, b))
            else:
                factor = {Periodic: 0.1, Lookup: 1.0, Scale: 6.0, Blend: 0.1}[type(stage)]
                self.parameters.append(self._add(p, factor, True))

    def _add(self, value: Any, factor: float, decays: bool) -> Any:
        parameter = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        self.groups.append((parameter, factor, decays))
        return parameter

    def forward(self, v: Any) -> Any:
        phi = {"selu": torch.nn.functional.selu, "mish": torch.nn.functional.mish}
        for stage, p in zip(self.stages, self.parameters, strict=True):
            if isinstance(stage, Periodic):
                k, d, n = stage.frequencies, stage.waves, stage.numbers
                each = p[:, : (2 + d) * k].reshape(n, k, 2 + d)
                cos = torch.cos(2 * torch.pi * each[:, :, 0] * v[:, :n, None] + each[:, :, 1])
                e = torch.einsum("rnk,nkd->rnd", cos, each[:, :, 2:]) + p[:, (2 + d) * k :]
                v = torch.cat([e.transpose(1, 2).flatten(1), v], 1)
            elif isinstance(stage, Lookup):
                others, start, vectors = stage.inputs - len(stage.levels), 0, []
                for c, levels in enumerate(stage.levels):
                    vectors.append(p.T[start + v[:, others + c].long()])
                    start += levels
                v = torch.cat([v[:, :others], *vectors], 1)
            elif isinstance(stage, Scale):
                v = v * p[:, 0]
            elif isinstance(stage, Blend):
                v = v + (phi[stage.blended.name](v) - v) * p[:, 0]
            else:
                W, b = p
                v = v @ W.T / np.sqrt(stage.inputs) + b
                if stage.activation.name != "identity":
                    v = phi[stage.activation.name](v)
        return v

    def step(self, loss: Any, t: int, rate: float, decay: float, state: list[Any]) -> None:
        """Adam with β = (0.9, 0.95) and decay; ε is so small that where it stands does not matter."""
        gradients = torch.autograd.grad(loss, [p for p, _, _ in self.groups])
        with torch.no_grad():
            for (p, f, decays), g, s in zip(self.groups, gradients, state, strict=True):
                if decays:
                    p.mul_(1 - rate * decay * f * f)
                s[0] = 0.9 * s[0] + 0.1 * g
                s[1] = 0.95 * s[1] + 0.05 * g * g
                m, v = s[0] / (1 - 0.9**t), s[1] / (1 - 0.95**t)
                # ours has ε beside √s, not beside √(s / (1 − β₂ᵗ))
                p -= rate * f * m / (v.sqrt() + 1e-8 / np.sqrt(1 - 0.95**t))

    def plain(self) -> list[Any]:
        """Parameters in the form of the stages."""
        found = []
        for stage, p in zip(self.stages, self.parameters, strict=True):
            if isinstance(stage, Dense):
                W = p[0].detach().numpy() / np.sqrt(stage.inputs)
                found.append(np.hstack([W, p[1].detach().numpy()[:, None]]))
            else:
                found.append(p.detach().numpy())
        return found


@pytest.mark.parametrize("name", [name for name in EACH_ENGINE if name != "jit"])
@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("model", ["realmlp", "realmlp-s"])
def test_a_training_is_that_of_the_authors_form(name: str, regression: bool, model: str) -> None:
    recipe = replace(recipes.recipe(model, regression=regression), hidden=(24, 20), dropout=0.0)
    recipe = replace(recipe, batch=BATCH, rate=0.1 * recipe.rate)
    levels = LEVELS if recipe.waves else ()
    outputs = 1 if regression else 3
    stages = recipes.stages(recipe, NUMBERS, PLAIN, levels, outputs)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, NUMBERS + PLAIN + len(levels)))
    for c, n in enumerate(levels):
        X[:, NUMBERS + PLAIN + c] = rng.integers(0, n, ROWS)
    y = rng.standard_normal((ROWS, 1)) if regression else rng.integers(0, 3, ROWS)
    values = recipes.first_values(recipe, stages, X.astype(np.float32), rng)
    values = [p.astype(np.float64) for p in values]
    loss = Loss("squared_error" if regression else "softmax_cross_entropy")
    smoothing = 0.0 if regression else recipe.smoothing
    plan = Plan(
        stages,
        loss,
        recipe.optimizer,
        batch_size=BATCH,
        dtype="float64",
        threads=2,
        label_smoothing=smoothing,
    )
    engine = new_engine(plan, name)
    engine.set_parameters(values)
    peer = Peer(recipe, stages, values)
    state = [[torch.zeros_like(p), torch.zeros_like(p)] for p, _, _ in peer.groups]

    steps = ROWS // BATCH
    rates = recipes.rates(recipe, steps * EPOCHS)
    factors = recipes.dropouts_and_decays(recipe, steps * EPOCHS)
    got, wanted = [], []
    for epoch in range(EPOCHS):
        order = rng.permutation(ROWS)
        now = slice(epoch * steps, (epoch + 1) * steps)
        losses = np.empty(steps)
        engine.epoch(X, y, None, order, rates[now], losses, None, factors[now], factors[now])
        got += losses.tolist()
        for s in range(steps):
            rows = order[s * BATCH : (s + 1) * BATCH]
            f, targets = peer.forward(torch.tensor(X[rows])), torch.tensor(y[rows])
            if regression:
                value = 0.5 * ((f - targets) ** 2).mean()
            else:
                value = torch.nn.functional.cross_entropy(f, targets, label_smoothing=smoothing)
            wanted.append(value.item())
            t = epoch * steps + s + 1
            peer.step(value, t, rates[t - 1], recipe.decay * factors[t - 1], state)
    # 30 steps; each divides by √s, where a rounding of a small gradient counts in full.
    np.testing.assert_allclose(got, wanted, rtol=1e-7)
    for ours, theirs, start in zip(engine.get_parameters(), peer.plain(), values, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-6 * max(np.abs(theirs - start).max(), 1e-12)
