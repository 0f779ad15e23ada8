"""One network by several ranks of MPI: the bits of one process, and all ranks of one mind."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import model_file
from fastbp.distributed import epochs
from fastbp.engines import native

pytest.importorskip("mpi4py.MPI", reason="needs mpi4py and an MPI library")

HERE = Path(__file__).parent
MPIEXEC = shutil.which(
    "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)
NATIVE = pytest.mark.skipif(not native.available(), reason="needs the native engine")


def start(ranks: int, *args: object) -> subprocess.Popen[str]:
    assert MPIEXEC is not None, "mpi4py is there, but no mpiexec"
    command = [MPIEXEC, "-n", str(ranks), sys.executable, str(HERE / "mpi_program.py")]
    return subprocess.Popen(
        [*command, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 180) -> tuple[int, str, str]:
    """Its status and output; ends it, ranks and all, if it takes too long."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"the ranks did not end:\n{out}\n{err}") from None
    return process.returncode, out, err


def run(ranks: int, *args: object) -> list[Any]:
    """What each rank found."""
    status, out, err = finish(start(ranks, *args))
    assert status == 0, err + out
    found: list[Any] = json.loads(out.splitlines()[-1])
    return found


@NATIVE
@pytest.mark.parametrize(("ranks", "every"), [(1, 3), (2, 1), (3, 3), (4, 7)])
def test_bits_of_an_engine_are_those_of_one_process(ranks: int, every: int) -> None:
    assert run(ranks, "different_bits", "native", every) == [[]] * ranks


@NATIVE
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_bits_of_a_fit_are_those_of_one_process(ranks: int) -> None:
    assert run(ranks, "different_fits") == [[]] * ranks


@NATIVE
@pytest.mark.parametrize("ranks", [2, 3])
def test_networks_for_tables_have_the_bits_of_one_process_or_are_refused(ranks: int) -> None:
    wanted = [
        "comm must be a communicator of mpi4py, got int",
        f"the same epochs, but rank {ranks - 1} has 3 and rank 0 has 4",
        "the same values of X",
        "infinity",
        "n_members must be an integer ≥ 1, got 0",
    ]
    for different, said, members in run(ranks, "of_tabular"):
        assert not different
        for text, part in zip(said, wanted, strict=True):
            assert part in text
        assert members >= 1


@NATIVE
def test_estimators_have_the_bits_of_one_process_or_are_refused() -> None:
    wanted = [
        "comm needs a stochastic solver, but solver is 'lbfgs'",
        "comm must be a communicator of mpi4py, got int",
        "the same l2, but rank 2 has 0.5 and rank 0 has 0.1",
        "the same max_iter, but rank 2 has 3 and rank 0 has 4",
        "the same values of X",
        "NaN",
        "hidden_layer_sizes must be > 0",
    ]
    for different, said in run(3, "of_estimators"):
        assert not different
        for text, part in zip(said, wanted, strict=True):
            assert part in text


@pytest.mark.parametrize("engine", ["reference", *(["native"] if native.available() else [])])
def test_who_shares_steps(engine: str) -> None:
    warns = engine != "native"
    assert run(2, "other_engine", engine) == [[True, warns], [True, False]]


@NATIVE
def test_minibatches_of_one_row() -> None:
    assert run(2, "single_rows") == [True, True]


@NATIVE
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_each_rank_its_own_rows(ranks: int) -> None:
    assert run(ranks, "own_rows") == [[]] * ranks


@NATIVE
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_local_steps_and_the_mean(ranks: int) -> None:
    assert run(ranks, "averaged") == [[]] * ranks


@NATIVE
def test_ranks_that_differ_are_refused_by_name() -> None:
    wanted = {
        "epochs": "epochs must be an integer ≥ 1, got 0",
        "batch_size": "the same batch_size, but rank 2 has 7 and rank 0 has 8",
        "optimizer": "the same optimizer, but rank 2 has SGD",
        "X": "the same values of X",
        "rows of X": "the same shape of X, but rank 2 has (119, 12) and rank 0 has (120, 12)",
        "layers": "the same stages",
        "dtype": "the same dtype",
        "engine": "the same engine, but rank 2 has reference and rank 0 has native",
        "version": "the same version of fastbp, but rank 2 has 9.9",
        "instruction set": "the same instruction set (FASTBP_ISA), but rank 2 has sse9",
        "learning_rate": "the same learning_rate",
        "shuffle": "the same shuffle, but rank 2 has True",
        "rows": "the same rows, but rank 2 has 'own'",
        "sync": "the same sync, but rank 2 has 1",
        "generator": "the same random generator, but rank 2 has MT19937",
        "nothing": "",
    }
    for found in run(3, "refusals"):
        assert [name for name, _ in found] == list(wanted)
        for name, text in found:
            assert wanted[name] in text, name
            assert text.startswith("ValueError") or name == "nothing"


@NATIVE
def test_misuse() -> None:
    for found in run(2, "misuse"):
        for text, wanted in zip(
            found,
            [
                "TypeError: comm must be a communicator of mpi4py, got str",
                "rows must be 'shared' or 'own'",
                "sync must be",
                "comm is None",
                "comm is None",
                "validation with rows='own'",
                "class_weight with rows='own'",
                "X must be dense with rows='own'",
                "rows='own' without sync needs engine 'native', got 'reference'",
                "rows='own' without sync needs precision None, got 'bf16'",
                "rows='own' without sync needs batch_size > 1",
            ],
            strict=True,
        ):
            assert wanted in text


@NATIVE
def test_what_rank_0_fails_in_is_raised_on_all() -> None:
    for found in run(3, "root_errors"):
        for text, wanted in zip(
            found[::2], ["OSError: disk full", "", "/proc/none", "DivergenceError"], strict=True
        ):
            assert wanted in text
        assert found[1::2] == ["True True"] * 4


@NATIVE
def test_a_checkpoint_of_ranks(tmp_path: Path) -> None:
    assert run(2, "resumed", tmp_path / "a") == [True, True]


@NATIVE
@pytest.mark.parametrize(("wrote", "reads"), [(1, 3), (3, 2), (2, 1)])
def test_any_number_of_ranks_goes_on(tmp_path: Path, wrote: int, reads: int) -> None:
    run(wrote, "writes", tmp_path / "a")
    assert run(reads, "goes_on", tmp_path / "a") == [True] * reads


@NATIVE
def test_an_interrupt_of_one_rank_stops_all_after_the_same_step() -> None:
    assert run(3, "interrupted") == [[True, "interrupt", True, True]] * 3


@NATIVE
def test_an_error_of_one_rank_alone_ends_all() -> None:
    status, _, err = finish(start(3, "fails_alone"), 60)
    assert status != 0
    assert "rank 2 of 3" in err
    assert "none left" in err


@NATIVE
@pytest.mark.parametrize("seed", range(3))
def test_a_rank_that_is_killed_ends_all_and_leaves_a_checkpoint(tmp_path: Path, seed: int) -> None:
    kill_one(tmp_path / "a", 3, random.Random(seed))


def kill_one(path: Path, ranks: int, rng: random.Random) -> None:
    """Kill one of them some time after the first checkpoint; the rest must end, the file be whole."""
    process = start(ranks, "trains_forever", path)
    victim = rng.randrange(ranks)
    try:
        until = time.monotonic() + 60
        while not path.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until, "no checkpoint in a minute"
            time.sleep(0.02)
        time.sleep(rng.random())
        os.kill(int(Path(f"{path}.{victim}").read_text()), signal.SIGKILL)
        status, _, _ = finish(process, 60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert status != 0
    for rank in range(ranks):
        pid = int(Path(f"{path}.{rank}").read_text())
        assert not Path(f"/proc/{pid}").exists() or rank == victim or _is_gone(pid)
    assert "training" in model_file.read(path)[0]  # checks its sum


def _is_gone(pid: int) -> bool:
    """Within some seconds."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@functools.cache
def _counts() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [[1], [3, 3], [5, 1], *rng.integers(1, 30, (20, 4)).tolist()]


@pytest.mark.parametrize("counts", _counts())
def test_rows_of_ranks_are_spread_evenly(counts: list[int]) -> None:
    whose = epochs.interleave(np.array(counts))
    assert np.bincount(whose, minlength=len(counts)).tolist() == counts
    n = len(whose)
    for rank, count in enumerate(counts):  # at any time nearly its share has come
        come = np.cumsum(whose == rank)
        # within one row of its own, and one for each other rank that was before it
        assert np.abs(come - np.arange(1, n + 1) * count / n).max() <= 1 + len(counts) / 2


def command(ranks: int, folder: Path, *args: object) -> tuple[int, str, str]:
    """`fastbp train` by so many ranks; 0: without MPI."""
    launch = [MPIEXEC, "-n", str(ranks)] if ranks else []
    program = [*launch, sys.executable, "-m", "fastbp", "train", *(["--mpi"] if ranks else [])]
    return finish(
        subprocess.Popen(
            [*map(str, program), *map(str, args)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    )


def weights_in(file: Path) -> bytes:
    """Behind the header, which says how many seconds a fit took."""
    found = file.read_bytes()
    return found[8 + int.from_bytes(found[:8], "little") :]


TRAIN = ("--hidden", "16", "--epochs", 2, "--quiet")


def saved(ranks: int, folder: Path, *args: object) -> Path:
    """The file that `fastbp train` by so many ranks writes; t.csv is there for it."""
    rng = np.random.default_rng(0)
    rows = [f"{a},{b},{'u' if a > b else 'v'}" for a, b in rng.random((60, 2))]
    (folder / "t.csv").write_text("\n".join(["a,b,c", *rows]))
    save = folder / f"by{ranks}"
    status, out, err = command(ranks, folder, *args, *TRAIN, "--save", save)
    assert (status, err) == (0, "")
    assert out.count("model saved to") == 1
    return save


@NATIVE
@pytest.mark.parametrize("args", [("t.csv", "--target", "c", "--model", "plain"), ()])
def test_the_command_by_ranks_writes_what_one_process_does(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    one = saved(0, tmp_path, *args).read_bytes()
    for ranks in (1, 3):
        assert saved(ranks, tmp_path, *args).read_bytes() == one


@NATIVE
def test_networks_of_the_command_by_ranks_are_those_of_one_process(tmp_path: Path) -> None:
    one, three = (weights_in(saved(ranks, tmp_path, "t.csv", "--target", "a")) for ranks in (0, 3))
    assert three == one


@NATIVE
@pytest.mark.parametrize(
    ("args", "wanted", "status"),
    [
        (("none.csv", "--target", "c"), "none.csv: No such file", 2),
        (("--epochs", 0), "--epochs must be an integer ≥ 1", 2),
        (("--learning-rate", 1e30, *TRAIN), "the loss became", 1),
    ],
)
def test_errors_of_the_command_are_told_once(
    tmp_path: Path, args: tuple[object, ...], wanted: str, status: int
) -> None:
    found, _, err = command(3, tmp_path, *args)
    assert found == status
    assert err.startswith("fastbp: ")
    assert err.count(wanted) == 1
