"""The incumbent against what was spent: nothing counted twice."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.trial import TrialState

from optuna_deepweeds.report.incumbent import summarise, trajectory
from tests.report.conftest import trial_at, view_of


def test_values_only_improve_in_either_direction() -> None:
    trials = [trial_at(i, i + 1, v, 2) for i, v in enumerate((0.5, 0.3, 0.7))]
    assert trajectory(view_of(trials)).values.tolist() == [0.5, 0.5, 0.7]
    assert trajectory(view_of(trials, "minimize")).values.tolist() == [0.5, 0.3, 0.3]


def test_inherited_epochs_count_once() -> None:
    parent = trial_at(0, 1, 0.5, 3, state=TrialState.PRUNED)
    child = trial_at(1, 2, 0.8, 10, ORIGIN=0, INHERITED=3)
    run = trajectory(view_of([parent, child]))
    assert run.epochs.tolist() == [10] and run.total_epochs == 10


def test_stopped_and_failed_trials_cost_without_winning() -> None:
    stopped = trial_at(0, 1, 0.9, 2, state=TrialState.PRUNED)
    failed = trial_at(1, 2, None, 4, state=TrialState.FAIL)
    run = trajectory(view_of([stopped, failed, trial_at(2, 3, 0.5, 5)]))
    assert run.values.tolist() == [0.5] and run.epochs.tolist() == [11]


def test_parallel_trials_share_time_and_count_in_proportion() -> None:
    run = trajectory(view_of([trial_at(0, 10, 0.5, 10), trial_at(0, 20, 0.6, 10)]))
    assert run.seconds.tolist() == [10, 20]
    assert run.epochs.tolist() == [15, 20]


def test_pauses_cost_no_time() -> None:
    run = trajectory(view_of([trial_at(0, 1, 0.5, 1), trial_at(100, 101, 0.6, 1)]))
    assert run.seconds.tolist() == [1, 2]


def test_study_without_finished_trial_has_no_incumbent() -> None:
    run = trajectory(view_of([]))
    assert len(run.values) == 0 and run.total_epochs == 0
    assert np.isnan(run.at(np.array([0.0, 5.0]), "epochs")).all()


def test_cost_to_reach() -> None:
    run = trajectory(view_of([trial_at(i, i + 1, v, 2) for i, v in enumerate((0.5, 0.7))]))
    assert run.cost_to_reach(0.5, "epochs", 1) == 2
    assert run.cost_to_reach(0.6, "epochs", 1) == 4
    assert run.cost_to_reach(0.8, "epochs", 1) == float("inf")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_band_ranks_missing_studies_worst(direction: str) -> None:
    sign = 1.0 if direction == "maximize" else -1.0
    early = trajectory(view_of([trial_at(0, 1, 0.5, 1), trial_at(1, 2, 0.5, 9)], direction))
    late = trajectory(view_of([trial_at(0, 1, 0.5, 10)], direction))
    b = summarise([early, late, late], "epochs", sign)
    assert np.isnan(b.median[b.grid < 10]).all()
    assert b.median[b.grid == 10].tolist() == [0.5]
    assert b.grid[-1] == 10
    assert not b.is_partial.any()


def test_band_goes_on_to_the_longest_study() -> None:
    short = trajectory(view_of([trial_at(0, 1, 0.5, 5)]))
    long = trajectory(view_of([trial_at(0, 1, 0.4, 5), trial_at(1, 2, 0.9, 15)]))
    b = summarise([short, long], "epochs", 1.0)
    assert b.grid[-1] == 20 and b.median[-1] == pytest.approx(0.7)
    assert b.grid[~b.is_partial].max() == 5


def test_damaged_spells_are_left_out() -> None:
    damaged = trial_at(0, 1, 0.5, 2, SEGMENTS=[["yesterday", 3], None])
    assert trajectory(view_of([damaged])).seconds.tolist() == [1]


def test_band_of_nothing_is_empty_of_values() -> None:
    b = summarise([], "epochs", 1.0)
    assert np.isnan(b.median).all()
