"""Training of one member: epochs, validation, the best epoch; and of many members side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.engines import create
from fastbp.losses import Loss
from fastbp.plan import Plan
from fastbp.stages import Stage
from fastbp.tabular import recipes
from fastbp.tabular.inputs import Inputs
from fastbp.tabular.metrics import Criterion
from fastbp.tabular.passes import outputs_of
from fastbp.tabular.recipes import Recipe

__all__ = [
    "Job",
    "Member",
    "Watch",
    "Work",
    "planned",
    "said",
    "side_by_side",
    "train_all",
    "watch_for",
]

Array = NDArray[Any]
Rows = NDArray[np.int64]
Data = tuple[Array, Array, Array | None]  # X, y, weight

_PROBE = 8  # steps that a time limit's guess is made of
_MOST_SHARE = 0.9  # of a time limit that is planned for


@dataclass(frozen=True)
class Job:
    """A member to be trained.

    Attributes
    ----------
    recipe : Recipe
    stages : tuple of stages
    loss : Loss
    rows : ndarray of int
        Of the data, those to train on.
    held : ndarray of int
        Of the data, those of validation; they are copied when training begins. May be none.
    aside : tuple or None
        X, y, weight of validation, in place of these.
    criterion : Criterion
    patience : int or None
        Epochs without a lower value, after which training ends.
    bounds : tuple of float or None
        What outputs are clamped to when they are validated.
    seed : int
    """

    recipe: Recipe
    stages: tuple[Stage, ...]
    loss: Loss
    rows: Rows
    held: Rows
    aside: Data | None
    criterion: Criterion
    patience: int | None
    bounds: tuple[float, float] | None
    seed: int

    def validation(self, data: Data) -> Data | None:
        """What is validated on."""
        if self.aside is not None or not len(self.held):
            return self.aside
        X, y, weight = data
        return X[self.held], y[self.held], None if weight is None else weight[self.held]

    def plan(self, threads: int) -> Plan:
        """For an engine."""
        classes = self.loss.name == "softmax_cross_entropy"
        return Plan(
            self.stages,
            self.loss,
            self.recipe.optimizer,
            batch_size=self.recipe.rows_of_batch(len(self.rows)) * self.recipe.copies,
            threads=threads,
            seed=self.seed,
            label_smoothing=self.recipe.smoothing if classes else 0.0,
        )


@dataclass
class Member:
    """A trained network.

    Attributes
    ----------
    parameters : list of ndarray
    values : list of float
        What validation said after every epoch.
    best_epoch : int
        From 0; −1: the first values.
    stopped : {"epochs", "patience", "time", "diverged", "interrupt"}
    """

    parameters: list[Array]
    values: list[float] = field(default_factory=list)
    best_epoch: int = -1
    stopped: str = "epochs"


@dataclass(frozen=True)
class Work:
    """All that is to be trained, on what, and what was learnt before."""

    inputs: Inputs
    data: Data
    kept: Rows  # those that have a weight
    jobs: Sequence[Job]


@dataclass
class Watch:
    """When to stop: at a time, or when somebody says so."""

    until: float = float("inf")
    told: threading.Event = field(default_factory=threading.Event)
    asks: Callable[[], bool] | None = None  # whether somebody has said so

    @property
    def over(self) -> bool:
        """Whether it is time."""
        if self.asks is not None and self.asks():
            self.told.set()
        return self.told.is_set() or time.monotonic() >= self.until


def train_all(
    jobs: Sequence[Job],
    data: Data,
    threads: int,
    time_limit: float | None,
    started: float,
    tell: Callable[[int, Member], None] | None = None,
) -> tuple[list[Member], list[str]]:
    """Train the members that there is time for; the same bits on any number of threads.

    Parameters
    ----------
    jobs : sequence of Job
    data : tuple
        X, y, weight as the engine takes them.
    threads : int
    time_limit : float or None
        Seconds from `started` on, by `time.monotonic`.
    tell : callable or None
        Is given each member's index and the member, as soon as it is trained.

    Returns
    -------
    list of Member
        Fewer than jobs where time was short.
    list of str
        What the time limit left to be trained, where that is less than all.
    """
    watch = watch_for(time_limit, started)
    members = side_by_side(planned(jobs, data, threads, watch), data, threads, watch, tell)
    return members, said(members, len(jobs), jobs[0].recipe.epochs, time_limit)


def watch_for(
    time_limit: float | None, started: float, asks: Callable[[], bool] | None = None
) -> Watch:
    """What says when time is over."""
    return Watch(float("inf") if time_limit is None else started + time_limit, asks=asks)


def side_by_side(
    jobs: Sequence[Job],
    data: Data,
    threads: int,
    watch: Watch,
    tell: Callable[[int, Member], None] | None = None,
) -> list[Member]:
    """Members of all jobs, as many at a time as there are threads; fewer where time was short."""
    workers = max(1, min(threads, len(jobs)))
    each = max(1, threads // workers)
    if workers == 1:
        members: list[Member] = []
        for job in jobs:
            if members and watch.over:
                break
            members.append(train(job, data, threads, watch))
            if tell is not None:
                tell(len(members) - 1, members[-1])
            if members[-1].stopped == "interrupt":
                break
        return members
    with ThreadPoolExecutor(workers, "fastbp-tabular") as pool:
        lock = threading.Lock()

        def run(index: int) -> Member | None:
            if index and watch.over:
                return None
            member = train(jobs[index], data, each, watch)
            if tell is not None:
                with lock:
                    tell(index, member)
            return member

        futures = [pool.submit(run, i) for i in range(len(jobs))]
        try:
            wait(futures)
        except KeyboardInterrupt:  # comes to this thread alone
            watch.told.set()
            wait(futures)
    found = [m for m in (future.result() for future in futures) if m is not None]
    if watch.told.is_set():
        for member in found:
            member.stopped = "interrupt"
    return found


def said(members: Sequence[Member], jobs: int, epochs: int, time_limit: float | None) -> list[str]:
    """What was trained, where the time limit made it less than so many members and epochs."""
    short = any(
        m.stopped == "time" or (m.stopped == "epochs" and len(m.values) < epochs) for m in members
    )
    if time_limit is None or (len(members) == jobs and not short):
        return []
    least, most = (f(len(m.values) for m in members) for f in (min, max))
    span = f"{least}" if least == most else f"{least} to {most}"
    return [f"time_limit: trained {len(members)} of {jobs} members, for {span} of {epochs} epochs"]


def planned(jobs: Sequence[Job], data: Data, threads: int, watch: Watch) -> Sequence[Job]:
    """Fewer members, or shorter trainings, such that they end in time."""
    seconds = watch.until - time.monotonic()
    if seconds == float("inf"):
        return jobs
    each = _seconds_of_epoch(jobs[0], data)
    epochs = jobs[0].recipe.epochs
    workers = max(1, min(threads, len(jobs)))
    possible = max(0.0, _MOST_SHARE * seconds / each)  # epochs, of each worker
    rounds = int(possible / epochs)
    if rounds * workers >= len(jobs):
        return jobs
    if rounds >= 1:
        return jobs[: rounds * workers]
    shorter = max(1, int(possible))
    return [replace(j, recipe=replace(j.recipe, epochs=shorter)) for j in jobs[:workers]]


def _seconds_of_epoch(job: Job, data: Data) -> float:
    """On one thread, by a few steps of a copy."""
    engine = create(job.plan(1))
    generator = np.random.default_rng(job.seed)
    engine.set_parameters(
        [p for s in job.stages for p in s.first_values("auto", "float32", generator)]
    )
    copies = job.recipe.copies
    steps, size = _steps(job), engine.plan.batch_size
    some = min(_PROBE, steps)
    order = np.repeat(job.rows[: some * size // copies], copies)
    rates, losses = np.zeros(some), np.empty(some)
    engine.epoch(*data, order[:size], rates, losses)  # what is done once
    start = time.perf_counter()
    engine.epoch(*data, order, rates, losses)
    seconds = (time.perf_counter() - start) * steps / some
    rows = len(job.held) if job.aside is None else len(job.aside[0])
    if rows:
        n = min(rows, 4 * size)
        X = data[0][job.held[:n]] if job.aside is None else job.aside[0][:n]
        start = time.perf_counter()
        outputs_of(engine, X, copies)
        seconds += (time.perf_counter() - start) * rows / n
    return max(seconds, 1e-6)


def _steps(job: Job) -> int:
    """Of an epoch; a last minibatch that is not full is left out."""
    return max(1, len(job.rows) // job.recipe.rows_of_batch(len(job.rows)))


def train(job: Job, data: Data, threads: int, watch: Watch) -> Member:
    """Train a member; at the end it is as it was after its best epoch, the last of equals."""
    generator = np.random.default_rng(job.seed)
    engine = create(job.plan(threads))
    aside = job.validation(data)
    first = recipes.first_values(job.recipe, job.stages, data[0], generator, job.rows, threads)
    engine.set_parameters(first)
    engine.keep()
    member = Member(first)
    copies = job.recipe.copies
    steps, size = _steps(job), engine.plan.batch_size // copies
    rates = recipes.rates(job.recipe, steps * job.recipe.epochs)
    factors = recipes.dropouts_and_decays(job.recipe, len(rates))
    losses = np.empty(steps)
    best = np.inf
    try:
        for epoch in range(job.recipe.epochs):
            order = generator.permutation(job.rows)[: steps * size]
            if copies > 1:
                order = np.repeat(order, copies)
            now = slice(epoch * steps, (epoch + 1) * steps)
            applied = engine.epoch(
                *data, order, rates[now], losses, None, factors[now], factors[now]
            )
            if applied < steps:
                member.stopped = "diverged"
                break
            value = _validate(engine, job, aside)
            member.values.append(value)
            if value <= best and engine.keep():
                best, member.best_epoch = value, epoch
            if (
                aside is not None
                and job.patience is not None
                and epoch - max(member.best_epoch, 0) >= job.patience
            ):
                member.stopped = "patience"
                break
            if watch.over and epoch + 1 < job.recipe.epochs:
                member.stopped = "interrupt" if watch.told.is_set() else "time"
                break
    except KeyboardInterrupt:
        member.stopped = "interrupt"
    engine.restore()
    member.parameters = engine.get_parameters()
    return member


def _validate(engine: Any, job: Job, aside: Data | None) -> float:
    """Without validation every epoch is as good as the one before, and so the last is kept."""
    if aside is None:
        return 0.0
    X, y, weight = aside
    f = outputs_of(engine, X, job.recipe.copies)
    if job.bounds is not None:
        np.clip(f, *job.bounds, out=f)
    return job.criterion(f, y, weight)
