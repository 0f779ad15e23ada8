"""Checks of plain values, and the wording of their errors, shared by the whole Python layer."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

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


def by_name(*, after: int = 0, hint: str = "") -> Callable[[type[T]], type[T]]:
    """Have the arguments of a dataclass after the first ones given by name, with an error that says so.

    A number whose name is not there to read is easily taken for another one.
    """

    def decorate(cls: type[T]) -> type[T]:
        init = cls.__init__
        names = list(inspect.signature(init).parameters)[1:]

        @functools.wraps(init)
        def checked(self: T, *args: Any, **options: Any) -> None:
            unknown = [name for name in options if name not in names]
            if len(args) > after or unknown:
                got = [*map(repr, args), *(f"{name}={value!r}" for name, value in options.items())]
                raise TypeError(
                    f"{cls.__name__} takes {', '.join(f'{name}=' for name in names[after:])} by name, "
                    f"got {cls.__name__}({', '.join(got)}){hint}"
                )
            init(self, *args, **options)

        cls.__init__ = checked  # type: ignore[assignment, method-assign]
        return cls

    return decorate
