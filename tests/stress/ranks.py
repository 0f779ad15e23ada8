"""Kill a random rank of a training by MPI, many times.

Usage: python ranks.py [KILLS] [SEED]

All other ranks must end within a minute, and the last checkpoint must be whole and resumable.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from test_mpi import kill_one, run


def main(kills: int, seed: int) -> None:
    rng = random.Random(seed)
    slowest = 0.0
    for i in range(kills):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            start = time.monotonic()
            kill_one(path, rng.choice((2, 3, 4)), rng)
            slowest = max(slowest, time.monotonic() - start)
            if i % 10 == 0:  # its training is of a million epochs: look at the next few
                assert run(2, "resumes", path) == [True, True]
        print(f"{i + 1} of {kills}", end="\r", flush=True)
    print(
        f"{kills} kills: each ended all ranks, and left a whole checkpoint; {slowest:.0f} s at most"
    )


if __name__ == "__main__":
    given = [*map(int, sys.argv[1:]), *(50, 0)[len(sys.argv) - 1 :]]
    main(*given)
