"""Checkpoints: a resumed training ends with the bits of one that never stopped."""

import json
import math
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastbp
from fastbp import _safetensors, checkpoint, model_file, schedules

GENERATOR = np.random.default_rng(3)
X = GENERATOR.standard_normal((70, 5)).astype(np.float32)
LABELS = GENERATOR.integers(0, 3, 70)
OPTIONS = {"batch_size": 8, "optimizer": "adam", "learning_rate": schedules.Cosine(0.01, steps=60)}


def make(**options):
    return fastbp.MLP([5, 9, 7, 3], **({"seed": 1, "activation": "tanh"} | options))


def assert_same(model, other):
    for p, q in zip(model.parameters, other.parameters, strict=True):
        np.testing.assert_array_equal(p, q)


def assert_same_history(a, b):
    for name in ("loss", "validation_loss", "validation_score", "learning_rate"):
        assert getattr(a, name) == getattr(b, name)
    assert (a.score_name, a.best_epoch, a.stopped) == (b.score_name, b.best_epoch, b.stopped)


def stop_after(epochs):
    return lambda model, history: history.epochs == epochs


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize(
    ("model_options", "fit_options"),
    [
        ({}, {}),
        ({"dropout": 0.3, "l2": 0.01, "dtype": "float64"}, {"shuffle": False, "clip_norm": 0.5}),
        ({"dropout": [0.0, 0.2]}, {"validation": 0.2, "sample_weight": np.linspace(0, 2, 70)}),
        ({}, {"validation": (X[:9], LABELS[:9]), "early_stopping": 3}),
    ],
)
def test_resumed_is_never_stopped(path, engine, optimizer, model_options, fit_options):
    options = OPTIONS | fit_options | {"optimizer": optimizer}
    whole = make(engine=engine, threads=1, **model_options)
    expected = whole.fit(X, LABELS, epochs=9, **options)
    first = make(engine=engine, threads=2, **model_options)
    first.fit(X, LABELS, epochs=9, checkpoint=path, callbacks=[stop_after(4)], **options)
    for _ in range(2):  # the file serves again and again
        second = make(engine=engine, threads=3, **(model_options | {"seed": 99}))
        history = second.fit(X, LABELS, epochs=9, resume=path, **options)
        assert_same(whole, second)
        assert_same_history(expected, history)
        assert second.history is history
    # What comes after goes on alike as well: optimizer, steps, order and masks.
    assert whole.partial_fit(X, LABELS, **(OPTIONS | {"optimizer": optimizer})) == (
        second.partial_fit(X, LABELS, **(OPTIONS | {"optimizer": optimizer}))
    )
    assert_same(whole, second)


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_every_bit_generator(path, kind):
    whole, part = (make(seed=np.random.Generator(getattr(np.random, kind)(5))) for _ in range(2))
    whole.fit(X, LABELS, epochs=4, validation=0.3, **OPTIONS)
    part.fit(X, LABELS, epochs=2, validation=0.3, checkpoint=path, **OPTIONS)
    again = make()
    again.fit(X, LABELS, epochs=4, validation=0.3, resume=path, **OPTIONS)
    assert_same(whole, again)


def test_early_stopping_restores_the_best_epoch_of_before_the_checkpoint(path):
    options = OPTIONS | {"learning_rate": 0.2, "validation": (X, -LABELS % 3), "early_stopping": 4}
    whole = make()
    expected = whole.fit(X, LABELS, epochs=30, **options)
    assert expected.stopped == "early_stopping"
    assert expected.best_epoch < expected.epochs - 4
    make().fit(
        X,
        LABELS,
        epochs=30,
        checkpoint=path,
        callbacks=[stop_after(expected.best_epoch + 3)],
        **options,
    )
    for epochs_done in (expected.best_epoch + 3, expected.epochs):
        second = make()
        history = second.fit(X, LABELS, epochs=30, resume=path, checkpoint=path, **options)
        assert history.epochs == expected.epochs, epochs_done
        assert_same(whole, second)
        assert_same_history(expected, history)


def test_every_and_the_end(path):
    seen = []

    def look(model, history):
        found = checkpoint_epochs(path) if path.exists() else 0
        seen.append(found)

    make().fit(
        X, LABELS, epochs=7, checkpoint=path, checkpoint_every=3, callbacks=[look], **OPTIONS
    )
    assert seen == [0, 0, 0, 3, 3, 3, 6]
    assert checkpoint_epochs(path) == 7
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def checkpoint_epochs(path):
    with open(path, "rb") as file:
        return len(_safetensors.read(file)[0]["history_loss"])


def test_a_finished_training_can_go_on_to_more_epochs(path):
    make().fit(X, LABELS, epochs=3, checkpoint=path, **OPTIONS)
    done = make()
    history = done.fit(X, LABELS, epochs=3, resume=path, **OPTIONS)
    assert (history.epochs, history.stopped) == (3, "epochs")
    whole, more = make(), make()
    whole.fit(X, LABELS, epochs=5, **OPTIONS)
    more.fit(X, LABELS, epochs=5, resume=os.fspath(path), checkpoint=path, **OPTIONS)
    assert_same(whole, more)
    with pytest.raises(ValueError, match="epochs must be ≥ the 5"):
        make().fit(X, LABELS, epochs=4, resume=path, **OPTIONS)


def test_parameters_set_by_a_callback_are_in_the_checkpoint(path):
    def halve(model, history):
        model.parameters = [p / 2 for p in model.parameters]

    whole, more = make(), make()
    whole.fit(X, LABELS, epochs=4, callbacks=[halve], **OPTIONS)
    make().fit(X, LABELS, epochs=2, callbacks=[halve], checkpoint=path, **OPTIONS)
    more.fit(X, LABELS, epochs=4, callbacks=[halve], resume=path, **OPTIONS)
    assert_same(whole, more)


def test_undefined_scores_survive(path):
    def fit(**options):
        model = fastbp.MLP([5, 1], loss="squared_error", seed=0)
        return model.fit(X, X[:, 0], validation=(X, np.zeros(70)), **options)

    fit(epochs=2, checkpoint=path)
    history = fit(epochs=3, resume=path)
    assert np.isnan(history.validation_score).all()
    assert history.epochs == 3


def test_a_checkpoint_is_a_model_too(path):
    model = make()
    model.fit(X, LABELS, epochs=2, checkpoint=path, **OPTIONS)
    assert_same(fastbp.MLP.load(path), model)
    model.save(path)
    with pytest.raises(ValueError, match=f"^{re.escape(repr(os.fspath(path)))} is a saved"):
        make().fit(X, LABELS, epochs=2, resume=path, **OPTIONS)


def test_functions_written_in_python_are_not_in_a_file_but_may_be_resumed(path):
    bent = fastbp.activation(
        lambda z: 2 / (1 + math.exp(-2 * z)) - 1, lambda z: 1 - math.tanh(z) ** 2, name="bent"
    )

    def run(**options):
        model = make(activation=bent, engine="reference")
        return model, model.fit(X, LABELS, **options, **OPTIONS)

    whole, _ = run(epochs=4)
    part, _ = run(epochs=2, checkpoint=path)
    resumed, _ = run(epochs=4, resume=path)
    assert_same(whole, resumed)
    with pytest.raises(ValueError, match="a file cannot hold bent"):
        part.save(path)
    with pytest.raises(ValueError, match="network with bent, written in Python"):
        fastbp.MLP.load(path)
    assert_refused(path, "its activation is", make(activation="tanh"))
    other = fastbp.activation(lambda z: 0.5 * z, lambda z: 0.5, name="bent")
    assert_refused(path, "its activation is", make(activation=other))


def test_a_function_that_cannot_be_told_is_known_by_name(path):
    factors = np.array([0.5])
    halved = [
        fastbp.activation(lambda z: factors[0] * z, lambda z: factors[0], name="halved")
        for _ in range(2)
    ]
    assert halved[0].fingerprint != halved[1].fingerprint
    first, second = (make(activation=f, engine="reference") for f in halved)
    first.fit(X, LABELS, epochs=2, checkpoint=path, **OPTIONS)
    second.fit(X, LABELS, epochs=2, resume=path, **OPTIONS)
    assert_same(first, second)


# What does not fit, or is not whole: an error, and nothing changed


def assert_refused(path, match, model=None, data=(X, LABELS), error=ValueError, **options):
    model = model or make()
    before = model.parameters, model._generator.bit_generator.state, model.plan, path.read_bytes()
    with pytest.raises(error, match=match):
        model.fit(*data, **({"epochs": 9, "resume": path} | OPTIONS | options))
    for p, q in zip(model.parameters, before[0], strict=True):
        np.testing.assert_array_equal(p, q)
    now = model._generator.bit_generator.state, model.plan, path.read_bytes()
    assert now == before[1:]


@pytest.mark.parametrize(
    ("name", "model", "options"),
    [
        ("layer_sizes", fastbp.MLP([5, 9, 3], activation="tanh"), {}),
        ("activation", fastbp.MLP([5, 9, 7, 3]), {}),
        ("dtype", make(dtype="float64"), {}),
        ("dropout", make(dropout=0.1), {}),
        ("l1", make(l1=0.1), {}),
        ("l2", make(l2=0.1), {}),
        ("loss", make(loss="squared_error"), {"data": (X, X[:, :3])}),
        ("optimizer", None, {"optimizer": "sgd"}),
        ("batch_size", None, {"batch_size": 9}),
        ("clip_norm", None, {"clip_norm": 1.0}),
        ("shuffle", None, {"shuffle": False}),
        ("rows", None, {"data": (X[:-1], LABELS[:-1])}),
        ("validation_rows", None, {"validation": (X[:9], LABELS[:9])}),
    ],
)
def test_another_network_or_training(path, name, model, options):
    make().fit(X, LABELS, epochs=2, checkpoint=path, **OPTIONS)
    start = f"cannot resume from {os.fspath(path)!r}: its {name} is "
    assert_refused(path, f"^{re.escape(start)}.*, here it is ", model, **options)


WEIGHT = np.linspace(0.5, 2, 70)
HELD_OUT = (X[:9], LABELS[:9], WEIGHT[:9])


@pytest.mark.parametrize("at", [0, 33, 69])
@pytest.mark.parametrize("what", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("where", ["", "validation "])
def test_other_data_of_as_many_rows(path, where, what, at):
    """In one entry."""

    def changed(arrays):
        arrays = [a.copy() for a in arrays]
        a = arrays[["X", "y", "sample_weight"].index(what)]
        a[at % len(a)] = (a[at % len(a)] + 1) % 3
        return tuple(arrays)

    options = OPTIONS | {"sample_weight": WEIGHT, "validation": HELD_OUT}
    make().fit(X, LABELS, epochs=2, checkpoint=path, **options)
    data = X, LABELS, WEIGHT
    if where:
        options["validation"] = changed(HELD_OUT)
    else:
        data = changed(data)
    model = make()
    with pytest.raises(ValueError, match=rf"was trained on another {where}{what}; a training goes"):
        model.fit(*data[:2], epochs=4, resume=path, **(options | {"sample_weight": data[2]}))
    assert_same(model, make())
    assert make().fit(
        X,
        LABELS,
        epochs=3,
        resume=path,
        **(OPTIONS | {"sample_weight": WEIGHT}),
        validation=HELD_OUT,
    )


def test_other_data_of_another_kind(path):
    one_hot = np.eye(3)[LABELS]
    make().fit(X, LABELS, epochs=2, checkpoint=path, **OPTIONS)
    assert_refused(path, "trained on another y", data=(X, one_hot))
    assert_refused(path, "trained on another X", data=(X[::-1], LABELS))
    assert_refused(path, "trained without sample_weight, here", sample_weight=WEIGHT)
    make().fit(X, LABELS, epochs=2, checkpoint=path, validation=0.1, **OPTIONS)
    aside = {"validation": (X[:7], LABELS[:7])}  # as many as were set aside
    assert_refused(path, "trained without validation X, here there is one", **aside)
    make().fit(X, LABELS, epochs=2, checkpoint=path, sample_weight=WEIGHT, **OPTIONS)
    assert_refused(path, "trained with sample_weight, here there is none")


def test_the_same_data_in_another_holder(path, tmp_path):
    """What counts is what is trained on: float32 of the model, wherever it lies."""
    make().fit(X, LABELS, epochs=2, checkpoint=path, **OPTIONS)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for held in (X.astype(float), np.asfortranarray(X), X.tolist(), mapped):
        labels = LABELS.astype(np.int8)
        assert make().fit(held, labels, epochs=3, resume=path, **OPTIONS).epochs == 3


def test_a_checkpoint_of_before_there_were_fingerprints(path):
    whole = make()
    whole.fit(X, LABELS, epochs=3, **OPTIONS)
    make().fit(X, LABELS, epochs=2, checkpoint=path, **OPTIONS)
    header, arrays = model_file.read(path)
    del header["training"]["data"]
    model_file.write(path, header, arrays)
    model = make()
    model.fit(X, LABELS, epochs=3, resume=path, **OPTIONS)
    assert_same(model, whole)
    header["training"]["data"] = 3
    model_file.write(path, header, arrays)
    assert_refused(path, "is damaged: its data are 3")


@pytest.mark.parametrize("shape", [(10**6, 1), (10**6,), (10**5, 40), (40, 10**5), (1, 10**6)])
def test_of_large_data_a_sample_is_read(shape):
    """From the first row to the last, at most 2¹⁶ values, whatever there is."""
    reads = []

    class Watched(np.ndarray):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            reads.append(found.size)
            return found

    a = np.zeros(shape, np.float32)
    first = checkpoint.fingerprints((a.view(Watched), a, None), None)
    assert first["X"] == first["y"]
    assert first["sample_weight"] is None
    assert reads
    assert min(reads) <= 2**16
    for row in (0, -1):
        a[row] = 1
        assert checkpoint.fingerprints((a, a, None), None)["X"] != first["X"]
        a[row] = 0
    assert checkpoint.fingerprints((a.reshape(-1, 2), a, None), None)["X"] != first["X"]
    assert checkpoint.fingerprints((a.astype(int), a, None), None)["X"] != first["X"]


def test_early_stopping_cannot_begin_in_the_middle(path):
    validation = {"validation": (X[:9], LABELS[:9])}
    make().fit(X, LABELS, epochs=2, checkpoint=path, **validation, **OPTIONS)
    assert_refused(path, "its early_stopping is False", early_stopping=2, **validation)


@pytest.mark.parametrize("argument", ["checkpoint", "resume"])
@pytest.mark.parametrize("value", [0, True, b"bytes", ["list"]])
def test_wrong_paths(argument, value):
    with pytest.raises(TypeError, match=f"{argument} must be a path"):
        make().fit(X, LABELS, **{argument: value})


def test_places_that_are_not_there(tmp_path):
    for error, argument in ((ValueError, "checkpoint"), (FileNotFoundError, "resume")):
        model = make()
        with pytest.raises(error, match="none"):
            model.fit(X, LABELS, **{argument: tmp_path / "none" / "run"})
        assert_same(model, make())
    for no_file in ("", ".", tmp_path):
        with pytest.raises(ValueError, match="checkpoint must be a file"):
            make().fit(X, LABELS, checkpoint=no_file)
    with pytest.raises(TypeError, match="every"):
        make().fit(X, LABELS, checkpoint=tmp_path / "run", checkpoint_every=1.5)


def test_a_generator_that_a_file_cannot_hold(path):
    class Own(np.random.PCG64):
        @property
        def state(self):
            return super().state | {"bit_generator": "Own"}

    model = make(seed=np.random.Generator(Own(1)))
    with pytest.raises(ValueError, match="bit generator 'Own'"):
        model.fit(X, LABELS, checkpoint=path)
    assert not path.exists()


def rewrite(path, change):
    """Change arrays and training of a file, as one who can also make the checksum right."""
    with open(path, "rb") as file:
        arrays, metadata = _safetensors.read(file)
    header = json.loads(metadata["header"])
    change(arrays, header["training"])
    model_file.write(path, header, arrays)


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(arrays, training):
        for key in keys:
            training = training[key]
        training[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("step", -1), "step must be an integer ≥ 1"),
        (put("step", 19), "19 steps in 2 epochs of 9"),
        (put("step", "18"), "step must be an integer"),
        (put("seed", 2**64), "seed must be an integer ≥ 0"),
        (put("seed", -1), "seed must be an integer ≥ 0"),
        (put("seed", None), "seed must be an integer ≥ 0"),
        (put("best_epoch", 1), "it has a best epoch without early stopping"),
        (put("generator", None), "bit generator None is not one of PCG64, PCG64DXSM, MT19937"),
        (put("generator", "bit_generator", "RandomState"), "bit generator 'RandomState' is not"),
        (put("generator", "bit_generator", ["PCG64"]), "bit generator ['PCG64'] is not"),
        (put("generator", "state", {}), "generator state state must have state, inc"),
        (put("generator", "state", [1, 2]), "generator state state must have state, inc"),
        (put("generator", "state", "state", -1), "generator state state must be an integer"),
        (put("generator", "state", "inc", 2**128), "generator state inc must be an integer"),
        (put("generator", "has_uint32", 2), "generator state has_uint32 must be an integer"),
        (put("generator_at_start", "uinteger", 2**32), "generator state uinteger must be"),
        (lambda arrays, training: training.pop("generator"), "'generator'"),
        (lambda arrays, training: arrays.pop("slot_1_layer_2"), "no array 'slot_1_layer_2'"),
        (lambda arrays, training: arrays.pop("history_seconds"), "'history_seconds'"),
        (lambda arrays, training: arrays.update(extra=np.zeros(1)), "an array 'extra' too many"),
        (
            lambda arrays, training: arrays.update(history_seconds=np.zeros(3)),
            "history seconds has shape (3,), not (2,)",
        ),
        (lambda arrays, training: arrays.update(history_loss=np.zeros(())), "len() of unsized"),
        (
            lambda arrays, training: arrays.update(history_validation_loss=np.zeros(2)),
            "history validation_loss has shape (2,), not (0,)",
        ),
        (
            lambda arrays, training: arrays.update(slot_0_layer_1=np.zeros((9, 5), "f4")),
            "the optimizer's state is not shaped as the parameters",
        ),
        (
            lambda arrays, training: arrays.update(slot_0_layer_1=np.zeros((9, 6), "f8")),
            "the optimizer's state is not shaped as the parameters",
        ),
        (
            lambda arrays, training: arrays.update(layer_1=np.full((9, 6), np.inf, "f4")),
            "parameters of layer 1 must be finite",
        ),
    ],
)
def test_contents_that_contradict_themselves(path, change, message):
    make().fit(X, LABELS, epochs=2, checkpoint=path, **OPTIONS)
    rewrite(path, change)
    start = f"{os.fspath(path)!r} is damaged: "
    assert_refused(path, f"^{re.escape(start)}.*{re.escape(message)}")


@pytest.mark.parametrize("best_epoch", [-1, 2, None, 0.5])
def test_a_best_epoch_that_has_not_been(path, best_epoch):
    options = OPTIONS | {"validation": (X[:9], LABELS[:9]), "early_stopping": 5}
    make().fit(X, LABELS, epochs=2, checkpoint=path, **options)
    rewrite(path, put("best_epoch", best_epoch))
    assert_refused(path, "is damaged: best_epoch must be an integer", **options)
    rewrite(path, put("best_epoch", 0))
    assert make().fit(X, LABELS, epochs=2, resume=path, **options).best_epoch == 0


def test_the_smallest_training_and_seeds(path):
    make().fit(X, LABELS, epochs=1, batch_size=70, checkpoint=path)
    for seed in (0, 2**64 - 1):
        rewrite(path, put("seed", seed))
        model = make()
        assert model.fit(X, LABELS, epochs=1, batch_size=70, resume=path).epochs == 1
        assert model.plan.seed == seed


@pytest.mark.parametrize("kind", ["MT19937", "Philox", "SFC64"])
def test_generator_states_of_lists(kind):
    def numbers(state):
        return next(v for v in state["state"].values() if isinstance(v, np.ndarray))

    bits = getattr(np.random, kind)(3)
    largest = int(np.iinfo(numbers(bits.state).dtype).max)
    for change, accepted in (
        (lambda a: [largest] * len(a), True),
        (lambda a: [0] * len(a), True),
        (lambda a: [largest + 1, *a.tolist()[1:]], False),
        (lambda a: [-1, *a.tolist()[1:]], False),
        (lambda a: a.tolist()[1:], False),
        (lambda a: [*a.tolist(), 1], False),
        (lambda a: dict.fromkeys(range(len(a)), 1), False),
    ):
        state = bits.state
        for name, value in state["state"].items():
            if isinstance(value, np.ndarray):
                state["state"][name] = change(value)
        if accepted:
            checkpoint.make_generator(state).random()
        else:
            with pytest.raises((TypeError, ValueError), match="generator state"):
                checkpoint.make_generator(state)


def test_positions_that_numpy_would_trust():
    for kind, name, largest in (("MT19937", "pos", 624), ("Philox", "buffer_pos", 4)):
        state = getattr(np.random, kind)(0).state
        place = state["state"] if name == "pos" else state
        place[name] = largest
        checkpoint.make_generator(state)
        place[name] = largest + 1
        with pytest.raises(ValueError, match=name):
            checkpoint.make_generator(state)


def test_damage_anywhere_is_noticed(path):
    model = make()
    model.fit(X, LABELS, epochs=2, checkpoint=path, **OPTIONS)
    data = path.read_bytes()
    for at in range(0, len(data), 97):
        for damaged in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at]):
            path.write_bytes(damaged)
            assert_refused(path, path.name, model)


def test_failed_write_leaves_the_last_checkpoint_and_the_trained_model(path, monkeypatch):
    make().fit(X, LABELS, epochs=1, checkpoint=path, **OPTIONS)
    before = path.read_bytes()

    def fail(file, *args):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(_safetensors, "write", fail)
    model, same = make(), make()
    with pytest.raises(OSError, match="disk full"):
        model.fit(X, LABELS, epochs=3, checkpoint=path, checkpoint_every=2, **OPTIONS)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert model.history.epochs == 2
    same.fit(X, LABELS, epochs=2, **OPTIONS)
    assert_same(model, same)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_at_random_moments():
    script = os.path.join(os.path.dirname(__file__), "stress", "kill.py")
    run = subprocess.run([sys.executable, script, "5"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
