"""What `test_mpi.py` runs under mpiexec: the first argument names a function of this file.

What it returns on each rank, rank 0 prints as one line of JSON. What takes long to import is imported
where it is used, as there are many ranks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np
from engine_cases import (
    DTYPES,
    EVERY_THREAD,
    OPTIMIZERS,
    THREAD_SHAPES,
    Array,
    Case,
    in_bf16,
    make_case,
    new_engine,
)
from mpi4py import MPI
from sparse_cases import sparse_case

import fastbp
from fastbp.distributed import epochs
from fastbp.distributed.ranks import Ranks, join
from fastbp.engines import native
from fastbp.schedules import Cosine, ReduceOnPlateau
from fastbp.training import Epoch, run_epoch

comm = MPI.COMM_WORLD


def results(case: Case, ranks: Ranks | None, engine: str) -> list[Array]:
    """Losses, penalties, weights and the optimizer's state after two epochs."""
    made = new_engine(case.plan, engine)
    made.set_parameters(case.parameters)
    rng = np.random.default_rng(0)
    found: list[Array] = []
    data = case.X, case.y, case.sample_weight
    for _ in range(2):
        order = rng.permutation(len(case.X))
        rates = np.full(-(-len(order) // case.plan.batch_size), 0.01)
        epoch: Epoch
        if ranks is None:
            epoch = run_epoch(made, data, order, rates)
        else:
            epoch = epochs.run_epoch(ranks, made, data, order, rates, None)
        found += [epoch.losses, epoch.penalties]
    steps, slots = made.get_optimizer_state()
    return [*found, *made.get_parameters(), np.array(steps), *(a for s in slots for a in s)]


def engine_cases() -> dict[str, Callable[[int], Case]]:
    """By name, for so many threads."""
    cases: dict[str, Callable[[int], Case]] = {}
    for (name, shape), dtype in product(THREAD_SHAPES.items(), DTYPES):
        cases[f"{name}, {dtype}"] = lambda t, shape=shape, dtype=dtype: make_case(
            **shape, dtype=dtype, threads=t
        )
    common = {
        "rows": 60,
        "labels": True,
        "weighted": True,
        "batch_size": 23,
        "dtype": "float32",
    }
    what = ("relu", "softmax_cross_entropy")
    for (name, (optimizer, _, _)), clip in product(OPTIMIZERS.items(), (0.0, 0.5)):
        own = common | {"optimizer": optimizer, "clip_norm": clip}
        cases[f"{name}, clip {clip}"] = lambda t, own=own: make_case(
            (20, 50, 17, 3), *what, **own, threads=t, l1=0.001, l2=0.01, dropout=(0.2, 0.3)
        )
        for update, l2 in product(("exact", "lazy"), (0.0, 0.1)):
            cases[f"sparse {update}, {name}, clip {clip}, l2 {l2}"] = (
                lambda t, own=own, update=update, l2=l2: sparse_case(
                    (150, 50, 17, 3), *what, **own, threads=t, l2=l2, update=update
                )[0]
            )
    from test_stage_tables import SIZES, table_case

    for (i, sizes), dtype in product(enumerate(SIZES), DTYPES):
        cases[f"tables {i}, {dtype}"] = lambda t, sizes=sizes, dtype=dtype: table_case(
            sizes, dtype, rows=40, batch_size=17, weighted=True, dropout=0.2, l2=0.1, threads=t
        )
    if native.choice("bf16")[0] is not None:
        for name, make in list(cases.items()):
            if "float64" not in name:
                cases[f"{name}, bf16"] = lambda t, make=make: in_bf16(make(t))
    return cases


def different_bits(engine: str = "native", every: str = "1") -> list[str]:
    """The cases of the engines' tests whose bits are not those of one process."""
    ranks = join(comm)
    failed = []
    with patch.dict(native.COSTS, EVERY_THREAD):
        for i, (name, make) in enumerate(engine_cases().items()):
            if i % int(every):
                continue
            threads = 1 + i % 2
            alone, together = (
                results(make(t), r, engine) for t, r in ((1, None), (threads, ranks))
            )
            if any(
                not np.array_equal(a, b, equal_nan=True)
                for a, b in zip(alone, together, strict=True)
            ):
                failed.append(name)
    return failed


# Fits

RNG = np.random.default_rng(1)
X = RNG.standard_normal((120, 12)).astype("f")
Y = RNG.integers(0, 3, 120)
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 25, "optimizer": "adam"}


def network(**more: Any) -> fastbp.MLP:
    return fastbp.MLP([12, 40, 3], **({"seed": 0, "dropout": 0.2, "l2": 1e-3} | more))


def digest(model: fastbp.MLP) -> list[int]:
    return [zlib.crc32(p.tobytes()) for p in model.parameters]


def halve(model: fastbp.MLP, history: fastbp.History) -> bool:
    model.parameters = [p / 2 for p in model.parameters]
    return history.epochs == 2


def fits() -> dict[str, dict[str, Any]]:
    weight = 1.0 + np.arange(120) % 3
    return {
        "plain": {},
        "in order": {"shuffle": False},
        "validation": {"validation": 0.2, "early_stopping": 1, "clip_norm": 0.5},
        "given": {
            "validation": (X[:20], Y[:20]),
            "learning_rate": Cosine(0.1, steps=9),
        },
        "plateau": {
            "validation": 0.2,
            "learning_rate": ReduceOnPlateau(0.1, patience=1),
        },
        "weights": {"sample_weight": weight, "class_weight": "balanced"},
        "callback": {"callbacks": [halve], "epochs": 5},
    }


def different_fits() -> list[str]:
    """The fits whose weights or losses are not those of one process."""
    failed = []
    for name, more in fits().items():
        alone, together = network(), network(seed=0 if comm.rank == 0 else comm.rank)
        wanted = alone.fit(X, Y, **(OPTIONS | more))
        history = together.fit(X, Y, comm=comm, **(OPTIONS | more))
        same = digest(alone) == digest(together) and wanted.loss == history.loss
        if not same or wanted.validation_loss != history.validation_loss:
            failed.append(name)
    sparse = np.where(RNG.random(X.shape) < 0.2, X, 0)
    from scipy.sparse import csr_array

    for density, rows in (("sparse", csr_array(sparse)), ("hardly sparse", csr_array(X))):
        alone, together = network(), network()
        alone.fit(rows, Y, **OPTIONS)
        together.fit(rows, Y, comm=comm, **OPTIONS)
        if digest(alone) != digest(together):
            failed.append(density)
    return failed


def stops(estimator: Any) -> bool:
    """A callback of scikit-learn's shape that also changes weights."""
    estimator.intercepts_[0] += 1
    return bool(estimator.n_iter_ == 3)


def estimators() -> dict[str, tuple[type, dict[str, Any]]]:
    """Estimators that ranks fit, by name."""
    regressor = {"solver": "sgd", "learning_rate": "adaptive", "batch_size": 16}
    return {
        "adam": (fastbp.MLPClassifier, {}),
        "float32, early stopping": (
            fastbp.MLPClassifier,
            {"precision": "float32", "early_stopping": True, "n_iter_no_change": 2, "dropout": 0.2},
        ),
        "class_weight": (fastbp.MLPClassifier, {"class_weight": "balanced", "shuffle": False}),
        "nesterov": (fastbp.MLPRegressor, regressor),
        "diverges": (fastbp.MLPRegressor, {"solver": "sgd", "learning_rate_init": 1e300}),
        "stopped": (fastbp.MLPClassifier, {"callbacks": [stops] if comm.rank == 0 else []}),
        "reference": (fastbp.MLPClassifier, {"engine": "reference", "hidden_layer_sizes": (3, 4)}),
    }


def outcome(model: Any, sparse: bool) -> list[Any]:
    """Of a fit and, where it can be, of one more epoch."""
    from scipy.sparse import csr_array

    rows: Any = (
        csr_array(np.where(np.arange(X.size).reshape(X.shape) % 5 == 0, X, 0)) if sparse else X
    )
    found: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(rows, Y)
            found += [model.loss_curve_, model.n_iter_]
            if not model.early_stopping:
                model.partial_fit(rows, Y)
                found.append(model.loss_)
        except ValueError as error:
            found.append(str(error))
    return [found, [zlib.crc32(a.tobytes()) for a in (*model.coefs_, *model.intercepts_)]]


def of_estimators() -> tuple[list[str], list[str]]:
    """Both of what follows."""
    return different_estimators(), refused_estimators()


def different_estimators() -> list[str]:
    """Those whose fits are not those of one process; the random states are rank 0's."""
    from sklearn.base import clone

    failed = []
    for (name, (kind, options)), sparse in product(estimators().items(), (False, True)):
        common = {"hidden_layer_sizes": (9, 7), "max_iter": 5} | options
        alone = kind(
            random_state=5, **common | ({"callbacks": [stops]} if "callbacks" in common else {})
        )
        seed = 5 if comm.rank == 0 else np.random.RandomState(comm.rank)
        together = clone(kind(random_state=seed, comm=comm, **common))
        if outcome(alone, sparse) != outcome(together, sparse):
            failed.append(f"{name}{', sparse' * sparse}")
    return failed


def refused_estimators() -> list[str]:
    """What is said of fits that ranks cannot share."""
    last = comm.rank == comm.size - 1
    cases: list[tuple[dict[str, Any], Array]] = [
        ({"solver": "lbfgs"}, X),
        ({"comm": 3}, X),
        ({"alpha": 0.5 if last else 0.1}, X),
        ({"max_iter": 3 if last else 4}, X),
        ({}, X + last),
        ({}, np.full_like(X, np.nan) if last else X),
        ({"hidden_layer_sizes": (0,)}, X),
    ]
    return said_of(fastbp.MLPClassifier, {}, cases)


def said_of(
    kind: type, common: dict[str, Any], cases: list[tuple[dict[str, Any], Array]]
) -> list[str]:
    """What each of these fits by ranks raises, by its options and rows."""
    said = []
    for options, rows in cases:
        try:
            kind(**({"comm": comm, "random_state": 0} | common | options)).fit(rows, Y)
            said.append("")
        except (TypeError, ValueError) as error:
            said.append(str(error))
    return said


def tabular() -> dict[str, Any]:
    """Estimators for tables that ranks fit, by name."""
    common = {"hidden_layer_sizes": (8,), "epochs": 3}
    kinds = {"of five": (fastbp.TabularClassifier, {"n_members": 5, "calibrate": True})}
    kinds |= {"of one": (fastbp.TabularClassifier, {"n_members": 1, "class_weight": "balanced"})}
    kinds |= {"folds": (fastbp.TabularRegressor, {"n_folds": 2, "n_members": 2})}
    kinds |= {"shared": (fastbp.TabularRegressor, {"model": "tabm-mini", "n_members": 2})}
    kinds |= {"time": (fastbp.TabularClassifier, {"time_limit": 600.0, "epochs": 1})}
    return {name: (kind, common | options) for name, (kind, options) in kinds.items()}


def of_tabular() -> tuple[list[str], list[str], int]:
    """Those whose fits are not those of one process; what is said of others; members in no time."""
    from sklearn.base import clone

    table = {"a": X[:, 0], "b": X[:, 1], "c": np.where(X[:, 2] > 0, "x", "y")}
    failed = []
    for name, (kind, options) in tabular().items():
        seed = 5 if comm.rank == 0 else np.random.RandomState(comm.rank)
        pair = kind(random_state=5, **options), clone(kind(random_state=seed, comm=comm, **options))
        found = []
        for model in pair:
            y = Y if kind is fastbp.TabularClassifier else X[:, 3] + X[:, 0]
            model.fit(table, y)
            arrays = [p for m in model.members_ for p in m.parameters]
            arrays += [model.oof_prediction_, np.asarray(model.predict(table))]
            found.append([zlib.crc32(a.tobytes()) for a in arrays])
        if found[0] != found[1]:
            failed.append(name)
    last = comm.rank == comm.size - 1
    cases: list[tuple[dict[str, Any], Array]] = [
        ({"comm": 3}, X),
        ({"epochs": 3 if last else 4}, X),
        ({}, X + last),
        ({}, np.full_like(X, np.inf) if last else X),
        ({"n_members": 0}, X),
    ]
    said = said_of(fastbp.TabularClassifier, {"epochs": 2, "hidden_layer_sizes": (4,)}, cases)
    hasty = fastbp.TabularClassifier(time_limit=1e-6, random_state=0, comm=comm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hasty.fit(X, Y)
    digests = comm.allgather(
        [zlib.crc32(p.tobytes()) for m in hasty.members_ for p in m.parameters]
    )
    assert all(d == digests[0] for d in digests)
    return failed, said, len(hasty.members_)


def other_engine(engine: str) -> tuple[bool, bool]:
    """Whether the bits are those of one process, and whether rank 0 says that nothing is won."""
    alone, together = network(engine=engine), network(engine=engine)
    alone.fit(X, Y, **OPTIONS)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        together.fit(X, Y, comm=comm, **OPTIONS)
    warned = any("every rank computes every step whole" in str(w.message) for w in told)
    return digest(alone) == digest(together), warned


def single_rows() -> bool:
    """Plain SGD, a row at a time."""
    alone, together = network(l2=0), network(l2=0)
    for model, more in ((alone, {}), (together, {"comm": comm})):
        model.fit(X[:30], Y[:30], batch_size=1, epochs=2, **more)
    return digest(alone) == digest(together)


def own_rows() -> list[str]:
    """The cases where rows that each rank has of its own give other bits than one process has that is
    given all rows in that order."""
    failed = []
    weights = 0.5 + np.arange(120) % 4
    cuts = {"even": epochs.part(120, comm.size), "uneven": None}
    uneven = np.sort(np.random.default_rng(3).choice(np.arange(1, 120), comm.size - 1, False))
    cuts["uneven"] = np.concatenate([[0], uneven, [120]])
    for (name, cut), weight in product(cuts.items(), (None, weights)):
        mine = slice(cut[comm.rank], cut[comm.rank + 1])
        together, alone = network(), network()
        together.fit(
            X[mine],
            Y[mine],
            sample_weight=None if weight is None else weight[mine],
            shuffle=False,
            comm=comm,
            rows="own",
            **OPTIONS,
        )
        rows = epochs.OwnRows(np.diff(cut), None)
        order = rows.order(None)
        whose = np.searchsorted(cut, order, side="right") - 1
        order = order[np.lexsort((whose, np.arange(120) // OPTIONS["batch_size"]))]
        alone.fit(
            X[order],
            Y[order],
            sample_weight=None if weight is None else weight[order],
            shuffle=False,
            **OPTIONS,
        )
        if digest(together) != digest(alone):
            failed.append(f"{name}, weights {weight is not None}")
    shuffled = network()
    mine = slice(cuts["even"][comm.rank], cuts["even"][comm.rank + 1])
    history = shuffled.fit(X[mine], Y[mine], comm=comm, rows="own", **(OPTIONS | {"epochs": 20}))
    if len(set(map(tuple, comm.allgather(digest(shuffled))))) > 1:
        failed.append("shuffled: the ranks differ")
    if not history.loss[-1] < history.loss[0]:
        failed.append("shuffled: nothing learnt")
    return failed


def averaged() -> list[str]:
    """What is wrong with local SGD."""
    failed = []
    for every, optimizer in product((1, 3, 100), ("sgd", "adam")):
        model = network(dropout=0, l2=0)
        history = model.fit(
            X, Y, comm=comm, sync=every, epochs=20, optimizer=optimizer, learning_rate=0.02
        )
        if len(set(map(tuple, comm.allgather(digest(model))))) > 1:
            failed.append(f"{every}, {optimizer}: the ranks differ")
        if not history.loss[-1] < history.loss[0]:
            failed.append(f"{every}, {optimizer}: nothing learnt")
    # One step of plain SGD and then the mean: that is a step of the mean gradient
    for rows in ("shared", "own"):
        alone, together = (network(dropout=0, l2=0, dtype="float64") for _ in range(2))
        n = 24 * comm.size
        given = slice(None, n) if rows == "shared" else slice(comm.rank * 24, comm.rank * 24 + 24)
        alone.fit(np.resize(X, (n, 12)), np.resize(Y, n), batch_size=n, epochs=3, shuffle=False)
        together.fit(
            np.resize(X, (n, 12))[given],
            np.resize(Y, n)[given],
            batch_size=n,
            epochs=3,
            shuffle=False,
            comm=comm,
            sync=1,
            rows=rows,
        )
        # three steps of a few sums, each rounded: 1e4 ε is far above, a wrong mean far beyond
        if not np.allclose(alone.parameters[0], together.parameters[0], rtol=0, atol=1e4 * 2**-52):
            failed.append(f"{rows}: not the mean gradient")
    return failed


def refusals() -> list[tuple[str, str]]:
    """What is raised on this rank where the last one differs."""
    last = comm.rank == comm.size - 1
    found = []

    def tell(name: str, work: Callable[[], object]) -> None:
        try:
            work()
            found.append((name, ""))
        except Exception as error:
            found.append((name, f"{type(error).__name__}: {error}"))

    def fit(X: Any = X, Y: Any = Y, **more: Any) -> Callable[[], object]:
        model = more.pop("model", None) or network()
        return lambda: model.fit(X, Y, comm=comm, **(OPTIONS | more))

    tell("epochs", fit(epochs=0 if last else 3))
    tell("batch_size", fit(batch_size=7 if last else 8))
    tell("optimizer", fit(optimizer="sgd" if last else "adam"))
    tell("X", fit(X + 1 if last else X))
    tell("rows of X", fit(X[:-1] if last else X, Y[:-1] if last else Y))
    tell("layers", fit(model=fastbp.MLP([12, 41 if last else 40, 3])))
    tell("dtype", fit(model=network(dtype="float64" if last else "float32")))
    tell("engine", fit(model=network(engine="reference" if last else "native")))
    with patch.object(fastbp, "__version__", "9.9" if last else fastbp.__version__):
        tell("version", fit())
    isa = lambda kind: ("sse9" if last else "avx2", "")  # noqa: E731
    with patch.object(native, "choice", isa):
        tell("instruction set", fit())
    tell("learning_rate", fit(learning_rate=0.1 if last else 0.2))
    tell("shuffle", fit(shuffle=last))
    tell("rows", fit(rows="own" if last else "shared"))
    tell("sync", fit(sync=int(last)))
    tell(
        "generator",
        fit(model=network(seed=np.random.Generator(np.random.MT19937())) if last else network()),
    )
    tell("nothing", fit())
    return found


def misuse() -> list[str]:
    """Messages of what cannot be, on every rank."""
    found = []
    from scipy.sparse import csr_array

    for more in (
        {"comm": "world"},
        {"comm": comm, "rows": "some"},
        {"comm": comm, "sync": -1},
        {"rows": "own"},
        {"sync": 3},
        {"comm": comm, "rows": "own", "validation": 0.5},
        {"comm": comm, "rows": "own", "class_weight": "balanced"},
        {"comm": comm, "rows": "own", "X": csr_array(X)},
        {"comm": comm, "rows": "own", "model": network(engine="reference")},
        {"comm": comm, "rows": "own", "model": network(precision="bf16")},
        {"comm": comm, "rows": "own", "batch_size": 1},
    ):
        rows = more.pop("X", X)
        model = more.pop("model", None) or network()
        try:
            model.fit(rows, Y, **(OPTIONS | more))
        except (TypeError, ValueError) as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def root_errors() -> list[str]:
    """What is raised where rank 0's callback or checkpoint fails, and where training diverges."""
    found = []

    def fail(model: Any, history: Any) -> None:
        raise OSError("disk full")

    for more in (
        {"callbacks": [fail]},
        {"checkpoint": "/proc/none/checkpoint"},
        {"resume": "/proc/none/checkpoint"},
        {"learning_rate": 1e30, "optimizer": "sgd"},
    ):
        model = network()
        try:
            model.fit(X, Y, comm=comm, **(OPTIONS | more))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
        finite = all(np.isfinite(p).all() for p in model.parameters)
        same = len(set(map(tuple, comm.allgather(digest(model))))) == 1
        found.append(f"{finite} {same}")
    return found


def resumed(path: str) -> bool:
    """Train to the third epoch, and go on from there with rank 0's file."""
    alone, first, second = network(), network(), network(seed=5)
    alone.fit(X, Y, validation=0.2, **(OPTIONS | {"epochs": 6}))
    first.fit(X, Y, validation=0.2, comm=comm, checkpoint=path, **OPTIONS)
    second.fit(X, Y, validation=0.2, comm=comm, resume=path, **(OPTIONS | {"epochs": 6}))
    return digest(second) == digest(alone)


def goes_on(path: str) -> bool:
    """The same from a file that another number of ranks wrote."""
    alone, here = network(), network()
    alone.fit(X, Y, **(OPTIONS | {"epochs": 6}))
    here.fit(X, Y, comm=comm, resume=path, **(OPTIONS | {"epochs": 6}))
    return digest(here) == digest(alone)


def writes(path: str) -> bool:
    network().fit(X, Y, comm=comm, checkpoint=path, **OPTIONS)
    return True


def interrupted() -> tuple[bool, str, bool, bool]:
    """The last rank gets a SIGINT; whether all raise, after the same step, and the model goes on."""
    model = network()
    if comm.rank == comm.size - 1:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, 0.5)
    raised = False
    try:
        model.fit(X, Y, comm=comm, **(OPTIONS | {"epochs": 10**6}))
    except KeyboardInterrupt:
        raised = True
    same = len(set(map(tuple, comm.allgather(digest(model))))) == 1
    history = model.history
    assert history is not None
    model.fit(X, Y, comm=comm, **OPTIONS)
    return raised, history.stopped, same, len(history.loss) == len(history.seconds)


def trains_forever(path: str) -> None:
    """With checkpoints, for someone to kill a rank of."""
    with open(f"{path}.{comm.rank}", "w") as file:
        file.write(str(os.getpid()))
    network().fit(X, Y, comm=comm, checkpoint=path, **(OPTIONS | {"epochs": 10**6}))


def resumes(path: str) -> bool:
    """Go on from such a checkpoint for an epoch."""

    def enough(model: fastbp.MLP, history: fastbp.History) -> bool:
        return True

    model = network()
    model.fit(X, Y, comm=comm, resume=path, callbacks=[enough], **(OPTIONS | {"epochs": 10**6}))
    return all(np.isfinite(p).all() for p in model.parameters)


def fails_alone() -> None:
    """An error on one rank that none can agree on ends all."""
    model = network()
    if comm.rank == comm.size - 1:

        def fail(self: object, *args: object) -> None:
            raise MemoryError("none left")

        epochs._shared_steps = fail  # type: ignore[assignment]
    model.fit(X, Y, comm=comm, **OPTIONS)
    time.sleep(60)


if __name__ == "__main__":
    answer = globals()[sys.argv[1]](*sys.argv[2:])
    every = comm.gather(answer)
    if comm.rank == 0:
        print(json.dumps(every))
