"""What a pruner needs to know of one trial, and which trials it has to look at again.

A finished trial never changes, so each is read once; after that only the live ones are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.attributes import ORIGIN, PRIOR, RETRY_OF, RUNG, linked_trials

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
        is_prior: It was imported.
    """

    trial_id: int
    number: int
    state: TrialState
    value: float | None
    curve: Mapping[int, float]
    marks: Mapping[int, float]
    replaces: frozenset[int]
    is_prior: bool


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
        attrs: the trial's attributes, at least those of the keys `PRIOR`, `ORIGIN`, `RETRY_OF`,
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
    is_prior = PRIOR in attrs
    return Record(trial_id, number, state, value, curve, marks, frozenset(replaces), is_prior)


def record_of(trial: FrozenTrial) -> Record:
    """Return the record of a trial that has been read from its storage."""
    keys = [OPTUNA_RETRIES, *(key for key in trial.system_attrs if key.startswith(RUNG))]
    attrs = {key: trial.system_attrs[key] for key in keys if key in trial.system_attrs}
    attrs |= {k: trial.user_attrs[k] for k in (PRIOR, ORIGIN, RETRY_OF) if k in trial.user_attrs}
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
