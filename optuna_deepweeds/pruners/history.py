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


class History:
    """Rung values and finished curves of one study, in the direction "larger is better"."""

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._n_prefix = 0  # trials before this position are finished and folded
        self._folded: set[int] = set()
        self._replaced: set[int] = set()
        self._rungs: dict[int, dict[int, float]] = {}
        self._finished: dict[int, tuple[NDArray[np.int64], NDArray[np.float64], float]] = {}
        self._live: list[FrozenTrial] = []

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
        for rung, value in rung_marks(trial).items():
            self._rungs.setdefault(rung, {})[trial.number] = value
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            final = self._sign * trial.value
            if np.isfinite(final):
                curve = sorted(trial.intermediate_values.items())
                steps = np.array([step for step, _ in curve], dtype=np.int64)
                values = self._sign * np.array([value for _, value in curve], dtype=float)
                self._finished[trial.number] = (steps, values, final)

    def _replace(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number not in self._replaced:
                self._replaced.add(number)
                self._finished.pop(number, None)
                for values in self._rungs.values():
                    values.pop(number, None)

    @property
    def live(self) -> list[FrozenTrial]:
        """Unfinished trials that nobody replaced."""
        return [trial for trial in self._live if trial.number not in self._replaced]

    def rung_values(self, rung: int, without: int) -> list[float]:
        """Return the values that trials other than number `without` had at a rung."""
        values = [v for n, v in self._rungs.get(rung, {}).items() if n != without]
        for trial in self.live:
            if trial.number != without:
                marks = rung_marks(trial)
                if rung in marks:
                    values.append(marks[rung])
        return values

    def finals(self) -> NDArray[np.float64]:
        """Return the final values of the finished trials, (n,)."""
        return np.array([final for _, _, final in self._finished.values()])

    def gains_after(self, step: int) -> NDArray[np.float64]:
        """Return what each finished curve gained after its last report up to `step`, (n,)."""
        gains = []
        for steps, values, final in self._finished.values():
            position = int(np.searchsorted(steps, step, side="right")) - 1
            if position >= 0 and np.isfinite(values[position]):
                gains.append(final - values[position])
        return np.array(gains)


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
