"""Checks of plain values, and the wording of their errors, shared by the whole Python layer."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable

_MOST_NAMES = 20  # that a message lists


def nearest_name(kind: str, got: object, known: Iterable[str]) -> str:
    """Message for an unknown name, with the nearest valid one suggested."""
    names = list(known)
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(got).lower(), lower, n=1)
    hint = f"; did you mean {lower[close[0]]!r}?" if close else "."
    listed = ", ".join(names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"unknown {kind} {got!r}{hint} Valid names: {listed}{more}"


def check_finite_number(
    name: str,
    value: object,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    open_minimum: bool = False,
    open_maximum: bool = False,
) -> float:
    """Return `value` as a float, or raise naming the argument, what it got and what it takes."""
    low = ">" if open_minimum else "≥"
    high = "<" if open_maximum else "≤"
    bounds = [f"{low} {minimum:g}"] if minimum > -math.inf else []
    bounds += [f"{high} {maximum:g}"] if maximum < math.inf else []
    wanted = "a finite number" + (" " + " and ".join(bounds) if bounds else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {wanted}, got {value!r}")
    x = float(value)
    inside = (
        math.isfinite(x)
        and (x > minimum if open_minimum else x >= minimum)
        and (x < maximum if open_maximum else x <= maximum)
    )
    if not inside:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return x


def check_integer(name: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int, or raise naming the argument, what it got and what it takes."""
    wanted = f"an integer ≥ {minimum}" + (f" and ≤ {maximum}" if maximum is not None else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {wanted}, got {value!r}")
    n = int(value)
    if n < minimum or (maximum is not None and n > maximum):
        raise ValueError(f"{name} must be {wanted}, got {n}")
    return n
