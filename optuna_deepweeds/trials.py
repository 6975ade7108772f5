"""What trials are to one another, and what one is worth; pure functions of Optuna's trials.

A trial that was stopped may be continued, and one whose worker died is run again: each time as a
new trial, which names the one before (`ORIGIN`, `RETRY_OF`) and replaces it. A chain of such
trials trains one network; its first trial is the root.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.attributes import ANTICIPATION, INTERRUPTED, ORIGIN, RETRY_OF, ROOT

_MIN_TO_OPPOSE = 8
_BEYOND_CHANCE = 1.645  # exceeded once in twenty times by a standard normal variable

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that count towards a study's total."""


def sign(direction: StudyDirection) -> float:
    """Multiplied with a value, it makes larger better."""
    return -1.0 if direction == StudyDirection.MINIMIZE else 1.0


def whole_number(value: Any, default: int) -> int:
    """An attribute that must be a number from 0 on; `default` where it is absent or junk.

    Attributes can be overwritten by anyone who reaches the storage.
    """
    return value if type(value) is int and value >= 0 else default


def root(trial: FrozenTrial) -> int:
    """Number of the first trial of the chain that `trial` belongs to."""
    return whole_number(trial.user_attrs.get(ROOT), trial.number)


def linked(attrs: Mapping[str, Any], *keys: str) -> set[int]:
    """Numbers of the trials that a trial's user attributes name under `keys`; junk is left out."""
    return {attrs[key] for key in keys if type(attrs.get(key)) is int}


def before(trial: FrozenTrial) -> set[int]:
    """Numbers of the trials that `trial` itself continues or runs again."""
    return linked(trial.user_attrs, ORIGIN, RETRY_OF) - {trial.number}


def replaced(trials: Iterable[FrozenTrial]) -> set[int]:
    """Numbers of the trials that another one of `trials` continues or runs again."""
    return set[int]().union(*map(before, trials))


def chain(trial: FrozenTrial, trials: Mapping[int, FrozenTrial]) -> list[FrozenTrial]:
    """The trials whose epochs make up the curve of `trial`, oldest first, itself the last.

    A retry from the first epoch inherits nothing, so its chain is itself.

    Args:
        trial: A trial of a study.
        trials: Number -> trial, of all trials of that study.
    """
    found = [trial]
    while True:
        numbers = linked(found[-1].user_attrs, ORIGIN) & trials.keys()
        if not numbers or (link := trials[numbers.pop()]) in found:
            return found[::-1]
        found.append(link)


def was_interrupted(trial: FrozenTrial) -> bool:
    """Whether `trial` only failed because its worker ended; another trial runs it again."""
    return trial.state == TrialState.FAIL and bool(trial.system_attrs.get(INTERRUPTED))


def is_paused(trial: FrozenTrial) -> bool:
    """Whether the pruner has stopped `trial` only for now, and may go on with it."""
    return trial.state == TrialState.PRUNED and forecast(trial).get("decision") == "pause"


def forecast(trial: FrozenTrial) -> Mapping[str, Any]:
    """What the pruner foresaw at its last decision (see `ANTICIPATION`); empty if nothing."""
    stored = trial.user_attrs.get(ANTICIPATION)
    return stored if isinstance(stored, Mapping) else {}


def expected_end(trial: FrozenTrial) -> float | None:
    """The final value of a complete trial, or the one that was foreseen for a stopped one.

    Of the study's own direction. None if there is no number for it.
    """
    value: Any = None
    if trial.state == TrialState.COMPLETE and trial.values:
        value = trial.values[0]
        return None if math.isnan(value) else value
    if trial.state == TrialState.PRUNED:
        value = forecast(trial).get("expected")
    if type(value) not in (int, float) or not math.isfinite(value):
        return None
    return float(value)


def worths(curve: Mapping[int, float], steps: Iterable[int]) -> list[float]:
    """What a trial is worth at steps: the mean of its last ceil(step / 2) reports up to there.

    A curve with gaps that jumps over a step is read up to its first report after it.

    Args:
        curve: Reports by step, in any order, larger is better.
        steps: Each at least 1.

    Returns:
        NaN where the curve has not come to the step, minus infinity where one of these reports is
        not finite.
    """
    reported = sorted(curve)
    values = [curve[step] for step in reported]
    found = []
    for step in steps:
        end = bisect_left(reported, step) + 1
        last = values[max(0, end - (step + 1) // 2) : end]
        mean = sum(last) / len(last) if end <= len(values) else math.nan
        found.append(mean if math.isfinite(mean) or end > len(values) else -math.inf)
    return found


def are_opposed(
    early: Sequence[float], late: Sequence[float], *, beyond_chance: bool = True
) -> bool:
    """Whether eight trials or more stood in the opposite order at two steps, `beyond_chance`.

    Spearman's correlation of n independent ranks is nearly normal with variance 1 / (n - 1). That
    only the best of an early step come to a later one draws it towards 0, not below it.

    Args:
        early, late: What the same trials were worth at the two steps, NaN nowhere.
    """
    if len(early) < _MIN_TO_OPPOSE:
        return False
    a, b = _centred_ranks(early), _centred_ranks(late)
    errors = _BEYOND_CHANCE if beyond_chance else 0.0
    bound = -errors * math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) * math.sqrt(len(early) - 1) < bound


def _centred_ranks(values: Sequence[float]) -> np.ndarray:
    """Twice the values' ranks less their mean; equal values share the mean of their ranks."""
    in_order = np.sort(values)
    ranks = in_order.searchsorted(values) + in_order.searchsorted(values, side="right")
    return np.asarray(ranks - len(values), dtype=float)
