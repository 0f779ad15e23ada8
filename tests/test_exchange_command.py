"""``fastbp export``, run as a person would."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_programs import STRICT

import fastbp
from fastbp.cli import main


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    fastbp.MLP([4, 8, 3], seed=0).save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    try:
        status = main([str(a) for a in args])
    except SystemExit as exit_:  # argparse
        status = int(exit_.code or 0)
    return status, *capsys.readouterr()


def test_onnx(saved, capsys) -> None:
    pytest.importorskip("onnx")
    status, out, err = run(capsys, "export", saved, "--to", "onnx")
    path = saved.with_suffix(".onnx")
    assert (status, err) == (0, "")
    assert out == f"written to {path}, {path.stat().st_size:,} bytes\n"
    model = fastbp.MLP.load(saved)
    for a, b in zip(fastbp.MLP.from_onnx(path).parameters, model.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


def test_c(saved, capsys) -> None:
    status, out, err = run(capsys, "export", saved, "--to", "c", "--weights", "int8")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"written to {saved.with_suffix('.c')} and {saved.with_suffix('.h')}"
    assert lines[1] == "144 bytes of constants, 44 of buffers"
    assert lines[2].startswith("int8 weights, measured on 1,000 rows of standard normal numbers: ")
    build = ["cc", *STRICT, "-c", "m.c"]
    subprocess.run(build, cwd=saved.parent, check=True, timeout=120)


def test_python(saved, capsys) -> None:
    output = saved.parent / "net.py"
    status, _, err = run(capsys, "export", saved, "--to", "python", "--output", output)
    assert (status, err) == (0, "")
    scope: dict = {}
    exec(output.read_text(), scope)
    X = np.random.default_rng(0).standard_normal((9, 4))
    np.testing.assert_array_equal(scope["predict"](X), fastbp.MLP.load(saved).predict(X))


def test_mistakes(saved, capsys) -> None:
    folder = saved.parent
    (folder / "bad").write_bytes(b"bad")
    for args, said in [
        (("--to", "pmml"), "invalid choice: 'pmml'"),
        ((), "the following arguments are required: --to"),
        (("--to", "onnx", "--weights", "int8"), "--weights int8 is for --to c, not for --to onnx"),
        (
            ("--to", "c", "--output", folder / "no" / "x"),
            "--output must be a file in a folder that",
        ),
    ]:
        status, out, err = run(capsys, "export", saved, *args)
        assert (status, out) == (2, "")
        assert said in err
    status, _, err = run(capsys, "export", folder / "bad", "--to", "c")
    assert status == 2
    assert "is not a fastbp model, or is damaged" in err
    status, _, err = run(capsys, "export", folder / "none", "--to", "c")
    assert status == 2
    assert "No such file or directory" in err
    assert sorted(p.name for p in folder.iterdir()) == ["bad", "m.safetensors"]
