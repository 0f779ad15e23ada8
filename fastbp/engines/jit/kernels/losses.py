"""The losses ℓ(f, y), their gradients δᴸ = ∂ℓ/∂f and the links, for LANES rows at a time.

`T` holds the network outputs of LANES rows transposed, T[j · LANES + i] being output j of row i: a
lane is a row, the sums over the outputs run down j. Formulas: fastbp/losses.py. `total` receives ℓ
of each row.
"""

from __future__ import annotations

from fastbp.engines.jit.kernels.intrinsics import (
    at,
    call,
    copysign,
    fabs,
    fma,
    inline,
    kernel,
    lanes,
    number,
    select,
)
from fastbp.engines.jit.kernels.vecmath import exp, log, log1p, logistic, maximum
from fastbp.engines.jit.layout import LINKS, LOSSES, USER_LOSS

(
    SQUARED_ERROR, ABSOLUTE_ERROR, HUBER, SOFTMAX_CROSS_ENTROPY, BINARY_CROSS_ENTROPY, POISSON,
    PINBALL,
) = range(len(LOSSES))  # fmt: skip
_, SOFTMAX, SIGMOID, EXP = range(len(LINKS))


@inline
def largest(T, outputs, top):
    """max f of each row."""
    n = lanes(T)
    for i in range(n):
        top[i] = T[i]
    for j in range(1, outputs):
        for i in range(n):
            top[i] = maximum(top[i], T[j * n + i])


@inline
def exponentials(T, outputs, top, total):
    """T ← e^(f − max f), and its sum over the outputs."""
    n = lanes(T)
    for i in range(n):
        total[i] = number(T, 0.0)
    for j in range(outputs):
        for i in range(n):
            e = exp(T[j * n + i] - top[i])
            T[j * n + i] = e
            total[i] = total[i] + e


@inline
def row_of(batch, r):
    """X's row of row r of the minibatch."""
    return batch.rows[r] if batch.shuffled else batch.offset + r


@inline
def within(net, x):
    """−log p = x, of which no more is reported than the loss's floor allows; NaN stays NaN."""
    x = select(x > number(x, net.loss_high), number(x, net.loss_high), x)
    return select(number(x, net.loss_low) > x, number(x, net.loss_low), x)


@inline
def label_of(net, batch, r, outputs):
    """The label of row r of the minibatch, kept in range: another thread may be writing to it."""
    return min(max(net.labels[row_of(batch, r)], 0), outputs - 1)


@kernel
def loss_labels(T, outputs, net, batch, r, rows, total, top, chosen):
    """Softmax cross-entropy with integer labels: ℓ = log Σ e^f − f_label; T ← δ.

    The lanes are rows r … r + rows − 1 of the minibatch.
    """
    n = lanes(T)
    for i in range(n):
        chosen[i] = number(T, 0.0)
    for i in range(rows):
        chosen[i] = T[label_of(net, batch, r + i, outputs) * n + i]
    largest(T, outputs, top)
    exponentials(T, outputs, top, total)
    for j in range(outputs):
        for i in range(n):
            T[j * n + i] = T[j * n + i] / total[i]
    for i in range(rows):
        place = label_of(net, batch, r + i, outputs) * n + i
        T[place] = T[place] - number(T, 1.0)
    for i in range(n):
        total[i] = within(net, log(total[i]) + (top[i] - chosen[i]))


@kernel
def softmax_targets(T, Y, outputs, total, top, mass):
    """ℓ = Σ y (log Σ e^f − f), δ = softmax(f) Σ y − y, with f taken from its maximum."""
    n = lanes(T)
    zero = number(T, 0.0)
    for i in range(n):
        mass[i] = zero
    largest(T, outputs, top)
    spread = at(Y, outputs * n)  # Σ y (max f − f)
    for i in range(n):
        spread[i] = zero
    for j in range(outputs):
        for i in range(n):
            mass[i] = mass[i] + Y[j * n + i]
            y = Y[j * n + i]  # 0 for y = 0, even where the difference overflows
            spread[i] = select(y != zero, fma(y, top[i] - T[j * n + i], spread[i]), spread[i])
    exponentials(T, outputs, top, total)
    for j in range(outputs):
        for i in range(n):
            T[j * n + i] = fma(T[j * n + i], mass[i] / total[i], -Y[j * n + i])
    for i in range(n):
        total[i] = fma(mass[i], log(total[i]), spread[i])


@kernel
def loss_targets(net, T, Y, V, size):
    """ℓ of each output for targets Y, laid out as T, into V; T ← δ. `size` counts them."""
    zero, one, half = number(T, 0.0), number(T, 1.0), number(T, 0.5)
    loss, width = net.loss, number(T, net.loss_parameter)
    if loss == SQUARED_ERROR:
        for i in range(size):
            r = T[i] - Y[i]
            T[i] = r
            V[i] = half * r * r
    elif loss == ABSOLUTE_ERROR:
        for i in range(size):
            r = T[i] - Y[i]
            T[i] = select(r > zero, one, select(zero > r, -one, r))
            V[i] = fabs(r)
    elif loss == HUBER:
        for i in range(size):
            r = T[i] - Y[i]
            far = fabs(r) > width
            T[i] = select(far, copysign(width, r), r)
            V[i] = select(far, width * (fabs(r) - half * width), half * r * r)
    elif loss == PINBALL:  # max(τ r, (τ − 1) r), r = y − f
        for i in range(size):
            r = Y[i] - T[i]
            T[i] = select(r > zero, -width, select(zero > r, one - width, zero * r))
            V[i] = maximum(width * r, (width - one) * r)
    elif (
        loss == BINARY_CROSS_ENTROPY
    ):  # y log(1 + e^−f) + (1 − y) log(1 + e^f), without cancellation
        for i in range(size):
            f, y = T[i], Y[i]
            T[i] = logistic(f) - y
            both = log1p(exp(-fabs(f)))
            yes, no = within(net, both + maximum(zero, -f)), within(net, both + maximum(zero, f))
            V[i] = fma(y, yes, (one - y) * no)
    elif loss == POISSON:  # μ − y f + (y log y − y)
        for i in range(size):
            f, y = T[i], Y[i]
            mu = exp(f)
            T[i] = mu - y
            V[i] = (mu - y) + select(y > zero, y * (log(y) - f), zero)
    elif loss == USER_LOSS:
        call(net.loss_function, (T, Y, V, T, size))


@kernel
def apply_link(link, T, outputs, total, top):
    """T ← prediction."""
    n = lanes(T)
    if link == SOFTMAX:
        largest(T, outputs, top)
        exponentials(T, outputs, top, total)
        for j in range(outputs):
            for i in range(n):
                T[j * n + i] = T[j * n + i] / total[i]
    elif link == SIGMOID:
        for i in range(outputs * n):
            T[i] = logistic(T[i])
    elif link == EXP:
        for i in range(outputs * n):
            T[i] = exp(T[i])
