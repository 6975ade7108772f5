"""What a pruner reads of a study and stores in it: values at the rungs, curves, decisions.

A finished trial never changes, so each is read once; later calls read only the live ones. What is
kept holds nothing that cannot be read again: another process, or a fresh pruner object, comes to
the same decisions.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes, trials
from optuna_deepweeds.attributes import RUNG
from optuna_deepweeds.pruners.forecast import Forecast
from optuna_deepweeds.pruners.rungs import RungValues, value_at

_OPTUNA_RETRIES = "retry_history"
"""System attribute in which Optuna's own retries name the earlier attempts."""


class History:
    """Rung values and finished curves of one study, in the direction "larger is better".

    Attributes:
        sign: Turns the study's values into "larger is better".
        live: Unfinished trials that nobody replaced, by number.
        values: By rung, what was seen there, by live trials too.
        means: The same as means of the later half of the reports up to the rung.
        paused: By rung, the trials that wait there, by number: they stopped right there with a
            finite value and were not continued.
    """

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.live: dict[int, FrozenTrial] = {}
        self._n_read = 0
        self._pending: list[int] = []  # numbers of trials that were unfinished when last read
        self._replaced: set[int] = set()
        self.values: defaultdict[int, RungValues] = defaultdict(RungValues)
        self.means: defaultdict[int, RungValues] = defaultdict(RungValues)
        self._finals: dict[int, tuple[list[int], list[float], float]] = {}
        self.paused: defaultdict[int, dict[int, FrozenTrial]] = defaultdict(dict)
        self._live_marks: list[tuple[int, int]] = []  # (number, rung) of values that may change
        self._gains: dict[int, NDArray[np.float64]] = {}

    def update(self, all_trials: list[FrozenTrial]) -> None:
        """Take in what has changed in the trials of the study, ordered by number."""
        for number, rung in self._live_marks:
            self._discard(number, rung)
        self._live_marks = []
        unread = [*self._pending, *range(self._n_read, len(all_trials))]
        self._n_read = len(all_trials)
        self._pending = [n for n in unread if not all_trials[n].state.is_finished()]
        self.live = {}
        for trial in (all_trials[n] for n in unread):
            self._replace(trials.before(trial))
            self._replace({*trial.system_attrs.get(_OPTUNA_RETRIES, ())} - {trial.number})
            if not trial.state.is_finished():
                self.live[trial.number] = trial
            elif trial.number not in self._replaced:
                self._fold(trial)
        for number in self._replaced & self.live.keys():
            del self.live[number]
        for number, trial in self.live.items():
            curve = self.curve(trial)
            for rung, mark in marks_of(trial).items():
                self.note(number, rung, self.sign * mark, curve)

    def note(self, number: int, rung: int, value: float, curve: Mapping[int, float]) -> None:
        """Take an unfinished trial's value at a rung into account until the next update."""
        self._set(number, rung, value, curve)
        self._live_marks.append((number, rung))

    def curve(self, trial: FrozenTrial) -> dict[int, float]:
        """Return the trial's reports by step."""
        return {step: self.sign * value for step, value in trial.intermediate_values.items()}

    def paused_trial(self, number: int) -> FrozenTrial:
        """Return the paused trial of this number."""
        return next(paused[number] for paused in self.paused.values() if number in paused)

    def last_value(self, trial: FrozenTrial) -> float:
        """Return the value of the trial's last report."""
        return self.sign * trial.intermediate_values[max(trial.intermediate_values)]

    def _set(self, number: int, rung: int, value: float, curve: Mapping[int, float]) -> None:
        self.values[rung].set(number, value)
        self.means[rung].set(number, value_at(curve, rung, window=(rung + 1) // 2))

    def _discard(self, number: int, rung: int) -> None:
        self.values[rung].discard(number)
        self.means[rung].discard(number)

    def _fold(self, trial: FrozenTrial) -> None:
        curve = self.curve(trial)
        marks = marks_of(trial)
        for rung, mark in marks.items():
            self._set(trial.number, rung, self.sign * mark, curve)
        if trial.state == TrialState.PRUNED and marks:
            last, rung = max(curve), max(marks)
            # A paused trial's last report, a finite one, is its first at or past a rung.
            if math.isfinite(curve[last]) and last == min(s for s in curve if s >= rung):
                self.paused[rung][trial.number] = trial
        elif trial.state == TrialState.COMPLETE and trial.values:
            final = self.sign * trial.values[0]
            if math.isfinite(final):
                steps = sorted(curve)
                self._finals[trial.number] = (steps, [curve[step] for step in steps], final)
                self._gains.clear()

    def _replace(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number not in self._replaced:
                self._replaced.add(number)
                if self._finals.pop(number, None) is not None:
                    self._gains.clear()
                for paused in self.paused.values():
                    paused.pop(number, None)
                for rung in self.values:
                    self._discard(number, rung)

    @property
    def n_finished(self) -> int:
        """Number of trials that were trained to the end."""
        return len(self._finals)

    def best_final(self) -> float | None:
        """Return the best final value, None before any trial has finished."""
        return max((final for _, _, final in self._finals.values()), default=None)

    def gains_after(self, step: int) -> NDArray[np.float64]:
        """Return what each finished curve gained after its last report up to `step`, (n,)."""
        if step not in self._gains:
            gains = []
            for steps, values, final in self._finals.values():
                position = bisect_right(steps, step) - 1
                if position >= 0:
                    gains.append(final - values[position])
            found = np.array(gains)
            self._gains[step] = found[np.isfinite(found)]
        return self._gains[step]


def marks_of(trial: FrozenTrial) -> dict[int, float]:
    """Return the values that the storage has at the rungs of a trial, in the study's direction.

    A retried trial may carry marks of an attempt that it does not continue; its curve tells.
    """
    last = max(trial.intermediate_values, default=-1)
    marks = {
        int(key[len(RUNG) :]): math.nan if mark is None else float(mark)
        for key, mark in trial.system_attrs.items()
        if key.startswith(RUNG)
    }
    return {rung: mark for rung, mark in marks.items() if rung <= last}


@dataclass(frozen=True)
class Standing:
    """A running trial at its last report; values in the direction "larger is better"."""

    trial: FrozenTrial
    curve: dict[int, float]
    step: int

    @property
    def value(self) -> float:
        return self.curve[self.step]


def store(
    study: Study,
    standing: Standing,
    sign: float,
    crossed: dict[int, float],
    forecast: Forecast | None,
    incumbent: float | None,
    decision: str,
    reason: str,
) -> None:
    """Store the values at rungs, and show what was foreseen; in the study's own direction.

    Args:
        sign: Turns values into the study's direction.
        crossed: Its value at each rung just reached; system attributes, by which others decide.
        forecast: What is expected of its final value; None if nothing is.
        incumbent: The best final value so far.
        decision: "continue", "pause" or "stop".
        reason: Why, in words.
    """
    expected = standing.value if forecast is None else forecast.expected
    ends = [] if forecast is None else sorted((sign * forecast.low, sign * forecast.high))
    low, high = ends or (None, None)
    marks = {  # JSON has no NaN.
        f"{RUNG}{rung}": sign * value if math.isfinite(value) else None
        for rung, value in crossed.items()
    }
    attribute = {
        "epoch": standing.step,
        "expected": sign * expected if math.isfinite(expected) else None,
        "low": low,
        "high": high,
        "incumbent": None if incumbent is None else sign * incumbent,
        "decision": decision,
        "reason": reason,
    }
    anticipation = {attributes.ANTICIPATION: attribute}
    attributes.write(study._storage, standing.trial._trial_id, user=anticipation, system=marks)


class Histories:
    """The histories that one pruner object has read, by storage and study."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[BaseStorage, dict[int, History]] = WeakKeyDictionary()
        self._lock = threading.RLock()

    @contextmanager
    def of(self, study: Study) -> Iterator[History]:
        """Yield the study's history, up to date; within the block no other thread has it."""
        with self._lock:
            of_storage = self._known.setdefault(study._storage, {})
            if study._study_id not in of_storage:
                of_storage[study._study_id] = History(trials.sign(study.direction))
            history = of_storage[study._study_id]
            # `Study.get_trials` would copy every trial.
            history.update(study._storage.get_all_trials(study._study_id, deepcopy=False))
            yield history

    def __reduce__(self) -> tuple[type[Histories], tuple[()]]:
        return Histories, ()  # a pruner sent to another process reads the study again
