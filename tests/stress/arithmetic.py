"""Numbers under stress: python arithmetic.py [subnormals] [long] [sums]   (all, if none is named)

subnormals: training time where inputs, weights, errors or the optimizer's state are subnormal, over
that with ordinary numbers. Below 2 is the aim.
long: 1,000,000 steps of a tiny net end in the same bits on 1, 2 and 3 threads.
sums: losses and gradients over a batch of 65,536 rows against the bounds of error_bounds.py.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastbp
from fastbp.engines import native

sys.path.insert(0, str(Path(__file__).parents[1]))


def subnormals() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4096, 64)).astype(np.float32)
    tiny = np.float32(1e-40)

    def seconds(
        optimizer: str = "sgd", x: Any = 1, y: Any = 1, w: Any = 1, state: Any = 0
    ) -> float:
        model = fastbp.MLP([64, 256, 256, 8], loss="squared_error", seed=0, threads=1)
        model.parameters = [p * w for p in model.parameters]
        plan, _ = model._training_plan(optimizer, 256, 0.0, 0.0)
        engine = model._holder.use(plan)
        if plan.optimizer.slots:
            slots = [[np.full_like(p, state) for p in model.parameters]] * plan.optimizer.slots
            engine.set_optimizer_state(1, slots)
        targets = np.zeros((4096, 8), np.float32)
        if y != 1:  # errors as small as y
            targets[...] = model.predict(X * x) + y
        best = float("inf")
        losses = np.empty(16)
        order = np.arange(4096)
        for _ in range(9):
            start = time.perf_counter()
            engine.epoch(X * x, targets, None, order, np.full(16, 0.0), losses)
            best = min(best, time.perf_counter() - start)
        return best

    plain = {o: seconds(o) for o in ("sgd", "momentum", "adam", "rmsprop")}
    for name, got, base in (
        ("inputs", seconds(x=tiny), plain["sgd"]),
        ("inputs and weights", seconds(x=np.float32(1e-20), w=np.float32(1e-20)), plain["sgd"]),
        ("weights", seconds(w=tiny), plain["sgd"]),
        ("errors", seconds(w=np.float32(1e-15), y=np.float32(1e-39)), plain["sgd"]),
        ("momentum", seconds("momentum", x=0, state=tiny), plain["momentum"]),
        ("adam's moments", seconds("adam", x=0, state=tiny), plain["adam"]),
        ("rmsprop's squares", seconds("rmsprop", x=0, state=tiny), plain["rmsprop"]),
    ):
        print(f"subnormal {name}: {got / base:.2f} times as long")


def long(steps: int = 1_000_000, threads: tuple[int, ...] = (1, 2, 3)) -> None:
    # Wide enough for two threads to be used.
    rng = np.random.default_rng(0)
    sizes, batch, rows = [32, 64, 8], 128, 6400
    X = rng.standard_normal((rows, sizes[0])).astype(np.float32)
    y = (X @ rng.standard_normal((sizes[0], sizes[-1]))).argmax(axis=1)
    digests = {}
    for count in threads:
        model = fastbp.MLP(sizes, seed=0, dropout=0.1, threads=count)
        per_epoch = rows // batch
        history = model.fit(
            X, y, epochs=steps // per_epoch, batch_size=batch, optimizer="adam", learning_rate=1e-3
        )
        digest = hashlib.sha256(b"".join(p.tobytes() for p in model.parameters)).hexdigest()
        digests[count] = digest[:16]
        print(f"{count} threads: {history.epochs * per_epoch:,} steps, loss {history.loss[-1]:.6f}")
    assert len(set(digests.values())) == 1, digests
    print(f"the same bits on {', '.join(map(str, threads))} threads: {digests[threads[0]]}")


def sums(rows: int = 65_536) -> None:
    from engine_cases import gradient, make_case, make_engine
    from error_bounds import bounds

    for loss in ("squared_error", "softmax_cross_entropy", "binary_cross_entropy", "poisson"):
        exact = make_case((24, 20, 5), loss=loss, rows=rows, batch_size=rows)
        limit = bounds(exact.astype("float32"))
        wanted_loss, wanted = gradient(make_engine("reference", exact), exact)
        for engine in ("native", "reference") if native.available() else ("reference",):
            case = exact.astype("float32")
            got_loss, got = gradient(make_engine(engine, case, threads=2), case)
            used = [abs(got_loss - wanted_loss) / limit.loss]
            for g, w, b in zip(got, wanted, limit.gradient, strict=True):
                used.append(float((np.abs(g - w) / b).max()))
            print(f"{loss}, {engine}: at most {max(used):.3f} of the bound")
            assert max(used) <= 1


if __name__ == "__main__":
    for name in sys.argv[1:] or ("subnormals", "long", "sums"):
        {"subnormals": subnormals, "long": long, "sums": sums}[name]()
