"""How the pruner's anticipations turned out: foreseen against real final values.

Only a trial that was trained to its end can be judged, by its own last anticipation and by those
of the paused trials that it continues. The pruner let these go on, so they are a selection: what
a stopped trial would have reached is never known. Before curves have finished the pruner foresees
nothing and stores the last value without an interval; that is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.trials import chain, forecast, sign


@dataclass(frozen=True)
class Foreseen:
    """One anticipation whose trial was trained to its end later.

    Attributes:
        number: The complete trial.
        epoch: After which epoch it was foreseen.
        expected: The foreseen final value.
        low, high: Ends of its interval.
        outcome: The final value.
    """

    number: int
    epoch: int
    expected: float
    low: float
    high: float
    outcome: float


@dataclass(frozen=True)
class Calibration:
    """Anticipations that can be judged, and the numbers that judge them.

    Attributes:
        points: By number of the complete trial, then by epoch.
        sign: 1 where a larger value is better, else -1.
    """

    points: tuple[Foreseen, ...]
    sign: float = 1.0

    def summary(self) -> dict[str, Any]:
        """The numbers by name; empty if nothing can be judged.

        Error is the mean absolute difference of outcome and expectation, surprise their mean
        difference, positive if trials turned out better; inside is the share of outcomes in their
        interval, its ends included. The rank correlation is None below three points or if one of
        the two is constant.
        """
        if not self.points:
            return {}
        expected, low, high, outcome = np.array(
            [(p.expected, p.low, p.high, p.outcome) for p in self.points]
        ).T
        return {
            "anticipations_judged": len(self.points),
            "anticipation_error": float(np.mean(abs(outcome - expected))),
            "anticipation_surprise": float(np.mean(self.sign * (outcome - expected))),
            "anticipation_inside": float(np.mean((low <= outcome) & (outcome <= high))),
            "anticipation_correlation": _rank_correlation(expected, outcome),
        }

    def by_epoch(self) -> list[dict[str, Any]]:
        """The same numbers for each epoch at which something was foreseen, earliest first."""
        rows = []
        for epoch in sorted({p.epoch for p in self.points}):
            here = Calibration(tuple(p for p in self.points if p.epoch == epoch), self.sign)
            rows.append({"epoch": epoch, **here.summary()})
        return rows


def calibration_of(trials: Iterable[FrozenTrial], direction: StudyDirection) -> Calibration:
    """Judge the anticipations of all trials of one study; without points if none can be."""
    by_number = {trial.number: trial for trial in trials}
    points = []
    for trial in by_number.values():
        if trial.state != TrialState.COMPLETE:
            continue
        last = max(trial.intermediate_values, default=0)
        for link in chain(trial, by_number):
            point = _judged(link, trial)
            # What is said at the last epoch foresees nothing.
            if point is not None and point.epoch < last:
                points.append(point)
    return Calibration(tuple(sorted(points, key=lambda p: (p.number, p.epoch))), sign(direction))


def _judged(trial: FrozenTrial, outcome: FrozenTrial) -> Foreseen | None:
    """What was foreseen for `trial`; None if that is nothing or anything is not finite."""
    stored, value = forecast(trial), outcome.values[0]
    epoch = stored.get("epoch")
    numbers: list[Any] = [stored.get(key) for key in ("expected", "low", "high")]
    are_finite = all(isinstance(v, (int, float)) and math.isfinite(v) for v in (*numbers, value))
    if type(epoch) is not int or not are_finite:
        return None
    expected, low, high = map(float, numbers)
    return Foreseen(outcome.number, epoch, expected, low, high, value)


def _rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks of `values`, ties sharing their mean; importing scipy.stats costs half a second."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[group])
