"""What the tests of the command share: small files of two numbers and a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

Run = tuple[int, str, str]  # status, standard output, standard error
QUICK = ("--quiet", "--epochs", 1, "--hidden", "4")


def write(text: str, name: str = "t.csv", encoding: str = "utf-8") -> str:
    Path(name).write_bytes(text.encode(encoding))
    return name


def rows(n: int = 60, seed: int = 0) -> list[tuple[float, float, str]]:
    X = np.random.default_rng(seed).normal(size=(n, 2)).round(3)
    return [(a, b, "u" if a > b else "v") for a, b in X.tolist()]


def first_line(result: Run) -> str:
    status, out, err = result
    assert (status, err) == (0, "")
    return out.splitlines()[0]


BODY = [f"{a},{b},{c}" for a, b, c in rows()]
