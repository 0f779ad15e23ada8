"""`import fastbp` loads NumPy and nothing else that is heavy."""

import subprocess
import sys

HEAVY = ["numba", "sklearn", "scipy", "torch", "jax", "pandas", "pyarrow", "matplotlib", "tqdm"]
HEAVY += ["onnx", "onnxruntime", "skl2onnx", "keras", "fastbp.exchange.onnx_out"]


def test_import_loads_nothing_heavy():
    code = f"import sys, fastbp; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_all_names_can_be_imported_without_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; from fastbp import *; print(MLP.__name__)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "MLP"
