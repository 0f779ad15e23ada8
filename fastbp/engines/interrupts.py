"""Signals during a computation: Ctrl-C comes between steps, and no handler may use the same engine."""

from __future__ import annotations

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

    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield let_through
    finally:
        signal.signal(signal.SIGINT, handler)
        let_through()
