"""The real worker loop on a training small enough that the storage is what is measured.

Each worker writes a line for every epoch that it trained, from which `check_study` tells whether
work was lost or done twice, independently of what the storage says.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.studies import manager, objective, worker
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.checkpoints import root_number
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage

STUDY = "bench"
_N_IMAGES = 48
_N_CLASSES = 4
_EPOCHS_LOG = "epochs.log"


@dataclass(frozen=True)
class BenchStudy:
    """A study of the storage benchmark, as every process opens it.

    Attributes:
        url: Its storage.
        folder: Where checkpoints and the log of trained epochs lie.
        heartbeat_seconds: Between two heartbeats.
        grace_seconds: After which a worker without a heartbeat counts as dead.
    """

    url: str
    folder: Path
    heartbeat_seconds: float = 1.0
    grace_seconds: float = 20.0

    def open(self) -> optuna.Study:
        """The study, ready to be worked on."""
        storage = open_storage(
            self.url,
            heartbeat_interval=self.heartbeat_seconds,
            grace_period=self.grace_seconds,
            wait=60,
        )
        study = manager.load_plain(STUDY, storage)
        return manager.equip(study, manager.study_spec(study))

    def create(self, *, n_trials: int, n_enqueued: int, epochs: int) -> optuna.Study:
        """Create the study with a queue of different trials."""
        spec = StudySpec(
            dataset="demo", space="course-small", sampler="random", pruner="asha", epochs=epochs
        )
        storage = open_storage(self.url, wait=60)
        study, _ = manager.create_or_continue(STUDY, spec, Budget(trials=n_trials), storage)
        for i in range(n_enqueued):
            study.enqueue_trial({"learning_rate_init": 1e-3 * (1 + i / 1000)})
        return study


class _Log:
    """An observer that notes trained epochs in a file shared by all workers."""

    def __init__(self, path: Path) -> None:
        # Single short writes to a file opened for appending do not mix.
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def trial_started(self, number: int, config: dict[str, Any]) -> None:
        """Nothing to note."""

    def epoch_finished(self, number: int, epoch: int, value: float) -> None:
        os.write(self._file, f"{number} {epoch}\n".encode())

    def trial_ended(self, study: optuna.Study, trial: FrozenTrial, note: str) -> None:
        """Nothing to note."""


def work(bench: BenchStudy) -> None:
    """One worker process: run trials until the study is done."""
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ["DEEPWEEDS_CHECKPOINTS"] = str(bench.folder / "checkpoints")
    # Every epoch is saved before it is reported and noted, so an epoch noted twice was lost.
    objective.CHECKPOINT_SECONDS = 0.0
    worker.POLL_SECONDS = 0.1
    log = _Log(bench.folder / _EPOCHS_LOG)
    worker.Worker(bench.open(), _images(), observer=log, device="cpu").run()


def open_empty(url: str, start_at: float) -> None:
    """Open a storage at a given time, together with the other processes."""
    time.sleep(max(0.0, start_at - time.time()))
    storage = open_storage(url)
    optuna.create_study(storage=storage, study_name=str(os.getpid()))


def check_study(bench: BenchStudy, *, n_trials: int, n_enqueued: int) -> list[str]:
    """What is wrong with a study that has ended; empty if nothing is."""
    study = bench.open()
    trials = study.get_trials(deepcopy=False)
    state = progress(trials, study.direction)
    problems = []
    if state.finished != n_trials:
        problems.append(f"{state.finished} trials finished instead of {n_trials}")
    if state.running or state.waiting:
        problems.append(f"{state.running} left running, {state.waiting} left waiting")
    if state.failed:
        reasons = {str(t.user_attrs.get(attributes.FAILURE)) for t in trials}
        problems.append(f"{state.failed} failed: {', '.join(sorted(reasons))}")
    if [t.number for t in trials] != list(range(len(trials))):
        problems.append("trial numbers are not 0, 1, 2, …")
    finished = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    roots = Counter(root_number(t) for t in finished)
    problems += [f"trial {root} finished {n} times" for root, n in roots.items() if n > 1]
    if n_enqueued and sorted(r for r in roots if r < n_enqueued) != list(range(n_enqueued)):
        problems.append("not every enqueued trial was finished")
    params = Counter(repr(sorted(t.params.items())) for t in finished)
    problems += [f"{text} run {n} times" for text, n in params.items() if n > 1]
    by_number = {t.number: root_number(t) for t in trials}
    lines = (bench.folder / _EPOCHS_LOG).read_text().split("\n")[:-1]
    epochs = Counter(
        (by_number[int(number)], int(epoch)) for number, epoch in map(str.split, lines)
    )
    problems += [
        f"epoch {epoch} of trial {root} trained {n} times"
        for (root, epoch), n in epochs.items()
        if n > 1
    ]
    trained = {(root_number(t), step) for t in trials for step in t.intermediate_values}
    if lost := set(epochs) - trained:
        problems.append(f"{len(lost)} trained epochs are not in the storage")
    return problems


def _images() -> Dataset:
    """A few random pictures: enough to train on, nothing to learn."""
    generator = np.random.default_rng(0)
    order = np.arange(_N_IMAGES)
    return Dataset(
        name="demo",
        images=generator.integers(0, 256, (_N_IMAGES, 32, 32, 3), dtype=np.uint8),
        labels=generator.integers(0, _N_CLASSES, _N_IMAGES),
        classes=tuple("abcd"),
        train=order[:32],
        valid=order[32:40],
        test=order[40:],
    )


def random_pause(generator: random.Random, mean_seconds: float) -> float:
    """Seconds until the next disturbance."""
    return generator.uniform(0.2, 1.8) * mean_seconds
