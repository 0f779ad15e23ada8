"""MLP and estimators on sparse X: the same as on a dense one, whatever form it comes in."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sparse_cases import awkward_rows

import fastbp
from fastbp import rows
from fastbp.csr import CSR
from fastbp.engines import jit, native

scipy_sparse = pytest.importorskip("scipy.sparse")

N, WIDTH = 120, 200
GIVEN = awkward_rows(N, WIDTH, 0.02)
S = scipy_sparse.csr_array((GIVEN.values, GIVEN.columns, GIVEN.starts), shape=GIVEN.shape)
X = GIVEN.toarray()
Y = (np.arange(N) * 7) % 3


def make(**options: Any) -> fastbp.MLP:
    return fastbp.MLP([WIDTH, 16, 3], seed=0, dtype="float64", **options)


def assert_alike(a: fastbp.MLP, b: fastbp.MLP, steps: int) -> None:
    """After so many steps; each rounds sums of some hundred terms otherwise."""
    for p, q in zip(a.parameters, b.parameters, strict=True):
        assert np.abs(p - q).max() <= steps * 1000 * np.finfo(np.float64).eps


LAYOUTS = [
    "csr_array",
    "csr_matrix",
    "csc_array",
    "csc_matrix",
    "coo_array",
    "bsr_matrix",
    "lil_array",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str) -> None:
    T = getattr(scipy_sparse, layout)(S)
    sparse, dense = make(l2=0.01), make(l2=0.01)
    options: dict[str, Any] = {"epochs": 2, "optimizer": "adam", "class_weight": "balanced"}
    sparse.fit(T, Y, **options)
    dense.fit(X, Y, **options)
    assert_alike(sparse, dense, 8)
    for method in ("predict", "predict_proba", "jacobian"):
        np.testing.assert_allclose(
            getattr(sparse, method)(T), getattr(sparse, method)(X), rtol=1e-9, atol=1e-12
        )
    assert sparse.loss(T, Y) == pytest.approx(sparse.loss(X, Y), rel=1e-12)
    assert sparse.score(T, Y) == sparse.score(X, Y)
    assert sparse.evaluate(T, Y)["accuracy"] == sparse.score(X, Y)
    for g, h in zip(sparse.gradient(T, Y), sparse.gradient(X, Y), strict=True):
        np.testing.assert_allclose(g, h, rtol=1e-9, atol=1e-12)
    for z, v in zip(sparse.forward(T), sparse.forward(X), strict=True):
        for a, b in zip(z, v, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_csr_of_the_right_dtype_is_used_in_place() -> None:
    from fastbp import _inputs

    found = _inputs.as_rows("X", S, WIDTH, np.dtype(np.float64))
    assert found.values is S.data
    assert found.columns is S.indices
    assert found.starts is S.indptr


@pytest.mark.parametrize("validation", ["fraction", "sparse", "dense"])
@pytest.mark.parametrize("train", ["sparse", "dense"])
def test_validation_and_early_stopping(train: str, validation: str) -> None:
    held: Any = {"fraction": 0.25, "sparse": (S[:30], Y[:30]), "dense": (X[:30], Y[:30])}
    options: dict[str, Any] = {"epochs": 5, "early_stopping": 2, "optimizer": "momentum"}
    a, b = make(), make()
    got = a.fit(S if train == "sparse" else X, Y, validation=held[validation], **options)
    wanted = b.fit(
        X, Y, validation=0.25 if validation == "fraction" else (X[:30], Y[:30]), **options
    )
    np.testing.assert_allclose(got.validation_loss, wanted.validation_loss, rtol=1e-10)
    assert_alike(a, b, 20)


def test_partial_fit_goes_on_with_rows_of_either_kind() -> None:
    a, b = make(), make()
    for given in (S, X, S, S, X):
        a.partial_fit(given, Y, optimizer="adam")
        b.partial_fit(X, Y, optimizer="adam")
    assert_alike(a, b, 20)


def test_a_callback_that_predicts_other_rows_leaves_the_way_back() -> None:
    model = make()

    def look(model: fastbp.MLP, history: fastbp.History) -> None:
        model.predict(X[:5])

    class Rate:
        def __call__(self, step: int) -> float:
            return 1e200 if step >= 8 else 0.01

    kept: list[Any] = []
    with pytest.raises(fastbp.DivergenceError):
        model.fit(
            S, Y, epochs=5, learning_rate=Rate(),
            callbacks=[look, lambda m, h: kept.append(m.parameters)],
        )  # fmt: skip
    for p, q in zip(model.parameters, kept[-1], strict=True):
        np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("update", ["exact", "lazy"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_a_checkpoint_goes_on_bit_for_bit(
    tmp_path: Path, update: str, optimizer: str, l2: float
) -> None:
    options: dict[str, Any] = {"optimizer": optimizer, "sparse_update": update, "batch_size": 7}
    whole, first, second = make(l2=l2), make(l2=l2), make(l2=l2)
    whole.fit(S, Y, epochs=4, **options)
    first.fit(S, Y, epochs=2, checkpoint=tmp_path / "run", **options)
    second.fit(S, Y, epochs=4, resume=tmp_path / "run", **options)
    for p, q in zip(whole.parameters, second.parameters, strict=True):
        np.testing.assert_array_equal(p, q)
    other = S.copy()
    other.data = other.data * 2
    with pytest.raises(ValueError, match="another X"):
        make(l2=l2).fit(other, Y, epochs=4, resume=tmp_path / "run", **options)
    options["sparse_update"] = "lazy" if update == "exact" else "exact"
    with pytest.raises(ValueError, match="its sparse_update is"):
        make(l2=l2).fit(S, Y, epochs=4, resume=tmp_path / "run", **options)


def test_what_is_hardly_sparse_takes_the_dense_way() -> None:
    full = scipy_sparse.csr_array(np.random.default_rng(0).standard_normal((50, WIDTH)))
    a, b = make(l1=0.01, l2=0.1), make(l1=0.01, l2=0.1)
    a.fit(full, Y[:50], epochs=2, sample_weight=np.arange(50.0))
    b.fit(full.toarray(), Y[:50], epochs=2, sample_weight=np.arange(50.0))
    assert not a._holder.engine.plan.is_sparse  # type: ignore[union-attr]
    for p, q in zip(a.parameters, b.parameters, strict=True):
        np.testing.assert_array_equal(p, q)
    a.fit(full, Y[:50], epochs=1, sparse_update="lazy")
    assert a._holder.engine.plan.is_sparse  # type: ignore[union-attr]


@pytest.mark.parametrize("in_sum", [False, True])
def test_blocks_of_dense_rows_have_one_penalty(
    monkeypatch: pytest.MonkeyPatch, in_sum: bool
) -> None:
    from dataclasses import replace

    from fastbp.engines import create

    model = make(l1=0.01, l2=0.1)
    plan = replace(model.plan, penalty_in_sum=in_sum)
    engine = create(plan)
    engine.set_parameters(model.parameters)
    monkeypatch.setattr(rows, "DENSE_VALUES", 13 * WIDTH)
    for weight in (None, np.arange(N) / 7.0):
        g, h = ([np.empty_like(p) for p in model.parameters] for _ in range(2))
        got = rows.gradient_of(engine, (GIVEN, Y, weight), g)
        wanted = engine.gradient(X, Y, weight, h)
        assert got == pytest.approx(wanted, rel=1e-12)
        assert rows.loss_of(engine, (GIVEN, Y, weight)) == pytest.approx(wanted, rel=1e-12)
        for p, q in zip(g, h, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not jit.available(), reason="no Numba")
def test_an_engine_without_the_stage_takes_dense_blocks() -> None:
    a, b = make(engine="jit"), make(engine="jit")
    for model, given in ((a, S), (b, X)):
        model.fit(given, Y, epochs=2)
        model.predict(given)
    for p, q in zip(a.parameters, b.parameters, strict=True):
        np.testing.assert_array_equal(p, q)
    with pytest.raises(
        ValueError, match="sparse_update='lazy' needs sparse rows, but engine 'jit'"
    ):
        make(engine="jit").fit(S, Y, sparse_update="lazy")


def test_lazy_needs_sparse_rows() -> None:
    for data in (S, X):
        with pytest.raises(ValueError, match="sparse_update must be 'exact' or 'lazy', got 'Lazy'"):
            make().fit(data, Y, sparse_update="Lazy")
    with pytest.raises(ValueError, match="sparse_update='lazy' needs a sparse X"):
        make().fit(X, Y, sparse_update="lazy")
    with pytest.raises(ValueError, match="update must be 'exact' or 'lazy', got 'never'"):
        make().fit(S, Y, sparse_update="never")


class Rows:
    """A matrix as SciPy's, unchecked."""

    format = "csr"

    def __init__(self, data: Any, indices: Any, indptr: Any, shape: Any = (2, WIDTH)) -> None:
        self.data, self.indices, self.indptr = map(np.asarray, (data, indices, indptr))
        self.shape = shape

    def tocsr(self) -> Rows:
        return self


BAD = {
    "too far": (Rows([1.0, 2.0], [0, WIDTH], [0, 1, 2]), r"from 0 to 199, but row 1 has 200"),
    "negative": (Rows([1.0, 2.0], [-1, 3], [0, 1, 2]), r"from 0 to 199, but row 0 has -1"),
    "huge": (Rows([1.0, 2.0], [3, 2**62], [0, 1, 2]), r"row 1 has 4611686018427387904"),
    "decreasing": (Rows([1.0, 2.0], [0, 1], [0, 2, 1]), r"must not decrease, but entry 2 is 1 after 2"),
    "beyond": (Rows([1.0, 2.0], [0, 1], [0, 1, 3]), r"end at most at 2, the number of entries, got 3"),
    "before": (Rows([1.0, 2.0], [0, 1], [-1, 1, 2]), r"indptr must begin with 0, got -1"),
    "too few starts": (Rows([1.0, 2.0], [0, 1], [0, 2]), r"indptr must have shape \(3,\)"),
    "lengths": (Rows([1.0], [0, 1], [0, 1, 2]), r"data and indices must be as many"),
    "nan": (Rows([1.0, np.nan], [0, 5], [0, 1, 2]), r"finite in float64, but entry \[1, 5\] is nan"),
    "columns": (Rows([1.0], [0], [0, 1, 1], (2, 7)), r"X must have shape \(n, 200\), got \(2, 7\)"),
    "one dimension": (Rows([1.0], [0], [0, 1], (WIDTH,)), r"single row as \[row\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_are_no_rows(name: str) -> None:
    given, message = BAD[name]
    model = make()
    before = model.parameters
    for call in (
        lambda: model.fit(given, [0, 1]),
        lambda: model.partial_fit(given, [0, 1]),
        lambda: model.predict(given),
        lambda: model.loss(given, [0, 1]),
        lambda: model.gradient(given, [0, 1]),
        lambda: model.jacobian(given),
        lambda: model.forward(given),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for p, q in zip(model.parameters, before, strict=True):
        np.testing.assert_array_equal(p, q)


def test_types_that_are_no_rows() -> None:
    for given, message in (
        (Rows([1j], [0], [0, 1, 1]), "X must hold real numbers, got dtype complex128"),
        (Rows([1.0], [0.0], [0, 1, 1]), "X's indices must be integers, got dtype float64"),
        (Rows([1.0], [0], [0.0, 1, 1]), "X's indptr must be integers, got dtype float64"),
    ):
        with pytest.raises(TypeError, match=message):
            make().predict(given)


def test_room_that_is_not_used_is_not_read() -> None:
    given = Rows([1.0, 2.0, np.nan], [0, 1, -5], [0, 1, 2])
    same = scipy_sparse.csr_array(([1.0, 2.0], [0, 1], [0, 1, 2]), shape=(2, WIDTH))
    np.testing.assert_array_equal(make().predict_proba(given), make().predict_proba(same))


MEMORY = """
import numpy as np, scipy.sparse, fastbp
def most():  # that this process has had; ru_maxrss begins with what its parent has
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])

n, width = 2000, 100_000
rng = np.random.default_rng(0)
S = scipy.sparse.random_array((n, width), density=80 / width, format="csr", rng=0, dtype=np.float32)
y = rng.integers(0, 5, n)
model = fastbp.MLP([width, 100, 5], seed=0, weight_init="zeros")
model.fit(S, y, epochs=1, batch_size=200, optimizer="adam")
before = most()
model.fit(S, y, epochs=2, batch_size=200, optimizer="adam")
model.predict(S)
after = most()
# Weights, two slots, the copy to go back to, and those of NumPy that the model is made with; in KB
weights = width * 104 * 4 / 1024
print(before, after, weights)
assert after < 5 * weights + 64 * 1024 + 120 * 1024, (after, weights)  # 120 MB: Python, NumPy, SciPy
"""


@pytest.mark.skipif(
    not native.available() or sys.platform != "linux", reason="of the native engine"
)
def test_memory() -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(MEMORY)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]


def test_a_pipeline_of_texts() -> None:
    pytest.importorskip("sklearn")
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(400)])
    texts = [" ".join(rng.choice(words, 12)) for _ in range(200)]
    labels = np.array([t.split()[0] < "w2" for t in texts])
    table = rng.integers(0, 40, (200, 5)).astype(str)
    for first, given in (
        (TfidfVectorizer(), texts),
        (HashingVectorizer(n_features=2**12), texts),
        (OneHotEncoder(handle_unknown="ignore"), table),
    ):
        fitted = [
            make_pipeline(first, kind((8,), max_iter=3, random_state=0)).fit(given, labels)
            for kind in (fastbp.MLPClassifier, MLPClassifier)
        ]
        np.testing.assert_allclose(
            fitted[0].predict_proba(given), fitted[1].predict_proba(given), rtol=0, atol=1e-9
        )
    lazy = fastbp.MLPClassifier((8,), max_iter=3, random_state=0, sparse_update="lazy")
    assert make_pipeline(TfidfVectorizer(), lazy).fit(texts, labels).predict(texts).shape == (200,)
    with pytest.raises(ValueError, match="sparse_update='lazy' needs a sparse X"):
        lazy.fit(np.zeros((20, 3)), np.arange(20) % 2)


def test_rows_are_found_by_what_they_are() -> None:
    assert isinstance(GIVEN, CSR)
    np.testing.assert_array_equal(make().predict(GIVEN), make().predict(S))
