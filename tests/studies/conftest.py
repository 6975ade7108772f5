"""Tiny studies over real trainings."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.ending import Ending
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.worker import Worker
from optuna_deepweeds.tasks import FunctionTask, ImageTask, Task

Objective = Callable[..., float]


class Recorder:
    """An observer that remembers, and may ask the worker to stop at some event."""

    def __init__(self, stop_at: Callable[[int, int], bool] = lambda number, epoch: False) -> None:
        self.epochs: list[tuple[int, int]] = []
        self.notes: list[str] = []
        self.stopped = False
        self._stop_at = stop_at

    def trial_started(self, number: int, config: dict[str, Any]) -> None:
        pass

    def epoch_finished(self, number: int, epoch: int, value: float) -> None:
        self.epochs.append((number, epoch))
        self.stopped = self.stopped or self._stop_at(number, epoch)

    def trial_ended(self, study: optuna.Study, trial: FrozenTrial, note: str) -> None:
        self.notes.append(note)


class Bench:
    """Makes studies in one SQLite file and runs workers on them."""

    def __init__(self, folder: Path, images: Dataset) -> None:
        self.url = f"sqlite:///{folder / 'studies.db'}"
        self.images = images

    def study(self, name: str = "study", trials: int | None = 3, **spec: Any) -> optuna.Study:
        """A small study; calling again goes on with it."""
        fields = {"sampler": "random", "pruner": "none", "epochs": 2, "space": "course-small"}
        whole = StudySpec(dataset="demo", dataset_fingerprint="tiny", **(fields | spec))
        storage = open_storage(self.url)
        study, _ = manager.create_or_continue(name, whole, Budget(trials=trials), storage)
        return study

    def task(self, study: optuna.Study, train: Objective | None = None) -> Task:
        """What a study trains; `train` stands in for networks."""
        spec = manager.study_spec(study)
        if train is not None:
            return FunctionTask(train, space=spec.search_space, max_resource=spec.epochs)
        return ImageTask(self.images, spec.search_space, spec.epochs)

    def work(
        self,
        study: optuna.Study,
        recorder: Recorder | None = None,
        *,
        train: Objective | None = None,
        **options: Any,
    ) -> tuple[Ending, Recorder]:
        """Run a worker on the CPU until it leaves."""
        recorder = recorder or Recorder()
        worker = Worker(
            study,
            self.task(study, train),
            observer=recorder,
            should_stop=lambda: recorder.stopped,
            device="cpu",
            **options,
        )
        return worker.run(), recorder

    def crowd(
        self,
        n_workers: int,
        budget: Budget,
        train: Objective,
        *,
        stop_when_flat: bool = False,
        **spec: Any,
    ) -> optuna.Study:
        """Run several workers at once, each on its own connection, until all leave."""
        study = self.study(trials=None, **spec)
        manager.set_budget(study, budget)

        def work(i: int) -> None:
            mine = manager.open_study(study.study_name, self.url)
            self.work(mine, train=train, stop_when_flat=stop_when_flat)

        with ThreadPoolExecutor(n_workers) as pool:
            list(pool.map(work, range(n_workers)))
        return study


@pytest.fixture
def bench(tmp_path: Path, tiny_images: Dataset) -> Bench:
    return Bench(tmp_path, tiny_images)
