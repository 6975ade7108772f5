"""Optuna's RDBStorage, made to outlive restarts, locks and races.

- Every call is repeated with growing pauses while the database is locked or away, and a write
  whose outcome got lost with the connection is recognised when it did happen.
- On SQLite, write transactions take the write lock first, so that two workers never claim the
  same waiting trial.
- A running trial has a heartbeat from the moment it exists (see `heartbeat.py`).
- Creating or claiming a trial under a study's lock verifies that the lock still holds.
- Who claimed a trial writes to it only until another one claims it (see `fenced.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Container, Sequence
from typing import Any

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import select

from optuna_deepweeds import clock
from optuna_deepweeds.studies.storage._optuna import models, scoped_transaction
from optuna_deepweeds.studies.storage.fenced import FencedStorage
from optuna_deepweeds.studies.storage.rows import read_trials


class ResilientStorage(FencedStorage):
    """An RDBStorage for many workers; made by `open_storage`."""

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """As Optuna's; a repeated attempt finds the study that the first one made."""
        name = study_name
        if name is None:
            with scoped_transaction(self.scoped_session) as session:
                name = self._create_unique_study_name(session)
        attempts = 0

        def create() -> int:
            nonlocal attempts
            attempts += 1
            try:
                with self.writing():
                    return RDBStorage.create_new_study(self, directions, name)
            except DuplicatedStudyError:
                if attempts == 1:
                    raise
                return RDBStorage.get_study_id_from_name(self, name)

        return self.retrier.call(create)

    def delete_study(self, study_id: int) -> None:
        """As Optuna's; a repeated attempt does not mind that the first one succeeded."""
        attempts = 0

        def delete() -> None:
            nonlocal attempts
            attempts += 1
            try:
                with self.writing(), scoped_transaction(self.scoped_session) as session:
                    models.StudyModel.find_or_raise_by_id(study_id, session)
                    _delete_rows(session, study_id)
            except KeyError:
                if attempts == 1:
                    raise

        self.retrier.call(delete)

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        # Id of the trial whose commit was attempted. Ids are never handed out twice where an
        # answer can get lost (PostgreSQL; a SQLite commit is never in doubt).
        attempted: int | None = None

        def create() -> FrozenTrial:
            nonlocal attempted
            with self.writing(), scoped_transaction(self.scoped_session) as session:
                # The row lock makes numbers unique, and waits for a lost transaction to end.
                models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
                if attempted is not None:
                    made = session.get(models.TrialModel, attempted)
                    if made is not None:
                        return self._build_frozen_trial_from_trial_model(made)
                row: Any = self._get_prepared_new_trial(study_id, template_trial, session)
                if template_trial is None:
                    row._datetime_start_utc = clock.now().replace(tzinfo=None)
                if row.state == TrialState.RUNNING:
                    session.add(models.TrialHeartbeatModel(trial_id=row.trial_id))
                session.flush()
                self._verify_lock(study_id)
                attempted = row.trial_id
                if row.state == TrialState.RUNNING and row._datetime_start_utc is not None:
                    self._claims[row.trial_id] = row._datetime_start_utc
                return self._build_frozen_trial_from_trial_model(row)

        return self.retrier.call(create)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's, by plain statements."""
        found = self._read_trials(f"trial_id = {int(trial_id)}")
        if not found:
            raise KeyError(models.NOT_FOUND_MSG)
        return found[0]

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        where = f"study_id = {int(study_id)} AND trial_id > {int(trial_id_greater_than)}"
        earlier = [f"({int(i)})" for i in included_trial_ids if i <= trial_id_greater_than]
        if earlier:  # A union, since SQLite goes through the whole study for an OR.
            earlier_ids = ", ".join(earlier)
            where = f"trial_id IN (SELECT trial_id FROM trials WHERE {where} "
            where += f"UNION ALL VALUES {earlier_ids})"
        if states is not None:
            names = [f"'{state.name}'" for state in TrialState if state in states]
            where += f" AND state IN ({', '.join(names)})" if names else " AND 1 = 0"
        trials = self._read_trials(where)
        if not trials:
            self.get_study_name_from_id(study_id)  # Optuna raises KeyError without the study.
        return trials

    def _read_trials(self, where: str) -> list[FrozenTrial]:
        def read() -> list[FrozenTrial]:
            # In the thread's session: Optuna asks for a trial in the midst of changing it.
            with scoped_transaction(self.scoped_session) as session:
                return read_trials(session.connection(), where)

        return self.retrier.call(read)


def _delete_rows(session: Any, study_id: int) -> None:
    """Delete a study by a statement a table; Optuna loads every row, 15 s for 10,000 trials."""
    trials = models.TrialModel
    own = select(trials.trial_id).where(trials.study_id == study_id)
    for table in reversed(models.BaseModel.metadata.sorted_tables):  # Whoever refers comes first.
        if "study_id" in table.c:
            session.execute(table.delete().where(table.c.study_id == study_id))
        elif "trial_id" in table.c:
            session.execute(table.delete().where(table.c.trial_id.in_(own)))


def _resilient(name: str, *, writes: bool) -> Any:
    """Optuna's method of that name, repeated while the storage is away."""
    original = getattr(RDBStorage, name)

    @functools.wraps(original)
    def method(self: ResilientStorage, *args: Any, **kwargs: Any) -> Any:
        def attempt() -> Any:
            if writes:
                with self.writing():
                    return original(self, *args, **kwargs)
            return original(self, *args, **kwargs)

        return self.retrier.call(attempt)

    return method


# All of these may be repeated: they read, or they set something to a given value.
for _name in (
    "set_study_user_attr",
    "set_study_system_attr",
    "record_heartbeat",
):
    setattr(ResilientStorage, _name, _resilient(_name, writes=True))
for _name in (
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_trial_user_attrs",
    "get_trial_system_attrs",
    "get_all_studies",
    "get_trial_param",
    "get_trial_id_from_study_id_trial_number",
    "_get_best_trial_id",
):
    setattr(ResilientStorage, _name, _resilient(_name, writes=False))
