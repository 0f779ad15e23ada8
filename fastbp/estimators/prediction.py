"""The engines that an estimator predicts with, kept from call to call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from fastbp.engines import Array, Engine, Plan, create
from fastbp.estimators.parameters import join


@dataclass
class Kept:
    """An engine that has predicted, and copies of the parameters that are in it, as in coefs_."""

    plan: Plan
    name: str
    engine: Engine
    coefs: list[Array] = field(default_factory=list)
    intercepts: list[Array] = field(default_factory=list)


@contextmanager
def engine_for(
    kept: list[Kept], plan: Plan, name: str, coefs: list[Array], intercepts: list[Array]
) -> Iterator[Engine]:
    """An engine of `plan` with these parameters, to oneself: one of those kept, if any will do.

    Users may change coefs_ in place; to compare takes a fraction of the time to put them in anew.
    The list's pop is all the lock there is. Predictions side by side have an engine each, and who
    comes from a signal's handler, or lives in a process forked meanwhile, finds none and makes one.
    """
    found: Kept | None = None
    with suppress(IndexError):
        found = kept.pop()
    if found is None or found.plan != plan or found.name != name:
        found = Kept(plan, name, create(plan, name))
    same = found.coefs and all(
        map(np.array_equal, [*found.coefs, *found.intercepts], [*coefs, *intercepts])
    )
    if not same:  # copies first: another thread may change them meanwhile
        found.coefs, found.intercepts = [a.copy() for a in coefs], [a.copy() for a in intercepts]
        found.engine.set_parameters(join(found.coefs, found.intercepts, plan.dtype))
    yield found.engine
    kept.append(found)
