"""Ranges of every declared number, defaults, and what the errors say."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from functools import partial

import numpy as np
import pytest

import fastbp
from fastbp import activations, losses, optimizers
from fastbp._validation import check_finite_number, check_integer, nearest_name
from fastbp.activations import Activation
from fastbp.losses import Loss
from fastbp.optimizers import SGD, Adam, AdamW, RMSprop
from fastbp.schedules import Constant, Cosine, InverseScaling, OneCycle, Step

INF = math.inf
RANGES = [
    (partial(Activation, "elu"), "parameter", "[", 0, INF, ")"),
    (partial(Loss, "huber"), "parameter", "(", 0, INF, ")"),
    (partial(Loss, "softmax_cross_entropy"), "parameter", "[", 0, 0.5, ")"),
    (partial(Loss, "binary_cross_entropy"), "parameter", "[", 0, 0.5, ")"),
    (SGD, "momentum", "[", 0, 1, "]"),
    (RMSprop, "rho", "[", 0, 1, ")"),
    (RMSprop, "epsilon", "(", 0, INF, ")"),
    (Adam, "beta_1", "[", 0, 1, ")"),
    (Adam, "beta_2", "[", 0, 1, ")"),
    (Adam, "epsilon", "(", 0, INF, ")"),
    (AdamW, "beta_1", "[", 0, 1, ")"),
    (AdamW, "weight_decay", "[", 0, INF, ")"),
    (Constant, "rate", "[", 0, INF, ")"),
    (partial(InverseScaling), "initial", "[", 0, INF, ")"),
    (partial(InverseScaling, 0.1), "scale", "(", 0, INF, ")"),
    (partial(InverseScaling, 0.1), "power", "[", 0, INF, ")"),
    (partial(Step, every=2), "initial", "[", 0, INF, ")"),
    (partial(Step, 0.1, every=2), "factor", "[", 0, 1, "]"),
    (partial(Cosine, steps=5), "initial", "[", 0, INF, ")"),
    (partial(Cosine, 0.1, steps=5), "final", "[", 0, INF, ")"),
    (partial(OneCycle, steps=5), "peak", "[", 0, INF, ")"),
    (partial(OneCycle, 0.1, steps=5), "warmup", "[", 0, 1, "]"),
    (partial(OneCycle, 0.1, steps=5), "start", "[", 0, 1, "]"),
    (partial(OneCycle, 0.1, steps=5), "final", "[", 0, 1, "]"),
]


@pytest.mark.parametrize(("make", "name", "left", "low", "high", "right"), RANGES)
def test_ranges_to_the_last_place(make, name, left, low, high, right):
    least = low if left == "[" else math.nextafter(low, INF)
    most = high if right == "]" else math.nextafter(high, -INF)
    for value in (least, most):
        assert getattr(make(**{name: value}), name) == value
    below, above = math.nextafter(least, -INF), math.nextafter(most, INF)
    for value in (below, least - 1, above, 2 * most + 1, math.nan):
        with pytest.raises(ValueError, match="must be"):
            make(**{name: value})


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(Step, 0.1), "every"),
        (partial(Cosine, 0.1), "steps"),
        (partial(OneCycle, 1), "steps"),
    ],
)
def test_counts_begin_at_one(make, name):
    assert getattr(make(**{name: 1}), name) == 1
    with pytest.raises(ValueError, match=f"{name} must be an integer ≥ 1, got 0"):
        make(**{name: 0})


DEFAULTS = {
    "SGD(momentum=0.0, nesterov=False)": SGD(),
    "RMSprop(rho=0.9, epsilon=1e-08)": RMSprop(),
    "Adam(beta_1=0.9, beta_2=0.999, epsilon=1e-08)": Adam(),
    "AdamW(beta_1=0.9, beta_2=0.999, epsilon=1e-08, weight_decay=0.01)": AdamW(),
    "InverseScaling(initial=0.2, scale=1.0, power=0.5)": InverseScaling(0.2),
    "Step(initial=0.2, every=3, factor=0.1)": Step(0.2, every=3),
    "Cosine(initial=0.2, steps=3, final=0.0)": Cosine(0.2, steps=3),
    "OneCycle(peak=0.2, steps=3, warmup=0.3, start=0.04, final=0.0)": OneCycle(0.2, steps=3),
    "Constant(rate=0.2)": Constant(0.2),
    "Activation(name='leaky_relu', parameter=0.01)": activations.get("leaky_relu"),
    "Activation(name='elu', parameter=1.0)": activations.get("elu"),
    "Loss(name='huber', parameter=1.0)": losses.get("huber"),
}


@pytest.mark.parametrize("text", list(DEFAULTS))
def test_defaults_and_that_they_stay(text):
    made = DEFAULTS[text]
    assert repr(made) == text
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(made)[0].name, 0.5)


@pytest.mark.parametrize("given", [{"lr": 0.1}, {"learning_rate": 0.1}, {"beta1": 0.9}, None])
@pytest.mark.parametrize("kind", [SGD, RMSprop, Adam, AdamW])
def test_a_rate_is_no_argument_of_an_optimizer(kind, given):
    """By position it would be taken for μ, ρ or β₁, without a word."""
    with pytest.raises(TypeError) as caught:
        kind(0.001) if given is None else kind(**given)
    first = dataclasses.fields(kind)[0].name
    assert re.match(rf"{kind.__name__} takes {first}=.* by name, got", str(caught.value))
    assert "learning_rate of fit" in str(caught.value)
    assert "learning_rate_init" in str(caught.value)


@pytest.mark.parametrize(
    "kind", [SGD, RMSprop, Adam, AdamW, InverseScaling, Step, Cosine, OneCycle]
)
def test_arguments_by_name_show_in_the_signature(kind):
    names = [f.name for f in dataclasses.fields(kind)]
    assert list(inspect.signature(kind).parameters) == names


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: InverseScaling(0.1, 0.5), "InverseScaling takes scale=, power= by name"),
        (lambda: Step(0.1, 10), "Step takes every=, factor= by name"),
        (lambda: Cosine(0.1, 10), "Cosine takes steps=, final= by name"),
        (lambda: OneCycle(0.1, 10), "OneCycle takes steps=, warmup="),
        (lambda: Cosine(0.1, epochs=10), r"got Cosine\(0.1, epochs=10\)"),
    ],
)
def test_a_schedule_takes_all_but_its_rate_by_name(make, named):
    with pytest.raises(TypeError, match=named):
        make()


@pytest.mark.parametrize(
    ("optimizer", "plain"),
    [
        (SGD(momentum=np.float64(0.5), nesterov=np.True_), SGD(momentum=0.5, nesterov=True)),
        (RMSprop(rho=np.float32(0.5), epsilon=1), RMSprop(rho=0.5, epsilon=1.0)),
        (AdamW(beta_1=np.float64(0.5), weight_decay=0), AdamW(beta_1=0.5, weight_decay=0.0)),
    ],
)
def test_an_optimizer_of_numpy_numbers_looks_like_one_of_plain_ones(optimizer, plain):
    """A checkpoint holds what it looks like."""
    assert repr(optimizer) == repr(plain)


def test_a_parameter_that_is_not_used_is_zero():
    unused = set(activations.ACTIVATIONS) - {"leaky_relu", "elu"}
    assert {activations.get(name).parameter for name in unused} == {0.0}
    unused = set(losses.LOSSES) - {"huber", "pinball"}
    assert {losses.get(name).parameter for name in unused} == {0.0}


@pytest.mark.parametrize(
    ("name", "optimizer", "rate", "slots"),
    [
        ("sgd", SGD(momentum=0.0), 0.01, 0),
        ("momentum", SGD(momentum=0.9), 0.01, 1),
        ("nesterov", SGD(momentum=0.9, nesterov=True), 0.01, 1),
        ("rmsprop", RMSprop(rho=0.9), 0.001, 1),
        ("adam", Adam(beta_1=0.9), 0.001, 2),
        ("adamw", AdamW(beta_1=0.9), 0.001, 2),
    ],
)
def test_optimizers_by_name(name, optimizer, rate, slots):
    assert optimizers.get(name) == optimizer
    assert (optimizer.default_learning_rate, optimizer.slots) == (rate, slots)


def test_names_of_no_function_are_refused_by_the_classes_too():
    for make in (Activation, Loss, activations.get, losses.get):
        with pytest.raises(ValueError, match=r"unknown .* 'nonsense'"):
            make("nonsense")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "a finite number"),
        ({"minimum": 1}, "a finite number ≥ 1"),
        ({"maximum": -1}, "a finite number ≤ -1"),
        ({"minimum": 1, "maximum": 2}, "a finite number ≥ 1 and ≤ 2"),
        ({"minimum": 1, "maximum": 2, "open_minimum": True}, "a finite number > 1 and ≤ 2"),
        ({"minimum": 1, "maximum": 2, "open_maximum": True}, "a finite number ≥ 1 and < 2"),
    ],
)
def test_what_a_number_must_be(options, wanted):
    for error, value in (
        (TypeError, "1"),
        (TypeError, True),
        (ValueError, INF),
        (ValueError, -INF),
    ):
        with pytest.raises(error) as raised:
            check_finite_number("x", value, **options)
        assert str(raised.value) == f"x must be {wanted}, got {value!r}"
    assert check_finite_number("x", np.float32(-1e30)) == float(np.float32(-1e30))


@pytest.mark.parametrize("maximum", [None, 5])
def test_what_an_integer_must_be(maximum):
    wanted = "an integer ≥ 3" + (" and ≤ 5" if maximum else "")
    for error, value in (
        (TypeError, 3.0),
        (TypeError, True),
        (ValueError, 2),
        (ValueError, -(10**30)),
    ):
        with pytest.raises(error, match=re.escape(f"n must be {wanted}, got {value!r}")):
            check_integer("n", value, minimum=3, maximum=maximum)
    for value in (3, 4, 5, np.int8(5)):
        assert check_integer("n", value, minimum=3, maximum=maximum) == value
    if maximum:
        with pytest.raises(ValueError, match=r"n must be .*, got 6"):
            check_integer("n", 6, minimum=3, maximum=maximum)
    else:
        assert check_integer("n", 10**30, minimum=3) == 10**30


def test_the_nearest_name_is_suggested():
    names = ["adam", "adamw", "sgd"]
    assert nearest_name("optimizer", "adma", names) == (
        "unknown optimizer 'adma'; did you mean 'adam'? Valid names: adam, adamw, sgd"
    )
    assert nearest_name("optimizer", "x", names) == (
        "unknown optimizer 'x'. Valid names: adam, adamw, sgd"
    )


def test_a_layer_past_the_address_space_names_its_bytes():
    inputs, outputs = 2**31 + 1, 2**32
    need = f"{4 * outputs * (inputs + 1):,}"
    with pytest.raises(MemoryError, match=f"a layer of {inputs} × {outputs} needs {need} bytes"):
        fastbp.MLP([inputs, outputs], weight_init="zeros")
