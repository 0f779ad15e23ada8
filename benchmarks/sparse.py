"""Training and prediction on sparse rows, beside scikit-learn's, PyTorch's and JAX's ways.

`python -m benchmarks.sparse` prints the tables of docs/sparse.md, which the report has, too; `--case N`
measures one of the cases only, `--inputs` the time against the number of inputs, `--memory` what a fit
takes besides its data, `--share` the break-even with dense rows and `--accuracy` what exact and lazy
updates learn. Peers that are not installed are left out. All train the same network, float32, one
hidden layer of 100, batches of 200. A time is a fifth of a `fit` of five epochs, of an untrained network
(PyTorch and JAX: of five more epochs, compiled before); in turn, medians.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse

import fastbp
from benchmarks import interleave, tables
from benchmarks.groups import Record
from fastbp import rows

EPOCHS = 5
HIDDEN, CLASSES, BATCH = 100, 5, 200
CASES = [(4_000, 2_000, 38), (4_000, 20_000, 63), (2_000, 100_000, 81)]
RATES = {"adam": 0.001, "nesterov": 0.01, "sgd": 0.01}


def texts(n: int, width: int, nonzeros: int, seed: int = 0) -> tuple[Any, Any]:
    """Rows like counts of words: columns as frequent as words are (Zipf), and labels."""
    rng = np.random.default_rng(seed)
    p = 1 / (np.arange(width) + 10.0)
    columns = rng.choice(width, size=(n, nonzeros), p=p / p.sum()).astype(np.int32)
    starts = np.arange(0, columns.size + 1, nonzeros, dtype=np.int32)
    values = rng.random(columns.size, dtype=np.float32)
    X = scipy.sparse.csr_array((values, columns.ravel(), starts), shape=(n, width))
    X.sum_duplicates()
    return X, rng.integers(0, CLASSES, n)


def network(width: int) -> fastbp.MLP:
    return fastbp.MLP([width, HIDDEN, CLASSES], seed=0)


def fastbp_epochs(X: Any, y: Any, optimizer: str, update: str = "exact") -> Callable[[], float]:
    def run() -> float:
        model = network(X.shape[1])
        start = time.perf_counter()
        model.fit(X, y, epochs=EPOCHS, batch_size=BATCH, optimizer=optimizer, sparse_update=update)
        return (time.perf_counter() - start) / EPOCHS

    run()
    return run


def sklearn_epochs(X: Any, y: Any, optimizer: str) -> Callable[[], float]:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        HIDDEN,
        solver="adam" if optimizer == "adam" else "sgd",
        momentum=0.9 if optimizer == "nesterov" else 0.0,
        learning_rate_init=RATES[optimizer],
        alpha=0,
        random_state=0,
        max_iter=EPOCHS,
    )

    def run() -> float:
        start = time.perf_counter()
        model.fit(X, y)
        return (time.perf_counter() - start) / EPOCHS

    return run


def batches(n: int) -> Iterator[Any]:
    """The rows of each minibatch of all epochs."""
    rng = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = rng.permutation(n)
        for first in range(0, n, BATCH):
            yield order[first : first + BATCH]


def torch_epochs(X: Any, y: Any, optimizer: str) -> Callable[[], float]:
    """EmbeddingBag with sparse gradients: SGD, or SparseAdam for it and Adam for the rest."""
    import torch

    torch.set_num_threads(fastbp.get_num_threads())
    bag = torch.nn.EmbeddingBag(X.shape[1], HIDDEN, mode="sum", sparse=True)
    torch.nn.init.uniform_(bag.weight, -0.01, 0.01)
    bias = torch.nn.Parameter(torch.zeros(HIDDEN))
    top = torch.nn.Linear(HIDDEN, CLASSES)
    rest = [bias, *top.parameters()]
    if optimizer == "sgd":
        optimizers = [torch.optim.SGD([bag.weight, *rest], lr=RATES["sgd"])]
    else:
        optimizers = [
            torch.optim.SparseAdam([bag.weight], lr=RATES["adam"]),
            torch.optim.Adam(rest, lr=RATES["adam"]),
        ]
    labels = torch.from_numpy(y)

    def run() -> float:
        start = time.perf_counter()
        for batch in batches(len(y)):
            part = X[batch]
            z = bag(
                torch.from_numpy(part.indices),
                torch.from_numpy(part.indptr[:-1]),
                per_sample_weights=torch.from_numpy(part.data),
            )
            loss = torch.nn.functional.cross_entropy(
                top(torch.relu(z + bias)), labels[torch.from_numpy(batch)]
            )
            for each in optimizers:
                each.zero_grad(set_to_none=True)
            loss.backward()
            for each in optimizers:
                each.step()
        return (time.perf_counter() - start) / EPOCHS

    return run


def jax_epochs(X: Any, y: Any, optimizer: str) -> Callable[[], float]:
    """Rows padded to one length, W gathered; SGD's gradient is scattered, Adam's is dense."""
    import jax
    import jax.numpy as jnp

    counts = np.diff(X.indptr)
    columns = np.zeros((X.shape[0], counts.max()), np.int32)
    values = np.zeros(columns.shape, np.float32)
    there = np.arange(counts.max()) < counts[:, None]
    columns[there], values[there] = X.indices, X.data
    k, v, labels = jnp.asarray(columns), jnp.asarray(values), jnp.asarray(y.astype(np.int32))
    start_W = jax.random.uniform(
        jax.random.PRNGKey(0), (X.shape[1], HIDDEN), minval=-0.01, maxval=0.01
    )
    first = (start_W, jnp.zeros(HIDDEN), jnp.zeros((HIDDEN, CLASSES)) + 0.01, jnp.zeros(CLASSES))

    def loss(gathered: Any, small: Any, x: Any, t: Any) -> Any:
        b, V, c = small
        z = jnp.einsum("rj,rjh->rh", x, gathered) + b
        log_p = jax.nn.log_softmax(jax.nn.relu(z) @ V + c)
        return -jnp.take_along_axis(log_p, t[:, None], axis=1).mean()

    def slopes(parameters: Any, batch: Any) -> Any:
        W, *small = parameters
        return jax.grad(loss, argnums=(0, 1))(W[k[batch]], tuple(small), v[batch], labels[batch])

    @functools.partial(jax.jit, donate_argnums=0)
    def sgd(state: Any, batch: Any) -> Any:
        W, *small = state
        at, rest = slopes(state, batch)
        W = W.at[k[batch]].add(-RATES["sgd"] * at)
        return (W, *(p - RATES["sgd"] * g for p, g in zip(small, rest, strict=True)))

    @functools.partial(jax.jit, donate_argnums=0)
    def adam(state: Any, batch: Any) -> Any:
        parameters, m, s, t = state
        at, rest = slopes(parameters, batch)
        g = (jnp.zeros_like(parameters[0]).at[k[batch]].add(at), *rest)
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        s = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, s, g)
        eta = RATES["adam"] * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        parameters = jax.tree.map(
            lambda p, a, b: p - eta * a / (jnp.sqrt(b) + 1e-8), parameters, m, s
        )
        return parameters, m, s, t + 1

    def zeros() -> Any:
        return jax.tree.map(jnp.zeros_like, first)

    state = [first if optimizer == "sgd" else (first, zeros(), zeros(), jnp.float32(1))]
    step = sgd if optimizer == "sgd" else adam

    def run() -> float:
        start = time.perf_counter()
        for batch in batches(len(y)):
            state[0] = step(state[0], batch.astype(np.int32))
        jax.block_until_ready(state[0])
        return (time.perf_counter() - start) / EPOCHS

    run()
    return run


def contenders(X: Any, y: Any) -> dict[str, dict[str, Callable[[], Callable[[], float]]]]:
    """By what is measured, each contender's maker."""
    make = functools.partial
    return {
        "Adam, exact": {
            "fastbp": make(fastbp_epochs, X, y, "adam"),
            "scikit-learn": make(sklearn_epochs, X, y, "adam"),
            "JAX": make(jax_epochs, X, y, "adam"),
        },
        "Nesterov, exact": {
            "fastbp": make(fastbp_epochs, X, y, "nesterov"),
            "scikit-learn": make(sklearn_epochs, X, y, "nesterov"),
        },
        "plain SGD": {
            "fastbp": make(fastbp_epochs, X, y, "sgd"),
            "scikit-learn": make(sklearn_epochs, X, y, "sgd"),
            "PyTorch": make(torch_epochs, X, y, "sgd"),
            "JAX": make(jax_epochs, X, y, "sgd"),
        },
        "Adam, lazy": {
            "fastbp": make(fastbp_epochs, X, y, "adam", "lazy"),
            "PyTorch": make(torch_epochs, X, y, "adam"),
        },
        "predict": {
            "fastbp": make(prediction, X, y, "fastbp"),
            "scikit-learn": make(prediction, X, y, "scikit-learn"),
        },
    }


def prediction(X: Any, y: Any, name: str) -> Callable[[], float]:
    """Labels of all rows in one call."""
    if name == "fastbp":
        model: Any = network(X.shape[1])
    else:
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(HIDDEN, max_iter=1, solver="sgd", random_state=0).fit(
            X[:200], y[:200]
        )
    model.predict(X)
    return functools.partial(_seconds, functools.partial(model.predict, X), 20)


def _seconds(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


NEEDS = {"scikit-learn": "sklearn", "PyTorch": "torch", "JAX": "jax"}


def measure(case: tuple[int, int, int], rounds: int) -> list[Record]:
    """Fits and predictions of one of the cases."""
    X, y = texts(*case)
    records: list[Record] = []
    for what, makers in contenders(X, y).items():
        runs = {
            name: maker()
            for name, maker in makers.items()
            if name not in NEEDS or importlib.util.find_spec(NEEDS[name])
        }
        label = f"{case[0]:,} × {case[1]:,}, {X.nnz / case[0]:.0f}"
        records += [
            {"case": label, "what": what, "contender": name, "seconds": seconds}
            for name, seconds in interleave.run(runs, rounds).items()
        ]
    return records


def table(records: Sequence[Record]) -> list[list[str]]:
    """Rows of texts; the head comes first. In brackets how many times as long as fastbp."""
    names = ("fastbp", "scikit-learn", "PyTorch", "JAX")
    lines = [["rows × inputs, nonzeros a row", "", *names]]
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for record in records:
        key = record["case"], record["what"]
        found.setdefault(key, {})[record["contender"]] = record["seconds"]
    for (case, what), times in found.items():
        cells = []
        for name in names:
            if name not in times:
                cells.append("")
                continue
            ratio = interleave.ratio(times[name], times["fastbp"]).median
            beside = f" ({ratio:.1f}×)" if name != "fastbp" else ""
            cells.append(f"{1e3 * statistics.median(times[name]):.3g} ms{beside}")
        lines.append([case, what, *cells])
    return lines


def by_inputs(rounds: int) -> list[list[str]]:
    """An epoch's time against the number of inputs; the same nonzeros, in 10,000 columns of them."""
    n, nonzeros = 4_000, 60
    rng = np.random.default_rng(0)
    few = rng.integers(0, 10_000, n * nonzeros)
    lines = [["optimizer", "inputs", "an epoch, least", "median"]]
    for optimizer, update in (("sgd", "exact"), ("adam", "lazy")):
        runs = {}
        for width in (10_000, 100_000, 1_000_000):
            columns = rng.permutation(width)[:10_000].astype(np.int32)[few]
            starts = np.arange(0, len(few) + 1, nonzeros, dtype=np.int32)
            values = rng.random(len(few), dtype=np.float32)
            X = scipy.sparse.csr_array((values, columns, starts), shape=(n, width))
            runs[f"{width:,}"] = later_epochs(X, rng.integers(0, CLASSES, n), optimizer, update)
        for inputs, taken in interleave.run(runs, rounds).items():
            least, middle = (f"{1e3 * t:.3g} ms" for t in (min(taken), statistics.median(taken)))
            lines.append([f"{optimizer}, {update}", inputs, least, middle])
    return lines


def later_epochs(X: Any, y: Any, optimizer: str, update: str) -> Callable[[], float]:
    """Of a network that has had some: making one with a million inputs takes longer than to train it."""
    model = network(X.shape[1])
    options: dict[str, Any] = {"batch_size": BATCH, "optimizer": optimizer, "sparse_update": update}
    model.partial_fit(X, y, **options)
    return functools.partial(
        _seconds, functools.partial(model.partial_fit, X, y, **options), EPOCHS
    )


_MEMORY = """
import sys
from benchmarks import memory, sparse
X, y = sparse.texts(*map(int, sys.argv[1:4]))
model = sparse.network(X.shape[1])
options = {"batch_size": sparse.BATCH, "optimizer": sys.argv[4]}
model.fit(X[:400], y[:400], epochs=1, **options)  # what is loaded is there
model = sparse.network(X.shape[1])
grown = memory.growth(lambda: model.fit(X, y, epochs=sparse.EPOCHS, **options))
slots = {"sgd": 0, "nesterov": 1, "adam": 2}[sys.argv[4]]
print(grown - slots * sum(p.nbytes for p in model.parameters))
"""


def memory() -> list[list[str]]:
    """MB that a fit takes at most beside X, the parameters and the optimizer's state; on Linux."""
    lines = [["rows × inputs, nonzeros a row", "optimizer", "MB"]]
    for case in CASES:
        for optimizer in ("sgd", "nesterov", "adam"):
            command = [sys.executable, "-c", _MEMORY, *map(str, case), optimizer]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode == 0:
                label = f"{case[0]:,} × {case[1]:,}, {case[2]}"
                lines.append([label, optimizer, f"{int(run.stdout) / 2**20:.0f}"])
    return lines


def by_share(rounds: int) -> None:
    """Print the time of a step on sparse rows beside the same dense, by share of nonzeros."""
    n, width = 2_000, 2_000
    for optimizer in ("sgd", "adam"):
        for share in (0.05, 0.2, 0.4, 0.6):
            X = scipy.sparse.random_array((n, width), density=share, format="csr", rng=0)
            X = X.astype(np.float32)
            y = np.random.default_rng(0).integers(0, CLASSES, n)
            runs = {}
            for name, most in (("sparse", 2.0), ("dense", 0.0)):
                rows.SPARSE_SHARE = most
                runs[name] = later_epochs(X, y, optimizer, "exact")
            taken: dict[str, list[float]] = {"sparse": [], "dense": []}
            for _ in range(rounds):
                for name, most in (("sparse", 2.0), ("dense", 0.0)):
                    rows.SPARSE_SHARE = most
                    taken[name].append(runs[name]())
            sparse, dense = (1e3 * min(taken[name]) for name in ("sparse", "dense"))
            print(f"| {optimizer} | {share:.0%} | {sparse:.3g} ms | {dense:.3g} ms |", flush=True)


def topics(n: int, width: int, seed: int) -> tuple[Any, Any]:
    """Counts of words of texts on ten subjects, weighted as TF-IDF and of length 1; and the subjects."""
    rng = np.random.default_rng(0)
    common = 1 / (np.arange(width) + 10.0)
    subjects = common * rng.gamma(0.3, 1 / 0.3, (10, width))
    subjects /= subjects.sum(axis=1, keepdims=True)
    common /= common.sum()
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, n)
    lengths = rng.poisson(60, n) + 5
    picked = [
        rng.choice(width, length, p=0.7 * common + 0.3 * subjects[label])
        for label, length in zip(y, lengths, strict=True)
    ]
    starts = np.zeros(n + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    columns = np.concatenate(picked).astype(np.int32)
    X = scipy.sparse.csr_array((np.ones(len(columns)), columns, starts), shape=(n, width))
    X.sum_duplicates()
    X.data = 1 + np.log(X.data)
    X = scipy.sparse.csr_array(X * np.log(1 / (60 * common + 1e-3)).clip(0.1))
    norms = np.sqrt(X.power(2).sum(axis=1))
    return scipy.sparse.csr_array(X / norms[:, None]).astype(np.float32), y


def accuracy(seeds: int) -> None:
    """Print test accuracy by epoch, exact and lazy."""
    X, y = topics(6_000, 20_000, 1)
    T, t = topics(3_000, 20_000, 2)
    for optimizer, update in (
        ("adam", "exact"),
        ("adam", "lazy"),
        ("nesterov", "exact"),
        ("nesterov", "lazy"),
    ):
        rate = {"adam": 0.001, "nesterov": 0.1}[optimizer]
        found = []
        for seed in range(seeds):
            model = fastbp.MLP([20_000, HIDDEN, 10], seed=seed)
            history = model.fit(
                X,
                y,
                epochs=10,
                batch_size=BATCH,
                optimizer=optimizer,
                learning_rate=rate,
                validation=(T, t),
                sparse_update=update,
            )
            found.append(history.validation_score)
        means = 100 * np.array(found)
        cells = [
            f"{means[:, e - 1].mean():.1f} ± {means[:, e - 1].std():.1f}" for e in (1, 2, 3, 5, 10)
        ]
        print(f"| {optimizer}, {update} | " + " | ".join(cells) + " |", flush=True)


def one_row(rounds: int) -> list[list[str]]:
    """A prediction of one row."""
    lines = [["inputs", "one row"]]
    for case in CASES:
        X, _ = texts(*case)
        model, row = network(case[1]), X[:1]
        model.predict(row)
        taken = [_seconds(functools.partial(model.predict, row), 1000) for _ in range(rounds)]
        lines.append([f"{case[1]:,}", f"{1e6 * min(taken):.1f} µs"])
    return lines


def group(*, quick: bool = False) -> list[list[list[str]]]:
    """The tables of the report, each with its head."""
    chosen = CASES[:1] if quick else CASES
    warnings.simplefilter("ignore")
    fits = [record for case in chosen for record in measure(case, 2 if quick else 5)]
    found = [table(fits), one_row(3)]
    return found if quick else [*found, by_inputs(5), memory()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", type=int, choices=range(len(CASES)))
    for name in ("inputs", "share", "accuracy", "row", "memory"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.share:
        by_share(options.rounds)
    elif options.accuracy:
        accuracy(options.rounds)
    elif options.inputs:
        tables.show(by_inputs(options.rounds))
    elif options.row:
        tables.show(one_row(options.rounds))
    elif options.memory:
        tables.show(memory())
    else:
        chosen = CASES if options.case is None else [CASES[options.case]]
        tables.show(table([r for case in chosen for r in measure(case, options.rounds)]))


if __name__ == "__main__":
    main()
