"""Runs the command line as a user would see it, in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from optuna_deepweeds.cli import main


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, data and messages."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`command("study", "list")` in an empty directory without any images."""
    monkeypatch.chdir(tmp_path)
    for variable in ("OPTUNA_STORAGE", "DEEPWEEDS_DATA", "DEEPWEEDS_CHECKPOINTS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*args: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(args)
        output = capsys.readouterr()
        return Result(int(stop.value.code or 0), output.out, output.err)

    return run
