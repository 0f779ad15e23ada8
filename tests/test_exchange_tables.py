"""Models of tables leave with their encoder: rows of numbers and texts in, answers out."""

from __future__ import annotations

import subprocess
from dataclasses import replace
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
from fastbp.exchange.encoder import Category, Encoder, Number, encoder_of

dtypes = pytest.mark.parametrize("dtype", DTYPES)

COLUMNS = (
    Number("length (cm)", 1.5, 0.25, flag=True),
    Category("colour", ("red", "blue", "grün", 'a "q" \\ ??/'), new=True, missing=True,
             tokens=("n/a", "?")),
    Number("int", -3.0, 2.0),
    Category("colour ", ("yes", "no")),
    Number("Gemm_3", 1e6, 1e-3),
)  # fmt: skip
ROWS: dict[str, list[Any]] = {
    "length (cm)": [1.5, 2.0, np.nan, -1e300, 100.0, 1e-5, 0.0, 3.25],
    "colour": ["red", "", "N/A", "grün", "pink", "?", 'a "q" \\ ??/', "Red"],
    "int": [-3.0, 7.0, 0.5, np.nan, 1e12, -1.0, 2.0, 4.0],
    "colour ": ["yes", "no", "", "maybe", "no", "yes", "YES", "no"],
    "Gemm_3": [1e6, 1e6 + 1, 999_000.0, np.nan, 0.0, 1.0, 2e6, 1e6],
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
            missing = value == "" or value.lower() in column.tokens
            known = value in column.values
            x += [float(value == v) for v in column.values]
            x += [float(not known and not missing)] * column.new + [float(missing)] * column.missing
        rows.append(x)
    return np.array(rows)


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
    assert (np.abs(X - want) <= 2 * u * np.abs(want)).all()
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
    fields = ["length__cm_", "colour", "int_", "colour_", "Gemm_3"]
    header = (tmp_path / "net.h").read_text()
    assert [line.split(";")[0].split()[-1].lstrip("*") for line in header.splitlines()
            if "/* column" in line] == fields  # fmt: skip
    rows = []
    for r in range(len(ROWS["int"])):
        values = [ROWS[column.name][r] for column in COLUMNS]
        texts = [
            ("NAN" if v != v else float(v).hex()) if isinstance(v, float)
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


def test_columns_that_cannot_leave() -> None:
    class Date:
        name = "when"

    class Encoding:
        columns = (Date(),)
        clip, tokens = True, ()

    with pytest.raises(ValueError, match="column 'when' is of kind date, but an exported model"):
        encoder_of(Encoding(), 0.0, 1.0)


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
    lines = ["length,width,colour,kind", *map(",".join, zip(map(repr, length.tolist()), texts, colour,
                                                          kind, strict=True))]  # fmt: skip
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
        np.testing.assert_allclose(scope["predict"](table), said, **near)
        return
    p = model.predict_proba(str(tmp_path / "t.csv"))
    np.testing.assert_allclose(answers["probabilities"], p, **near)
    np.testing.assert_allclose(scope["predict_proba"](table), p, **near)
    best = np.sort(p, axis=1)
    sure = best[:, -1] - best[:, -2] > 0.001
    np.testing.assert_array_equal(answers["label"][sure], said[sure])
