"""Formulas are the reference engine's; that of a user's function is found by its values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engine_cases import make_case
from exchange_cases import model_of

import fastbp
from fastbp.engines.reference import ACTIVATIONS
from fastbp.engines.reference import LINKS as REFERENCE_LINKS
from fastbp.exchange.formulas import FORMULAS, LINKS, Numpy, find, resolve, used_by

Z = np.linspace(-40, 40, 4001)
U = float(np.finfo(np.float64).eps) / 2


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_formulas_are_those_of_the_reference_engine(name: str) -> None:
    for a in (fastbp.activations.ACTIVATIONS[name], 0.3 if name in ("elu", "leaky_relu") else 0.0):
        got, want = FORMULAS[name](Numpy(), Z, a), ACTIVATIONS[name][0](Z, a)
        assert (np.abs(got - want) <= 4 * U * np.abs(want)).all()


@pytest.mark.parametrize("name", LINKS)
def test_links_are_those_of_the_reference_engine(name: str) -> None:
    np.testing.assert_array_equal(LINKS[name](Numpy(), Z, 0.0), REFERENCE_LINKS[name](Z))


# By hand, at one point, to the digits given: the formulas that are not fastbp's own.
@pytest.mark.parametrize(
    ("name", "z", "value"),
    [
        ("selu", -1.0, -1.1113307378125625),
        ("selu", 2.0, 2.1014019747109610),
        ("mish", 1.0, 0.8650983882673103),
        ("softsign", -3.0, -0.75),
        ("squareplus", 1.5, 2.0),
        ("relu6", 7.0, 6.0),
        ("hard_tanh", -2.0, -1.0),
        ("hard_sigmoid", 1.5, 0.75),
        ("hard_swish", 1.5, 1.125),
        ("gelu_tanh", 1.0, 0.8411919906082768),
    ],
)
def test_values(name: str, z: float, value: float) -> None:
    got = float(FORMULAS[name](Numpy(), np.array(z), 0.0))
    assert abs(got - value) <= 8 * U * abs(value)


USERS = {
    "mish": lambda z: z * math.tanh(math.log1p(math.exp(z))),
    "squareplus": lambda z: 0.5 * (z + math.sqrt(z * z + 4)),
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * math.expm1(z)),
    "silu": lambda z: z / (1 + math.exp(-z)),
    "leaky_relu": lambda z: z if z > 0 else 0.37 * z,
    "elu": lambda z: z if z > 0 else 1.5 * math.expm1(z),
    "gelu": lambda z: 0.5 * z * (1 + math.erf(z * math.sqrt(0.5))),
    "relu6": lambda z: min(max(z, 0.0), 6.0),
}


@pytest.mark.parametrize("name", USERS)
def test_a_function_in_python_is_known_by_its_values(name: str) -> None:
    pytest.importorskip("numba")
    mine = fastbp.activation(USERS[name], name="mine")
    found, parameter = resolve(mine)
    assert found == name
    wanted = {"leaky_relu": 0.37, "elu": 1.5}.get(name, 0.0)
    assert abs(parameter - wanted) <= 4 * U * wanted


@pytest.mark.parametrize(
    "f",
    [
        lambda z: z * math.tanh(z),
        lambda z: z if z > 0 else 0.1 * z - 1e-9,  # nearly one
        lambda z: 1.0,
        lambda z: math.sin(z),
        lambda z: max(z, 0.0) if z < 29 else 29.0,
    ],
)
def test_another_is_refused_by_its_name(f, tmp_path) -> None:
    pytest.importorskip("numba")
    mine = fastbp.activation(f, derivative=None, name="mine")
    model = fastbp.MLP([2, 3, 1], activation=mine, loss="squared_error", seed=0)
    match = "activation 'mine' is written in Python and none of the formulas"
    with pytest.raises(ValueError, match=match):
        model.to_c(tmp_path / "net")
    with pytest.raises(ValueError, match=match):
        model.to_python(tmp_path / "net.py")
    assert list(tmp_path.iterdir()) == []


def test_a_function_that_raises_is_refused() -> None:
    mine = fastbp.Activation("mine", function=lambda z: 1 / 0, fingerprint="#0")
    with pytest.raises(ValueError, match="activation 'mine' is written in Python"):
        resolve(mine)
    assert find(lambda z: np.full_like(z, np.nan), dict.fromkeys(FORMULAS, 1.0)) is None


def test_a_loss_in_python_exports_by_its_link(tmp_path) -> None:
    pytest.importorskip("numba")
    loss = fastbp.loss(lambda f, y: max(0.9 * (y - f), 0.1 * (f - y)), name="quantile", link="exp")
    case = make_case((3, 4, 2), "relu", loss, dtype="float32")
    model = model_of(case)
    model.to_python(tmp_path / "net.py")
    scope: dict[str, object] = {}
    exec((tmp_path / "net.py").read_text(), scope)
    got = scope["predict"](case.X)  # type: ignore[operator]
    np.testing.assert_allclose(got, model.predict(case.X), rtol=16 * np.finfo(np.float32).eps)


def test_what_a_formula_uses() -> None:
    assert used_by([FORMULAS["mish"]]) == {"tanh", "softplus"}
    assert used_by([FORMULAS["identity"]]) == set()
    assert used_by([FORMULAS["elu"], LINKS["sigmoid"]]) == {
        *("if_positive", "expm1", "minimum", "sigmoid")
    }
