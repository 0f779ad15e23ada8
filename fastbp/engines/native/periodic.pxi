# Periodic, [e₁; …; e_d; v] with eᵢ = Wᵢ cos(2π w x + b) + cᵢ of each number x. A lane is a number: the parameters are
# [P][rows][PANEL], a column for each number, and its rows w, b, W₁ … W_d of the first frequency, of the second, …, at
# last c₁ … c_d. Sums are over the frequencies, and then the rows, in their order.

cdef enum:
    WAVES_MOST = 16   # d, by fastbp/stages.py


cdef inline vec angles(const real* w, vec x) noexcept nogil:
    """θ = 2π w x + b, w at a frequency's parameters."""
    return splat(<real> 6.283185307179586) * load(w) * x + load(w + PANEL)


cdef inline int64_t lanes_of(const Layer* layer, int64_t p, int64_t h) noexcept nogil:
    """How many numbers there are from lane h of panel p on, LANES at most; 0 or less where there is none."""
    return min(<int64_t> LANES, layer.numbers - p * PANEL - h)


cdef int64_t periodic_forward(const Net* net, const Minibatch* batch, int64_t l, const Share* share) noexcept nogil:
    """All of z."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels x = inputs_of(net, batch, l), z = by_rows(net, layer.v)
    cdef int64_t p, r, h, i, f, d = layer.waves, count
    cdef const real* w
    cdef vec value, cosine
    cdef vec sums[WAVES_MOST]
    for p in range(panels_of(layer.numbers)):
        for h from 0 <= h < PANEL by LANES:
            count = lanes_of(layer, p, h)
            for r in range(share.first, share.last if count > 0 else share.first):
                w = layer.w + p * layer.rows * PANEL + h
                value = load(x.start + p * x.apart + r * PANEL + h)
                for i in range(d):
                    sums[i] = load(w + ((2 + d) * layer.frequencies + i) * PANEL)
                for f in range(layer.frequencies):
                    sincos_vec(angles(w, value), &cosine)
                    for i in range(d):
                        sums[i] = sums[i] + load(w + (2 + i) * PANEL) * cosine
                    w += (2 + d) * PANEL
                for i in range(d):
                    put_lanes(&z, i * layer.numbers + p * PANEL + h, count, r, sums[i])
    move_columns(&x, 0, &z, d * layer.numbers, layer.n_in, share.first, share.last)
    return share.end


cdef int64_t periodic_backward(const Net* net, int64_t l, real* out, const Share* share) noexcept nogil:
    """∂ℓ/∂x = δ_x − Σ 2π w sin θ Σᵢ δᵢ Wᵢ, and δ of the other inputs. In training only where a stage is before it."""
    cdef Layer* layer = &net.layer[l]
    cdef Panels x = by_rows(net, layer.v_in), delta = by_rows(net, layer.delta), down = by_rows(net, out)
    cdef int64_t p, r, h, i, f, d = layer.waves, count
    cdef const real* w
    cdef vec value, cosine, sine, u, sum
    cdef vec e[WAVES_MOST]
    move_columns(&delta, d * layer.numbers, &down, 0, layer.n_in, share.first, share.last)
    clear_columns(&down, layer.n_in, panels_of(layer.n_in) * PANEL, share.first, share.last)
    for p in range(panels_of(layer.numbers)):
        for h from 0 <= h < PANEL by LANES:
            count = lanes_of(layer, p, h)
            for r in range(share.first, share.last if count > 0 else share.first):
                w = layer.w + p * layer.rows * PANEL + h
                value = load(x.start + p * x.apart + r * PANEL + h)
                for i in range(d):
                    e[i] = get_lanes(&delta, i * layer.numbers + p * PANEL + h, count, r)
                sum = get_lanes(&down, p * PANEL + h, count, r)
                for f in range(layer.frequencies):
                    sine = sincos_vec(angles(w, value), &cosine)
                    u = splat(0)
                    for i in range(d):
                        u = u + e[i] * load(w + (2 + i) * PANEL)
                    sum = sum - splat(<real> 6.283185307179586) * load(w) * sine * u
                    w += (2 + d) * PANEL
                put_lanes(&down, p * PANEL + h, count, r, sum)
    return share.end


cdef void periodic_gradient(const Net* net, const Minibatch* batch, const Task* task, real* g, bint add
                            ) noexcept nogil:
    """∇_Wᵢ = Σ δᵢ cos θ, ∇_c = Σ δ, ∇_b = −Σ sin θ Σᵢ δᵢ Wᵢ, ∇_w = −Σ 2π x sin θ Σᵢ δᵢ Wᵢ of a panel of numbers."""
    cdef Layer* layer = &net.layer[task.layer]
    cdef Panels x = inputs_of(net, batch, task.layer), delta = by_rows(net, layer.delta)
    cdef int64_t p = task.j, r, h, i, f, k, d = layer.waves, count, columns = min(<int64_t> PANEL,
                                                                                  layer.numbers - p * PANEL)
    cdef const real* w
    cdef real* to
    cdef vec value, cosine, sine, u
    cdef vec e[WAVES_MOST]
    if not add:
        memset(g, 0, task.inputs * PANEL * sizeof(real))
    for h from 0 <= h < PANEL by LANES:
        count = lanes_of(layer, p, h)
        for r in range(batch.count if count > 0 else 0):
            w = layer.w + p * layer.rows * PANEL + h
            to = g + h
            value = load(x.start + p * x.apart + r * PANEL + h)
            for i in range(d):
                e[i] = get_lanes(&delta, i * layer.numbers + p * PANEL + h, count, r)
            for f in range(layer.frequencies):
                sine = sincos_vec(angles(w, value), &cosine)
                u = splat(0)
                for i in range(d):
                    u = u - e[i] * load(w + (2 + i) * PANEL)
                    store(to + (2 + i) * PANEL, load(to + (2 + i) * PANEL) + e[i] * cosine)
                u = u * sine
                store(to + PANEL, load(to + PANEL) + u)
                store(to, load(to) + splat(<real> 6.283185307179586) * value * u)
                w += (2 + d) * PANEL
                to += (2 + d) * PANEL
            for i in range(d):
                store(to + i * PANEL, load(to + i * PANEL) + e[i])
    for k in range(task.inputs if columns < PANEL else 0):  # x has other columns there
        memset(g + k * PANEL + columns, 0, (PANEL - columns) * sizeof(real))
