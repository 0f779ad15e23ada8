"""A network as text: the call that makes it, and a table of its layers."""

from __future__ import annotations

import math

from fastbp import activations, losses
from fastbp.activations import Activation
from fastbp.losses import Loss
from fastbp.plan import Plan


def call(plan: Plan) -> str:
    """Return the call of `MLP` that makes such a network; what is not set is left out."""
    options = []
    if plan.activations:
        names = [_short(a) for a in plan.activations]
        one = names[0] if len(set(names)) == 1 else f"[{', '.join(names)}]"
        options.append(f"activation={one}")
    options.append(f"loss={_short(plan.loss)}")
    if any(plan.dropout):
        options.append(f"dropout={list(plan.dropout)}")
    for name in ("l1", "l2", "label_smoothing"):
        if value := getattr(plan, name):
            options.append(f"{name}={value}")
    options.append(f"dtype={plan.dtype!r}")
    if plan.precision is not None:
        options.append(f"precision={plan.precision!r}")
    return f"MLP({list(plan.layer_sizes)}, {', '.join(options)})"


def _short(a: Activation | Loss) -> str:
    """Return the name alone where the parameter is the default one, or there is none."""
    if a.function is not None:
        return repr(a.name)
    default = activations.get(a.name) if isinstance(a, Activation) else losses.get(a.name)
    return repr(a.name) if a == default else repr(a)


def rows(plan: Plan) -> list[tuple[str, ...]]:
    """The table of `MLP.summary`: its head, a row for each layer, the total."""
    total = 0
    rows = [("layer", "shape", "activation", "dropout", "parameters")]
    for i, stage in enumerate(plan.stages, 1):
        count = sum(math.prod(shape) for shape in stage.shapes)
        total += count
        phi = stage.activation.name if i < len(plan.stages) else plan.loss.link
        shape = f"{stage.inputs} → {stage.units}"
        rows.append((str(i), shape, phi, f"{stage.dropout:g}", f"{count:,}"))
    return [*rows, ("total", "", "", "", f"{total:,}")]


def loss_and_dtype(plan: Plan) -> str:
    """What `MLP.summary` says below the table."""
    precision = "" if plan.precision is None else f", {plan.precision} matmuls"
    return f"loss {plan.loss.name}, {plan.dtype}{precision}"


def table(plan: Plan) -> str:
    """Return a table with a line for each layer, their total, and the loss."""
    cells = rows(plan)
    a, b, c, d, e = (max(len(row[k]) for row in cells) for k in range(5))
    lines = [f"{r[0]:>{a}}  {r[1]:<{b}}  {r[2]:<{c}}  {r[3]:>{d}}  {r[4]:>{e}}" for r in cells]
    return "\n".join([*lines, loss_and_dtype(plan)])
