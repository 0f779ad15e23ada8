"""How far reading, training and predicting have come.

A bar of tqdm where that is installed and somebody looks at it; else a plain line on standard error
every few seconds.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

__all__ = ["Meter"]

EVERY = 5.0  # seconds from one plain line to the next


class Meter:
    """Progress of one task, from 0 to a total that may become known late.

    Parameters
    ----------
    task : str
        What is done, such as ``"reading"``.
    quiet : bool
        Show nothing.
    scale : bool
        Whether large numbers get a prefix such as M: for bytes.
    """

    def __init__(
        self, task: str, *, quiet: bool = False, unit: str = "B", scale: bool = True
    ) -> None:
        self.task, self.quiet, self.unit, self.scale = task, quiet, unit, scale
        self.began = self.last = time.monotonic()
        self.bar: Any = None
        self.tqdm = None if quiet else _tqdm()

    def __call__(self, name: str, done: int, total: int, note: str = "") -> None:
        """Show that so much of the total is done."""
        if self.quiet or not total:
            return
        if self.tqdm is not None:
            if self.bar is None or self.bar.total != total:
                self.close()
                self.bar = self.tqdm(
                    total=total,
                    desc=f"{self.task} {name}".strip(),
                    unit=self.unit,
                    unit_scale=self.scale,
                    leave=False,
                )
            if note:
                self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(done - self.bar.n)
            return
        now = time.monotonic()
        if now - self.last >= EVERY and done < total:
            self.last = now
            left = (now - self.began) * (total - done) / max(done, 1)
            what = f"{self.task} {name}".strip()
            print(
                f"{what}: {done / total:.0%}, about {left:.0f} s left", file=sys.stderr, flush=True
            )

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def _tqdm() -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm
