"""Saved networks: an exact round trip, and a clear error for every file that is not whole."""

import json
import os
import pickle
import re
import stat
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp import _safetensors, model_file

X = np.random.default_rng(0).standard_normal((7, 4))


def make(**options):
    options = {"seed": 0, "activation": ["tanh", fastbp.Activation("elu", 0.5)]} | options
    return fastbp.MLP([4, 6, 5, 3], **options)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    make().save(path)
    return path


def rewrite(path, change, checksum=True):
    """Change the arrays and the texts of a file; the checksum is that of the new contents."""
    with open(path, "rb") as file:
        arrays, metadata = _safetensors.read(file)
    change(arrays, metadata)
    if checksum:
        metadata.pop("crc32", None)
        metadata["crc32"] = model_file._checksum(arrays, metadata)
    with open(path, "wb") as file:
        _safetensors.write(file, arrays, metadata)


def change_network(path, **items):
    def change(arrays, metadata):
        header = json.loads(metadata["header"])
        header["network"] |= items
        metadata["header"] = json.dumps(header)

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


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        fastbp.MLP([1, 1], loss="squared_error").save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_failed_save_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(file, *args):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(_safetensors, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        make(seed=1).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="folders cannot be opened here")
def test_the_file_and_then_its_folder_are_written_through(path, monkeypatch):
    folders = []
    monkeypatch.setattr(os, "fsync", lambda fd: folders.append(stat.S_ISDIR(os.fstat(fd).st_mode)))
    make().save(path)
    assert folders == [False, True]


def test_new_files_have_the_permissions_of_any_new_file(path):
    plain = path.parent / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_other_programs_of_the_format_read_it_and_may_write_it_again(path, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file, save_file

    arrays = load_file(path)
    for i, p in enumerate(make().parameters, 1):
        np.testing.assert_array_equal(arrays[f"layer_{i}"], p)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    save_file(arrays, tmp_path / "again", metadata)
    same = fastbp.MLP.load(tmp_path / "again")
    for p, q in zip(make().parameters, same.parameters, strict=True):
        np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("path", [None, 3, b"model"])
def test_what_is_no_path(path):
    with pytest.raises(TypeError, match="path must be a path"):
        fastbp.MLP([2, 2]).save(path)
    with pytest.raises(TypeError, match="path must be a path"):
        fastbp.MLP.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastbp.MLP.load(tmp_path / "none")


def test_truncated_anywhere(path):
    data = path.read_bytes()
    for size in range(0, len(data), 37):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=path.name):
            fastbp.MLP.load(path)


def test_a_changed_byte_is_noticed(path):
    data = path.read_bytes()
    for at in range(0, len(data), 11):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        with pytest.raises(ValueError, match=path.name):
            fastbp.MLP.load(path)


def test_bytes_too_many_are_noticed(path):
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=path.name):
        fastbp.MLP.load(path)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2", "was written by a newer fastbp (format 2; this one reads up to 1): upgrade"),
        ("99999", "was written by a newer fastbp (format 99999; "),
        ("0", "is damaged: its version is '0'"),
        ("", "is damaged: its version is ''"),
        ("1.0", "is damaged: its version is '1.0'"),
        ("²", "is damaged: its version is '²'"),
    ],
)
def test_other_versions(path, version, message):
    rewrite(path, lambda arrays, metadata: metadata.update(version=version))
    with pytest.raises(ValueError, match=re.escape(f"{os.fspath(path)!r} {message}")):
        fastbp.MLP.load(path)


@pytest.mark.parametrize(
    "items",
    [
        {"layer_sizes": [4, 6, 5, 2]},
        {"layer_sizes": [4, 6, 3]},
        {"layer_sizes": [4, 2**62, 5, 3]},
        {"layer_sizes": "4"},
        {"layer_sizes": None},
        {"activation": [["tanh"]]},
        {"activation": [["tanh"], ["elu", [], 1]]},
        {"activation": 3},
        {"loss": ["no_such_loss"]},
        {"loss": [[]]},
        {"loss": "huber"},
        {"dtype": "float16"},
        {"dtype": {}},
        {"l2": -1},
        {"dropout": [2.0, 0.0]},
        {"unknown": 1},
        {"seed": 1},
        {"weight_init": "zeros"},
    ],
)
def test_wrong_description(path, items):
    change_network(path, **items)
    with pytest.raises(ValueError, match="damaged"):
        fastbp.MLP.load(path)


@pytest.mark.parametrize("header", ["", "[]", "{}", '{"network": 1}', "[" * 100_000, "1" * 10_000])
def test_wrong_header(path, header):
    rewrite(path, lambda arrays, metadata: metadata.update(header=header))
    with pytest.raises(ValueError, match="damaged"):
        fastbp.MLP.load(path)


@pytest.mark.parametrize(
    ("layer", "value", "message"),
    [
        ("layer_2", None, "it has no array 'layer_2'"),
        ("layer_3", np.full((3, 6), np.nan, "f4"), "layer 3 must be finite"),
        ("layer_3", np.zeros((3, 5), "f4"), "layer 3 must have shape (3, 6)"),
        ("layer_4", np.zeros((3, 6), "f4"), "it has an array 'layer_4' too many"),
    ],
)
def test_wrong_layers(path, layer, value, message):
    def change(arrays, metadata):
        arrays.pop(layer, None)
        if value is not None:
            arrays[layer] = value

    rewrite(path, change)
    with pytest.raises(ValueError, match=f"is damaged: .*{re.escape(message)}"):
        fastbp.MLP.load(path)


def test_wrong_or_no_checksum(path):
    rewrite(path, lambda arrays, metadata: metadata.update(crc32="0" * 8), checksum=False)
    with pytest.raises(ValueError, match="is damaged: its checksum is not that of its contents"):
        fastbp.MLP.load(path)
    rewrite(path, lambda arrays, metadata: metadata.pop("crc32"), checksum=False)
    with pytest.raises(ValueError, match="is damaged: its checksum is not that of its contents"):
        fastbp.MLP.load(path)


def raw(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "it has no safetensors header"),
        (b"1234567", "it has no safetensors header"),
        ((2**63).to_bytes(8, "little"), "it has no safetensors header"),
        ((2**64 - 1).to_bytes(8, "little") + b"{}", "it has no safetensors header"),
        (raw(b"\xff\xfe"), "decode"),
        (raw(b"{"), "Expecting"),
        (raw(b"[]"), "its header is not an object"),
        (raw(b'{"a": ' * 100_000), "its header is nested too deeply"),
        (raw(b'{"a": {}, "a": {}}'), "its header has a name twice"),
        (raw({"__metadata__": {"a": 1}}), "its metadata are not texts"),
        (raw({"__metadata__": []}), "its metadata are not texts"),
        (raw({"a": 1}), "array 'a' is not described by dtype, shape and offsets"),
        (raw({"a": {}}), "array 'a' is not described by dtype, shape and offsets"),
        (raw({"a": entry() | {"more": 1}}, bytes(4)), "array 'a' is not described by"),
        (raw({"a": entry(dtype="O8")}, bytes(4)), "array 'a' has dtype 'O8', not one of F32, F64"),
        (raw({"a": entry(dtype=[])}, bytes(4)), "array 'a' has dtype []"),
        (raw({"a": entry(shape=(-1,))}, bytes(4)), "array 'a' has a shape or offsets that are not"),
        (raw({"a": entry(shape=(1.0,))}, bytes(4)), "array 'a' has a shape or offsets that are"),
        (raw({"a": entry(shape=(True,))}, bytes(4)), "array 'a' has a shape or offsets that are"),
        (raw({"a": entry(shape=1)}, bytes(4)), "array 'a' has a shape or offsets that are not"),
        (raw({"a": entry(shape=[1] * 9)}, bytes(4)), "array 'a' has 9 axes and 2 offsets"),
        (raw({"a": entry(offsets=(0,))}, bytes(4)), "array 'a' has 1 axes and 1 offsets"),
        (raw({"a": entry(shape=(2**62, 4))}, bytes(4)), "array 'a' has offsets that do not fit"),
        (raw({"a": entry(shape=(2**62,), offsets=(0, 2**64))}), "its arrays need 18,446,744,"),
        (raw({"a": entry(offsets=(4, 0))}, bytes(4)), "array 'a' has offsets that do not fit"),
        (raw({"a": entry(offsets=(4, 8))}, bytes(8)), "array 'a' does not begin where the one"),
        (raw({"a": entry()}, bytes(3)), "its arrays need 4 bytes, it has 3"),
        (raw({"a": entry()}, bytes(5)), "its arrays need 4 bytes, it has 5"),
        (raw({"a": entry(), "b": entry()}, bytes(4)), "array 'b' does not begin"),
        (raw({"a": entry(), "b": entry(offsets=(2, 6))}, bytes(6)), "array 'b' does not begin"),
        (raw({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)), "array 'b' does not begin"),
    ],
)
def test_hostile_containers(tmp_path, contents, message):
    path = tmp_path / "m"
    path.write_bytes(contents)
    start = f"{os.fspath(path)!r} is not a fastbp model, or is damaged: "
    with pytest.raises(ValueError, match=f"^{re.escape(start)}.*{re.escape(message)}"):
        fastbp.MLP.load(path)


def test_container_round_trip(tmp_path):
    arrays = {
        "none": np.empty((0, 3), "f4"),
        "scalar": np.array(1.5),
        "axes": np.ones((1,) * 8, "f4"),
        "big-endian": np.arange(6, dtype=">f8").reshape(2, 3),
        "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    for content in (arrays, {}):
        for texts in ({}, {"a": "é", "longer": ""}):
            with open(tmp_path / "m", "wb") as file:
                _safetensors.write(file, content, texts)
            with open(tmp_path / "m", "rb") as file:
                read, metadata = _safetensors.read(file)
                file.seek(0)
                length = int.from_bytes(file.read(8), "little")
            assert metadata == texts
            assert list(read) == list(content)
            assert length % 8 == 0  # the arrays are aligned
            for name, a in content.items():
                assert read[name].dtype == a.dtype.newbyteorder("=")
                np.testing.assert_array_equal(read[name], a)
    (tmp_path / "empty").write_bytes(raw(b"{}"))
    with open(tmp_path / "empty", "rb") as file:
        assert _safetensors.read(file) == ({}, {})


def test_checksum_is_of_everything_in_any_order():
    arrays = {"a": np.arange(6.0), "b": np.zeros(2, "f4")}
    texts = {"t": "1", "u": "2"}
    seen = {model_file._checksum(arrays, texts)}
    same = model_file._checksum(dict(reversed(arrays.items())), dict(reversed(texts.items())))
    assert seen == {same}
    for other in (
        ({"c": arrays["a"], "b": arrays["b"]}, texts),
        ({"a": arrays["a"].reshape(2, 3), "b": arrays["b"]}, texts),
        ({"a": arrays["a"], "b": np.zeros(1)}, texts),
        ({"a": arrays["a"] + 1, "b": arrays["b"]}, texts),
        ({"a": arrays["b"], "b": arrays["a"]}, texts),
        (arrays, {"t": "1", "u": "3"}),
        (arrays, {"t": "1", "v": "2"}),
        (arrays, {"t": "1"}),
    ):
        seen.add(model_file._checksum(*other))
    assert len(seen) == 9


def test_foreign_files(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    np.save(tmp_path / "b.npy", np.arange(3))
    (tmp_path / "c.txt").write_text("hello, this is no model")
    (tmp_path / "d.safetensors").write_bytes(raw({"a": entry()}, bytes(4)))
    (tmp_path / "e.safetensors").write_bytes(raw({"__metadata__": {"format": "pt"}}))
    for file in tmp_path.iterdir():
        with pytest.raises(ValueError, match="not a fastbp model"):
            fastbp.MLP.load(file)


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle in a model file was executed",)


def test_pickled_objects_are_never_loaded(path):
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="not a fastbp model"):
        fastbp.MLP.load(path)
