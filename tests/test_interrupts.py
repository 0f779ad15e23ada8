"""Ctrl-C: the weights of the last finished step, the history so far, and no thread left behind."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastbp
from fastbp import activations, losses
from fastbp.engines import Plan, create, jit, native
from fastbp.engines.interrupts import between_steps
from fastbp.engines.jit import engine as jit_engine
from fastbp.stages import dense

X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
LABELS = np.arange(60) % 3
COMPILED = [name for name, e in (("native", native), ("jit", jit)) if e.available()]

# Interrupts itself in the middle of a long fit, then trains a twin for just as many steps.
CHILD = """
import os, signal, sys, threading, time
import numpy as np
import fastbp

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
engine, rows, epochs, sizes, batch = sys.argv[1], *map(eval, sys.argv[2:])
generator = np.random.default_rng(0)
X = generator.standard_normal((rows, sizes[0]), dtype=np.float32)
y = generator.integers(0, sizes[-1], rows)
options = {"batch_size": batch, "optimizer": "adam"}

def make():
    return fastbp.MLP(sizes, seed=0, engine=engine, dropout=0.1)

def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0

# Time is that of the main thread on its CPU: how busy the machine is has no part in it.
clock = time.pthread_getcpuclockid(threading.main_thread().ident)

def interrupt(model):
    global sent
    while model.history is None:  # training has not begun
        time.sleep(0.01)
    time.sleep(0.2)
    sent = time.clock_gettime(clock)
    os.kill(os.getpid(), signal.SIGINT)

make().fit(X[:100], y[:100], epochs=1, **options)  # what starts threads of its own has started them
time.sleep(0.2)  # a thread that was joined may not have left yet
before = tasks()
delays = []
for _ in range(3):
    model = make()
    thread = threading.Thread(target=interrupt, args=(model,))
    thread.start()
    try:
        model.fit(X, y, epochs=epochs, **options)
    except KeyboardInterrupt:
        delays.append(time.clock_gettime(clock) - sent)
    thread.join()
assert len(delays) == 3
patience = time.monotonic() + 10
while tasks() > before and time.monotonic() < patience:
    time.sleep(0.01)
assert tasks() <= before, (tasks(), before)

history, steps = model.history, model._holder.steps
assert history.stopped == "interrupt"
per_epoch = -(-rows // batch)
assert history.epochs < epochs
# The interrupt may have come after an epoch and before it was recorded.
assert 0 <= steps - history.epochs * per_epoch <= per_epoch
assert len(history.seconds) == len(history.samples_per_second) == history.epochs

twin = make()
if history.epochs:
    assert twin.fit(X, y, epochs=history.epochs, **options).loss == history.loss
    engine = twin._holder.engine
else:
    engine = twin._holder.use(model.plan)
rest = steps - history.epochs * per_epoch
if rest:
    order = twin._generator.permutation(rows)[: rest * batch]
    assert engine.epoch(X, y, None, order, np.full(rest, 0.001), np.empty(rest)) == rest
for p, q in zip(model.parameters, twin.parameters, strict=True):
    assert np.isfinite(p).all()
    np.testing.assert_array_equal(p, q)
state, expected = model._holder.engine.get_optimizer_state(), engine.get_optimizer_state()
assert state[0] == expected[0] == steps
for a, b in zip(sum(state[1], []), sum(expected[1], []), strict=True):
    np.testing.assert_array_equal(a, b)
model.fit(X[:100], y[:100], epochs=1, **options)  # it is free to train again
print(max(delays))
"""


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="no such clock here")
@pytest.mark.parametrize(
    ("engine", "rows", "epochs", "sizes", "batch"),
    [
        ("native", 3_000_000, 9, [8, 16, 3], 32),  # in the middle of a long epoch
        ("native", 200, 10**6, [8, 16, 3], 32),  # among many short ones
        ("native", 20_000, 99, [512, 512, 512, 10], 256),  # with several threads
        ("jit", 3_000_000, 9, [8, 16, 3], 32),
        ("jit", 200, 10**6, [8, 16, 3], 32),
        ("jit", 20_000, 99, [512, 512, 512, 10], 256),
        ("reference", 100_000, 99, [8, 64, 3], 32),
    ],
)
def test_ctrl_c_in_a_process_of_its_own(engine, rows, epochs, sizes, batch):
    if engine == "jit" and not jit.available():
        pytest.skip(jit.reason())
    arguments = [engine, *map(str, (rows, epochs, sizes, batch))]
    run = subprocess.run(
        [sys.executable, "-P", "-c", CHILD, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    # Of this thread's own time, on a busy machine too; the rest of the call would take seconds.
    assert float(run.stdout) < 0.5


def test_ctrl_c_in_a_callback_and_in_the_validation():
    def interrupt(model, history):
        if history.epochs == 2:
            raise KeyboardInterrupt

    model, same = (fastbp.MLP([4, 8, 3], seed=0) for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, LABELS, epochs=9, validation=(X, LABELS), callbacks=[interrupt])
    assert (model.history.epochs, model.history.stopped) == (2, "interrupt")
    same.fit(X, LABELS, epochs=2, validation=(X, LABELS))
    for p, q in zip(model.parameters, same.parameters, strict=True):
        np.testing.assert_array_equal(p, q)

    def score(*data):
        raise KeyboardInterrupt

    model.predict = score
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, LABELS, validation=(X, LABELS))
    history = model.history
    assert history.epochs == 0
    assert history.loss == history.validation_loss == history.validation_score == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="sends itself signals by a timer")
@pytest.mark.parametrize(
    "engine", [e.__name__.rpartition(".")[2] for e in (native, jit) if e.available()]
)
@pytest.mark.parametrize("precision", [None, "bf16"])
def test_a_handler_cannot_use_the_model_it_interrupts(engine, precision):
    if engine == "jit":
        precision = None  # the other is not for it
    data = np.random.default_rng(0).standard_normal((12_000, 64), dtype=np.float32)
    labels = np.arange(len(data)) % 3
    trained, refusals, others = [], [], []
    for handled in (False, True):
        model = fastbp.MLP([64, 256, 256, 3], seed=0, engine=engine, precision=precision)
        other = fastbp.MLP([64, 256, 256, 3], seed=1, engine=engine, precision=precision)
        other.predict(data[:1])

        inside = []

        def use(number, frame, model=model, other=other, inside=inside):
            if inside:  # a slow machine: the next signal is there before this one is done with
                return
            inside.append(number)
            others.append(other.predict(data[:40]))
            try:
                model.predict(data[:40])
            except RuntimeError as error:
                refusals.append(str(error))
            inside.pop()

        before = signal.signal(signal.SIGALRM, use)
        try:
            if handled:
                signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)
            model.fit(data, labels, epochs=2)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        trained.append(model.parameters)
    assert refusals
    assert all("a signal handler cannot use the model" in text for text in refusals)
    for got in others[1:]:
        np.testing.assert_array_equal(got, others[0])
    for got, wanted in zip(*trained, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_another_exception_keeps_the_history_as_well():
    def fail(model, history):
        raise LookupError("of the user's")

    model = fastbp.MLP([4, 8, 3], seed=0)
    assert model.history is None
    with pytest.raises(LookupError):
        model.fit(X, LABELS, callbacks=[fail])
    assert (model.history.epochs, model.history.stopped) == (1, "")
    history = model.fit(X, LABELS, epochs=2)
    assert model.history is history


def test_a_divergence_in_the_last_step_before_the_interrupt_is_undone():
    model = fastbp.MLP([4, 8, 3], seed=0)
    engine = model._holder.use(model.plan)
    before = model.parameters

    class Spy:
        def __getattr__(self, name):
            return getattr(engine, name)

        def epoch(self, *data):
            engine.set_parameters([np.full_like(p, np.nan) for p in before])
            raise KeyboardInterrupt

    model._holder.engine = Spy()
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(X, LABELS)
    for p, q in zip(model.parameters, before, strict=True):
        np.testing.assert_array_equal(p, q)


@pytest.mark.skipif(not jit.available(), reason=jit.reason())
def test_ctrl_c_while_the_jit_engine_waits_for_its_threads(monkeypatch):
    """It comes through when all are done, and the engine can be used again."""
    monkeypatch.setattr(jit_engine, "FLOPS_PER_THREAD", 1)
    monkeypatch.setattr(jit_engine, "FLOPS_PER_START", 1)
    plan = Plan(
        dense((4, 8, 1), (activations.get("relu"),)), losses.get("squared_error"), threads=2
    )
    engine, join, interrupts = create(plan, "jit"), threading.Thread.join, [KeyboardInterrupt()]
    rows = np.resize(X, (300, 4))  # more than one thread takes at once
    out = np.full((300, 1), np.nan, np.float32)

    def interrupted(thread, *arguments):
        if interrupts:
            raise interrupts.pop()
        join(thread, *arguments)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        engine.forward(rows, out)
    assert not interrupts
    assert threading.active_count() == before
    engine.forward(rows, out)
    assert np.isfinite(out).all()


def test_interrupts_are_held_until_a_step_is_done():
    before = signal.getsignal(signal.SIGINT)
    done = []

    def steps(count, interrupted, *, ask):
        with between_steps() as let_through:
            for step in range(count):
                if step == interrupted:
                    os.kill(os.getpid(), signal.SIGINT)
                done.append(step)
                if ask:
                    let_through()

    with pytest.raises(KeyboardInterrupt):
        steps(5, 2, ask=True)
    assert done == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        steps(5, 4, ask=False)  # no step comes any more: it is not forgotten
    assert done == [0, 1, 2, 0, 1, 2, 3, 4]
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_is_held_in_other_threads_or_where_ctrl_c_is_ignored():
    def work():
        with between_steps() as let_through:
            let_through()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with between_steps() as let_through:
            os.kill(os.getpid(), signal.SIGINT)
            let_through()
    finally:
        signal.signal(signal.SIGINT, before)
