"""The activations φ and their derivatives, applied to a tile while it is in the L1 cache.

`activate` turns z into v = φ(z); where φ' cannot be had from v (silu, gelu, mish, a user's function) it
keeps φ'(z) in `slope`. `backward` multiplies what came down through the weights by φ'.
"""

from __future__ import annotations

from numba import types

from fastbp.activations import SELU_ALPHA, SELU_SCALE
from fastbp.engines.jit.kernels.intrinsics import call, fma, inline, kernel, lanes, number, select
from fastbp.engines.jit.kernels.vecmath import (
    expm1,
    logistic,
    maximum,
    normal,
    softplus,
    tanh,
)
from fastbp.engines.jit.layout import ACTIVATIONS, USER_ACTIVATION

(
    IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SOFTPLUS, SELU, SILU, GELU, MISH,
) = range(len(ACTIVATIONS))  # fmt: skip
SELU_FLOOR = SELU_SCALE * SELU_ALPHA


@kernel
def activate(activation, function, a, z, slope, n):
    zero, one, a = number(z, 0.0), number(z, 1.0), number(z, a)
    if activation == SIGMOID:
        for i in range(n):
            z[i] = logistic(z[i])
    elif activation == TANH:
        for i in range(n):
            z[i] = tanh(z[i])
    elif activation == RELU:  # max(z, 0)
        for i in range(n):
            z[i] = maximum(zero, z[i])
    elif activation == LEAKY_RELU:  # z > 0 ? z : a z
        for i in range(n):
            z[i] = select(z[i] > zero, z[i], a * z[i])
    elif activation == ELU:  # z > 0 ? z : a (e^z − 1)
        for i in range(n):
            z[i] = select(z[i] > zero, z[i], a * expm1(z[i]))
    elif activation == SOFTPLUS:  # log(1 + e^z)
        for i in range(n):
            z[i] = softplus(z[i])
    elif activation == SELU:  # z > 0 ? λ z : λ α (e^z − 1)
        scale, floor = number(z, SELU_SCALE), number(z, SELU_FLOOR)
        for i in range(n):
            z[i] = select(z[i] > zero, scale * z[i], floor * expm1(z[i]))
    elif activation == SILU:  # φ = z σ(z), φ' = σ + φ (1 − σ)
        for i in range(n):
            x = z[i]
            s = logistic(x)
            z[i] = x * s
            slope[i] = fma(x * s, one - s, s)
    elif activation == GELU:  # φ = z Φ(z), φ' = Φ + z density(z)
        for i in range(n):
            x = z[i]
            s, density = normal(x)
            z[i] = x * s
            slope[i] = fma(x, density, s)
    elif activation == MISH:  # φ = z t, φ' = t + z σ (1 − t²), t = tanh(softplus(z))
        for i in range(n):
            x = z[i]
            t = tanh(softplus(x))
            z[i] = x * t
            slope[i] = fma(x * logistic(x), (one - t) * (one + t), t)
    elif activation == USER_ACTIVATION:
        call(function, (z, z, slope, n))


@kernel
def backward(activation, a, v, delta, n):
    """δ ← φ'(z) ⊙ δ, from v."""
    zero, one, a = number(v, 0.0), number(v, 1.0), number(v, a)
    if activation == SIGMOID:
        for i in range(n):
            delta[i] = (one - v[i]) * v[i] * delta[i]
    elif activation == TANH:
        for i in range(n):
            delta[i] = fma(-v[i], v[i], one) * delta[i]
    elif activation == RELU:
        for i in range(n):
            delta[i] = select(v[i] > zero, delta[i], zero)
    elif activation == LEAKY_RELU:
        for i in range(n):
            delta[i] = select(v[i] > zero, one, a) * delta[i]
    elif activation == ELU:
        for i in range(n):
            delta[i] = select(v[i] > zero, one, v[i] + a) * delta[i]
    elif activation == SOFTPLUS:  # σ(z) = 1 − e^−v
        for i in range(n):
            delta[i] = (zero - expm1(zero - v[i])) * delta[i]
    elif activation == SELU:
        scale, floor = number(v, SELU_SCALE), number(v, SELU_FLOOR)
        for i in range(n):
            delta[i] = select(v[i] > zero, scale, v[i] + floor) * delta[i]


@kernel
def backward_slope(slope, delta, n):
    """δ ← φ'(z) ⊙ δ, from the φ'(z) kept by the forward pass."""
    for i in range(n):
        delta[i] = slope[i] * delta[i]


@kernel
def slopes(activation, a, v, slope, n):
    """φ'(z) from v, into slope."""
    for i in range(n):
        slope[i] = number(v, 1.0)
    backward(activation, a, v, slope, n)


# ---- dropout: the mask is a hash of (seed, step, layer, row, unit), see fastbp/engines/dropout.py ----


@inline
def splitmix64(x):
    x = types.uint64(x) + types.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> types.uint64(30))) * types.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> types.uint64(27))) * types.uint64(0x94D049BB133111EB)
    return x ^ (x >> types.uint64(31))


@inline
def mix32(x):
    x = types.uint32(x ^ (x >> types.uint32(16)))
    x = types.uint32(x * types.uint32(0x7FEB352D))
    x = types.uint32(x ^ (x >> types.uint32(15)))
    x = types.uint32(x * types.uint32(0x846CA68B))
    return types.uint32(x ^ (x >> types.uint32(16)))


@inline
def layer_key(seed, step, layer):
    key = splitmix64(types.uint64(seed)) ^ types.uint64(step)
    return splitmix64(splitmix64(key) ^ types.uint64(layer))


@kernel
def drop(dropout, key, row, unit, v, slope):
    """v ← mask v / (1 − p) and slope ← mask φ'(z) / (1 − p) for one row of one panel."""
    low, high = types.uint32(key), types.uint32(key >> types.uint64(32))
    row_key = mix32(types.uint32(low ^ types.uint32(types.uint32(row) * types.uint32(0x9E3779B9))))
    threshold = types.uint32(dropout * 4294967296.0)
    zero, scale = number(v, 0.0), number(v, 1.0 / (1.0 - dropout))
    for j in range(2 * lanes(v)):
        place = types.uint32(types.uint32(unit + j) * types.uint32(0x85EBCA6B))
        hashed = mix32(types.uint32(types.uint32(place + row_key) ^ high))
        keep = select(hashed >= threshold, scale, zero)
        v[j] = v[j] * keep
        slope[j] = slope[j] * keep
