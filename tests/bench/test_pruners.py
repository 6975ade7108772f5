"""The grid of `bench pruners`: resumable rows, and a summary made from them alone."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optuna_deepweeds.bench import pruner_summary
from optuna_deepweeds.bench.pruner_rows import COLUMNS, Cell, read_rows
from optuna_deepweeds.bench.pruners import grid, run_cell, run_grid
from optuna_deepweeds.cli import main
from optuna_deepweeds.errors import InvalidInputError

T = 6


@pytest.fixture
def source(tmp_path: Path) -> str:
    return _table(tmp_path / "first.npz", seed=0)


def _table(path: Path, *, seed: int) -> str:
    """A TaskSet-like file of 60 configurations and T epochs."""
    rng = np.random.default_rng(seed)
    final = rng.uniform(0.1, 0.7, (60, 1))
    loss = final + (0.7 - final) * np.exp(-np.arange(T + 1))
    np.savez(path, hyperparameters=final, names=np.array(["final"]), valid_loss=loss)
    return str(path)


def _cells(source: str, **changed: Any) -> list[Cell]:
    options: dict[str, Any] = {
        "max_resources": (), "workers": (1,), "orders": ("random",), "noises": (0.0,),
        "misleads": (0.0,), "budget": 3, "seeds": range(2),
    }  # fmt: skip
    return grid([source], changed.pop("pruners", ("none", "asha-3-1")), **{**options, **changed})


def _same(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in ("seconds", "decision_ms")}


def test_a_grid_has_every_combination_once(source: str) -> None:
    cells = _cells(source, workers=(1, 4), noises=(0.0, 0.01), max_resources=(4, 6))
    assert len(set(cells)) == len(cells) == 2 * 2 * 2 * 2 * 2
    assert {cell.max_resource for cell in _cells(source)} == {T}


def test_cells_in_the_file_are_not_run_again(source: str, tmp_path: Path) -> None:
    output = tmp_path / "runs.csv"
    run_grid(_cells(source), output)
    before = output.read_text()
    steps: list[tuple[int, int]] = []
    run_grid(_cells(source), output, progress=lambda *step: steps.append(step))
    assert output.read_text() == before and steps == []
    run_grid(_cells(source, seeds=range(3)), output, progress=lambda *step: steps.append(step))
    assert output.read_text().startswith(before) and steps == [(5, 6), (6, 6)]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(source: str, tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.csv", tmp_path / "resumed.csv"
    run_grid(_cells(source), whole)
    text = whole.read_text()
    resumed.write_text(text[: len(text) * 2 // 3])
    assert not resumed.read_text().endswith("\n")
    run_grid(_cells(source), resumed)
    assert [_same(r) for r in read_rows(resumed)] == [_same(r) for r in read_rows(whole)]


def test_other_curves_under_the_same_name_are_run_anew_and_not_mixed(
    source: str, tmp_path: Path
) -> None:
    output = tmp_path / "runs.csv"
    run_grid(_cells(source), output)
    (tmp_path / "other").mkdir()
    run_grid(_cells(_table(tmp_path / "other" / "first.npz", seed=1)), output)
    rows = read_rows(output)
    assert len(rows) == 8 and len({row["digest"] for row in rows}) == 2
    with pytest.raises(InvalidInputError, match="same curves"):
        pruner_summary.summarise(rows, budgets=(3,))


def test_processes_give_the_rows_of_one(source: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    run_grid(_cells(source), one)
    run_grid(_cells(source), two, processes=2)
    key = json.dumps
    assert sorted(map(key, map(_same, read_rows(one)))) == sorted(
        map(key, map(_same, read_rows(two)))
    )


def test_studies_on_sqlite_give_the_same_row_and_leave_no_file(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(os.listdir(tmp_path))
    rows = []
    for storage in ("memory", "sqlite"):
        options = {"pruners": ("dora-thaw",), "seeds": (0,), "budget": 2, "storage": storage}
        row = _same(run_cell(_cells(source, **options)[0]))
        assert row.pop("storage") == storage
        rows.append(row)
    assert rows[0] == rows[1]
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", ",".join(COLUMNS) + "\n" + "x," * len(COLUMNS) + "\n"]
)
def test_another_file_is_refused_and_left_alone(source: str, tmp_path: Path, text: str) -> None:
    output = tmp_path / "runs.csv"
    output.write_text(text)
    with pytest.raises(InvalidInputError) as error:
        run_grid(_cells(source), output)
    assert "\n" not in str(error.value) and output.read_text() == text


def test_two_sources_of_one_name_are_refused(source: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = _table(tmp_path / "other" / "first.npz", seed=1)
    with pytest.raises(InvalidInputError, match="name of its own"):
        grid(
            [source, twin], ["none"], max_resources=(), workers=(1,), orders=("random",),
            noises=(0.0,), misleads=(0.0,), budget=3, seeds=(0,),
        )  # fmt: skip


def _row(pruner: str, task: str, seed: int, finished: list[list[float]]) -> dict[str, Any]:
    return {
        "max_resource": 10, "workers": 1, "order": "random", "noise": 0.0, "mislead": 0.0,
        "storage": "memory", "budget": 4, "pruner": pruner, "task": task, "digest": task,
        "held_out": 0, "prior_curves": "none", "prior_digest": "",
        "seed": seed, "finished": finished, "seen": finished, "outside_top_tenth": 0.5,
        "top_started": seed, "top_stopped": 1,
        "decision_ms": 2.0,
    }  # fmt: skip


def _rows() -> list[dict[str, Any]]:
    """Two tasks, two seeds: `dora` is at .2 and .1 after half of the epochs of ASHA."""
    rows = []
    for seed in (1, 2):
        for task, scale in (("a", 1.0), ("b", 0.5)):
            rows += [
                _row("asha-3-1", task, seed, [[20, 0.4 * scale * seed]]),
                _row("dora", task, seed, [[10, 0.2 * scale * seed]]),
                _row("none", task, seed, [[30, 0.4 * scale * seed]]),
            ]
    return rows


def _line(table: list[dict[str, Any]], pruner: str, task: str) -> dict[str, Any]:
    (line,) = (row for row in table if row["pruner"] == pruner and row["task"] == task)
    return line


def test_the_summary_has_the_numbers_computed_by_hand() -> None:
    table = pruner_summary.summarise(_rows(), budgets=(1, 2, 4))
    assert len(table) == 3 * 3
    asha = _line(table, "asha-3-1", "a")
    # 1 before the first finished trial, then .4 and .8.
    assert asha["regret_1"] == 1.0
    assert asha["regret_2"] == asha["regret_4"] == pytest.approx(0.6)
    assert asha["regret"] == pytest.approx((1 + 0.6 + 0.6) / 3)
    of_seeds = np.array([(1 + 0.4 + 0.4) / 3, (1 + 0.8 + 0.8) / 3])
    assert asha["regret_se"] == pytest.approx(of_seeds.std(ddof=1) / np.sqrt(2))
    dora = _line(table, "dora", "mean")
    own = np.array([0.15, 0.3])
    other = np.array([(1 + 0.3 + 0.3) / 3, (1 + 0.6 + 0.6) / 3])
    assert dora["regret"] == pytest.approx(own.mean())
    assert dora["vs_asha"] == pytest.approx((own - other).mean() / other.mean())
    assert dora["vs_asha_se"] == pytest.approx(
        (own - other).std(ddof=1) / np.sqrt(2) / other.mean()
    )
    assert dora["fewer_than_none"] == dora["faster_than_asha"] == 40 / 10
    assert _line(table, "asha-3-1", "mean")["fewer_than_none"] == 40 / 20
    assert _line(table, "none", "mean")["fewer_than_none"] == pytest.approx(40 / 30)
    assert dora["good_stopped"] == pytest.approx((1 / 1 + 1 / 2) / 2)
    assert set(dora) == set(pruner_summary.columns((1, 2, 4)))
    assert not pruner_summary.has_prior_curves(_rows())


def test_a_target_never_reached_leaves_the_speed_up_empty() -> None:
    rows = [
        _row("none", "a", 1, [[10, 0.1]]),
        _row("asha-3-1", "a", 1, [[10, 0.3]]),
        _row("dora", "a", 1, []),
    ]
    table = pruner_summary.summarise(rows, budgets=(4,))
    line = _line(table, "dora", "a")
    assert "fewer_than_none" not in line and line["regret"] == 1.0
    assert line["regret_se"] is None


def test_differences_to_asha_use_the_seeds_that_both_have() -> None:
    rows = [*_rows(), _row("dora", "a", 3, [[10, 0.9]]), _row("dora", "b", 3, [[10, 0.9]])]
    complete = pruner_summary.summarise(_rows(), budgets=(4,))
    extended = pruner_summary.summarise(rows, budgets=(4,))
    line = _line(extended, "dora", "mean")
    assert line["vs_asha"] == _line(complete, "dora", "mean")["vs_asha"]
    assert line["seeds"] == 3


def test_a_run_too_short_for_the_budgets_is_left_out() -> None:
    assert pruner_summary.summarise(_rows(), budgets=(4, 5)) == []


def _command(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "pruners", *args])
    return int(stop.value.code or 0)


def test_the_command_prints_what_the_file_holds(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs.csv"
    options = ("--curves", source, "--pruners", "none,asha-3-1", "--seeds", "2")
    options += ("--budgets", "2,3", "--output", str(output), "-f", "csv")
    assert _command(*options) == 0
    first = capsys.readouterr()
    rows = list(csv.DictReader(first.out.splitlines()))
    assert [row["pruner"] for row in rows] == ["none", "asha-3-1"]
    assert tuple(rows[0]) == pruner_summary.columns((2, 3))
    assert "4 of 4 runs done" in first.err
    assert _command(*options) == 0
    assert capsys.readouterr().out == first.out


def test_quick_needs_no_options(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _command("--curves", source, "--quick", "--budgets", "3", "-f", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["pruner"] for row in rows] == ["none", "asha-3-1", "dora"]
    assert all(row["seeds"] == 3 for row in rows)


def test_decision_cost_is_that_of_a_study_of_so_many_trials(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--curves", source, "--pruners", "asha-3-1,dora-thaw", "--decision-cost", "8")
    assert _command(*options, "-f", "json") == 0
    asha, dora = json.loads(capsys.readouterr().out)
    assert asha["trials"] == dora["trials"] == 8
    assert asha["choice"] is None
    assert 0 < dora["median"] <= dora["worst"]
    assert dora["choice"] > 0


@pytest.mark.parametrize(
    "options",
    [
        ("--pruners", "ashes"),
        ("--pruners", ""),
        ("--workers", "0"),
        ("--workers", "two"),
        ("--budgets", ""),
        ("--noise", "-1"),
        ("--mislead", "1"),
        ("--max-resource", "7"),
        ("--order", "sorted"),
        ("--curves", "no/such*.npz"),
        ("--pruners", "none", "--decision-cost", "61"),
    ],
)
def test_a_wrong_option_ends_with_one_line(
    source: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command("--curves", source, "--quick", *options) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "rror" in line]
    assert len(lines) == 1
