# The functions of vecmath.h one by one, for tests and benchmarks.


def vector_function(str name, const real[::1] x, real[::1] out):
    """Apply a function of vecmath.h to every element of x."""
    cdef int64_t i, n = x.shape[0]
    cdef int which = ["exp", "expm1", "log", "log1p", "logistic", "tanh", "softplus", "normal", "sin",
                      "cos", "selu", "mish"].index(name)
    cdef real rest[LANES]
    with nogil:
        for i from 0 <= i < n - LANES + 1 by LANES:
            store_unaligned(&out[i], call_function(which, load_unaligned(&x[i])))
        i = n // LANES * LANES
        if i < n:
            memset(rest, 0, sizeof(rest))
            memcpy(rest, &x[i], (n - i) * sizeof(real))
            store_unaligned(rest, call_function(which, load_unaligned(rest)))
            memcpy(&out[i], rest, (n - i) * sizeof(real))


cdef inline vec call_function(int which, vec x) noexcept nogil:
    cdef vec density
    if which == 0:
        return exp_vec(x)
    if which == 1:
        return expm1_vec(x)
    if which == 2:
        return log_vec(x)
    if which == 3:
        return log1p_vec(x)
    if which == 4:
        return logistic_vec(x)
    if which == 5:
        return tanh_vec(x)
    if which == 6:
        return softplus_vec(x)
    if which == 7:
        return normal_vec(x, &density)
    if which <= 9:
        x = sincos_vec(x, &density)
        return x if which == 8 else density
    return selu_vec(x) if which == 10 else mish_vec(x, &density)
