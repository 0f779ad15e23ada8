"""Ctrl-C between the steps of an engine written in Python, never in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


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
