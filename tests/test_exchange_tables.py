"""Models of tables leave with their encoder: rows of numbers and texts in, answers out."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from c_programs import STRICT
from engine_cases import DTYPES
from error_bounds import FUNCTION
from exchange_cases import assert_labels, assert_prediction, case_of, model_of, wanted

from fastbp.cli import main
from fastbp.exchange import c_source, onnx_out, python_source
from fastbp.exchange.description import Network, describe
from fastbp.exchange.encoder import Category, Date, Encoder, Number

dtypes = pytest.mark.parametrize("dtype", DTYPES)

COLUMNS = (
    Number("length (cm)", 1.5, 0.25, flag=True),
    Category("colour", ("red", "blue", "grün", 'a "q" \\ ??/'), new=True, missing=True,
             tokens=("n/a", "?")),
    Number("int", -3.0, 2.0),
    Category("colour ", ("yes", "no")),
    Number("Gemm_3", 1e6, 1e-3),
    Date("when, UTC", (18_000.0, 1e-3), (2010.0, 0.1), ("month", "weekday", "hour"), flag=True),
    Date("double", (0.0, 1e-4)),
)  # fmt: skip
ROWS: dict[str, list[Any]] = {
    "length (cm)": [1.5, 2.0, np.nan, -1e300, 100.0, 1e-5, 0.0, 3.25],
    "colour": ["red", "", "N/A", "grün", "pink", "?", 'a "q" \\ ??/', "Red"],
    "int": [-3.0, 7.0, 0.5, np.nan, 1e12, -1.0, 2.0, 4.0],
    "colour ": ["yes", "no", "", "maybe", "no", "yes", "YES", "no"],
    "Gemm_3": [1e6, 1e6 + 1, 999_000.0, np.nan, 0.0, 1.0, 2e6, 1e6],
    # Leap days, the ends of days and years, before 1970, half a second, and beyond any calendar.
    "when, UTC": [
        951_782_400.0,
        np.nan,
        -1.0,
        1_704_067_199.5,
        4_107_542_399.0,
        0.0,
        -2_208_988_800.0,
        1_078_099_199.0,
    ],
    "double": [0.0, 1e9, np.nan, -1e9, 1e300, -np.inf, 86_399.0, 86_400.0],
}


def encoded(encoder: Encoder) -> np.ndarray:
    """The inputs of `ROWS`, row by row and value by value, as the words of the table say."""
    rows = []
    for r in range(len(ROWS["int"])):
        x: list[float] = []
        for column in encoder.columns:
            value = ROWS[column.name][r]
            if isinstance(column, Number):
                missing = value != value
                t = 0.0 if missing else (value - column.center) * column.scale
                if encoder.clip:
                    t = np.sign(t) * 3.0 if abs(t) > 1e9 else t / (1 + (t / 3) ** 2) ** 0.5
                x += [min(max(t, -1e30), 1e30)] + [float(missing)] * column.flag
                continue
            if isinstance(column, Date):
                x += of_date(column, value, encoder.clip)
                continue
            missing = value == "" or value.lower() in column.tokens
            known = value in column.values
            x += [float(value == v) for v in column.values]
            x += [float(not known and not missing)] * column.new + [float(missing)] * column.missing
        rows.append(x)
    return np.array(rows)


def of_date(column: Date, seconds: float, clip: bool) -> list[float]:
    """The inputs of a moment, by Python's calendar."""
    missing = seconds != seconds
    days = min(max(seconds, -9e15), 9e15) // 1 / 86400
    parts, turns = {"elapsed": days}, {}
    if abs(days) < 7e5:
        when = datetime(1970, 1, 1) + timedelta(seconds=seconds // 1)
        parts["year"] = when.year
        turns = {"month": (when.month - 1) / 12, "weekday": when.weekday() / 7, "hour": days % 1}
    x = []
    for part, (center, scale) in column.scaled.items():
        t = 0.0 if missing else (parts[part] - center) * scale
        x.append(t / (1 + (t / 3) ** 2) ** 0.5 if clip else t)
    for circle in column.circles:
        angle = 2 * np.pi * (0.0 if missing else turns[circle])
        x += [0.0, 0.0] if missing else [np.sin(angle), np.cos(angle)]
    return x + [float(missing)] * column.flag


def case_and_network(name: str, dtype: str, clip: bool) -> tuple[Any, Network]:
    """A network of that many inputs, its case with the encoded rows for X, and with an encoder."""
    encoder = Encoder(COLUMNS, clip)
    X = encoded(encoder)
    case = case_of(name, dtype, inputs=X.shape[1])
    loss, outputs = case.plan.loss.name, case.plan.layer_sizes[-1]
    if not clip:  # some are huge, and would drown what the others do
        X = np.clip(X, -1e3, 1e3)
    case = replace(case, X=X.astype(dtype), y=np.zeros((len(X), outputs)), sample_weight=None)
    if loss == "softmax_cross_entropy":
        case = replace(case, y=np.zeros(len(X), int))
    network = replace(describe(model_of(case)), encoder=encoder)
    if loss == "softmax_cross_entropy":
        network = replace(network, classes=np.array(["a", "b", "ç", "d"]))
    else:
        network = replace(network, encoder=replace(encoder, center=10.0, scale=2.5))
    return case, network


def check(case: Any, network: Network, answers: dict[str, Any]) -> None:
    """The answers are those of the network for the encoded rows."""
    # Encoding rounds once or twice more, in float64, and to the dtype: 2 u of each input, within ±3.
    # A sine is off by up to 8π u of float64 more: of 40 inputs less than the bound leaves for the sum.
    want = wanted(case)
    if network.classifies:
        index = np.array([{"a": 0, "b": 1, "ç": 2, "d": 3}[c] for c in answers["label"]])
        assert_labels(index, want, "softmax")
        assert_prediction(answers["probabilities"], want, case.plan.dtype)
        return
    got = (np.asarray(answers["prediction"], np.float64).reshape(-1, 1) - 10.0) / 2.5
    u = np.finfo(np.float64).eps
    bound = want.bound + FUNCTION * u * (np.abs(want.prediction) + 4)
    assert (np.abs(got - want.prediction) <= bound).all()


kinds = pytest.mark.parametrize("name", ["tanh", "squared_error, one output"])


@kinds
@dtypes
@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_onnx(name, dtype, runtime, tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    case, network = case_and_network(name, dtype, clip=True)
    onnx_out.write(network, tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    feed = {
        n: np.array(v, np.float64 if isinstance(v[0], float) else object)[:, None]
        for n, v in ROWS.items()
    }
    if runtime == "onnxruntime":
        session = pytest.importorskip("onnxruntime").InferenceSession(str(tmp_path / "m.onnx"))
        names = [o.name for o in session.get_outputs()]
    else:
        session = pytest.importorskip("onnx.reference").ReferenceEvaluator(str(tmp_path / "m.onnx"))
        names = session.output_names
        feed = {n: v if v.dtype == float else v.astype(np.str_) for n, v in feed.items()}
    check(case, network, dict(zip(names, session.run(None, feed), strict=True)))


@kinds
@dtypes
@pytest.mark.parametrize("clip", [True, False])
def test_python(name, dtype, clip, tmp_path) -> None:
    case, network = case_and_network(name, dtype, clip)
    python_source.write(network, tmp_path / "net.py")
    scope: dict[str, Any] = {}
    exec((tmp_path / "net.py").read_text(), scope)
    X = scope["encode"](ROWS)
    want = encoded(network.encoder)  # type: ignore[arg-type]
    assert X.dtype == dtype
    u = float(np.finfo(dtype).eps)
    # A sine is off by its own rounding, and by that of its angle, up to 2π.
    of_angle = 8 * np.pi * float(np.finfo(np.float64).eps)
    assert (np.abs(X - want) <= 2 * u * np.abs(want) + of_angle).all()
    if clip:
        if network.classifies:
            answers = {
                "label": scope["predict"](ROWS),
                "probabilities": scope["predict_proba"](ROWS),
            }
        else:
            answers = {"prediction": scope["predict"](ROWS)}
        check(case, network, answers)


@kinds
@dtypes
@pytest.mark.parametrize("options", [["-O2"], ["-g", "-fsanitize=address,undefined"]])
def test_c(name, dtype, options, tmp_path) -> None:
    case, network = case_and_network(name, dtype, clip=True)
    c_source.write(network, tmp_path / "net", "float", None)
    fields = ["length__cm_", "colour", "int_", "colour_", "Gemm_3", "when__UTC", "double_"]
    header = (tmp_path / "net.h").read_text()
    assert [line.split(";")[0].split()[-1].lstrip("*") for line in header.splitlines()
            if "/* column" in line] == fields  # fmt: skip
    rows = []
    for r in range(len(ROWS["int"])):
        values = [ROWS[column.name][r] for column in COLUMNS]
        texts = [
            ("NAN" if v != v else "-INFINITY" if v == -np.inf else float(v).hex())
            if isinstance(v, float)
            else "NULL" if v == "" else c_source.quoted(v)
            for v in values
        ]  # fmt: skip
        rows.append("{" + ", ".join(texts) + "}")
    kind = "double" if not network.classifies else "float" if dtype == "float32" else "double"
    call = "net_predict(&rows[i], p)"
    call = f'printf("%s ", net_classes[{call}])' if network.classifies else call
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include <math.h>\n#include "net.h"\n'
        f"static const net_row rows[] = {{{', '.join(rows)}}};\n"
        f"int main(void) {{ int i, j; {kind} p[NET_OUTPUTS]; for (i = 0; i < {len(rows)}; i++) {{"
        f" {call}; for (j = 0; j < NET_OUTPUTS; j++)"
        ' printf("%.17g ", (double)p[j]); printf("\\n"); } return 0; }\n'
    )
    build = ["cc", *STRICT, *options, "main.c", "net.c", "-lm", "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True, timeout=120)
    ran = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    lines = [line.split() for line in ran.stdout.decode().splitlines()]
    if network.classifies:
        values = np.array([line[1:] for line in lines], float).astype(dtype)
        check(case, network, {"label": [line[0] for line in lines], "probabilities": values})
    else:
        check(case, network, {"prediction": np.array(lines, float)})


def test_a_column_with_the_name_of_an_output(tmp_path) -> None:
    pytest.importorskip("onnx")
    _, network = case_and_network("tanh", "float32", clip=True)
    columns = (Number("label", 0.0, 1.0, flag=True), *COLUMNS[1:])
    network = replace(network, encoder=Encoder(columns))
    with pytest.raises(ValueError, match="column 'label' has the name of an output"):
        onnx_out.write(network, tmp_path / "m.onnx")


@pytest.mark.parametrize("target", ["kind", "length"])
def test_a_model_of_the_command(target, tmp_path, capsys) -> None:
    load = pytest.importorskip("fastbp.tables", reason="there is no fastbp.tables yet").load
    runtime = pytest.importorskip("onnxruntime")
    generator = np.random.default_rng(0)
    length, width = generator.normal(100, 20, 200), generator.normal(size=200)
    texts = [f"{w:.6g}" if generator.random() > 0.1 else "" for w in width]
    colour = np.array(["red", "blue", "green", ""])[generator.integers(0, 4, 200)]
    kind = np.array(["x", "y", "z"])[(length > 100).astype(int) + (colour == "red")]
    when = np.datetime64("2019-12-30T22:15") + generator.integers(0, 5e7, 200).astype("m8[s]")
    days = [str(w).replace("T", " ") if w.astype(int) % 11 else "" for w in when]
    when[[not d for d in days]] = "NaT"
    seconds = np.where(np.isnat(when), np.nan, when.astype(np.int64))
    columns = map(repr, length.tolist()), texts, colour, days, kind
    lines = ["length,width,colour,when,kind", *map(",".join, zip(*columns, strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    options = ["--target", target, "--epochs", "3", "--quiet", "--engine", "reference"]
    options += ["--model", "plain"]
    path = str(tmp_path / "m.safetensors")
    assert main(["train", str(tmp_path / "t.csv"), *options, "--save", path]) == 0
    for to in ("onnx", "c", "python"):
        assert main(["export", path, "--to", to]) == 0, capsys.readouterr()
    model = load(path, engine="reference")
    table = {
        "length": length,
        "width": np.array([float(t) if t else np.nan for t in texts]),
        "colour": colour.astype(object),
        "when": seconds,
        "kind": kind.astype(object),
    }
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"))
    feed = {i.name: table[i.name][:, None] for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    answers = dict(zip(names, session.run(None, feed), strict=True))
    scope: dict[str, Any] = {}
    exec((tmp_path / "m.py").read_text(), scope)
    said = model.predict(str(tmp_path / "t.csv"))
    # float32 sums of some 100 terms of order 1, by inputs that may differ in the last bit
    near = {"atol": 1000 * np.finfo("f4").eps, "rtol": 1000 * np.finfo("f4").eps}
    if target == "length":
        np.testing.assert_allclose(answers["prediction"], said, **near)
        for moments in (seconds, when):
            table["when"] = moments
            np.testing.assert_allclose(scope["predict"](table), said, **near)
        return
    p = model.predict_proba(str(tmp_path / "t.csv"))
    np.testing.assert_allclose(answers["probabilities"], p, **near)
    np.testing.assert_allclose(scope["predict_proba"](table), p, **near)
    best = np.sort(p, axis=1)
    sure = best[:, -1] - best[:, -2] > 0.001
    np.testing.assert_array_equal(answers["label"][sure], said[sure])
