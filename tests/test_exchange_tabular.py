"""Networks for tables leave as ONNX and Python files, and as C: columns in, answers out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("pyarrow", reason="texts are Arrow's")

from c_programs import TARGETS, Target, output  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import fastbp  # noqa: E402
from fastbp.cli import main  # noqa: E402
from fastbp.exchange import c_encoder, onnx_out  # noqa: E402
from fastbp.exchange.c_tabular import TabularSource  # noqa: E402
from fastbp.tabular.model import model_of  # noqa: E402

QUICK: dict[str, Any] = {"hidden_layer_sizes": (9, 7), "epochs": 4, "random_state": 0}
SHOPS = [f"shop {i}" for i in range(12)]


def columns(rows: int = 160) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    gap = np.where(rng.random(rows) < 0.1, np.nan, rng.standard_normal(rows))
    when = np.datetime64("2019-12-30T22:15:00") + rng.integers(0, 5e7, rows).astype("m8[s]")
    when[::13] = "NaT"
    return {
        "size": rng.standard_normal(rows),
        "gap": gap,
        "flag": np.array(["no", "yes"], object)[rng.integers(0, 2, rows)],
        "colour": np.array(["red", "blue", "grün", None], object)[rng.integers(0, 4, rows)],
        "shop": np.array([*SHOPS, None], object)[rng.integers(0, 13, rows)],
        "when": when,
        "c": rng.integers(0, 3, rows),  # a name that nodes have, too
    }


def feed_of(table: dict[str, Any]) -> dict[str, Any]:
    """The columns as an ONNX file takes them."""
    feed = {}
    for name, column in table.items():
        if column.dtype.kind == "M":
            column = np.where(np.isnat(column), np.nan, column.astype(np.int64))
        if column.dtype.kind == "O":
            column = np.array(["" if v is None else v for v in column], object)
        feed[name] = (column if column.dtype == object else column.astype(np.float64))[:, None]
    return feed


def run(path: Any, table: dict[str, Any], runtime: str) -> dict[str, Any]:
    feed = feed_of(table)
    if runtime == "reference":
        session = ReferenceEvaluator(str(path))
        names = session.output_names
        feed = {n: v.astype(np.str_) if v.dtype == object else v for n, v in feed.items()}
        feed = {n: feed[n] for n in session.input_names}
    else:
        session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
        names = [o.name for o in session.get_outputs()]
        feed = {i.name: feed[i.name] for i in session.get_inputs()}
    return dict(zip(names, session.run(None, feed), strict=True))


def scope_of(path: Any) -> dict[str, Any]:
    """What a Python file defines."""
    scope: dict[str, Any] = {}
    exec(path.read_text(), scope)
    return scope


# Sums of some 200 products of order 1 and their layers, in another order, in float32; inputs, waves of
# them (times frequencies below 1) and what follows may differ in the last bits.
NEAR = 2000 * float(np.finfo(np.float32).eps)
models = pytest.mark.parametrize("model", ["realmlp", "realmlp-s", "tabm", "tabm-mini", "mlp"])
runtimes = pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])


def of_c(fitted: Any, table: dict[str, Any], folder: Any, target: Target) -> list[list[str]]:
    """The words that a program prints for every row: the label's place or nothing, and numbers."""
    source = TabularSource(model_of(fitted), "net", "net")
    (folder / "net.c").write_text(source.c())
    (folder / "net.h").write_text(source.h())
    feed, rows = feed_of(table), []
    for r in range(len(table["size"])):
        values = [feed[column.name][r, 0] for column in source.columns.columns]
        texts = [
            (c_encoder.quoted(v) if v else "NULL") if isinstance(v, str)
            else "NAN" if v != v else float(v).hex()
            for v in values
        ]  # fmt: skip
        rows.append("{" + ", ".join(texts) + "}")
    label, kind = 'printf("%d ", net_predict(&rows[i], p));', "float"
    if not hasattr(fitted, "classes_"):
        label, kind = "net_predict(&rows[i], p);", "double"
    text = (
        '#include <stdio.h>\n#include <math.h>\n#include "net.h"\n'
        f"static const net_row rows[] = {{{', '.join(rows)}}};\n"
        f"int main(void) {{ int i, j; {kind} p[NET_OUTPUTS]; for (i = 0; i < {len(rows)}; i++) {{"
        f" {label} for (j = 0; j < NET_OUTPUTS; j++)"
        ' printf("%.17g ", (double)p[j]); printf("\\n"); } return 0; }\n'
    )
    return [line.split() for line in output(target, text, [str(folder / "net.c")], folder)]


@models
@pytest.mark.parametrize("target", ["gcc, sanitizers", "cc"])
def test_c(model: str, target: str, tmp_path: Any) -> None:
    check_c(model, target, tmp_path)


@pytest.mark.parametrize("target", [t for t in TARGETS if t not in ("gcc, sanitizers", "cc")])
def test_c_elsewhere(target: str, tmp_path: Any) -> None:
    for model in ("realmlp", "tabm"):
        check_c(model, target, tmp_path)


def check_c(model: str, name: str, tmp_path: Any) -> None:
    target = TARGETS[name]
    if target.missing:
        pytest.skip(f"{target.missing} is not installed")
    table = strange(columns())
    y = np.array(["a", "b", "c"])[(columns()["size"] > 0).astype(int) + (table["flag"] == "yes")]
    fitted = fastbp.TabularClassifier(model, n_members=2, calibrate=model == "realmlp", **QUICK)
    fitted.fit(columns(), y)
    words = of_c(fitted, table, tmp_path, target)
    p = fitted.predict_proba(table)
    np.testing.assert_allclose(np.array([w[1:] for w in words], float), p, atol=NEAR)
    best = np.sort(p, axis=1)
    sure = best[:, -1] - best[:, -2] > 2 * NEAR
    labels = fitted.classes_[[int(w[0]) for w in words]]
    np.testing.assert_array_equal(labels[sure], fitted.predict(table)[sure])
    metric = {"realmlp": "quantile", "tabm": "poisson"}.get(model, "rmse")
    number = np.exp(columns()["size"]) + 3.0 * (table["flag"] == "yes")
    fitted = fastbp.TabularRegressor(model, metric=metric, n_members=2, **QUICK)
    fitted.fit(columns(), number)
    words = of_c(fitted, table, tmp_path, target)
    near = {"atol": NEAR * float(number.std()), "rtol": NEAR}
    np.testing.assert_allclose(np.array(words, float)[:, 0], fitted.predict(table), **near)


def strange(table: dict[str, Any]) -> dict[str, Any]:
    """Rows with new categories, missing ones, and numbers far out."""
    table = {name: column.copy() for name, column in table.items()}
    table["shop"][:5], table["colour"][3:8], table["flag"][6:9] = "new", "pink", None
    table["size"][:4] = [1e300, -1e300, 0.0, np.nan]
    return table


@models
@runtimes
def test_classes(model: str, runtime: str, tmp_path: Any) -> None:
    table = columns()
    y = np.array(["a", "b", "c"])[(table["size"] > 0).astype(int) + (table["flag"] == "yes")]
    options = {**QUICK, "n_members": 2, "calibrate": model == "realmlp"}
    fitted = fastbp.TabularClassifier(model, **options).fit(table, y)
    fitted.to_onnx(tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    fitted.to_python(tmp_path / "m.py")
    scope = scope_of(tmp_path / "m.py")
    for rows in (table, strange(table)):
        p = fitted.predict_proba(rows)
        found = run(tmp_path / "m.onnx", rows, runtime)
        assert found["probabilities"].dtype == p.dtype
        np.testing.assert_allclose(found["probabilities"], p, atol=NEAR)
        best = np.sort(p, axis=1)
        sure = best[:, -1] - best[:, -2] > 2 * NEAR
        np.testing.assert_array_equal(found["label"][sure], fitted.predict(rows)[sure])
        np.testing.assert_allclose(scope["predict_proba"](rows), p, atol=NEAR)
        np.testing.assert_array_equal(scope["predict"](rows)[sure], fitted.predict(rows)[sure])


@models
@pytest.mark.parametrize("metric", ["rmse", "quantile", "poisson"])
def test_numbers(model: str, metric: str, tmp_path: Any) -> None:
    table = columns()
    y = np.exp(table["size"]) + 3.0 * (table["flag"] == "yes")
    fitted = fastbp.TabularRegressor(model, metric=metric, n_members=2, **QUICK).fit(table, y)
    fitted.to_onnx(tmp_path / "m.onnx")
    fitted.to_python(tmp_path / "m.py")
    scope = scope_of(tmp_path / "m.py")
    for rows in (table, strange(table)):
        said = fitted.predict(rows)
        found = run(tmp_path / "m.onnx", rows, "onnxruntime")["prediction"]
        assert (found.shape, found.dtype) == (said.shape, said.dtype)
        near = {"atol": NEAR * float(y.std()), "rtol": NEAR}
        np.testing.assert_allclose(found, said, **near)
        np.testing.assert_allclose(scope["predict"](rows), said, **near)


@pytest.mark.parametrize("kept", [["size"], ["shop"], ["flag", "colour"]])
def test_columns_of_one_kind(kept: list[str], tmp_path: Any) -> None:
    table = {name: column for name, column in columns().items() if name in kept}
    y = columns()["size"]
    fitted = fastbp.TabularRegressor(n_members=1, **QUICK).fit(table, y)
    fitted.to_onnx(tmp_path / "m.onnx")
    found = run(tmp_path / "m.onnx", table, "onnxruntime")["prediction"]
    np.testing.assert_allclose(found, fitted.predict(table), atol=NEAR)
    fitted.to_python(tmp_path / "m.py")
    found = scope_of(tmp_path / "m.py")["predict"](table)
    np.testing.assert_allclose(found, fitted.predict(table), atol=NEAR)


def test_a_model_of_the_command(tmp_path: Any, capsys: Any) -> None:
    """Classes that training rows had not are there, with probability 0."""
    table = columns()
    lines = ["size,flag,shop,y"]
    for i, (s, f, shop) in enumerate(zip(table["size"], table["flag"], table["shop"], strict=True)):
        lines.append(f"{float(s)!r},{f},{shop or ''},{'high' if s > 0 else 'low'}")
        lines[-1] = lines[-1].replace("low", "alone") if i == 7 and s <= 0 else lines[-1]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    path = str(tmp_path / "m.safetensors")
    options = ["--target", "y", "--epochs", "2", "--hidden", "8", "--quiet", "--save", path]
    assert main(["train", str(tmp_path / "t.csv"), *options]) == 0
    assert main(["export", path, "--to", "onnx"]) == 0
    model = fastbp.load(path)
    found = run(tmp_path / "m.onnx", table, "onnxruntime")
    p = model.predict_proba(str(tmp_path / "t.csv"))
    np.testing.assert_allclose(found["probabilities"], p, atol=NEAR)
    assert main(["export", path, "--to", "python"]) == 0
    np.testing.assert_allclose(scope_of(tmp_path / "m.py")["predict_proba"](table), p, atol=NEAR)
    capsys.readouterr()
    assert main(["export", path, "--to", "c"]) == 0
    assert "bytes of constants" in capsys.readouterr().out
    assert (tmp_path / "m.h").exists()
    assert main(["export", path, "--to", "c", "--weights", "int8"]) == 2
    assert "int8 is for --model plain" in capsys.readouterr().err


def test_mistakes(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"label": columns()["size"], "size": columns()["gap"]}
    fitted = fastbp.TabularRegressor("mlp", n_members=1, **QUICK).fit(table, table["label"])
    with pytest.raises(ValueError, match="column 'label' has the name of an output"):
        fitted.to_onnx(tmp_path / "m.onnx")
    same = {"same": np.ones(40)}
    fitted = fastbp.TabularRegressor("mlp", n_members=1, **QUICK).fit(same, np.arange(40.0))
    for leave in (fitted.to_onnx, fitted.to_python, fitted.to_c):
        with pytest.raises(ValueError, match="uses no column"):
            leave(tmp_path / "m")
    fitted = fastbp.TabularRegressor("mlp", n_members=1, **QUICK).fit(table, table["label"] / 2)
    with pytest.raises(ValueError, match="path"):
        fitted.to_onnx(tmp_path / "nowhere" / "m.onnx")
    monkeypatch.setattr(onnx_out, "_LARGEST", 100)
    with pytest.raises(ValueError, match="up to 2 GB"):
        fitted.to_onnx(tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
