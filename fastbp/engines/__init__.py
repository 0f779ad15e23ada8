"""The contract every engine fulfils, and the choice of engine.

An engine is made from a `Plan`: it allocates every buffer once, holds the network's parameters and
the optimizer's state, and does all the arithmetic. The Python API above it validates inputs and
decides *what* to run; an engine checks shapes (`arrays.py`) and trusts values. All engines pass the
same contract tests (`tests/test_engine_contract.py`), but for what they say they lack.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import nearest_name
from fastbp.engines import jit, native, reference
from fastbp.plan import Plan

__all__ = ["ENGINES", "Array", "Engine", "Plan", "Rows", "check_precision", "choose", "create"]

Array = NDArray[Any]
Rows = Any  # an Array, or a fastbp.csr.CSR for a plan that is sparse


class Engine(Protocol):
    """What an engine offers. Arrays are C-contiguous, of the plan's dtype unless said.

    X has shape (n, n_0); where the plan's first stage is Sparse it is a `fastbp.csr.CSR`, and else an
    array. y has shape (n, n_L) in the plan's dtype, or for softmax_cross_entropy also
    (n,) int64 labels. sample_weight has shape (n,), or is None for all ones. Parameters are lists of
    arrays of the plan's `shapes`: of a Dense stage [W | b], the homogeneous form of the notes.
    One call at a time: an engine has one workspace. Who shares it keeps others out.
    n may be 0; a loss over zero rows (or over a total weight of 0) is 0. The loss of a row is not
    finite where one of its outputs is not. A row of weight 0 says nothing, whatever is in it.

    An engine checks the shapes of what it is given, and raises ValueError naming the argument. It
    reads X, y and sample_weight where they lie: if another thread writes to them meanwhile the results
    are anyone's guess, but the call ends, and touches no other memory.
    """

    plan: Plan

    def get_parameters(self) -> list[Array]:
        """Copies of the parameters."""
        ...

    def set_parameters(self, parameters: list[Array]) -> None:
        """Copy parameters in. The optimizer's state stays.

        Raises ValueError for arrays of other shapes, before any is copied.
        """
        ...

    def keep(self) -> bool:
        """Copy the parameters aside, if all of them are finite; return whether they are.

        In place of those kept before. The memory for them is taken the first time.
        """
        ...

    def restore(self) -> None:
        """Take back the parameters that were kept. The optimizer's state stays.

        Raises RuntimeError if none were.
        """
        ...

    def get_optimizer_state(self) -> tuple[int, list[list[Array]]]:
        """Steps taken, and copies of the state: slot by slot (u; s; m and s), layer by layer."""
        ...

    def set_optimizer_state(self, step: int, slots: list[list[Array]]) -> None:
        """Copy state in, in the form of `get_optimizer_state`. Raises as `set_parameters`."""
        ...

    def after_fork(self) -> None:
        """Be as between two calls: in a forked process, where the thread that was in one is no more.

        For the holder of the engine, who knows that a call was cut off. If that was one that changes
        parameters or state, these are lost.
        """
        ...

    def forward(self, X: Rows, out: Array, *, link: bool = False) -> None:
        """Write f(x), or the prediction link(f(x)), of every row to `out`, shape (n, n_L)."""
        ...

    def classify(self, X: Rows, out: NDArray[np.int64]) -> None:
        """Write argmax_j f_j(x) of every row to `out`, shape (n,): as NumPy's, also of NaNs."""
        ...

    def loss(self, X: Rows, y: Array, sample_weight: Array | None) -> float:
        """Objective over all rows as one batch, without dropout: weighted mean loss + penalties."""
        ...

    def gradient(self, X: Rows, y: Array, sample_weight: Array | None, out: list[Array]) -> float:
        """Write ∇_W of the objective (see `loss`) to `out`, shaped as the parameters; return `loss`.

        No dropout, no clipping.
        """
        ...

    def jacobian(self, X: Rows, out: Array) -> None:
        """Write df/dx of every row to `out`, shape (n, n_L, n_0)."""
        ...

    def epoch(
        self,
        X: Rows,
        y: Array,
        sample_weight: Array | None,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        losses: NDArray[np.float64],
        penalties: NDArray[np.float64] | None = None,
        dropouts: NDArray[np.float64] | None = None,
        decays: NDArray[np.float64] | None = None,
    ) -> int:
        """Train on rows order[0 : batch_size], order[batch_size : 2 batch_size], … of X.

        That 0 ≤ order[i] < n is the caller's to see to: a look at all of them would not be O(1).
        Step s uses learning_rates[s] and writes its objective, taken before its update, to losses[s],
        and the part of it that the penalties are to penalties[s], where given; each has at least
        ⌈len(order) / batch_size⌉ entries. `dropouts` and `decays`, where given, are what each step
        multiplies the stages' dropout (≤ 1) and the optimizer's decay by. A step whose loss, without
        the penalties, is not finite is not applied and ends the epoch. The optimizer's step count
        goes on from call to call. Returns the number of steps applied.
        """
        ...


# Best first: "auto" takes the first one that lacks nothing of what the plan needs.
MODULES: dict[str, ModuleType] = {"native": native, "jit": jit, "reference": reference}
ENGINES = ("auto", *MODULES)


def check_precision(precision: object, dtype: str) -> None:
    """Raise ValueError unless `precision` is one of `Plan`, and `dtype` is one that it takes."""
    if precision is None:
        return
    if not isinstance(precision, str) or precision != "bf16":
        raise ValueError(f"precision must be None or 'bf16', got {precision!r}")
    if dtype != "float32":
        raise ValueError(f"precision 'bf16' needs dtype 'float32', but dtype is {dtype!r}")


def choose(plan: Plan) -> str:
    """The name of the engine that ``"auto"`` takes for `plan`."""
    return next(name for name, module in MODULES.items() if module.lacks(plan) is None)


def create(plan: Plan, engine: str = "auto") -> Engine:
    """Make the engine of that name for `plan`.

    Raises
    ------
    ValueError
        If the name is unknown, or the engine lacks what the plan needs, and why.
    """
    if engine not in ENGINES:
        raise ValueError(nearest_name("engine", engine, ENGINES))
    check_precision(plan.precision, plan.dtype)
    name = choose(plan) if engine == "auto" else engine
    module = MODULES[name]
    if why := module.lacks(plan):
        raise ValueError(f"engine {name!r} {why}")
    made: Engine = module.create(plan)
    return made
