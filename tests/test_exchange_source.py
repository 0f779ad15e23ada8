"""C and Python source: compiled, run, within derived bounds of the reference engine; what int8 costs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_programs import STRICT, TARGETS, run
from engine_cases import DTYPES, Case
from exchange_cases import (
    NETWORKS,
    assert_labels,
    assert_prediction,
    case_of,
    model_of,
    wanted,
)

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.exchange import quantize
from fastbp.exchange.description import describe

dtypes = pytest.mark.parametrize("dtype", DTYPES)


def check(case: Case, said: np.ndarray) -> None:
    """What a program has said of the case's rows: labels, if there are some, then the outputs."""
    want, link = wanted(case), case.plan.loss.link
    outputs = case.plan.layer_sizes[-1]
    labels, values = said[:, :-outputs], said[:, -outputs:]
    assert labels.shape[1] == {"softmax": 1, "sigmoid": outputs}.get(link, 0)
    if labels.size:
        assert_labels(labels, want, link)
    assert_prediction(values.astype(case.plan.dtype), want, case.plan.dtype)


@dtypes
@pytest.mark.parametrize("target", TARGETS)
def test_c_says_what_the_reference_engine_says(target, dtype, tmp_path) -> None:
    if missing := TARGETS[target].missing:
        if target == "cc":
            pytest.fail(f"a C compiler is needed: {missing}")
        pytest.skip(f"not installed here: {missing}")
    # Compiling takes the time: all of it once, and some for each of the others.
    every = 1 if target == "cc" else 4
    cases = {f"net{i}": case_of(name, dtype) for i, name in enumerate([*NETWORKS][::every])}
    far = {f"far{i}": case_of(name, dtype, scale=300.0)
           for i, name in enumerate([*fastbp.activations.ACTIVATIONS][::every])}  # fmt: skip
    cases |= far
    # Weights of 8 bits: the network of the rounded weights, in the same arithmetic, is the oracle.
    rounded = {}
    for i, name in enumerate([*NETWORKS][:: 7 if every > 1 else 1]):
        case = case_of(name, dtype)
        restored = quantize.restored(describe(model_of(case)))
        parameters = [
            np.column_stack([W, b]) for W, b in zip(restored.weights, restored.biases, strict=True)
        ]
        rounded[f"byte{i}"] = case, replace(case, parameters=parameters)
    networks = {name: (model_of(case), case.X, "float") for name, case in cases.items()}
    networks |= {name: (model_of(case), case.X, "int8") for name, (case, _) in rounded.items()}
    said = run(TARGETS[target], networks, tmp_path)
    for name, case in cases.items():
        check(case, said[name])
    for name, (_, case) in rounded.items():
        check(case, said[name])


def test_the_header_is_cpp_too(tmp_path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("not installed here: c++")
    model_of(case_of("relu", "float32")).to_c(tmp_path / "net")
    (tmp_path / "main.cpp").write_text(
        '#include "net.h"\nint main() { float x[NET_INPUTS] = {}, p[NET_OUTPUTS];'
        " return net_predict(x, p) >= NET_OUTPUTS; }\n"
    )
    commands = [
        ["cc", *STRICT, "-c", "net.c", "-o", "net.o"],
        [compiler, "-Wall", "-Wextra", "-Werror", "main.cpp", "net.o", "-lm", "-o", "main"],
        ["./main"],
    ]
    for command in commands:
        subprocess.run(command, cwd=tmp_path, check=True, timeout=120)


def test_what_the_source_is(tmp_path) -> None:
    written = model_of(case_of("relu", "float32")).to_c(tmp_path / "net.c")
    assert (written.source, written.header) == tuple(
        os.fspath(tmp_path / f"net.{suffix}") for suffix in "ch"
    )
    text = Path(written.source).read_text()
    assert re.findall(r"#include (.*)", text) == ['"net.h"', "<math.h>"]
    assert len(re.findall(r"^static float", text, re.MULTILINE)) == 5  # buffers; maximum, φ¹, φ²
    assert not re.search("malloc|alloca|goto|volatile", text)
    # (3 + 1) 9 + (9 + 1) 5 + (5 + 1) 4 numbers, of 4 bytes; buffers for layers 1 and 3, and for 2
    assert (written.constants, written.buffers) == (4 * 110, 4 * (9 + 5))
    assert written.error is None
    model_of(case_of("squared_error, one output", "float32")).to_c(tmp_path / "net")
    assert "<math.h>" not in (tmp_path / "net.c").read_text()  # what is not used is not there


def test_int8_takes_a_quarter_and_says_what_it_costs(tmp_path) -> None:
    generator = np.random.default_rng(0)
    model = fastbp.MLP([30, 40, 5], seed=0)
    X = generator.standard_normal((200, 30))
    whole = model.to_c(tmp_path / "whole")
    small = model.to_c(tmp_path / "small", weights="int8", X=X)
    assert small.constants == 30 * 40 + 40 * 5 + 2 * 4 * 45
    assert small.constants < 0.34 * whole.constants
    error = small.error
    assert error is not None
    assert (error.rows, error.given) == (200, True)
    # A weight is off by at most half a scale, at random: an error of 1/√12 of a scale in each, where
    # the scale is about 1/127 of the largest weight of a row.
    assert 0.0005 < error.relative < 0.05
    assert 0 <= error.labels < 0.1
    header = Path(small.header).read_text()
    assert f"{error.relative:.2%} in the root mean square" in header
    assert "measured on 200 rows given" in header
    default = model.to_c(tmp_path / "small", weights="int8").error
    assert default is not None
    assert (default.rows, default.given) == (1000, False)
    assert "standard normal" in Path(small.header).read_text()


@dtypes
def test_quantize(dtype) -> None:
    W = np.array([[1.0, -2.0, 0.5], [0, 0, 0], [1e-30, 2e-30, 0], [3, 3, 3]], dtype)
    W = np.vstack([W, np.full(3, np.finfo(dtype).smallest_subnormal)])
    q, scale = quantize.quantize(W)
    assert q.dtype == np.int8
    assert scale.dtype == dtype
    assert (np.abs(q) <= 127).all()
    error = np.abs(q[:4] * scale[:4, None].astype("f8") - W[:4])
    # To half a scale, and the rounding of a quotient of up to 127
    assert (error <= (0.5 + 127 * np.finfo(dtype).eps) * scale[:4, None]).all()
    assert (np.abs(q).max(axis=1)[[0, 2, 3]] == 127).all()
    assert (q[1] == 0).all()


@pytest.mark.parametrize("kind", ["three", "texts", "two", "several", "one"])
@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_estimators_in_c_and_python(kind, tmp_path) -> None:
    X, index = np.random.default_rng(0).standard_normal((30, 3)), np.arange(30)
    texts = np.array(['"ä"', "b\\n", "c??/", "*/"])
    y = {
        "three": index % 3 - 1,
        "texts": texts[index % 4],
        "two": index % 2 == 0,
        "several": np.stack([index % 2, index % 3 == 0], axis=1).astype(int),
        "one": np.full(30, 7),
    }[kind]
    model = MLPClassifier((5,), activation="gelu", max_iter=2, random_state=0).fit(X, y)
    module = import_source(model, tmp_path)
    np.testing.assert_array_equal(module["predict"](X), model.predict(X))
    np.testing.assert_allclose(module["predict_proba"](X), model.predict_proba(X), atol=1e-14)

    model.to_c(tmp_path / "net")
    header = (tmp_path / "net.h").read_text()
    assert f"#define NET_OUTPUTS {model.predict_proba(X).shape[1]}" in header
    rows = ",".join("{" + ",".join(float(x).hex() for x in row) + "}" for row in X)
    several = kind == "several"
    shown = {
        "three": 'printf("%lld\\n", net_classes[label]);',
        "texts": 'printf("%s\\n", net_classes[label]);',
        "two": 'printf("%d\\n", label);',
        "one": 'printf("%lld\\n", net_classes[label]);',
        "several": 'printf("%d %d\\n", label[0], label[1]);',
    }[kind]
    call = "int label[2]; net_predict(X[i], p, label);" if several else (
        "int label = net_predict(X[i], p);")  # fmt: skip
    (tmp_path / "main.c").write_text(
        f'#include <stdio.h>\n#include "net.h"\nstatic const double X[30][3] = {{{rows}}};\n'
        "int main(void) { int i; double p[NET_OUTPUTS];"
        f" for (i = 0; i < 30; i++) {{ {call} {shown} }} return 0; }}\n"
    )
    build = ["cc", *STRICT, "main.c", "net.c", "-lm", "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True, timeout=120)
    said = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    lines = said.stdout.decode().splitlines()
    expected = model.predict(X)
    if several:
        assert lines == [f"{a} {b}" for a, b in expected]
    else:
        assert lines == [str(int(v) if kind == "two" else v) for v in expected]


def test_misuse_of_to_c(tmp_path) -> None:
    model = model_of(case_of("relu", "float32"))
    with pytest.raises(ValueError, match="unknown weights 'int4'"):
        model.to_c(tmp_path / "net", weights="int4")
    with pytest.raises(ValueError, match=r"X must have shape \(n, 3\)"):
        model.to_c(tmp_path / "net", weights="int8", X=[[1, 2]])
    with pytest.raises(ValueError, match="X must have rows"):
        model.to_c(tmp_path / "net", weights="int8", X=np.ones((0, 3)))
    with pytest.raises(TypeError, match="path must be a path"):
        model.to_c(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="path must be a file in a folder that is there"):
        model.to_c(tmp_path / "none" / "net")
    with pytest.raises(ValueError, match="path must be a name that C can include"):
        model.to_c(tmp_path / 'n"t')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["2 nets-ä", "int", "_x", "a b.c"])
def test_names_that_c_does_not_take(name, tmp_path) -> None:
    written = model_of(case_of("relu", "float32")).to_c(tmp_path / name)
    # The header is included by the name of its file, whatever that is.
    build = ["cc", *STRICT, "-c", written.source, "-o", os.fspath(tmp_path / "net.o")]
    subprocess.run(build, check=True, timeout=120)


# Python


def import_source(model: Any, folder: Path) -> dict[str, Any]:
    model.to_python(folder / "net.py")
    scope: dict[str, Any] = {}
    exec(compile((folder / "net.py").read_text(), "net.py", "exec"), scope)
    return scope


@dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_python_says_what_the_reference_engine_says(name, dtype, tmp_path) -> None:
    for scale in (1.0, 300.0) if name in fastbp.activations.ACTIVATIONS else (1.0,):
        case = case_of(name, dtype, scale)
        model = model_of(case)
        module, want = import_source(model, tmp_path), wanted(case)
        said = module["predict"](case.X)
        assert (said.shape, said.dtype) == (
            model.predict(case.X).shape,
            model.predict(case.X).dtype,
        )
        if case.plan.loss.link not in ("softmax", "sigmoid"):
            assert_prediction(said, want, dtype)
            assert "predict_proba" not in module
            continue
        assert_labels(said, want, case.plan.loss.link)
        assert module["predict_proba"](case.X).shape == model.predict_proba(case.X).shape
        assert_prediction(module["predict_proba"](case.X), want, dtype)


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_a_regressor_in_python(tmp_path) -> None:
    X = np.random.default_rng(0).standard_normal((30, 3))
    for y in (np.abs(X[:, 0]), np.abs(X[:, :2])):
        model = MLPRegressor("poisson", (5,), max_iter=2, random_state=0).fit(X, y)
        said = import_source(model, tmp_path)["predict"](X)
        assert said.shape == model.predict(X).shape
        np.testing.assert_allclose(said, model.predict(X), rtol=1e-13)


def test_the_file_needs_numpy_alone(tmp_path) -> None:
    model_of(case_of("gelu", "float32")).to_python(tmp_path / "net.py")
    code = (
        "import sys; sys.modules['fastbp'] = None; import net\n"
        "print(net.predict([[1, 2, 3]]).shape)\n"
        "try: net.predict([1, 2])\nexcept ValueError as error: print(error)\n"
        "print([m for m in ('scipy', 'numba', 'sklearn') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert ran.stdout == "(1,)\nX must have shape (n, 3), got (2,)\n[]\n"
