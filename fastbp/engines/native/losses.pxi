# The losses ℓ(f, y), their gradients δᴸ = ∂ℓ/∂f and the links, for LANES rows at a time.
#
# `T` holds the network outputs of LANES rows transposed, T[j] being output j of each: a lane is a row,
# the sums over the outputs run down j, and no sum across lanes is needed. Formulas: fastbp/losses.py.

LINKS = ("identity", "softmax", "sigmoid", "exp")
LOSSES = ("squared_error", "absolute_error", "huber", "softmax_cross_entropy", "binary_cross_entropy",
          "poisson", "pinball")

cdef enum:
    SQUARED_ERROR, ABSOLUTE_ERROR, HUBER, SOFTMAX_CROSS_ENTROPY, BINARY_CROSS_ENTROPY, POISSON, PINBALL
    USER_LOSS


cdef enum:
    LINK_IDENTITY, LINK_SOFTMAX, LINK_SIGMOID, LINK_EXP


cdef inline vec softmax(vec* T, int64_t outputs, vec* shift) noexcept nogil:
    """T[j] ← e^(f_j − max f); returns Σ_j T[j], and max f in `shift`."""
    cdef vec top = T[0], total = splat(0)
    cdef int64_t j
    for j in range(1, outputs):
        top = vmax(top, T[j])
    for j in range(outputs):
        T[j] = exp_vec(T[j] - top)
        total = total + T[j]
    shift[0] = top
    return total


cdef inline vec within(vec x, real low, real high) noexcept nogil:
    """x between low and high; NaN stays NaN."""
    x = select_gt(x, splat(high), splat(high), x)
    return select_gt(splat(low), x, splat(low), x)


cdef vec loss_labels(vec* T, int64_t outputs, ivec label, real low, real high, real smoothing
                     ) noexcept nogil:
    """Softmax cross-entropy with integer labels: ℓ = log Σ e^f − f_label; T ← δ.

    With smoothing s, f_label becomes (1 − s) f_label + s mean f, and so its slopes.
    """
    cdef vec top, total, chosen = splat(0), zero = splat(0), inverse, mean = splat(0)
    cdef real low_share = smoothing / outputs, high_share = 1 - smoothing + low_share
    cdef int64_t j
    for j in range(outputs):
        chosen = select_equal(label, j, T[j], chosen)
        mean = mean + T[j]
    if smoothing > 0:
        chosen = chosen * splat(1 - smoothing) + mean * splat(low_share)
    total = softmax(T, outputs, &top)
    inverse = splat(1) / total
    for j in range(outputs):
        T[j] = T[j] * inverse - select_equal(label, j, splat(high_share), splat(low_share))
    return within(log_vec(total) + (top - chosen), low, high)


cdef vec loss_targets(const Net* net, vec* T, const vec* Y, int64_t outputs) noexcept nogil:
    """ℓ of each row for targets Y[j], laid out as T; T ← δ."""
    cdef int loss = net.plan.loss
    cdef real width = net.plan.loss_width, low = net.plan.loss_low, high = net.plan.loss_high
    cdef vec total = splat(0), zero = splat(0), one = splat(1), f, y, e, mass, top, log_total
    cdef int64_t j
    if loss == SOFTMAX_CROSS_ENTROPY:
        # ℓ = Σ y (log Σ e^f − f), δ = softmax(f) Σ y − y, with f taken from its maximum
        mass = zero
        for j in range(outputs):
            mass = mass + Y[j]
        top = T[0]
        for j in range(1, outputs):
            top = vmax(top, T[j])
        e = zero
        for j in range(outputs):
            # 0 for y = 0, even where the difference overflows
            total = total + select_gt(vabs(Y[j]), zero, Y[j] * (top - T[j]), zero)
            T[j] = exp_vec(T[j] - top)
            e = e + T[j]
        log_total = log_vec(e)
        e = mass / e
        for j in range(outputs):
            T[j] = T[j] * e - Y[j]
        return total + mass * log_total
    for j in range(outputs):
        f = T[j]
        y = Y[j]
        if loss == SQUARED_ERROR:
            T[j] = f - y
            total = total + splat(0.5) * T[j] * T[j]
        elif loss == ABSOLUTE_ERROR:
            e = f - y
            T[j] = select_gt(e, zero, one, select_gt(zero, e, zero - one, e))
            total = total + vabs(e)
        elif loss == HUBER:
            e = f - y
            mass = vabs(e)
            T[j] = select_gt(mass, splat(width), copysign_vec(splat(width), e), e)
            total = total + select_gt(mass, splat(width), splat(width) * (mass - splat(0.5) * splat(width)),
                                      splat(0.5) * e * e)
        elif loss == BINARY_CROSS_ENTROPY:  # max(f, 0) − f y + log(1 + e^−|f|), without cancellation:
            # y log(1 + e^−f) + (1 − y) log(1 + e^f)
            T[j] = logistic_vec(f) - y
            e = log1p_vec(exp_vec(zero - vabs(f)))
            total = total + (y * within(e + vmax(zero, zero - f), low, high)
                             + (one - y) * within(e + vmax(zero, f), low, high))
        elif loss == PINBALL:  # max(τ r, (τ − 1) r), r = y − f
            e = y - f
            mass = splat(net.plan.levels[j] if net.plan.levels != NULL else width)
            T[j] = select_gt(e, zero, zero - mass, select_gt(zero, e, one - mass, zero * e))
            total = total + vmax(mass * e, (mass - one) * e)
        elif loss == USER_LOSS:
            net.plan.user_loss(<real*> &f, <real*> &y, <real*> &e, <real*> &T[j], LANES)
            total = total + e
        else:  # POISSON: μ − y f + (y log y − y)
            e = exp_vec(f)
            T[j] = e - y
            total = total + ((e - y) + select_gt(y, zero, y * (log_vec(y) - f), zero))
    return total


cdef void apply_link(int link, vec* T, int64_t outputs) noexcept nogil:
    """T[j] ← prediction of output j."""
    cdef vec total, top
    cdef int64_t j
    if link == LINK_SOFTMAX:
        total = splat(1) / softmax(T, outputs, &top)
        for j in range(outputs):
            T[j] = T[j] * total
    elif link == LINK_SIGMOID:
        for j in range(outputs):
            T[j] = logistic_vec(T[j])
    elif link == LINK_EXP:
        for j in range(outputs):
            T[j] = exp_vec(T[j])
