"""A short run of the fuzzers of fuzzing.py; stress/fuzz.py has the long one."""

import random

import numpy as np
import pytest
from fuzzing import call_anything, calls, read_spoilt, spoil
from hypothesis import HealthCheck, given, settings

import fastbp


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
        spoilt = spoil(whole, generator)
        if spoilt != whole:
            assert read_spoilt(path, spoilt, model, data, options) == "refused refused"
    assert read_spoilt(path, whole, model, data, options) == "read read"
