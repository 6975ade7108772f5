"""What goes on inherits parameters, curve and attributes, and survives Optuna's `ask()`."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from optuna_deepweeds.attributes import (
    ANTICIPATION,
    CHECKPOINT,
    CLOSING,
    INHERITED,
    INTERRUPTED,
    ORIGIN,
    RETRY_OF,
    ROOT,
    SEED,
)
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners import DoraPruner
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies.checkpoints import CheckpointFolder
from optuna_deepweeds.studies.resume import continue_trial, requeue_dead_trials


def new_study(url: str) -> Study:
    return optuna.create_study(
        storage=url,
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=DoraPruner(max_resource=9, thaw=True, is_continuable=lambda trial: True),
    )


def pause_one(study: Study) -> dict[str, object]:
    trial = study.ask()
    params = SPACES["course"].suggest(trial)
    trial.set_user_attr(SEED, 7)
    trial.report(0.3, 1)
    assert trial.should_prune()
    study.tell(trial, state=TrialState.PRUNED)
    return dict(params)


def test_continuation_survives_ask(tmp_path: Path) -> None:
    study = new_study(f"sqlite:///{tmp_path}/optuna.db")
    params = pause_one(study)
    assert ANTICIPATION in study.trials[0].user_attrs  # Which is not inherited.
    continue_trial(study, study.trials[0])
    trial = study.ask()
    assert trial.number == 1
    assert dict(SPACES["course"].suggest(trial)) == params
    frozen = study.trials[1]
    assert frozen.state == TrialState.RUNNING
    assert frozen.params == study.trials[0].params
    assert frozen.distributions == study.trials[0].distributions
    assert frozen.intermediate_values == {1: 0.3}
    assert frozen.user_attrs == {ORIGIN: 0, ROOT: 0, INHERITED: 1, SEED: 7}
    trial.report(0.4, 2)
    study.tell(trial, 0.5)
    assert study.trials[1].intermediate_values == {1: 0.3, 2: 0.4}


def test_only_pruned_trials_are_continued_and_only_once() -> None:
    study = new_study("sqlite:///:memory:")
    pause_one(study)
    study.add_trial(create_trial(value=1.0))
    paused, complete = study.trials
    continue_trial(study, paused)
    with pytest.raises(InvalidInputError, match="trial 0 has been continued already"):
        continue_trial(study, paused)
    with pytest.raises(InvalidInputError, match="trial 1 is COMPLETE"):
        continue_trial(study, complete)
    assert len(study.trials) == 3


@pytest.mark.parametrize(
    ("saved", "has_file", "carried"),
    [
        (2, True, {ORIGIN: 1, INHERITED: 2, CHECKPOINT: 2}),
        (2, False, {}),  # Of a dead machine, say.
        (None, True, {}),  # Written just before the worker died: its curve is read back.
    ],
)
def test_a_retry_goes_on_from_what_was_saved(
    tmp_path: Path, saved: int | None, has_file: bool, carried: dict[str, int]
) -> None:
    study = new_study("sqlite:///:memory:")
    study.add_trial(create_trial(value=1.0))
    attrs: dict[str, object] = {SEED: 7, ROOT: 0, CLOSING: True, ANTICIPATION: {}}
    study.add_trial(
        create_trial(
            state=TrialState.FAIL,
            user_attrs=attrs | ({} if saved is None else {CHECKPOINT: saved}),
            system_attrs={INTERRUPTED: True},
            intermediate_values={1: 0.1, 2: 0.2, 3: 0.3},
        )
    )
    folder = CheckpointFolder(tmp_path, study)
    if has_file:
        folder.folder.mkdir()
        folder.path(0).touch()
    assert [t.number for t in requeue_dead_trials(study, folder)] == [1]
    retry = study.trials[2]
    assert retry.state == TrialState.WAITING
    assert retry.user_attrs == {RETRY_OF: 1, ROOT: 0, SEED: 7, CLOSING: True} | carried
    assert retry.intermediate_values == ({1: 0.1, 2: 0.2} if carried else {})
    assert requeue_dead_trials(study, folder) == []
