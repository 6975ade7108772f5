"""What a study has spent and reached."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.studies.accounting import (
    active_seconds,
    epochs_trained,
    is_best_unfinished,
    progress,
    ranked,
)

NOW = datetime(2026, 1, 1, 12)


def make_trial(
    number: int,
    state: TrialState = TrialState.COMPLETE,
    start: float | None = 0,
    end: float | None = 10,
    value: float | None = None,
    epochs: int = 0,
    **user_attrs: object,
) -> FrozenTrial:
    """A trial from `start` to `end` seconds after noon."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        datetime_start=None if start is None else NOW + timedelta(seconds=start),
        datetime_complete=None if end is None else NOW + timedelta(seconds=end),
        params={},
        distributions={},
        user_attrs={f"deepweeds:{key}": attr for key, attr in user_attrs.items()},
        system_attrs={},
        intermediate_values={epoch: 0.5 for epoch in range(1, epochs + 1)},
    )


def dead_trial(start: float, end: float, until: float) -> FrozenTrial:
    """A trial whose worker died at `until` and was missed at `end`."""
    trial = make_trial(0, TrialState.FAIL, start, end)
    trial.system_attrs[attributes.INTERRUPTED] = (NOW + timedelta(seconds=until)).isoformat()
    return trial


PUT_BACK = [NOW.isoformat(), (NOW + timedelta(seconds=7)).isoformat()]


RUNS: dict[str, tuple[list[FrozenTrial], float]] = {
    "none": ([], 0),
    "apart": ([make_trial(0, start=0, end=10), make_trial(1, start=20, end=25)], 15),
    "overlapping": ([make_trial(0, start=0, end=10), make_trial(1, start=5, end=12)], 12),
    "nested": ([make_trial(0, start=0, end=10), make_trial(1, start=2, end=3)], 10),
    "running": ([make_trial(0, TrialState.RUNNING, start=10, end=None)], 20),
    "waiting": ([make_trial(0, TrialState.WAITING, start=10, end=None)], 0),
    "put back": ([make_trial(0, TrialState.WAITING, None, None, segments=[PUT_BACK])], 7),
    "claimed anew": ([make_trial(0, start=20, end=25, segments=[PUT_BACK])], 12),
    "junk": ([make_trial(0, start=0, end=10, segments=["junk"])], 10),
    "found dead later": ([dead_trial(start=0, end=29, until=5)], 5),
}


@pytest.mark.parametrize(("trials", "expected"), RUNS.values(), ids=RUNS)
def test_time_counts_once_while_anything_runs(trials: list[FrozenTrial], expected: float) -> None:
    assert active_seconds(trials, NOW + timedelta(seconds=30)) == expected


def test_an_hour_that_comes_twice_or_never_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for start, end in (
            (datetime(2026, 10, 25, 2, 55), datetime(2026, 10, 25, 2, 30, fold=1)),
            (datetime(2026, 3, 29, 1, 55), datetime(2026, 3, 29, 3, 30)),
        ):
            trial = make_trial(0)
            trial.datetime_start, trial.datetime_complete = start, end
            assert active_seconds([trial], end) == 35 * 60
    finally:
        monkeypatch.undo()
        time.tzset()


def test_all_epochs_count_but_those_inherited() -> None:
    assert epochs_trained(make_trial(0, epochs=5)) == 5
    assert epochs_trained(make_trial(1, epochs=9, origin=0, inherited=5)) == 4
    from_zero = make_trial(0)  # As other programs report.
    from_zero.intermediate_values = {step: 0.5 for step in range(5)}
    assert epochs_trained(from_zero) == 5


def test_progress_leaves_interrupted_trials_out() -> None:
    dead = make_trial(3, TrialState.FAIL)
    dead.system_attrs[attributes.INTERRUPTED] = True
    trials = [
        make_trial(1, value=0.5, epochs=2),
        make_trial(2, TrialState.PRUNED, epochs=1),
        dead,
        make_trial(4, TrialState.FAIL),
        make_trial(5, TrialState.WAITING, start=None, end=None),
    ]
    state = progress(trials, StudyDirection.MAXIMIZE, NOW + timedelta(seconds=30))
    assert (state.complete, state.pruned, state.failed, state.waiting) == (1, 1, 1, 1)
    assert (state.finished, state.epochs) == (2, 3)
    assert state.best is not None and state.best.number == 1


@pytest.mark.parametrize(
    ("direction", "expected"),
    [(StudyDirection.MAXIMIZE, [2, 0, 1]), (StudyDirection.MINIMIZE, [1, 0, 2])],
)
def test_ranking_follows_the_direction(direction: StudyDirection, expected: list[int]) -> None:
    trials = [make_trial(0, value=0.5), make_trial(1, value=0.2), make_trial(2, value=0.8)]
    assert [t.number for t in ranked(trials, direction)] == expected


STOPPED = make_trial(1, TrialState.PRUNED, epochs=1)
STANDINGS: dict[str, tuple[list[FrozenTrial], bool]] = {
    "none": ([], True),
    "nothing finished": ([STOPPED], True),
    "behind": ([make_trial(0, value=0.6), STOPPED], False),
    "ahead": ([make_trial(0, value=0.4), STOPPED], True),
    "no report": ([make_trial(0, value=0.4), make_trial(1, TrialState.PRUNED)], False),
    "continued": ([STOPPED, make_trial(2, value=0.4, origin=1)], False),
    "put back": ([make_trial(0, value=0.4), make_trial(1, TrialState.WAITING, epochs=1)], True),
}


@pytest.mark.parametrize(("trials", "expected"), STANDINGS.values(), ids=STANDINGS)
def test_the_best_is_unfinished_if_a_stopped_trial_is_ahead(
    trials: list[FrozenTrial], expected: bool
) -> None:
    assert is_best_unfinished(trials, StudyDirection.MAXIMIZE) == expected
