"""What a study has spent and reached, counted from its trials alone.

An epoch counts once, in the trial that trained it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes, clock
from optuna_deepweeds.trials import (
    FINISHED,
    is_paused,
    replaced,
    root,
    sign,
    was_interrupted,
    whole_number,
)

Spell = tuple[datetime, datetime]
"""Start and end of something that ran, in UTC."""


def epochs_trained(trial: FrozenTrial) -> int:
    """Epochs that `trial` itself trained, those inherited from its origin left out."""
    if attributes.INHERITED not in trial.user_attrs:
        return len(trial.intermediate_values)
    # Other programs may report from step 0 on.
    inherited = whole_number(trial.user_attrs[attributes.INHERITED], -1)
    return sum(step > inherited for step in trial.intermediate_values)


def spells(trial: FrozenTrial, now: datetime) -> list[Spell]:
    """When a worker held `trial`, in UTC: several times if it was put back."""
    # Optuna hands out local times, between which an hour may be missing or come twice.
    found = _times(trial.user_attrs.get(attributes.SEGMENTS, ()))
    if trial.datetime_start is not None and trial.state != TrialState.WAITING:
        died = trial.system_attrs.get(attributes.INTERRUPTED)
        ends = _times([[died, died]]) if died else []
        end = ends[0][1] if ends else (trial.datetime_complete or now).astimezone(UTC)
        start = trial.datetime_start.astimezone(UTC)
        found.append((start, max(start, end)))
    return found


def active_seconds(trials: Iterable[FrozenTrial], now: datetime) -> float:
    """Seconds during which at least one of `trials` ran; parallel trials count once."""
    total, reached = 0.0, datetime.min.replace(tzinfo=UTC)
    for start, end in sorted(spell for trial in trials for spell in spells(trial, now)):
        if end > reached:
            total += (end - max(start, reached)).total_seconds()
            reached = end
    return total


def _times(stored: Any) -> list[Spell]:
    """Pairs of times as stored, in UTC; none from junk."""
    try:
        return [
            (
                datetime.fromisoformat(start).astimezone(UTC),
                datetime.fromisoformat(end).astimezone(UTC),
            )
            for start, end in stored
        ]
    except (TypeError, ValueError):
        return []


@dataclass(frozen=True)
class Progress:
    """Where a study stands.

    Attributes:
        complete: Trials trained to the last epoch.
        pruned: Trials stopped or paused before.
        failed: Failed trials, interrupted ones left out.
        running: Trials under way.
        waiting: Enqueued trials and such as were put back.
        continued: Finished trials that went on from another's checkpoint.
        epochs: Epochs trained.
        seconds: Time during which trials ran.
        best: The best complete trial, or None.
        paused: How many of the `pruned` are paused.
        held: Epochs that running trials are allowed and have not trained yet.
    """

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int
    continued: int
    epochs: int
    seconds: float
    best: FrozenTrial | None
    paused: int = 0
    held: int = 0

    @property
    def stopped(self) -> int:
        """Trials that were stopped for good."""
        return self.pruned - self.paused

    @property
    def finished(self) -> int:
        """Trials that count towards the study's total."""
        return self.complete + self.pruned

    @property
    def networks(self) -> int:
        """Different trainings among the finished trials: continuations go on with an old one."""
        return self.finished - self.continued

    def without_stopping(self, epochs: int | None) -> int:
        """Epochs of all networks trained to the end, that is for `epochs`; 0 if that is unknown.

        An objective may report fewer steps than that: then as many as the best trial has.
        """
        reports = 0 if self.best is None else len(self.best.intermediate_values)
        return min(epochs or 0, reports or epochs or 0) * self.networks


def progress(
    trials: Sequence[FrozenTrial], direction: StudyDirection, now: datetime | None = None
) -> Progress:
    """Count what `trials`, all trials of one study, have spent and reached."""
    states = [t.state for t in trials]
    finished = [t for t in trials if t.state in FINISHED]
    return Progress(
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=sum(t.state == TrialState.FAIL and not was_interrupted(t) for t in trials),
        running=states.count(TrialState.RUNNING),
        waiting=states.count(TrialState.WAITING),
        continued=len(finished) - len({root(t) for t in finished}),
        epochs=sum(epochs_trained(t) for t in trials),
        seconds=active_seconds(trials, now or clock.now()),
        best=best_trial(trials, direction),
        paused=sum(map(is_paused, finished)),
        held=sum(_held(t) for t in trials if t.state == TrialState.RUNNING),
    )


def ends(trials: Sequence[FrozenTrial], direction: StudyDirection) -> list[tuple[float, bool]]:
    """Each network, as it began: its last value, larger is better, and whether that is final."""
    found = {}
    for trial in trials:
        value, last = trial.value, trial.last_step
        if value is None and last is not None:
            value = trial.intermediate_values[last]
        if trial.state in FINISHED and value is not None and math.isfinite(value):
            is_final = trial.state == TrialState.COMPLETE
            found[root(trial)] = (sign(direction) * value, is_final)
    return list(found.values())


def _held(trial: FrozenTrial) -> int:
    allowed = whole_number(trial.user_attrs.get(attributes.ALLOWED), 0)
    return max(0, allowed - len(trial.intermediate_values))


def ranked(trials: Iterable[FrozenTrial], direction: StudyDirection) -> list[FrozenTrial]:
    """The complete trials with one value, best first, the earlier first in ties."""
    complete = [
        (-sign(direction) * t.values[0], t.number, t)
        for t in trials
        if t.state == TrialState.COMPLETE and t.values is not None and len(t.values) == 1
    ]
    return [trial for _, _, trial in sorted(complete, key=lambda c: c[:2])]


def best_trial(trials: Iterable[FrozenTrial], direction: StudyDirection) -> FrozenTrial | None:
    """The best of `ranked`, or None without a complete trial."""
    return next(iter(ranked(trials, direction)), None)


def is_ahead(trial: FrozenTrial, best: FrozenTrial | None, direction: StudyDirection) -> bool:
    """Tell whether the last report of `trial` is better than the value of `best`; than none."""
    if trial.last_step is None or best is None or best.value is None:
        return best is None
    better = sign(direction)
    return better * trial.intermediate_values[trial.last_step] > better * best.value


def is_best_unfinished(trials: Sequence[FrozenTrial], direction: StudyDirection) -> bool:
    """Tell whether a trial that was stopped or put back is ahead of all that finished."""
    best = best_trial(trials, direction)
    if best is None:
        return True
    gone_on = replaced(trials)
    return any(
        t.state in (TrialState.PRUNED, TrialState.WAITING)
        and t.number not in gone_on
        and is_ahead(t, best, direction)
        for t in trials
    )
