"""What a pruner reads of a study: where its trials stand, and what finished curves gained.

A finished trial never changes, so each is read once; later calls read only the live ones. What is
kept holds nothing that cannot be read again: another process, or a fresh pruner object, comes to
the same decisions.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import trials
from optuna_deepweeds.attributes import SUGGESTED
from optuna_deepweeds.pruners.forecast import forecast_final
from optuna_deepweeds.pruners.rungs import Field, n_misleading

Curve = Mapping[int, float]

_OPTUNA_RETRIES = "retry_history"
"""System attribute in which Optuna's own retries name the earlier attempts."""


class Standing(NamedTuple):
    """Where one trial stands; see `rungs.Field`."""

    trial: FrozenTrial
    reached: int
    worth: tuple[float, ...]
    epochs: int
    is_paused: bool
    is_running: bool
    is_probe: bool


class History:
    """The trials of one study that nobody replaced, in the direction "larger is better".

    Args:
        sign: turns the study's values into "larger is better".
        rungs: the rungs, and the resource of a full training.
        earlier: curves of full trainings of the same task, in the study's own direction.
    """

    def __init__(self, sign: float, rungs: Sequence[int], earlier: Sequence[Curve] = ()) -> None:
        self.sign = sign
        self._rungs = rungs
        known = [
            trials.worths({s: sign * v for s, v in curve.items()}, rungs) for curve in earlier
        ]
        worth = np.array(known).reshape(len(known), len(rungs))
        self.n_passed = n_misleading(worth[np.isfinite(worth).all(axis=1)])
        """How many rungs all trials pass."""
        self._n_read = 0
        self._pending: list[int] = []  # numbers of trials that were unfinished when last read
        self._replaced: set[int] = set()
        self._ended: dict[int, Standing] = {}
        self._live: dict[int, Standing] = {}
        self._finals: dict[int, tuple[list[int], list[float], float]] = {}
        self._gains: dict[int, NDArray[np.float64]] = {}

    def update(self, all_trials: list[FrozenTrial]) -> None:
        """Take in what has changed in the trials of the study, ordered by number."""
        unread = [*self._pending, *range(self._n_read, len(all_trials))]
        self._n_read = len(all_trials)
        self._pending = [n for n in unread if not all_trials[n].state.is_finished()]
        self._live = {}
        for trial in (all_trials[n] for n in unread):
            self._replace(trials.before(trial))
            self._replace({*trial.system_attrs.get(_OPTUNA_RETRIES, ())} - {trial.number})
            if trial.number in self._replaced:
                continue
            if not trial.state.is_finished():
                self._live[trial.number] = self._standing(trial)
                continue
            self._ended[trial.number] = self._standing(trial)
            if trial.state == TrialState.COMPLETE and trial.values:
                curve = self.curve(trial)
                final = self.sign * trial.values[0]
                if math.isfinite(final):
                    steps = sorted(curve)
                    self._finals[trial.number] = (steps, [curve[s] for s in steps], final)
                    self._gains.clear()

    def _replace(self, numbers: Iterable[int]) -> None:
        for number in {*numbers} - self._replaced:
            self._replaced.add(number)
            self._ended.pop(number, None)
            self._live.pop(number, None)
            if self._finals.pop(number, None) is not None:
                self._gains.clear()

    def _standing(self, trial: FrozenTrial) -> Standing:
        curve = self.curve(trial)
        last = max(curve, default=0)
        is_complete = trial.state == TrialState.COMPLETE
        worth = tuple(trials.worths(curve, self._rungs))
        reached = sum(last >= rung for rung in self._rungs) - 1 if curve else -1
        return Standing(
            trial=trial,
            # One that is complete before its last rung has no further to go either.
            reached=len(self._rungs) - 1 if is_complete and reached >= 0 else reached,
            worth=worth,
            epochs=last,
            is_paused=trial.state == TrialState.PRUNED
            and 0 <= reached < len(self._rungs) - 1
            and math.isfinite(curve[last])
            and math.isfinite(worth[reached]),
            is_running=not trial.state.is_finished(),
            is_probe=trial.user_attrs.get(SUGGESTED) == "probe",
        )

    def curve(self, trial: FrozenTrial) -> dict[int, float]:
        """Return the trial's reports by step."""
        return {step: self.sign * value for step, value in trial.intermediate_values.items()}

    def field(self, waiting: FrozenTrial | None = None) -> tuple[Field, list[FrozenTrial]]:
        """Return where the trials stand, and the trials in the same order.

        Args:
            waiting: a running trial that counts as paused where it stands.
        """
        known = {**self._ended, **self._live}
        if waiting is not None:
            own = self._standing(waiting)
            known[waiting.number] = own._replace(is_paused=True, is_running=False)
        all_of = [known[number] for number in sorted(known)]
        found = Field(
            rungs=self._rungs,
            numbers=np.array([s.trial.number for s in all_of], dtype=np.int64),
            reached=np.array([s.reached for s in all_of], dtype=np.int64),
            worth=np.array([s.worth for s in all_of]).reshape(len(all_of), len(self._rungs)),
            epochs=np.array([s.epochs for s in all_of], dtype=np.int64),
            is_paused=np.array([s.is_paused for s in all_of], dtype=bool),
            is_running=np.array([s.is_running for s in all_of], dtype=bool),
            is_probe=np.array([s.is_probe for s in all_of], dtype=bool),
            n_passed=self.n_passed,
        )
        return found, [s.trial for s in all_of]

    def best_final(self) -> float | None:
        """Return the best final value, None before any trial has finished."""
        return max((final for _, _, final in self._finals.values()), default=None)

    def best_worth(self) -> float | None:
        """Return the best worth of a finished trial, None before there is one.

        A trial without a report at the last step is worth its final value.
        """
        worth = [
            final if math.isnan(last := self._ended[number].worth[-1]) else last
            for number, (_, _, final) in self._finals.items()
        ]
        return max(worth, default=None)

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


def foresee(
    all_trials: Sequence[FrozenTrial], direction: StudyDirection
) -> dict[int, tuple[float, float, float]]:
    """Return the final value expected of every trial that is not at its end, as of now.

    By number: the value and the ends of its interval of 90 %, in the study's own direction. Empty
    until three trials are complete.

    Args:
        all_trials: The trials of a study, ordered by number.
        direction: The study's.
    """
    history = History(trials.sign(direction), [1])
    history.update(list(all_trials))
    found = {}
    for standing in (*history._ended.values(), *history._live.values()):
        trial, step = standing.trial, standing.epochs
        if trial.state in (TrialState.PRUNED, TrialState.RUNNING) and step > 0:
            value = history.curve(trial)[step]
            forecast = forecast_final(value, history.gains_after(step))
            if forecast is not None and math.isfinite(value):
                found[trial.number] = forecast.times(history.sign)
    return found


class Histories:
    """The histories that one pruner object has read, by storage and study.

    Args:
        rungs, earlier: see `History`.
    """

    def __init__(self, rungs: Sequence[int], earlier: Sequence[Curve] = ()) -> None:
        self._rungs = rungs
        self._earlier = earlier
        self._known: WeakKeyDictionary[BaseStorage, dict[int, History]] = WeakKeyDictionary()
        self._lock = threading.RLock()

    @contextmanager
    def of(self, study: Study) -> Iterator[History]:
        """Yield the study's history, up to date; within the block no other thread has it."""
        with self._lock:
            of_storage = self._known.setdefault(study._storage, {})
            if study._study_id not in of_storage:
                sign = trials.sign(study.direction)
                of_storage[study._study_id] = History(sign, self._rungs, self._earlier)
            history = of_storage[study._study_id]
            # `Study.get_trials` would copy every trial.
            history.update(study._storage.get_all_trials(study._study_id, deepcopy=False))
            yield history

    def __reduce__(self) -> tuple[type[Histories], tuple[Sequence[int], Sequence[Curve]]]:
        # A pruner that is sent to another process reads again.
        return Histories, (self._rungs, self._earlier)
