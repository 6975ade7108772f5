"""The worker loop: claim a trial, train it, settle it; to the exact total.

Whatever ends a worker, its trial is not lost: told to stop, it puts the trial back; killed, its
heartbeat ends and another worker runs the trial again from its checkpoint.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, Protocol

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import (
    DeepWeedsError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    TrainingError,
)
from optuna_deepweeds.files import is_out_of_room
from optuna_deepweeds.studies import manager, resume
from optuna_deepweeds.studies.accounting import best_trial, is_ahead, ranked
from optuna_deepweeds.studies.claim import Claim, claim, fail
from optuna_deepweeds.studies.ending import Ending, Wait
from optuna_deepweeds.studies.storage.heartbeat import Heartbeat
from optuna_deepweeds.studies.storage.locks import run_locked
from optuna_deepweeds.tasks.run import Run, TrialInterrupted
from optuna_deepweeds.tasks.task import Task
from optuna_deepweeds.trials import root

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often a worker without work looks whether the others' trials have ended."""
MAX_FAILURES_IN_A_ROW = 20
"""A worker gives up after so many failed trials without a finished one."""
MAX_FAILURES_ALIKE = 3
"""As many for one reason, before any has finished, show a mistake in an objective or script."""
_OF_A_TRIAL = ("OutOfMemoryError: ", "MemoryError: ", "took longer than ")
"""Failures of one trial's parameters that read like those of others."""
N_BEST_KEPT = 5
"""Complete trials whose checkpoints are kept."""
N_PAUSED_KEPT = 50
"""Paused trials whose checkpoints are kept where trials may be continued; keeping more gained
nothing on recorded curves."""


class _Overdue(BaseException):
    """The trial took too long; no `Exception`, which an objective may catch."""


class Observer(Protocol):
    """What a display is told; every method may be called often."""

    def trial_started(self, number: int, config: dict[str, Any]) -> None: ...
    def epoch_finished(self, number: int, epoch: int, value: float) -> None: ...
    def trial_ended(self, study: optuna.Study, trial: FrozenTrial, note: str) -> None: ...


class Worker:
    """Runs trials of one study until its budget is spent or the worker is told to stop.

    Args:
        study: A study equipped by `manager`.
        task: That of its specification.
        observer: A display.
        should_stop: Polled during training; true puts the running trial back and ends the worker.
        device: As for `Run`.
        trial_seconds: How long a trial may be trained, in all its stays; one that takes longer
            fails. In the main thread this also ends a task that reports nothing, or hangs.
        stop_when_flat: As for `claim`.
    """

    def __init__(
        self,
        study: optuna.Study,
        task: Task,
        *,
        observer: Observer,
        should_stop: Callable[[], bool] = lambda: False,
        device: str | None = None,
        trial_seconds: float | None = None,
        stop_when_flat: bool = False,
    ) -> None:
        self._study = study
        self._storage = study._storage
        self._spec = manager.study_spec(study)
        self._task = task
        self._device = device
        self._trial_seconds = math.inf if trial_seconds is None else trial_seconds
        self._stop_when_flat = stop_when_flat
        self._overdue = ""
        self._is_training = False
        self._checkpoints = manager.study_checkpoints(study)
        self._observer = observer
        self._asked_to_stop = should_stop
        self._failures: list[str] = []
        is_own = self._spec.kind != "images"
        self._most = MAX_FAILURES_ALIKE if is_own else MAX_FAILURES_IN_A_ROW
        self._is_untidy = False

    def run(self) -> Ending:
        """Work until there is a reason to leave, and return it.

        Raises:
            DeepWeedsError: If too many trials in a row fail, with the reason of the last one.
            InvalidInputError: If the study has no limit, or its specification is damaged.
            NotFoundError: If the study is deleted meanwhile.
            StorageError: If the storage stays out of reach.
        """
        try:
            with self._woken():
                ending = self._run()
        except KeyError as error:
            studies = self._storage.get_all_studies()
            if self._study._study_id in [study._study_id for study in studies]:
                raise
            raise NotFoundError(
                f"study {self._study.study_name!r} was deleted while this worker ran."
            ) from error
        logger.info("leaving: %s.", ending.value)
        return ending

    def _run(self) -> Ending:
        while not self._asked_to_stop():
            claimed = run_locked(self._storage, self._study._study_id, self._claim)
            if isinstance(claimed, Ending):
                return claimed
            if isinstance(claimed, Wait):
                time.sleep(POLL_SECONDS)
            elif isinstance(claimed, FrozenTrial):
                self._end(claimed, f"failed: {claimed.user_attrs[attributes.FAILURE]}")
            else:
                self._run_trial(claimed)
        return Ending.INTERRUPTED

    def _claim(self) -> Claim | FrozenTrial | Wait | Ending:
        trials = self._study.get_trials(deepcopy=False)
        if resume.requeue_dead_trials(self._study, self._checkpoints, trials):
            trials = self._study.get_trials(deepcopy=False)
        if self._is_untidy:
            self._tidy(trials)
        return claim(
            self._study,
            self._spec,
            self._task.space,
            trials,
            stop_when_flat=self._stop_when_flat,
        )

    def _run_trial(self, claimed: Claim) -> None:
        number, trial_id = claimed.trial.number, claimed.trial._trial_id
        logger.info("trial %d starts: %s", number, claimed.config)
        self._observer.trial_started(number, claimed.config)
        self._overdue = ""
        left = self._trial_seconds - claimed.seconds
        end = partial(self._end_overdue, trial_id)
        with Heartbeat(self._storage, trial_id, seconds=left, on_overdue=end) as heart:
            try:
                ended, note = self._train_and_settle(claimed, heart)
            except (UpdateFinishedTrialError, _Overdue):
                ended = self._storage.get_trial(trial_id)
                note = f"failed: {self._overdue}" if self._overdue else "taken over"
                if not self._overdue:
                    logger.warning("trial %d was taken over by another worker.", number)
        self._end(ended, note)

    def _end_overdue(self, trial_id: int) -> None:
        """End a trial that takes too long, from the heartbeat's thread, then wake its task."""
        if not self._overdue:
            reason = f"took longer than {self._trial_seconds:g} s, the time limit of a trial"
            with contextlib.suppress(UpdateFinishedTrialError):
                fail(self._study, trial_id, reason)
                self._overdue = reason
        elif signal.getsignal(signal.SIGALRM) == self._wake:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    @contextlib.contextmanager
    def _woken(self) -> Iterator[None]:
        """Let SIGALRM end a step that does not ask whether to stop; in the main thread alone."""
        if threading.current_thread() != threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, self._wake)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _wake(self, number: int, frame: FrameType | None) -> None:
        if self._is_training and self._overdue:
            raise _Overdue
        if self._is_training and self._asked_to_stop():
            raise TrialInterrupted

    def _end(self, trial: FrozenTrial, note: str) -> None:
        """Tell of a trial that has ended, and give up after too many failures."""
        said = note or trial.state.name.lower()
        if trial.value is not None:
            said += f", {trial.value:.4g} at epoch {trial.last_step}"
        logger.info("trial %d ended: %s", trial.number, said)
        self._observer.trial_ended(self._study, trial, note)
        self._is_untidy = True
        if note.startswith("failed"):
            gc.collect()  # What a traceback holds in circles may be most of a device's memory.
            self._failures.append(note)
            if any(word in note for word in _OF_A_TRIAL):
                self._most = MAX_FAILURES_IN_A_ROW
        elif trial.state.is_finished():
            self._failures, self._most = [], MAX_FAILURES_IN_A_ROW
        is_mistake = len(self._failures) >= self._most and len(set(self._failures)) == 1
        if is_mistake or len(self._failures) >= MAX_FAILURES_IN_A_ROW:
            raise DeepWeedsError(
                f"{len(self._failures)} trials failed in a row; the last one {note.rstrip('.')}. "
                f"`study trials {shlex.quote(self._study.study_name)} --failed` lists them."
            )

    def _train_and_settle(self, claimed: Claim, heart: Heartbeat) -> tuple[FrozenTrial, str]:
        """Train the claimed trial, store how it ended, and return it with a note.

        Raises:
            UpdateFinishedTrialError: Another worker has settled it meanwhile.
        """
        trial, started = claimed.trial, time.monotonic()

        def note_seconds() -> None:
            seconds = claimed.seconds + time.monotonic() - started
            trial.set_user_attr(attributes.TRAIN_SECONDS, round(seconds, 3))

        try:
            if claimed.is_unjudged and not claimed.allowance.must_finish and trial.should_prune():
                raise optuna.TrialPruned
            self._is_training = True
            try:
                value = self._task(trial, self._lend(claimed, heart))
            finally:
                self._is_training = False
            note_seconds()
            return self._tell(trial, value), ""
        except optuna.TrialPruned:
            note_seconds()
            return self._stop(claimed)
        except TrialInterrupted:
            note_seconds()
            return resume.put_back(self._storage, trial), "put back"
        except UpdateFinishedTrialError:
            raise
        except TrainingError as error:
            return fail(self._study, trial._trial_id, str(error)), f"failed: {error}"
        except (InvalidInputError, OSError) as error:
            if is_out_of_room(error):  # The trial is run again when there is room.
                raise StorageError(f"trial {trial.number} cannot be saved: {error}") from error
            if isinstance(error, OSError):
                return self._fail(trial, error)
            # Of the task: the next trial would end so too.
            fail(self._study, trial._trial_id, str(error))
            raise
        except DeepWeedsError:
            raise
        except KeyboardInterrupt:
            with contextlib.suppress(UpdateFinishedTrialError):
                resume.put_back(self._storage, trial)
            raise
        except Exception as error:
            return self._fail(trial, error)

    def _fail(self, trial: optuna.Trial, error: Exception) -> tuple[FrozenTrial, str]:
        said = f"{type(error).__name__}: {error}"
        return fail(self._study, trial._trial_id, said, error), f"failed: {said}"

    def _lend(self, claimed: Claim, heart: Heartbeat) -> Run:
        number = claimed.trial.number

        def on_report(epoch: int, value: float) -> None:
            logger.info("trial %d, epoch %d: %.4g", number, epoch, value)
            self._observer.epoch_finished(number, epoch, value)

        return Run(
            claimed.trial,
            config=claimed.config,
            seed=claimed.seed,
            epochs=self._spec.epochs,
            checkpoint=self._checkpoints.claim(claimed.root, number, claimed.trial.datetime_start),
            device=self._device,
            allowance=claimed.allowance,
            asked_to_stop=lambda: heart.is_lost or self._asked_to_stop(),
            on_report=on_report,
        )

    def _stop(self, claimed: Claim) -> tuple[FrozenTrial, str]:
        """Settle a trial that the pruner has stopped.

        If the study may end with it and it is ahead of all that finished, it goes on as closing.
        """
        trial, direction = claimed.trial, self._study.direction
        if claimed.is_last:
            best = best_trial(self._study.get_trials(deepcopy=False), direction)
            if is_ahead(self._storage.get_trial(trial._trial_id), best, direction):
                closing = {attributes.CLOSING: True}
                return resume.put_back(self._storage, trial, closing), "put back"
        return self._tell(trial, state=TrialState.PRUNED), ""

    def _tell(
        self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None
    ) -> FrozenTrial:
        try:
            return self._study.tell(trial, value, state=state)
        except ValueError as error:
            if self._storage.get_trial(trial._trial_id).state == TrialState.RUNNING:
                raise
            raise UpdateFinishedTrialError(str(error)) from error

    def _tidy(self, trials: Sequence[FrozenTrial]) -> None:
        """Delete the checkpoints that nothing will go on from."""
        keep = [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
        keep += ranked(trials, self._study.direction)[:N_BEST_KEPT]
        roots = {root(t) for t in keep}
        promising = getattr(self._study.pruner, "promising", None)
        if self._spec.thaw and promising is not None:
            numbers = set(promising(self._study, k=N_PAUSED_KEPT))
            roots |= {root(t) for t in trials if t.number in numbers}
        self._checkpoints.keep_only(roots)
        self._is_untidy = False
