"""How far reading, training and predicting have come, for the command and `fastbp.callbacks.Progress`.

A bar of tqdm, or else of rich, where one is installed and somebody looks at it (a terminal, a notebook);
otherwise a plain line on standard error every few seconds.
"""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

__all__ = ["KINDS", "Meter", "usual_kind"]

KINDS = ("tqdm", "rich", "plain")
EVERY = 5.0  # seconds from one plain line to the next


class Meter:
    """Progress of one task, from 0 to a total that may become known late.

    Parameters
    ----------
    task : str
        What is done, such as ``"reading"``.
    quiet : bool
        Show nothing.
    unit : str
    scale : bool
        Whether large numbers get a prefix such as M: for bytes.
    kind : {"tqdm", "rich", "plain"} or None
        None: the first that is installed, where somebody looks at it; else plain lines.
    """

    def __init__(
        self,
        task: str,
        *,
        quiet: bool = False,
        unit: str = "B",
        scale: bool = True,
        kind: str | None = None,
    ) -> None:
        self.task, self.quiet, self.unit, self.scale = task, quiet, unit, scale
        self.began = self.last = time.monotonic()
        self.kind = "plain" if quiet else kind or usual_kind()
        self.bar: _Tqdm | _Rich | None = None
        self.total = 0

    def __call__(self, name: str, done: int, total: int, note: str = "") -> None:
        """Show that so much of the total is done."""
        if self.quiet or not total:
            return
        what = f"{self.task} {name}".strip()
        if self.kind != "plain":
            if self.bar is None or self.total != total:
                self.close()
                make = _Tqdm if self.kind == "tqdm" else _Rich
                self.bar, self.total = make(what, total, self.unit, self.scale), total
            self.bar.update(done, note)
            return
        now = time.monotonic()
        if now - self.last >= EVERY and done < total:
            self.last = now
            left = (now - self.began) * (total - done) / max(done, 1)
            line = f"{what}: {done / total:.0%}, about {left:.0f} s left"
            print(f"{line}, {note}" if note else line, file=sys.stderr, flush=True)

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


class _Tqdm:
    def __init__(self, what: str, total: int, unit: str, scale: bool) -> None:
        if _in_notebook() and find_spec("ipywidgets"):
            from tqdm.notebook import tqdm
        else:
            from tqdm import tqdm
        self._bar: Any = tqdm(total=total, desc=what, unit=unit, unit_scale=scale, leave=False)

    def update(self, done: int, note: str) -> None:
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Rich:
    def __init__(self, what: str, total: int, unit: str, scale: bool) -> None:
        from rich import progress
        from rich.console import Console

        amount = progress.DownloadColumn() if scale else progress.MofNCompleteColumn()
        columns = (
            "{task.description}",
            progress.BarColumn(),
            amount,
            progress.TimeRemainingColumn(),
        )
        self._bar: Any = progress.Progress(
            *columns, "{task.fields[note]}", console=Console(stderr=True), transient=True
        )
        self._task = self._bar.add_task(what, total=total, note="")
        self._bar.start()

    def update(self, done: int, note: str) -> None:
        self._bar.update(self._task, completed=done, note=note)

    def close(self) -> None:
        self._bar.stop()


def usual_kind() -> str:
    """What shows progress here."""
    if not (sys.stderr.isatty() or _in_notebook()):
        return "plain"
    return next((kind for kind in KINDS if kind == "plain" or find_spec(kind)), "plain")


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())
