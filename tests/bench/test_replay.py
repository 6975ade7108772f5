"""The simulation pays for every epoch once and does what a real loop would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.bench.curves import Curves
from optuna_deepweeds.bench.methods import PRUNERS, make_pruner
from optuna_deepweeds.bench.methods import make_sampler as make_bench_sampler
from optuna_deepweeds.bench.replay import Outcome, Simulation, TableSampler, generator
from optuna_deepweeds.bench.summary import course
from optuna_deepweeds.samplers import make_sampler
from optuna_deepweeds.studies.storage import open_storage

T = 9
N_EPOCHS = 12 * T


def _curves(n: int = 200, seed: int = 0) -> Curves:
    """Saturating curves whose early order tells much but not all of the final order."""
    rng = np.random.default_rng(seed)
    final = rng.random((n, 1))
    speed = rng.uniform(0.2, 2.0, (n, 1))
    values = final * (1 - np.exp(-speed * np.arange(1, T + 1))) + rng.normal(0, 0.01, (n, T))
    rows = tuple(
        {"final": float(f[0]), "speed": float(s[0])} for f, s in zip(final, speed, strict=True)
    )
    space = {"final": FloatDistribution(0, 1), "speed": FloatDistribution(0.2, 2.0)}
    return Curves("made", values, rows, space, float(np.median(values[:, -1])))


def replay(
    curves: Curves, pruner: str | BasePruner, *, max_epochs: int, workers: int = 1, **options: Any
) -> tuple[Outcome, optuna.Study]:
    if isinstance(pruner, str):
        pruner = make_pruner(pruner, max_resource=T, seed=options.get("seed", 0))
    simulation = Simulation(curves, pruner, **options)
    return simulation.run(max_epochs=max_epochs, workers=workers), simulation.study


def _order(curves: Curves, seed: int) -> list[int]:
    return list(generator(seed, curves, 0).permutation(len(curves.values))[::-1])


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("name", list(PRUNERS))
def test_every_epoch_is_paid_once_and_counted(name: str, workers: int) -> None:
    curves = _curves()
    outcome, study = replay(curves, name, max_epochs=N_EPOCHS, workers=workers, seed=1)
    assert outcome.epochs == outcome.paid.sum() == N_EPOCHS
    assert outcome.paid.max() <= T
    trials = study.trials
    assert len(trials) == outcome.trials
    inherited = sum(t.user_attrs.get(attributes.INHERITED, 0) for t in trials)
    assert sum(len(t.intermediate_values) for t in trials) - inherited == outcome.epochs
    for trial in trials:
        # A curve has no gaps and is the table's, whoever trained its parts.
        first = trial.intermediate_values.get(1, np.inf)
        row = int(np.argmin(np.abs(curves.values[:, 0] - first)))
        reported = [trial.intermediate_values[s] for s in sorted(trial.intermediate_values)]
        assert reported == curves.values[row, : len(reported)].tolist()
        assert all(trial.params[k] == v for k, v in curves.params[row].items()) or not reported
        assert trial.state == TrialState.COMPLETE or len(reported) < T
    assert sum(t.state == TrialState.RUNNING for t in trials) <= workers


@pytest.mark.parametrize("name", ["promotion-3", "dora-thaw"])
@pytest.mark.parametrize("workers", [1, 4])
def test_continuations_go_on_from_the_last_epoch_of_a_paused_trial(
    name: str, workers: int
) -> None:
    outcome, study = replay(_curves(), name, max_epochs=20 * T, workers=workers)
    trials = study.trials
    continued = [t for t in trials if attributes.ORIGIN in t.user_attrs]
    assert len(continued) == outcome.continuations > 0
    origins = [t.user_attrs[attributes.ORIGIN] for t in continued]
    assert len(set(origins)) == len(origins)
    for trial in continued:
        parent = trials[trial.user_attrs[attributes.ORIGIN]]
        assert parent.state == TrialState.PRUNED
        assert parent.intermediate_values.items() <= trial.intermediate_values.items()
        assert len(parent.intermediate_values) == trial.user_attrs[attributes.INHERITED]


def _oracle(curves: Curves, rows: list[int], max_epochs: int, *, halving: bool) -> list[int]:
    """Epochs of each trial by a plain loop; successive halving written out again."""
    rungs: dict[int, list[float]] = {1: [], 3: []}
    lengths: list[int] = []
    for row in rows:
        if sum(lengths) == max_epochs:
            return lengths
        lengths.append(0)
        for epoch in range(1, T + 1):
            if sum(lengths) == max_epochs:
                return lengths
            lengths[-1] += 1
            if not halving or epoch not in rungs:
                continue
            value = curves.values[row, epoch - 1]
            rungs[epoch].append(value)
            keep = max(1, len(rungs[epoch]) // 3)
            if value < sorted(rungs[epoch], reverse=True)[keep - 1]:
                break
    return lengths


@pytest.mark.parametrize(("name", "halving"), [("none", False), ("asha-3-1", True)])
@pytest.mark.parametrize("seed", range(3))
def test_one_worker_equals_a_plain_loop(name: str, halving: bool, seed: int) -> None:
    curves = _curves()
    outcome, study = replay(curves, name, max_epochs=17 * T - 2, seed=seed)
    lengths = _oracle(curves, _order(curves, seed), 17 * T - 2, halving=halving)
    assert [len(t.intermediate_values) for t in study.trials] == lengths
    finals = [
        (end, curves.values[row, -1])
        for end, n, row in zip(np.cumsum(lengths), lengths, _order(curves, seed), strict=False)
        if n == T
    ]
    for epochs in (5 * T, 10 * T, 17 * T - 2):
        reached = [value for end, value in finals if end <= epochs]
        expected = curves.regret(max(reached)) if reached else 1.0
        at, regret = zip(*outcome.finished, strict=True)
        assert course(at, regret, epochs, before=1.0)[-1] == pytest.approx(expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        lambda: SuccessiveHalvingPruner(),
        lambda: optuna.pruners.HyperbandPruner(max_resource=T),
        lambda: optuna.pruners.MedianPruner(),
    ],
    ids=["asha-3-1", "asha-default", "hyperband", "median"],
)
def test_decisions_are_those_of_optunas_own_loop(make: Callable[[], BasePruner]) -> None:
    curves = _curves()
    outcome, replayed = replay(curves, make(), max_epochs=25 * T, seed=2)
    table = TableSampler(curves, rng=generator(2, curves, 0))
    study = optuna.create_study(
        direction="maximize", sampler=table, pruner=make(), study_name=replayed.study_name
    )

    def objective(trial: optuna.Trial) -> float:
        for name, distribution in curves.distributions.items():
            trial.suggest_float(name, distribution.low, distribution.high)  # type: ignore[attr-defined]
        row = table.rows[trial.number]
        for epoch in range(1, T + 1):
            trial.report(float(curves.values[row, epoch - 1]), epoch)
            if epoch < T and trial.should_prune():
                raise optuna.TrialPruned
        return float(curves.values[row, -1])

    # The last trial may still be running when the budget of epochs is spent.
    n_finished = sum(t.state.is_finished() for t in replayed.trials)
    study.optimize(objective, n_trials=n_finished)
    ours = [(t.state, t.value, t.params) for t in replayed.trials[:n_finished]]
    assert ours == [(t.state, t.value, t.params) for t in study.trials]
    assert n_finished >= outcome.trials - 1


def test_the_table_is_used_up_without_repeats_and_the_run_then_ends() -> None:
    curves = _curves(n=20)
    outcome, study = replay(curves, "asha-3-1", max_epochs=100 * T, workers=4)
    assert outcome.trials == 20 and (outcome.paid > 0).all()
    assert all(t.state.is_finished() for t in study.trials)


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    def run(seed: int) -> tuple[list[int], list[tuple[int, float]]]:
        outcome, _ = replay(_curves(), "dora-thaw", max_epochs=15 * T, workers=4, seed=seed)
        return outcome.paid.tolist(), outcome.finished

    assert run(3) == run(3) != run(4)


def test_every_pruner_meets_the_same_configurations_in_the_same_order() -> None:
    curves = _curves()
    for name in ("none", "median", "asha-3-1", "dora"):
        _, study = replay(curves, name, max_epochs=10 * T)
        params = [t.params for t in study.trials]
        assert params == [dict(curves.params[row]) for row in _order(curves, 0)[: len(params)]]


def test_incumbents_are_chosen_by_reports_and_scored_by_true_values() -> None:
    curves = _curves()
    outcome, _ = replay(curves, "none", max_epochs=40 * T, reported=-curves.values)
    worst = curves.values[_order(curves, 0)[:40], -1].min()
    assert outcome.finished[-1][1] == curves.regret(worst)


@pytest.mark.parametrize("name", ["tpe", "rf_ei"])
def test_a_sampler_chooses_among_the_table(name: str) -> None:
    curves = _curves()
    sampler = make_sampler(name, seed=0)
    _, study = replay(curves, "asha-3-1", max_epochs=8 * T, sampler=sampler)
    params = [tuple(t.params.values()) for t in study.trials]
    assert len(set(params)) == len(params)
    assert set(params) <= {tuple(row.values()) for row in curves.params}
    # After the sampler's start-up trials the better half of the table is met more often.
    assert np.mean([final for final, _ in params[10:]]) > 0.55


def test_a_density_ratio_finds_the_good_rows_and_depends_on_its_seed_alone() -> None:
    def started(seed: int) -> list[tuple[float, ...]]:
        sampler = make_bench_sampler("bohb", seed=seed)
        _, study = replay(_curves(), "promotion-3", max_epochs=20 * T, sampler=sampler)
        new = [t for t in study.trials if attributes.ORIGIN not in t.user_attrs]
        return [tuple(t.params.values()) for t in new]

    first = started(0)
    assert first == started(0) != started(1)
    assert len(set(first)) == len(first) > 40
    assert np.mean([final for final, _ in first[10:50]]) > 0.6


def test_a_density_ratio_meets_parameters_that_few_rows_have() -> None:
    curves = _curves()
    rows = [r if r["final"] > 0.9 else {"final": r["final"]} for r in curves.params]
    sampler = make_bench_sampler("bohb", seed=0)
    table = replace(curves, params=tuple(rows))
    _, study = replay(table, "promotion-3", max_epochs=20 * T, sampler=sampler)
    assert {len(t.params) for t in study.trials} == {1, 2} and len(study.trials) > 40


def test_a_sampler_that_can_score_rows_is_given_the_free_ones() -> None:
    class First(optuna.samplers.RandomSampler):
        def suggest_among(self, study: Any, trial: Any, candidates: Any) -> int:
            assert len(candidates) == len(curves.params) - trial.number
            return len(candidates) - 1

    curves = _curves(n=30)
    _, study = replay(curves, "none", max_epochs=5 * T, sampler=First(seed=0))
    assert [t.params for t in study.trials] == [dict(row) for row in curves.params[:-6:-1]]


def test_a_study_moved_to_sqlite_goes_on_as_in_memory(tmp_path: Path) -> None:
    paid = []
    for storage in (None, open_storage(f"sqlite:///{tmp_path}/replay.db")):
        simulation = Simulation(_curves(), make_pruner("dora-thaw", max_resource=T, seed=0))
        simulation.run(max_trials=6)
        if storage is not None:
            simulation.move(storage)
        paid.append(simulation.run(max_epochs=3 * T).paid.tolist())
    assert paid[0] == paid[1]


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_promotion_takes_the_best_third_from_the_highest_rung(direction: str, sign: float) -> None:
    pruner = make_pruner("promotion-3", max_resource=T, seed=0)
    study = optuna.create_study(direction=direction, pruner=pruner)

    def pause(*values: float) -> None:
        trial = study.ask()
        for step, value in enumerate(values, start=1):
            trial.report(sign * value, step)
        assert trial.should_prune() == (len(values) in (1, 3))
        study.tell(trial, state=TrialState.PRUNED)

    def promoted() -> int | None:
        trial: FrozenTrial | None = pruner.next_continuation(study)  # type: ignore[attr-defined]
        return None if trial is None else trial.number

    pause(0.1)
    pause(0.5)
    assert promoted() is None
    pause(float("nan"))
    assert (promoted(), promoted()) == (1, None)
    for value in (0.2, 0.4, 0.3):
        pause(0.0, 0.0, value)
    assert (promoted(), promoted()) == (4, None)
