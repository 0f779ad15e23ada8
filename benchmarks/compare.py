"""Another revision of fastbp beside this checkout: interleaved ratios of times, and instructions.

Both are built the same way, from a copy, into directories of their own; the benchmarks are this
checkout's. Instructions are counted by callgrind, which knows no AVX-512: those counts are of the AVX2
kernels.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import cases, equivalence, groups, interleave
from benchmarks.cases import Case
from benchmarks.worker import ROOT, Worker, available_threads, environment

COUNTED = ("tiny", "small")


@contextmanager
def _revision(name: str, folder: Path) -> Iterator[Path]:
    """A work tree of that revision."""
    tree = folder / "tree"
    _run("git", "-C", ROOT, "worktree", "add", "--detach", "--force", tree, name)
    try:
        yield tree
    finally:
        _run("git", "-C", ROOT, "worktree", "remove", "--force", tree)


def _copy_of_checkout(folder: Path) -> Path:
    """What is here now, committed or not, without products of earlier builds."""
    tree = folder / "here"
    listed = _run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def build(tree: Path, site: Path) -> None:
    """Build fastbp from the tree into `site`, compiled modules and all."""
    here = all(importlib.util.find_spec(m) for m in ("Cython", "setuptools", "wheel"))
    isolation = ["--no-build-isolation"] if here else []
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *isolation]
    _run(*pip, "--target", site, tree)


def _run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr or done.stdout}")
    return done.stdout


def times(case: Case, sites: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step for each build, round by round."""
    truth = equivalence.exact(case)
    workers = {name: Worker("fastbp", available_threads(), site) for name, site in sites.items()}
    try:
        measure = {}
        for name, worker in workers.items():
            worker.load(case)
            groups.prove(worker, case, truth)
            worker.choose_threads(cases.flops_per_step(case), "train", 1)
            epochs = interleave.repetitions(worker.train(1), groups.ROUND_SECONDS)
            measure[name] = groups.per(worker.train, epochs, epochs * case.steps)
        return interleave.run(measure, rounds)
    finally:
        for worker in workers.values():
            worker.close()


def instructions(case: Case, site: Path) -> int:
    """Instructions of a step, on one thread: the difference between two lengths of training."""
    few = cases.first_steps(case, 256)  # so many that calling an epoch is little of it

    def count(epochs: int) -> int:
        code = (
            f"import sys; sys.path.append({str(ROOT)!r})\n"
            "from benchmarks import cases, contenders\n"
            f"from benchmarks.cases import Case\ncase = {few!r}\n"
            "c = contenders.create('fastbp', case, 1)\nc.set_data(*cases.data(case))\n"
            "c.set_parameters(cases.parameters(case))\n"
            f"for order in cases.orders(case, {epochs}): c.epoch(order)\n"
        )
        tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        # Hashes of strings, and so the work of dictionaries, must not differ from run to run.
        env = environment(1, site) | {"PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [*tool, sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True
        )
        found = re.search(r"Collected : (\d+)", done.stderr)
        if found is None or done.returncode:
            raise SystemExit(f"callgrind failed:\n{done.stderr[-2000:]}")
        return int(found[1])

    first, more = 1, 4
    return round((count(more) - count(first)) / ((more - first) * few.steps))


def main(revision: str, *, rounds: int) -> None:
    """Build both, and print their times and instructions side by side."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sites = {revision: folder / "site-revision", "here": folder / "site-here"}
        print(f"building {revision} and this checkout", file=sys.stderr)
        with _revision(revision, folder) as tree:
            build(tree, sites[revision])
        build(_copy_of_checkout(folder), sites["here"])

        width = max(len(revision), 12)
        print(f"\nmicroseconds a step, median of {rounds} interleaved rounds, all threads")
        print(f"{'net, batch':<32}{revision:>{width}}{'here':>12}   {revision} ÷ here (quartiles)")
        for case in cases.CASES.values():
            few = min(rounds, 5) if cases.flops_per_step(case) > 1e11 else rounds
            seconds = times(case, sites, few)
            before, after = (statistics.median(seconds[s]) * 1e6 for s in sites)
            r = interleave.ratio(seconds[revision], seconds["here"])
            print(
                f"{case.label:<32}{before:>{width},.2f}{after:>12,.2f}   "
                f"{r.median:.3f} ({r.low:.3f}–{r.high:.3f})",
                flush=True,
            )

        if shutil.which("valgrind") is None:
            print("\nno instruction counts: valgrind is not installed")
            return
        print("\ninstructions a step, one thread, AVX2")
        for case in (cases.CASES[c] for c in COUNTED):
            before, after = (instructions(case, site) for site in sites.values())
            print(
                f"{case.label:<32}{before:>{width},}{after:>12,}   {before / after:.3f}", flush=True
            )
