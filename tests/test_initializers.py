"""Initial weights: shapes, zero biases, and the variance that each rule promises."""

import math

import numpy as np
import pytest

from fastbp import activations, stages

FAN_IN, FAN_OUT = 300, 200
VARIANCE = {
    "he": 2 / FAN_IN,
    "glorot": 2 / (FAN_IN + FAN_OUT),
    "lecun": 1 / FAN_IN,
}


def draw(name, sizes=(FAN_IN, FAN_OUT), hidden=(), dtype="float32", seed=0):
    phi = [activations.get(a) for a in hidden]
    generator = np.random.default_rng(seed)
    return [
        W for stage in stages.dense(sizes, phi) for W in stage.first_values(name, dtype, generator)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", ["normal", "uniform"])
@pytest.mark.parametrize("rule", list(VARIANCE))
def test_variance(rule, shape, dtype):
    (p,) = draw(f"{rule}_{shape}", dtype=dtype)
    assert p.shape == (FAN_OUT, FAN_IN + 1)
    assert p.dtype == dtype
    assert not p[:, -1].any()
    W = p[:, :-1].astype(np.float64)
    assert W.any(axis=0).all()
    variance, n = VARIANCE[rule], W.size
    # Standard errors of the mean, and of the sample variance: √((κ − 1) / n) with kurtosis κ.
    kurtosis = 3.0 if shape == "normal" else 1.8
    assert abs(W.mean()) < 6 * math.sqrt(variance / n)
    assert abs(np.mean(W**2) / variance - 1) < 6 * math.sqrt((kurtosis - 1) / n)
    if shape == "uniform":
        assert np.abs(W).max() <= math.sqrt(3 * variance) * (1 + np.finfo(dtype).eps)


def test_zeros():
    assert not any(p.any() for p in draw("zeros", (5, 4, 3), ("relu",)))


@pytest.mark.parametrize("name", list(activations.ACTIVATIONS))
def test_auto_follows_the_activation_of_each_layer(name):
    flat_tail = {"relu", "leaky_relu", "elu", "softplus", "silu", "gelu", "mish"}
    hidden_rule = "he_normal" if name in flat_tail else "glorot_uniform"
    auto = draw("auto", (30, 20, 10), (name,))
    np.testing.assert_array_equal(auto[0], draw(hidden_rule, (30, 20, 10), (name,))[0])
    # The linear output layer: all its weights lie within Glorot's uniform limit, and fill it.
    limit = math.sqrt(6 / (20 + 10))
    largest = np.abs(auto[1][:, :-1]).max()
    assert 0.9 * limit < largest <= limit * (1 + np.finfo(np.float32).eps)


def test_same_seed_same_weights():
    for a, b in zip(draw("auto", seed=3), draw("auto", seed=3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (draw("auto", seed=3)[0] != draw("auto", seed=4)[0]).any()
