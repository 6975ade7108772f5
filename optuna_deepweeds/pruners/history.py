"""What a pruner needs of a study: values at the rungs, finished curves, who replaced whom.

A finished trial never changes, so each is read once; later calls read only the live ones. The
caches hold nothing that cannot be read again: another process, or a fresh pruner object, comes
to the same decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.attributes import ORIGIN, PRIOR, RETRY_OF, RUNG


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


def is_paused_at(trial: FrozenTrial, rung: int | None) -> bool:
    """Tell whether the trial's last report, a finite one, is its first at or past `rung`."""
    curve = trial.intermediate_values
    if rung is None or not curve:
        return False
    last = max(curve)
    return last == min(step for step in curve if step >= rung) and bool(np.isfinite(curve[last]))


class History:
    """Rung values and finished curves of one study, in the direction "larger is better"."""

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self._n_prefix = 0  # trials before this position are finished and folded
        self._folded: set[int] = set()
        self._replaced: set[int] = set()
        self._rungs: dict[int, dict[int, float]] = {}
        self._finished: dict[int, tuple[NDArray[np.int64], NDArray[np.float64], float]] = {}
        self._paused: dict[int, FrozenTrial] = {}
        self._live: list[FrozenTrial] = []
        self._gains: dict[int, NDArray[np.float64]] = {}

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Read what is new in `trials`, all trials of the study by number."""
        self._live = []
        prefix_ended = False
        for position in range(self._n_prefix, len(trials)):
            trial = trials[position]
            if trial.state.is_finished():
                if trial.number not in self._folded:
                    self._fold(trial)
                if not prefix_ended:
                    self._n_prefix = position + 1
            else:
                prefix_ended = True
                if PRIOR not in trial.user_attrs:
                    self._live.append(trial)
                    self._replace(replaced_by(trial))

    def _fold(self, trial: FrozenTrial) -> None:
        self._folded.add(trial.number)
        if PRIOR in trial.user_attrs:
            return
        self._replace(replaced_by(trial))
        if trial.number in self._replaced:
            return
        marks = rung_marks(trial)
        for rung, value in marks.items():
            self._rungs.setdefault(rung, {})[trial.number] = self.sign * value
        if trial.state == TrialState.PRUNED and is_paused_at(trial, max(marks, default=None)):
            self._paused[trial.number] = trial
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            final = self.sign * trial.value
            if np.isfinite(final):
                curve = sorted(trial.intermediate_values.items())
                steps = np.array([step for step, _ in curve], dtype=np.int64)
                values = self.sign * np.array([value for _, value in curve], dtype=float)
                self._finished[trial.number] = (steps, values, final)
                self._gains.clear()

    def _replace(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number not in self._replaced:
                self._replaced.add(number)
                if self._finished.pop(number, None) is not None:
                    self._gains.clear()
                self._paused.pop(number, None)
                for values in self._rungs.values():
                    values.pop(number, None)

    @property
    def live(self) -> list[FrozenTrial]:
        """Unfinished trials that nobody replaced."""
        return [trial for trial in self._live if trial.number not in self._replaced]

    def live_trial(self, number: int) -> FrozenTrial | None:
        """Return the live trial of this number as the storage has it."""
        return next((trial for trial in self._live if trial.number == number), None)

    @property
    def paused(self) -> dict[int, FrozenTrial]:
        """Trials that stopped right at a rung with a finite value and were not continued."""
        return self._paused

    def rung_values(self, rung: int, *, without: int | None = None) -> dict[int, float]:
        """Return the values seen at a rung by trial number, those of live trials included."""
        values = dict(self._rungs.get(rung, {}))
        for trial in self.live:
            marks = rung_marks(trial)
            if rung in marks:
                values[trial.number] = self.sign * marks[rung]
        if without is not None:
            values.pop(without, None)
        return values

    @property
    def n_finished(self) -> int:
        """Number of trials that were trained to the end."""
        return len(self._finished)

    def best_final(self) -> float | None:
        """Return the best final value, None before any trial has finished."""
        return max((final for _, _, final in self._finished.values()), default=None)

    def gains_after(self, step: int) -> NDArray[np.float64]:
        """Return what each finished curve gained after its last report up to `step`, (n,)."""
        if step not in self._gains:
            gains = []
            for steps, values, final in self._finished.values():
                position = int(np.searchsorted(steps, step, side="right")) - 1
                if position >= 0 and np.isfinite(values[position]):
                    gains.append(final - values[position])
            self._gains[step] = np.array(gains)
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
