"""The command, run as a person would: `run`, and `refused` for what is one line of an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run

from fastbp.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def call(*args: object) -> Run:
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as exit_:  # argparse
            status = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def refused(run, tmp_path: Path):
    """The one line that a mistake gives; nothing is written."""

    def call(*args: object) -> str:
        before = sorted(tmp_path.iterdir())
        status, _, err = run(*args)
        assert status == 2
        assert err.count("\n") == 1
        assert err.startswith("fastbp: ")
        assert len(err) < 700
        assert sorted(tmp_path.iterdir()) == before
        return err

    return call
