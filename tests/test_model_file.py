"""Saved models: what comes back, and what a damaged, foreign or newer file gives."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

import fastbp
from fastbp import model_file

X = np.random.default_rng(0).standard_normal((7, 4))


def make(**options):
    options = {"seed": 0, "activation": ["tanh", fastbp.Activation("elu", 0.5)]} | options
    return fastbp.MLP([4, 6, 5, 3], **options)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.npz"
    make().save(path)
    return path


def rewrite(path, change):
    """Change the entries of a model file, as bytes by name."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def npy(value):
    buffer = io.BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


def change_header(path, **items):
    def change(entries):
        header = json.loads(np.load(io.BytesIO(entries["header.npy"])).item())
        entries["header.npy"] = npy(np.array(json.dumps(header | items)))

    rewrite(path, change)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", fastbp.Loss("huber", 0.3), "poisson"])
def test_round_trip_is_exact(tmp_path, dtype, loss):
    model = make(dtype=dtype, loss=loss, dropout=[0.1, 0.0], l1=1e-3, l2=0.1)
    model.fit(X, np.abs(X[:, :3]) / np.abs(X[:, :3]).sum(axis=1, keepdims=True), epochs=2)
    model.save(tmp_path / "m")
    same = fastbp.MLP.load(tmp_path / "m")
    for a, b in zip(model.parameters, same.parameters, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model.predict(X), same.predict(X))
    assert repr(model) == repr(same)
    for name in ("activations", "loss", "dropout", "l1", "l2", "dtype"):
        assert getattr(model.plan, name) == getattr(same.plan, name)


def test_load_takes_seed_engine_and_threads(path):
    a, b = (fastbp.MLP.load(path, seed=5, engine="reference", threads=1) for _ in range(2))
    for model in (a, b):
        model.fit(X, [0, 1, 2, 0, 1, 2, 0], batch_size=2)
    for p, q in zip(a.parameters, b.parameters, strict=True):
        np.testing.assert_array_equal(p, q)
    assert a.plan.threads == 1
    with pytest.raises(ValueError, match="engine"):
        fastbp.MLP.load(path, engine="referenc")
    with pytest.raises(ValueError, match="threads"):
        fastbp.MLP.load(path, threads=0)


def test_name_is_used_as_it_is_and_replaces(tmp_path):
    make().save(os.fspath(tmp_path / "name"))
    make(seed=1).save(tmp_path / "name")
    assert [p.name for p in tmp_path.iterdir()] == ["name"]
    loaded = fastbp.MLP.load(tmp_path / "name")
    np.testing.assert_array_equal(loaded.parameters[0], make(seed=1).parameters[0])


def test_failed_save_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        make(seed=1).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastbp.MLP.load(tmp_path / "none")


def test_truncated_anywhere(path):
    data = path.read_bytes()
    for size in range(0, len(data), 37):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=path.name):
            fastbp.MLP.load(path)


def test_a_changed_byte_gives_a_clear_error_or_the_same_network(path):
    data = path.read_bytes()
    expected = make().parameters
    for at in range(0, len(data), 11):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        error = None
        try:
            loaded = fastbp.MLP.load(path)
        except ValueError as raised:
            error = str(raised)
        if error is None:  # a byte without meaning, such as a time stamp
            for p, q in zip(loaded.parameters, expected, strict=True):
                np.testing.assert_array_equal(p, q)
        else:
            assert path.name in error


def test_newer_version(path):
    change_header(path, version=model_file.VERSION + 1)
    with pytest.raises(ValueError, match="newer fastbp"):
        fastbp.MLP.load(path)


@pytest.mark.parametrize(
    "items",
    [
        {"version": None},
        {"layer_sizes": [4, 6, 5, 2]},
        {"layer_sizes": [4, 6, 3]},
        {"layer_sizes": "4"},
        {"activation": [["tanh"]]},
        {"activation": 3},
        {"loss": ["no_such_loss"]},
        {"dtype": "float16"},
        {"unknown": 1},
    ],
)
def test_wrong_description(path, items):
    change_header(path, **items)
    with pytest.raises(ValueError, match="damaged"):
        fastbp.MLP.load(path)


def test_missing_layer(path):
    rewrite(path, lambda entries: entries.pop("layer_2.npy"))
    with pytest.raises(ValueError, match="damaged"):
        fastbp.MLP.load(path)


def test_parameter_that_is_not_finite(path):
    rewrite(path, lambda e: e.update({"layer_3.npy": npy(np.full((3, 6), np.nan, "f4"))}))
    with pytest.raises(ValueError, match=r"damaged.*layer 3"):
        fastbp.MLP.load(path)


def test_foreign_files(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    np.savez(tmp_path / "h.npz", header=np.array("[1]"))
    np.save(tmp_path / "b.npy", np.arange(3))
    (tmp_path / "c.txt").write_text("hello")
    for name in ("a.npz", "h.npz", "b.npy", "c.txt"):
        with pytest.raises(ValueError, match="not a fastbp model"):
            fastbp.MLP.load(tmp_path / name)


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle in a model file was executed",)


def test_pickled_objects_are_never_loaded(path):
    trap = np.empty(1, dtype=object)
    trap[0] = Trap()
    buffer = io.BytesIO()
    np.save(buffer, trap, allow_pickle=True)
    rewrite(path, lambda entries: entries.update({"layer_1.npy": buffer.getvalue()}))
    with pytest.raises(ValueError, match="damaged"):
        fastbp.MLP.load(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="not a fastbp model"):
        fastbp.MLP.load(path)
