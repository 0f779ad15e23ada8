"""The estimators beside scikit-learn's: any parameters, any data, three calls.

    python tests/stress/estimators.py [--seconds 60] [--seed 0]

Each case is a seed of its own, which the message names.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_estimators_differential import compare_at_random


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    end, seed, wrong = time.monotonic() + options.seconds, options.seed, 0
    while time.monotonic() < end:
        try:
            compare_at_random(seed)
        except AssertionError as error:
            print(f"seed {seed}: {error}")
            wrong += 1
        seed += 1
    print(f"{seed - options.seed} cases, {wrong} of them not as scikit-learn's")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
