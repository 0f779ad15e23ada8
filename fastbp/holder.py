"""The holder of a network's engine: one lock around it, and what has to survive when it goes.

The parameters live in an engine once there is one; before that, and in pickles, they are here. An
engine stays as long as the plan it was made from does; for another plan another engine takes over
parameters and, if the optimizer is the same, its state. `MLP` and the estimators train through this.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.engines import Engine, create
from fastbp.optimizers import Optimizer
from fastbp.plan import Plan

__all__ = ["Holder"]

Array = NDArray[Any]
State = tuple[int, list[list[Array]]]  # steps taken, and slot by slot the optimizer's arrays

NO_STATE: State = (0, [])


class Holder:
    """Holds the engine of one network, for any number of threads and forked processes.

    Whoever computes takes `lock` around `use`, or `engine`, and the engine's call. `changing` is to be
    around a call that changes what the engine holds, and `training` around a whole training.

    Parameters
    ----------
    parameters : list of ndarray or None
        Of the network; used as they are. None: their home is elsewhere, every `use` is given them, and
        pickles have none.
    engine : str
        A name that `fastbp.engines.create` takes.

    Attributes
    ----------
    lock : threading.RLock
    engine : Engine or None
        Whatever its plan's training options.
    engine_name : str
        Of the engines made from now on.
    steps : int
        Taken with the optimizer's state that there is.
    """

    _is_changing: bool
    _training_lock: threading.Lock

    def __init__(self, parameters: list[Array] | None, engine: str = "auto") -> None:
        self.engine_name = engine
        self.engine: Engine | None = None
        self._made_as = ""
        self._optimizer: Optimizer | None = None  # whose state there is
        # Without an engine: what the next one begins with. No parameters: they are lost, or not yet set.
        self._parameters = parameters
        self._is_home = parameters is not None
        self._state: State = NO_STATE
        self.steps = 0
        self._prepare()

    def use(
        self, plan: Plan, *, parameters: list[Array] | None = None, fresh: bool = False
    ) -> Engine:
        """The engine of `plan`, for who has the lock.

        `parameters` are put into it in place of those that there are. With `fresh`, or for another
        optimizer or a network of other shapes, the optimizer begins anew.

        Raises
        ------
        RuntimeError
            If a fork in the middle of another thread's step has lost the parameters.
        """
        engine = self.engine
        if engine is not None and engine.plan == plan and self._made_as == self.engine_name:
            with self.changing():
                if parameters is not None:
                    engine.set_parameters(parameters)
                if fresh:
                    self.reset()
            return engine
        new = create(plan, self.engine_name)
        if parameters is None:
            parameters = self._present_parameters()
        new.set_parameters(parameters)
        if engine is not None and self.is_training:  # others ask for rows of another kind meanwhile
            new.keep()
        step, slots = self.state
        self.steps = 0
        same = self._optimizer == plan.optimizer
        if step and same and not fresh and all([a.shape for a in s] == plan.shapes for s in slots):
            new.set_optimizer_state(
                step, [[a.astype(plan.dtype, copy=False) for a in slot] for slot in slots]
            )
            self.steps = step
        self.engine, self._made_as, self._optimizer = new, self.engine_name, plan.optimizer
        self._parameters, self._state = None, NO_STATE
        return new

    def reset(self) -> None:
        """Have the optimizer begin anew; for who has the lock."""
        self._state, self.steps = NO_STATE, 0
        if self.engine is not None:
            with self.changing():
                self.engine.set_optimizer_state(0, _zeros(self.engine.plan))

    @property
    def is_training(self) -> bool:
        """Whether a training is on."""
        return self._training_lock.locked()

    @property
    def parameters(self) -> list[Array]:
        """Copies of the parameters. Setting copies, too; the optimizer's state stays."""
        with self.lock:
            if self.engine is not None:
                return self.engine.get_parameters()
            return [p.copy() for p in self._present_parameters()]

    @parameters.setter
    def parameters(self, value: Sequence[Array]) -> None:
        with self.lock:
            if self.engine is None:
                self._parameters = [p.copy() for p in value]
            else:
                with self.changing():
                    self.engine.set_parameters(list(value))

    @property
    def state(self) -> State:
        """Steps taken, and copies of the optimizer's arrays; no slots where there was no engine."""
        with self.lock:
            return self._state if self.engine is None else self.engine.get_optimizer_state()

    def _present_parameters(self) -> list[Array]:
        if self.engine is not None:
            return self.engine.get_parameters()
        if self._parameters is None:
            raise RuntimeError(
                "another thread was training this model, or setting its parameters, when this process "
                "was forked, so its weights are lost here; fork before or after, load the model from a "
                "file, or set its parameters"
            )
        return self._parameters

    @contextmanager
    def changing(self) -> Iterator[None]:
        """For who has the lock: parameters or state are not whole meanwhile."""
        before, self._is_changing = self._is_changing, True
        try:
            yield
        finally:
            self._is_changing = before

    @contextmanager
    def training(self) -> Iterator[None]:
        """Be the only one that trains the network.

        Raises
        ------
        RuntimeError
            If another call is training it.
        """
        if not self._training_lock.acquire(blocking=False):
            raise RuntimeError(
                "this model is being trained by another call of fit or partial_fit, maybe one that a "
                "signal handler interrupts; wait for it, or train a copy (copy.deepcopy)"
            )
        self._trainer = threading.get_ident()
        try:
            yield
        finally:
            self._trainer = 0
            self._training_lock.release()

    # Threads, processes, copies

    def _prepare(self) -> None:
        # An engine has one workspace: one call at a time. A signal's handler may come into a call of
        # its own thread; the engine refuses that by itself.
        self.lock = threading.RLock()
        self._is_changing = False  # what the engine holds, by who has the lock
        self._training_lock = threading.Lock()
        self._trainer = 0  # the thread that has it
        _holders.add(self)

    def _after_fork(self) -> None:
        """Be usable in a child process, where no thread lives but the one that forked."""
        cut_off = not self.lock.acquire(blocking=False)
        if cut_off:  # a call of another thread
            self.lock = threading.RLock()
        else:
            self.lock.release()
        training = self._training_lock.locked() and self._trainer != threading.get_ident()
        if training:
            self._training_lock = threading.Lock()
            self._trainer = 0
        if cut_off and self._is_changing:
            self.engine, self._is_changing = None, False
            self._parameters, self._state, self.steps = None, NO_STATE, 0
        elif (cut_off or training) and self.engine is not None:
            self.engine.after_fork()

    def __getstate__(self) -> dict[str, Any]:
        with self.lock:
            return {
                "engine_name": self.engine_name,
                "engine": None,
                "_made_as": "",
                "_optimizer": self._optimizer,
                "_is_home": self._is_home,
                "_parameters": self.parameters if self._is_home else None,
                "_state": self.state,
                "steps": self.steps,
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()


_holders: weakref.WeakSet[Holder] = weakref.WeakSet()


def _after_fork() -> None:
    for holder in _holders:
        holder._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _zeros(plan: Plan) -> list[list[Array]]:
    """The optimizer's arrays as they begin."""
    return [[np.zeros(s, plan.dtype) for s in plan.shapes] for _ in range(plan.optimizer.slots)]
