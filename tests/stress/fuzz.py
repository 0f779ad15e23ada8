"""Fuzz the public interface and the files: python fuzz.py [CALLS] [FILES] [SEED] [ONNX FILES]."""

from __future__ import annotations

import collections
import os
import random
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

import fastbp

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzzing import (
    call_anything,
    calls,
    onnx_files,
    read_spoilt,
    read_spoilt_onnx,
    spoil,
    spoil_graph,
)
from fuzzing_rows import call_spoilt_rows


def fuzz_calls(count: int, chosen_seed: int) -> None:
    outcomes: collections.Counter[str] = collections.Counter()

    @seed(chosen_seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        print_blob=True,
    )
    @given(calls())
    def check(call: object) -> None:
        outcomes[f"{call[1]} {call_anything(call)}"] += 1  # type: ignore[index, arg-type]

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        check()
        os.chdir("/")
    for name, times in sorted(outcomes.items()):
        print(f"{times:8,}  {name}")
    print(f"{outcomes.total():8,}  calls, each with a documented outcome")


def fuzz_rows(count: int, chosen_seed: int) -> None:
    outcomes: collections.Counter[str] = collections.Counter()
    generator = random.Random(chosen_seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(count):
            outcomes[call_spoilt_rows(generator)] += 1
    print(f"{count:8,}  calls with sparse rows: {dict(outcomes)}")


def fuzz_files(count: int, chosen_seed: int) -> None:
    X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    data, options = (X, X[:, :2]), {"epochs": 2, "optimizer": "adam", "validation": 0.2}
    outcomes: collections.Counter[str] = collections.Counter()
    generator = random.Random(chosen_seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"
        model = fastbp.MLP([3, 5, 2], loss="squared_error", seed=0)
        model.fit(*data, checkpoint=path, **options)
        whole = path.read_bytes()
        for _ in range(count):
            spoilt = spoil(whole, generator)
            outcome = read_spoilt(path, spoilt, model, data, options)
            outcomes["unchanged" if spoilt == whole else outcome] += 1
    print(f"{count:8,}  files: {dict(outcomes)}; those read say the same as before")


def fuzz_onnx(count: int, chosen_seed: int) -> None:
    outcomes: collections.Counter[str] = collections.Counter()
    generator = random.Random(chosen_seed)
    files = onnx_files()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            mistakes = spoil if generator.random() < 0.5 else spoil_graph
            spoilt = mistakes(generator.choice(files), generator)
            outcomes[read_spoilt_onnx(Path(folder) / "m.onnx", spoilt)] += 1
    print(f"{count:8,}  ONNX files: {dict(outcomes)}; those read predict what they compute")


if __name__ == "__main__":
    arguments = [int(a) for a in sys.argv[1:]]
    n_calls, n_files, chosen, n_onnx = arguments + [50_000, 100_000, 0, 20_000][len(arguments) :]
    if n_calls:
        fuzz_calls(n_calls, chosen)
        fuzz_rows(n_calls, chosen)
    fuzz_files(n_files, chosen)
    fuzz_onnx(n_onnx, chosen)
