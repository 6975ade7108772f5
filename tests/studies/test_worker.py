"""The worker loop: exact totals, interruption, dead workers, failures, priors."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import (
    DeepWeedsError,
    DivergedError,
    InvalidInputError,
    NotFoundError,
)
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.spec import Budget
from optuna_deepweeds.studies.storage.identity import is_gone, this_worker
from optuna_deepweeds.studies.worker import Ending, Worker
from optuna_deepweeds.tasks import FunctionTask
from optuna_deepweeds.tasks.run import TrialInterrupted
from tests.studies.conftest import Bench, Recorder

SPACE = SPACES["course-small"]
PARAMS = {
    "n_conv_layers": 1,
    "use_BN": True,
    "global_avg_pooling": True,
    "n_channels_conv_0": 32,
    "n_fc_layers": 1,
    "n_channels_fc_0": 32,
    "batch_size": 16,
    "learning_rate_init": 0.01,
}


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
    with caplog.at_level(logging.DEBUG, logger="optuna_deepweeds"):
        bench.work(study)
    said = [r.getMessage() for r in caplog.records if r.name.endswith("studies.worker")]
    assert said[0].startswith("trial 0 starts: {'n_conv_layers':")
    assert [line.rpartition(":")[0] for line in said[1:3]] == [
        "trial 0, epoch 1",
        "trial 0, epoch 2",
    ]
    assert said[3:] == [
        "trial 0 ended: complete",
        "leaving: the study's total of trials is reached.",
    ]


def test_a_higher_total_goes_on_and_a_reached_one_does_nothing(bench: Bench) -> None:
    bench.work(bench.study(trials=1))
    ending, recorder = bench.work(bench.study(trials=1))
    assert (ending, recorder.epochs) == (Ending.TOTAL, [])
    study = bench.study(trials=2)
    bench.work(study)
    assert progress(study.get_trials(), study.direction).finished == 2


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


def test_the_epoch_budget_ends_a_study(bench: Bench) -> None:
    study = bench.study(trials=None)
    manager.set_budget(study, Budget(epochs=5))
    ending, recorder = bench.work(study)
    assert ending == Ending.EPOCHS
    assert len(recorder.epochs) == 6  # Whole trials of two epochs each.


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
    assert bench.work(bench.study())[0] == Ending.TOTAL  # Running it again goes on.


def test_an_enqueued_trial_outside_the_space_fails_and_the_study_goes_on(bench: Bench) -> None:
    study = bench.study(trials=1)
    study.enqueue_trial({"use_BN": "perhaps"})
    bench.work(study)
    first, second = study.get_trials()
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert "use_BN" in first.user_attrs[attributes.FAILURE] or "perhaps" in str(
        first.user_attrs[attributes.FAILURE]
    )


def test_a_study_whose_trials_all_fail_gives_up_with_the_reason(bench: Bench) -> None:
    study = bench.study(trials=5)
    # Labels that no output stands for: an error inside every training.
    bench.images.labels[0] = 99
    try:
        with pytest.raises(DeepWeedsError, match="20 trials failed in a row"):
            bench.work(study)
    finally:
        bench.images.labels[0] = 0
    trials = study.get_trials()
    assert {t.state for t in trials} == {TrialState.FAIL}
    assert all(t.user_attrs[attributes.TRACEBACK].startswith("Traceback") for t in trials)


def test_trials_of_a_dead_process_are_run_again_from_the_start(bench: Bench) -> None:
    study = bench.study(trials=1)
    trial = study.ask()
    params = SPACE.suggest(trial)
    trial.set_user_attr(attributes.WORKER, _dead_identity())
    bench.work(bench.study(trials=1))
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


def test_a_worker_drops_a_trial_that_another_took_over(bench: Bench) -> None:
    study = bench.study(trials=1, epochs=3)

    def lose(number: int, epoch: int) -> bool:
        if (number, epoch) == (0, 1):
            storage = study._storage
            storage.set_trial_state_values(storage.get_all_trials(1)[0]._trial_id, TrialState.FAIL)
        return False

    ending, recorder = bench.work(study, Recorder(lose))
    assert ending == Ending.TOTAL
    assert recorder.notes == ["taken over", ""]


class _TakenOver:
    """An objective whose trial another worker settles before it ends in one way or another."""

    def __init__(self, study: optuna.Study, ending: str) -> None:
        self._study, self._ending = study, ending
        self.stop = False

    def __call__(self, trial: optuna.Trial) -> float:
        storage = self._study._storage
        if trial.number == 0:
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            if self._ending == "diverged":
                raise DivergedError("NaN")
            if self._ending == "bug":
                raise ZeroDivisionError
            if self._ending == "pruned":
                raise optuna.TrialPruned
            if self._ending == "stopped":
                self.stop = True
                raise TrialInterrupted
        return 0.5


@pytest.mark.parametrize("ending", ["complete", "diverged", "bug", "pruned", "stopped"])
def test_a_trial_that_was_taken_over_is_dropped_however_it_ends(bench: Bench, ending: str) -> None:
    study = bench.study(trials=1)
    objective = _TakenOver(study, ending)
    recorder = Recorder()
    task = FunctionTask(objective, space=SPACE)
    stop = lambda: objective.stop  # noqa: E731
    result = Worker(study, task, observer=recorder, should_stop=stop).run()
    assert result == (Ending.INTERRUPTED if ending == "stopped" else Ending.TOTAL)
    assert recorder.notes[0] == "taken over"
    assert study.get_trials()[0].state == TrialState.FAIL
    assert len(study.get_trials()[0].user_attrs) == 2  # Its worker and its seed.


@pytest.mark.parametrize("within", ["training", "claiming"])
def test_a_worker_of_a_deleted_study_says_so(bench: Bench, within: str) -> None:
    study = bench.study(trials=2)

    def delete(number: int, epoch: int) -> bool:
        if within == "training" or epoch == 2:
            optuna.delete_study(study_name=study.study_name, storage=study._storage)
        return False

    with pytest.raises(NotFoundError, match="'study' was deleted"):
        bench.work(study, Recorder(delete))


def test_paused_trials_are_continued_and_no_epoch_is_trained_twice(bench: Bench) -> None:
    study = bench.study(trials=30, epochs=9, pruner="dora", thaw=True)
    _, recorder = bench.work(study)
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


@pytest.mark.parametrize("trials", [1, 4])
def test_a_short_study_with_thaw_ends_with_a_finished_network(bench: Bench, trials: int) -> None:
    study = bench.study(trials=trials, epochs=9, pruner="dora", thaw=True)
    bench.work(study)
    state = progress(study.get_trials(), study.direction)
    assert (state.finished, state.complete) == (trials, 1)
    first = [t.intermediate_values[1] for t in study.get_trials()]
    assert state.best is not None
    assert state.best.intermediate_values[1] == max(first)


def test_a_study_with_thaw_does_not_end_with_its_best_network_unfinished(bench: Bench) -> None:
    study = bench.study(trials=4, epochs=9, pruner="dora", thaw=True)
    study.add_trial(
        create_trial(
            value=0.0,
            params=PARAMS,
            distributions={name: SPACE[name].distribution for name in PARAMS},
            intermediate_values={epoch: 0.0 for epoch in range(1, 10)},
        )
    )
    bench.work(study)
    trials = study.get_trials()
    assert [t.state for t in trials[1:]] == [TrialState.PRUNED] * 2 + [TrialState.COMPLETE]
    best = max(trials[1:3], key=lambda t: t.intermediate_values[1])
    assert trials[3].user_attrs[attributes.ORIGIN] == best.number


def test_the_last_epochs_of_a_study_with_thaw_finish_a_network(bench: Bench) -> None:
    study = bench.study(trials=None, epochs=9, pruner="dora", thaw=True)
    manager.set_budget(study, Budget(epochs=12))
    ending, recorder = bench.work(study)
    state = progress(study.get_trials(), study.direction)
    assert ending == Ending.EPOCHS
    assert (state.complete, len(recorder.epochs)) == (1, 12)


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
    past = create_trial(
        state=TrialState.PRUNED,
        value=0.5,
        params=PARAMS,
        distributions={name: SPACE[name].distribution for name in PARAMS},
        intermediate_values={1: 0.5},
    )
    past.datetime_complete = datetime.now()
    past.datetime_start = past.datetime_complete - timedelta(seconds=100)  # for one epoch
    study.add_trial(past)
    bench.work(study)
    assert study.get_trials()[1].state == state


def test_only_checkpoints_worth_keeping_stay(bench: Bench) -> None:
    study = bench.study(trials=9)
    bench.work(study)
    files = list(manager.study_checkpoints(study).folder.iterdir())
    assert len(files) == 5


def test_only_old_half_written_checkpoints_go(bench: Bench) -> None:
    study = bench.study(trials=1)
    folder = manager.study_checkpoints(study).folder
    folder.mkdir(parents=True)
    for name, age in ((".trial-000000.pt.old.part", 7200), (".trial-000000.pt.new.part", 0)):
        (folder / name).write_bytes(b"torn")
        os.utime(folder / name, (time.time() - age,) * 2)
    bench.work(study)
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".trial-000000.pt.new.part", "trial-000000.pt"]


def test_identity_tells_the_living_from_the_dead() -> None:
    assert not is_gone(this_worker())
    assert is_gone(_dead_identity())
    assert not is_gone("elsewhere/1/2/3")
    assert not is_gone("")


@pytest.mark.slow
def test_a_study_killed_in_the_middle_ends_with_exactly_its_total(bench: Bench) -> None:
    command = [sys.executable, "-m", "optuna_deepweeds", "study", "run", "--name", "killed"]
    command += ["--dataset", "demo", "--trials", "6", "--epochs", "3", "--storage", bench.url]
    command += ["--space", "course-small", "--timeout", "1h"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            study = manager.open_study("killed", bench.url)
        except DeepWeedsError:
            continue
        if any(len(t.intermediate_values) > 0 for t in study.get_trials(deepcopy=False)[2:]):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([*command[:3], "study", "resume", "killed", "--storage", bench.url], check=True)
    trials = study.get_trials()
    assert sum(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials) == 6
    assert not any(t.state in (TrialState.RUNNING, TrialState.WAITING) for t in trials)


def _dead_identity() -> str:
    code = (
        "from optuna_deepweeds.studies.storage.identity import this_worker; print(this_worker())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
