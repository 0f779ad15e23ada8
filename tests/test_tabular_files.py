"""Networks for tables from the command and its files: `fastbp.load`, sizes of tables, attributions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
pytest.importorskip("pandas", reason="frames of pandas are what is predicted")

import pandas as pd

import fastbp
from fastbp import tabular
from fastbp.command import split
from fastbp.command.metrics import measure
from fastbp.stages import Dense, Lookup, Periodic
from fastbp.tables.target import Target
from fastbp.tabular import recipes
from fastbp.tabular.model import TabularModel

QUICK: dict[str, Any] = {
    "hidden_layer_sizes": (16, 16),
    "epochs": 8,
    "n_members": 2,
    "random_state": 0,
}


def table(rows: int = 300) -> Any:
    rng = np.random.default_rng(0)
    size, shop = rng.standard_normal(rows), rng.integers(0, 12, rows)
    gap = np.where(rng.random(rows) < 0.1, np.nan, rng.standard_normal(rows))
    return pd.DataFrame(
        {
            "size": size,
            "gap": gap,
            "shop": [f"s{k:02}" for k in shop],
            "kind": np.where(size + shop % 3 > 1, "up", "down"),
            "price": 100 + 10 * size + shop,
        }
    )


@pytest.mark.parametrize("target", ["kind", "price"])
def test_an_estimator_s_file_predicts_from_files_frames_and_dicts(
    tmp_path: Path, target: str
) -> None:
    frame = table()
    X = frame.drop(columns=["kind", "price"])
    make: Any = fastbp.TabularClassifier if target == "kind" else fastbp.TabularRegressor
    model = make(**QUICK).fit(X, frame[target])
    model.save(tmp_path / "m")
    frame.to_csv(tmp_path / "t.csv", index=False)
    again = fastbp.load(tmp_path / "m", threads=1)
    assert isinstance(again, TabularModel)
    assert again.target.name == "prediction"
    wanted = model.predict(X)
    for data in (X, tmp_path / "t.csv", [tmp_path / "t.csv"], X.to_dict("list")):
        np.testing.assert_array_equal(again.predict(data), wanted)
    if target == "kind":
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        assert again.predict_proba(X[:0]).shape == (0, 2)
    else:
        with pytest.raises(ValueError, match="classification model"):
            again.predict_proba(X)
    assert len(again.predict(X[:0])) == 0
    again.save(tmp_path / "n")
    np.testing.assert_array_equal(fastbp.load(tmp_path / "n").predict(X), wanted)
    np.testing.assert_array_equal(tabular.load(tmp_path / "n").predict(X), wanted)


def test_arrays_go_by_position(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(200, 4))
    X[:, 1] = 3.0  # is left out, and is a column of the array all the same
    model = fastbp.TabularRegressor(**QUICK).fit(X, X[:, 0])
    model.save(tmp_path / "m")
    again = fastbp.load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="has 3 columns, in training 4"):
        again.predict(X[:, :3])


def test_the_command_and_the_estimator_agree(run, tmp_path: Path) -> None:
    frame = table()
    frame.to_csv("t.csv", index=False)
    options = ("--epochs", 4, "--hidden", "8", "--quiet", "--target", "kind", "--ignore", "price")
    status, out, err = run("train", "t.csv", *options, "--save", "m", "--metric", "log_loss")
    assert (status, err) == (0, "")
    # What a frame of the same values gives, to the bit: nothing else goes into it.
    again = fastbp.load("m").estimator
    X = pd.read_csv("t.csv").drop(columns=["kind", "price"])
    same = fastbp.TabularClassifier(epochs=4, hidden_layer_sizes=(8,), random_state=0)
    same.fit(X, frame["kind"])
    np.testing.assert_array_equal(again.predict_proba(X), same.predict_proba(X))
    known = np.isfinite(same.oof_prediction_[:, 0])
    y = (frame["kind"] == "up").to_numpy().astype(int)
    ((_, value),) = measure(["log_loss"], same.oof_prediction_[known], y[known], None)
    assert f"validation log_loss: {value:.4f}" in out


def test_rows_to_test_have_no_part_in_training(run) -> None:
    frame = table()
    y = (frame["kind"] == "up").to_numpy().astype(int)
    aside = split.held_out(y, 0.3, np.random.default_rng(0), classes=True)
    other = frame.copy()
    other.loc[aside, "size"] = 1e6
    other.loc[aside, "shop"] = "elsewhere"
    for name, data in (("one", frame), ("two", other)):
        data.to_csv(f"{name}.csv", index=False)
        args = ("train", f"{name}.csv", "--target", "kind", "--test", 0.3, "--save", name)
        assert run(*args, "--epochs", 2, "--hidden", 4, "--quiet")[0] == 0
    found = [fastbp.load(name).predict_proba(frame) for name in ("one", "two")]
    np.testing.assert_array_equal(*found)


def test_rows_without_weight_or_target_have_none_either(run) -> None:
    frame = table()
    frame["w"] = np.where(np.arange(300) < 200, 2.0, 0.0)
    frame[frame["w"] > 0].to_csv("one.csv", index=False)
    frame.loc[frame["w"] == 0, "size"] = -1e6
    frame.to_csv("two.csv", index=False)
    X = frame[["size", "gap", "shop"]]
    fits = [
        fastbp.TabularRegressor(**QUICK).fit(X[:200], frame["price"][:200]),
        fastbp.TabularRegressor(**QUICK).fit(X, frame["price"], sample_weight=frame["w"]),
    ]
    np.testing.assert_array_equal(*(m.predict(X) for m in fits))


def test_a_class_that_only_rows_to_test_have(run) -> None:
    lines = [f"{i % 7},g{i // 10},{'abc'[i // 70]}" for i in range(210)]
    Path("t.csv").write_text("x,g,y\n" + "\n".join(lines) + "\n")
    Path("test.csv").write_text("x,y\n1,a\n2,d\n3,c\n")
    args = ("train", "t.csv", "--target", "y", "--group", "g", "--epochs", 2, "--quiet")
    status, out, _ = run(*args, "--hidden", 4, "--test", "test.csv", "--save", "m")
    assert status == 0
    assert "1 rows are left out: their target is missing, or of no class" in out
    model = fastbp.load("m")
    lacking = TabularModel(model.estimator, Target("y", ("a", "aa", "b", "c")), None)
    p = lacking.predict_proba({"x": [1.0, 2.0]})
    np.testing.assert_array_equal(p[:, [0, 2, 3]], model.predict_proba({"x": [1.0, 2.0]}))
    assert (p[:, 1] == 0).all()


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1"},
        {"version": 2},
        {"target": {"name": "y", "classes": ["a", "b"], "center": 0, "scale": 1}},
        {"target": {"name": "y", "classes": None, "center": 0, "scale": 1}},
        {"width": 1},
    ],
)
def test_a_spoilt_table_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    frame = table()
    model = fastbp.TabularClassifier(**QUICK).fit(frame[["size", "shop"]], frame["kind"])
    told = {"version": 1, "target": Target("kind", ("down", "up")).to_dict(), "width": None}
    model._write(tmp_path / "m", {"table": told})
    assert fastbp.load(tmp_path / "m").target.name == "kind"
    model._write(tmp_path / "m", {"table": told | change})
    with pytest.raises(ValueError, match="cannot be used"):
        fastbp.load(tmp_path / "m")


def test_networks_that_all_diverge_are_status_1(run) -> None:
    table().to_csv("t.csv", index=False)
    args = ("train", "t.csv", "--target", "price", "--learning-rate", 1e30, "--quiet")
    status, _, err = run(*args, "--save", "m")
    assert status == 1
    assert "diverged" in err
    assert not Path("m").exists()


# Sizes


def test_large_tables_have_fewer_members_and_epochs() -> None:
    recipe = recipes.recipe("realmlp", regression=False)
    stages = recipes.stages(recipe, 20, 10, (), 2)
    last = (8, 64)
    for rows in (1000, 10_000, 100_000, 1_000_000, 10_000_000):
        free = {"fixed_members": False, "fixed_epochs": False}
        members, epochs = recipes.for_size(recipe, stages, rows, 8, **free)
        assert (members, epochs) <= last
        assert members >= recipes.LEAST_MEMBERS
        assert epochs >= recipes.LEAST_EPOCHS
        last = members, epochs
        kept = recipes.for_size(recipe, stages, rows, 8, fixed_members=True, fixed_epochs=True)
        assert kept == (8, 64)
    assert last == (2, 8)
    assert recipes.for_size(recipe, stages, 10_000, 8, **free) == (8, 64)


def test_what_a_large_table_changes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table()
    X, y = frame[["size", "gap"]], frame["kind"]
    monkeypatch.setattr(recipes, "BUDGET", 1e8)
    quick = {"hidden_layer_sizes": (16, 16), "random_state": 0}
    model = fastbp.TabularClassifier(**quick).fit(X, y)
    assert len(model.members_) < 6
    members, epochs = len(model.members_), model.n_iter_
    (note,) = (n for n in model.notes_ if "in place of" in n)
    assert note.startswith(f"300 rows: {members} members for {epochs} epochs, in place of 6 for 64")
    model = fastbp.TabularClassifier(epochs=3, n_members=2, **quick).fit(X, y)
    assert (len(model.members_), model.n_iter_, model.notes_) == (2, 3, [])


# Attributions


@pytest.mark.parametrize("name", list(recipes.MODELS))
@pytest.mark.parametrize("metric", ["log_loss", "rmse", "poisson", "quantile"])
def test_attributions_add_up_to_the_outputs(name: str, metric: str) -> None:
    frame = table()
    X = frame.drop(columns=["kind", "price"])
    if metric == "log_loss":
        model: Any = fastbp.TabularClassifier(name, **QUICK).fit(X, frame["kind"])
    else:
        model = fastbp.TabularRegressor(name, metric=metric, **QUICK).fit(X, frame["price"])
    if name == "realmlp":
        assert {type(s) for s in model.stages_} >= {Periodic, Lookup, Dense}
    found = model.attributions(X[:40], X, steps=300)
    assert sorted(found.names) == ["gap", "shop", "size"]
    assert found.values.shape == (40, len(found.start), 3)
    whole = found.start + found.values.sum(axis=-1)
    # Smooth but for kinks: of ReLU, and of SELU at 0, where the integral's error falls with 1/steps.
    spread = np.abs(found.outputs - found.start).max()
    assert np.abs(whole - found.outputs).max() < 0.02 * spread
    # A row that is the baseline is no way from it.
    one = model.attributions(X[:1], X[:1])
    assert np.abs(one.values).max() == 0
    if metric == "rmse":
        inside = (found.outputs[:, 0] > frame["price"].min()) & (
            found.outputs[:, 0] < frame["price"].max()
        )
        predicted = model.predict(X[:40])
        np.testing.assert_allclose(found.outputs[inside, 0], predicted[inside], rtol=1e-5)


def test_attributions_name_the_column_that_matters() -> None:
    rng = np.random.default_rng(0)
    X = {"a": rng.normal(size=400), "b": rng.normal(size=400), "c": rng.choice(["u", "v"], 400)}
    model = fastbp.TabularRegressor(random_state=0, epochs=32, n_members=2).fit(X, 5 * X["b"])
    found = model.attributions(X)
    sizes = dict(zip(found.names, np.abs(found.values[:, 0]).mean(axis=0), strict=True))
    assert sizes["b"] > 10 * max(sizes["a"], sizes["c"])
    with pytest.raises(ValueError, match="steps must be"):
        model.attributions(X, steps=0)
