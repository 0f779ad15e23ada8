"""What the threads of a call run: an epoch, a gradient, a forward pass, a Jacobian.

Each takes the net's record and the number of the thread.
"""

from __future__ import annotations

import math

from fastbp.engines.jit.kernels.intrinsics import (
    at,
    atomic_add,
    kernel,
    lanes,
    number,
    record_at,
)
from fastbp.engines.jit.kernels.losses import apply_link, row_of
from fastbp.engines.jit.kernels.passes import (
    CACHE_LINE,
    backward_layer,
    barrier,
    first_task,
    forward_layer,
    gather,
    gradient_at,
    gradient_tile,
    inverse_weight,
    outputs_of,
    panels_of,
    penalize_tile,
    read_outputs,
    row_phase,
    update_phase,
)


@kernel
def weigh(net, batch):
    """The inverse weight of the minibatch, for its step.

    The caller may write to his arrays while they are read here, and what decides whether a step is
    applied must be the same for every thread: so one computes it, before a barrier.
    """
    total = 0.0
    if net.weighted:
        for r in range(batch.count):
            total += number(0.0, net.weight[row_of(batch, r)])
    else:
        total = float(batch.count)
    net.inverse_weight[batch.step % 2] = 1.0 / total if total != 0.0 else 0.0


@kernel
def take_minibatch(net, batch, s):
    """Minibatch s of an epoch."""
    batch.rows = at(net.order, s * net.batch)
    batch.count = min(net.batch, net.rows - s * net.batch)
    batch.step = net.step + s


@kernel
def sum_losses(net, count):
    """Sum of the rows' weighted losses, in the order of the rows."""
    total = 0.0
    for r in range(count):
        total += net.row_loss[r]
    return total


@kernel
def sum_penalties(net):
    total = 0.0
    for t in range(net.tasks):
        total += record_at(net.task, t).penalty
    return total


@kernel
def epoch(net, thread, first, last):
    """Minibatches first … last − 1: rows, barrier, weights, barrier."""
    batch = record_at(net.batches, thread)
    batch.training = 1
    batch.shuffled = 1
    batch.offset = 0
    if first == 0:
        if thread == 0:
            take_minibatch(net, batch, 0)
            weigh(net, batch)
        barrier(net)
    for s in range(first, last):
        take_minibatch(net, batch, s)
        batch.learning_rate = net.learning_rates[s]
        batch.eta = net.etas[s]
        row_phase(net, batch, thread)
        barrier(net)
        loss = sum_losses(net, batch.count) * inverse_weight(net, batch)
        if not math.isfinite(loss):  # every thread finds the same
            if thread == 0:
                net.losses[s] = loss
                net.stop = 1
            return
        update_phase(net, batch, thread)
        if thread == 0:
            net.done = s + 1
            net.stop = net.interrupted  # between two barriers: all threads read the same
            if (s + 1) * net.batch < net.rows:
                take_minibatch(net, batch, s + 1)
                weigh(net, batch)
        barrier(net)
        if thread == 0:
            net.penalties[s] = sum_penalties(net)
            net.losses[s] = loss + net.penalties[s]
        if net.stop:
            return


@kernel
def gradient(net, thread):
    """Loss over all rows as one batch and, where net.back, its gradient into g."""
    batch = record_at(net.batches, thread)
    first, last = first_task(net, thread), first_task(net, thread + 1)
    batch.training = 0
    batch.step = 0
    batch.shuffled = 0
    batch.offset = 0
    batch.count = net.rows
    if thread == 0:
        weigh(net, batch)
    barrier(net)
    start = 0
    while start < net.rows:
        batch.offset = start
        batch.count = min(net.batch, net.rows - start)
        row_phase(net, batch, thread)
        barrier(net)
        if thread == 0:
            net.total += sum_losses(net, batch.count) * inverse_weight(net, batch)
        if net.back:
            for t in range(first, last):
                task = record_at(net.task, t)
                gradient_tile(net, batch, task, gradient_at(net, task))
        barrier(net)
        start += net.batch
    panel = 2 * lanes(net.tile)
    for t in range(first, last):
        task = record_at(net.task, t)
        g = at(net.tile, thread * panel * panel)  # where only the value is wanted
        if net.back:
            g = gradient_at(net, task)
            if net.rows == 0:
                gradient_tile(net, batch, task, g)
        task.penalty = penalize_tile(net, batch, task, g)
    barrier(net)
    if thread == 0:
        net.total += sum_penalties(net)


@kernel
def take_rows(net, batch, thread):
    """Gather the next rows of X into this thread's rows of the buffers; returns how many, 0 at the end.

    On return batch.offset is X's row of row 0 of the buffers.
    """
    start, first = atomic_add(at(net.team, 2 * CACHE_LINE), 1) * net.block, thread * net.block
    if start >= net.rows:
        return 0
    batch.training = 0
    batch.step = 0
    batch.shuffled = 0
    batch.offset = start - first
    batch.count = min(net.block, net.rows - start)
    gather(net, batch, first, first + batch.count)
    for index in range(net.layers):
        forward_layer(net, batch, index, first, first + batch.count)
    return batch.count


@kernel
def forward(net, thread):
    """Outputs f, or predictions, of all rows into net.out."""
    batch = record_at(net.batches, thread)
    T = outputs_of(net, thread)
    n, first = lanes(T), thread * net.block
    outputs = record_at(net.layer, net.layers - 1).n_out
    total = at(T, outputs * n)
    while take_rows(net, batch, thread) > 0:
        last = first + batch.count
        for r in range(first, last, n):
            m = min(n, last - r)
            read_outputs(net, r, r + m, T)
            if net.with_link:
                apply_link(net.link, T, outputs, total, at(total, n))
            out = at(net.out, (batch.offset + r) * outputs)
            for i in range(m):
                for j in range(outputs):
                    out[i * outputs + j] = T[j * n + i]


@kernel
def jacobian(net, thread):
    """∂f/∂x of all rows into net.out: δᴸ = eᵢ carried down to the input, output by output."""
    batch = record_at(net.batches, thread)
    top = record_at(net.layer, net.layers - 1)
    panel, first = 2 * lanes(net.out), thread * net.block
    n_in, outputs = record_at(net.layer, 0).n_in, top.n_out
    while take_rows(net, batch, thread) > 0:
        last = first + batch.count
        for i in range(outputs):
            for r in range(first, last):
                for p in range(panels_of(outputs, panel)):
                    row = at(top.delta, (p * net.stride + r) * panel)
                    for j in range(panel):
                        row[j] = number(row, 1.0 if p * panel + j == i else 0.0)
            for index in range(net.layers - 1, -1, -1):
                backward_layer(net, batch, index, first, last)
            for r in range(first, last):
                row = at(net.out, ((batch.offset + r) * outputs + i) * n_in)
                for k in range(n_in):
                    row[k] = net.delta_input[(k // panel * net.stride + r) * panel + k % panel]
