# The optimizers, applied to a run of weights as its gradient leaves the registers.
#
# η is the step's learning rate (for Adam with its bias corrections), g the gradient; the formulas are
# those of fastbp/optimizers.py. Plain loops: the compiler vectorises them.

cdef enum:
    SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM


ctypedef struct Optimizer:
    int kind
    real momentum  # μ; ρ of RMSprop; β₁ of Adam
    real beta_2
    real new_momentum, new_beta_2  # 1 − momentum and 1 − β₂, rounded once
    real epsilon
    double decay   # λ of AdamW
    int slots


cdef void update(const Optimizer* o, real eta, real epsilon_factor, int64_t n, real* w, const real* g, real* first, real* second
                 ) noexcept nogil:
    cdef int64_t i
    cdef real mu = o.momentum, beta_2 = o.beta_2, epsilon = o.epsilon * epsilon_factor, m, s
    cdef real new_mu = o.new_momentum, new_beta_2 = o.new_beta_2
    if o.kind == SGD:
        for i in range(n):
            w[i] -= eta * g[i]
    elif o.kind == MOMENTUM:
        for i in range(n):
            m = mu * first[i] - eta * g[i]
            first[i] = m
            w[i] += m
    elif o.kind == NESTEROV:
        for i in range(n):
            m = mu * first[i] - eta * g[i]
            first[i] = m
            w[i] += mu * m - eta * g[i]
    elif o.kind == RMSPROP:
        for i in range(n):
            s = mu * first[i] + new_mu * g[i] * g[i]
            first[i] = s
            w[i] -= eta * g[i] / (sqrt_real(s) + epsilon)
    elif o.kind == ADAM:
        for i in range(n):
            m = mu * first[i] + new_mu * g[i]
            s = beta_2 * second[i] + new_beta_2 * g[i] * g[i]
            first[i] = m
            second[i] = s
            w[i] -= eta * m / (sqrt_real(s) + epsilon)


cdef double sum_squares(int64_t n, const real* w) noexcept nogil:
    """Σ w², n being a multiple of LANES. A sum for each lane: the compiler may not reorder one."""
    cdef int64_t i, lane
    cdef double total = 0
    cdef double sums[LANES]
    memset(sums, 0, sizeof(sums))
    for i from 0 <= i < n by LANES:
        for lane in range(LANES):
            sums[lane] += <double> w[i + lane] * w[i + lane]
    for lane in range(LANES):
        total += sums[lane]
    return total


cdef double sum_absolute(int64_t n, const real* w) noexcept nogil:
    """Σ |w|, likewise."""
    cdef int64_t i, lane
    cdef double total = 0
    cdef double sums[LANES]
    memset(sums, 0, sizeof(sums))
    for i from 0 <= i < n by LANES:
        for lane in range(LANES):
            sums[lane] += -w[i + lane] if w[i + lane] < 0 else w[i + lane]
    for lane in range(LANES):
        total += sums[lane]
    return total


cdef double penalize(real l1, real l2, int64_t n, const real* w, real* g) noexcept nogil:
    """g ← g + l1 sign(w) + l2 w; returns l1 Σ|w| + ½ l2 Σ w²."""
    cdef int64_t i
    cdef double penalty = 0
    if l2 != 0:
        for i in range(n):
            g[i] += l2 * w[i]
        penalty = 0.5 * l2 * sum_squares(n, w)
    if l1 != 0:
        for i in range(n):
            g[i] += l1 * ((1 if w[i] > 0 else 0) - (1 if w[i] < 0 else 0))
        penalty += l1 * sum_absolute(n, w)
    return penalty


cdef void shrink(real factor, int64_t n, real* w) noexcept nogil:
    """w ← factor w."""
    cdef int64_t i
    for i in range(n):
        w[i] *= factor
