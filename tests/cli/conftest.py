"""Runs the command line as a user would see it, in this process."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from optuna_deepweeds.cli import main
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, data and messages."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The data of `-f json`."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def csv(self) -> list[dict[str, str]]:
        """The rows of `-f csv`."""
        assert self.code == 0, self.err
        return list(csv.DictReader(io.StringIO(self.out)))


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

    def run(*args: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        output = capsys.readouterr()
        return Result(int(stop.value.code or 0), output.out, output.err)

    return run


@pytest.fixture
def studied(command: Command) -> Command:
    """`command` with an empty study `mine` in its storage."""
    spec = StudySpec(dataset="demo")
    manager.create_or_continue("mine", spec, Budget(trials=5), open_storage())
    return command
