"""Forks in another thread's call: the child's model is as good as before it, or says why not.

The call is a real one, which has released the interpreter's lock: the fork comes while the engine
refuses others, and counts only if it still does so after it.
"""

import os
import pickle
import select
import signal
import sys
import threading
import time
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
from engine_cases import EVERY_THREAD

import fastbp
from fastbp.engines import jit, native

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:(Stochastic Optimizer|lbfgs failed)"),
]

ENGINES = [name for name, e in (("native", native), ("jit", jit)) if e.available()] + ["reference"]
SIZES = [16, 32, 3]
X = np.random.default_rng(0).standard_normal((200_000, SIZES[0]), dtype=np.float32)
LABELS = np.arange(len(X)) % SIZES[-1]
FEW, MANY = slice(0, 300), slice(0, 40_000)  # MANY: enough to train on


@pytest.fixture(autouse=True)
def _costs():
    """As many threads as there may be, however little work; BLAS, which must not be forked, on one."""
    with ExitStack() as stack:
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            pass
        else:
            stack.enter_context(threadpool_limits(1))
        stack.enter_context(patch.dict(native.COSTS, EVERY_THREAD))
        yield


def in_child(target, is_inside=lambda: True):
    """Whether it is_inside() right after a fork, and what target() returns in the child, or raises."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            value = target()
        except BaseException as error:
            value = error
        os.write(write, pickle.dumps(value))
        os._exit(0)
    counts = is_inside()
    os.close(write)
    data = b""
    with open(read, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], 120)[0]:
            piece = pipe.read(1 << 16)
            if not piece:
                break
            data += piece
        else:
            os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert data, "the child hangs"
    return counts, pickle.loads(data)


def caught_in(call, is_inside, target, end=lambda: None):
    """What target() gives in a child that was forked while call() was on in another thread."""
    for _ in range(100):  # a call may be over in less time than a thread takes to be seen in it
        failed = []

        def run(failed=failed):
            try:
                call()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive() and not is_inside():
            time.sleep(0)
        counts, result = in_child(target, is_inside)
        end()
        thread.join()
        if is_busy_was_inside(failed):
            continue
        assert not failed, failed
        if counts:
            return result
    return pytest.fail("no fork came in the middle of the call")


def is_busy_was_inside(failed):
    """Whether the call was refused, as `is_busy`, which takes no lock, had the engine just then."""
    return any("a signal handler cannot use" in str(error) for error in failed)


def is_busy(engine):
    """Whether it is in a call. The reference engine refuses nobody: who holds it does."""
    try:
        engine.get_parameters()
    except RuntimeError:
        return True
    return False


def sizes_for(engine):
    """Of a network whose calls take longer than a fork."""
    return SIZES if engine == "reference" else [SIZES[0], 96, 96, SIZES[-1]]


def small(engine, seed=0):
    return fastbp.MLP(sizes_for(engine), seed=seed, engine=engine, threads=2)


def all_of(model):
    """Everything one can do with a model."""
    X_few, y_few = X[FEW], LABELS[FEW]
    values = [model.predict_proba(X_few), model.predict(X_few), *model.parameters]
    values += [model.loss(X_few, y_few), *model.gradient(X_few, y_few), model.jacobian(X_few)]
    history = model.fit(X_few, y_few, epochs=2, batch_size=128, optimizer="momentum")
    return [*values, *history.loss, *model.parameters, model.partial_fit(X_few, y_few)]


READING = {
    "predict": lambda model: model.predict(X),
    "predict_proba": lambda model: model.predict_proba(X),
    "loss": lambda model: model.loss(X, LABELS),
    "gradient": lambda model: model.gradient(X, LABELS),
    "jacobian": lambda model: model.jacobian(X),
}


@pytest.mark.parametrize("call", READING)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_another_thread_reads_is_whole_in_the_child(engine, call):
    model, twin = small(engine), small(engine)
    first = model.predict(X[FEW])  # it has its engine, and the JIT engine is compiled
    expected = all_of(twin)
    np.testing.assert_array_equal(first, expected[1])

    def is_inside():
        if engine != "reference":
            return is_busy(model._holder.engine)
        free = model._holder.lock.acquire(blocking=False)
        if free:
            model._holder.lock.release()
        return not free

    got = caught_in(lambda: READING[call](model), is_inside, lambda: all_of(model))
    assert not isinstance(got, BaseException), got
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    # The parent has seen nothing of it.
    for a, b in zip(all_of(model), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("call", ["fit", "partial_fit"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_another_thread_trains_says_that_it_is_lost(engine, call):
    model = small(engine)
    model.partial_fit(X[FEW], LABELS[FEW])
    if call == "fit":
        train, plan = lambda: model.fit(X[MANY], LABELS[MANY], epochs=1), model.plan
    else:
        train, plan = lambda: model.partial_fit(X[MANY], LABELS[MANY]), model.plan
    assert plan.batch_size == 32  # the engine is that of the call

    def is_inside():
        return model._holder._is_changing and (
            engine == "reference" or is_busy(model._holder.engine)
        )

    def uses():
        errors = []
        for use in (lambda: all_of(model), lambda: model.parameters, lambda: pickle.dumps(model)):
            try:
                use()
            except RuntimeError as error:
                errors.append(str(error))
        return errors, all_of(small(engine, 1))[0]

    errors, other = caught_in(train, is_inside, uses)
    assert len(errors) == 3
    assert all("another thread was training this model" in error for error in errors)
    np.testing.assert_array_equal(other, all_of(small(engine, 1))[0])
    assert np.isfinite(model.predict_proba(X[FEW])).all()


class Slow:
    """An engine one of whose methods takes until it is let go."""

    def __init__(self, engine, method):
        self.engine, self.method = engine, method
        self.inside, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name):
        found = getattr(self.engine, name)
        if name != self.method:
            return found

        def slow(*args, **kwargs):
            self.inside.set()
            self.go_on.wait()
            return found(*args, **kwargs)

        return slow


def caught_in_slow(model, method, call, target):
    slow = model._holder.engine = Slow(model._holder.engine, method)

    def child():
        slow.go_on.set()
        return target()

    return caught_in(call, slow.inside.is_set, child, slow.go_on.set)


@pytest.mark.parametrize("engine", ENGINES)
def test_parameters_that_another_thread_sets_are_lost(engine):
    model, new = small(engine), small(engine, 1).parameters
    model.predict(X[FEW])
    got = caught_in_slow(
        model,
        "set_parameters",
        lambda: setattr(model, "parameters", new),
        lambda: model.predict(X[FEW]),
    )
    assert isinstance(got, RuntimeError)
    assert "setting its parameters" in str(got)
    np.testing.assert_array_equal(model.parameters[0], new[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_whose_validation_loss_another_thread_takes_is_whole(engine):
    """Training is on, but nothing is written: the child has the weights of the epoch before."""
    model, data = small(engine), (X[FEW], LABELS[FEW])
    model.partial_fit(*data)
    got = caught_in_slow(
        model,
        "loss",
        lambda: model.fit(*data, epochs=1, validation=data),
        lambda: (model.parameters, model.fit(*data, epochs=1).epochs),
    )
    assert not isinstance(got, BaseException), got
    assert got[1] == 1
    for a, b in zip(got[0], model.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_child_that_another_thread_forked_from_training_can_be_interrupted():
    """The main thread holds Ctrl-C back between steps; in the child it cannot let it through."""
    model = fastbp.MLP(SIZES, seed=0, engine="reference")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop, results = threading.Event(), []

    def fork():
        while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            time.sleep(0)
        held = lambda: signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # noqa: E731
        while not results:
            counts, handler_is_back = in_child(
                lambda: signal.getsignal(signal.SIGINT) is signal.default_int_handler, held
            )
            if counts:
                results.append(handler_is_back)
        stop.set()

    thread = threading.Thread(target=fork)
    thread.start()
    try:
        model.fit(X[MANY], LABELS[MANY], epochs=10**6, callbacks=[lambda *_: stop.is_set()])
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    assert results == [True]


# The estimators: their parameters' home is coefs_, which no engine writes to.


@pytest.fixture(scope="module", params=ENGINES)
def estimator(request):
    pytest.importorskip("sklearn")
    model = fastbp.MLPClassifier(
        sizes_for(request.param)[1:-1],
        solver="sgd",
        random_state=0,
        engine=request.param,
        max_iter=1,
        n_jobs=2,
        batch_size=64,
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X[FEW], LABELS[FEW])
    return model


@pytest.mark.parametrize("call", ["predict", "predict_proba", "score"])
def test_an_estimator_that_another_thread_predicts_with(estimator, call):
    expected = estimator.predict_proba(X[FEW])
    data = (X, LABELS) if call == "score" else (X,)
    got = caught_in(
        lambda: getattr(estimator, call)(*data),
        lambda: not estimator._engines,
        lambda: [estimator.predict_proba(X[FEW]) for _ in range(2)],
    )
    assert not isinstance(got, BaseException), got
    np.testing.assert_array_equal(got, [expected, expected])


@pytest.mark.parametrize("call", ["fit", "partial_fit", "lbfgs"])
def test_an_estimator_that_another_thread_fits(estimator, call):
    """The child has the weights from before, and can train; so has it the parent's next estimator."""
    model = pickle.loads(pickle.dumps(estimator))
    train = model.fit
    if call == "partial_fit":
        train = model.partial_fit
        train(X[:64], LABELS[:64])
    model.set_params(warm_start=True)  # the weights from before are those it begins with
    if call == "lbfgs":
        model.set_params(solver="lbfgs")
    on, expected = threading.Event(), []

    def run():
        expected[:] = model.predict_proba(X[FEW])  # of this call: one that no fork met has trained
        on.set()
        try:
            train(X[MANY], LABELS[MANY])
        finally:
            on.clear()

    def is_inside():
        if call == "lbfgs" or model.engine == "reference":
            return on.is_set()
        return on.is_set() and model._optimizer.holder._is_changing

    def child():
        predicted = model.predict_proba(X[FEW])
        return predicted, train(X[FEW], LABELS[FEW]).predict_proba(X[FEW])

    got = caught_in(run, is_inside, child)
    assert not isinstance(got, BaseException), got
    if getattr(sys, "_is_gil_enabled", lambda: True)():  # else it may be done before the fork comes
        np.testing.assert_array_equal(got[0], expected)
    assert np.isfinite(got[1]).all()
