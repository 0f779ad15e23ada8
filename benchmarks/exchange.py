"""What an exported network takes: bytes, and the time of one row, in fastbp and elsewhere.

``python -m benchmarks.exchange`` prints the table of docs/exchange.md. The ways take turns, round by
round, and the median of the rounds counts; it is processor time, in which what else the machine does
counts little. The C file is compiled with ``cc -O3 -march=native`` and
called in a loop of its own, so that no call of Python's is in its time.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastbp

NETS = [[4, 16, 3], [64, 64, 10], [784, 128, 10], [784, 512, 512, 10]]
ROUNDS, SECONDS = 15, 0.02  # of a round for each way


def per_call(call: Callable[[int], Any]) -> Callable[[], float]:
    """What measures the microseconds of one of many calls."""
    call(1)  # what is made once is no part of it
    times, started = 1, time.process_time()
    while True:
        call(times)
        now = time.process_time()
        if now - started > SECONDS / 4:
            break
        times, started = 2 * times, now
    times *= 4

    def measure() -> float:
        start = time.process_time()
        call(times)
        return (time.process_time() - start) / times * 1e6

    return measure


def repeated(function: Callable[[], Any]) -> Callable[[int], None]:
    """A function called so many times."""

    def call(times: int) -> None:
        for _ in range(times):
            function()

    return call


def compiled(model: fastbp.MLP, folder: Path, weights: str) -> tuple[Callable[[int], Any], int]:
    """The C file in a loop, and the bytes of its constants."""
    name = f"net_{weights}"
    written = model.to_c(folder / name, weights=weights)
    (folder / "loop.c").write_text(
        f'#include "{name}.h"\n'
        "void loop(const float *x, float *p, long n)\n"
        f"{{ long i; for (i = 0; i < n; i++) {name}_predict(x, p); }}\n"
    )
    library = folder / f"{name}.so"
    flags = ["-std=c99", "-O3", "-march=native", "-shared", "-fPIC"]
    sources = [written.source, os.fspath(folder / "loop.c")]
    subprocess.run(["cc", *flags, *sources, "-lm", "-o", os.fspath(library)], check=True)
    loop = ctypes.CDLL(os.fspath(library)).loop
    x = np.random.default_rng(0).standard_normal(model.plan.layer_sizes[0]).astype(np.float32)
    p = np.empty(model.plan.layer_sizes[-1], np.float32)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, p)]

    def call(times: int, keep: Any = (x, p)) -> None:
        loop(*pointers, ctypes.c_long(times))

    return call, written.constants


def main() -> None:
    """Measure and print."""
    import onnxruntime

    print("| net | ONNX file | C: constants | C, int8 | fastbp | onnxruntime | C | C, int8 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for sizes in NETS:
        model = fastbp.MLP(sizes, seed=0, threads=1)
        X = np.random.default_rng(0).standard_normal((1, sizes[0])).astype(np.float32)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model.to_onnx(folder / "net.onnx")
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(os.fspath(folder / "net.onnx"), options)
            whole, whole_bytes = compiled(model, folder, "float")
            small, small_bytes = compiled(model, folder, "int8")
            feed, wanted = {"X": X}, ["probabilities"]
            ways = [
                per_call(repeated(lambda model=model, X=X: model.predict_proba(X))),
                per_call(repeated(lambda s=session, w=wanted, f=feed: s.run(w, f))),
                per_call(whole),
                per_call(small),
            ]
            rounds = [[way() for way in ways] for _ in range(ROUNDS + 5)][5:]  # after a warm-up
            times = [statistics.median(column) for column in zip(*rounds, strict=True)]
            sizes_of = [(folder / "net.onnx").stat().st_size, whole_bytes, small_bytes]
        cells = [*(f"{b / 1024:,.1f} KB" for b in sizes_of), *(f"{t:,.2f} µs" for t in times)]
        print(f"| {'-'.join(map(str, sizes))} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
