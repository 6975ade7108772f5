"""Training without networks for tests of everything around it, with a log of what it did.

The log has a line for every stay at a worker that began, every epoch that was trained and every
checkpoint that is in its place: which file, when, by which process. `retraining` tells from it
whether work was done twice, independently of what the storage says.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna

from optuna_deepweeds.tasks import Run
from optuna_deepweeds.tasks.run import TrialInterrupted

_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class QuickTraining:
    """An objective that reports a curve, saves and resumes, and learns nothing.

    Attributes:
        epoch_seconds: How long an epoch takes, without using the processor.
        noise: Standard deviation of the reports, so that curves cross.
    """

    epoch_seconds: float = 0.0
    noise: float = 0.0

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        """The last value of a curve that follows from the run's seed."""
        curve = _read(run.checkpoint, run.seed) if run.checkpoint.exists() else []
        run.catch_up(curve)
        end = 0.1 + 0.8 * (run.seed % 9973) / 9973

        def save(path: Path) -> None:
            path.write_text(json.dumps({"seed": run.seed, "curve": curve}))

        for epoch in range(len(curve) + 1, run.epochs + 1):
            ends_at = time.monotonic() + self.epoch_seconds
            while (left := ends_at - time.monotonic()) > 0:
                if run.should_stop():
                    raise TrialInterrupted
                time.sleep(min(left, _POLL_SECONDS))
            drawn = random.Random(run.seed + epoch).gauss(0, self.noise)
            curve.append(end * (1 - 0.5**epoch) + drawn)
            run.report(curve[-1], epoch, save=save)
        return float(curve[-1])


class Recorded:
    """An objective, noting each epoch after it and each checkpoint once it is written.

    Args:
        objective: Takes a trial and its run.
        path: The log, shared by all workers.
    """

    def __init__(self, objective: Callable[[optuna.Trial, Run], float], path: Path) -> None:
        self._objective = objective
        # Single short writes to a file opened for appending do not mix.
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        report, keep = run.report, run._save

        def report_noted(value: float, step: int, save: Callable[[Path], None]) -> None:
            self._note("trained", run, step)
            report(value, step, save)

        def keep_noted(step: int, save: Callable[[Path], None]) -> None:
            # What an objective saves to is put in its place after that: `save` does both.
            def save_and_note(path: Path) -> None:
                save(path)
                self._note("saved", run, step)

            keep(step, save_and_note)

        run.report, run._save = report_noted, keep_noted  # type: ignore[method-assign,assignment]
        self._note("began", run, 0)
        return self._objective(trial, run)

    def _note(self, what: str, run: Run, epoch: int) -> None:
        line = f"{what} {run.seed} {epoch} {run.checkpoint.name} {time.time():.3f} {os.getpid()}"
        os.write(self._file, f"{line}\n".encode())


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
    last_saved: dict[int, tuple[int, str]] = {}
    claimed: dict[int, str] = {}
    trained: set[tuple[int, int]] = set()
    saved: set[tuple[int, int]] = set()
    again, problems = 0, []
    for line in path.read_text().splitlines():
        what, *numbers, file, _, _ = line.split()
        seed, epoch = map(int, numbers)
        # A worker that was given up for dead saves where nobody looks.
        is_late = file < claimed.setdefault(seed, file)
        if what == "began":
            claimed[seed] = max(file, claimed[seed])
        elif what == "trained":
            again += (seed, epoch) in trained
            trained.add((seed, epoch))
            last, where = last_saved.get(seed, (0, ""))
            if epoch <= last and not is_late:
                problems.append(f"trained again after its checkpoint: {where}; {line}")
        elif not is_late:
            saved.add((seed, epoch))
            last_saved[seed] = epoch, line
    return Retraining(frozenset(saved), again, problems)


def _read(path: Path, seed: int) -> list[float]:
    saved = json.loads(path.read_text())
    assert saved["seed"] == seed, f"{path} belongs to seed {saved['seed']}, not {seed}."
    return list(saved["curve"])
