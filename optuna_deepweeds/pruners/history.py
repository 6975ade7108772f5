"""What a pruner needs of a study: values at the rungs, finished curves, who replaced whom.

A finished trial never changes, so each is read once; later calls read only the live ones. The
caches hold nothing that cannot be read again: another process, or a fresh pruner object, comes
to the same decisions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.attributes import ORIGIN, PRIOR, RETRY_OF, RUNG
from optuna_deepweeds.pruners.rungs import RungValues


def sign_of(study: Study) -> float:
    """Return the factor that turns the study's values into "larger is better"."""
    return 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0


def replaced_by(trial: FrozenTrial) -> set[int]:
    """Return the numbers of the trials that `trial` continues or runs again."""
    replaced = {trial.user_attrs[key] for key in (ORIGIN, RETRY_OF) if key in trial.user_attrs}
    replaced.update(trial.system_attrs.get("retry_history", ()))  # Optuna's own retries
    replaced.discard(trial.number)
    return replaced


def rung_marks(trial: FrozenTrial) -> dict[int, float]:
    """Return the values stored at the rungs that the trial's own curve has reached.

    A retried trial may carry marks of an attempt that it does not continue; its curve tells.
    """
    last = max(trial.intermediate_values, default=-1)
    marks = {}
    for key, value in trial.system_attrs.items():
        if key.startswith(RUNG):
            rung = int(key[len(RUNG) :])
            if rung <= last:
                marks[rung] = float("nan") if value is None else float(value)
    return marks


def is_paused_at(trial: FrozenTrial, rung: int) -> bool:
    """Tell whether the trial's last report, a finite one, is its first at or past `rung`."""
    curve = trial.intermediate_values
    if not curve:
        return False
    last = max(curve)
    return last == min(step for step in curve if step >= rung) and bool(np.isfinite(curve[last]))


class History:
    """Rung values and finished curves of one study, in the direction "larger is better"."""

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self._n_read = 0
        self._pending: list[int] = []  # positions of trials that were unfinished when last read
        self._replaced: set[int] = set()
        self._rungs: defaultdict[int, RungValues] = defaultdict(RungValues)
        self._curves: dict[int, tuple[list[int], list[float], float]] = {}
        self._paused: defaultdict[int, dict[int, FrozenTrial]] = defaultdict(dict)
        self._live: dict[int, FrozenTrial] = {}
        self._live_marks: list[tuple[int, int]] = []  # (rung, number) of values that may change
        self._gains: dict[int, NDArray[np.float64]] = {}

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Read what is new in `trials`, all trials of the study by number."""
        for rung, number in self._live_marks:
            self._rungs[rung].discard(number)
        self._live_marks = []
        self._live = {}
        unread = [*self._pending, *range(self._n_read, len(trials))]
        self._n_read = len(trials)
        self._pending = []
        for position in unread:
            trial = trials[position]
            if trial.state.is_finished():
                self._fold(trial)
            else:
                self._pending.append(position)
                if PRIOR not in trial.user_attrs:
                    self._live[trial.number] = trial
                    self._replace(replaced_by(trial))
        for number in self._replaced & self._live.keys():
            del self._live[number]
        for number, trial in self._live.items():
            for rung, value in rung_marks(trial).items():
                self.note(number, rung, self.sign * value)

    def note(self, number: int, rung: int, value: float) -> None:
        """Take an unfinished trial's value at a rung into account until the next update."""
        self._rungs[rung].set(number, value)
        self._live_marks.append((rung, number))

    def _fold(self, trial: FrozenTrial) -> None:
        if PRIOR in trial.user_attrs:
            return
        self._replace(replaced_by(trial))
        if trial.number in self._replaced:
            return
        marks = rung_marks(trial)
        for rung, value in marks.items():
            self._rungs[rung].set(trial.number, self.sign * value)
        last = max(marks, default=None)
        if trial.state == TrialState.PRUNED and last is not None and is_paused_at(trial, last):
            self._paused[last][trial.number] = trial
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            final = self.sign * trial.value
            if np.isfinite(final):
                steps = sorted(trial.intermediate_values)
                values = [self.sign * trial.intermediate_values[step] for step in steps]
                self._curves[trial.number] = (steps, values, final)
                self._gains.clear()

    def _replace(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number not in self._replaced:
                self._replaced.add(number)
                if self._curves.pop(number, None) is not None:
                    self._gains.clear()
                for paused in self._paused.values():
                    paused.pop(number, None)
                for values in self._rungs.values():
                    values.discard(number)

    @property
    def live(self) -> Iterable[FrozenTrial]:
        """Unfinished trials that nobody replaced."""
        return self._live.values()

    def live_trial(self, number: int) -> FrozenTrial | None:
        """Return the live trial of this number as the storage has it."""
        return self._live.get(number)

    def paused_at(self, rung: int) -> Mapping[int, FrozenTrial]:
        """Return the trials, by number, that wait at a rung.

        They stopped right there with a finite value and were not continued.
        """
        return self._paused[rung]

    def at_rung(self, rung: int) -> RungValues:
        """Return the values seen at a rung, those of live trials included."""
        return self._rungs[rung]

    @property
    def n_finished(self) -> int:
        """Number of trials that were trained to the end."""
        return len(self._curves)

    def best_final(self) -> float | None:
        """Return the best final value, None before any trial has finished."""
        return max((final for _, _, final in self._curves.values()), default=None)

    def gains_after(self, step: int) -> NDArray[np.float64]:
        """Return what each finished curve gained after its last report up to `step`, (n,)."""
        if step not in self._gains:
            gains = []
            for steps, values, final in self._curves.values():
                position = bisect_right(steps, step) - 1
                if position >= 0:
                    gains.append(final - values[position])
            found = np.array(gains)
            self._gains[step] = found[np.isfinite(found)]
        return self._gains[step]


class Histories:
    """The histories that one pruner object has read, by storage and study."""

    def __init__(self) -> None:
        self._by_storage: WeakKeyDictionary[BaseStorage, dict[int, History]] = WeakKeyDictionary()

    def read(self, study: Study) -> History:
        """Return the study's history, up to date."""
        histories = self._by_storage.setdefault(study._storage, {})
        history = histories.setdefault(study._study_id, History(sign_of(study)))
        history.update(study.get_trials(deepcopy=False))
        return history

    def __reduce__(self) -> tuple[type[Histories], tuple[()]]:
        return Histories, ()  # a pruner sent to another process reads the study again
