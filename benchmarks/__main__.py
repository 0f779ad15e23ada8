"""`python -m benchmarks report`, `compare REV`, `cost`, `floor` or `files`, in a checkout."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    report = commands.add_parser("report", help="compare with other libraries, and write a page")
    report.add_argument("--quick", action="store_true", help="fewer rounds and smaller nets")
    report.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE")
    report.add_argument(
        "--from",
        dest="measured",
        type=Path,
        metavar="JSON",
        help="make the page from what an earlier run measured (the JSON beside its page)",
    )
    report.add_argument(
        "--docs",
        action="store_true",
        help="also replace the table of docs/benchmarks.md, and docs/ratios.svg",
    )

    compare = commands.add_parser("compare", help="compare this checkout with another revision")
    compare.add_argument("revision", metavar="REV", help="what git calls it")
    compare.add_argument("--rounds", type=int, default=15)

    cost = commands.add_parser("cost", help="time against width, depth, batch and threads")
    cost.add_argument("--out", type=Path, default=Path("cost.html"), metavar="FILE")

    floor = commands.add_parser("floor", help="time beside the least that this CPU could take")
    floor.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    floor.add_argument("--rounds", type=int, default=9)
    floor.add_argument("--engine", choices=["native", "jit"], default="native")

    files = commands.add_parser("files", help="reading files beside pandas and scikit-learn")
    files.add_argument("--quick", action="store_true", help="smaller files, one round")

    arguments = parser.parse_args()
    if arguments.command == "report":
        from benchmarks import report as report_

        report_.main(
            arguments.out,
            quick=arguments.quick,
            measured=arguments.measured,
            docs=arguments.docs,
        )
    elif arguments.command == "files":
        from benchmarks import files as files_

        files_.main(quick=arguments.quick)
    elif arguments.command == "floor":
        from benchmarks import floor as floor_

        floor_.main(dtype=arguments.dtype, rounds=arguments.rounds, engine=arguments.engine)
    elif arguments.command == "cost":
        from benchmarks import cost as cost_

        cost_.main(arguments.out)
    else:
        from benchmarks import compare as compare_

        compare_.main(arguments.revision, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
