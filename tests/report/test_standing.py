"""Where a study stands, in words."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from optuna_deepweeds.report.standing import cost, counted, duration, standing, standing_of
from tests.report.conftest import make_study, trial_at, view_of


def test_sentences_tell_trials_best_and_what_stopping_saved() -> None:
    trials = [
        trial_at(0, 60, 0.5, 20),
        trial_at(60, 70, 0.25, 3, state=TrialState.PRUNED),
        trial_at(70, 80, None, 1, state=TrialState.FAIL),
    ]
    progress = view_of(trials).progress
    assert standing(progress, "accuracy") == (
        "2 finished trials: 1 complete, 1 stopped, 1 failed. Best accuracy: 0.5 in trial 0."
    )
    assert cost(progress, 20) == "24 epochs in 1 min 20 s, 40% fewer than 40 without stopping."
    assert cost(progress, None) == cost(progress, 5) == "24 epochs in 1 min 20 s."
    # One that reports fewer steps in a whole training than it might.
    assert cost(progress, 100) == cost(progress, 20)
    assert cost(view_of([trial_at(0, 9, 0.5, 0)]).progress, 20) == "Took 9 s."


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([], "No trial has run yet."),
        ([trial_at(0, 1, 0.5, 2, state=TrialState.PRUNED)], "None is complete yet"),
    ],
)
def test_too_little_is_said(trials: list[optuna.trial.FrozenTrial], said: str) -> None:
    assert said in standing(view_of(trials).progress)


def test_a_study_is_read_anew() -> None:
    study = make_study(1)
    assert "Best validation accuracy" in standing_of(study)
    study.enqueue_trial({})
    assert "1 waiting" in standing_of(study)


def test_words_of_numbers() -> None:
    assert [counted(n, "study", "studies") for n in (1, 1200)] == ["1 study", "1,200 studies"]
    assert [duration(s) for s in (42, 190, 7500)] == ["42 s", "3 min 10 s", "2 h 05 min"]
