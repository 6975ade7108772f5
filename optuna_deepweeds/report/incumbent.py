"""The best network so far against what was spent for it.

| symbol | meaning |
|---|---|
| incumbent | best value of a trial trained to its end so far, in the study's own direction |
| epochs | epochs trained by all trials until then; inherited ones count once |
| seconds | time during which trials ran until then; pauses and parallel trials count once |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from optuna_deepweeds import clock
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.studies.accounting import epochs_trained, spells

Axis = Literal["epochs", "seconds"]
Floats = NDArray[np.float64]
_Spell = tuple[float, float, float]
"""Start and end of a time in which a worker held a trial, and the epochs trained then."""


@dataclass(frozen=True)
class Trajectory:
    """The incumbent of one study after each trial that was trained to its end.

    Attributes:
        epochs: (n,) epochs spent until then, not decreasing.
        seconds: (n,) seconds spent until then, not decreasing.
        values: (n,) the incumbent.
        total_epochs: Epochs of the whole study, unfinished trials included.
        total_seconds: Seconds of the whole study.
    """

    epochs: Floats
    seconds: Floats
    values: Floats
    total_epochs: float
    total_seconds: float

    def spent(self, axis: Axis) -> Floats:
        """(n,) spent until each event."""
        return self.epochs if axis == "epochs" else self.seconds

    def total(self, axis: Axis) -> float:
        """Spent by the whole study."""
        return self.total_epochs if axis == "epochs" else self.total_seconds

    def at(self, grid: Floats, axis: Axis) -> Floats:
        """The incumbent at each point of `grid`; NaN before the first finished trial."""
        index = np.searchsorted(self.spent(axis), grid, side="right") - 1
        padded = np.concatenate([self.values, [np.nan]])
        return padded[index]

    def cost_to_reach(self, value: float, axis: Axis, sign: float) -> float:
        """Spent until the incumbent was as good as `value`; infinite if it never was."""
        reached = np.flatnonzero(sign * self.values >= sign * value)
        return float(self.spent(axis)[reached[0]]) if len(reached) else float("inf")


def trajectory(view: StudyView) -> Trajectory:
    """The incumbent of a study over epochs and time."""
    now = clock.now()
    held = sorted(spell for trial in view.trials for spell in _spells(trial, now))
    complete = sorted(
        (t.datetime_complete.timestamp(), t.number, view.sign * t.value)
        for t in view.ranked
        if t.datetime_complete is not None and t.value is not None
    )
    epochs, seconds = _spent_until([time for time, _, _ in complete], held)
    values = np.array([value for _, _, value in complete])
    total_epochs, total_seconds = _spent_until([float("inf")], held)
    return Trajectory(
        epochs=np.maximum.accumulate(epochs),
        seconds=seconds,
        values=view.sign * np.maximum.accumulate(values),
        total_epochs=float(total_epochs[0]),
        total_seconds=float(total_seconds[0]),
    )


def _spells(trial: FrozenTrial, now: datetime) -> list[_Spell]:
    """The times in which workers held `trial`.

    A trial that was put back has several; its epochs are counted in the last.
    """
    found = [(start.timestamp(), end.timestamp(), 0.0) for start, end in spells(trial, now)]
    if found:
        found[-1] = (*found[-1][:2], float(epochs_trained(trial)))
    return found


def _spent_until(times: Sequence[float], held: Sequence[_Spell]) -> tuple[Floats, Floats]:
    """(n,) epochs and (n,) seconds spent until each of the ascending `times`.

    Of a trial under way then epochs count in proportion.
    """
    if not held:
        return np.zeros(len(times)), np.zeros(len(times))
    starts, ends, _ = np.array(held).T
    reached = np.maximum.accumulate(ends)
    idle = np.cumsum(np.maximum(starts - np.append(starts[0], reached[:-1]), 0.0))
    last = np.searchsorted(starts, times, side="right") - 1  # The last that has begun.
    seconds = np.minimum(times, reached[last]) - starts[0] - idle[last]
    epochs, done, n_begun = np.zeros(len(times)), 0.0, 0
    under_way: list[_Spell] = []
    for i, time in enumerate(times):
        under_way += held[n_begun : last[i] + 1]
        n_begun = last[i] + 1
        done += sum(n for _, end, n in under_way if end <= time)
        under_way = [spell for spell in under_way if spell[1] > time]
        epochs[i] = done + sum(n * (time - start) / (end - start) for start, end, n in under_way)
    return epochs, np.where(last < 0, 0.0, seconds)


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of several studies' incumbents; NaN where less than half have one.

    Attributes:
        grid: (n,) what is spent.
        median, low, high: (n,) incumbents.
        is_partial: (n,) whether one of the studies has ended before; it keeps its last incumbent.
    """

    grid: Floats
    median: Floats
    low: Floats
    high: Floats
    is_partial: NDArray[np.bool_]


def summarise(
    trajectories: Sequence[Trajectory], axis: Axis, sign: float, n_points: int = 200
) -> Summary:
    """Summarise the incumbents of one method over its seeds.

    A study without finished trial counts as worse than any.

    Args:
        trajectories: One a seed.
        axis: What is spent.
        sign: +1 if larger values are better, else -1.
        n_points: Points of the grid, beside the places where something changes.
    """
    ends = [t.total(axis) for t in trajectories] or [0.0]
    events = [t.spent(axis) for t in trajectories]
    grid = np.unique(np.concatenate([np.linspace(0.0, max(ends), n_points), ends, *events]))
    runs = [sign * t.at(grid, axis) for t in trajectories] or [np.full(len(grid), np.nan)]
    rows = np.where(np.isnan(runs), -np.inf, runs)
    with np.errstate(invalid="ignore"):
        quartiles = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
    quartiles = sign * np.where(np.isfinite(quartiles), quartiles, np.nan)
    low, high = np.fmin(quartiles[0], quartiles[2]), np.fmax(quartiles[0], quartiles[2])
    return Summary(grid, quartiles[1], low, high, grid > min(ends))
