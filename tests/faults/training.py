"""Training without networks for tests of everything around it, with a log of what it did.

The log has a line for every epoch that was trained and every checkpoint that was written, from
which `retraining` tells whether work was done twice, independently of what the storage says.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import TrainingInterrupted, UnusableCheckpointError

_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class _Report:
    """As `training.EpochReport`."""

    epoch: int
    valid_accuracy: float
    _save: Callable[[Path], None]

    def save(self, path: Path) -> None:
        self._save(path)


@dataclass(frozen=True)
class QuickTraining:
    """Stands in for `training.train`: reports a curve, saves and resumes, and learns nothing.

    Attributes:
        epoch_seconds: How long an epoch takes, without using the processor.
        noise: Standard deviation of the reports, so that curves cross.
    """

    epoch_seconds: float = 0.0
    noise: float = 0.0

    def __call__(
        self,
        config: Mapping[str, Any],
        data: Dataset,
        *,
        seed: int,
        epochs: int,
        on_epoch: Callable[[Any], None],
        on_resume: Callable[[Sequence[float]], None],
        resume_from: Path | None,
        should_stop: Callable[[], bool],
        **others: Any,
    ) -> Any:
        """As `training.train`; the curve follows from `seed`."""
        curve = [] if resume_from is None else _read(resume_from, seed)
        on_resume(curve)
        end = 0.1 + 0.8 * (seed % 9973) / 9973
        for epoch in range(len(curve) + 1, epochs + 1):
            ends_at = time.monotonic() + self.epoch_seconds
            while (left := ends_at - time.monotonic()) > 0:
                if should_stop():
                    raise TrainingInterrupted
                time.sleep(min(left, _POLL_SECONDS))
            drawn = random.Random(seed + epoch).gauss(0, self.noise)
            curve.append(end * (1 - 0.5**epoch) + drawn)

            def save(path: Path) -> None:
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f".{path.name}.{os.getpid()}.part")
                part.write_text(json.dumps({"seed": seed, "curve": curve}))
                os.replace(part, path)

            on_epoch(_Report(epoch, curve[-1], save))
        return SimpleNamespace(valid_accuracy=curve[-1])


class Recorded:
    """`train`, noting each epoch after it and each checkpoint once it is written.

    Args:
        train: `training.train` or a stand-in.
        path: The log, shared by all workers.
    """

    def __init__(self, train: Callable[..., Any], path: Path) -> None:
        self._train = train
        # Single short writes to a file opened for appending do not mix.
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def __call__(
        self, *args: Any, seed: int, on_epoch: Callable[[Any], None], **kwargs: Any
    ) -> Any:
        def noted(report: Any) -> None:
            self._note("trained", seed, report.epoch)
            save = report._save

            def save_and_note(path: Path) -> None:
                save(path)
                self._note("saved", seed, report.epoch)

            on_epoch(replace(report, _save=save_and_note))

        return self._train(*args, seed=seed, on_epoch=noted, **kwargs)

    def _note(self, what: str, seed: int, epoch: int) -> None:
        os.write(self._file, f"{what} {seed} {epoch}\n".encode())


@dataclass(frozen=True)
class Retraining:
    """What a log tells.

    Attributes:
        saved: (seed, epoch) of every checkpoint that was written.
        again: Epochs that were trained again because their worker was killed before it saved.
        problems: Epochs that were trained again although a checkpoint held them.
    """

    saved: frozenset[tuple[int, int]]
    again: int
    problems: list[str]


def retraining(path: Path) -> Retraining:
    """Read the log of `Recorded`."""
    last_saved: dict[int, int] = {}
    trained: set[tuple[int, int]] = set()
    saved: set[tuple[int, int]] = set()
    again, problems = 0, []
    for line in path.read_text().splitlines():
        what, *numbers = line.split()
        seed, epoch = map(int, numbers)
        if what == "saved":
            saved.add((seed, epoch))
            last_saved[seed] = epoch
            continue
        again += (seed, epoch) in trained
        trained.add((seed, epoch))
        if epoch <= last_saved.get(seed, 0):
            problems.append(f"epoch {epoch} of seed {seed} trained again after its checkpoint")
    return Retraining(frozenset(saved), again, problems)


def _read(path: Path, seed: int) -> list[float]:
    saved = json.loads(path.read_text())
    if saved["seed"] != seed:
        raise UnusableCheckpointError(f"{path} belongs to seed {saved['seed']}, not {seed}.")
    return list(saved["curve"])
