"""Data larger than memory train from a file; where memory ends, an error says how much is needed."""

import subprocess
import sys

import numpy as np
import pytest

import fastbp

pytest.importorskip("resource")

LIMIT = """
import os, resource, sys
import numpy as np
import fastbp

def limit(what, bytes_more):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    used = int(status["VmSize" if what == resource.RLIMIT_AS else "VmData"].split()[0]) * 1024
    resource.setrlimit(what, (used + bytes_more, resource.RLIM_INFINITY))

path = sys.argv[1]
"""

# 256 MB of inputs, of which a quarter fits into the memory that is left.
FROM_A_FILE = (
    LIMIT
    + """
X = np.load(path, mmap_mode="r")
y = np.arange(len(X)) % 3
model, twin = (fastbp.MLP([X.shape[1], 8, 3], seed=0) for _ in range(2))
limit(resource.RLIMIT_DATA, X.nbytes // 4)
try:
    np.array(X)
except MemoryError:
    pass
else:
    sys.exit("the limit does not hold")
options = {"batch_size": 256, "learning_rate": 0.1, "shuffle": False}
history = model.fit(X, y, epochs=1, validation=(X, y), **options)
assert history.validation_score[0] > 0.99

chunks = (slice(i, i + 12800) for i in range(0, len(X), 12800))
for rows in chunks:
    twin.partial_fit(X[rows], y[rows], **options)
for p, q in zip(model.parameters, twin.parameters, strict=True):
    np.testing.assert_array_equal(p, q)
model.fit(X, y, epochs=1, batch_size=256)  # and in random order
"""
)

TOO_MUCH = (
    LIMIT
    + """
engine = sys.argv[2]
X = np.zeros((100_000, 64), np.float32)
y = np.zeros(100_000, int)
model = fastbp.MLP([64, 512, 10], seed=0, engine=engine)
model.fit(X[:100], y[:100], epochs=1)
before, state = model.parameters, model._generator.bit_generator.state
limit(resource.RLIMIT_AS, 100 << 20)
calls = [lambda: model.fit(X, y, epochs=1, batch_size=100_000, checkpoint=path)]
if engine == "native":
    calls.append(lambda: model.partial_fit(X, y, batch_size=100_000))
else:
    calls.append(lambda: model.loss(X, y))
calls.append(lambda: model.jacobian(X))
for call in calls:
    try:
        call()
    except MemoryError as error:
        print(error)
    else:
        sys.exit("there was enough memory")
    for p, q in zip(model.parameters, before, strict=True):
        np.testing.assert_array_equal(p, q)
assert not os.path.exists(path)
model.fit(X[:100], y[:100], epochs=1)
assert model.predict(X[:5]).shape == (5,)
"""
)


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_memory_mapped_file_is_not_read_into_memory(tmp_path):
    path = tmp_path / "X.npy"
    X = np.lib.format.open_memmap(path, "w+", np.float32, (200_000, 320))  # with holes: zeros
    X[np.arange(200_000), np.arange(200_000) % 3] = 1
    X.flush()
    run(FROM_A_FILE, path)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("engine", ["native", "reference"])
def test_out_of_memory_names_the_size_and_leaves_the_model(tmp_path, engine):
    printed = run(TOO_MUCH, tmp_path / "run", engine).splitlines()
    assert len(printed) == 3
    for message in printed:
        assert "bytes" in message or "MiB" in message or "GiB" in message, message


@pytest.mark.parametrize("sizes", [[2**40, 2**40], [2**62, 2], [10**30, 2]])
@pytest.mark.parametrize("weight_init", ["auto", "zeros"])
def test_sizes_beyond_any_memory(sizes, weight_init):
    with pytest.raises(MemoryError, match="bytes"):
        fastbp.MLP(sizes, weight_init=weight_init)


def test_a_batch_beyond_any_memory_is_as_large_as_the_data():
    model = fastbp.MLP([4, 3], seed=0)
    for batch_size in (2**62, 10**30):
        model.partial_fit(np.zeros((5, 4)), [0] * 5, batch_size=batch_size)
        assert model.plan.batch_size == 8


def test_no_engine_is_made_anew_while_chunks_fit_into_the_batch_size():
    model = fastbp.MLP([4, 3], seed=0)
    model.partial_fit(np.zeros((32, 4)), [0] * 32)
    engine = model._engine
    for rows in (32, 31, 17, 100):
        model.partial_fit(np.zeros((rows, 4)), [0] * rows)
    assert model._engine is engine
