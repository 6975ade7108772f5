"""Trials that cannot be run end alone: with their reason, learnt from, and not run again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.ending import Ending
from optuna_deepweeds.tasks import Run
from optuna_deepweeds.training.session import Session
from tests.studies.conftest import Bench, Recorder

SECONDS = 0.4


def out_of_memory(run: Run) -> float:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def bug(run: Run) -> float:
    raise ZeroDivisionError("in the objective")


def not_a_number(run: Run) -> float:
    return float("nan")


def slow(run: Run) -> float:
    for step in range(1, 20):
        time.sleep(0.1)
        run.note(0.5, step)
    return 0.5


def hanging(run: Run) -> float:
    try:
        time.sleep(600)
    except Exception:  # As objectives do that go on whatever happens.
        pass
    return 0.5


CASES: dict[str, tuple[Callable[[Run], float], str]] = {
    "out of memory": (out_of_memory, "OutOfMemoryError: CUDA out of memory."),
    "an error": (bug, "ZeroDivisionError: in the objective"),
    "nan": (not_a_number, "an objective must return a number, but got nan."),
    "slow": (slow, f"took longer than {SECONDS} s, the time limit of a trial"),
    "hanging": (hanging, f"took longer than {SECONDS} s, the time limit of a trial"),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optuna_deepweeds.studies.storage.heartbeat._REMINDER_SECONDS", 0.05)


@pytest.mark.parametrize("case", CASES)
def test_a_trial_that_cannot_run_fails_alone(bench: Bench, case: str) -> None:
    fails, reason = CASES[case]
    study = bench.study(trials=4, sampler="rf_ei", epochs=20)

    def objective(trial: optuna.Trial, run: Run) -> float:
        return fails(run) if trial.number == 1 else 0.5 + trial.number / 100

    recorder = Recorder()
    ending, _ = bench.work(study, recorder, train=objective, trial_seconds=SECONDS)
    assert ending == Ending.TOTAL
    trials = study.get_trials()
    states = [TrialState.COMPLETE] * 5
    states[1] = TrialState.FAIL
    assert [t.state for t in trials] == states
    assert trials[1].user_attrs[attributes.FAILURE].startswith(reason)
    assert recorder.notes[1].startswith(f"failed: {reason}")
    assert not any(attributes.RETRY_OF in t.user_attrs for t in trials)
    assert progress(trials, study.direction).failed == 1
    again = manager.open_study(study.study_name, bench.url)
    assert bench.work(again, train=objective)[0] == Ending.TOTAL


@pytest.mark.parametrize("case", ["out of memory", "diverged"])
def test_a_network_that_cannot_be_trained_fails_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    study = bench.study(trials=2, sampler="rf_ei")
    epoch, n = Session.epoch, 0

    def failing(session: Session, *args: Any) -> tuple[float, float]:
        nonlocal n
        n += 1
        loss, accuracy = epoch(session, *args)
        if n == 2 and case == "out of memory":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return (float("nan") if n == 2 else loss), accuracy

    monkeypatch.setattr(Session, "epoch", failing)
    assert bench.work(study)[0] == Ending.TOTAL
    first, *others = study.get_trials()
    assert first.state == TrialState.FAIL and len(first.intermediate_values) == 1
    reason = "must fit into the memory" if case == "out of memory" else "loss must stay finite"
    assert reason in first.user_attrs[attributes.FAILURE]
    assert [t.state for t in others] == [TrialState.COMPLETE] * 2
    assert others[0].params != first.params


@pytest.mark.parametrize("case", ["out of memory", "hanging"])
def test_twenty_in_a_row_end_the_study(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr("optuna_deepweeds.studies.worker.MAX_FAILURES_IN_A_ROW", 4)
    study = bench.study(trials=5, kind="objective")
    with pytest.raises(DeepWeedsError, match="4 trials failed in a row"):
        bench.work(study, train=lambda trial, run: CASES[case][0](run), trial_seconds=0.1)
    assert [t.state for t in study.get_trials()] == [TrialState.FAIL] * 4
