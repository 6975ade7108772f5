"""How the pruner's anticipations turned out: foreseen against real final values.

Only a trial that was trained to its end can be judged, by its own last anticipation and by those
of the paused trials that it continues. The pruner let these go on, so they are a selection: what
a stopped trial would have reached is never known. Before curves have finished the pruner foresees
nothing and stores the last value without an interval; that is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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

    @property
    def surprise(self) -> float | None:
        """Mean of outcome minus expectation; positive if trials turned out better."""
        return _mean([self.sign * (p.outcome - p.expected) for p in self.points])

    @property
    def error(self) -> float | None:
        """Mean absolute difference of outcome and expectation."""
        return _mean([abs(p.outcome - p.expected) for p in self.points])

    @property
    def coverage(self) -> float | None:
        """Share of outcomes inside their interval, its ends included."""
        return _mean([float(p.low <= p.outcome <= p.high) for p in self.points])

    @property
    def correlation(self) -> float | None:
        """Rank correlation of expectation and outcome; None below three points or if constant."""
        expected = _ranks([p.expected for p in self.points])
        outcome = _ranks([p.outcome for p in self.points])
        if len(expected) < 3 or np.ptp(expected) == 0 or np.ptp(outcome) == 0:
            return None
        return float(np.corrcoef(expected, outcome)[0, 1])

    def summary(self) -> dict[str, Any]:
        """The numbers by name; empty if nothing can be judged."""
        if not self.points:
            return {}
        return {
            "anticipations_judged": len(self.points),
            "anticipation_error": self.error,
            "anticipation_surprise": self.surprise,
            "anticipation_inside": self.coverage,
            "anticipation_correlation": self.correlation,
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
            point = _judged(forecast(link), trial.number, trial.values[0])
            # What is said at the last epoch foresees nothing.
            if point is not None and point.epoch < last:
                points.append(point)
    return Calibration(tuple(sorted(points, key=lambda p: (p.number, p.epoch))), sign(direction))


def _judged(stored: Mapping[str, Any], number: int, outcome: float) -> Foreseen | None:
    """A forecast as a point; None if there is none or one that is not finite."""
    epoch = stored.get("epoch")
    values = [stored.get(key) for key in ("expected", "low", "high")] + [outcome]
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
        return None
    expected, low, high = (float(stored[key]) for key in ("expected", "low", "high"))
    return Foreseen(number, epoch, expected, low, high, outcome) if type(epoch) is int else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks of `values`, ties sharing their mean; importing scipy.stats costs half a second."""
    _, group, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[group])
