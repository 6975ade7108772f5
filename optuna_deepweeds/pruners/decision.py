"""What a pruner saw of a running trial and what it decided, stored with the trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_deepweeds.attributes import ANTICIPATION, RUNG
from optuna_deepweeds.pruners.forecaster import Forecast
from optuna_deepweeds.pruners.records import write


@dataclass(frozen=True)
class Standing:
    """A running trial at its last report; values in the direction "larger is better"."""

    trial: FrozenTrial
    curve: dict[int, float]
    step: int
    sign: float

    @property
    def value(self) -> float:
        return self.curve[self.step]


def store(
    study: Study,
    standing: Standing,
    crossed: Mapping[int, float],
    forecast: Forecast | None,
    incumbent: float | None,
    decision: str,
    reason: str,
) -> None:
    """Store the values at rungs, and show what was foreseen; in the study's own direction.

    Args:
        study: The trial's study.
        standing: The trial.
        crossed: Its value at each rung just reached; system attributes, by which others decide.
        forecast: What is expected of its final value; None if nothing is.
        incumbent: The best final value so far.
        decision: "continue", "pause" or "stop".
        reason: Why, in words.
    """
    sign = standing.sign
    expected: float | None = standing.value if forecast is None else forecast.expected
    if expected is not None and not math.isfinite(expected):
        expected = None
    ends = [] if forecast is None else sorted((sign * forecast.low, sign * forecast.high))
    low, high = ends or (None, None)
    attribute = {
        "epoch": standing.step,
        "expected": None if expected is None else sign * expected,
        "low": low,
        "high": high,
        "incumbent": None if incumbent is None else sign * incumbent,
        "decision": decision,
        "reason": reason,
    }
    marks = {
        f"{RUNG}{rung}": sign * value if math.isfinite(value) else None  # JSON has no NaN
        for rung, value in crossed.items()
    }
    write(study._storage, standing.trial._trial_id, marks, {ANTICIPATION: attribute})
