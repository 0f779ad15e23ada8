"""What the engine tests share: the engines there are, small training problems, the calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from fastbp import activations, losses
from fastbp.engines import Engine, Plan, create, jit, native
from fastbp.engines.reference import ReferenceEngine
from fastbp.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from fastbp.stages import dense

Array = NDArray[Any]

# As a user names them
ENGINES = ["reference", *(e.__name__.rpartition(".")[2] for e in (native, jit) if e.available())]
DTYPES = ["float32", "float64"]
KINKED = {"relu", "leaky_relu"}
# Every instruction set that this CPU has, not only the one that would be chosen
ISAS = [isa for isa in native.usable() if isa in native.usable("float64")]
EACH_ENGINE = [*(e for e in ENGINES if e != "native"), *(f"native-{isa}" for isa in ISAS)]


def new_engine(plan: Plan, name: str) -> Engine:
    """Make the engine of that name; "native-ISA" is that instruction set's module of the plan's kind."""
    kind, _, isa = name.partition("-")
    if isa:
        module = native.module(isa, plan.precision or plan.dtype)
        engine: Engine = module.Engine(plan, native.COSTS)
        return engine
    return create(plan, kind)


# Those of precision "bf16", which the JIT engine lacks
BF16_ENGINES = ["reference", *(f"native-{isa}" for isa in native.usable("bf16"))]

# For native.COSTS: as many threads as there may be, however little work, and pieces that they may
# take over from each other as small as can be.
EVERY_THREAD = {"flops_per_thread": 1, "flops_per_wait": 0, "flops_taken": 1, "rows_taken": 1}


def cut_at(rows: int) -> dict[str, int]:
    """`EVERY_THREAD`, and phase 1 cut by columns wherever a thread has fewer rows than these."""
    cut = {"rows_to_split": rows, "rows_to_split_unevenly": rows}
    return EVERY_THREAD | cut | {"bytes_to_split": 0, "bytes_of_columns": 0}


@dataclass(frozen=True)
class Case:
    """A plan, parameters for it and data. All values are float32 numbers, whatever the dtype."""

    plan: Plan
    parameters: list[Array]
    X: Array
    y: Array
    sample_weight: Array | None

    def astype(self, dtype: str) -> Case:
        """Return the same problem in another dtype; exact in both directions."""
        labels = self.y.ndim == 1
        return replace(
            self,
            plan=replace(self.plan, dtype=dtype),
            parameters=[W.astype(dtype) for W in self.parameters],
            X=self.X.astype(dtype),
            y=self.y if labels else self.y.astype(dtype),
            sample_weight=None if self.sample_weight is None else self.sample_weight.astype(dtype),
        )


def make_case(
    sizes: tuple[int, ...],
    hidden: str | activations.Activation | tuple[str, ...] = "tanh",
    loss: str | losses.Loss = "squared_error",
    *,
    dtype: str = "float64",
    rows: int = 11,
    data_seed: int = 0,
    labels: bool = False,
    weighted: bool = False,
    dropout: tuple[float, ...] = (),
    **plan_fields: Any,
) -> Case:
    """Draw a problem: unit-variance inputs, weights that keep the variance, targets of the loss."""
    names = hidden if isinstance(hidden, tuple) else (hidden,) * (len(sizes) - 2)
    phi = [activations.get(a) for a in names]
    plan = Plan(dense(sizes, phi, dropout), losses.get(loss), dtype="float64", **plan_fields)
    rng = np.random.default_rng(data_seed)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    parameters = [
        (normal(n, k + 1) / np.sqrt(k + 1)).astype(np.float32).astype(np.float64)
        for k, n in itertools.pairwise(sizes)
    ]
    y = targets(plan.loss.name, rows, sizes[-1], rng, labels=labels)
    weights = rng.integers(1, 9, rows) / 4 if weighted else None
    return Case(plan, parameters, normal(rows, sizes[0]), y, weights).astype(dtype)


def targets(
    loss: str, rows: int, outputs: int, rng: np.random.Generator, *, labels: bool = False
) -> Array:
    """Draw targets of the form the loss takes."""
    if labels:
        return rng.integers(0, outputs, rows)
    if loss == "softmax_cross_entropy":
        y = rng.dirichlet(np.ones(outputs), rows).reshape(rows, outputs)
    elif loss == "binary_cross_entropy":
        y = rng.integers(0, 5, (rows, outputs)) / 4  # 0 and 1 among them
    elif loss == "poisson":
        y = rng.poisson(1.5, (rows, outputs)).astype(np.float64)  # 0 among them
    else:
        y = rng.standard_normal((rows, outputs))
    return y.astype(np.float32).astype(np.float64)


def smooth_case(*args: Any, **kwargs: Any) -> Case:
    """`make_case` with the first seed that leaves 1e-3 between every kink and the data.

    Kinks are z = 0 for relu, leaky_relu and elu, a residual of 0 for absolute_error, ±δ for huber.
    """
    for seed in range(1000):
        case = make_case(*args, data_seed=seed, **kwargs)
        if kink_distance(case) >= 1e-3:
            return case
    raise AssertionError("no seed keeps the data away from the kinks")


def kink_distance(case: Case) -> float:
    exact = case.astype("float64")
    z, _ = oracle(exact).trace(exact.X)
    nearest = [np.inf]
    for values, activation in zip(z, case.plan.activations, strict=False):
        if activation.name in KINKED | {"elu"}:
            nearest.append(np.abs(values).min())
    loss = case.plan.loss
    if loss.name == "absolute_error":
        nearest.append(np.abs(z[-1] - exact.y).min())
    if loss.name == "huber":
        nearest.append(np.abs(np.abs(z[-1] - exact.y) - loss.parameter).min())
    return float(min(nearest))


def with_activations(plan: Plan, *phi: activations.Activation) -> Plan:
    """The same plan with these φ of the hidden layers."""
    return replace(plan, stages=dense(plan.layer_sizes, phi, plan.dropout))


def make_engine(name: str, case: Case, **plan_changes: Any) -> Engine:
    """Make the engine of that name, with the case's parameters."""
    engine = new_engine(replace(case.plan, **plan_changes), name)
    engine.set_parameters(case.parameters)
    return engine


def in_bf16(case: Case) -> Case:
    """The same in precision "bf16"."""
    return replace(case, plan=replace(case.plan, precision="bf16"))


def oracle(case: Case) -> ReferenceEngine:
    """Make the reference engine in float64, nothing rounded, with the case's parameters."""
    engine = ReferenceEngine(replace(case.plan, dtype="float64", precision=None))
    engine.set_parameters(case.parameters)
    return engine


# The calls of the contract, with results returned rather than written.


def forward(engine: Engine, X: Array, *, link: bool = False) -> Array:
    out = np.full((len(X), engine.plan.layer_sizes[-1]), np.nan, engine.plan.dtype)
    engine.forward(X, out, link=link)
    return out


def classify(engine: Engine, X: Array) -> Array:
    out = np.full(len(X), -1)
    engine.classify(X, out)
    return out


def gradient(engine: Engine, case: Case) -> tuple[float, list[Array]]:
    out = [np.full(W.shape, np.nan, engine.plan.dtype) for W in case.parameters]
    return engine.gradient(case.X, case.y, case.sample_weight, out), out


def jacobian(engine: Engine, X: Array) -> Array:
    sizes = engine.plan.layer_sizes
    out = np.full((len(X), sizes[-1], sizes[0]), np.nan, engine.plan.dtype)
    engine.jacobian(X, out)
    return out


def epoch(
    engine: Engine, case: Case, rate: float = 0.1, order: Array | None = None
) -> tuple[int, Array]:
    """One epoch at a constant learning rate; returns the steps applied and the losses."""
    order = np.arange(len(case.X)) if order is None else order
    steps = -(-len(order) // engine.plan.batch_size)
    step_losses = np.full(steps, np.nan)
    rates = np.full(steps, rate)
    applied = engine.epoch(case.X, case.y, case.sample_weight, order, rates, step_losses)
    return applied, step_losses


def assert_keeps_and_restores(engine: Engine, other: Engine, case: Case) -> None:
    """Both have the case's parameters; the second is left alone meanwhile."""
    assert engine.keep()
    epoch(engine, case)
    assert any(
        (p != W).any() for W, p in zip(engine.get_parameters(), case.parameters, strict=True)
    )
    state = engine.get_optimizer_state()
    engine.restore()
    after = engine.get_optimizer_state()
    assert after[0] == state[0] > 0
    for slot, was in zip(after[1], state[1], strict=True):
        for got, wanted in zip(slot, was, strict=True):
            np.testing.assert_array_equal(got, wanted)
    other.set_optimizer_state(*state)
    for _ in range(2):  # what was kept stays, and is not what is trained on
        pairs = [(gradient(engine, case)[1], gradient(other, case)[1])]
        pairs += [(engine.get_parameters(), other.get_parameters())]
        pairs += [([jacobian(engine, case.X)], [jacobian(other, case.X)])]
        assert engine.keep()
        for each in (engine, other):
            epoch(each, case)
        pairs += [(engine.get_parameters(), other.get_parameters())]
        for found, wanted in pairs:
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(a, b)
        engine.restore()
        other.set_parameters(case.parameters)
        engine.set_optimizer_state(*state)
        other.set_optimizer_state(*state)


_TAILS: dict[str, Any] = {
    "sizes": (37, 101, 53, 5),
    "hidden": ("relu", "gelu"),
    "loss": "softmax_cross_entropy",
    "rows": 150,
    "labels": True,
    "weighted": True,
    "batch_size": 61,
    "optimizer": Adam(),
    "dropout": (0.25, 0.5),
    "clip_norm": 0.5,
    "l2": 0.01,
    "seed": 3,
}

# What the tests of threads train: sizes with tails everywhere, and sizes that are worth a thread each
THREAD_SHAPES: dict[str, dict[str, Any]] = {
    "tails": _TAILS,
    "wide": {
        "sizes": (300, 512, 257, 10),
        "hidden": "tanh",
        "loss": "squared_error",
        "rows": 300,
        "batch_size": 128,
        "optimizer": SGD(momentum=0.9, nesterov=True),
    },
    "plain": {
        "sizes": (65, 96, 33, 3),
        "hidden": "relu",
        "loss": "softmax_cross_entropy",
        "rows": 200,
        "labels": True,
        "batch_size": 97,
        "optimizer": SGD(),
    },
    "shards of the rows": _TAILS  # 4; with the last minibatch few rows are in one
    | {"sizes": (37, 65, 33, 3), "rows": 1069, "batch_size": 531},
    "shards of the rows, plain": {  # 2
        "sizes": (33, 64, 10),
        "hidden": "tanh",
        "loss": "squared_error",
        "rows": 700,
        "batch_size": 300,
        "optimizer": SGD(),
    },
    "online": {
        "sizes": (37, 230, 33, 3),
        "hidden": ("relu", "silu"),
        "loss": "softmax_cross_entropy",
        "rows": 40,
        "labels": True,
        "weighted": True,
        "batch_size": 1,
        "optimizer": SGD(),
        "dropout": (0.25, 0.5),
        "seed": 3,
    },
    "one hidden layer": {
        "sizes": (33, 250, 7),
        "hidden": "gelu",
        "loss": "softmax_cross_entropy",
        "rows": 120,
        "labels": True,
        "batch_size": 17,
        "optimizer": AdamW(),
        "dropout": (0.25,),
        "l1": 0.001,
        "l2": 0.01,
        "seed": 3,
    },
    "one hidden layer, long minibatches": {
        "sizes": (70, 128, 10),
        "hidden": "relu",
        "loss": "softmax_cross_entropy",
        "rows": 500,
        "labels": True,
        "batch_size": 150,
        "optimizer": SGD(),
    },
    "no hidden layer online": {
        "sizes": (37, 20),
        "hidden": (),
        "loss": "softmax_cross_entropy",
        "rows": 200,
        "labels": True,
        "batch_size": 1,
        "optimizer": SGD(),
    },
    "one hidden layer online": {
        "sizes": (70, 256, 1),
        "hidden": "tanh",
        "loss": "squared_error",
        "rows": 60,
        "batch_size": 1,
        "optimizer": SGD(),
    },
}


def everything(engine: Engine, case: Case) -> list[Array]:
    """The weights after three epochs, the losses on the way, and what every call returns then."""
    rng = np.random.default_rng(0)
    losses = [epoch(engine, case, 0.01, rng.permutation(len(case.X)))[1] for _ in range(3)]
    loss, g = gradient(engine, case)
    return [
        *engine.get_parameters(),
        *losses,
        np.array(loss),
        np.array(engine.loss(case.X, case.y, case.sample_weight)),
        *g,
        forward(engine, case.X),
        jacobian(engine, case.X[:3]),
    ]


def steps_with(engine: Engine, case: Case, rate: float, order: Array) -> Array:
    """Losses of an epoch in which rate, dropout and decay change at every step."""
    steps = -(-len(order) // engine.plan.batch_size)
    losses = np.full(steps, np.nan)
    rates = rate * np.linspace(1, 0.5, steps)
    dropouts, decays = np.linspace(1, 0, steps), np.linspace(0, 1, steps)
    applied = engine.epoch(
        case.X, case.y, case.sample_weight, order, rates, losses, None, dropouts, decays
    )
    assert applied == steps
    return losses


def assert_trained_alike(engines: Sequence[Engine], case: Case) -> None:
    """Parameters of an engine and of the reference, after an epoch of a few steps from the case's."""
    for got, wanted, start in zip(
        *(e.get_parameters() for e in engines), case.parameters, strict=True
    ):
        # 23 steps at the most, each as wrong as 1e-12 of a step, and the optimizer's memory of them
        moved = np.abs(wanted - start).max()
        assert np.abs(got - wanted).max() <= 1e-9 * moved


def assert_same_on_any_threads(train: Callable[[int], list[Array]], rows: int) -> None:
    """What `train` returns for so many threads, where `rows` decides how they share a step."""
    with patch.dict(native.COSTS, cut_at(rows)):
        one = train(1)
        for threads in (2, 3):
            for got, wanted in zip(train(threads), one, strict=True):
                np.testing.assert_array_equal(got, wanted)


# What each makes of an error in g (see `epoch_bound`), and a rate that suits it. The ε are large:
# with a tiny one, g / (√s + ε) is the sign of g, even where g is all rounding error.
OPTIMIZERS: dict[str, tuple[Optimizer, float, float]] = {
    "sgd": (SGD(), 1, 0.1),
    "momentum": (SGD(momentum=0.75), 4, 0.05),
    "nesterov": (SGD(momentum=0.75, nesterov=True), 4, 0.05),
    "rmsprop": (RMSprop(rho=0.8, epsilon=0.0625), 32, 0.01),
    "adam": (Adam(beta_1=0.75, beta_2=0.9, epsilon=0.0625), 32, 0.01),
    "adamw": (AdamW(beta_1=0.75, beta_2=0.9, epsilon=0.0625, weight_decay=0.5), 32, 0.01),
}
