"""How the engine's arrays lie in memory, and the records that compiled code and Python share.

Every matrix is cut into panels of PANEL columns, the width of the register tile, each panel row-
major and contiguous. With P = ⌈columns / PANEL⌉ panels:

    activations, deltas   [P][stride][PANEL]        row = sample of the minibatch, column = feature;
                                                    v has the feature n_l = 1 of the notes after its last
    weights W             [P_out][n_in + 1][PANEL]  row = input k (the bias is row n_in), column = output
    weights transposed    [P_in][n_out][PANEL]      row = output, column = input, without the bias

Forward, backward-data and weight gradient each read these as they are. Columns past the last one
are zero in weights and deltas, and stay so under every optimizer while all is finite.
"""

from __future__ import annotations

import numpy as np

from fastbp.engines import Array

ACTIVATIONS = (
    "identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "selu", "silu",
    "gelu", "mish",
)  # fmt: skip
USER_ACTIVATION = len(ACTIVATIONS)
LOSSES = (
    "squared_error", "absolute_error", "huber", "softmax_cross_entropy", "binary_cross_entropy",
    "poisson", "pinball",
)  # fmt: skip
USER_LOSS = len(LOSSES)
LINKS = ("identity", "softmax", "sigmoid", "exp")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam")

# Fields of the records; each takes 8 bytes. "real" stands for the engine's dtype, * for a pointer.
Fields = tuple[tuple[str, str], ...]

LAYER: Fields = (
    ("n_in", "i8"),
    ("n_out", "i8"),
    ("activation", "i8"),
    ("function", "i8"),  # address of a user's activation
    ("keeps_slope", "i8"),  # φ'(z) is kept by the forward pass
    ("a", "f8"),  # the activation's parameter
    ("dropout", "f8"),
    ("w", "real*"),  # weights and, all but in the first layer, their transpose
    ("wt", "real*"),
    ("first", "real*"),  # the optimizer's state, laid out as w
    ("second", "real*"),
    ("g", "real*"),  # the gradient, as w; only for clipping and Engine.gradient
    ("v_in", "real*"),  # vˡ⁻¹
    ("v", "real*"),  # vˡ; the output layer's is f
    ("delta", "real*"),  # δˡ; the output layer's takes the place of f
    ("slope", "real*"),  # φ'(zˡ) where it is not computed from vˡ
)

TASK: Fields = (  # a tile of the weight gradient: one input panel by one output panel
    ("layer", "i8"),
    ("j", "i8"),
    ("k", "i8"),
    ("inputs", "i8"),
    ("penalty", "f8"),
    ("squares", "f8"),
)

BATCH: Fields = (  # a thread's view of the minibatch; padded to whole cache lines
    ("rows", "i8*"),  # X's row of each of its rows; where not shuffled: offset, offset + 1, …
    ("shuffled", "i8"),
    ("offset", "i8"),
    ("count", "i8"),
    ("step", "i8"),
    ("training", "i8"),  # with dropout
    ("learning_rate", "f8"),
    ("eta", "f8"),  # with the bias corrections of Adam
    *((f"padding_{i}", "i8") for i in range(8)),
)

NET: Fields = (
    # the plan
    ("layers", "i8"),
    ("batch", "i8"),
    ("stride", "i8"),
    ("threads", "i8"),
    ("block", "i8"),  # rows that go through all layers together
    ("loss", "i8"),
    ("loss_function", "i8"),  # address of a user's loss
    ("link", "i8"),
    ("loss_parameter", "f8"),
    ("loss_low", "f8"),
    ("loss_high", "f8"),
    ("optimizer", "i8"),
    ("slots", "i8"),
    ("momentum", "f8"),  # μ; ρ of RMSprop; β₁ of Adam
    ("new_momentum", "f8"),
    ("beta_2", "f8"),
    ("new_beta_2", "f8"),
    ("epsilon", "f8"),
    ("decay", "f8"),  # λ of AdamW
    ("l1", "f8"),
    ("l2", "f8"),
    ("penalty_in_sum", "i8"),
    ("clip_norm", "f8"),
    ("seed", "i8"),
    ("step", "i8"),  # steps taken
    # buffers
    ("layer", "layer*"),
    ("task", "task*"),
    ("tasks", "i8"),
    ("task_cost", "i8*"),  # cumulative, tasks + 1 of them
    ("row_loss", "f8*"),
    ("outputs", "real*"),  # for each thread: outputs, targets and losses of LANES rows
    ("tile", "real*"),  # for each thread: a PANEL × PANEL tile of gradient
    ("delta_input", "real*"),  # ∂f/∂x of the Jacobian
    ("batches", "batch*"),
    # the threads: waiting, barriers passed, pieces of work handed out, each in its cache line
    ("team", "i8*"),
    ("yield_cpu", "i8"),  # addresses of the system's calls, or 0
    ("sleep", "i8"),
    # the call
    ("X", "real*"),
    ("y", "real*"),
    ("labels", "i8*"),
    ("labelled", "i8"),
    ("weight", "real*"),
    ("weighted", "i8"),
    ("rows", "i8"),  # of X, or of the sample order
    ("order", "i8*"),
    ("learning_rates", "f8*"),
    ("etas", "f8*"),
    ("losses", "f8*"),
    ("penalties", "f8*"),
    ("inverse_weight", "f8*"),  # 1 / Σ of a minibatch's sample weights, in even and in odd steps
    ("total", "f8"),  # Σ of the rows' weighted losses
    ("out", "real*"),
    ("with_link", "i8"),
    ("back", "i8"),
    ("interrupted", "i8"),
    ("stop", "i8"),
    ("done", "i8"),  # steps applied
)

RECORDS = {"layer": LAYER, "task": TASK, "batch": BATCH, "net": NET}


def record(fields: Fields) -> np.dtype[np.void]:
    """The NumPy dtype of a record; pointers are integers to Python."""
    return np.dtype([(name, "f8" if kind == "f8" else "i8") for name, kind in fields])


def panels(columns: int, panel: int) -> int:
    """Panels of a matrix with so many columns."""
    return -(-columns // panel)


def pack(W: Array, panel: int) -> Array:
    """The notes' W, shape (n_out, n_in + 1), in panels."""
    n_out, columns = W.shape
    count = panels(n_out, panel)
    w = np.zeros((count * panel, columns), W.dtype)
    w[:n_out] = W
    return w.reshape(count, panel, columns).transpose(0, 2, 1)


def pack_transposed(W: Array, panel: int) -> Array:
    """W without its bias column, transposed, in panels."""
    n_out, n_in = W.shape[0], W.shape[1] - 1
    count = panels(n_in, panel)
    wt = np.zeros((n_out, count * panel), W.dtype)
    wt[:, :n_in] = W[:, :-1]
    return wt.reshape(n_out, count, panel).transpose(1, 0, 2)


def unpack(w: Array, n_out: int) -> Array:
    """The notes' W from panels, as a copy."""
    count, columns, panel = w.shape
    return np.ascontiguousarray(w.transpose(0, 2, 1).reshape(count * panel, columns)[:n_out])
