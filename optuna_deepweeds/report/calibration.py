"""What is foreseen of trials, and how it turned out: foreseen against real final values.

Only a trial that was trained to its end can be judged, by its own last anticipation and by those
of the paused trials that it continues. The pruner let these go on, so they are a selection: what
a stopped trial would have reached is never known. Before curves have finished the pruner foresees
nothing and stores the last value without an interval; that is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.trials import chain, forecast


@dataclass(frozen=True)
class Foreseen:
    """What a trial was expected to end with.

    Attributes:
        number: The trial; of one that was continued later, the complete one.
        epoch: After which epoch it was foreseen.
        expected: The foreseen final value.
        low, high: Ends of its interval.
        outcome: The final value; None of a trial that is not at its end.
    """

    number: int
    epoch: int
    expected: float
    low: float
    high: float
    outcome: float | None


def judged(trials: Iterable[FrozenTrial]) -> list[Foreseen]:
    """What can be judged of all trials of one study, by number of the complete one and epoch."""
    by_number = {trial.number: trial for trial in trials}
    complete = sorted(n for n, t in by_number.items() if t.state == TrialState.COMPLETE)
    return [point for number in complete for point in _judged(by_number[number], by_number)]


def summary(points: Sequence[Foreseen]) -> dict[str, Any]:
    """The numbers by name; empty if nothing can be judged.

    Error is the mean absolute difference of what came and what was expected; inside is the share
    of what came in its interval, the ends included.
    """
    if not points:
        return {}
    expected, low, high, outcome = np.array(
        [(p.expected, p.low, p.high, p.outcome) for p in points]
    ).T
    return {
        "anticipations_judged": len(points),
        "anticipation_error": float(np.mean(abs(outcome - expected))),
        "anticipation_inside": float(np.mean((low <= outcome) & (outcome <= high))),
    }


def outlook(
    trials: Sequence[FrozenTrial], direction: StudyDirection, metric: str = ""
) -> dict[int, Foreseen]:
    """By number, what is expected of each trial now, and of a complete one what was at last.

    Of a trial that is not at its end while nothing can be said anew, what its pruner said.

    Args:
        trials: All trials of one study, ordered by number.
        direction: The study's.
        metric: What is measured; of an accuracy no interval leaves 0 to 1.
    """
    by_number = {trial.number: trial for trial in trials}
    unfinished = [t for t in trials if t.state in (TrialState.PRUNED, TrialState.RUNNING)]
    now: dict[int, tuple[float, float, float]] = {}
    if unfinished:
        from optuna_deepweeds.pruners.history import foresee  # It imports scipy.stats: a second.

        now = foresee(trials, direction)
    told = {t.number: point for t in unfinished if (point := _said(t, None))}
    told |= {point.number: point for point in judged(trials)}
    for number, numbers in now.items():
        told[number] = Foreseen(number, by_number[number].last_step or 0, *numbers, None)
    ends = limits_of(metric, trials)
    for number, point in told.items():
        parts = np.clip([point.expected, point.low, point.high], *ends).tolist()
        told[number] = replace(point, **dict(zip(("expected", "low", "high"), parts, strict=True)))
    return told


def limits_of(metric: str, trials: Iterable[FrozenTrial]) -> tuple[float, float]:
    """Between what values of a metric must lie: 0 and 1 for an accuracy not in per cent."""
    values = (v for t in trials for v in (*t.intermediate_values.values(), *(t.values or ())))
    is_share = "accuracy" in metric.lower() and all(0 <= v <= 1 for v in values if v == v)
    return (0.0, 1.0) if is_share else (-math.inf, math.inf)


def _judged(trial: FrozenTrial, by_number: Mapping[int, FrozenTrial]) -> list[Foreseen]:
    """What was foreseen of a complete trial, also of those that it continues; the last at last."""
    value, last = trial.values[0], max(trial.intermediate_values, default=0)
    said = [_said(link, trial) for link in chain(trial, by_number)] if math.isfinite(value) else []
    # What is said at the last epoch foresees nothing.
    return sorted((p for p in said if p and p.epoch < last), key=lambda p: p.epoch)


def _said(trial: FrozenTrial, complete: FrozenTrial | None) -> Foreseen | None:
    """What was foreseen for `trial`; None if that is nothing or anything is not finite."""
    stored = forecast(trial)
    epoch = stored.get("epoch")
    numbers: list[Any] = [stored.get(key) for key in ("expected", "low", "high")]
    are_finite = all(isinstance(v, (int, float)) and math.isfinite(v) for v in numbers)
    if type(epoch) is not int or not are_finite:
        return None
    expected, low, high = map(float, numbers)
    end = complete or trial
    return Foreseen(end.number, epoch, expected, low, high, end.values[0] if complete else None)
