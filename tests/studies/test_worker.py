"""The worker loop: exact totals, interruption, dead workers, failures, how studies end."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import (
    DeepWeedsError,
    DivergedError,
    InvalidInputError,
    NotFoundError,
)
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies import manager, worker
from optuna_deepweeds.studies.accounting import is_best_unfinished, progress
from optuna_deepweeds.studies.ending import Ending
from optuna_deepweeds.studies.spec import Budget
from optuna_deepweeds.studies.storage.identity import is_gone, this_worker
from optuna_deepweeds.tasks.run import Run, TrialInterrupted
from tests.faults.training import QuickTraining
from tests.studies.conftest import Bench, Recorder

SPACE = SPACES["course-small"]
PARAMS = {
    "n_conv_layers": 1, "use_BN": True, "global_avg_pooling": True, "n_channels_conv_0": 32,
    "n_fc_layers": 1, "n_channels_fc_0": 32, "batch_size": 16, "learning_rate_init": 0.01,
}  # fmt: skip
QUICK = QuickTraining()


def past_trial(**fields: Any) -> FrozenTrial:
    """A trial of the space that ran before."""
    distributions = {name: SPACE[name].distribution for name in PARAMS}
    return create_trial(params=PARAMS, distributions=distributions, **fields)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)


# Totals


def test_a_study_ends_at_its_total_and_every_epoch_is_reported(bench: Bench) -> None:
    study = bench.study(trials=3)
    ending, _ = bench.work(study)
    assert ending == Ending.TOTAL
    trials = study.get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 3
    for trial in trials:
        assert sorted(trial.intermediate_values) == [1, 2]
        assert trial.value == trial.intermediate_values[2]
        assert SPACE.problem(trial.params) is None


def test_the_log_tells_of_each_trial(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    study = bench.study(trials=1)
    with caplog.at_level(logging.INFO, logger="optuna_deepweeds"):
        bench.work(study, train=QUICK)
    said = [r.getMessage() for r in caplog.records if r.name.endswith("studies.worker")]
    assert said[0].startswith("trial 0 starts: {'n_conv_layers':")
    epochs = [line.rpartition(":")[0] for line in said[1:3]]
    assert epochs == ["trial 0, epoch 1", "trial 0, epoch 2"]
    value = study.best_value
    assert said[2] == f"trial 0, epoch 2: {value:.4g}"
    assert said[3] == f"trial 0 ended: complete, {value:.4g} at epoch 2"
    assert said[4:] == ["leaving: the study's total of trials is reached."]


def test_a_higher_total_goes_on_and_a_reached_one_does_nothing(bench: Bench) -> None:
    bench.work(bench.study(trials=1), train=QUICK)
    ending, recorder = bench.work(bench.study(trials=1), train=QUICK)
    assert (ending, recorder.epochs) == (Ending.TOTAL, [])
    study = bench.study(trials=2)
    bench.work(study, train=QUICK)
    assert progress(study.get_trials(), study.direction).finished == 2


@pytest.mark.parametrize("n_workers", [1, 4])
@pytest.mark.parametrize("pruner", ["none", "asha", "dora"])
@pytest.mark.parametrize(
    "budget", [Budget(epochs=25), Budget(epochs=5), Budget(6, None, 40)], ids=str
)
def test_totals_are_met_exactly(bench: Bench, budget: Budget, pruner: str, n_workers: int) -> None:
    study = bench.crowd(
        n_workers, budget, QuickTraining(noise=0.1), pruner=pruner, thaw=pruner == "dora", epochs=9
    )
    state = progress(study.get_trials(), study.direction)
    assert state.running == 0
    if state.finished != budget.trials:
        assert state.epochs == budget.epochs
    assert state.epochs <= (budget.epochs or 0)
    if pruner == "none":
        assert state.pruned == 0  # Cut off is not stopped.


def test_a_trial_cut_off_by_the_epochs_goes_on_when_there_are_more(bench: Bench) -> None:
    study = bench.study(trials=None, epochs=4)
    manager.set_budget(study, Budget(epochs=6))
    ending, first = bench.work(study, train=QUICK)
    assert (ending, first.epochs[4:]) == (Ending.EPOCHS, [(1, 1), (1, 2)])
    assert study.get_trials()[1].state == TrialState.WAITING
    manager.set_budget(study, Budget(epochs=8))
    _, second = bench.work(study, train=QUICK)
    assert second.epochs == [(1, 3), (1, 4)]
    assert [t.state for t in study.get_trials()] == [TrialState.COMPLETE] * 2


def test_a_trial_cut_off_by_the_time_goes_on_when_there_is_more(bench: Bench) -> None:
    study = bench.study(trials=3, epochs=4)
    manager.set_budget(study, Budget(seconds=0.5))
    ending, first = bench.work(study, train=QuickTraining(0.2))
    assert ending == Ending.TIME
    assert progress(study.get_trials(), study.direction).seconds < 1.5  # An epoch takes 0.2.
    manager.set_budget(study, Budget(seconds=60))
    ending, second = bench.work(study, train=QUICK)
    assert ending == Ending.TOTAL
    assert len({*first.epochs, *second.epochs}) == len(first.epochs + second.epochs) == 12


def test_a_study_without_a_limit_is_not_begun(bench: Bench) -> None:
    study = bench.study(trials=None)
    with pytest.raises(InvalidInputError, match="must have a limit"):
        bench.work(study)
    assert study.get_trials() == []


def test_a_study_asked_to_stop_starts_no_trial(bench: Bench) -> None:
    study = bench.study()
    study.set_user_attr(attributes.STOP, "now")
    ending, _ = bench.work(study)
    assert ending == Ending.STOPPED
    assert study.get_trials() == []
    assert bench.work(bench.study(), train=QUICK)[0] == Ending.TOTAL  # Running it again goes on.


# Interruption


def test_an_interrupted_study_gives_the_trials_of_an_uninterrupted_one(bench: Bench) -> None:
    whole = bench.study("whole", trials=3, epochs=3, sampler="rf_ei")
    bench.work(whole)
    cut = bench.study("cut", trials=3, epochs=3, sampler="rf_ei")
    ending, first = bench.work(cut, Recorder(lambda number, epoch: (number, epoch) == (1, 2)))
    assert ending == Ending.INTERRUPTED
    assert cut.get_trials()[1].state == TrialState.WAITING

    again = bench.study("cut", trials=3, epochs=3, sampler="rf_ei")
    _, second = bench.work(again)
    assert [(t.params, t.intermediate_values) for t in again.get_trials()] == [
        (t.params, t.intermediate_values) for t in whole.get_trials()
    ]
    # No epoch is trained twice.
    assert len(set(first.epochs + second.epochs)) == len(first.epochs + second.epochs) == 9
    assert len(again.get_trials()[1].user_attrs[attributes.SEGMENTS]) == 1


def test_trials_of_a_dead_process_are_run_again_from_the_start(bench: Bench) -> None:
    study = bench.study(trials=1)
    trial = study.ask()
    params = SPACE.suggest(trial)
    trial.set_user_attr(attributes.WORKER, _dead_identity())
    bench.work(bench.study(trials=1), train=QUICK)
    dead, retry = study.get_trials()
    assert (dead.state, retry.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert retry.user_attrs[attributes.RETRY_OF] == 0
    assert retry.params.items() <= params.items()
    state = progress(study.get_trials(), study.direction)
    assert (state.finished, state.failed, state.epochs) == (1, 0, 2)


def test_a_killed_worker_loses_no_checkpointed_epoch(bench: Bench) -> None:
    whole = bench.study("whole", trials=1, epochs=4)
    bench.work(whole)
    cut = bench.study("cut", trials=1, epochs=4)
    _, first = bench.work(cut, Recorder(lambda number, epoch: epoch == 2))
    # As if the process had died after that checkpoint instead of putting the trial back.
    trial = cut.ask()
    trial.set_user_attr(attributes.WORKER, _dead_identity())

    again = bench.study("cut", trials=1, epochs=4)
    _, second = bench.work(again)
    dead, retry = again.get_trials()
    assert dead.state == TrialState.FAIL
    assert retry.intermediate_values == whole.get_trials()[0].intermediate_values
    assert [epoch for _, epoch in first.epochs + second.epochs] == [1, 2, 3, 4]
    assert progress(again.get_trials(), again.direction).epochs == 4


def test_a_damaged_checkpoint_costs_its_epochs_and_not_the_trial(bench: Bench) -> None:
    study = bench.study(trials=1, epochs=3)
    bench.work(study, Recorder(lambda number, epoch: epoch == 2))
    manager.study_checkpoints(study).path(0).write_bytes(b"torn")
    again = bench.study(trials=1, epochs=3)
    _, recorder = bench.work(again)
    assert [epoch for _, epoch in recorder.epochs] == [1, 2, 3]
    assert again.get_trials()[0].state == TrialState.COMPLETE


def test_the_time_until_a_dead_worker_is_missed_does_not_count(bench: Bench) -> None:
    study = bench.study(trials=1)
    study.ask().set_user_attr(attributes.WORKER, _dead_identity())
    with sqlite3.connect(bench.url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE trials SET datetime_start = datetime('now', '-1 day')")
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 day')")
    connection.close()
    again = bench.study(trials=1)
    manager.set_budget(again, Budget(seconds=600))
    ending, _ = bench.work(again, train=QUICK)
    assert ending == Ending.TOTAL
    assert progress(again.get_trials(), again.direction).seconds < 120


RAISED = {
    "diverged": DivergedError("NaN"),
    "bug": ZeroDivisionError(),
    "pruned": optuna.TrialPruned(),
    "stopped": TrialInterrupted(),
}


@pytest.mark.parametrize("ending", ["reports", "complete", *RAISED])
def test_a_trial_that_was_taken_over_is_dropped_however_it_ends(bench: Bench, ending: str) -> None:
    study = bench.study(trials=1)
    recorder = Recorder()

    def objective(trial: optuna.Trial, run: Run) -> float:
        if trial.number == 0:  # Another worker settles it before it ends in one way or another.
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            recorder.stopped = ending == "stopped"
            if ending == "reports":
                run.report(0.5, 1)
            if ending in RAISED:
                raise RAISED[ending]
        return 0.5

    result, _ = bench.work(study, recorder, train=objective)
    assert result == (Ending.INTERRUPTED if ending == "stopped" else Ending.TOTAL)
    assert recorder.notes[0] == "taken over"
    dropped = study.get_trials()[0]
    assert dropped.state == TrialState.FAIL
    assert dropped.user_attrs.keys() == {attributes.WORKER, attributes.SEED}


@pytest.mark.parametrize("ending", ["complete", "pruned"])
def test_a_trial_that_is_taken_over_while_it_is_told_is_dropped(bench: Bench, ending: str) -> None:
    study = bench.study(trials=1)
    tell = study.tell

    def told_too_late(trial: optuna.Trial, *args: Any, **options: Any) -> FrozenTrial:
        if trial.number == 0:
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return tell(trial, *args, **options)

    study.tell = told_too_late  # type: ignore[method-assign,assignment]

    def objective(trial: optuna.Trial) -> float:
        if ending == "pruned":
            raise optuna.TrialPruned
        return 0.5

    result, recorder = bench.work(study, train=objective)
    assert (result, recorder.notes) == (Ending.TOTAL, ["taken over", ""])


@pytest.mark.parametrize("within", ["training", "claiming"])
def test_a_worker_of_a_deleted_study_says_so(bench: Bench, within: str) -> None:
    study = bench.study(trials=2)

    def delete(number: int, epoch: int) -> bool:
        if within == "training" or epoch == 2:
            optuna.delete_study(study_name=study.study_name, storage=study._storage)
        return False

    with pytest.raises(NotFoundError, match="'study' was deleted"):
        bench.work(study, Recorder(delete), train=QUICK)


def test_identity_tells_the_living_from_the_dead() -> None:
    assert not is_gone(this_worker())
    assert is_gone(_dead_identity())
    assert not is_gone("elsewhere/1/2/3")
    assert not is_gone("")


# Failures


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("sample_relative", np.linalg.LinAlgError("singular matrix")),  # when a trial is made
        ("sample_independent", ValueError("nan is no value")),  # within a trial
        ("training", ZeroDivisionError("in the task")),
    ],
)
def test_a_study_whose_trials_all_fail_gives_up_with_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    def fail(*args: Any) -> Any:
        raise error

    study = bench.study(trials=5)
    study.sampler = optuna.samplers.RandomSampler()
    if where != "training":
        monkeypatch.setattr(study.sampler, where, fail)
    recorder = Recorder()
    reason = f"{type(error).__name__}: {error}"
    with pytest.raises(DeepWeedsError, match=f"20 trials failed in a row; .*{reason}"):
        bench.work(study, recorder, train=lambda trial: fail())
    trials = study.get_trials()
    assert [t.state for t in trials] == [TrialState.FAIL] * 20
    assert all(t.user_attrs[attributes.TRACEBACK].startswith("Traceback") for t in trials)
    assert recorder.notes == [f"failed: {reason}"] * 20


@pytest.mark.parametrize("params", [{"use_BN": "perhaps"}, {"learning_rate_init": 1e9}], ids=str)
def test_a_queued_trial_outside_the_space_fails_and_the_study_goes_on(
    bench: Bench, params: dict[str, Any]
) -> None:
    study = bench.study(trials=1)
    study.enqueue_trial(params)
    _, recorder = bench.work(study, train=QUICK)
    first, second = study.get_trials()
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    (name, value) = next(iter(params.items()))
    said = first.user_attrs[attributes.FAILURE]
    assert said.startswith(f"its parameters do not fit the space: {name} is {value!r}, not in ")
    assert attributes.TRACEBACK not in first.user_attrs
    assert recorder.notes == [f"failed: {said}", ""]


def test_queued_trials_outside_the_space_end_a_worker_too(bench: Bench) -> None:
    study = bench.study(trials=1)
    for _ in range(20):
        study.enqueue_trial({"use_BN": "perhaps"})
    with pytest.raises(DeepWeedsError, match="20 trials failed in a row"):
        bench.work(study, train=QUICK)


# Stopped trials go on, and a study ends with its best network trained


def test_paused_trials_are_continued_and_no_epoch_is_trained_twice(bench: Bench) -> None:
    study = bench.study(trials=30, epochs=9, pruner="dora", thaw=True)
    _, recorder = bench.work(study, train=QUICK)
    trials = study.get_trials()
    state = progress(trials, study.direction)
    assert state.finished == 30
    assert state.continued > 0
    assert state.complete > 0
    assert len(recorder.epochs) == state.epochs
    for trial in trials:
        if attributes.ORIGIN in trial.user_attrs:
            parent = trials[trial.user_attrs[attributes.ORIGIN]]
            assert parent.params == trial.params
            assert parent.intermediate_values.items() <= trial.intermediate_values.items()


@pytest.mark.parametrize("budget", [Budget(1), Budget(4), Budget(epochs=12)], ids=str)
def test_a_short_study_with_thaw_ends_with_a_finished_network(
    bench: Bench, budget: Budget
) -> None:
    study = bench.study(trials=None, epochs=9, pruner="dora", thaw=True)
    manager.set_budget(study, budget)
    ending, recorder = bench.work(study, train=QUICK)
    state = progress(study.get_trials(), study.direction)
    if budget.trials:
        assert (ending, state.finished) == (Ending.TOTAL, budget.trials)
    else:
        assert (ending, len(recorder.epochs)) == (Ending.EPOCHS, budget.epochs)
    assert state.complete == 1 and state.best is not None
    first = [t.intermediate_values[1] for t in study.get_trials()]
    assert state.best.intermediate_values[1] == max(first)


@pytest.mark.parametrize("n_workers", [1, 4])
@pytest.mark.parametrize("budget", [Budget(trials=8), Budget(epochs=40)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_a_study_with_thaw_ends_with_its_best_network_trained(
    bench: Bench, seed: int, budget: Budget, n_workers: int
) -> None:
    study = bench.crowd(
        n_workers, budget, QuickTraining(), pruner="dora", thaw=True, epochs=9, seed=seed
    )
    trials = study.get_trials()
    assert any(t.state == TrialState.COMPLETE for t in trials)
    assert not is_best_unfinished(trials, study.direction)


@pytest.mark.parametrize("n_workers", [1, 4])
@pytest.mark.parametrize("pruner", ["none", "dora"])
def test_a_flat_study_ends_with_its_best_network_trained_until_it_is_to_go_on(
    bench: Bench, pruner: str, n_workers: int
) -> None:
    budget, spec = Budget(trials=60), {"pruner": pruner, "thaw": pruner == "dora", "epochs": 3}
    study = bench.crowd(n_workers, budget, QUICK, stop_when_flat=True, **spec)
    trials = study.get_trials()
    state = progress(trials, study.direction)
    assert study.user_attrs[attributes.FLAT]["gain"] <= study.user_attrs[attributes.FLAT]["worth"]
    assert 20 <= state.finished < 55 and not state.running
    assert not is_best_unfinished(trials, study.direction)
    assert bench.work(study, train=QUICK)[0] == Ending.FLAT  # Who was not told obeys as well.
    manager.set_budget(study, Budget(), stop_when_flat=True)
    assert bench.work(study, train=QUICK, stop_when_flat=True)[0] == Ending.FLAT
    assert len(study.get_trials()) == len(trials)
    manager.set_budget(study, Budget(trials=state.finished + 2))
    assert bench.work(study, train=QUICK)[0] == Ending.TOTAL
    assert progress(study.get_trials(), study.direction).finished == state.finished + 2


def test_what_cannot_go_on_does_not_keep_a_flat_study_from_its_end(bench: Bench) -> None:
    study = bench.study(trials=90, epochs=9, pruner="dora", thaw=True)
    study.add_trial(past_trial(value=0.1, intermediate_values={e: 0.1 for e in range(1, 10)}))
    study.add_trial(
        past_trial(state=TrialState.PRUNED, value=0.9, intermediate_values={1: 0.9})
    )  # Without a checkpoint.
    study.set_user_attr(attributes.FLAT, {"gain": 0.0})
    assert bench.work(study, train=QUICK)[0] == Ending.FLAT
    assert len(study.get_trials()) == 2


@pytest.mark.parametrize("how", ["stopped", "killed"])
@pytest.mark.parametrize("seed", range(3))
def test_an_interrupted_closing_trial_stays_one(bench: Bench, seed: int, how: str) -> None:
    options: dict[str, Any] = {"epochs": 9, "pruner": "dora", "thaw": True, "seed": seed}
    study = bench.study(trials=4, **options)
    bench.work(study, Recorder(lambda number, epoch: number == 3 and epoch >= 2), train=QUICK)
    if how == "killed":
        study.ask().set_user_attr(attributes.WORKER, _dead_identity())
    again = bench.study(trials=4, **options)
    bench.work(again, train=QUICK)
    trials = again.get_trials()
    last = trials[-1]
    assert (last.state, last.user_attrs[attributes.CLOSING]) == (TrialState.COMPLETE, True)
    assert progress(trials, again.direction).finished == 4
    assert not is_best_unfinished(trials, again.direction)


def test_a_study_with_thaw_does_not_end_with_its_best_network_unfinished(bench: Bench) -> None:
    study = bench.study(trials=4, epochs=9, pruner="dora", thaw=True)
    study.add_trial(past_trial(value=0.0, intermediate_values={e: 0.0 for e in range(1, 10)}))
    bench.work(study, train=QUICK)
    trials = study.get_trials()
    assert [t.state for t in trials[1:]] == [TrialState.PRUNED] * 2 + [TrialState.COMPLETE]
    best = max(trials[1:3], key=lambda t: t.intermediate_values[1])
    assert trials[3].user_attrs[attributes.ORIGIN] == best.number


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        (350, TrialState.COMPLETE),
        (500, TrialState.PRUNED),  # one first epoch tells little of the pace
        (2000, TrialState.PRUNED),  # time enough to look around
        (250, TrialState.PRUNED),  # no training fits in
    ],
)
def test_the_last_minutes_of_a_study_with_thaw_finish_a_network(
    bench: Bench, seconds: float, state: TrialState
) -> None:
    study = bench.study(trials=3, epochs=3, pruner="dora", thaw=True)
    manager.set_budget(study, Budget(trials=3, seconds=seconds))
    past = past_trial(state=TrialState.PRUNED, value=0.5, intermediate_values={1: 0.5})
    past.datetime_complete = datetime.now()
    past.datetime_start = past.datetime_complete - timedelta(seconds=100)  # for one epoch
    study.add_trial(past)
    bench.work(study, train=QUICK)
    assert study.get_trials()[1].state == state


# Checkpoints


def test_only_checkpoints_worth_keeping_stay(bench: Bench) -> None:
    study = bench.study(trials=9)
    bench.work(study, train=QUICK)
    assert len(list(manager.study_checkpoints(study).folder.iterdir())) == 5


def test_only_old_half_written_checkpoints_go(bench: Bench) -> None:
    study = bench.study(trials=1)
    folder = manager.study_checkpoints(study).folder
    folder.mkdir(parents=True)
    for name, age in ((".trial-000000.pt.old.part", 7200), (".trial-000000.pt.new.part", 0)):
        (folder / name).write_bytes(b"torn")
        os.utime(folder / name, (time.time() - age,) * 2)
    bench.work(study, train=QUICK)
    left = {path.name for path in folder.iterdir()}
    saved = manager.study_checkpoints(study).path(0)
    assert saved.exists()
    assert left == {".trial-000000.pt.new.part", saved.name}


def _dead_identity() -> str:
    code = (
        "from optuna_deepweeds.studies.storage.identity import this_worker; print(this_worker())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("epochs", [12, 18, 20, 23])
def test_the_rest_of_a_study_cuts_no_network_off_that_is_ahead(bench: Bench, epochs: int) -> None:
    """Each new network is better than those before, but only at the same epoch."""

    def train(trial: optuna.Trial, run: Run) -> float:
        value, end = 0.0, 0.5 + 0.02 * trial.user_attrs.get(attributes.ROOT, trial.number)
        for epoch in range(1 + max(run.reported, default=0), run.epochs + 1):
            value = end * (1 - 0.5**epoch)
            run.report(value, epoch, save=lambda path: path.touch())
        return value

    study = bench.study(trials=None, epochs=9, pruner="dora", thaw=True)
    manager.set_budget(study, Budget(epochs=epochs))
    ending, recorder = bench.work(study, train=train)
    assert (ending, len(recorder.epochs)) == (Ending.EPOCHS, epochs)
    assert not is_best_unfinished(study.get_trials(), study.direction)
