"""The best network so far against what was spent for it.

| symbol | meaning |
|---|---|
| incumbent | best value of a trial trained to its end so far, in the study's own direction |
| epochs | epochs trained by all trials until then; inherited ones count once, priors never |
| seconds | time during which trials ran until then; pauses and parallel trials count once |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.studies.accounting import epochs_trained, spells

Axis = Literal["epochs", "seconds"]
Floats = NDArray[np.float64]


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


Spell = tuple[float, float, float]
"""Start and end of a worker's hold on a trial (seconds of a clock), and epochs trained in it."""


def trajectory(view: StudyView) -> Trajectory:
    """The incumbent of a study over epochs and time."""
    now = datetime.now(UTC)
    held = sorted(spell for trial in view.trials for spell in _spells(trial, now))
    starts = np.array([start for start, _, _ in held], dtype=float)
    ends = np.array([end for _, end, _ in held], dtype=float)
    complete = sorted(
        (
            t
            for t in view.trials
            if t.state == TrialState.COMPLETE and t.datetime_complete and t.value is not None
        ),
        key=lambda t: (t.datetime_complete, t.number),
    )
    times = [t.datetime_complete.timestamp() for t in complete if t.datetime_complete]
    values = view.sign * np.array([t.value for t in complete], dtype=float)
    return Trajectory(
        epochs=np.maximum.accumulate(np.array(list(_epochs_until(times, held)), dtype=float)),
        seconds=_active_until(times, starts, ends),
        values=view.sign * np.maximum.accumulate(values),
        total_epochs=sum(n for _, _, n in held),
        total_seconds=float(_active_until([np.inf], starts, ends)[0]),
    )


def _spells(trial: FrozenTrial, now: datetime) -> list[Spell]:
    """Each time a worker held `trial`.

    A trial that was put back has several; its epochs are counted in the last.
    """
    found = [(start.timestamp(), end.timestamp(), 0.0) for start, end in spells(trial, now)]
    if found:
        found[-1] = (*found[-1][:2], float(epochs_trained(trial)))
    return found


def _epochs_until(times: Sequence[float], held: Sequence[Spell]) -> Iterator[float]:
    """Epochs trained until each of the ascending `times`; trials under way count in proportion."""
    finished, running, ahead = 0.0, list[Spell](), list(reversed(held))
    for time in times:
        while ahead and ahead[-1][0] <= time:
            running.append(ahead.pop())
        finished += sum(n for _, end, n in running if end <= time)
        running = [spell for spell in running if spell[1] > time]
        yield finished + sum(n * (time - start) / (end - start) for start, end, n in running)


def _active_until(times: Sequence[float], starts: Floats, ends: Floats) -> Floats:
    """Seconds until each of `times` in which at least one trial was under way."""
    if not len(starts):
        return np.zeros(len(times))
    order = np.argsort(starts, kind="stable")
    reached = np.maximum.accumulate(ends[order])
    # What each spell adds to those that began before it.
    begins = np.maximum(starts[order], np.concatenate([[-np.inf], reached[:-1]]))
    added = np.maximum(reached - begins, 0.0)
    knots = np.column_stack([begins, begins + added]).ravel()
    total = np.cumsum(added)
    return np.interp(times, knots, np.column_stack([total - added, total]).ravel())


@dataclass(frozen=True)
class Band:
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


def band(trajectories: Sequence[Trajectory], axis: Axis, sign: float, n_points: int = 200) -> Band:
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
    return Band(grid, quartiles[1], low, high, grid > min(ends))
