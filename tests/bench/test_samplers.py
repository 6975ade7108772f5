"""Cells, the results file, resuming, and the summary's measures recomputed by plain loops."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optuna_deepweeds.bench import results
from optuna_deepweeds.bench.problems import load_problem
from optuna_deepweeds.bench.results import CellKey, Row
from optuna_deepweeds.bench.samplers import BUDGETS, SamplerSpec, Setting, run, run_cell
from optuna_deepweeds.bench.summary import FLOOR, UNIT, Measures, summarise
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError

TASKS = ("branches", "mixed")


def _key(task: str = "mixed", sampler: str = "random", seed: int = 0) -> CellKey:
    return CellKey(task, sampler, "none", seed)


def _without_time(rows: list[Row]) -> list[Row]:
    return [replace(row, milliseconds=0.0) for row in rows]


@pytest.fixture(scope="module")
def results_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random and TPE on two synthetic problems, four seeds, 20 evaluations."""
    path = tmp_path_factory.mktemp("bench") / "results.csv"
    keys = [_key(task, s, seed) for task in TASKS for s in ("random", "tpe") for seed in range(4)]
    assert run(keys, Setting(budget=20), path) == len(keys)
    return path


def test_cell_leaves_a_row_at_every_budget_and_improvement() -> None:
    rows = run_cell(_key(), Setting(budget=30))
    at = [row.evaluations for row in rows]
    assert at == sorted(set(at))
    assert {n for n in (*BUDGETS, 30) if n <= 30} <= set(at)
    for earlier, later in zip(rows, rows[1:], strict=False):
        assert later.value < earlier.value or later.evaluations in (*BUDGETS, 30)
        assert later.value <= earlier.value
    problem = load_problem("mixed")
    for row in rows:
        params = json.loads(row.params)
        assert problem.space.problem(params) is None
        assert row.score == problem.score(params)
        assert row.fraction == problem.fraction_better(row.score)


def test_cell_depends_on_its_key_alone() -> None:
    first = run_cell(_key(seed=1), Setting(budget=12))
    run_cell(_key(seed=2), Setting(budget=12))
    assert _without_time(first) == _without_time(run_cell(_key(seed=1), Setting(budget=12)))
    other = run_cell(_key(seed=2), Setting(budget=12))
    assert [row.value for row in other] != [row.value for row in first]


def test_longer_run_starts_like_the_shorter_one() -> None:
    short = run_cell(_key(sampler="tpe"), Setting(budget=10))
    long = run_cell(_key(sampler="tpe"), Setting(budget=25))
    values = {row.evaluations: row.value for row in long}
    assert all(values[row.evaluations] == row.value for row in short)


def test_finished_cells_are_not_run_again_and_missing_ones_are(
    results_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "copy.csv"
    path.write_bytes(results_file.read_bytes())
    keys = [_key("mixed", "tpe", seed) for seed in range(4)]
    assert run(keys, Setting(budget=20), path) == 0
    assert path.read_bytes() == results_file.read_bytes()
    ran: list[CellKey] = []
    n = run(
        [*keys, _key("mixed", "tpe", 9)],
        Setting(budget=20),
        path,
        on_cell=lambda key, n, total: ran.append(key),
    )
    assert n == 1
    assert ran == [_key("mixed", "tpe", 9)]


@pytest.mark.parametrize("cut", [1, 40, 700])
def test_torn_tail_is_cut_and_its_cell_run_again(
    results_file: Path, tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "torn.csv"
    path.write_bytes(results_file.read_bytes()[:-cut])
    whole = results.read(results_file)
    keys = list(dict.fromkeys(row.cell for row in whole))
    kept = {row.cell for row in results.read(path)}
    assert kept == set(keys[: len(kept)]) and len(kept) < len(keys)
    assert run(keys, Setting(budget=20), path) == len(keys) - len(kept)
    assert _without_time(results.read(path)) == _without_time(whole)
    with path.open() as file:
        assert all(len(line) == len(results.COLUMNS) for line in csv.reader(file))


def test_larger_budget_runs_the_cell_anew_and_supersedes_it(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    run([_key()], Setting(budget=8), path)
    assert run([_key()], Setting(budget=12), path) == 1
    assert {row.budget for row in results.read(path)} == {12}
    assert run([_key()], Setting(budget=8), path) == 0


def test_processes_give_what_one_process_gives(results_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "parallel.csv"
    keys = [_key("mixed", "random", seed) for seed in range(3)]
    run(keys, Setting(budget=20), path, processes=2)
    alone = {
        row.cell: row.params
        for row in results.read(results_file)
        if row.evaluations == 20 and row.cell in keys
    }
    together = {row.cell: row.params for row in results.read(path) if row.evaluations == 20}
    assert together == alone


def test_failing_cells_are_told_and_the_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    keys = [_key(sampler="no_such_sampler"), _key(sampler="random")]
    with pytest.raises(DeepWeedsError, match="1 of 2 runs failed.*no_such_sampler"):
        run(keys, Setting(budget=6), path)
    assert {row.sampler for row in results.read(path)} == {"random"}


def test_results_of_other_columns_or_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        results.read(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInputError, match="columns"):
        results.read(tmp_path / "other.csv")


def test_sampler_options_are_read() -> None:
    spec = SamplerSpec.parse("rf_ei:n_trees=30:space=False:kind=log")
    assert (spec.name, dict(spec.options)) == ("rf_ei", {"n_trees": 30, "kind": "log"})
    assert not spec.use_space
    with pytest.raises(InvalidInputError, match="name:key=value"):
        SamplerSpec.parse("rf_ei:fast")


def _at(rows: list[Row], task: str, sampler: str, n: int) -> dict[int, Row]:
    """Seed -> the row that holds after n evaluations, found by looking at all of them."""
    found: dict[int, Row] = {}
    for row in rows:
        if (row.task, row.sampler) == (task, sampler) and row.evaluations <= n:
            if row.seed not in found or row.evaluations > found[row.seed].evaluations:
                found[row.seed] = row
    return found


def _measures(rows: list[Row], sampler: str, budget: int) -> Measures:
    (found,) = (
        m for m in summarise(rows, budgets=(10, 20)) if m.sampler == sampler and m.budget == budget
    )
    return found


def test_measures_agree_with_plain_loops(results_file: Path) -> None:
    rows = results.read(results_file)
    ours = _measures(rows, "random", 10)
    logs: dict[str, float] = {}
    for sampler in ("random", "tpe"):
        total = 0.0
        for task in TASKS:
            for row in _at(rows, task, sampler, 10).values():
                total += math.log(row.fraction + FLOOR)
        logs[sampler] = total / 8
    assert ours.fraction == pytest.approx(math.exp(logs["random"]) / UNIT)
    assert ours.ratio == pytest.approx(math.exp(logs["random"] - logs["tpe"]))
    assert (ours.n_tasks, ours.n_seeds) == (2, 4)

    wins = regret = 0.0
    for task in TASKS:
        mine, theirs = _at(rows, task, "random", 10), _at(rows, task, "tpe", 10)
        for a in mine.values():
            regret += a.regret / 8
            for b in theirs.values():
                wins += (a.score < b.score) + 0.5 * (a.score == b.score)
    assert ours.regret == pytest.approx(regret)
    assert ours.beats["tpe"][0] == pytest.approx(wins / 32)


def test_reach_is_the_first_evaluation_as_good_as_the_reference_at_the_end(
    results_file: Path,
) -> None:
    rows = results.read(results_file)

    def mean_log(sampler: str, n: int) -> float:
        return float(
            np.mean(
                [
                    math.log(row.fraction + FLOOR)
                    for task in TASKS
                    for row in _at(rows, task, sampler, n).values()
                ]
            )
        )

    goal = mean_log("tpe", 20)
    expected = next((n for n in range(1, 21) if mean_log("random", n) <= goal), math.inf)
    assert _measures(rows, "random", 20).reach == expected
    assert _measures(rows, "tpe", 20).reach <= 20


def test_sampler_never_beats_its_own_copy(results_file: Path) -> None:
    rows = [row for row in results.read(results_file) if row.sampler == "tpe"]
    twin = [replace(row, sampler="twin") for row in rows]
    for measures in summarise(rows + twin, budgets=(20,)):
        (peer,) = measures.beats
        assert measures.beats[peer][0] == pytest.approx(0.5)
        assert measures.ratio == pytest.approx(1.0)
        assert measures.beats[peer][1] > 0
