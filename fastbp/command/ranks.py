"""``fastbp train --mpi``: rank 0 does all that one process does; the other ranks train with it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from fastbp.command.settings import complete

__all__ = ["lead_or_follow", "send"]


def lead_or_follow(
    args: argparse.Namespace,
    train: Callable[[argparse.Namespace], None],
    follow: Callable[..., object],
) -> None:
    """On rank 0 run `train`; on the others `follow` with what rank 0 sends when it comes to that."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(
            f'--mpi needs mpi4py and an MPI library: pip install "fastbp[mpi]" ({error})'
        ) from error
    comm = MPI.COMM_WORLD
    args.comm, args.sent = comm, False
    if comm.rank == 0:
        try:
            train(args)
        finally:
            if not args.sent:
                comm.bcast(None)  # an error came before: rank 0 tells of it
        return
    sent = comm.bcast(None)
    if sent is None:
        return
    complete(args)
    args.quiet = True
    try:
        follow(args, *sent)
    except Exception:  # which all ranks have: see fastbp.distributed.ranks
        raise SystemExit(1) from None


def send(args: argparse.Namespace, *what: object) -> None:
    """From rank 0, what the others need to train with it."""
    if args.comm is not None and args.comm.rank == 0:
        args.comm.bcast(what)
        args.sent = True
