# The activations φ and their derivatives, applied to a tile while it is in the L1 cache.
#
# `activate` turns z into v = φ(z); where φ' cannot be had from v (silu, gelu, mish, functions of the user's)
# it keeps φ'(z) in `slope`. `backward` multiplies what came down through the weights by φ'. They visit every
# `step`-th real of n: LANES for whole panels, PANEL where only the first vector of each row is wanted.

ACTIVATIONS = ("identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "selu", "silu", "gelu",
               "mish")

cdef enum:
    IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SOFTPLUS, SELU, SILU, GELU, MISH, USER_ACTIVATION


cdef void activate(int activation, real a, UserActivation user, real* z, real* slope, int64_t n, int step
                   ) noexcept nogil:
    cdef int64_t i
    cdef vec zero = splat(0), one = splat(1), x, s, d
    if activation == SIGMOID:
        for i from 0 <= i < n by step:
            store(z + i, logistic_vec(load(z + i)))
    elif activation == TANH:
        for i from 0 <= i < n by step:
            store(z + i, tanh_vec(load(z + i)))
    elif activation == RELU:  # max(z, 0)
        for i from 0 <= i < n by step:
            store(z + i, vmax(zero, load(z + i)))
    elif activation == LEAKY_RELU:  # z > 0 ? z : a z
        for i from 0 <= i < n by step:
            x = load(z + i)
            store(z + i, select_gt(x, zero, x, splat(a) * x))
    elif activation == ELU:  # z > 0 ? z : a (e^z − 1)
        for i from 0 <= i < n by step:
            x = load(z + i)
            store(z + i, select_gt(x, zero, x, splat(a) * expm1_vec(x)))
    elif activation == SOFTPLUS:  # log(1 + e^z)
        for i from 0 <= i < n by step:
            store(z + i, softplus_vec(load(z + i)))
    elif activation == SELU:
        for i from 0 <= i < n by step:
            store(z + i, selu_vec(load(z + i)))
    elif activation == SILU:  # φ = z σ(z), φ' = σ + φ (1 − σ)
        for i from 0 <= i < n by step:
            x = load(z + i)
            s = logistic_vec(x)
            store(z + i, x * s)
            store(slope + i, s + x * s * (one - s))
    elif activation == GELU:  # φ = z Φ(z), φ' = Φ + z density(z)
        for i from 0 <= i < n by step:
            x = load(z + i)
            s = normal_vec(x, &d)
            store(z + i, x * s)
            store(slope + i, s + x * d)
    elif activation == MISH:
        for i from 0 <= i < n by step:
            store(z + i, mish_vec(load(z + i), &d))
            store(slope + i, d)
    elif activation == USER_ACTIVATION:
        user(z, z, slope, n)


cdef inline vec derivative(int activation, real a, vec v) noexcept nogil:
    """φ'(z) from v = φ(z)."""
    cdef vec zero = splat(0), one = splat(1)
    if activation == SIGMOID:
        return (one - v) * v
    if activation == TANH:
        return one - v * v
    if activation == RELU:
        return select_gt(v, zero, one, zero)
    if activation == LEAKY_RELU:
        return select_gt(v, zero, one, splat(a))
    if activation == ELU:
        return select_gt(v, zero, one, v + splat(a))
    if activation == SOFTPLUS:  # σ(z) = 1 − e^−v
        return zero - expm1_vec(zero - v)
    if activation == SELU:
        return select_gt(v, zero, splat(SELU_SCALE), v + splat(SELU_FLOOR))
    return one


cdef void backward(int activation, real a, real scale, const real* v, real* delta, int64_t n, int step
                   ) noexcept nogil:
    """δ ← φ'(z) ⊙ δ, from v. A ReLU's v is 0 where the unit was dropped, too: with the scale of those kept it has all
    that dropout takes."""
    cdef int64_t i
    if activation == IDENTITY:
        return
    if activation == RELU:
        for i from 0 <= i < n by step:
            store(delta + i, select_gt(load(v + i), splat(0), splat(scale) * load(delta + i), splat(0)))
    elif activation == SELU:
        for i from 0 <= i < n by step:
            store(delta + i, derivative(SELU, a, load(v + i)) * load(delta + i))
    else:
        for i from 0 <= i < n by step:
            store(delta + i, derivative(activation, a, load(v + i)) * load(delta + i))


cdef void backward_slope(const real* slope, real* delta, int64_t n) noexcept nogil:
    """δ ← φ'(z) ⊙ δ, from the φ'(z) kept by the forward pass."""
    cdef int64_t i
    for i from 0 <= i < n by LANES:
        store(delta + i, load(slope + i) * load(delta + i))


cdef void slopes(int activation, real a, const real* v, real* slope, int64_t n) noexcept nogil:
    """φ'(z) from v, into slope."""
    cdef int64_t i
    if activation == SELU:
        for i from 0 <= i < n by LANES:
            store(slope + i, derivative(SELU, a, load(v + i)))
    else:
        for i from 0 <= i < n by LANES:
            store(slope + i, derivative(activation, a, load(v + i)))


# ---- dropout -----------------------------------------------------------------------------------------
# The mask is a hash of (seed, step, layer, row, unit): see fastbp/engines/dropout.py.


cdef inline uint64_t splitmix64(uint64_t x) noexcept nogil:
    x += <uint64_t> 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t> 0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline bint needs_slope(const Layer* layer) noexcept nogil:
    """Whether φ'(z), with the mask of a dropout, is kept in `slope`."""
    if layer.activation >= SILU or (HALF and kept_slope(layer.activation)):
        return True
    return layer.dropout > 0 and not masks_bend(layer) and (HALF or layer.activation != RELU)


cdef inline bint masks_bend(const Layer* layer) noexcept nogil:
    """Whether a Blend's dropout is in `bend` and in what it leaves in place of its inputs: it needs no `slope`."""
    return layer.kind == BLEND and layer.activation == IDENTITY


cdef inline real kept_scale(double p) noexcept nogil:
    """1 / (1 − p), what a unit that is kept is multiplied by."""
    return <real> (1 / (1 - p))


cdef inline void drop(double p, uint64_t key, int64_t first, int64_t rows, int64_t unit, real* v, real* slope, real* rest,
                      bint linear) noexcept nogil:
    """v ← mask v / (1 − p) and slope ← mask φ'(z) / (1 − p) for some rows of one panel; linear: φ' is 1. The same of
    what is in `rest`. Both may be NULL."""
    cdef uint32_t row, threshold = <uint32_t> (p * 4294967296.0)
    cdef vec scale = splat(kept_scale(p)), keep
    cdef hashes units[2]
    cdef int64_t r, i
    cdef int h
    units[0] = hash_units(unit)
    units[1] = hash_units(unit + LANES)
    for r in range(rows):
        row = hash_row(key, first + r)
        for h in range(2):
            i = r * PANEL + h * LANES
            keep = kept_units(units[h], row, key, threshold, scale)
            store(v + i, load(v + i) * keep)
            if slope != NULL:
                store(slope + i, keep if linear else load(slope + i) * keep)
            if rest != NULL:
                store(rest + i, load(rest + i) * keep)
