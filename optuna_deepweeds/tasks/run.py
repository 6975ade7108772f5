"""What a worker lends to one trial: its configuration, and the one way to report and to save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from optuna_deepweeds import attributes, seeds
from optuna_deepweeds.errors import InvalidInputError

CHECKPOINT_SECONDS = 10.0
"""A running trial saves its checkpoint after its first step, and then at the first step's end
after this many seconds, also when its time is nearly over…"""
_SAVING_SHARE = 0.02
"""… or as soon as saving takes no larger share of its time."""


class TrialInterrupted(BaseException):
    """The worker was told to stop, or the allowance is spent; the trial is put back.

    No `Exception`: an objective that takes every failure for a bad value must not take this.
    """


def training_seed(seed: int, root: int) -> int:
    """Seed of the training of trial number `root` in a study with `seed`."""
    return seeds.derive(seed, root, "training")


def seed_of(trial: FrozenTrial) -> int:
    """Seed of the training of `trial`.

    Raises:
        InvalidInputError: No worker has trained it.
    """
    seed = trial.user_attrs.get(attributes.SEED)
    if type(seed) is not int:
        raise InvalidInputError(
            f"a trial that was trained is needed, but trial {trial.number} is imported or waits."
        )
    return seed


@dataclass(frozen=True)
class Allowance:
    """How far a worker may train the trial that it has claimed.

    Attributes:
        epochs: Further steps; None for as many as there are.
        seconds: Further seconds, which may also end within a step; None without a limit.
        must_finish: Train to the last step whatever the pruner says.
        is_rest: They are the last of the study's, and nothing is ahead of what was trained to the
            end: where they do not suffice for that, the trial pauses after its next step. Else it
            might be cut off ahead.
    """

    epochs: int | None = None
    seconds: float | None = None
    must_finish: bool = False
    is_rest: bool = False


class Run:
    """One trial's stay at a worker.

    Args:
        trial: The trial.
        config: Its parameters and the space's constants; empty if the task suggests for itself.
        seed: Of everything random in it.
        epochs: Steps of a whole training.
        checkpoint: The file that the trial goes on from where it exists, and saves to.
        device: "cpu", "cuda", "cuda:1", … or None for the best there is.
        allowance: How far it may be trained.
        asked_to_stop: Whether the worker was told to stop.
        on_report: Told each step and its value, for display.

    Attributes:
        reported: Step -> value, of earlier stays too.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        *,
        config: dict[str, Any],
        seed: int,
        epochs: int,
        checkpoint: Path,
        device: str | None = None,
        allowance: Allowance | None = None,
        asked_to_stop: Callable[[], bool] = lambda: False,
        on_report: Callable[[int, float], None] = lambda step, value: None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.epochs = epochs
        self.checkpoint = checkpoint
        self.device = device
        self.allowance = allowance or Allowance()
        self._trial = trial
        self._asked_to_stop = asked_to_stop
        self._on_report = on_report
        seconds = self.allowance.seconds
        self._ends_at = time.monotonic() + (math.inf if seconds is None else seconds)
        self._left = math.inf if self.allowance.epochs is None else self.allowance.epochs
        self._saved_at, self._saved_step, self._save_took = -math.inf, 0, math.inf
        self._is_unsaved = False
        self._stepped_at = time.monotonic()
        self.reported: dict[int, float] = {}
        if {attributes.INHERITED, attributes.SEGMENTS} & trial.user_attrs.keys():
            # It goes on from an earlier spell or from another trial, with the curve so far.
            stored = trial.storage.get_trial(trial._trial_id)
            self.reported |= stored.intermediate_values

    def report(self, value: float, step: int, save: Callable[[Path], None] | None = None) -> None:
        """Tell the value after `step` (from 1), and end the trial here if that is decided.

        Whatever this raises, and after the last step, the checkpoint holds `step`.

        Args:
            value: The metric.
            step: The step that has just ended.
            save: Writes a checkpoint to the path it is given, whole or not at all.

        Raises:
            optuna.TrialPruned: If the pruner stops or pauses the trial.
            TrialInterrupted: If the worker was told to stop, or the allowance is spent.
            UpdateFinishedTrialError: If another worker declared the trial dead and finished it:
                further work is void. So do the other methods.
            InvalidInputError: If the step is below 1.
        """
        if step < 1:
            raise InvalidInputError(f"`step >= 1` must hold, but got step={step}.")
        now = time.monotonic()
        pause = min(CHECKPOINT_SECONDS, self._save_took / _SAVING_SHARE)
        is_near_end = self._ends_at - now < 2 * (now - self._stepped_at)
        self._stepped_at = now
        if now - self._saved_at >= pause or is_near_end:
            # Before the report: a reported step that no checkpoint holds would be trained again,
            # while an unreported one is read back from the checkpoint's curve.
            self._save(step, save)
        is_new = self._tell(value, step)
        self._is_unsaved = save is not None and step != self._saved_step
        self._on_report(step, value)
        if step >= self.epochs:
            self._save(step, save)
        # A step that is trained again, after a damaged checkpoint, was judged before.
        elif is_new and self.is_stopped():
            self._save(step, save)
            raise optuna.TrialPruned
        elif self._must_stop() or self._left <= 0:
            self._save(step, save)
            raise TrialInterrupted

    def catch_up(self, curve: Iterable[float]) -> None:
        """Tell the values from step 1 on that a checkpoint remembers; those known are not told.

        To be called after a checkpoint was loaded: it may be newer than the last report.

        Raises:
            optuna.TrialPruned: If the pruner stops or pauses the trial after a new one.
            TrialInterrupted: If they are all that the trial may be trained for.
        """
        last, is_new = 0, False
        for last, value in enumerate(curve, start=1):
            is_new = self._tell(value, last)
        if is_new:  # The worker before died before it could note it.
            self._trial.set_user_attr(attributes.CHECKPOINT, last)
        if last >= self.epochs:
            return
        if is_new and self.is_stopped():
            raise optuna.TrialPruned
        if self._left <= 0:
            raise TrialInterrupted

    def note(self, value: float, step: int) -> None:
        """Tell the value after `step` without saving and without asking the pruner.

        Raises:
            TrialInterrupted: If the worker was told to stop, or the allowance is spent.
        """
        self._tell(value, step)
        self._on_report(step, value)
        if step < self.epochs and (self._must_stop() or self._left <= 0):
            raise TrialInterrupted

    def should_stop(self) -> bool:
        """Whether to end within a step, by raising `TrialInterrupted`; cheap.

        Not while a reported step is unsaved, which would be trained again. Its successor then
        takes little time, or that step would have been saved.
        """
        return self._must_stop() and not self._is_unsaved

    def is_stopped(self) -> bool:
        """Whether the trial ends at its last report, by the pruner or since it is cut off soon."""
        # Asked in any case: the pruner also notes what it foresees.
        is_pruned = self._trial.should_prune()
        step = max(self.reported, default=self.epochs)
        falls_short = self.allowance.is_rest and step + self._left < self.epochs
        return (is_pruned or falls_short) and not self.allowance.must_finish

    def _must_stop(self) -> bool:
        return self._asked_to_stop() or time.monotonic() > self._ends_at

    def _tell(self, value: float, step: int) -> bool:
        """Store `value` unless the step has one, and return whether it is new."""
        if step in self.reported:
            return False
        self._trial.report(value, step=step)
        self.reported[step] = value
        self._left -= 1
        return True

    def _save(self, step: int, save: Callable[[Path], None] | None) -> None:
        if save is None or step == self._saved_step:
            return
        started = time.monotonic()
        save(self.checkpoint)
        self._trial.set_user_attr(attributes.CHECKPOINT, step)
        self._saved_at, self._saved_step = time.monotonic(), step
        self._save_took = self._saved_at - started
        self._is_unsaved = False
