"""What a stranger may pass to fastbp: arrays of every kind, parameters of every type, spoilt files.

`call_anything` makes one call of the public interface with drawn arguments, `read_spoilt` reads one
mutated file. `read_spoilt_onnx` reads a mutated ONNX
file. All fail on anything but a documented outcome: an exception of a documented type that
leaves the model as it was, or the very result that well-formed copies of the same arguments give. A
mutated file may be read if it says the same, bit for bit, in other words (JSON has several for it).
test_fuzz.py runs some of them, stress/fuzz.py as many as it is told.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import fastbp
from fastbp import activations, losses, model_file, optimizers, schedules

DOCUMENTED = (TypeError, ValueError, MemoryError, fastbp.DivergenceError)
INPUTS, CLASSES = 3, 3
HIDDEN = [4, 33]  # the wider one is wide enough for bf16
ESTIMATORS = ["MLPClassifier", "MLPRegressor"] if importlib.util.find_spec("sklearn") else []

DTYPES = [
    *("?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "g", ">f4", ">f8", ">i4", "<i8"),
    *("c8", "O", "U3", "S2", "M8[s]", "m8[s]", "V4"),
]
VALUES = [
    *(0.0, 1.0, 0.5, 2.0, 3.0, -0.0, -1.0, 1e-45, 1e-310, 1e30, 1e39, -1e300, 2.0**53),
    *(np.inf, -np.inf, np.nan),
]


def anything() -> st.SearchStrategy[Any]:
    """Objects that no argument, or only some, can take."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 5),
        st.sampled_from([-(2**63), 2**31, 2**63, 2**64, 10**30]),
        st.floats(),
        st.text(max_size=4),
        st.binary(max_size=4),
        st.lists(st.one_of(st.integers(-2, 4), st.floats(), st.text(max_size=2)), max_size=4),
        st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
        st.sampled_from(
            [
                *(object(), object, len, 1j, np.float32(0.5), np.int8(2), np.array(1.5), np.nan),
                *(np.array(["a"]), np.zeros((0, 3)), np.array([2, 3]), range(3), {1}, slice(2)),
            ]
        ),
    )


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], tame: bool, dtypes: Any = DTYPES[:13]) -> Any:
    """An array of about this shape, of any dtype and layout; tame ones hold numbers from 0 to 3."""
    if not tame and draw(st.integers(0, 3)) == 0:
        shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    dtype = np.dtype(draw(st.sampled_from(dtypes if tame else DTYPES)))
    values = VALUES[:5] if tame else VALUES
    size = int(np.prod(shape))
    drawn = draw(st.lists(st.sampled_from(values), min_size=min(size, 3), max_size=min(size, 3)))
    flat = np.resize(np.array(drawn or [0.0]), size)
    with np.errstate(all="ignore"):
        a = flat.astype("i8").astype(dtype) if dtype.kind in "iuMmV" else flat.astype(dtype)
    return lay_out(a.reshape(shape), draw(st.integers(0, 8)))


def lay_out(a: np.ndarray, how: int) -> Any:
    """The same values, otherwise in memory."""
    if how == 0:
        return np.asfortranarray(a)
    if how == 1 and a.ndim:
        return np.repeat(a, 2, axis=0)[::2]
    if how == 2 and a.ndim:
        return np.ascontiguousarray(a[::-1])[::-1]
    if how == 3 and a.dtype.kind != "O":
        raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        raw[...] = a
        return raw
    if how == 4:
        a = a.copy()
        a.flags.writeable = False
        return a
    if how == 5 and a.ndim == 2 and len(a):
        return np.broadcast_to(a[:1], a.shape)
    if how == 6 and a.ndim == 2:
        wide = np.zeros((a.shape[0], 2 * a.shape[1] + 1), a.dtype)
        wide[:, 1::2] = a
        return wide[:, 1::2]
    if how == 7:
        return a.tolist()
    return a.copy()


def plain(value: Any, dtype: Any) -> Any:
    """A well-formed copy of an argument that was accepted."""
    if value is None or isinstance(value, str | float):
        return value
    a = np.asarray(value)
    if a.dtype.kind in "biu" and a.ndim == 1 and a.max(initial=0) < CLASSES:  # they may be labels
        return np.ascontiguousarray(a).astype(np.int64)
    with np.errstate(over="ignore"):
        return np.array(a, dtype, order="C", copy=True)


def valid() -> dict[str, st.SearchStrategy[Any]]:
    """Arguments of fit that are taken, drawn when wanted."""
    rates = [0.01, np.float32(0.1), 1e9, 1e300, schedules.Step(0.1, every=3), lambda step: 0.1]
    return {
        "epochs": st.integers(1, 3),
        "batch_size": st.sampled_from([1, 2, 5, 64, 2**62, 10**30]),
        "optimizer": st.sampled_from(["sgd", "nesterov", "rmsprop", "adam", optimizers.AdamW()]),
        "learning_rate": st.sampled_from(rates),
        "shuffle": st.booleans(),
        "clip_norm": st.sampled_from([0.0, 0.5, 3]),
        "validation": st.sampled_from([None, 0.3, 0.999]),
        "early_stopping": st.sampled_from([None, 1, 10**30]),
        "every": st.integers(1, 3),
        "checkpoint": st.sampled_from([None, "run"]),
        "resume": st.sampled_from([None, None, None, "run", "missing"]),
    }


def not_many(value: Any) -> bool:
    return not isinstance(value, int | np.integer) or value <= 3


def wild(rows: int) -> st.SearchStrategy[Any]:
    return arrays((rows, INPUTS), tame=False)


@st.composite
def targets(draw: st.DrawFn, rows: int, loss: str) -> Any:
    """Targets that the loss takes, in any dtype that can hold them."""
    if loss == "softmax_cross_entropy":
        labels = np.resize(np.array(draw(st.permutations(range(CLASSES)))), rows)
        if draw(st.booleans()):
            dtype = draw(st.sampled_from([d for d in DTYPES[:13] if np.dtype(d).kind in "iu"]))
            return lay_out(labels.astype(dtype), draw(st.integers(0, 8)))
        return lay_out(np.eye(CLASSES)[labels], draw(st.integers(0, 8)))
    y = draw(arrays((rows, CLASSES), tame=True))
    if loss == "binary_cross_entropy":
        y = lay_out(np.asarray(y) > 0.5, draw(st.integers(0, 8)))
    return y


@st.composite
def models(draw: st.DrawFn) -> fastbp.MLP:
    loss = draw(st.sampled_from(list(losses.LOSSES)))
    dtype, precision = draw(
        st.sampled_from([("float32", None), ("float64", None), ("float32", "bf16")])
    )
    return fastbp.MLP(
        [INPUTS, draw(st.sampled_from(HIDDEN)), CLASSES],
        activation=draw(st.sampled_from(list(activations.ACTIVATIONS))),
        loss=loss,
        dtype=dtype,
        precision=precision,
        dropout=draw(st.sampled_from([0.0, 0.5])),
        engine=draw(st.sampled_from(["native", "reference"])),
        threads=draw(st.sampled_from([1, 2])),
        seed=draw(st.integers(0, 3)),
    )


@st.composite
def calls(draw: st.DrawFn) -> tuple[Any, str, tuple[Any, ...], dict[str, Any]]:
    """A model, a method, and its arguments, some of which may be anything."""
    method = draw(
        st.sampled_from(
            [
                *("fit", "fit", "fit", "partial_fit", "predict", "predict_proba", "forward"),
                *("jacobian", "loss", "gradient", "parameters", "weights", "biases", "save"),
                *("load", "make", "declare", *ESTIMATORS),
            ]
        )
    )
    if method in ESTIMATORS:
        return draw(estimates(method))
    if method == "make":
        names = ["activation", "loss", "dropout", "l1", "l2", "weight_init", "dtype", "seed"]
        names += ["precision", "engine", "threads"]
        hostile = draw(st.sets(st.sampled_from(names), max_size=1))
        sizes = draw(st.one_of(*[st.just([3, 4, 3])] * 5, anything()))
        return None, method, (sizes,), {n: draw(anything().filter(not_many)) for n in hostile}
    if method == "declare":
        names = ["SGD", "RMSprop", "Adam", "AdamW", "Constant", "Cosine", "InverseScaling"]
        names += ["OneCycle", "Step", "Activation", "Loss", "set_num_threads"]
        arguments = draw(st.lists(anything().filter(not_many), min_size=1, max_size=3))
        return None, draw(st.sampled_from(names)), tuple(arguments), {}
    model = draw(models())
    if method in ("save", "load"):
        return model, method, (draw(anything()),), {}
    if method in ("parameters", "weights", "biases"):
        hidden = model.plan.layer_sizes[1]
        shapes: list[tuple[int, ...]] = [(hidden, INPUTS), (CLASSES, hidden)]
        if method == "parameters":
            shapes = [(n, k + 1) for n, k in shapes]
        if method == "biases":
            shapes = [shape[:1] for shape in shapes]
        good = st.tuples(*(arrays(shape, tame=draw(st.booleans())) for shape in shapes)).map(list)
        return model, method, (draw(st.one_of(good, anything())),), {}
    tame = draw(st.integers(0, 3)) > 0
    rows = draw(st.sampled_from([0, 1, 2, 7, 33] if not tame else [1, 2, 7, 33]))
    X = draw(arrays((rows, INPUTS), tame=tame) if tame else st.one_of(anything(), wild(rows)))
    if method in ("predict", "predict_proba", "forward", "jacobian"):
        return model, method, (X,), {}
    if tame:
        y, weight = draw(targets(rows, model.plan.loss.name)), None
        if draw(st.booleans()):
            weight = draw(arrays((rows,), tame=True))
    else:
        y = draw(st.one_of(targets(rows, model.plan.loss.name), wild(rows), anything()))
        weight = draw(st.one_of(st.none(), arrays((rows,), tame=False), anything()))
    options = {"sample_weight": weight}
    if method == "gradient":
        options["split"] = draw(st.one_of(st.just(False), anything()))
    if method in ("fit", "partial_fit"):
        good_options = valid()
        if method == "partial_fit":
            for name in ("epochs", "validation", "early_stopping", "every", "checkpoint", "resume"):
                del good_options[name]
        hostile = set()
        if draw(st.integers(0, 2)) == 0:
            hostile = {draw(st.sampled_from([*good_options, "sample_weight"]))}
        for name in draw(st.sets(st.sampled_from(list(good_options)))):
            options[name] = draw(good_options[name])
        for name in hostile:
            options[name] = draw(anything().filter(not_many) if name == "epochs" else anything())
    return model, method, (X, y), options


@st.composite
def estimates(draw: st.DrawFn, name: str) -> tuple[Any, str, tuple[Any, ...], dict[str, Any]]:
    """An estimator's name, data to fit and predict, and parameters, one of which may be anything."""
    options = {
        "hidden_layer_sizes": draw(st.sampled_from(HIDDEN)),
        "precision": draw(st.sampled_from(["auto", "float32", "float64", "bf16"])),
        "solver": draw(st.sampled_from(["adam", "sgd", "lbfgs"])),
        "early_stopping": draw(st.booleans()),
        "engine": draw(st.sampled_from(["native", "reference"])),
        "n_jobs": draw(st.sampled_from([1, 2])),
    }
    if draw(st.booleans()):
        options[draw(st.sampled_from([*options, "alpha", "dropout", "batch_size"]))] = draw(
            anything().filter(not_many)
        )
    tame = draw(st.integers(0, 3)) > 0
    rows = draw(st.sampled_from([1, 7, 33]))
    X = draw(arrays((rows, INPUTS), tame=tame) if tame else st.one_of(anything(), wild(rows)))
    loss = "softmax_cross_entropy" if name == "MLPClassifier" else "squared_error"
    y = draw(targets(rows, loss) if tame else st.one_of(targets(rows, loss), anything()))
    return None, name, (X, y), options


def call_anything(call: tuple[Any, str, tuple[Any, ...], dict[str, Any]]) -> str:
    """Make the call; return how it ended. The working directory is one to write to."""
    model, method, arguments, options = call
    if method in ESTIMATORS:
        return estimate_anything(method, *arguments, options)
    if model is None:
        return make_anything(method, arguments, options)
    before = model.parameters
    twin = copy.deepcopy(model)
    paths = method in ("save", "load") or {"checkpoint", "resume"} & set(options)
    allowed = (*DOCUMENTED, OSError) if paths else DOCUMENTED
    try:
        result = run(model, method, arguments, options)
    except allowed as error:
        after = model.parameters
        require(all(np.isfinite(p).all() for p in after), "weights that are not finite", error)
        late = isinstance(error, fastbp.DivergenceError | OSError)  # after some epochs
        require(late or all(map(np.array_equal, before, after)), "the model has changed", error)
        require(bool(str(error)), "no message", error)
        return type(error).__name__
    assert all(np.isfinite(p).all() for p in model.parameters)
    if method in ("save", "load") or options.get("resume") is not None:
        return "done"
    dtype = twin.plan.dtype
    if method in ("parameters", "weights", "biases"):
        copies: tuple[Any, ...] = ([plain(a, dtype) for a in arguments[0]],)
    else:
        copies = tuple(plain(a, dtype) for a in arguments)
    if options.get("sample_weight") is not None:
        options = options | {"sample_weight": np.array(options["sample_weight"], dtype)}
    with np.errstate(all="ignore"):
        expected = run(twin, method, copies, options)
    for a, b in zip(flatten(result), flatten(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.parameters, twin.parameters, strict=True):
        np.testing.assert_array_equal(a, b)
    return "done"


def require(holds: bool, otherwise: str, error: Exception) -> None:
    if not holds:
        raise AssertionError(otherwise) from error


def run(model: fastbp.MLP, method: str, arguments: tuple[Any, ...], options: Any) -> Any:
    if method in ("parameters", "weights", "biases"):
        setattr(model, method, *arguments)
        return None
    result = getattr(model, method)(*arguments, **options)
    if isinstance(result, fastbp.History):
        return [result.loss, result.validation_loss, result.validation_score, result.epochs]
    return None if isinstance(result, fastbp.MLP) else result


def flatten(result: Any) -> list[Any]:
    if isinstance(result, list | tuple):
        return [b for a in result for b in flatten(a)]
    return [result]


def make_anything(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
    makers: Any = {"make": fastbp.MLP}
    for module in (fastbp, optimizers, schedules):
        if hasattr(module, name):
            makers[name] = getattr(module, name)
    try:
        made = makers[name](*arguments, **options)
        if isinstance(made, fastbp.MLP):
            made.predict(np.zeros((2, made.plan.layer_sizes[0])))
    except DOCUMENTED as error:
        require(bool(str(error)), "no message", error)
        return type(error).__name__
    finally:
        fastbp.set_num_threads(None)
    return "done"


def estimate_anything(name: str, X: Any, y: Any, options: dict[str, Any]) -> str:
    def predict(X: Any, y: Any) -> Any:
        return getattr(fastbp, name)(max_iter=2, random_state=0, **options).fit(X, y).predict(X)

    try:
        found = predict(X, y)
    except DOCUMENTED as error:
        require(bool(str(error)), "no message", error)
        return type(error).__name__
    single = getattr(X, "dtype", None) == np.float32  # what precision "auto" goes by
    targets = np.asarray(y)
    targets = targets.astype(float if targets.dtype.kind == "f" else targets.dtype, "C")
    np.testing.assert_array_equal(found, predict(np.array(X, "f4" if single else "f8"), targets))
    return "done"


# Files


def content(path: Path) -> Any:
    """Everything that a file says."""
    header, arrays = model_file.read(path)
    return header, {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}


def spoil(data: bytes, generator: random.Random) -> bytes:
    """The file with one mistake or a few: bytes changed, cut, put in, moved; numbers changed."""
    spoilt = bytearray(data)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(generator.choice((1, 1, 1, 2, 5))):
        # Half of the mistakes go where the file's structure is.
        end = header if generator.random() < 0.5 else len(spoilt)
        at = generator.randrange(max(1, min(end, len(spoilt))))
        kind = generator.randrange(7)
        if kind == 0:
            spoilt[at : at + 1] = bytes([generator.randrange(256)])
        elif kind == 1:
            spoilt[at : at + 1] = bytes(
                [spoilt[at] ^ 1 << generator.randrange(8)] if spoilt else []
            )
        elif kind == 2:
            del spoilt[at:]
        elif kind == 3:
            del spoilt[at : at + generator.randrange(1, 40)]
        elif kind == 4:
            spoilt[at:at] = generator.randbytes(generator.randrange(1, 40))
        elif kind == 5:
            other = generator.randrange(max(1, len(spoilt)))
            spoilt[at:at] = spoilt[other : other + generator.randrange(1, 40)]
        else:
            number = str(generator.choice([0, 1, -1, 2**31, 2**63, 2**64, 1e308, 10**30])).encode()
            spoilt[at : at + len(number)] = number
    return bytes(spoilt)


def read_spoilt(path: Path, spoilt: bytes, model: fastbp.MLP, data: Any, options: Any) -> str:
    """Load the file, and resume from it, instead of the whole one that is there now.

    Errors name it and leave the model as it was; it is read if it says the same as the whole one.
    """
    before, whole, said = model.parameters, path.read_bytes(), content(path)
    path.write_bytes(spoilt)
    outcomes = set()
    for use in (
        lambda: fastbp.MLP.load(path),
        lambda: model.fit(*data, resume=path, **options),
    ):
        try:
            use()
            outcomes.add("read")
        except ValueError as error:
            require(os.fspath(path) in str(error), "the file is not named", error)
            same = all(map(np.array_equal, before, model.parameters))
            require(same, "the model has changed", error)
            outcomes.add("refused")
    (outcome,) = outcomes
    assert outcome == "refused" or content(path) == said, "the file says something else"
    path.write_bytes(whole)
    return outcome


# ONNX


def onnx_files() -> list[bytes]:
    """Whole ones: of every activation and link."""
    from fastbp.exchange import onnx_out
    from fastbp.exchange.description import describe

    files = []
    for dtype in ("float32", "float64"):
        for i, loss in enumerate(losses.LOSSES):
            names = [*activations.ACTIVATIONS][3 * (i % 3) : 3 * (i % 3) + 3]
            model = fastbp.MLP(
                [INPUTS, 4, 3, 4, CLASSES], activation=names, loss=loss, dtype=dtype, seed=i
            )
            files.append(onnx_out.build(describe(model)).SerializeToString())
    return files


def spoil_graph(data: bytes, generator: random.Random) -> bytes:
    """The graph with a mistake or two that leave it a file of the format."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    names += [tensor.name for tensor in graph.initializer]
    ops = ["Add", "Relu", "Tanh", "Softmax", "MatMul", "Gemm", "Where", "Reshape", "Loop", "Concat"]
    for _ in range(generator.choice((1, 1, 2))):
        kind = generator.randrange(11)
        node = generator.choice(graph.node)
        tensor = generator.choice(graph.initializer)
        if kind == 0:
            node.op_type = generator.choice(ops)
        elif kind == 1 and node.input:
            node.input[generator.randrange(len(node.input))] = generator.choice(names)
        elif kind == 2:
            graph.node.remove(node)
        elif kind == 3 and tensor.dims:
            n = generator.choice([0, 1, -1, 2, 3, 4, 2**31, 2**62])
            tensor.dims[generator.randrange(len(tensor.dims))] = n
        elif kind == 4:
            tensor.data_type = generator.choice([0, 1, 2, 6, 7, 8, 10, 11, 16, 99])
        elif kind == 5:
            attributes = {
                "alpha": 0.5,
                "axis": 0,
                "transB": 0,
                "to": 7,
                "beta": [1.0],
                "value": "x",
            }
            name = generator.choice([*attributes])
            node.attribute.append(onnx.helper.make_attribute(name, attributes[name]))
        elif kind == 6:
            node.ClearField("attribute")
        elif kind == 7:
            graph.node.append(node)
        elif kind == 8:
            tensor.raw_data = tensor.raw_data[: generator.randrange(len(tensor.raw_data) + 1)]
        elif kind == 9:
            graph.output[0].name = generator.choice(names)
        else:
            node.input.append(generator.choice(names))
    return bytes(model.SerializeToString())


def read_spoilt_onnx(path: Path, spoilt: bytes) -> str:
    """Read the file: an error names it, and what is read predicts what the file computes."""
    path.write_bytes(spoilt)
    try:
        model = fastbp.MLP.from_onnx(path, engine="reference")
    except ValueError as error:
        require(os.fspath(path) in str(error), "the file is not named", error)
        return "refused"
    assert all(np.isfinite(p).all() for p in model.parameters)
    import onnx
    from onnx.reference import ReferenceEvaluator

    X = np.random.default_rng(0).standard_normal((6, model.plan.layer_sizes[0]))
    X = X.astype(model.plan.dtype)
    with np.errstate(all="ignore"):
        try:
            session = ReferenceEvaluator(onnx.ModelProto.FromString(spoilt))
            answers = session.run(None, dict.fromkeys(session.input_names, X))
        except Exception:  # onnx itself wants more of a file than this needs
            return "read, but not by onnx"
        f = model.forward(X)[0][-1]
        known = [f, model._output(X, link=True)]
    if f.shape[1] == 1:
        known.append(np.hstack([1 - known[1], known[1]]))
    size = 1 + max(float(np.abs(a).max()) for a in known)
    if not np.isfinite(size) or size > 1e6:
        return "read, of no sense"
    for answer in answers:
        if np.asarray(answer).dtype.kind == "f":
            # A wrong reading is off by the size of the values; rounding is 1e-4 of it at most.
            near = [np.abs(np.reshape(answer, k.shape) - k).max() for k in known
                    if np.size(answer) == k.size]  # fmt: skip
            assert min(near) <= 1e-3 * size, "the file says something else"
    return "read"
