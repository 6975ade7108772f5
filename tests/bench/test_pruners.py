"""The grid of `bench pruners`, its summary made from runs alone, and the command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optuna_deepweeds.bench import results
from optuna_deepweeds.bench.pruners import grid, run_cell
from optuna_deepweeds.bench.results import Cell, Run
from optuna_deepweeds.bench.runner import run
from optuna_deepweeds.bench.summary_curves import (
    pruner_columns,
    summarise_pruners,
    warm_start_columns,
)
from optuna_deepweeds.cli import main
from optuna_deepweeds.errors import InvalidInputError

T = 6


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    return [_table(tmp_path / f"{name}.npz", seed=seed) for seed, name in enumerate("abc")]


@pytest.fixture
def source(sources: list[str]) -> str:
    return sources[0]


def _table(path: Path, *, seed: int) -> str:
    """A TaskSet-like file of 60 configurations and T epochs, good ones better from the start."""
    path.parent.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    final = rng.uniform(0.1, 0.7, (60, 1))
    loss = final + (0.7 - final) * np.exp(-np.arange(T + 1))
    np.savez(path, hyperparameters=final, names=np.array(["final"]), valid_loss=loss)
    return str(path)


def _cells(source: str, **changed: Any) -> list[Cell]:
    options: dict[str, Any] = {"budget": 3, "seeds": range(2), **changed}
    return grid([source], options.pop("pruners", ("none", "asha-3-1")), **options)


def _untimed(cell: Cell) -> dict[str, Any]:
    return {k: v for k, v in run_cell(cell).items() if k not in ("seconds", "decision_ms")}


def test_a_grid_has_every_combination_once(source: str) -> None:
    cells = _cells(source, workers=(1, 4), noises=(0.0, 0.01), max_resources=(4, 6))
    assert len({cell.key for cell in cells}) == len(cells) == 2 * 2 * 2 * 2 * 2
    assert {cell.case["max_resource"] for cell in _cells(source)} == {T}
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_other_curves_under_the_same_name_are_run_anew_and_not_mixed(
    source: str, tmp_path: Path
) -> None:
    output = tmp_path / "runs.jsonl"
    run(_cells(source), run_cell, output)
    moved = _table(tmp_path / "other" / "a.npz", seed=0)
    assert run(_cells(moved), run_cell, output) == 0
    assert run(_cells(_table(tmp_path / "a.npz.npz", seed=0)), run_cell, output) == 4
    run(_cells(_table(tmp_path / "third" / "a.npz", seed=1)), run_cell, output)
    with pytest.raises(InvalidInputError, match="same curves"):
        summarise_pruners(results.read(output), budgets=(3,))


def test_two_sources_of_one_name_are_refused(source: str, tmp_path: Path) -> None:
    twin = _table(tmp_path / "other" / "a.npz", seed=1)
    with pytest.raises(InvalidInputError, match="name of its own"):
        grid([source, twin], ["none"], budget=3, seeds=(0,))


def test_priors_go_to_samplers_that_take_them_beside_a_control(sources: list[str]) -> None:
    cells = grid(
        sources, ["none"], ["random", "rf_ei"], budget=1, seeds=(0,), given=("well", "deceive/0")
    )
    methods = [(cell.method["sampler"], cell.method["priors"]) for cell in cells]
    assert sorted(set(methods)) == [
        ("random", "none"), ("rf_ei", "deceive/0"), ("rf_ei", "none"), ("rf_ei", "well"),
    ]  # fmt: skip
    given = {cell.sources for cell in cells if cell.method["priors"] == "well"}
    assert all(sorted(each) == sorted(sources) for each in given) and len(given) == 3


def test_runs_with_priors_are_kept_apart_by_the_tasks_they_were_given(
    sources: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "runs.jsonl"

    def warm(n: int) -> list[Cell]:
        return grid(sources[:n], ["none"], ["rf_ei"], budget=1, seeds=(0,), given=("well",))

    assert run(warm(2), run_cell, output) == 4
    assert run(warm(2), run_cell, output) == 0
    run(warm(3), run_cell, output)
    runs = [found for found in results.read(output) if found.case["task"] == "a"]
    assert [len(found.sources) for found in runs] == [1, 2, 3]
    with pytest.raises(InvalidInputError, match="same curves"):
        summarise_pruners(runs, budgets=(1,))


def _run(
    pruner: str, task: str, seed: int, finished: list[list[float]], kind: str = "none"
) -> Run:
    case = {
        "task": task, "digest": task, "max_resource": 10, "workers": 1, "noise": 0.0,
    }  # fmt: skip
    method = {"sampler": "random", "pruner": pruner, "priors": kind, "prior_digest": ""}
    found = {"finished": finished, "incumbent": finished[:1], "decision_ms": 2.0}
    return Run(case, method, seed, 4, (f"family/{task}.npz",), results=found)


def _runs() -> list[Run]:
    """Two tasks, two seeds: `dora` is at .2 and .1 after half of the epochs of ASHA."""
    runs = []
    for seed in (1, 2):
        for task, scale in (("a", 1.0), ("b", 0.5)):
            runs += [
                _run("asha-3-1", task, seed, [[20, 0.4 * scale * seed]]),
                _run("dora", task, seed, [[10, 0.2 * scale * seed]]),
                _run("none", task, seed, [[30, 0.4 * scale * seed]]),
            ]
    return runs


def _summary(runs: list[Run], *budgets: int) -> list[dict[str, Any]]:
    return summarise_pruners(runs, budgets=budgets, reference=("random", "asha-3-1"), by_task=True)


def _line(table: list[dict[str, Any]], pruner: str, group: str) -> dict[str, Any]:
    (line,) = (row for row in table if row["pruner"] == pruner and row["group"] == group)
    return line


def test_the_summary_has_the_numbers_computed_by_hand() -> None:
    table = _summary(_runs(), 1, 2, 4)
    assert len(table) == 3 * 3
    asha = _line(table, "asha-3-1", "a")
    # 1 before the first finished trial, then .4 and .8.
    assert asha["regret_1"] == 1.0
    assert asha["regret_2"] == asha["regret_4"] == pytest.approx(0.6)
    assert asha["early"] == pytest.approx((1 + 0.6 + 0.6) / 3)
    of_seeds = np.array([(1 + 0.4 + 0.4) / 3, (1 + 0.8 + 0.8) / 3])
    assert asha["early_se"] == pytest.approx(of_seeds.std(ddof=1) / np.sqrt(2))
    dora = _line(table, "dora", "family")
    # Of a family, means and errors are over its tasks.
    own, other = np.array([0.3, 0.15]), np.array([(1 + 1.2) / 3, (1 + 0.6) / 3])
    assert (dora["tasks"], dora["seeds"]) == (2, 2)
    assert dora["early"] == pytest.approx(own.mean())
    assert dora["early_se"] == pytest.approx(own.std(ddof=1) / np.sqrt(2))
    ratio = own.mean() / other.mean()
    assert dora["early_ratio"] == pytest.approx(ratio)
    rest = (own - ratio * other) / other.mean()
    assert dora["early_ratio_se"] == pytest.approx(rest.std(ddof=1) / np.sqrt(2))
    assert dora["fewer_than_none"] == 40 / 10
    assert _line(table, "asha-3-1", "family")["fewer_than_none"] == 40 / 20
    assert _line(table, "none", "family")["fewer_than_none"] == pytest.approx(40 / 30)
    assert "regret" not in dora  # no budget of 8 trainings
    assert set(dora) <= {*pruner_columns((1, 2, 4)), *warm_start_columns((1, 2, 4))}


def test_a_group_weighs_its_families_alike_and_leaves_the_others_out() -> None:
    def of(family: str, task: str, regret: float) -> Run:
        run = _run("dora", task, 0, [[10, regret]])
        return replace(run, sources=(f"{family}/{task}.npz",))

    runs = [of("power", "a", 0.1), of("power", "b", 0.3), of("mlp", "c", 0.6), of("late", "d", 1)]
    table = summarise_pruners(runs, budgets=(2,))
    assert [row["group"] for row in table] == ["development", "power", "mlp", "late"]
    assert table[0]["early"] == pytest.approx((0.2 + 0.6) / 2)
    assert table[0]["early_se"] == pytest.approx(0.2)


def test_a_target_never_reached_leaves_the_speed_up_empty() -> None:
    runs = [_run("none", "a", 1, [[10, 0.1]]), _run("dora", "a", 1, [])]
    line = _line(summarise_pruners(runs, budgets=(4,)), "dora", "family")
    assert "fewer_than_none" not in line and line["early"] == 1.0
    assert line["early_se"] is None


def test_ratios_use_the_seeds_that_both_have() -> None:
    runs = [*_runs(), _run("dora", "a", 3, [[10, 0.9]]), _run("dora", "b", 3, [[10, 0.9]])]
    line = _line(_summary(runs, 4), "dora", "family")
    assert line["early_ratio"] == _line(_summary(_runs(), 4), "dora", "family")["early_ratio"]
    assert line["seeds"] == 3


def test_runs_of_another_benchmark_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="another output file"):
        summarise_pruners([Run({"task": "a"}, {"sampler": "tpe"}, 0, 9)], budgets=(1,))


def test_a_run_too_short_for_the_budgets_is_left_out() -> None:
    assert summarise_pruners(_runs(), budgets=(4, 5)) == []


def test_the_effect_of_priors_is_paired_with_the_same_seed_without() -> None:
    runs = [
        _run("dora", "a", 0, [[20, 0.5]]), _run("dora", "a", 0, [[10, 0.4]], "well"),
        _run("dora", "a", 1, [[20, 0.9]]), _run("dora", "a", 1, [[10, 0.6]], "well"),
        _run("dora", "a", 2, [[10, 0.0]], "well"),
    ]  # fmt: skip
    cold, warm = summarise_pruners(runs, budgets=(1, 2))
    assert (cold["priors"], warm["priors"]) == ("none", "well")
    assert "vs_cold" not in cold
    # Without curves nothing is finished after one training.
    assert warm["vs_cold_1"] == pytest.approx((0.4 - 1.0 + 0.6 - 1.0) / 2)
    assert warm["vs_cold_2"] == pytest.approx((0.4 - 0.5 + 0.6 - 0.9) / 2)
    assert warm["vs_cold_2_se"] == pytest.approx(0.1)
    assert warm["vs_cold"] == pytest.approx((warm["vs_cold_1"] + warm["vs_cold_2"]) / 2)
    assert set(warm_start_columns((1, 2))) <= {*warm}
    # At the end without priors it is .7 from epoch 20 on; .5 is reached at 10 with them.
    assert warm["faster"] == pytest.approx(2.0) and warm["faster_se"] is not None


def _command(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "pruners", *args])
    return int(stop.value.code or 0)


def test_the_command_prints_what_the_file_holds(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs.jsonl"
    options = ("--curves", source, "--pruners", "none,asha-3-1", "--seeds", "2")
    options += ("--budgets", "2,3", "--output", str(output), "-f", "csv")
    assert _command(*options) == 0
    first = capsys.readouterr()
    rows = list(csv.DictReader(first.out.splitlines()))
    assert [row["pruner"] for row in rows] == ["none", "asha-3-1"]
    assert tuple(rows[0]) == pruner_columns((2, 3))
    assert "[4/4] a: random, asha-3-1" in first.err
    assert _command(*options) == 0
    assert capsys.readouterr().out == first.out


def test_quick_needs_no_options(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _command("--curves", source, "--quick", "--budgets", "3", "-f", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["pruner"] for row in rows] == ["none", "asha-3-1", "dora"]
    assert all(row["seeds"] == 3 for row in rows)


def test_the_command_shows_the_effect_of_priors(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "figures" / "warm.png"
    curves = [word for source in sources for word in ("--curves", source)]
    options = ("--pruners", "none", "--samplers", "rf_ei", "--seeds", "2", "--budgets", "1,2")
    assert (
        _command(*curves, *options, "-f", "json", "--priors", "well", "--png", str(picture)) == 0
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = json.loads(capsys.readouterr().out)
    assert [row["priors"] for row in rows] == ["none", "well"]
    assert tuple(rows[0]) == warm_start_columns((1, 2))
    assert rows[0]["vs_cold"] is None and rows[1]["vs_cold_se"] is not None


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
        ("--max-resource", "7"),
        ("--samplers", "sorted"),
        ("--samplers", "tpe:no_such=1"),
        ("--reference", "none"),
        ("--families", "powers"),
        ("--curves", "no/such*.npz"),
        ("--pruners", "none", "--decision-cost", "61"),
        ("--priors", "old", "--samplers", "rf_ei"),
        ("--priors", "well/many", "--samplers", "rf_ei"),
        ("--priors", "well", "--samplers", "tpe"),
    ],
)
def test_a_wrong_option_ends_with_one_line(
    source: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command("--curves", source, "--quick", *options) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "rror" in line]
    assert len(lines) == 1
