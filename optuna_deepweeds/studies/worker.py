"""The worker loop: claim a trial under the study's lock, train it, settle it; to the exact total.

Whatever ends a worker, its trial is not lost: told to stop, it puts the trial back; killed, its
heartbeat ends and another worker runs the trial again from its checkpoint.
"""

from __future__ import annotations

import logging
import shlex
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import (
    DeepWeedsError,
    InvalidInputError,
    NotFoundError,
    TrainingError,
)
from optuna_deepweeds.studies import manager, resume
from optuna_deepweeds.studies.accounting import Progress, is_best_unfinished, progress, ranked
from optuna_deepweeds.studies.spec import Budget
from optuna_deepweeds.studies.storage.heartbeat import Heartbeat
from optuna_deepweeds.studies.storage.identity import this_worker
from optuna_deepweeds.studies.storage.locks import run_locked
from optuna_deepweeds.studies.storage.resilient import collecting_params
from optuna_deepweeds.tasks.run import (
    Allowance,
    Run,
    TrialInterrupted,
    TrialTakenOver,
    training_seed,
)
from optuna_deepweeds.tasks.task import Task
from optuna_deepweeds.trials import root, whole_number

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often a worker without work looks whether the others' trials have ended."""
MAX_FAILURES_IN_A_ROW = 20
"""A worker gives up after so many failed trials without a finished one."""
_SLOW_NETWORK = 2.0
"""A study's best networks take longer than its mean; so many times as long is allowed for."""
_N_FOR_PACE = 4
"""Finished trials from which on their mean pace is trusted that far."""
N_BEST_KEPT = 5
"""Complete trials whose checkpoints are kept."""
N_PAUSED_KEPT = 50
"""Paused trials whose checkpoints are kept where trials may be continued; keeping more gained
nothing on recorded curves."""


class Ending(Enum):
    """Why a worker left."""

    TOTAL = "the study's total of trials is reached"
    TIME = "the study's time is spent"
    EPOCHS = "the study's epochs are spent"
    STOPPED = "the study was asked to stop"
    INTERRUPTED = "this worker was asked to stop"


class Observer(Protocol):
    """What a display is told; every method may be called often."""

    def trial_started(self, number: int, config: dict[str, Any]) -> None: ...
    def epoch_finished(self, number: int, epoch: int, value: float) -> None: ...
    def trial_ended(self, study: optuna.Study, trial: FrozenTrial, note: str) -> None: ...


@dataclass(frozen=True)
class _Claim:
    """A trial that is this worker's, how it is run, and the seconds it was trained for before."""

    trial: optuna.Trial
    run: Run
    seconds: float


class Worker:
    """Runs trials of one study until its budget is spent or the worker is told to stop.

    Args:
        study: A study equipped by `manager`.
        task: That of its specification.
        observer: A display.
        should_stop: Polled during training; true puts the running trial back and ends the worker.
        device: As for `Run`.
    """

    def __init__(
        self,
        study: optuna.Study,
        task: Task,
        *,
        observer: Observer,
        should_stop: Callable[[], bool] = lambda: False,
        device: str | None = None,
    ) -> None:
        self._study = study
        self._storage = study._storage
        self._spec = manager.study_spec(study)
        self._task = task
        self._device = device
        self._checkpoints = manager.study_checkpoints(study)
        self._observer = observer
        self._asked_to_stop = should_stop
        self._current = -1
        self._failures = 0
        self._is_untidy = False

    def _on_epoch(self, epoch: int, value: float) -> None:
        logger.debug("trial %d, epoch %d: %.4f", self._current, epoch, value)
        self._observer.epoch_finished(self._current, epoch, value)

    def run(self) -> Ending:
        """Work until there is a reason to leave, and return it.

        Raises:
            DeepWeedsError: If too many trials in a row fail, with the reason of the last one.
            InvalidInputError: If the study has no limit, or its specification is damaged.
            NotFoundError: If the study is deleted meanwhile.
            StorageError: If the storage stays out of reach.
        """
        try:
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
        while True:
            if self._asked_to_stop():
                return Ending.INTERRUPTED
            claim = run_locked(self._storage, self._study._study_id, self._claim)
            if isinstance(claim, Ending):
                return claim
            if claim is None:
                time.sleep(POLL_SECONDS)
                continue
            self._run_trial(claim)

    def _claim(self) -> _Claim | Ending | None:
        """The next trial, a reason to leave, or None while only others' trials are left."""
        trials = self._study.get_trials(deepcopy=False)
        if resume.requeue_dead_trials(self._study, self._checkpoints, trials):
            trials = self._study.get_trials(deepcopy=False)
        if self._is_untidy:
            self._tidy(trials)
        attrs = self._study.user_attrs
        budget = Budget.from_json(attrs.get(attributes.BUDGET))
        if budget == Budget():
            raise InvalidInputError(
                f"study {self._study.study_name!r} must have a limit, or it would never end; "
                f"set one: study resume {shlex.quote(self._study.study_name)} --trials N"
            )
        state = progress(trials, self._study.direction)
        if attrs.get(attributes.STOP):
            return Ending.STOPPED
        ending = _spent(budget, state)
        if ending is not None:
            return ending
        if budget.trials is not None and state.finished + state.running >= budget.trials:
            return None
        # A study that may continue stopped trials must not end with its best network unfinished:
        # its last trial, or its last epochs or minutes, go on with that one, to the end.
        is_last = budget.trials is not None and state.finished + state.running + 1 >= budget.trials
        is_last_chance = _is_last_chance(budget, state, self._spec.epochs)
        has_nothing = self._spec.thaw and state.complete == 0
        if has_nothing and is_last_chance and state.running:
            return None  # One of those may reach the end.
        is_closing = (
            self._spec.thaw
            and (is_last or is_last_chance)
            and is_best_unfinished(trials, self._study.direction)
        )
        is_continuation = state.waiting == 0 and self._thaw(is_closing=is_closing)
        must_finish = is_closing and (has_nothing or is_continuation)
        trial = self._study.ask()
        before = trial.user_attrs
        first = whole_number(before.get(attributes.ROOT), trial.number)
        # A chain goes on with the seed it began with, whatever version derived that.
        seed = whole_number(before.get(attributes.SEED), training_seed(self._spec.seed, first))
        trial.set_user_attr(attributes.WORKER, this_worker())
        trial.set_user_attr(attributes.SEED, seed)
        try:
            # Suggested under the lock, so that the samplers of other workers see the parameters
            # and no two workers train the same network.
            with collecting_params(self._storage):
                config = {} if self._task.space is None else self._task.space.suggest(trial)
        except ValueError as error:
            self._fail(trial, f"its parameters do not fit the space: {error}")
            return None
        left = None if budget.seconds is None else budget.seconds - state.seconds
        run = Run(
            trial,
            config=config,
            seed=seed,
            epochs=self._spec.epochs,
            checkpoint=self._checkpoints.path(first),
            device=self._device,
            allowance=Allowance(seconds=left, must_finish=must_finish),
            asked_to_stop=self._asked_to_stop,
            on_report=self._on_epoch,
        )
        seconds = before.get(attributes.TRAIN_SECONDS)
        seconds = float(seconds) if isinstance(seconds, (int, float)) else 0.0
        return _Claim(trial, run, seconds)

    def _thaw(self, *, is_closing: bool) -> bool:
        """Put the trial to go on with in line, and tell whether there is one."""
        next_continuation = getattr(self._study.pruner, "next_continuation", None)
        if self._spec.thaw and next_continuation is not None:
            parent = next_continuation(self._study, is_closing=is_closing)
            if parent is not None:
                resume.continue_trial(self._study, parent)
                return True
        return False

    def _run_trial(self, claim: _Claim) -> None:
        trial = claim.trial
        self._current = trial.number
        logger.info("trial %d starts: %s", trial.number, claim.run.config)
        self._observer.trial_started(trial.number, claim.run.config)
        with Heartbeat(self._storage, trial._trial_id):
            try:
                ended, note = self._train_and_settle(claim)
            except (TrialTakenOver, optuna.exceptions.UpdateFinishedTrialError):
                logger.warning("trial %d was taken over by another worker.", trial.number)
                ended, note = self._storage.get_trial(trial._trial_id), "taken over"
        logger.info("trial %d ended: %s", trial.number, note or ended.state.name.lower())
        self._observer.trial_ended(self._study, ended, note)
        self._is_untidy = True
        if ended.state == TrialState.FAIL and note.startswith("failed"):
            self._failures += 1
            if self._failures >= MAX_FAILURES_IN_A_ROW:
                raise DeepWeedsError(
                    f"{self._failures} trials failed in a row; the last one {note}. "
                    f"`study trials {shlex.quote(self._study.study_name)} --failed` lists them."
                )
        elif ended.state.is_finished():
            self._failures = 0

    def _train_and_settle(self, claim: _Claim) -> tuple[FrozenTrial, str]:
        """Train the claimed trial, store how it ended, and return it with a note.

        Raises:
            TrialTakenOver, UpdateFinishedTrialError: Another worker has settled it meanwhile.
        """
        trial = claim.trial
        started = time.monotonic()

        def note_seconds() -> None:
            seconds = claim.seconds + time.monotonic() - started
            trial.set_user_attr(attributes.TRAIN_SECONDS, round(seconds, 3))

        try:
            value = self._task(trial, claim.run)
            note_seconds()
            return self._study.tell(trial, value), ""
        except optuna.TrialPruned:
            note_seconds()
            return self._study.tell(trial, state=TrialState.PRUNED), ""
        except TrialInterrupted:
            note_seconds()
            return resume.put_back(self._storage, trial), "put back"
        except (TrialTakenOver, optuna.exceptions.UpdateFinishedTrialError):
            raise
        except TrainingError as error:
            return self._fail(trial, str(error)), f"failed: {error}"
        except DeepWeedsError:
            raise
        except KeyboardInterrupt:
            resume.put_back(self._storage, trial)
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return self._fail(trial, reason, traceback.format_exc()), f"failed: {reason}"

    def _fail(self, trial: optuna.Trial, reason: str, details: str | None = None) -> FrozenTrial:
        trial.set_user_attr(attributes.FAILURE, reason)
        if details is not None:
            trial.set_user_attr(attributes.TRACEBACK, details)
        return self._study.tell(trial, state=TrialState.FAIL)

    def _tidy(self, trials: list[FrozenTrial]) -> None:
        """Delete the checkpoints that nothing will go on from."""
        keep = [t for t in trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
        keep += ranked(trials, self._study.direction)[:N_BEST_KEPT]
        roots = {root(t) for t in keep}
        promising = getattr(self._study.pruner, "promising", None)
        if self._spec.thaw and promising is not None:
            numbers = set(promising(self._study, N_PAUSED_KEPT))
            roots |= {root(t) for t in trials if t.number in numbers}
        self._checkpoints.keep_only(roots)
        self._is_untidy = False


def _is_last_chance(budget: Budget, state: Progress, full: int) -> bool:
    """Tell whether about one full training is left of the epochs or the time; it must fit in."""
    if budget.epochs is not None and budget.epochs - state.epochs <= full <= budget.epochs:
        return True
    if budget.seconds is None or state.epochs == 0:
        return False
    # Workers share the seconds, and a training runs on one of them alone.
    training = full * state.seconds / state.epochs * (state.running + 1)
    # The first epochs hold the start of everything, and a few of them tell little of the rest.
    allowance = _SLOW_NETWORK if state.finished >= _N_FOR_PACE else 1.0
    is_near = budget.seconds - state.seconds <= allowance * training
    return is_near and training <= budget.seconds


def _spent(budget: Budget, state: Progress) -> Ending | None:
    """The limit of `budget` that is reached, if any."""
    if budget.trials is not None and state.finished >= budget.trials:
        return Ending.TOTAL
    if budget.epochs is not None and state.epochs >= budget.epochs:
        return Ending.EPOCHS
    if budget.seconds is not None and state.seconds >= budget.seconds:
        return Ending.TIME
    return None
