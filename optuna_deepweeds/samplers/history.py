"""Trials of a study as arrays; the one place of this room that reads trials.

Finished trials never change, so each is read once. What is kept only saves time: a sampler that
starts with an empty history reaches the same decisions.
"""

from __future__ import annotations

import math
import threading
import weakref
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.samplers.conditions import DeclaredConditions
from optuna_deepweeds.samplers.encoding import MISSING, Encoder
from optuna_deepweeds.samplers.targets import average_ranks
from optuna_deepweeds.spaces import SearchSpace
from optuna_deepweeds.trials import (
    before,
    expected_end,
    replaced,
    sign,
    was_interrupted,
    worths,
)

# Tiers of outcomes; within a tier larger numbers are better.
_FAILED, _STOPPED, _VALUED = 0.0, 1.0, 2.0
_Outcome = tuple[float, float, float]
_GROWTH = 1.2


class _Curve(NamedTuple):
    """What a trial was worth at steps 1, 2, 4, 8, ... and at last, if it ended; its steps."""

    worth: tuple[float, ...]
    end: float
    length: int
    is_stopped: bool


_T = TypeVar("_T")


@dataclass(frozen=True)
class Observations:
    """What a study knows at the moment, over the columns of one encoder.

    Attributes:
        encoder: The searched parameters.
        X: (n, d) codes of finished trials.
        ranks: (n,) ranks of their outcomes, from 1 (worst) to n (best).
        values: (n,) their values, larger is better; NaN where failed, or stopped unforeseen.
        pending: (p, d) codes of running trials.
        curves: (n, r) what finished trials were worth at steps 1, 2, 4, 8, ... and in the
            end; NaN where one did not come, minus infinity where it failed.
        pending_curves: (p, r) the same of running trials.
        n_stopped: How many finished trials a pruner stopped after a report.
        n_suggested: How many trials a sampler of this room suggested, none of them enqueued.
        fixed: (d,) codes that the trial that asks is enqueued with; NaN where it is free.
        turn: Number of that trial.
    """

    encoder: Encoder
    X: np.ndarray
    ranks: np.ndarray
    values: np.ndarray
    pending: np.ndarray
    curves: np.ndarray
    pending_curves: np.ndarray
    n_stopped: int
    n_suggested: int
    fixed: np.ndarray
    turn: int


class _Folded:
    """What has been read of one study; rows are by trial number, whatever finished first."""

    def __init__(self, storage: BaseStorage | None = None, study_name: str = "") -> None:
        self.storage = None if storage is None else weakref.ref(storage)
        self.study_name = study_name
        self.n_prefix = 0
        """Every trial before this index is finished and read."""
        self.seen: set[int] = set()
        """Numbers of finished trials read beyond the prefix."""
        self.numbers: list[int] = []
        self.trials: list[tuple[_Outcome, Mapping[str, Any], _Curve]] = []
        self.replaced: set[int] = set()
        self.n_suggested = 0
        self.ranges: dict[str, tuple[tuple[bool, int], BaseDistribution]] = {}
        """By parameter, its range, and of which trial: did it not fail, and its number."""
        self.running: dict[int, tuple[int, np.ndarray]] = {}
        """By number, how many parameters a running trial had, and their codes."""
        self.encode_by({})

    def encode_by(self, distributions: Mapping[str, BaseDistribution]) -> None:
        """Forget all codes, for those of other ranges."""
        self.distributions = dict(distributions)
        self.encoder = Encoder(distributions)
        self.rows = np.empty((0, 3 + len(self.encoder)))
        """Outcomes and codes of the first of `trials`."""
        self.running = {}

    def add(self, trial: FrozenTrial, larger_is_better: float) -> None:
        """Take in a finished trial."""
        if was_interrupted(trial):
            return
        self.replaced |= before(trial)
        self.n_suggested += _is_suggested(trial)
        for name, distribution in trial.distributions.items():
            rank = (trial.state != TrialState.FAIL, trial.number)
            if name not in self.ranges or rank > self.ranges[name][0]:
                self.ranges[name] = (rank, distribution)
        place = bisect(self.numbers, trial.number)
        self.numbers.insert(place, trial.number)
        told = (_outcome(trial, larger_is_better), trial.params, _curve(trial, larger_is_better))
        self.trials.insert(place, told)
        self.rows = self.rows[:place]

    def encoded(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) outcomes and (n, d) codes of all finished trials."""
        new = self.trials[len(self.rows) :]
        if new:
            outcomes = np.array([outcome for outcome, _, _ in new])
            codes = self.encoder.encode([params for _, params, _ in new])
            self.rows = np.concatenate([self.rows, np.c_[outcomes, codes]])
        return self.rows[:, :3], self.rows[:, 3:]

    def encoded_running(self, running: Sequence[FrozenTrial]) -> np.ndarray:
        """(p, d) codes of running trials; only those with new parameters are encoded."""
        known = self.running
        new = [t for t in running if known.get(t.number, (-1,))[0] != len(t.params)]
        codes = self.encoder.encode([t.params for t in new])
        known |= {t.number: (len(t.params), x) for t, x in zip(new, codes, strict=True)}
        self.running = {t.number: known[t.number] for t in running}
        rows = [x for _, x in self.running.values()]
        return np.array(rows).reshape(len(rows), len(self.encoder))


class History:
    """Reads the trials of one study at a time.

    Args:
        space: The searched parameters and their conditions; None reads them off the trials.
    """

    def __init__(self, space: SearchSpace | None) -> None:
        self._space = space
        self._folded = _Folded()
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[type[History], tuple[SearchSpace | None]]:
        return History, (self._space,)  # in another process the study is read again

    def distributions(self, study: Study) -> dict[str, BaseDistribution]:
        """Every searched parameter with its range, sorted by name unless a space orders them.

        Without a space this is the union over finished trials, failed ones only where there are
        no others; where ranges differ, that of the newest trial holds.
        """
        if self._space is not None:
            found = self._space.distributions
        else:
            with self._lock:
                self._fold(study, use_cache=True)
                ranges = self._folded.ranges
                any_worked = any(rank[0] for rank, _ in ranges.values())
                found = {
                    name: distribution
                    for name, (rank, distribution) in sorted(ranges.items())
                    if rank[0] or not any_worked
                }
        return {name: d for name, d in found.items() if not d.single()}

    def read(
        self, study: Study, trial: FrozenTrial, distributions: Mapping[str, BaseDistribution]
    ) -> Observations:
        """The study as seen by `trial`, over the parameters of `distributions`."""
        with self._lock:
            # Optuna's cache is as old as the last `ask`; since then others may have suggested.
            trials = self._fold(study, use_cache=False)
            folded = self._folded
            if folded.distributions != dict(distributions):
                folded.encode_by(distributions)
            outcomes, X = folded.encoded()
            running = [
                t
                for t in trials[folded.n_prefix :]
                if t.state == TrialState.RUNNING
                and t.number != trial.number
                # A continuation repeats a configuration that is observed already.
                and attributes.ORIGIN not in t.user_attrs
            ]
            pending = folded.encoded_running(running)
            n = len(outcomes)
            larger_is_better = sign(study.direction)
            begun = [_curve(t, larger_is_better) for t in running]
            curves = _table([*(curve for _, _, curve in folded.trials), *begun])
            stopped = np.array([c.is_stopped for _, _, c in folded.trials], dtype=bool)
            usable = ~np.isin(folded.numbers, list(folded.replaced))
        encoder = folded.encoder
        if self._space is not None:
            conditions = DeclaredConditions(self._space, encoder)
            (X, required), (pending, p_required) = (
                _drop_inactive(rows, conditions) for rows in (X, pending)
            )
        else:
            # What the trials of the best tier have in common is required.
            best = outcomes[:, 0] == outcomes[:, 0].max(initial=_FAILED)
            required = p_required = (X[best] != MISSING).all(axis=0)
        # A trial that failed before it suggested everything is no point of the space.
        usable &= _has(X, required)
        outcomes = outcomes[usable]
        runs = _has(pending, p_required)
        return Observations(
            encoder=encoder,
            X=X[usable],
            ranks=average_ranks(outcomes),
            values=np.where(outcomes[:, 0] == _VALUED, outcomes[:, 1], np.nan),
            pending=pending[runs],
            curves=curves[:n][usable],
            pending_curves=curves[n:][runs],
            n_stopped=int(stopped[usable].sum()),
            n_suggested=folded.n_suggested + sum(map(_is_suggested, running)),
            fixed=encoder.known_codes(trial.system_attrs.get("fixed_params", {})),
            turn=trial.number,
        )

    def _fold(self, study: Study, *, use_cache: bool) -> list[FrozenTrial]:
        """Read what finished since the last call; return all trials, not to be changed."""
        folded, storage = self._folded, study._storage
        known = folded.storage() if folded.storage is not None else None
        if known is not storage or folded.study_name != study.study_name:
            folded = self._folded = _Folded(storage, study.study_name)
        # `get_trials` would copy every trial.
        trials = study._get_trials(deepcopy=False, use_cache=use_cache)
        for trial in trials[folded.n_prefix :]:
            if trial.state.is_finished() and trial.number not in folded.seen:
                folded.seen.add(trial.number)
                folded.add(trial, sign(study.direction))
        while folded.n_prefix < len(trials) and trials[folded.n_prefix].number in folded.seen:
            folded.seen.remove(trials[folded.n_prefix].number)
            folded.n_prefix += 1
        return trials


class AtMilestones(Generic[_T]):
    """What is too dear for every suggestion, done anew whenever a study has grown by a fifth.

    It is fitted to the first so many trials alone, so a sampler that starts in the middle of a
    study arrives at the same. The last fit is kept to save time.
    """

    def __init__(self) -> None:
        self._fitted: tuple[bytes, _T] | None = None

    def get(
        self, seen: Observations, fit: Callable[[np.ndarray, np.ndarray, np.ndarray], _T]
    ) -> _T:
        """What `fit` makes of the codes, ranks and values of the trials up to the milestone."""
        n = _milestone(len(seen.X))
        X, values = seen.X[:n], seen.values[:n]
        ranks = average_ranks(seen.ranks[:n, None])
        key = X.tobytes() + ranks.tobytes() + values.tobytes()
        if self._fitted is None or self._fitted[0] != key:
            self._fitted = (key, fit(X, ranks, values))
        return self._fitted[1]


def _milestone(n: int) -> int:
    """The largest number of trials up to n at which a study has grown by a fifth."""
    reached = min(n, 4)
    while (following := max(reached + 1, int(reached * _GROWTH))) <= n:
        reached = following
    return reached


def _drop_inactive(X: np.ndarray, conditions: DeclaredConditions) -> tuple[np.ndarray, np.ndarray]:
    """X with `MISSING` wherever `conditions` switch a parameter off, and where they do not."""
    active = conditions.apply(np.where(X == MISSING, 0.5, X)) != MISSING
    return np.where(active, X, MISSING), active


def _has(X: np.ndarray, required: np.ndarray) -> np.ndarray:
    """(n,) True for rows of X that have every required parameter and at least one."""
    present = X != MISSING
    return (present | ~required).all(axis=1) & present.any(axis=1)


def _is_suggested(trial: FrozenTrial) -> bool:
    """Whether the trial's configuration is new and came from a sampler of this room."""
    return attributes.SUGGESTED in trial.user_attrs and attributes.ORIGIN not in trial.user_attrs


def valued_trials(trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, float]]:
    """Trials with their final values, true or foreseen; of a continued one the last spell."""
    told = [t for t in trials if t.state.is_finished() and not was_interrupted(t)]
    superfluous = replaced(told)
    values = [(t, expected_end(t)) for t in told if t.number not in superfluous]
    return [(trial, value) for trial, value in values if value is not None]


def _outcome(trial: FrozenTrial, larger_is_better: float) -> _Outcome:
    """The trial's tier and its place within; tuples compare, larger is better.

    A stopped trial counts with the final value that its pruner foresaw. Without one it stands
    behind everything valued, later stops first, as in Optuna's TPE. NaN is a failure.
    """
    value = expected_end(trial)
    if value is not None:
        return (_VALUED, larger_is_better * value, 0.0)
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        step, last = max(trial.intermediate_values.items())
        if not math.isnan(last):
            return (_STOPPED, float(step), larger_is_better * last)
    return (_FAILED, 0.0, 0.0)


def _curve(trial: FrozenTrial, larger_is_better: float) -> _Curve:
    """The trial's curve; a failed one is as bad as can be from the first step on."""
    curve = {step: larger_is_better * v for step, v in trial.intermediate_values.items()}
    length = max(curve, default=0)
    if trial.state == TrialState.FAIL:
        return _Curve((-math.inf,), math.nan, 0, False)
    worth = tuple(worths(curve, (2**k for k in range(length.bit_length()))))
    if trial.state == TrialState.COMPLETE:
        return _Curve(worth, larger_is_better * trial.values[0], length, False)
    return _Curve(worth, math.nan, 0, trial.state == TrialState.PRUNED and length > 0)


def _table(curves: Sequence[_Curve]) -> np.ndarray:
    """(n, r) values at steps 1, 2, 4, 8, ... before the end of full curves, and the ends."""
    full = max((curve.length for curve in curves), default=0)
    longest = max((len(curve.worth) for curve in curves), default=0)
    r = min(longest, (full - 1).bit_length()) if full else longest
    table = np.full((len(curves), r + 1), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: min(r, len(curve.worth))] = curve.worth[:r]
        row[-1] = curve.end
    return table
