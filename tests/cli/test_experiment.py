"""`experiment` from the command line, on real trainings of two epochs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.cli.conftest import Command

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
def grid(command: Command) -> Command:
    """`experiment` beside the file grid.toml."""
    Path("grid.toml").write_text(GRID)
    return partial(command, "experiment")


def test_plan_tells_studies_and_cost_and_changes_nothing(grid: Command) -> None:
    plan = grid("plan", "grid.toml", "-f", "json")
    assert [(r["study"], r["state"]) for r in plan.json] == [
        ("tiny-random-none-seed1", "to do"),
        ("tiny-random-none-seed2", "to do"),
    ]
    assert "2 studies of at most 1 trials, 1 epoch a network, then 2 trainings" in plan.err
    assert "At most 36.0 h left" in grid("plan", "published").err
    assert [p.name for p in Path().iterdir()] == ["grid.toml"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("report", "grid.toml"), 3, "experiment run grid.toml"),
        (("plan", "demi.toml"), 2, "Did you mean 'demo'"),
        (("run", "grid.toml", "--jobs", "2", "--workers", "2"), 2, "cannot both be more than 1"),
    ],
)
def test_what_cannot_be_done_is_told(
    grid: Command, args: tuple[str, ...], code: int, says: str
) -> None:
    Path("demi.toml").write_text(GRID.replace('"demo"', '"demi"'))
    result = grid(*args)
    assert result.code == code and says in result.err


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_run_goes_on_and_reports(grid: Command, jobs: str) -> None:
    once = ("run", "grid.toml", "--device", "cpu", "--jobs", jobs)
    assert "All 2 studies are done" in grid(*once).err
    assert "2 of 2 studies are done already" in grid(*once).err
    assert {r["state"] for r in grid("plan", "grid.toml", "-f", "json").json} == {"tested"}
    (method,) = grid("report", "grid.toml", "-f", "json").json
    assert method["seeds"] == 2 and 0 < method["test"] < 1
    assert Path("reports/tiny.html").exists()
    # A network, a confusion matrix, its picture and the one of the curves, of each study.
    assert len(list(Path("storage/artifacts").iterdir())) == 8
