"""Forward, loss and backward over rows of the minibatch; weight gradient and update over tiles.

The two phases of a step. In the first a thread owns rows and reads all weights, in the second it
owns tiles of weights and reads all rows; nothing else is shared, so a barrier after each is enough.
"""

from __future__ import annotations

import math

from fastbp.engines.jit.kernels.activations import (
    activate,
    backward,
    backward_slope,
    drop,
    layer_key,
    slopes,
)
from fastbp.engines.jit.kernels.intrinsics import (
    at,
    atomic_add,
    atomic_load,
    atomic_store,
    call,
    fabs,
    fma,
    inline,
    kernel,
    lanes,
    number,
    record_at,
    relax,
    transpose_square,
)
from fastbp.engines.jit.kernels.losses import (
    SOFTMAX_CROSS_ENTROPY,
    loss_labels,
    loss_targets,
    row_of,
    softmax_targets,
)
from fastbp.engines.jit.kernels.optimizers import penalize, shrink, sum_squares, update
from fastbp.engines.jit.kernels.tile import tile_features, tile_rows
from fastbp.engines.jit.layout import USER_ACTIVATION
from fastbp.engines.jit.target import host

TILE_ROWS = host().tile_rows
GRADIENT_ROWS = 128  # rows of the weight gradient between two loads of a tile
SPINS = 4000  # turns of the waiting loop, some tens of microseconds
YIELDS = 200  # then offers of the CPU to another thread, before sleeping
CACHE_LINE = 16  # integers in two cache lines: neighbours are fetched together


@inline
def panels_of(columns, panel):
    return (columns + panel - 1) // panel


@inline
def vectors_of(columns, j, like):
    """Vectors of panel j that hold columns wanted: 1 where they fit the first."""
    return 1 if columns - j * 2 * lanes(like) <= lanes(like) else 2


@inline
def part(total, piece, pieces):
    """Start of piece `piece` of 0 … total − 1 cut into `pieces` even pieces."""
    return total * piece // pieces


@kernel
def barrier(net):
    """Wait until all threads are here: spin, then let others run on this CPU, then sleep."""
    if net.threads == 1:
        return
    waiting, phase = at(net.team, 0), at(net.team, CACHE_LINE)
    passed = atomic_load(phase)
    if atomic_add(waiting, 1) == net.threads - 1:
        atomic_store(waiting, 0)
        atomic_store(phase, passed + 1)
        return
    turns = 0
    while atomic_load(phase) == passed:
        turns += 1
        if turns <= SPINS or net.yield_cpu == 0:
            relax()
        elif turns <= SPINS + YIELDS or net.sleep == 0:
            call(net.yield_cpu, ())
        else:
            call(net.sleep, (20,))


# ---- phase 1: rows ----


@kernel
def gather(net, batch, first, last):
    """Rows of X into rows first … last − 1 of v⁰, with the bias node.

    A row of weight 0 says nothing, whatever is in it: it is taken as 0, as 0 times infinity would be
    NaN in the weight gradient.
    """
    bottom = record_at(net.layer, 0)
    columns, v, stride = bottom.n_in, bottom.v_in, net.stride
    panel = 2 * lanes(v)
    full, rest = columns // panel, columns % panel
    for r in range(first, last):
        k = row_of(batch, r)
        x = at(net.X, k * columns)
        for p in range(full):
            source, destination = at(x, p * panel), at(v, (p * stride + r) * panel)
            for i in range(panel):
                destination[i] = source[i]
        source, destination = at(x, full * panel), at(v, (full * stride + r) * panel)
        for i in range(rest):
            destination[i] = source[i]
        if net.weighted and number(0.0, net.weight[k]) == 0.0:
            for p in range(full + 1):
                destination = at(v, (p * stride + r) * panel)
                for i in range(panel if p < full else rest):
                    destination[i] = number(v, 0.0)
        at(v, (full * stride + r) * panel)[rest] = number(v, 1.0)


@kernel
def forward_layer(net, batch, index, first, last):
    """vˡ = φ(Wˡ vˡ⁻¹) for rows first … last − 1; for the output layer f = Wᴸ vᴸ⁻¹."""
    layer = record_at(net.layer, index)
    panel = 2 * lanes(layer.v)
    v_in = at(layer.v_in, first * panel)
    K, rows = layer.n_in + 1, last - first
    tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    hidden = index < net.layers - 1
    dropped = batch.training != 0 and layer.dropout > 0.0
    key = layer_key(net.seed, batch.step, index + 1)
    for p in range(panels_of(layer.n_out, panel)):
        vectors = vectors_of(layer.n_out, p, layer.v)
        columns = layer.n_out - p * panel
        for t in range(tiles):
            r = part(rows, t, tiles)
            m = part(rows, t + 1, tiles) - r
            place = (p * net.stride + first + r) * panel
            c = at(layer.v, place)
            tile_rows(
                m, vectors, K, at(v_in, r * panel), net.stride * panel,
                at(layer.w, p * K * panel), c, 0,
            )  # fmt: skip
            if not hidden:
                continue
            slope = at(layer.slope, place if layer.keeps_slope else 0)
            activate(layer.activation, layer.function, layer.a, c, slope, m * panel)
            if layer.activation == USER_ACTIVATION and columns < panel:
                for i in range(m):  # φ'(0) may be anything: keep it out of δ's zeros
                    for j in range(columns, panel):
                        slope[i * panel + j] = number(slope, 0.0)
            if dropped:
                if layer.keeps_slope == 1:
                    slopes(layer.activation, layer.a, c, slope, m * panel)
                for i in range(m):
                    drop(
                        layer.dropout,
                        key,
                        first + r + i,
                        p * panel,
                        at(c, i * panel),
                        at(slope, i * panel),
                    )
            if columns < panel:  # the bias node
                for i in range(m):
                    c[i * panel + columns] = number(c, 1.0)


@kernel
def backward_layer(net, batch, index, first, last):
    """δˡ⁻¹ = φ'(zˡ⁻¹) ⊙ Wˡᵀ δˡ for rows first … last − 1; without φ' at the input (index 0)."""
    layer = record_at(net.layer, index)
    below = record_at(net.layer, max(index - 1, 0))
    panel = 2 * lanes(layer.v)
    delta = at(layer.delta, first * panel)
    out = below.delta if index > 0 else net.delta_input
    K, rows = layer.n_out, last - first
    tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    kept = below.keeps_slope == 2 or (batch.training != 0 and below.dropout > 0.0)
    for p in range(panels_of(layer.n_in, panel)):
        vectors = vectors_of(layer.n_in, p, layer.v)
        for t in range(tiles):
            r = part(rows, t, tiles)
            m = part(rows, t + 1, tiles) - r
            place = (p * net.stride + first + r) * panel
            tile_rows(
                m, vectors, K, at(delta, r * panel), net.stride * panel,
                at(layer.wt, p * K * panel), at(out, place), 0,
            )  # fmt: skip
            if index > 0:
                if kept:
                    backward_slope(at(below.slope, place), at(out, place), m * panel)
                else:
                    backward(
                        below.activation, below.a, at(below.v, place), at(out, place), m * panel
                    )


@kernel
def read_outputs(net, first, last, T):
    """The outputs f of rows first … last − 1, at most LANES, transposed; lanes beyond are 0."""
    n = lanes(T)
    panel = 2 * n
    top = record_at(net.layer, net.layers - 1)
    for j in range(top.n_out):
        f = at(top.v, (j // panel * net.stride + first) * panel + j % panel)
        for i in range(last - first):
            T[j * n + i] = f[i * panel]
        for i in range(last - first, n):
            T[j * n + i] = number(T, 0.0)


@inline
def inverse_weight(net, batch):
    """1 / Σ of the minibatch's sample weights."""
    return net.inverse_weight[batch.step % 2]


@inline
def outputs_of(net, thread):
    """The thread's T; then as many targets, losses of them, and five vectors."""
    top = record_at(net.layer, net.layers - 1)
    n = lanes(net.outputs)
    return at(net.outputs, thread * (3 * top.n_out + 5) * n)


@kernel
def loss_rows(net, batch, thread, first, last):
    """Weighted loss of each row into row_loss, and δᴸ over f.

    A loss may be finite where an output is not (e^−∞ is 0, a floor is a bound) and its δ NaN: so what is
    finite gets 0 Σⱼ fⱼ added, which is 0 where all outputs are finite and NaN elsewhere.
    """
    top = record_at(net.layer, net.layers - 1)
    outputs = top.n_out
    T = outputs_of(net, thread)
    n = lanes(T)
    panel = 2 * n
    Y = at(T, outputs * n)
    V = at(Y, outputs * n)
    total = at(V, outputs * n + n)
    one, two, nothing = at(total, n), at(total, 2 * n), at(total, 3 * n)
    zero = number(T, 0.0)
    inverse = inverse_weight(net, batch)
    r = first
    while r < last:
        m = min(n, last - r)
        read_outputs(net, r, r + m, T)
        for i in range(n):
            nothing[i] = zero
        for j in range(outputs):
            for i in range(n):
                nothing[i] = fma(T[j * n + i], zero, nothing[i])
        if net.labelled:
            loss_labels(T, outputs, net, batch, r, m, total, one, two)
        else:
            for i in range(m):
                y = at(net.y, row_of(batch, r + i) * outputs)
                for j in range(outputs):
                    Y[j * n + i] = y[j]
            for i in range(m, n):  # rows that are not there compute with zeros
                for j in range(outputs):
                    Y[j * n + i] = zero
            if net.loss == SOFTMAX_CROSS_ENTROPY:
                softmax_targets(T, Y, outputs, total, one, two)
            else:
                loss_targets(net, T, Y, V, outputs * n)
                for i in range(n):
                    total[i] = zero
                for j in range(outputs):
                    for i in range(n):
                        total[i] = total[i] + V[j * n + i]
        for i in range(m):
            k = row_of(batch, r + i)
            weight = number(0.0, net.weight[k]) if net.weighted else 1.0
            if fabs(total[i]) < math.inf:
                total[i] = total[i] + nothing[i]
            loss = number(0.0, total[i])
            net.row_loss[r + i] = weight * loss if weight != 0.0 else 0.0
            scale = number(T, weight * inverse)
            for j in range(outputs):
                place = (j // panel * net.stride + r + i) * panel + j % panel
                # a row of weight 0 says nothing, even where its δ is not finite
                top.delta[place] = T[j * n + i] * scale if weight != 0.0 else zero
        r += n


@kernel
def row_phase(net, batch, thread):
    """Phase 1 on this thread's share of the minibatch's rows, a block at a time through all layers."""
    first = part(batch.count, thread, net.threads)
    last = part(batch.count, thread + 1, net.threads)
    blocks = (last - first + net.block - 1) // net.block
    for b in range(blocks):
        r0 = first + part(last - first, b, blocks)
        r1 = first + part(last - first, b + 1, blocks)
        gather(net, batch, r0, r1)
        for index in range(net.layers):
            forward_layer(net, batch, index, r0, r1)
        loss_rows(net, batch, thread, r0, r1)
        if net.back:
            for index in range(net.layers - 1, 0, -1):
                backward_layer(net, batch, index, r0, r1)


# ---- phase 2: tiles of weights ----


@kernel
def gradient_tile(net, batch, task, g):
    """g = Σ_rows v δᵀ for the inputs and outputs of one task; added to g unless batch.offset is 0."""
    layer = record_at(net.layer, task.layer)
    panel = 2 * lanes(g)
    v = at(layer.v_in, task.k * net.stride * panel)
    delta = at(layer.delta, task.j * net.stride * panel)
    tiles = (task.inputs + TILE_ROWS - 1) // TILE_ROWS
    vectors = vectors_of(layer.n_out, task.j, g)
    b = 0
    while b < max(batch.count, 1):  # both operands stay in the L1 cache
        rows = min(GRADIENT_ROWS, batch.count - b)
        for t in range(tiles):
            i = part(task.inputs, t, tiles)
            tile_features(
                part(task.inputs, t + 1, tiles) - i, vectors, rows, at(v, b * panel + i), 0,
                at(delta, b * panel), at(g, i * panel), batch.offset + b,
            )  # fmt: skip
        b += GRADIENT_ROWS


@inline
def weights_at(net, task):
    layer = record_at(net.layer, task.layer)
    panel = 2 * lanes(layer.w)
    return (task.j * (layer.n_in + 1) + task.k * panel) * panel


@inline
def penalized(net, task):
    """Numbers of the task's tile that are weights, not biases."""
    layer = record_at(net.layer, task.layer)
    panel = 2 * lanes(layer.w)
    return min(task.inputs, layer.n_in - task.k * panel) * panel


@kernel
def transpose_tile(layer, j, k):
    """The block of wt that mirrors input panel k of output panel j of w."""
    n = lanes(layer.w)
    panel = 2 * n
    w = at(layer.w, (j * (layer.n_in + 1) + k * panel) * panel)
    wt = at(layer.wt, (k * layer.n_out + j * panel) * panel)
    rows, columns = min(panel, layer.n_in - k * panel), min(panel, layer.n_out - j * panel)
    for r0 in range(0, rows, n):
        for c0 in range(0, columns, n):
            if r0 + n <= rows and c0 + n <= columns:
                transpose_square(at(w, r0 * panel + c0), at(wt, c0 * panel + r0))
            else:
                for c in range(c0, min(c0 + n, columns)):
                    for r in range(r0, min(r0 + n, rows)):
                        wt[c * panel + r] = w[r * panel + c]


@kernel
def update_tile(net, batch, task, g):
    """The optimizer's step on one task's tile, and its mirror in wt."""
    layer = record_at(net.layer, task.layer)
    place, n = weights_at(net, task), task.inputs * 2 * lanes(g)
    weights = penalized(net, task)
    if net.decay > 0.0:
        shrink(1.0 - batch.learning_rate * net.decay, weights, at(layer.w, place))
    update(
        net, batch.eta, n, at(layer.w, place), g,
        at(layer.first, place if net.slots > 0 else 0), at(layer.second, place if net.slots > 1 else 0),
    )  # fmt: skip
    if task.layer > 0 and weights > 0:
        transpose_tile(layer, task.j, task.k)


@kernel
def penalize_tile(net, batch, task, g):
    if net.l1 == 0.0 and net.l2 == 0.0:
        return 0.0
    scale = inverse_weight(net, batch) if net.penalty_in_sum else 1.0
    layer = record_at(net.layer, task.layer)
    w = at(layer.w, weights_at(net, task))
    return penalize(scale * net.l1, scale * net.l2, penalized(net, task), w, g)


@kernel
def first_task(net, thread):
    """The tasks are cut so that each thread has the same work: where thread's share starts."""
    goal = part(net.task_cost[net.tasks], thread, net.threads)
    low, high = 0, net.tasks
    while low < high:
        middle = (low + high) // 2
        if net.task_cost[middle] < goal:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def update_phase(net, batch, thread):
    """Phase 2: gradient, penalty and update of this thread's tiles."""
    first, last = first_task(net, thread), first_task(net, thread + 1)
    panel = 2 * lanes(net.tile)
    if net.clip_norm == 0.0:
        g = at(net.tile, thread * panel * panel)
        for t in range(first, last):
            task = record_at(net.task, t)
            gradient_tile(net, batch, task, g)
            task.penalty = penalize_tile(net, batch, task, g)
            update_tile(net, batch, task, g)
        return
    for t in range(first, last):
        task = record_at(net.task, t)
        g = gradient_at(net, task)
        gradient_tile(net, batch, task, g)
        task.penalty = penalize_tile(net, batch, task, g)
        task.squares = sum_squares(task.inputs * panel, g)
    barrier(net)
    norm = 0.0
    for t in range(net.tasks):
        norm += record_at(net.task, t).squares
    norm = math.sqrt(norm)
    for t in range(first, last):
        task = record_at(net.task, t)
        g = gradient_at(net, task)
        if norm > net.clip_norm:
            shrink(net.clip_norm / norm, task.inputs * panel, g)
        update_tile(net, batch, task, g)


@inline
def gradient_at(net, task):
    return at(record_at(net.layer, task.layer).g, weights_at(net, task))
