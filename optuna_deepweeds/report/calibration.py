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
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes


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

    @property
    def is_inside(self) -> bool:
        """Whether the outcome lies in the interval, its ends included."""
        return self.low <= self.outcome <= self.high


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
        return self._mean([self.sign * (p.outcome - p.expected) for p in self.points])

    @property
    def error(self) -> float | None:
        """Mean absolute difference of outcome and expectation."""
        return self._mean([abs(p.outcome - p.expected) for p in self.points])

    @property
    def coverage(self) -> float | None:
        """Share of outcomes inside their interval."""
        return self._mean([float(p.is_inside) for p in self.points])

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
        epochs = sorted({p.epoch for p in self.points})
        rows = []
        for epoch in epochs:
            here = Calibration(tuple(p for p in self.points if p.epoch == epoch), self.sign)
            rows.append({"epoch": epoch, **here.summary()})
        return rows

    @staticmethod
    def _mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if values else None


def calibration(study: optuna.Study) -> Calibration:
    """Judge the anticipations that `study` stores.

    A study of which nothing can be judged, because its pruner foresees nothing or no trial has
    finished, gives a calibration without points. Imported trials are left out.
    """
    return calibration_of(study.get_trials(deepcopy=False), study.direction)


def calibration_of(trials: Iterable[FrozenTrial], direction: StudyDirection) -> Calibration:
    """As `calibration`, from all trials of one study."""
    sign = -1.0 if direction == StudyDirection.MINIMIZE else 1.0
    return Calibration(tuple(foreseen(trials)), sign)


def foreseen(trials: Iterable[FrozenTrial]) -> list[Foreseen]:
    """The anticipations that can be judged, from all trials of one study."""
    by_number = {trial.number: trial for trial in trials}
    points = []
    for trial in by_number.values():
        if trial.state != TrialState.COMPLETE:
            continue
        outcome = trial.values[0]
        last = max(trial.intermediate_values, default=0)
        for link in _chain(trial, by_number):
            point = _judged(link.user_attrs.get(attributes.ANTICIPATION), trial.number, outcome)
            # What is said at the last epoch foresees nothing.
            if point is not None and point.epoch < last:
                points.append(point)
    return sorted(points, key=lambda p: (p.number, p.epoch))


def _chain(trial: FrozenTrial, by_number: Mapping[int, FrozenTrial]) -> list[FrozenTrial]:
    """The trial and those that it continues, directly or not."""
    chain = [trial]
    while True:
        origins = attributes.linked_trials(chain[-1].user_attrs, attributes.ORIGIN)
        parents = [by_number[number] for number in origins if number in by_number]
        if not parents or parents[0] in chain:
            return chain
        chain += parents


def _judged(stored: Any, number: int, outcome: float) -> Foreseen | None:
    """An attribute as a point; None if it is absent or holds no finite forecast."""
    if not isinstance(stored, Mapping):
        return None
    expected = _number(stored.get("expected"))
    epoch = stored.get("epoch")
    low, high = _number(stored.get("low")), _number(stored.get("high"))
    if not isinstance(epoch, int) or not all(map(math.isfinite, (expected, low, high, outcome))):
        return None
    return Foreseen(number, epoch, expected, low, high, outcome)


def _number(value: Any) -> float:
    is_finite = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if is_finite else math.nan


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks of `values`, ties sharing their mean."""
    array = np.asarray(values, dtype=float)
    _, group, counts = np.unique(array, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    return np.asarray((below + (counts - 1) / 2)[group])
