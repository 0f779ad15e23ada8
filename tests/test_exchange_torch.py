"""PyTorch, both ways, with the real library where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_cases import DTYPES
from exchange_cases import NETWORKS, assert_same, case_of, model_of, wanted

import fastbp
from fastbp import activations

torch = pytest.importorskip("torch", reason="torch is an optional peer and is not installed")
nn = torch.nn
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_bit_for_bit_there_and_back(name, dtype) -> None:
    model = model_of(case_of(name, dtype))
    assert_same(fastbp.MLP.from_torch(model.to_torch(), loss=model.plan.loss), model)


@dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_the_reference_engine(name, dtype) -> None:
    case = case_of(name, dtype)
    with torch.no_grad():
        f = model_of(case).to_torch()(torch.from_numpy(case.X)).numpy()
    want = wanted(case)
    assert (np.abs(f - want.f) <= want.f_bound).all()


def test_dropout_goes_along() -> None:
    model = fastbp.MLP([3, 4, 5, 2], dropout=[0.25, 0.0], seed=0)
    module = model.to_torch()
    assert [type(m).__name__ for m in module] == [
        *("Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear")
    ]
    back = fastbp.MLP.from_torch(module, loss="cross_entropy")
    assert back.plan.dropout == (0.25, 0.0)
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    assert list(state) == list(model.state_dict())


def test_state_dict_loads_as_it_is(tmp_path) -> None:
    model = fastbp.MLP([3, 4, 5, 2], dropout=[0.25, 0.0], seed=0)
    other = fastbp.MLP([3, 4, 5, 2], dropout=[0.25, 0.0], seed=1).to_torch()
    other.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})
    assert_same(fastbp.MLP.from_torch(other, loss=model.plan.loss), model)
    load_file = pytest.importorskip("safetensors.torch").load_file
    third = fastbp.MLP([3, 4, 5, 2], dropout=[0.25, 0.0], seed=2).to_torch()
    model.to_safetensors(tmp_path / "m.safetensors")
    third.load_state_dict(load_file(tmp_path / "m.safetensors"))
    assert_same(fastbp.MLP.from_torch(third, loss=model.plan.loss), model)
    assert_same(fastbp.MLP.from_state_dict(third.state_dict(), loss=model.plan.loss), model)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_files_that_torch_writes(kind, tmp_path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(getattr(torch, kind))
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    model = fastbp.MLP.from_safetensors(tmp_path / "m.safetensors", activation="tanh")
    assert model.plan.dtype == ("float64" if kind == "float64" else "float32")
    for W, linear in zip(model.weights, [module[0], module[2]], strict=True):
        want = linear.weight.detach().to(getattr(torch, model.plan.dtype)).numpy()
        np.testing.assert_array_equal(W, want)
    assert_same(fastbp.MLP.from_torch(module), model)
    with pytest.raises(ValueError, match="does not say what its activations are"):
        fastbp.MLP.from_safetensors(tmp_path / "m.safetensors")


def test_the_prediction_of_the_module_is_that_of_the_model() -> None:
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((7, 3)).astype("f4"))
    for last, loss in [
        (None, "squared_error"),
        (nn.Softmax(1), "softmax_cross_entropy"),
        (nn.Sigmoid(), "binary_cross_entropy"),
    ]:
        body = [nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)]
        module = nn.Sequential(*body, *([] if last is None else [last]))
        model = fastbp.MLP.from_torch(module)
        assert model.plan.loss.name == loss
        assert model.plan.activations == (activations.get("sigmoid"),)
        want = module(X).detach().numpy()
        got = model.predict(X) if last is None else model.predict_proba(X)
        # Sums of 4 terms of order 1, twice
        np.testing.assert_allclose(got, want, atol=16 * np.finfo("f4").eps, rtol=0)


def test_nested_and_bare() -> None:
    inner = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 5))
    model = fastbp.MLP.from_torch(nn.Sequential(inner, nn.ReLU(), nn.Linear(5, 2)))
    assert model.plan.activations == (activations.get("identity"), activations.get("relu"))
    assert (model.biases[0] == 0).all()
    before = model.parameters[0].copy()
    with torch.no_grad():
        inner[0].weight += 1  # what goes on there does not show here
    np.testing.assert_array_equal(model.parameters[0], before)


def shared() -> Any:
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    b.weight = a.weight
    return nn.Sequential(a, nn.ReLU(), b)


def linear() -> Any:
    return nn.Linear(3, 3)


REFUSED: dict[str, tuple[Any, str]] = {
    "BatchNorm": (
        lambda: nn.Sequential(linear(), nn.BatchNorm1d(3), linear()),
        r"layer 1: fastbp has no BatchNorm1d\(3",
    ),
    "LayerNorm": (lambda: nn.Sequential(linear(), nn.LayerNorm(3)), "has no LayerNorm"),
    "tied weights": (shared, r"layer 2 \(Linear\): shares a parameter with layer 0 \(Linear\)"),
    "tanh-GELU": (
        lambda: nn.Sequential(linear(), nn.GELU(approximate="tanh"), linear()),
        r"fastbp has no GELU\(approximate='tanh'\)",
    ),
    "a subclass": (
        lambda: nn.Sequential(type("Mine", (nn.Linear,), {})(3, 3)),
        "fastbp has no Mine",
    ),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(linear())),
        "fastbp has no Parametrized",
    ),
    "softplus with another β": (
        lambda: nn.Sequential(linear(), nn.Softplus(beta=2), linear()),
        "fastbp has no Softplus",
    ),
    "an inner one": (
        lambda: nn.Sequential(nn.Sequential(linear(), nn.PReLU()), linear()),
        r"layer 0\.1: fastbp has no PReLU",
    ),
    "softmax between": (
        lambda: nn.Sequential(linear(), nn.Softmax(1), linear()),
        r"layer 2 \(Linear\): comes after softmax, which only the outputs can have",
    ),
    "relu at the end": (
        lambda: nn.Sequential(linear(), nn.ReLU()),
        r"layer 1 \(ReLU\): relu of the outputs",
    ),
    "activation first": (
        lambda: nn.Sequential(nn.ReLU(), linear()),
        r"layer 0 \(ReLU\): an MLP has an activation only after a dense layer",
    ),
    "two": (
        lambda: nn.Sequential(linear(), nn.ReLU(), nn.Tanh(), linear()),
        r"layer 2 \(Tanh\): an MLP has an activation only after",
    ),
    "dropout first": (
        lambda: nn.Sequential(nn.Dropout(0.1), linear()),
        r"layer 0 \(Dropout\): an MLP has no dropout of its inputs",
    ),
    "dropout last": (
        lambda: nn.Sequential(linear(), nn.Dropout(0.1)),
        r"layer 1 \(Dropout\): an MLP has no dropout of its outputs",
    ),
    "dropout of everything": (
        lambda: nn.Sequential(linear(), nn.Dropout(1.0), linear()),
        "dropout must be a finite number ≥ 0 and < 1",
    ),
    "layers that do not fit": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2)),
        r"layer 1 \(Linear\): takes 5 inputs, but gets 4",
    ),
    "two dtypes": (
        lambda: nn.Sequential(linear(), nn.Linear(3, 2, dtype=torch.float64)),
        r"layer 1 \(Linear\): all layers must have one dtype",
    ),
    "nothing": (lambda: nn.Sequential(), "the model: has no dense layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name) -> None:
    make, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        fastbp.MLP.from_torch(make())


def test_what_is_no_sequential() -> None:
    for other in (nn.Linear(2, 2), 3, None):
        with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Sequential, got"):
            fastbp.MLP.from_torch(other)


def test_a_loss_of_another_link() -> None:
    module = nn.Sequential(linear(), nn.Softmax(1))
    with pytest.raises(ValueError, match="ends in softmax, but loss 'poisson' has predictions by"):
        fastbp.MLP.from_torch(module, loss="poisson")


@dtypes
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.filterwarnings("ignore")
def test_onnx_files_that_torch_writes(dynamo, opset, dtype, tmp_path) -> None:
    pytest.importorskip("onnx")
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript")
    layers = [nn.SiLU(), nn.GELU(), nn.ELU(), nn.Softplus(), nn.LeakyReLU(0.2), nn.Tanh()]
    body = [part for layer in layers for part in (nn.Linear(4, 4), layer)]
    module = nn.Sequential(*body, nn.Linear(4, 3, bias=False), nn.Softmax(1)).eval()
    module.to(getattr(torch, dtype))
    path = tmp_path / "m.onnx"
    more = {"external_data": False} if dynamo else {}
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 4)).astype(dtype))
    torch.onnx.export(module, (X,), path, dynamo=dynamo, opset_version=opset, **more)
    model = fastbp.MLP.from_onnx(path)
    assert [a.name for a in model.plan.activations] == [
        *("silu", "gelu", "elu", "softplus", "leaky_relu", "tanh")
    ]
    for W, part in zip(model.weights, body[::2], strict=False):
        np.testing.assert_array_equal(W, part.weight.detach().numpy())
    # Seven layers of sums of 4 terms of order 1; torch's softplus is off by 2e-9 from z = 20 on.
    want = module(X).detach().numpy()
    np.testing.assert_allclose(model.predict_proba(X), want, atol=200 * np.finfo(dtype).eps, rtol=0)
