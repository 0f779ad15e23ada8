"""The processes that train one network, as one of them sees them: who they are, and how they agree.

Between two exchanges each computes the same or its share, so whatever decides how it goes on must be the
same on all: it is compared at the start, comes from rank 0, or is exchanged. An error that all have
agreed on is raised on all; any other one ends all of them, as the others would wait forever.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbp._validation import check_integer
from fastbp.history import DivergenceError

__all__ = ["Ranks", "can_share", "join"]

T = TypeVar("T")

Exchange = Callable[[], object]  # what is done once for each step; all ranks have to come to it

ROWS = ("shared", "own")


def _nothing() -> None:
    """What is exchanged with nobody else."""


def can_share(engine: object) -> bool:
    """Whether an engine has steps that ranks can share."""
    return bool(getattr(engine, "can_share", False))


class Ranks:
    """The ranks of a communicator. `to_all` to `compare` are for all of them at a time.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        A communicator of its own: see `join`.
    rows : {"shared", "own"}
        Whether every rank has all rows, or some of its own.
    sync : int
        Steps from one average of the weights to the next; 0: every step is shared instead.

    Attributes
    ----------
    rank, size : int
    """

    def __init__(self, comm: Any, rows: str = "shared", sync: int = 0) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.rows = rows
        self.sync = sync
        self._agreed = False
        self._held: list[tuple[int, Any]] = []
        self._handler: Any = None

    def check(self) -> None:
        """Raise TypeError or ValueError for options that there are not."""
        if self.rows not in ROWS:
            raise ValueError(f"rows must be 'shared' or 'own', got {self.rows!r}")
        self.sync = check_integer("sync", self.sync, minimum=0)

    # Exchange

    def to_all(self, message: NDArray[Any], starts: NDArray[np.int64]) -> Exchange:
        """Send this rank's part of a message, starts[rank] … starts[rank + 1] − 1, to all; get theirs.

        By Alltoallv, as MPICH's Allgatherv sends what is long around a ring in pieces of 32 KB, each of
        which waits for the one before.
        """
        if self.size == 1:
            return _nothing
        mine = message[starts[self.rank] : starts[self.rank + 1]]
        first = int(starts[1]) if self.rank == 0 else 0  # MPI may not be given a buffer twice
        sent, got = np.full(self.size, len(mine)), np.diff(starts)
        sent[self.rank] = got[self.rank] = 0
        at = np.maximum(starts[:-1] - first, 0)
        return self._exchange(mine, sent, np.zeros(self.size, np.int64), message[first:], got, at)

    def to_owners(
        self, sums: NDArray[Any], starts: NDArray[np.int64], of_mine: NDArray[Any]
    ) -> Exchange:
        """Send each rank its part of the sums; get all ranks' of this one's, rank after rank."""
        mine = len(of_mine) // self.size
        at = np.arange(self.size) * mine
        return self._exchange(
            sums, np.diff(starts), starts[:-1], of_mine, np.full(self.size, mine), at
        )

    def _exchange(
        self,
        sent: NDArray[Any],
        counts: NDArray[np.int64],
        starts: NDArray[np.int64],
        got: NDArray[Any],
        got_counts: NDArray[np.int64],
        got_starts: NDArray[np.int64],
    ) -> Exchange:
        from mpi4py import MPI

        kind = MPI.BYTE if sent.dtype == np.uint8 else MPI.DOUBLE
        out = [sent, (counts.tolist(), starts.tolist()), kind]
        back = [got, (got_counts.tolist(), got_starts.tolist()), kind]
        return partial(self.comm.Alltoallv, out, back)

    def mean(self, values: NDArray[Any]) -> NDArray[Any]:
        """Of each rank's vector, summed in the order of the ranks: the same bits on all."""
        each = -(-len(values) // self.size)
        all_parts = np.zeros(each * self.size, values.dtype)
        all_parts[: len(values)] = values
        parts = np.empty((self.size, each), values.dtype)
        self.comm.Alltoall(all_parts, parts)
        mean = np.ascontiguousarray(parts.sum(axis=0, dtype=np.float64) / self.size, values.dtype)
        self.comm.Allgather(mean, all_parts)
        return all_parts[: len(values)]

    def gather(self, value: T) -> list[T]:
        """What each rank has."""
        found: list[T] = self.comm.allgather(value)
        return found

    def from_root(self, work: Callable[[], T]) -> T:
        """What `work` returns on rank 0; it runs nowhere else. Its error is raised on all."""
        value: T | None = None
        error: BaseException | None = None
        if self.rank == 0:
            try:
                value = work()
            except BaseException as raised:
                error = raised
        value, what = self.comm.bcast((value, None if error is None else _described(error)))
        if what is not None:
            self._raise({0: what}, error)
        return value

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one rank raises in here is raised on all, once all are through."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
        found = self.gather(None if error is None else _described(error))
        failed = {rank: what for rank, what in enumerate(found) if what is not None}
        if failed:
            self._raise(failed, error)

    def _raise(self, failed: Mapping[int, tuple[str, str]], own: BaseException | None) -> None:
        self._agreed = True
        if own is not None:
            raise own
        kind, text = next(iter(failed.values()))
        if kind == "KeyboardInterrupt":
            raise KeyboardInterrupt
        named = {"TypeError": TypeError, "ValueError": ValueError}.get(kind, RuntimeError)
        ranks = ", ".join(map(str, failed))
        raise named(f"rank {ranks}: {text if named is not RuntimeError else f'{kind}: {text}'}")

    def compare(self, facts: Mapping[str, object]) -> None:
        """Raise ValueError on all ranks unless they have the same facts, by name, as texts."""
        texts = {name: str(value) for name, value in facts.items()}
        found = self.gather(texts)
        for rank, other in enumerate(found):
            for name in dict.fromkeys((*found[0], *other)):
                first, here = found[0].get(name), other.get(name)
                if first != here:
                    self._agreed = True
                    raise ValueError(
                        f"the ranks must have the same {name}, but rank {rank} has {here} and "
                        f"rank 0 has {first}"
                    )

    # Training

    @contextmanager
    def training(self) -> Iterator[None]:
        """Hold SIGINT back for `raise_interrupt`; an error that is this one's alone ends all."""
        self._agreed = False
        main = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGINT) if main else None
        if callable(before):
            self._handler = before
            signal.signal(signal.SIGINT, lambda number, frame: self._held.append((number, frame)))
        try:
            yield
        except DivergenceError:  # from numbers that all have
            raise
        except BaseException:
            if not self._agreed and self.size > 1:
                where = f"rank {self.rank} of {self.size} on {socket.gethostname()}"
                print(f"fastbp: {where} failed and ends all:", file=sys.stderr)
                traceback.print_exc()
                sys.stderr.flush()
                self.comm.Abort(1)
            raise
        finally:
            if callable(before):
                signal.signal(signal.SIGINT, before)
            self.comm.Free()

    def warn_of(self, engine: object) -> None:
        """Say so, on rank 0, where the ranks win nothing."""
        if self.rank == 0 and self.size > 1 and not self.sync and not can_share(engine):
            warnings.warn(
                "every rank computes every step whole: ranks share the steps of engine 'native' alone, "
                "not those of plain SGD on minibatches of one row",
                RuntimeWarning,
                stacklevel=5,
            )

    @property
    def interrupted(self) -> bool:
        """Whether this process got a SIGINT."""
        return bool(self._held)

    def raise_interrupt(self) -> None:
        """Once all know that one was interrupted: raise on all."""
        self._agreed = True
        if self._held:
            self._handler(*self._held.pop())
        raise KeyboardInterrupt


def _described(error: BaseException) -> tuple[str, str]:
    return type(error).__name__, str(error)


def join(comm: object, rows: str = "shared", sync: int = 0) -> Ranks:
    """The ranks of a communicator of mpi4py; messages do not meet the caller's own.

    Raises
    ------
    ImportError
        If mpi4py is not installed.
    TypeError, ValueError
        If comm is no communicator, or one that this process is not in.
    """
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(
            'comm needs mpi4py and an MPI library: pip install "fastbp[mpi]", or mpi4py and the MPI '
            f"of your cluster ({error})"
        ) from error
    if not isinstance(comm, MPI.Intracomm):
        raise TypeError(f"comm must be a communicator of mpi4py, got {type(comm).__name__}")
    if comm == MPI.COMM_NULL:
        raise ValueError("comm must be a communicator that this process is in, got COMM_NULL")
    return Ranks(comm.Dup(), rows, sync)
