"""Signals during a computation: Ctrl-C comes between steps, and no handler may use the same engine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


def refuse_reentry() -> NoReturn:
    """Raise for a call that came, from a signal's handler, in the middle of another."""
    raise RuntimeError(
        "a signal handler cannot use the model whose computation it interrupts; let it set a flag "
        "that a callback reads, or raise an exception"
    )


@contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Hold SIGINT back; the function given, to be called after every step, lets it through.

    Only the main thread runs signal handlers: in others there is nothing to hold back.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield lambda: None
        return
    held: list[tuple[int, Any]] = []

    def let_through() -> None:
        if held:
            handler(*held.pop())  # raises KeyboardInterrupt, as a rule

    _held_back.append((threading.get_ident(), handler))
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield let_through
    finally:
        signal.signal(signal.SIGINT, handler)
        _held_back.pop()
        let_through()


# The main thread, and the handler that it put aside; one in the other where a handler trains a model.
_held_back: list[tuple[int, Any]] = []


def _after_fork() -> None:
    """Where another thread than the one that computes has forked, nobody would let SIGINT through."""
    if _held_back and _held_back[0][0] != threading.get_ident():
        signal.signal(signal.SIGINT, _held_back[0][1])
        _held_back.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
