"""The optimizers, applied to a run of weights as its gradient leaves the registers.

η is the step's learning rate (for Adam with its bias corrections), g the gradient; the formulas are
those of fastbp/optimizers.py.
"""

from __future__ import annotations

from fastbp.engines.jit.kernels.intrinsics import any_order, fma, kernel, number, select, sqrt
from fastbp.engines.jit.layout import OPTIMIZERS

SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM = range(len(OPTIMIZERS))


@kernel
def update(net, eta, n, w, g, first, second):
    eta, mu, new_mu = number(w, eta), number(w, net.momentum), number(w, net.new_momentum)
    beta_2, new_beta_2 = number(w, net.beta_2), number(w, net.new_beta_2)
    epsilon = number(w, net.epsilon)
    if net.optimizer == SGD:
        for i in range(n):
            w[i] = fma(-eta, g[i], w[i])
    elif net.optimizer == MOMENTUM:
        for i in range(n):
            u = fma(mu, first[i], -(eta * g[i]))
            first[i] = u
            w[i] = w[i] + u
    elif net.optimizer == NESTEROV:
        for i in range(n):
            u = fma(mu, first[i], -(eta * g[i]))
            first[i] = u
            w[i] = w[i] + fma(mu, u, -(eta * g[i]))
    elif net.optimizer == RMSPROP:
        for i in range(n):
            s = fma(mu, first[i], new_mu * g[i] * g[i])
            first[i] = s
            w[i] = w[i] - eta * g[i] / (sqrt(s) + epsilon)
    elif net.optimizer == ADAM:
        for i in range(n):
            m = fma(mu, first[i], new_mu * g[i])
            s = fma(beta_2, second[i], new_beta_2 * g[i] * g[i])
            first[i] = m
            second[i] = s
            w[i] = w[i] - eta * m / (sqrt(s) + epsilon)


@any_order
def sum_squares(n, w):
    """Σ w², in float64."""
    total = 0.0
    for i in range(n):
        wide = number(0.0, w[i])
        total += wide * wide
    return total


@any_order
def sum_absolute(n, w):
    """Σ |w|, in float64."""
    total = 0.0
    for i in range(n):
        total += abs(number(0.0, w[i]))
    return total


@kernel
def penalize(l1, l2, n, w, g):
    """g ← g + l1 sign(w) + l2 w; returns l1 Σ|w| + ½ l2 Σ w²."""
    penalty = 0.0
    zero, one = number(w, 0.0), number(w, 1.0)
    slope_1, slope_2 = number(w, l1), number(w, l2)
    if l2 != 0.0:
        for i in range(n):
            g[i] = fma(slope_2, w[i], g[i])
        penalty += 0.5 * l2 * sum_squares(n, w)
    if l1 != 0.0:
        for i in range(n):
            sign = select(w[i] > zero, one, select(w[i] < zero, -one, zero))
            g[i] = fma(slope_1, sign, g[i])
        penalty += l1 * sum_absolute(n, w)
    return penalty


@kernel
def shrink(factor, n, w):
    """w ← factor w."""
    factor = number(w, factor)
    for i in range(n):
        w[i] = w[i] * factor
