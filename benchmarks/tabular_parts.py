"""What each part of the default network for tables is worth, and whether its probabilities are right.

    python -m benchmarks.tabular_parts [--ablation] [--calibration] [--splits N] [--rows N]

An ablation is a whole fit without one part, on sets of `benchmarks.tabular_tune`, beside the fit as it
comes. Calibration is of the reported sets: of test rows in bins by the probability of the class that is
predicted, how many are of that class.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.tabular import (
    CONTENDERS,
    REPORTED,
    SETS,
    Make,
    Result,
    measure,
    table,
    trials,
)

__all__ = ["ABLATIONS", "Calibration", "calibrations", "main", "table_of_calibrations"]

ABLATION_SETS = ("phoneme", "hr", "german", "arrests", "bikeshare", "fifa", "fair")
BINS = 10
AS_IT_COMES = "fastbp"


def _without(options: dict[str, Any] | None = None, **parts: Any) -> Make:
    """An estimator as it comes, but for parts of its recipe, or options of its own."""

    def make(regression: bool, seed: int) -> Any:
        import fastbp

        kind: Any = fastbp.TabularRegressor if regression else fastbp.TabularClassifier

        class Changed(kind):  # type: ignore[misc]
            def _recipe(self) -> Any:
                return replace(super()._recipe(), **parts)

        return Changed(random_state=seed, **(options or {}))

    return make


# Labels are smoothed for metric="accuracy" only, and these are log-losses.
ABLATIONS: dict[str, Make] = {
    AS_IT_COMES: _without(),
    "fastbp, one network": _without({"n_members": 1}),
    "fastbp, no embeddings": _without(waves=False),
    "fastbp, no scale, no W / √d": _without(scaled=False),
    "fastbp, SELU or Mish as it is": _without(blended=False),
    "fastbp, usual first values": _without(fitted=False),
    "fastbp, rate down once": _without(cycles=False),
    "fastbp, no dropout": _without(dropout=0.0),
    "fastbp, no decay": _without(decay=0.0),
}


def _calibrated(regression: bool, seed: int) -> Any:
    import fastbp

    return fastbp.TabularClassifier(calibrate=True, random_state=seed)


CALIBRATED: dict[str, Make] = {
    "fastbp": CONTENDERS["fastbp"],
    "fastbp, calibrate=True": _calibrated,
    "catboost": CONTENDERS["catboost"],
    "lightgbm": CONTENDERS["lightgbm"],
    "histogram": CONTENDERS["histogram"],
}


@dataclass
class Calibration:
    """Of each bin that has rows: their mean probability, the share that is right, how many they are."""

    contender: str
    probability: list[float]
    right: list[float]
    rows: list[int]

    @property
    def error(self) -> float:
        """Σ rows |right − probability| / Σ rows: the expected calibration error."""
        gaps = np.abs(np.array(self.right) - np.array(self.probability))
        return float((gaps * self.rows).sum() / sum(self.rows))


def calibration(contender: str, top: Any, right: Any) -> Calibration:
    """Of the probabilities of the classes that were predicted, and of whether they were right."""
    place = np.minimum((top * BINS).astype(int), BINS - 1)
    bins = [place == b for b in range(BINS) if (place == b).any()]
    return Calibration(
        contender,
        [float(top[b].mean()) for b in bins],
        [float(right[b].mean()) for b in bins],
        [int(b.sum()) for b in bins],
    )


def calibrations(
    sets: Iterable[str], contenders: dict[str, Make], splits: int, rows: int
) -> list[Calibration]:
    """Of every contender, over all splits of all sets of classes."""
    tops: dict[str, list[tuple[Any, Any]]] = {}
    of_classes = [name for name in sets if SETS[name].task == "classification"]
    for trial in trials(of_classes, contenders, splits, rows):
        p = trial.probabilities()
        top = p.max(axis=1), p.argmax(axis=1) == trial.y
        tops.setdefault(trial.contender, []).append(top)
    return [
        calibration(contender, *map(np.concatenate, zip(*pairs, strict=True)))
        for contender, pairs in tops.items()
    ]


def table_of_calibrations(found: Sequence[Calibration]) -> list[list[str]]:
    """Rows of texts, the head first: errors, and where most of the rows are."""
    lines = [["probabilities of", "expected calibration error", "most rows: right · told"]]
    for each in found:
        most = int(np.argmax(each.rows))
        told = f"{each.right[most]:.3f} · {each.probability[most]:.3f}"
        lines.append([each.contender, f"{each.error:.4f}", told])
    return lines


def ablations(splits: int, rows: int, sets: Sequence[str] = ABLATION_SETS) -> list[Result]:
    """Fits without each part."""
    return measure(sets, ABLATIONS, splits, rows, first=100)  # the splits of the choice of defaults


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabular_parts", description=__doc__)
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--calibration", action="store_true")
    args = parser.parse_args()
    if args.ablation or not args.calibration:
        print(table(ablations(args.splits, args.rows), base=AS_IT_COMES))
    if args.calibration or not args.ablation:
        found = calibrations(REPORTED, CALIBRATED, args.splits, args.rows)
        tables.show(table_of_calibrations(found))


if __name__ == "__main__":
    main()
