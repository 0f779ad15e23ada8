"""One file with network and encoding: predicts from files and frames by what was learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import model_file
from fastbp.tables import TableModel, delimited, frames, load
from fastbp.tables.encoding import Category, Encoding, Number
from fastbp.tables.target import Target

pytest.importorskip("pyarrow", reason="pyarrow is not installed")


@pytest.fixture
def model() -> TableModel:
    """y = 2 x + 10 where town is Ulm: a linear network that can be checked by hand."""
    encoding = Encoding(
        (Number("x", 1.0, 2.0, missing=True), Category("town", ("Bonn", "Ulm"))), clip=False
    )
    network = fastbp.MLP(
        [4, 1], loss="squared_error", weight_init=[[[1, 0, 0, 10, 2]]], dtype="float64"
    )
    return TableModel(network, encoding, Target("y", None))


@pytest.fixture
def classifier() -> TableModel:
    encoding = Encoding((Number("x", 0.0, 1.0),), clip=False)
    network = fastbp.MLP([1, 2], weight_init=[[[-1, 0], [1, 0]]])
    return TableModel(network, encoding, Target("sign", ("minus", "plus")))


ROWS: dict[str, list[Any]] = {
    "x": [0.5, None, -1.0],
    "town": ["Ulm", "Trier", None],
}
ANSWERS = [11.0, 2.0, -2.0]


def test_frames_files_and_dicts(model: TableModel, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(ROWS)
    assert model.predict(ROWS).tolist() == ANSWERS
    assert model.predict(frame).tolist() == ANSWERS
    frame[["town", "x"]].assign(more="?").to_csv(tmp_path / "t.csv")
    assert model.predict(tmp_path / "t.csv").tolist() == ANSWERS
    frame.to_parquet(tmp_path / "t.parquet")
    paths = [tmp_path / "t.csv", str(tmp_path / "t.parquet")]
    assert model.predict(paths).tolist() == ANSWERS * 2
    pl = pytest.importorskip("polars", reason="polars is not installed")
    assert model.predict(pl.DataFrame(ROWS)).tolist() == ANSWERS


def test_probabilities(classifier: TableModel, model: TableModel) -> None:
    assert classifier.predict({"x": [3, -3]}).tolist() == ["plus", "minus"]
    p = classifier.predict_proba({"x": [0.0, 0.5]})
    # softmax(−x, x) in float32: a few roundings.
    sure = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(p, [[0.5, 0.5], [1 - sure, sure]], rtol=8 * np.finfo("f4").eps)
    assert classifier.classes.tolist() == ["minus", "plus"]
    assert model.classes is None
    with pytest.raises(ValueError, match="this one is a regression"):
        model.predict_proba(ROWS)


def test_no_rows(model: TableModel, classifier: TableModel, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("town,x\n")
    assert model.predict(tmp_path / "t.csv").shape == (0,)
    assert classifier.predict_proba({"x": np.empty(0)}).shape == (0, 2)


@pytest.mark.parametrize("block", [40, 1 << 20])
def test_a_value_that_cannot_be_taken(
    model: TableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(delimited, "SAMPLE", block)
    monkeypatch.setattr(delimited, "BLOCK", block)
    path = tmp_path / "new.csv"
    lines = ["0.5,Ulm"] * 10 + ["l2.5,Ulm"] + ["0.5,Bonn"] * 10 + ["1e999,Bonn", "0,Bonn"]
    path.write_text("x,town\n" + "\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"new\.csv: row 11, column 'x': 'l2\.5' is no number"):
        model.predict(path)
    assert model.predict(path, skip_bad_rows=True).tolist() == [11] * 10 + [1] * 10 + [0]
    assert model.predict({"x": ["0.5", "b"], "town": ["Ulm"] * 2}, skip_bad_rows=True).tolist() == [
        11
    ]


def test_columns_that_are_not_used_may_hold_anything(model: TableModel, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("z,town,y,x,z\ninf,Ulm,,0.5,1\n?,Bonn,?,0.5,\n")
    assert model.predict(path).tolist() == [11, 1]
    path.write_text("town,y\nUlm,1\n")
    with pytest.raises(ValueError, match=r"new\.csv: unknown column 'x'"):
        model.predict(path)
    with pytest.raises(ValueError, match="unknown column 'town'"):
        model.predict({"x": [1.0]})


def test_what_was_text_is_read_as_text(tmp_path: Path) -> None:
    encoding = Encoding((Category("flat", ("007", "12", "12A")),))
    network = fastbp.MLP([3, 1], loss="squared_error", weight_init=[[[1, 2, 3, 0]]])
    model = TableModel(network, encoding, Target("y", None))
    path = tmp_path / "new.csv"
    path.write_text("flat\n12\n007\n7\n")
    assert model.predict(path).tolist() == [2, 1, 0]


def test_arrays_go_by_position() -> None:
    encoding = Encoding((Number("0", 0.0, 1.0), Number("2", 0.0, 1.0)), clip=False)
    network = fastbp.MLP([2, 1], loss="squared_error", weight_init=[[[1, 10, 0]]])
    model = TableModel(network, encoding, Target("1", None), width=3)
    assert model.predict(np.array([[1.0, 7, 3]])).tolist() == [31]
    assert model.predict(np.array([[1.0, 3]])).tolist() == [31]
    with pytest.raises(ValueError, match="has 4 columns, in training 3"):
        model.predict(np.zeros((1, 4)))


def test_saved_and_loaded(model: TableModel, classifier: TableModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for one, rows in ((model, ROWS), (classifier, {"x": [1.0, -2.0]})):
        one.save(path)
        again = fastbp.load(path)
        assert isinstance(again, TableModel)
        assert again.encoding == one.encoding
        assert again.target == one.target
        assert again.predict(rows).tolist() == one.predict(rows).tolist()
        network = fastbp.MLP.load(path)
        assert network.plan.layer_sizes == one.network.plan.layer_sizes
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_network_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fastbp.MLP([2, 1], loss="squared_error").save(path)
    with pytest.raises(ValueError, match=r"without a table's encoding: fastbp\.MLP\.load reads it"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(version=2), "newer fastbp"),
        (lambda t: t.update(version="1"), "no version"),
        (lambda t: t.pop("encoding"), "encoding"),
        (lambda t: t["encoding"]["columns"].pop(), "does not fit its network"),
        (lambda t: t["target"].update(classes=["a", "b"]), "does not fit its network"),
        (lambda t: t.update(width=2), "width"),
        (lambda t: t.update(width="2"), "width"),
    ],
)
def test_a_spoilt_header_is_refused(
    model: TableModel, tmp_path: Path, change: Any, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    header, arrays = model_file.read(path)
    change(header["table"])
    model_file.write(path, header, arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert "model.safetensors" in str(caught.value)


def test_a_loss_that_is_not_the_task_s(model: TableModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    header, arrays = model_file.read(path)
    header["network"]["loss"] = ["poisson", 0.0]
    model_file.write(path, header, arrays)
    with pytest.raises(ValueError, match="another loss"):
        load(path)


# The two files of older versions

OLD: dict[str, Any] = {
    "target": "y",
    "features": {"size": None, "colour": ["blue", "red"]},
    "classes": None,
    "mean": [2.0, 0.25, 0.75],
    "scale": [4.0, 0.5, 0.125],
    "target_mean": 100.0,
    "target_scale": 10.0,
}


def save_pair(folder: Path, old: dict[str, Any], outputs: int = 1) -> Path:
    path = folder / "old.safetensors"
    loss = "squared_error" if outputs == 1 else "softmax_cross_entropy"
    fastbp.MLP([3, 5, outputs], loss=loss, seed=0, dtype="float64").save(path)
    Path(f"{path}.json").write_text(json.dumps(old), encoding="utf-8")
    return path


def test_an_old_pair_predicts_as_before(tmp_path: Path) -> None:
    path = save_pair(tmp_path, OLD)
    rows = {"size": [1.0, 2.0, 7.0], "colour": ["red", "blue", "red"]}
    X = np.array([[1, 0, 1], [2, 1, 0], [7, 0, 1]])
    scaled = (X - OLD["mean"]) / OLD["scale"]
    before = fastbp.MLP.load(path).predict(scaled) * 10 + 100
    # The same sums in another order: some roundings of terms up to |w| 10.
    np.testing.assert_allclose(load(path).predict(rows), before, rtol=1e3 * np.finfo(float).eps)
    load(path).save(tmp_path / "new.safetensors")
    np.testing.assert_array_equal(
        load(tmp_path / "new.safetensors").predict(rows), load(path).predict(rows)
    )


def test_an_old_pair_of_classes_and_of_an_array(tmp_path: Path) -> None:
    old = OLD | {"classes": ["u", "v"]}
    found = load(save_pair(tmp_path, old, 2))
    assert set(found.predict({"size": [1.0, 9.0], "colour": ["red", "blue"]})) <= {"u", "v"}
    old = OLD | {"features": {"0": None, "2": None, "3": None}, "target": "1"}
    found = load(save_pair(tmp_path, old))
    assert found.width == 4
    X = np.array([[1.0, 99, 2, 3]])
    assert found.predict(X).tolist() == found.predict(X[:, [0, 2, 3]]).tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [1.0]},
        {"scale": [1.0, 0.0, 1.0]},
        {"scale": ["a", 1, 1]},
        {"mean": [float("nan"), 1, 1]},
        {"classes": ["u", "v"]},
        {"features": {"size": None}},
        {"features": 3},
        {"target": None},
    ],
)
def test_a_spoilt_pair_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = save_pair(tmp_path, OLD | change)
    with pytest.raises(ValueError, match=r"old\.safetensors\.json' is damaged"):
        load(path)


def test_many_rows_in_pieces(model: TableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbp.tables.predictor._CELLS", 1)
    rows = {"x": np.arange(2000.0), "town": ["Bonn"] * 2000}
    assert model.predict(rows).tolist() == (2 * np.arange(2000.0)).tolist()
    assert len(list(model.encoded(frames.columns_of(rows), delimited.Options()))) == 8
