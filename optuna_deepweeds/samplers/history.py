"""Trials of a study as arrays; the one place of this room that reads trials.

Finished trials never change, so each is read once. What is kept only saves time: a sampler that
starts with an empty history reaches the same decisions.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
from optuna_deepweeds.trials import before, expected_end, sign, was_interrupted

# Tiers of outcomes; within a tier larger numbers are better.
_FAILED, _STOPPED, _VALUED = 0.0, 1.0, 2.0


@dataclass(frozen=True)
class Observations:
    """What a study knows at the moment, over the columns of one encoder.

    Attributes:
        encoder: The searched parameters.
        X: (n, d) codes of finished trials.
        ranks: (n,) ranks of their outcomes, from 1 (worst) to n (best).
        values: (n,) their values, larger is better; NaN where failed, or stopped unforeseen.
        pending: (p, d) codes of running trials.
        turn: Number of the trial that asks.
    """

    encoder: Encoder
    X: np.ndarray
    ranks: np.ndarray
    values: np.ndarray
    pending: np.ndarray
    turn: int


@dataclass
class _Folded:
    """Finished trials read so far; arrays and lists are parallel, one entry a trial."""

    n_prefix: int = 0
    """Every trial before this index is finished and read."""
    seen: set[int] = field(default_factory=set)
    """Numbers of finished trials read beyond the prefix."""
    params: list[Mapping[str, Any]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    outcomes: list[tuple[float, float, float]] = field(default_factory=list)
    replaced: set[int] = field(default_factory=set)
    ranges: dict[str, tuple[int, BaseDistribution]] = field(default_factory=dict)
    """By parameter, the number of the newest trial that has it, and its range there."""
    encoder: Encoder | None = None
    encoded_ranges: dict[str, BaseDistribution] = field(default_factory=dict)
    X: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    """Codes of the first trials in `params`, by `encoder`."""
    outcome_rows: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    """The first of `outcomes`, as an array."""


class History:
    """Reads the trials of one study at a time.

    Args:
        space: The searched parameters and their conditions; None reads them off the trials.
    """

    def __init__(self, space: SearchSpace | None) -> None:
        self._space = space
        self._folded = _Folded()
        self._study_name: str | None = None
        self._storage: weakref.ref[BaseStorage] | None = None
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_space": self._space}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_space"])  # type: ignore[misc]

    def distributions(self, study: Study) -> dict[str, BaseDistribution]:
        """Every searched parameter with its range, sorted by name unless a space orders them.

        Without a space this is the union over finished trials; where ranges differ, that of the
        newest trial holds.
        """
        if self._space is not None:
            found = self._space.distributions
        else:
            with self._lock:
                self._fold(study, use_cache=True)
                found = {
                    name: distribution
                    for name, (_, distribution) in sorted(self._folded.ranges.items())
                }
        return {name: d for name, d in found.items() if not d.single()}

    def read(
        self, study: Study, trial: FrozenTrial, distributions: Mapping[str, BaseDistribution]
    ) -> Observations:
        """The study as seen by `trial`, over the parameters of `distributions`."""
        with self._lock:
            # Optuna's cache is as old as the last `ask`; since then others may have suggested.
            return self._read(self._fold(study, use_cache=False), trial, distributions)

    def _read(
        self,
        trials: list[FrozenTrial],
        trial: FrozenTrial,
        distributions: Mapping[str, BaseDistribution],
    ) -> Observations:
        folded = self._folded
        if folded.encoder is None or folded.encoded_ranges != dict(distributions):
            folded.encoder = Encoder(distributions)
            folded.encoded_ranges = dict(distributions)
            folded.X = np.empty((0, len(folded.encoder)))
        encoder = folded.encoder
        new = encoder.encode(folded.params[len(folded.X) :])
        folded.X = np.concatenate([folded.X, new])
        new_outcomes = folded.outcomes[len(folded.outcome_rows) :]
        if new_outcomes:
            folded.outcome_rows = np.concatenate([folded.outcome_rows, np.array(new_outcomes)])

        X, outcomes = folded.X, folded.outcome_rows
        X, required = self._required(X, outcomes, encoder)
        usable = _has(X, required)
        if folded.replaced:
            usable &= ~np.isin(np.array(folded.numbers), list(folded.replaced))

        running = [
            t.params
            for t in trials[folded.n_prefix :]
            if t.state == TrialState.RUNNING
            and t.number != trial.number
            # A continuation repeats a configuration that is observed already.
            and attributes.ORIGIN not in t.user_attrs
        ]
        pending = encoder.encode(running)
        if self._space is not None:
            pending, required = _drop_inactive(pending, DeclaredConditions(self._space, encoder))
        else:
            required = np.broadcast_to(required[:1], pending.shape)
        pending = pending[_has(pending, required)]
        outcomes = outcomes[usable]
        return Observations(
            encoder=encoder,
            X=X[usable],
            ranks=average_ranks(outcomes),
            values=np.where(outcomes[:, 0] == _VALUED, outcomes[:, 1], np.nan),
            pending=pending,
            turn=trial.number,
        )

    def _required(
        self, X: np.ndarray, outcomes: np.ndarray, encoder: Encoder
    ) -> tuple[np.ndarray, np.ndarray]:
        """X without inactive values and (n, d) which parameters a finished trial must have.

        A trial that failed before it suggested everything is no point of the space. Without a
        declared space, what the trials of the best tier have in common is required.
        """
        if self._space is not None:
            return _drop_inactive(X, DeclaredConditions(self._space, encoder))
        if len(X) == 0:
            return X, np.ones((1, len(encoder)), dtype=bool)
        reference = X[outcomes[:, 0] == outcomes[:, 0].max()]
        return X, np.broadcast_to((reference != MISSING).all(axis=0), X.shape)

    def _fold(self, study: Study, *, use_cache: bool) -> list[FrozenTrial]:
        """Read what finished since the last call; return all trials, not to be changed."""
        storage = self._storage() if self._storage is not None else None
        if storage is not study._storage or self._study_name != study.study_name:
            self._folded = _Folded()
            self._storage = weakref.ref(study._storage)
            self._study_name = study.study_name
        # `get_trials` would copy every trial.
        trials = study._get_trials(deepcopy=False, use_cache=use_cache)
        larger_is_better = sign(study.direction)
        folded = self._folded
        for trial in trials[folded.n_prefix :]:
            if trial.state.is_finished() and trial.number not in folded.seen:
                folded.seen.add(trial.number)
                self._fold_one(trial, larger_is_better)
        while folded.n_prefix < len(trials) and trials[folded.n_prefix].number in folded.seen:
            folded.seen.remove(trials[folded.n_prefix].number)
            folded.n_prefix += 1
        return trials

    def _fold_one(self, trial: FrozenTrial, sign: float) -> None:
        folded = self._folded
        if was_interrupted(trial):
            return
        folded.replaced |= _replaced_by(trial)
        if trial.state != TrialState.FAIL or not folded.ranges:
            for name, distribution in trial.distributions.items():
                if name not in folded.ranges or trial.number > folded.ranges[name][0]:
                    folded.ranges[name] = (trial.number, distribution)
        folded.params.append(trial.params)
        folded.numbers.append(trial.number)
        folded.outcomes.append(_outcome(trial, sign))


def _drop_inactive(X: np.ndarray, conditions: DeclaredConditions) -> tuple[np.ndarray, np.ndarray]:
    """X with `MISSING` wherever `conditions` switch a parameter off, and where they do not."""
    active = conditions.apply(np.where(X == MISSING, 0.5, X)) != MISSING
    return np.where(active, X, MISSING), active


def _has(X: np.ndarray, required: np.ndarray) -> np.ndarray:
    """(n,) True for rows of X that have every required parameter and at least one."""
    present = X != MISSING
    return (present | ~required).all(axis=1) & present.any(axis=1)


def valued_trials(trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, float]]:
    """Trials with their final values, true or foreseen; of a continued one the last spell."""
    finished = [trial for trial in trials if trial.state.is_finished()]
    replaced = set[int]().union(*map(_replaced_by, finished))
    values = [(trial, expected_end(trial)) for trial in finished if trial.number not in replaced]
    return [(trial, value) for trial, value in values if value is not None]


def _replaced_by(trial: FrozenTrial) -> set[int]:
    """Numbers of the trials that the finished `trial` makes superfluous.

    A continuation carries the whole curve of its origin; a retry its whole task.
    """
    return set() if was_interrupted(trial) else before(trial)


def _outcome(trial: FrozenTrial, sign: float) -> tuple[float, float, float]:
    """The trial's tier and its place within; tuples compare, larger is better.

    A stopped trial counts with the final value that its pruner foresaw. Without one it stands
    behind everything valued, later stops first, as in Optuna's TPE. NaN is a failure.
    """
    value = expected_end(trial)
    if value is not None:
        return (_VALUED, sign * value, 0.0)
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        step, last = max(trial.intermediate_values.items())
        if not math.isnan(last):
            return (_STOPPED, float(step), sign * last)
    return (_FAILED, 0.0, 0.0)
