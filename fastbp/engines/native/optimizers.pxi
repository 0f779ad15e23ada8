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


cdef void update(const Optimizer* o, real eta, int64_t n, real* w, const real* g, real* first, real* second
                 ) noexcept nogil:
    cdef int64_t i
    cdef real mu = o.momentum, beta_2 = o.beta_2, epsilon = o.epsilon, m, s
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


cdef double penalize(real l1, real l2, int64_t n, const real* w, real* g) noexcept nogil:
    """g ← g + l1 sign(w) + l2 w; returns l1 Σ|w| + ½ l2 Σ w²."""
    cdef int64_t i
    cdef real sign
    cdef double absolute = 0, squares = 0
    for i in range(n):
        sign = (1 if w[i] > 0 else 0) - (1 if w[i] < 0 else 0)
        absolute += sign * w[i]
        squares += <double> w[i] * w[i]
        g[i] += l1 * sign + l2 * w[i]
    return l1 * absolute + 0.5 * l2 * squares


cdef void shrink(real factor, int64_t n, real* w) noexcept nogil:
    """w ← factor w."""
    cdef int64_t i
    for i in range(n):
        w[i] *= factor
