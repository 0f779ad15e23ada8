"""Try an installed fastbp: that it has its native engine, whole, and computes what it should.

    python -P tools/try_wheel.py     (with the wheel and NumPy in the environment; no more is needed)

Where a wheel is tested on its platform, and by tests/stress where that platform is emulated. Says what
it found; an error where anything is missing or wrong.
"""

import os
import platform
import sys
import sysconfig
from pathlib import Path

import numpy as np

import fastbp
from fastbp.data import load_digits
from fastbp.engines import native

X86 = ("x86_64", "amd64")
FLAGS_AVX512 = {"avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"}
BF16_ONLY = ("avx512_bf16", "amx")


def expected() -> list[tuple[str, str]]:
    """The modules that a wheel of this platform has to have."""
    sets = ["baseline"]
    if sysconfig.get_platform().endswith(X86):
        sets += ["avx2", "avx512", "avx512_bf16"]
        if sys.platform == "linux":
            sets.append("amx")
    return [
        (isa, kind)
        for isa in sets
        for kind in ("float32", "float64", "bf16")
        if kind == "bf16" or isa not in BF16_ONLY
    ]


def main() -> None:
    """Look at what is installed, train with it, and compare."""
    print(sys.version)
    print(platform.platform(), platform.machine(), "numpy", np.__version__)
    fastbp.show_config()
    missing = [module for module in expected() if not native.built(*module)]
    assert not missing, f"the wheel lacks {missing}"
    assert native.available(), native.reason()
    on_x86 = platform.machine().lower() in X86
    if on_x86 and sys.platform == "linux" and "FASTBP_ISA" not in os.environ:
        flags = set(Path("/proc/cpuinfo").read_text().split())
        best = (
            "avx512"
            if flags >= FLAGS_AVX512
            else "avx2"
            if {"avx2", "fma"} <= flags
            else "baseline"
        )
        assert native.choice()[0] == best, f"the CPU offers {best}, in use is {native.choice()[0]}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not sys._is_gil_enabled(), "importing the engine has turned the GIL on"
    X, y = load_digits()
    for dtype in ("float32", "float64"):
        trained = []
        for threads in (1, 2, 3):
            model = fastbp.MLP(
                [64, 128, 10],
                activation="relu",
                seed=0,
                dtype=dtype,
                engine="native",
                threads=threads,
            )
            model.fit(X[:1500], y[:1500], epochs=20, optimizer="adam", batch_size=64)
            trained.append([W.tobytes() for W in model.parameters])
        assert trained[0] == trained[1] == trained[2], f"{dtype}: the bits depend on the threads"
        accuracy = float(np.mean(model.predict(X[1500:]) == y[1500:]))
        judge = fastbp.MLP([64, 128, 10], seed=0, dtype=dtype, engine="reference")
        judge.fit(X[:200], y[:200], epochs=1)
        own = fastbp.MLP([64, 128, 10], seed=0, dtype=dtype, engine="native")
        own.fit(X[:200], y[:200], epochs=1)
        # A step's sums have at most 129 terms, and there are 7 of them: beyond this nothing is rounding.
        distance = max(
            float(np.abs(a - b).max())
            for a, b in zip(own.parameters, judge.parameters, strict=True)
        )
        assert distance < 7 * 129 * np.finfo(dtype).eps, f"{dtype}: {distance} from the reference"
        assert accuracy > 0.5, f"{dtype}: only {accuracy:.1%} right, of ten classes"
        print(f"{dtype}: {accuracy:.1%} right, {distance:.1e} from the reference engine, same bits")


if __name__ == "__main__":
    main()
