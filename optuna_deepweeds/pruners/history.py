"""What a pruner needs of a study: values at the rungs, finished curves, who replaced whom.

A finished trial never changes, so each is read once; later calls read only the live ones. The
caches hold nothing that cannot be read again: another process, or a fresh pruner object, comes
to the same decisions."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.attributes import ORIGIN, RETRY_OF, RUNG, linked_trials
from optuna_deepweeds.pruners.rungs import RungValues, value_at

OPTUNA_RETRIES = "retry_history"
"""System attribute in which Optuna's own retries name the earlier attempts."""


@dataclass(frozen=True)
class Record:
    """A trial as far as a pruner is concerned; values in the study's own direction.

    Attributes:
        trial_id: Its identity in the storage.
        number: Its number in the study.
        state: Its state.
        value: The final value, if it has one.
        curve: Its reports by step; that of an unfinished trial without marks may be left out.
        marks: Values stored at the rungs that its own curve has reached.
        replaces: Numbers of the trials that it continues or runs again.
    """

    trial_id: int
    number: int
    state: TrialState
    value: float | None
    curve: Mapping[int, float]
    marks: Mapping[int, float]
    replaces: frozenset[int]


def make_record(
    trial_id: int,
    number: int,
    state: TrialState,
    value: float | None,
    curve: Mapping[int, float],
    attrs: Mapping[str, Any],
) -> Record:
    """Make a record.

    Args:
        trial_id, number, state, value, curve: as in `Record`.
        attrs: the trial's attributes, at least those of the keys `ORIGIN`, `RETRY_OF`,
            `OPTUNA_RETRIES` and those that begin with `RUNG`.
    """
    replaces = linked_trials(attrs, ORIGIN, RETRY_OF)
    replaces.update(attrs.get(OPTUNA_RETRIES, ()))
    replaces.discard(number)
    # A retried trial may carry marks of an attempt that it does not continue; its curve tells.
    last = max(curve, default=-1)
    marks = {}
    for key, mark in attrs.items():
        if key.startswith(RUNG):
            rung = int(key[len(RUNG) :])
            if rung <= last:
                marks[rung] = math.nan if mark is None else float(mark)
    return Record(trial_id, number, state, value, curve, marks, frozenset(replaces))


def record_of(trial: FrozenTrial) -> Record:
    """Return the record of a trial that has been read from its storage."""
    keys = [OPTUNA_RETRIES, *(key for key in trial.system_attrs if key.startswith(RUNG))]
    attrs = {key: trial.system_attrs[key] for key in keys if key in trial.system_attrs}
    attrs |= {k: trial.user_attrs[k] for k in (ORIGIN, RETRY_OF) if k in trial.user_attrs}
    value = trial.values[0] if trial.values else None
    curve = trial.intermediate_values
    return make_record(trial._trial_id, trial.number, trial.state, value, curve, attrs)


class Reader:
    """Reads what is new in one study, in any storage."""

    def __init__(self) -> None:
        self._n_read = 0
        self._pending: list[int] = []  # numbers of trials that were unfinished when last read

    def changes(self, study: Study) -> list[Record]:
        """Return the trials that are unfinished, or were when this was last called, by number."""
        trials = study.get_trials(deepcopy=False)
        unread = [*self._pending, *range(self._n_read, len(trials))]
        self._n_read = len(trials)
        self._pending = [n for n in unread if not trials[n].state.is_finished()]
        return [record_of(trials[n]) for n in unread]


def make_reader(storage: BaseStorage) -> Reader:
    """Return the reader that suits a storage."""
    # Imported when called for: SQLAlchemy takes a while that a study in memory saves.
    from optuna_deepweeds.pruners import _optuna

    return _optuna.RDBReader() if _optuna.is_rdb(storage) else Reader()


def write(
    storage: BaseStorage, trial_id: int, system: Mapping[str, Any], user: Mapping[str, Any]
) -> None:
    """Set system and user attributes of a trial, in one transaction where there are any."""
    from optuna_deepweeds.pruners import _optuna

    if _optuna.is_rdb(storage):
        _optuna.write(storage, trial_id, system, user)
        return
    for key, value in system.items():
        storage.set_trial_system_attr(trial_id, key, value)
    for key, value in user.items():
        storage.set_trial_user_attr(trial_id, key, value)


def sign_of(study: Study) -> float:
    """Return the factor that turns the study's values into "larger is better"."""
    return 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0


def is_paused_at(curve: Mapping[int, float], rung: int) -> bool:
    """Tell whether a curve's last report, a finite one, is its first at or past `rung`."""
    if not curve:
        return False
    last = max(curve)
    return last == min(step for step in curve if step >= rung) and bool(np.isfinite(curve[last]))


class History:
    """Rung values and finished curves of one study, in the direction "larger is better"."""

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self._replaced: set[int] = set()
        self._rungs: defaultdict[int, RungValues] = defaultdict(RungValues)
        self._means: defaultdict[int, RungValues] = defaultdict(RungValues)
        self._curves: dict[int, tuple[list[int], list[float], float]] = {}
        self._paused: defaultdict[int, dict[int, Record]] = defaultdict(dict)
        self._live: dict[int, Record] = {}
        self._live_marks: list[tuple[int, int]] = []  # (rung, number) of values that may change
        self._gains: dict[int, NDArray[np.float64]] = {}

    def update(self, changes: Iterable[Record]) -> None:
        """Take in what `Reader.changes` returned."""
        for rung, number in self._live_marks:
            self._discard(number, rung)
        self._live_marks = []
        self._live = {}
        for record in changes:
            if record.state.is_finished():
                self._fold(record)
            else:
                self._live[record.number] = record
                self._replace(record.replaces)
        for number in self._replaced & self._live.keys():
            del self._live[number]
        for number, record in self._live.items():
            for rung, value in record.marks.items():
                self.note(number, rung, self.sign * value, self._curve(record))

    def note(self, number: int, rung: int, value: float, curve: Mapping[int, float]) -> None:
        """Take an unfinished trial's value at a rung into account until the next update.

        Args:
            number: the trial's number.
            rung: a rung that it has reached.
            value: its value there.
            curve: its reports by step.
        """
        self._set(number, rung, value, curve)
        self._live_marks.append((rung, number))

    def _set(self, number: int, rung: int, value: float, curve: Mapping[int, float]) -> None:
        self._rungs[rung].set(number, value)
        self._means[rung].set(number, value_at(curve, rung, window=(rung + 1) // 2))

    def _discard(self, number: int, rung: int) -> None:
        self._rungs[rung].discard(number)
        self._means[rung].discard(number)

    def _curve(self, record: Record) -> dict[int, float]:
        return {step: self.sign * value for step, value in record.curve.items()}

    def _fold(self, record: Record) -> None:
        self._replace(record.replaces)
        if record.number in self._replaced:
            return
        curve = self._curve(record)
        for rung, value in record.marks.items():
            self._set(record.number, rung, self.sign * value, curve)
        last = max(record.marks, default=None)
        if record.state == TrialState.PRUNED and last is not None:
            if is_paused_at(record.curve, last):
                self._paused[last][record.number] = record
        elif record.state == TrialState.COMPLETE and record.value is not None:
            final = self.sign * record.value
            if np.isfinite(final):
                steps = sorted(curve)
                values = [curve[step] for step in steps]
                self._curves[record.number] = (steps, values, final)
                self._gains.clear()

    def _replace(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number not in self._replaced:
                self._replaced.add(number)
                if self._curves.pop(number, None) is not None:
                    self._gains.clear()
                for paused in self._paused.values():
                    paused.pop(number, None)
                for rung in self._rungs:
                    self._discard(number, rung)

    @property
    def live(self) -> Iterable[Record]:
        """Unfinished trials that nobody replaced."""
        return self._live.values()

    def marks_of(self, number: int) -> Mapping[int, float]:
        """Return the values that the storage has at the rungs of a live trial."""
        return self._live[number].marks if number in self._live else {}

    def paused_at(self, rung: int) -> Mapping[int, Record]:
        """Return the trials, by number, that wait at a rung.

        They stopped right there with a finite value and were not continued.
        """
        return self._paused[rung]

    def at_rung(self, rung: int) -> RungValues:
        """Return the values seen at a rung, those of live trials included."""
        return self._rungs[rung]

    def means_at(self, rung: int) -> RungValues:
        """Return what `at_rung` does, as means of the later half of the reports up to the rung."""
        return self._means[rung]

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
        self._known: WeakKeyDictionary[BaseStorage, dict[int, tuple[Reader, History]]] = (
            WeakKeyDictionary()
        )

    def read(self, study: Study) -> History:
        """Return the study's history, up to date."""
        of_storage = self._known.setdefault(study._storage, {})
        if study._study_id not in of_storage:
            of_storage[study._study_id] = (make_reader(study._storage), History(sign_of(study)))
        reader, history = of_storage[study._study_id]
        history.update(reader.changes(study))
        return history

    def __reduce__(self) -> tuple[type[Histories], tuple[()]]:
        return Histories, ()  # a pruner sent to another process reads the study again
