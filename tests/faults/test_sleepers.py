"""Workers that are stopped for longer than the grace period and then wake."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import StorageError
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.resume import requeue_dead_trials
from optuna_deepweeds.studies.storage.locks import backend, run_locked
from optuna_deepweeds.trials import before, root
from tests.faults.processes import finish, start
from tests.faults.studies import BenchStudy, work

pytestmark = pytest.mark.slow

N_WAKES = 100
_N_WORKERS, _N_ASLEEP = 9, 6


def test_a_worker_that_wakes_writes_nothing_into_a_trial_given_to_another(
    storage_url: str, tmp_path: Path
) -> None:
    bench = BenchStudy(
        storage_url, tmp_path, n_trials=100_000, epochs=20, epoch_seconds=0.6,
        heartbeat_seconds=0.5, grace_seconds=3,
    )  # fmt: skip
    generator, study = random.Random(0), bench.create()
    # One that sleeps in a transaction keeps SQLite's lock until this process wakes it.
    backend(study._storage).retrier.patience = 1.0
    running = [start(work, bench) for _ in range(_N_WORKERS)]
    lost: list[FrozenTrial] = []
    deadline = time.monotonic() + 500
    try:
        time.sleep(5)
        while len(lost) < N_WAKES and time.monotonic() < deadline:
            time.sleep(generator.uniform(0.2, 1.0))
            busy = [process for process in running if _held(study, [process])]
            sleepers = generator.sample(busy, min(len(busy), _N_ASLEEP))
            for process in sleepers:
                os.kill(process.pid or 0, signal.SIGSTOP)
            given_away = _wait_until_given_away(study, sleepers)
            for process in sleepers:
                os.kill(process.pid or 0, signal.SIGCONT)
            time.sleep(0.5)
            assert all(process.is_alive() for process in running)
            now = {t.number: t for t in study._storage.get_all_trials(study._study_id)}
            assert [now[t.number] for t in given_away] == given_away
            lost += given_away
        study.set_user_attr(attributes.STOP, "now")
        finish(running)
    finally:
        for process in running:
            process.kill()
    assert len(lost) >= N_WAKES
    trials = {t.number: t for t in bench.open().get_trials(deepcopy=False)}
    assert [trials[t.number] for t in lost] == lost
    folder = manager.study_checkpoints(study)
    for trial in lost:
        assert f"_{trial.number:06d}_" not in folder.path(root(trial)).name
    succeeded = set[int]().union(*map(before, trials.values()))
    assert {t.number for t in lost} <= succeeded
    done = [t for t in trials.values() if t.state == TrialState.COMPLETE]
    assert len({root(t) for t in done}) == len(done), "each training ends once"


def _wait_until_given_away(
    study: optuna.Study, sleepers: Sequence[BaseProcess]
) -> list[FrozenTrial]:
    """The trials that stopped workers had, once other workers have them.

    Who was stopped under the study's lock keeps all others waiting; nothing is given away then.
    """
    deadline = time.monotonic() + 10
    held, given_away = _held(study, sleepers), []
    while len(given_away) < len(held) and time.monotonic() < deadline:
        time.sleep(0.2)
        with contextlib.suppress(StorageError):  # As `study reap` does, and a worker that is free.
            folder = manager.study_checkpoints(study)
            resume_dead = partial(requeue_dead_trials, study, folder)
            run_locked(study._storage, study._study_id, resume_dead, timeout=1)
        trials = study._storage.get_all_trials(study._study_id, deepcopy=True)
        succeeded = set[int]().union(*map(before, trials))
        given_away = [trials[n] for n in held if n in succeeded]
    return given_away


def _held(study: optuna.Study, processes: Sequence[BaseProcess]) -> list[int]:
    """Numbers of the trials that those workers have begun to train."""
    pids = {str(process.pid) for process in processes}
    return [
        t.number
        for t in study._storage.get_all_trials(study._study_id, deepcopy=False)
        if t.state == TrialState.RUNNING
        and t.intermediate_values
        and str(t.user_attrs.get(attributes.WORKER, "/")).split("/")[1] in pids
    ]
