"""Cells run once, over processes, into a file that survives interruptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from optuna_deepweeds.bench import results
from optuna_deepweeds.bench.results import Cell
from optuna_deepweeds.bench.runner import run
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError


def _cells(n: int, budget: int = 8, name: str = "made") -> list[Cell]:
    return [Cell({"task": "t"}, {"sampler": name}, seed, budget) for seed in range(n)]


def execute(cell: Cell) -> dict[str, Any]:
    """As the `run_cell` of a benchmark."""
    if cell.method["sampler"] == "broken":
        raise ValueError("it broke")
    return {"course": [cell.seed] * cell.budget}


def _results(path: Path) -> dict[str, Mapping[str, Any]]:
    return {run.key: run.results for run in results.read(path)}


def test_finished_cells_are_not_run_again_and_missing_ones_are(tmp_path: Path) -> None:
    path, told = tmp_path / "runs.jsonl", list[tuple[int, int, int]]()

    def tell(cell: Cell, n: int, total: int) -> None:
        told.append((cell.seed, n, total))

    assert run(_cells(2), execute, path, on_run=tell) == 2
    before = path.read_bytes()
    assert run(_cells(2), execute, path, on_run=tell) == 0
    assert path.read_bytes() == before
    assert run(_cells(4), execute, path, on_run=tell) == 2
    assert path.read_bytes().startswith(before)
    assert told == [(0, 1, 2), (1, 2, 2), (2, 1, 2), (3, 2, 2)]


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_line_is_cut_and_its_cell_run_again(tmp_path: Path, cut: int) -> None:
    path, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    run(_cells(4), execute, path)
    torn.write_bytes(path.read_bytes()[:-cut])
    n_kept = len(results.read(torn))
    assert n_kept < 4
    assert run(_cells(4), execute, torn) == 4 - n_kept
    assert torn.read_bytes() == path.read_bytes()


def test_a_larger_budget_runs_the_cell_anew_and_supersedes_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    run(_cells(1), execute, path)
    assert run(_cells(1, budget=12), execute, path) == 1
    assert [found.budget for found in results.read(path)] == [12]
    assert run(_cells(1), execute, path) == 0


def test_processes_give_what_one_process_gives(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    run(_cells(3), execute, one)
    run(_cells(3), partial(execute), two, processes=2)
    assert _results(one) == _results(two)


def test_failing_cells_are_told_and_the_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    with pytest.raises(DeepWeedsError, match="1 of 2 runs failed.*broken.*it broke"):
        run(_cells(1, name="broken") + _cells(1), execute, path)
    assert [found.method["sampler"] for found in results.read(path)] == ["made"]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", '{"case": {}}\n', json.dumps([1]) + "\n"])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match="runs.jsonl, line 1") as error:
        run(_cells(1), execute, path)
    assert "\n" not in str(error.value) and path.read_text() == text
    with pytest.raises(NotFoundError):
        results.read(tmp_path / "none.jsonl")
