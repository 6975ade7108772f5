"""What ending flat loses and saves is read from whole studies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optuna_deepweeds.bench.ending import run_cell, summarise
from optuna_deepweeds.bench.families import curves_of
from optuna_deepweeds.bench.results import Cell, Run
from optuna_deepweeds.cli import main

CASE = {"task": "power_1", "digest": "", "max_resource": 10}


@pytest.mark.parametrize("pruner", ["none", "dora-thaw"])
def test_a_study_ended_at_any_trial_ends_with_its_best_trained(pruner: str) -> None:
    cell = Cell(CASE, {"sampler": "random", "pruner": pruner}, 0, 12, ("power_1",))
    found, table = run_cell(cell), curves_of("power_1").cut(10)
    spent = best = 0.0
    for (epochs, value, _), (cost, end) in zip(found["course"], found["ended"], strict=True):
        spent, best = spent + epochs, max(best, value)
        assert spent <= cost and end in table.values[:, -1].round(6)
        assert table.reports[table.values[:, -1].round(6) == end, -1].max() >= best - 1e-9
        assert (spent == cost) >= (pruner == "none")
    assert 100 <= spent <= 120


def test_what_is_lost_and_saved_is_counted_once_the_study_is_flat() -> None:
    alike = [[10, 0.1 * (i % 2), i] for i in range(20)] + [[10, 0.9, 20 + i] for i in range(40)]
    ended = [[10 * (i + 1), 0.9 if i < 50 else 0.902] for i in range(60)]
    result = {"course": alike, "ended": ended}
    run = Run(CASE, {"sampler": "random", "pruner": "none"}, 0, 60, ("power_1",), result)
    record = summarise([run])[0]
    assert record["blind"] == record["lost"]  # Of one study.
    assert record["lost"] == pytest.approx(0.2) and record["spent"] <= 0.5
    assert all(record[name] == 1 for name in ("lost_little", "spent_half", "both", "could"))


def test_the_command_prints_a_row_for_each_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--curves late_0 --samplers random --pruners none --seeds 2 --budget 20 -f json"
    output = ["--output", str(tmp_path / "runs.jsonl")]
    with pytest.raises(SystemExit, match="^0$"):
        main(["bench", "ending", *options.split(), *output])
    groups = [row["group"] for row in json.loads(capsys.readouterr().out)]
    assert groups == ["all", "left-out", "late_0"]
