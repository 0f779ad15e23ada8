"""Kill (SIGKILL) a training at random moments, checkpoint writes among them, and resume it.

Usage: python kill.py [KILLS] [SEED]

After every kill the checkpoint must be whole. When the training, resumed after each kill on another
number of threads, is through, its weights must be those of one that was never killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fastbp

EPOCHS = 40
DATA = np.random.default_rng(0)
X = DATA.standard_normal((400, 64)).astype(np.float32)
Y = DATA.integers(0, 10, 400)


def train(path: Path | None, threads: int, *callbacks: Callable[..., object]) -> fastbp.MLP:
    """One training, from where the checkpoint is."""
    model = fastbp.MLP([64, 256, 256, 10], dropout=0.2, seed=0, threads=threads)
    model.fit(
        X,
        Y,
        epochs=EPOCHS,
        optimizer="adam",
        learning_rate=fastbp.schedules.Cosine(0.002, steps=EPOCHS * 10),
        validation=0.2,
        early_stopping=EPOCHS,
        checkpoint=path,
        resume=path if path is not None and path.exists() else None,
        callbacks=callbacks,
    )
    return model


def main(kills: int, seed: int) -> None:
    expected = train(None, 1).parameters
    generator = np.random.default_rng(seed)
    during_write = 0
    runs = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"
        killed = 0
        while killed < kills:
            threads = int(generator.integers(1, 4))
            command = [sys.executable, __file__, "child", str(path), str(threads)]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert child.stdout is not None
            child.stdout.readline()  # the first epoch is done, a write comes next
            time.sleep(generator.uniform(0, 0.05))
            child.kill()
            child.stdout.close()
            if child.wait() == 0:  # it was through before: begin anew
                runs += check(path, expected)
                continue
            assert child.returncode == -9, child.returncode
            killed += 1
            during_write += any(p.suffix == ".tmp" for p in Path(folder).iterdir())
            for p in Path(folder).glob("*.tmp"):
                p.unlink()
            if path.exists():
                fastbp.MLP.load(path)  # raises if it is not whole
        train(path, 2)
        runs += check(path, expected)
    print(
        f"{killed} kills, {during_write} of them in a checkpoint write; every file found was whole; "
        f"{runs} trainings came to an end, all with the same bits"
    )


def check(path: Path, expected: list[np.ndarray]) -> int:
    """A finished training's weights are the expected ones; then its file goes."""
    resumed = train(path, 1).parameters  # all epochs are done: the best weights, restored
    for p, q in zip(resumed, expected, strict=True):
        np.testing.assert_array_equal(p, q)
    path.unlink()
    return 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        train(Path(sys.argv[2]), int(sys.argv[3]), lambda model, history: os.write(1, b"epoch\n"))
    else:
        arguments = [int(a) for a in sys.argv[1:]]
        main(*(arguments + [200, 0][len(arguments) :]))
