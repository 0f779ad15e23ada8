"""Data larger than memory train from a file; where memory ends, an error says how much is needed."""

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import fastbp
from fastbp.engines import create as create_engine
from fastbp.engines import jit, native

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
    engine = model._holder.engine
    for rows in (32, 31, 17, 100):
        model.partial_fit(np.zeros((rows, 4)), [0] * rows)
    assert model._holder.engine is engine


def bytes_of(engine):
    """Of an engine's buffers."""
    if hasattr(engine, "nbytes"):
        return engine.nbytes
    return sum(a.nbytes for a in [*engine._buffers, *engine._rows])


COMPILED = [name for name, e in (("native", native), ("jit", jit)) if e.available()]
# Of each thread's own: a place in the team, a tile, the outputs and targets of some rows.
OF_A_THREAD = 16 << 10
# The native engine keeps panels of W apart where several threads share its columns.
APART = 1 << 16


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [32, 500])
def test_buffers_are_those_of_the_batch_however_many_threads_there_may_be(
    engine, dtype, batch_size
):
    sizes = (784, 512, 512, 10)
    one, many = (
        fastbp.MLP(sizes, dtype=dtype, engine=engine, threads=threads) for threads in (1, 64)
    )
    for model in (one, many):
        X = np.zeros((batch_size, 784), dtype)
        model.partial_fit(X, np.zeros(batch_size, int), batch_size=batch_size)
    panels = sum(-(-n // 8) for n in sizes[1:])  # at most
    allowed = 64 * OF_A_THREAD + (panels * APART if engine == "native" else 0)
    assert bytes_of(many._holder.engine) - bytes_of(one._holder.engine) <= allowed
    # A block of 112 rows for each thread would be many times that.
    assert 64 * 112 * sum(sizes) * np.dtype(dtype).itemsize > 4 * allowed


@pytest.mark.parametrize("engine", COMPILED)
def test_a_prediction_has_room_for_the_rows_at_hand(engine):
    """Few rows take little, many as much as the threads they are worth; then it stays."""
    model = fastbp.MLP((784, 512, 10), seed=0, engine=engine, threads=2)
    X = np.random.default_rng(0).standard_normal((3000, 784), dtype=np.float32)
    sizes, outputs = [], []
    for rows in (1, 32, 100, 3000, 1, 3000):
        outputs.append(model.predict_proba(X[:rows]))
        sizes.append(bytes_of(model._holder.engine))
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3] == sizes[4] == sizes[5]
    assert sizes[3] - sizes[0] <= 2 * 113 * (2 * (784 + 512) + 64) * 4
    for out in outputs:
        np.testing.assert_array_equal(out, outputs[3][: len(out)])
    model.jacobian(X[:40])
    jacobian = model.jacobian(X[:1])
    before = bytes_of(model._holder.engine)
    np.testing.assert_array_equal(model.jacobian(X[:40])[:1], jacobian)
    assert bytes_of(model._holder.engine) == before > sizes[-1]


GROWS = (
    LIMIT
    + """
import numpy.testing

model = fastbp.MLP([20_000, 4, 3], seed=0, engine=sys.argv[2])
X = np.random.default_rng(0).standard_normal((200, 20_000), dtype=np.float32)
y = np.arange(200) % 3
few = model.predict_proba(X[:1])
model.partial_fit(X[:1], [0], learning_rate=1e-30)
gradient, jacobian = model.gradient(X[:1], y[:1]), model.jacobian(X[:1])
limit(resource.RLIMIT_AS, 4 << 20)
try:
    model.predict_proba(X)  # a block of rows has 9 MB
except MemoryError as error:
    print(error)
else:
    sys.exit("there was enough memory")
np.testing.assert_array_equal(model.predict_proba(X[:1]), few)
for p, q in zip(model.gradient(X[:1], y[:1]), gradient, strict=True):
    np.testing.assert_array_equal(p, q)
np.testing.assert_array_equal(model.jacobian(X[:1]), jacobian)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
np.testing.assert_array_equal(model.predict_proba(X)[:1], few)
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("engine", COMPILED)
def test_a_prediction_there_is_no_memory_for_leaves_the_engine(tmp_path, engine):
    message = run(GROWS, tmp_path / "run", engine)
    assert "bytes" in message or "MiB" in message


@pytest.fixture
def made(monkeypatch):
    """The engines that predictions of estimators have made."""
    pytest.importorskip("sklearn")
    from fastbp.estimators import prediction

    engines = []

    def create(plan, name):
        engines.append(create_engine(plan, name))
        return engines[-1]

    monkeypatch.setattr(prediction, "create", create)
    return engines


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("engine", ["auto", *COMPILED, "reference"])
def test_an_estimator_keeps_its_engine_for_predictions(made, engine):
    import sklearn.base

    X = np.random.default_rng(0).standard_normal((300, 6))
    model = fastbp.MLPRegressor(
        hidden_layer_sizes=5, random_state=0, max_iter=1, engine=engine
    ).fit(X, X[:, :2])
    attributes = set(vars(model))
    first = [model.predict(X) for _ in range(5)][-1]
    model.score(X, X[:, :2])
    assert len(made) == 1
    assert set(vars(model)) == attributes
    # coefs_ are the parameters' home, whoever changes them and however.
    for change in (
        lambda: model.coefs_[0].__setitem__((0, 0), 7.0),
        lambda: model.intercepts_[1].__iadd__(1.0),
        lambda: setattr(model, "coefs_", [2 * a for a in model.coefs_]),
        lambda: model.partial_fit(X, X[:, :2]),
    ):
        change()
        v = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
        wanted = v @ model.coefs_[1] + model.intercepts_[1]
        np.testing.assert_allclose(model.predict(X), wanted, rtol=1e-12, atol=1e-12)
    assert len(made) == 1
    # Copies make their own, and pickles hold none.
    for copy in (sklearn.base.clone(model).fit(X, X[:, :2]), pickle.loads(pickle.dumps(model))):
        copy.predict(X)
    assert len(made) == 3
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))
    assert not np.array_equal(first, model.predict(X))
    # Another plan is another engine.
    model.set_params(activation="tanh").predict(X)
    model.predict(X)
    assert len(made) == 4


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_predictions_side_by_side_and_within_each_other(made):
    """Each has an engine of its own, also one in a signal's handler; all are kept."""
    X = np.random.default_rng(0).standard_normal((300, 6))
    model = fastbp.MLPRegressor(hidden_layer_sizes=5, random_state=0, max_iter=1).fit(X, X[:, 0])
    wanted = model.predict(X)
    inside = threading.Barrier(4)

    class Slow:
        def __init__(self, engine):
            self.engine = engine

        def __getattr__(self, name):
            return getattr(self.engine, name)

        def forward(self, *args, **kwargs):
            inside.wait()
            self.engine.forward(*args, **kwargs)

    for kept in [*model._engines]:
        kept.engine = Slow(kept.engine)
    plan = model._engines[0].plan
    for _ in range(3):
        model._engines.append(
            replace(model._engines[0], engine=Slow(create_engine(plan)), coefs=[])
        )
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(model.predict, [X] * 4):
            np.testing.assert_array_equal(result, wanted)
    assert len(model._engines) == 4
    assert len(made) == 1


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("engine", COMPILED)
def test_an_estimator_with_a_named_engine_gives_a_row_the_same_bits_among_few_and_many(engine):
    pytest.importorskip("sklearn")
    X = np.random.default_rng(0).standard_normal((100, 60))
    model = fastbp.MLPRegressor(
        hidden_layer_sizes=33, random_state=0, max_iter=1, engine=engine
    ).fit(X, X[:, :3])
    many = model.predict(X)
    for rows in (1, 2, 32, 33):
        np.testing.assert_array_equal(model.predict(X[:rows]), many[:rows])
