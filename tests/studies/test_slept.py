"""A worker that was given up for dead wakes: what it had is another one's now."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.files import write_whole
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.tasks import Run, run
from tests.studies.conftest import Bench

N_EPOCHS = 4


@pytest.mark.parametrize("wakes", ["within an epoch", "in the middle of saving", "at its end"])
def test_it_leaves_trial_and_checkpoint_alone_and_goes_on_with_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wakes: str
) -> None:
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.0)
    study = bench.study(trials=2, epochs=N_EPOCHS)
    first: list[int] = []
    left: list[tuple[FrozenTrial, bytes]] = []

    def facts() -> tuple[FrozenTrial, bytes]:
        latest = manager.study_checkpoints(study).path(0)
        return study._storage.get_trial(first[0]), latest.read_bytes()

    def sleep() -> None:
        with sqlite3.connect(bench.url.removeprefix("sqlite:///")) as connection:
            connection.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
        others = manager.open_study(study.study_name, bench.url)
        manager.set_budget(others, manager.Budget(trials=1))
        bench.work(others, train=train)
        manager.set_budget(others, manager.Budget(trials=2))
        left.append(facts())

    def train(trial: optuna.Trial, run: Run) -> float:
        is_first = trial.number == 0
        if is_first:
            first.append(trial._trial_id)
        curve = json.loads(run.checkpoint.read_text()) if run.checkpoint.exists() else []
        run.catch_up(curve)

        def save(path: Path) -> None:
            content = json.dumps(curve)
            if is_first and wakes == "in the middle of saving" and len(curve) == 3:
                sleep()
            write_whole(path, content)

        for epoch in range(len(curve) + 1, run.epochs + 1):
            if is_first and wakes == "within an epoch" and epoch == 3:
                sleep()
            curve.append(epoch / 10)
            run.report(curve[-1], epoch, save=save)
        if is_first and wakes == "at its end":
            sleep()
        return curve[-1]

    _, recorder = bench.work(study, train=train)
    assert recorder.notes == ["taken over", ""]
    assert caplog.text.count("taken over by another worker") == 1
    assert left == [facts()]
    dead, retry, other = study.get_trials()
    assert (dead.state, retry.state, other.state) == (
        TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE,
    )  # fmt: skip
    assert len(dead.intermediate_values) == (N_EPOCHS if wakes == "at its end" else 2)
    assert retry.user_attrs[attributes.RETRY_OF] == 0
    assert progress(study.get_trials(), study.direction).epochs == 2 * N_EPOCHS
