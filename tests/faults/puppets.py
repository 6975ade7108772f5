"""Real workers that stand still wherever a test wants them to, on a clock of its own.

Each runs in a thread of its own on a storage of its own, and only while the test lets it: the
test's thread and its workers' never run at the same time.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from optuna_deepweeds.files import write_whole
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.ending import Ending
from optuna_deepweeds.studies.worker import Worker
from optuna_deepweeds.tasks import FunctionTask, Run
from optuna_deepweeds.trials import root

_LONGEST_SECONDS = 120.0


class Killed(BaseException):
    """Ends a worker as a signal does: it settles nothing."""


class Clock(SimpleNamespace):
    """In place of the module `time`, where a training reads it."""

    def __init__(self) -> None:
        super().__init__(now=0.0)

    def monotonic(self) -> float:
        return float(self.now)


class Books:
    """What the workers of one study did, as they saw it themselves.

    Attributes:
        reports: (Number of a trial, epoch) of every report that the storage took.
        saved: First trial of a chain -> its last epoch that was saved by who had it.
        problems: What went against the rules.
    """

    def __init__(self) -> None:
        self.reports: set[tuple[int, int]] = set()
        self.saved: dict[int, int] = {}
        self.problems: list[str] = []


class Puppet:
    """A worker and where it stands.

    Attributes:
        trial: The trial that it believes to have, or None.
        ending: How it left: an ending, an error, or `Killed`; None while it works.
        asleep: Whether it is stopped; set by the test.
        stop_asked: Whether it was told to stop; set by the test.
    """

    def __init__(self, study: optuna.Study, books: Books, clock: Clock) -> None:
        self.study, self.books, self.clock = study, books, clock
        self.trial: FrozenTrial | None = None
        self.ending: Ending | BaseException | None = None
        self.asleep = self.stop_asked = False
        self._order = ""
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self._await()

    def step(self, order: str) -> None:
        """Let it go on to where it stands next.

        Args:
            order: "train" the epoch, for a "long" time, "fail" it, or be "killed"; the last also
                "before saving" the epoch, or "before telling" it.
        """
        self._order = order
        self._go.release()
        self._await()

    def is_given_away(self) -> bool:
        """Whether its trial was given to another, as the storage has it."""
        if self.trial is None:
            return False
        now = self.study._storage._backend.get_trial(self.trial._trial_id)  # type: ignore[attr-defined]
        return bool(now.state.is_finished() or now.datetime_start != self.trial.datetime_start)

    def _await(self) -> None:
        assert self._stands.acquire(timeout=_LONGEST_SECONDS), "a worker does not come back"
        if self.ending is not None:
            self._thread.join()

    def _stand(self) -> str:
        self._stands.release()
        self._go.acquire()
        if self._order == "killed":
            raise Killed
        return self._order

    def _work(self) -> None:
        spec = manager.study_spec(self.study)
        task = FunctionTask(self._train, space=spec.search_space, max_resource=spec.epochs)
        worker = Worker(self.study, task, observer=self, should_stop=self._should_stop)
        try:
            self.ending = worker.run()
        except BaseException as error:
            self.ending = error
        finally:
            self.study._storage.remove_session()
            self._stands.release()

    def _should_stop(self) -> bool:
        if self.trial is None:
            self._stand()  # Free: it looks for work next.
        return self.stop_asked

    def _train(self, trial: optuna.Trial, run: Run) -> float:
        frozen = self.study._storage._backend.get_trial(trial._trial_id)  # type: ignore[attr-defined]
        self.trial, first, books = frozen, root(frozen), self.books
        curve = json.loads(run.checkpoint.read_text()) if run.checkpoint.exists() else []
        if len(curve) < books.saved.get(first, 0) and not self.is_given_away():
            books.problems.append(f"trial {trial.number} begins after epoch {len(curve)}")
        known = set(run.reported)
        try:
            run.catch_up(curve)
        finally:
            books.reports |= {(trial.number, step) for step in run.reported.keys() - known}

        def save(path: Path) -> None:
            nonlocal is_saved
            if order == "before saving":
                raise Killed
            write_whole(path, json.dumps(curve))
            self.clock.now += 1  # Saving takes time, or every epoch would be saved.
            is_saved = not self.is_given_away()

        tell = run._tell

        def tell_or_die(value: float, step: int) -> bool:
            if order == "before telling":
                raise Killed
            return tell(value, step)

        run._tell = tell_or_die  # type: ignore[method-assign]
        for epoch in range(len(curve) + 1, run.epochs + 1):
            order, is_saved = self._stand(), False
            if order == "fail":
                raise ZeroDivisionError
            self.clock.now += 20 if order == "long" else 1
            curve.append(value_of(run.seed, epoch))
            try:
                run.report(curve[-1], epoch, save=save)
            finally:
                if is_saved:
                    books.saved[first] = epoch
                if epoch in run.reported:
                    books.reports.add((trial.number, epoch))
        return float(curve[-1])

    def trial_started(self, number: int, config: dict[str, Any]) -> None:
        pass

    def epoch_finished(self, number: int, epoch: int, value: float) -> None:
        pass

    def trial_ended(self, study: optuna.Study, trial: FrozenTrial, note: str) -> None:
        self.trial = None


def value_of(seed: int, epoch: int) -> float:
    """A curve that follows from a training's seed; curves cross."""
    return (seed * 7919 + epoch * (seed % 101)) % 1009 / 1009
