"""Runs of samplers, and the summary's measures recomputed by plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optuna_deepweeds.bench import results
from optuna_deepweeds.bench.problems import load_problem
from optuna_deepweeds.bench.results import Cell, Run
from optuna_deepweeds.bench.runner import run
from optuna_deepweeds.bench.samplers import BUDGETS, grid, run_cell
from optuna_deepweeds.bench.summary import FLOOR, UNIT, SamplerRuns, summarise_samplers

TASKS = ("branches", "mixed")


def _course(sampler: str = "random", seed: int = 0, budget: int = 12) -> dict[str, list[Any]]:
    (cell,) = grid(["mixed"], [sampler], [seed], budget=budget)
    course = run_cell(cell)["course"]
    return {name: values for name, values in course.items() if name != "milliseconds"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Random and TPE on two synthetic problems, four seeds, 20 evaluations."""
    path: Path = tmp_path_factory.mktemp("bench") / "runs.jsonl"
    cells = grid(TASKS, ("random", "tpe"), range(4), budget=20)
    assert run(cells, run_cell, path) == len(cells) == len(set(c.key for c in cells)) == 16
    return results.read(path)


def test_course_has_an_entry_at_every_budget_and_improvement() -> None:
    course = _course(budget=30)
    at, told = course["evaluations"], course["value"]
    assert at == sorted(set(at))
    assert {n for n in (*BUDGETS, 30) if n <= 30} <= set(at)
    for i in range(1, len(at)):
        assert told[i] < told[i - 1] or (at[i] in (*BUDGETS, 30) and told[i] == told[i - 1])
    problem = load_problem("mixed")
    for params, score, fraction in zip(
        course["params"], course["score"], course["fraction"], strict=True
    ):
        assert problem.space.problem(params) is None
        assert score == problem.score(params)
        assert fraction == problem.fraction_better(score)


def test_run_depends_on_its_cell_alone() -> None:
    first, other = _course(seed=1), _course(seed=2)
    assert first == _course(seed=1)
    assert other["value"] != first["value"]


def test_longer_run_starts_like_the_shorter_one() -> None:
    short, long = _course("tpe", budget=10), _course("tpe", budget=25)
    values = dict(zip(long["evaluations"], long["value"], strict=True))
    for n, value in zip(short["evaluations"], short["value"], strict=True):
        assert values[n] == value


def test_space_false_hides_the_conditions() -> None:
    def params(sampler: str) -> list[Any]:
        (cell,) = grid(["branches"], [sampler], [0], budget=14)
        return list(run_cell(cell)["course"]["params"])

    options = "rf_ei:n_trees=4:n_startup_trials=3"
    assert params(options) == params(options) != params(f"{options}:space=False")


def _at(runs: list[Run], task: str, sampler: str, column: str, n: int) -> dict[int, float]:
    """Seed -> what holds after n evaluations, found by looking at all entries."""
    found = {}
    for member in runs:
        if (member.case["task"], member.method["sampler"]) == (task, sampler):
            course = member.results["course"]
            for at, value in zip(course["evaluations"], course[column], strict=True):
                if at <= n:
                    found[member.seed] = value
    return found


def _record(runs: list[Run], sampler: str, budget: int) -> dict[str, Any]:
    records = summarise_samplers(runs, budgets=(10, 20))
    (found,) = (r for r in records if (r["sampler"], r["after"]) == (sampler, budget))
    return found


def _mean_log(runs: list[Run], sampler: str, n: int) -> float:
    values = [v for task in TASKS for v in _at(runs, task, sampler, "fraction", n).values()]
    return sum(math.log(value + FLOOR) for value in values) / len(values)


def test_measures_agree_with_plain_loops(runs: list[Run]) -> None:
    ours = _record(runs, "random", 10)
    logs = {sampler: _mean_log(runs, sampler, 10) for sampler in ("random", "tpe")}
    assert ours["fraction"] == pytest.approx(math.exp(logs["random"]) / UNIT)
    assert ours["ratio"] == pytest.approx(math.exp(logs["random"] - logs["tpe"]))
    assert (ours["tasks"], ours["seeds"]) == (2, 4)
    wins = regret = 0.0
    for task in TASKS:
        regret += sum(_at(runs, task, "random", "regret", 10).values()) / 8
        for a in _at(runs, task, "random", "score", 10).values():
            for b in _at(runs, task, "tpe", "score", 10).values():
                wins += (a < b) + 0.5 * (a == b)
    assert ours["regret"] == pytest.approx(regret)
    assert ours["P_tpe"] == pytest.approx(wins / 32)


def test_reach_is_the_first_evaluation_as_good_as_the_reference_at_the_end(
    runs: list[Run],
) -> None:
    goal = _mean_log(runs, "tpe", 20)
    evaluations = (n for n in range(1, 21) if _mean_log(runs, "random", n) <= goal)
    assert _record(runs, "random", 20)["reach"] == next(evaluations, math.inf)
    assert _record(runs, "tpe", 20)["reach"] <= 20


def test_sampler_never_beats_its_own_copy(runs: list[Run]) -> None:
    tpe = [member for member in runs if member.method["sampler"] == "tpe"]
    twin = [replace(member, method={**member.method, "sampler": "twin"}) for member in tpe]
    for record in summarise_samplers(tpe + twin, budgets=(20,)):
        peer = "twin" if record["sampler"] == "tpe" else "tpe"
        assert record[f"P_{peer}"] == pytest.approx(0.5)
        assert record["ratio"] == pytest.approx(1.0)
        assert record[f"P_{peer}_se"] > 0


def test_errors_are_those_of_the_textbook() -> None:
    rng = np.random.default_rng(3)
    fractions = np.exp(rng.normal(-5, 0.3, 60)).tolist()
    made = [
        Run(
            {"task": "mixed"}, {"sampler": "made", "priors": "none"}, seed, 1,
            results={"course": {"evaluations": [1], "fraction": [f], "regret": [f], "score": [f],
                                "milliseconds": [1.0]}},
        )
        for seed, f in enumerate(fractions)
    ]  # fmt: skip
    weights = SamplerRuns(made, 1, "made").weights
    np.testing.assert_allclose(weights[0], 1 / 60)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    (record,) = summarise_samplers(made, budgets=(1,))
    assert record["regret"] == pytest.approx(np.mean(fractions))
    assert record["regret_se"] == pytest.approx(np.std(fractions) / np.sqrt(60), rel=0.1)
    assert math.isnan(record["reach"]) and math.isnan(record["ratio_se"])


def test_a_run_is_a_line_that_reads_as_it_was_written(runs: list[Run], tmp_path: Path) -> None:
    results.append(tmp_path / "one.jsonl", runs[0])
    assert results.read(tmp_path / "one.jsonl") == [runs[0]]
    assert Cell(runs[0].case, runs[0].method, 0, 5).key == runs[0].key
