"""`experiment` from the command line, on real trainings of two epochs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from optuna_deepweeds.cli.experiment import experiment
from optuna_deepweeds.errors import InvalidInputError, NotFoundError

GRID = """
name = "tiny"
dataset = "demo"
space = "course-small"
epochs = 1
samplers = ["random"]
pruners = ["none"]
seeds = [1, 2]
trials = 1

[evaluate]
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


def test_plan_tells_the_cost(here: Path) -> None:
    assert "2 studies of at most 1 trials, 1 epochs a network, then 2 trainings" in (
        run("plan", "grid.toml").stderr
    )
    assert "At most 36.0 h left" in run("plan", "published").stderr


def test_plan_refuses_an_unknown_data_set(here: Path) -> None:
    Path("grid.toml").write_text(Path("grid.toml").read_text().replace('"demo"', '"demi"'))
    with pytest.raises(InvalidInputError, match="Did you mean 'demo'"):
        run("plan", "grid.toml")


def test_jobs_and_workers_exclude_each_other(here: Path) -> None:
    result = run("run", "grid.toml", "--jobs", "2", "--workers", "2")
    assert result.exit_code == 2 and "cannot both be more than 1" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_run_goes_on_and_reports(here: Path, jobs: str) -> None:
    once = ("run", "grid.toml", "--device", "cpu", "--jobs", jobs)
    assert "All 2 studies are done" in run(*once).stderr
    assert "2 of 2 studies are done already" in run(*once).stderr
    rows = json.loads(run("plan", "grid.toml", "-f", "json").stdout)
    assert {r["state"] for r in rows} == {"tested"}
    result = run("report", "grid.toml", "-f", "json")
    (method,) = json.loads(result.stdout)
    assert method["seeds"] == 2 and 0 < method["test"] < 1
    assert (here / "reports" / "tiny.html").exists()
    # A network, a confusion matrix and its picture of each study.
    assert len(list((here / "artifacts").iterdir())) == 6
