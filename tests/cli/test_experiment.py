"""`experiment` from the command line, on real trainings of two epochs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from optuna_deepweeds.cli.experiment import experiment
from optuna_deepweeds.errors import NotFoundError

GRID = """
name = "tiny"
dataset = "demo"
space = "course-small"
epochs = 1
samplers = ["random"]
pruners = ["none"]
seeds = [1, 2]
trials = 1
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path}/s.db")
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


def run(*args: str) -> Result:
    result = CliRunner().invoke(experiment, args)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_plan_changes_nothing(here: Path) -> None:
    rows = json.loads(run("plan", "grid.toml", "-f", "json").stdout)
    assert [(r["study"], r["state"]) for r in rows] == [
        ("tiny-random-none-seed1", "to do"),
        ("tiny-random-none-seed2", "to do"),
    ]
    assert [p.name for p in here.iterdir()] == ["grid.toml"]


def test_report_before_the_first_study_says_so(here: Path) -> None:
    with pytest.raises(NotFoundError, match="experiment run grid.toml"):
        run("report", "grid.toml")


@pytest.mark.slow
def test_run_goes_on_and_reports(here: Path) -> None:
    assert "All 2 studies are done" in run("run", "grid.toml", "--device", "cpu").stderr
    assert run("run", "grid.toml", "--device", "cpu").stderr.count("done already") == 2
    rows = json.loads(run("plan", "grid.toml", "-f", "json").stdout)
    assert {r["state"] for r in rows} == {"done"}
    result = run("report", "grid.toml", "-f", "json")
    assert json.loads(result.stdout)[0]["seeds"] == 2
    assert (here / "reports" / "tiny.html").exists()
