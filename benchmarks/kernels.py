"""Single kernels beside those of NumPy and PyTorch, in a process of one thread or of all.

fastbp's kernels run fused into a pass over a net, and are timed through the smallest net that shows
them: a product's roles through nets of one layer (forward; forward and weights' gradient) and of two
equal layers (also the inputs' gradient). The others do exactly the same products.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from benchmarks.contenders import _blas

Call = Callable[[], object]

SHAPES = ((32, 784, 128), (128, 512, 512), (256, 1024, 1024))  # rows, inputs, outputs
ROLES = {"forward": 1, "forward + weights": 2, "forward + weights + data": 5}  # products
FUNCTIONS = ("logistic", "tanh", "softplus", "exp")
LOSSES = ("softmax_cross_entropy", "binary_cross_entropy", "squared_error", "huber", "poisson")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")
ELEMENTS = 1 << 16  # of an activation
LOSS_SHAPE = (4096, 10)
UPDATE_SHAPE = (1024, 1024)
PEERS = ("fastbp", "numpy", "torch")

# name: (group, operations, bytes read and written) of a call
KERNELS: dict[str, tuple[str, int, int]] = {}
for _B, _k, _n in SHAPES:
    for _role, _products in ROLES.items():
        _n_role = _k if _products == 5 else _n  # two equal layers
        _flops = 2 * _B * _k * _n_role * _products
        KERNELS[f"matmul {_role} {_B}×{_k}×{_n_role}"] = ("matmul", _flops, 0)
for _name in FUNCTIONS:
    KERNELS[f"activation {_name}"] = ("activations", 0, 8 * ELEMENTS)
for _name in LOSSES:
    KERNELS[f"loss {_name}"] = ("losses", 0, 8 * LOSS_SHAPE[0] * LOSS_SHAPE[1])
for _name in OPTIMIZERS:
    KERNELS[f"optimizer {_name}"] = ("optimizers", 0, 8 * UPDATE_SHAPE[0] * UPDATE_SHAPE[1])


def seconds(contender: str, name: str, calls: int) -> float:
    """Seconds of so many calls, after one to warm up."""
    call = _make(contender, name)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


def choose_threads(contender: str, name: str, threads: int) -> int:
    """Stay with the number of threads, one or all, that is faster at this kernel."""
    if contender not in ("numpy", "torch") or threads == 1:
        return threads
    took = {}
    for count in (1, threads):
        _use_threads(contender, count)
        took[count] = min(seconds(contender, name, 3) for _ in range(5))
    fastest = min(took, key=took.__getitem__)
    _use_threads(contender, fastest)
    return fastest


def _use_threads(contender: str, threads: int) -> None:
    if contender == "torch":
        import torch

        torch.set_num_threads(threads)
    else:
        _blas.limit(threads)


@cache
def _make(contender: str, name: str) -> Call:
    kind, _, what = name.partition(" ")
    call: Call = globals()[f"_{contender}_{kind}"](what)
    call()
    return call


def _matmul_shape(what: str) -> tuple[str, int, int, int]:
    role, _, shape = what.rpartition(" ")
    B, k, n = map(int, shape.split("×"))
    return role, B, k, n


def _normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _targets(loss: str) -> Any:
    """Targets that every loss takes: labels, or numbers from 0 to 1."""
    generator = np.random.default_rng(1)
    if loss == "softmax_cross_entropy":
        return generator.integers(0, LOSS_SHAPE[1], LOSS_SHAPE[0])
    return generator.random(LOSS_SHAPE, dtype=np.float32)


# fastbp


def _fastbp_engine(
    sizes: tuple[int, ...], loss: str, batch_size: int, optimizer: str = "sgd"
) -> Any:
    from fastbp import activations, engines, losses, optimizers, threads
    from fastbp.stages import dense

    plan = engines.Plan(
        dense(sizes, (activations.get("identity"),) * (len(sizes) - 2)),
        losses.get(loss),
        optimizers.get(optimizer),
        batch_size,
        threads=threads.get_num_threads(),
    )
    engine = engines.create(plan)
    engine.set_parameters(
        [_normal(n, k + 1) * np.float32(k**-0.5) for k, n in itertools.pairwise(sizes)]
    )
    return engine


def _fastbp_matmul(what: str) -> Call:
    role, B, k, n = _matmul_shape(what)
    sizes = (k, n, n) if role.endswith("data") else (k, n)
    engine, X, y = _fastbp_engine(sizes, "squared_error", B), _normal(B, k), _normal(B, n, seed=1)
    if role == "forward":
        out = np.empty((B, n), np.float32)
        return lambda: engine.forward(X, out)
    gradient = engine.get_parameters()
    return lambda: engine.gradient(X, y, None, gradient)


def _fastbp_activation(name: str) -> Call:
    from fastbp.engines import native

    isa = native.choice()[0]
    if isa is None:
        raise RuntimeError(f"no native engine: {native.reason()}")
    module = __import__(f"fastbp.engines.native.{isa}.float32.engine", fromlist=["engine"])
    x, out = _normal(ELEMENTS), np.empty(ELEMENTS, np.float32)
    return lambda: module.vector_function(name, x, out)


def _fastbp_loss(name: str) -> Call:
    rows, outputs = LOSS_SHAPE
    engine = _fastbp_engine((1, outputs), name, rows)
    X, y, gradient = _normal(rows, 1), _targets(name), engine.get_parameters()
    return lambda: engine.gradient(X, y, None, gradient)


def _fastbp_optimizer(name: str) -> Call:
    # One row: the gradient is a product of two vectors, next to no arithmetic.
    n, k = UPDATE_SHAPE
    engine = _fastbp_engine((k - 1, n), "squared_error", 1, name)
    X, y, order = _normal(1, k - 1), _normal(1, n), np.zeros(1, np.int64)
    rates, losses = np.full(1, 1e-6), np.empty(1)
    return lambda: engine.epoch(X, y, None, order, rates, losses)


# NumPy


def _numpy_matmul(what: str) -> Call:
    role, B, k, n = _matmul_shape(what)
    x, W, z, gradient = _normal(B, k), _normal(k, n), _normal(B, n), _normal(k, n)
    if role == "forward":
        return lambda: np.matmul(x, W, out=z)

    def layer() -> None:
        np.matmul(x, W, out=z)
        np.matmul(x.T, z, out=gradient)

    def two_layers() -> None:
        np.matmul(x, W, out=z)
        np.matmul(z, W, out=x)
        np.matmul(z.T, x, out=gradient)
        np.matmul(x, W.T, out=z)
        np.matmul(x.T, z, out=gradient)
        x[...] = kept

    kept = x.copy()
    return two_layers if role.endswith("data") else layer


def _numpy_activation(name: str) -> Call:
    x, out = _normal(ELEMENTS), np.empty(ELEMENTS, np.float32)

    def logistic() -> None:
        np.negative(x, out=out)
        np.exp(out, out=out)
        np.add(out, 1, out=out)
        np.reciprocal(out, out=out)

    calls: dict[str, Call] = {
        "logistic": logistic,
        "tanh": lambda: np.tanh(x, out=out),
        "softplus": lambda: np.logaddexp(x, np.float32(0), out=out),
        "exp": lambda: np.exp(x, out=out),
    }
    return calls[name]


def _numpy_loss(name: str) -> Call:
    f, y, rows = _normal(*LOSS_SHAPE), _targets(name), np.arange(LOSS_SHAPE[0])

    def softmax_cross_entropy() -> object:
        shifted = f - f.max(axis=1, keepdims=True)
        p = np.exp(shifted)
        total = p.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - shifted[rows, y]).mean()
        p /= total
        p[rows, y] -= 1
        p /= np.float32(len(f))
        return loss, p

    def binary_cross_entropy() -> object:
        e = np.exp(-np.abs(f))
        loss = (np.maximum(f, 0) - f * y + np.log1p(e)).sum(axis=1).mean()
        return loss, (np.where(f >= 0, 1, e) / (1 + e) - y) / np.float32(len(f))

    def squared_error() -> object:
        r = f - y
        return 0.5 * np.einsum("ij,ij->", r, r) / len(f), r / np.float32(len(f))

    def huber() -> object:
        r = f - y
        c = np.clip(r, -1, 1)
        return (c * (r - 0.5 * c)).sum(axis=1).mean(), c / np.float32(len(f))

    def poisson() -> object:
        mu = np.exp(f)
        constant = y * np.log(np.where(y > 0, y, 1)) - y
        return (mu - y * f + constant).sum(axis=1).mean(), (mu - y) / np.float32(len(f))

    calls = (softmax_cross_entropy, binary_cross_entropy, squared_error, huber, poisson)
    return {call.__name__: call for call in calls}[name]


def _numpy_optimizer(name: str) -> Call:
    W, g, rate = _normal(*UPDATE_SHAPE), _normal(*UPDATE_SHAPE, seed=1), np.float32(1e-6)
    u, s, scratch = np.zeros_like(W), np.ones_like(W), np.empty_like(W)

    def accumulate(mean: Any, value: Any, decay: float) -> None:
        np.multiply(mean, np.float32(decay), out=mean)
        np.multiply(value, np.float32(1 - decay), out=scratch)
        np.add(mean, scratch, out=mean)

    def divide(numerator: Any) -> None:
        np.sqrt(s, out=scratch)
        np.add(scratch, np.float32(1e-8), out=scratch)
        np.divide(numerator, scratch, out=scratch)
        np.multiply(scratch, rate, out=scratch)
        np.subtract(W, scratch, out=W)

    def sgd() -> None:
        np.multiply(g, rate, out=scratch)
        np.subtract(W, scratch, out=W)

    def momentum() -> None:
        np.multiply(u, np.float32(0.9), out=u)
        np.multiply(g, rate, out=scratch)
        np.subtract(u, scratch, out=u)
        np.add(W, u, out=W)

    def nesterov() -> None:
        momentum()
        np.subtract(W, scratch, out=W)
        np.multiply(u, np.float32(-0.1), out=scratch)
        np.add(W, scratch, out=W)

    def rmsprop() -> None:
        accumulate(s, g * g, 0.9)
        divide(g)

    def adam() -> None:
        accumulate(u, g, 0.9)
        accumulate(s, g * g, 0.999)
        divide(u)

    def adamw() -> None:
        np.multiply(W, np.float32(1 - 1e-8), out=W)
        adam()

    calls = (sgd, momentum, nesterov, rmsprop, adam, adamw)
    return {call.__name__: call for call in calls}[name]


# PyTorch


def _torch_matmul(what: str) -> Call:
    import torch

    role, B, k, n = _matmul_shape(what)
    x, W, z = (torch.from_numpy(a) for a in (_normal(B, k), _normal(n, k), _normal(B, n)))
    gradient, again = torch.empty(n, k), x.clone()

    def forward() -> None:
        torch.mm(x, W.T, out=z)

    def layer() -> None:
        forward()
        torch.mm(z.T, x, out=gradient)

    def two_layers() -> None:
        forward()
        torch.mm(z, W.T, out=again)
        torch.mm(again.T, z, out=gradient)
        torch.mm(again, W, out=z)
        torch.mm(z.T, x, out=gradient)

    calls: dict[str, Call] = dict(zip(ROLES, (forward, layer, two_layers), strict=True))
    call = calls[role]

    def inference() -> None:
        with torch.inference_mode():
            call()

    return inference


def _torch_activation(name: str) -> Call:
    import torch

    x, out = torch.from_numpy(_normal(ELEMENTS)), torch.empty(ELEMENTS)
    calls: dict[str, Call] = {
        "logistic": lambda: torch.sigmoid(x, out=out),
        "tanh": lambda: torch.tanh(x, out=out),
        "softplus": lambda: torch.nn.functional.softplus(x),
        "exp": lambda: torch.exp(x, out=out),
    }
    return calls[name]


def _torch_loss(name: str) -> Call:
    import torch

    F = torch.nn.functional
    f, y = torch.from_numpy(_normal(*LOSS_SHAPE)).requires_grad_(), torch.from_numpy(_targets(name))
    losses: dict[str, Callable[[], Any]] = {
        "softmax_cross_entropy": lambda: F.cross_entropy(f, y),
        "binary_cross_entropy": lambda: F.binary_cross_entropy_with_logits(f, y),
        "squared_error": lambda: F.mse_loss(f, y),
        "huber": lambda: F.huber_loss(f, y),
        "poisson": lambda: F.poisson_nll_loss(f, y),
    }

    def call() -> None:
        f.grad = None
        losses[name]().backward()

    return call


def _torch_optimizer(name: str) -> Call:
    import torch

    W = torch.from_numpy(_normal(*UPDATE_SHAPE)).requires_grad_()
    W.grad = torch.from_numpy(_normal(*UPDATE_SHAPE, seed=1))
    o = torch.optim
    made: dict[str, Callable[[], Any]] = {
        "sgd": lambda: o.SGD([W], lr=1e-6, fused=True),
        "momentum": lambda: o.SGD([W], lr=1e-6, momentum=0.9, fused=True),
        "nesterov": lambda: o.SGD([W], lr=1e-6, momentum=0.9, nesterov=True, fused=True),
        "rmsprop": lambda: o.RMSprop([W], lr=1e-6, alpha=0.9, foreach=True),
        "adam": lambda: o.Adam([W], lr=1e-6, fused=True),
        "adamw": lambda: o.AdamW([W], lr=1e-6, fused=True),
    }
    step: Call = made[name]().step
    return step
