"""What the defaults of the tabular estimators were chosen by: error against work, on sets for that only.

    python -m benchmarks.tabular_tune [--sets NAME,…] [--splits N] [--save FILE]

Every variation is a whole fit on one thread, so its seconds say how much work it is. The splits are not
those of `benchmarks.tabular`, whose report is of the choice made here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.tabular import CONTENDERS, measure, table

__all__ = ["VARIATIONS", "main"]

SETS = "phoneme,texture,satimage,marketing,hr,german,caravan,arrests,bikeshare,fifa,randhie,fair"
FIRST_SPLIT = 100
NARROW = (128, 128, 128)
WIDE: dict[str, Any] = {"hidden_layer_sizes": (256, 256, 256), "batch_size": 256}


def _variation(**options: Any) -> Callable[[bool, int], Any]:
    options = WIDE | options

    def make(regression: bool, seed: int) -> Any:
        import fastbp

        kind = fastbp.TabularRegressor if regression else fastbp.TabularClassifier
        return kind(random_state=seed, n_jobs=1, **options)

    return make


VARIATIONS: dict[str, Callable[[bool, int], Any]] = {
    "fastbp 256 epochs": _variation(epochs=256, n_members=1),
    "fastbp 128 epochs": _variation(epochs=128, n_members=1),
    "fastbp 64 epochs": _variation(epochs=64, n_members=1),
    "fastbp 2 × 64": _variation(epochs=64, n_members=2),
    "fastbp 4 × 64": _variation(epochs=64, n_members=4),
    "fastbp 2 × 128": _variation(epochs=128, n_members=2),
    "fastbp 4 × 128, narrow": _variation(epochs=128, n_members=4, hidden_layer_sizes=NARROW),
    "fastbp 8 × 64, narrow": _variation(epochs=64, n_members=8, hidden_layer_sizes=NARROW),
    "fastbp 4 × 32": _variation(epochs=32, n_members=4),
    "fastbp 8 × 64, narrow, batch 128": _variation(
        epochs=64, n_members=8, hidden_layer_sizes=NARROW, batch_size=128
    ),
    "fastbp 16 × 64, narrow, batch 128": _variation(
        epochs=64, n_members=16, hidden_layer_sizes=NARROW, batch_size=128
    ),
    "fastbp 6 × 64, narrow, batch 128": _variation(
        epochs=64, n_members=6, hidden_layer_sizes=NARROW, batch_size=128
    ),
    "fastbp 8 × 64, narrow, batch 64": _variation(
        epochs=64, n_members=8, hidden_layer_sizes=NARROW, batch_size=64
    ),
    "fastbp 4 × 64, batch 64": _variation(epochs=64, n_members=4, batch_size=64),
    "fastbp 4 × 64, batch 32": _variation(epochs=64, n_members=4, batch_size=32),
    "fastbp 4 × 64, batch 64, narrow": _variation(
        epochs=64, n_members=4, batch_size=64, hidden_layer_sizes=NARROW
    ),
    "catboost": CONTENDERS["catboost"],
    "lightgbm": CONTENDERS["lightgbm"],
}


def main() -> None:
    """Measure the variations."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabular_tune", description=__doc__)
    parser.add_argument("--sets", default=SETS)
    parser.add_argument("--variations", default=",,".join(VARIATIONS))
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--save")
    args = parser.parse_args()
    chosen = {name: VARIATIONS[name] for name in args.variations.split(",,")}
    results = measure(args.sets.split(","), chosen, args.splits, args.rows, FIRST_SPLIT)
    if args.save:
        Path(args.save).write_text("".join(json.dumps(asdict(r)) + "\n" for r in results))
    print(table(results))


if __name__ == "__main__":
    main()
