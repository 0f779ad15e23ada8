"""A short run of the fuzzers of fuzzing.py; stress/fuzz.py has the long one."""

import random

import numpy as np
import pytest
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
from hypothesis import HealthCheck, given, settings

import fastbp


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(calls())
def test_any_call(place, call):
    call_anything(call)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fuzz"))
        yield


@pytest.mark.filterwarnings("ignore")
def test_any_sparse_rows():
    generator = random.Random(0)
    assert {call_spoilt_rows(generator) for _ in range(1000)} == {"done", "refused"}


def test_any_file(tmp_path):
    path = tmp_path / "run.safetensors"
    X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    data, options = (X, X[:, :2]), {"epochs": 2, "optimizer": "adam", "validation": 0.2}

    def make():
        return fastbp.MLP([3, 5, 2], loss="squared_error", seed=0)

    model = make()
    model.fit(*data, checkpoint=path, **options)
    whole = path.read_bytes()
    generator = random.Random(0)
    model = make()
    for _ in range(2000):
        read_spoilt(path, spoil(whole, generator), model, data, options)
    # The same in other words.
    end = 8 + int.from_bytes(whole[:8], "little")
    for old, new in (
        (b'"shape":', b'"shape" :\t'),
        (b"[0,", b"[-0, "),
        (b'"shape"', b'"sh\\u0061pe"'),
    ):
        header = whole[8:end].replace(old, new)
        same = len(header).to_bytes(8, "little") + header + whole[end:]
        assert read_spoilt(path, same, model, data, options) == "read"


def test_any_onnx_file(tmp_path):
    pytest.importorskip("onnx")
    generator = random.Random(0)
    outcomes = set()
    files = onnx_files()
    for whole in files:
        assert read_spoilt_onnx(tmp_path / "m.onnx", whole) == "read"
    for _ in range(400):
        whole = generator.choice(files)
        mistakes = spoil if generator.random() < 0.5 else spoil_graph
        outcomes.add(read_spoilt_onnx(tmp_path / "m.onnx", mistakes(whole, generator)))
    assert {"read", "refused"} <= outcomes
