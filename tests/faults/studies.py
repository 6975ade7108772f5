"""The real worker loop on trainings so small that the storage is what is measured."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.bench.storage import run_worker
from optuna_deepweeds.studies import manager, worker
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.tasks import ImageTask, run, training_seed
from optuna_deepweeds.trials import replaced, root
from tests import images
from tests.faults.training import QuickTraining, Recorded, retraining

_LOG = "training.log"


@dataclass(frozen=True)
class BenchStudy:
    """A study for many processes, as each of them opens it.

    Attributes:
        url: Its storage.
        folder: Where checkpoints and the log of trained epochs lie.
        n_trials: Its total when it is created.
        n_enqueued: Trials that are queued when it is created.
        name: The study's.
        epochs: Of a full training.
        pruner: As in a specification; `dora` also continues the trials that it paused.
        epoch_seconds: Time of an epoch that is not trained; None trains networks.
        checkpoint_seconds: As `run.CHECKPOINT_SECONDS`.
        heartbeat_seconds: Between two heartbeats.
        grace_seconds: After which a worker without a heartbeat counts as dead.
    """

    url: str
    folder: Path
    name: str = "bench"
    n_trials: int = 60
    n_enqueued: int = 0
    epochs: int = 1
    pruner: str = "asha"
    epoch_seconds: float | None = 0.0
    checkpoint_seconds: float = 0.0
    heartbeat_seconds: float = 1.0
    grace_seconds: float = 20.0

    def open(self) -> optuna.Study:
        """The study, ready to be worked on."""
        study = manager.load_plain(self.name, self._storage())
        return manager.equip(study)

    def create(self) -> optuna.Study:
        """Create the study with a queue of different trials, or open it."""
        spec = StudySpec(
            dataset="demo",
            space="course-small",
            sampler="random",
            pruner=self.pruner,
            epochs=self.epochs,
            thaw=self.pruner == "dora",
        )
        budget = Budget(trials=self.n_trials)
        study, is_new = manager.create_or_continue(self.name, spec, budget, self._storage())
        for i in range(self.n_enqueued if is_new else 0):
            study.enqueue_trial({"learning_rate_init": 1e-3 * (1 + i / 1000)})
        return study

    def _storage(self) -> Any:
        return open_storage(
            self.url,
            heartbeat_interval=self.heartbeat_seconds,
            grace_period=self.grace_seconds,
            wait=60,
        )


def work(bench: BenchStudy) -> None:
    """One worker process: run trials until the study is done."""
    _work_on(bench, bench.open)


def create_and_work(bench: BenchStudy, start_at: float) -> None:
    """At a given time, together with others: create or find the study, and work on it."""
    time.sleep(max(0.0, start_at - time.time()))
    _work_on(bench, bench.create)


def _work_on(bench: BenchStudy, get: Callable[[], optuna.Study]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The reaper's warnings are what the tests are about.
    logging.getLogger("optuna_deepweeds").setLevel(logging.ERROR)
    os.environ["DEEPWEEDS_CHECKPOINTS"] = str(bench.folder / "checkpoints")
    run.CHECKPOINT_SECONDS = bench.checkpoint_seconds
    worker.POLL_SECONDS = 0.1
    study = get()
    train: Callable[..., float]
    if bench.epoch_seconds is None:
        import torch

        torch.set_num_threads(1)
        train = ImageTask(images.tiny(), manager.study_spec(study).search_space, bench.epochs)
    else:
        train = QuickTraining(bench.epoch_seconds)
    run_worker(study, Recorded(train, bench.folder / _LOG))


def read_log(bench: BenchStudy) -> list[str]:
    """What the workers have noted so far, a line each."""
    log = bench.folder / _LOG
    return log.read_text().splitlines() if log.exists() else []


@dataclass
class Findings:
    """What became of a study that has ended.

    Attributes:
        problems: What is wrong with it; empty if nothing is.
        again: Epochs that were trained again because their worker was killed before it saved.
    """

    problems: list[str]
    again: int


def check_study(bench: BenchStudy, *, n_trials: int) -> Findings:
    """Look at a study that has ended with a total of `n_trials`."""
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
    # A continuation finishes its root once more, but nothing goes on from a complete trial.
    continued = replaced(trials)
    problems += [
        f"trial {t.number} trained to the end and continued"
        for t in finished
        if t.state == TrialState.COMPLETE and t.number in continued
    ]
    roots = Counter(root(t) for t in finished if t.number not in continued)
    problems += [f"trial {first} finished {n} times" for first, n in roots.items() if n > 1]
    if not set(range(bench.n_enqueued)) <= set(roots):
        problems.append("not every enqueued trial was finished")
    params = Counter(repr(sorted(t.params.items())) for t in finished if t.number not in continued)
    problems += [f"{text} run {n} times" for text, n in params.items() if n > 1]
    log = retraining(bench.folder / _LOG)
    root_by_seed = {training_seed(0, first): first for first in {root(t) for t in trials}}
    saved = {(root_by_seed[seed], epoch) for seed, epoch in log.saved}
    stored = {(root(t), step) for t in trials for step in t.intermediate_values}
    if lost := saved - stored:
        problems.append(f"{len(lost)} saved epochs are not in the storage")
    return Findings(problems + log.problems, log.again)
