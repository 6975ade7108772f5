"""Optuna's RDBStorage, made to outlive restarts, locks and races.

- Every call is repeated with growing pauses while the database is locked or away, and a write
  whose outcome got lost with the connection is recognised when it did happen.
- On SQLite, write transactions take the write lock first, so that two workers never claim the
  same waiting trial.
- A running trial has a heartbeat from the moment it exists (see `heartbeat.py`).
- Creating or claiming a trial under a study's lock verifies that the lock still holds.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc
from sqlalchemy.engine import URL

from optuna_deepweeds.studies.storage import engine, locks
from optuna_deepweeds.studies.storage._optuna import (
    check_distribution_compatibility,
    models,
    scoped_transaction,
)
from optuna_deepweeds.studies.storage.engine import shown, sqlite_path
from optuna_deepweeds.studies.storage.retry import Retrier
from optuna_deepweeds.studies.storage.rows import read_trials

# Trial id, name, value as stored, distribution, and the study's distribution where it is known.
_Param = tuple[int, str, float, BaseDistribution, BaseDistribution | None]


class ResilientStorage(RDBStorage):
    """An RDBStorage for many workers; made by `open_storage`.

    Attributes:
        beat_seconds: How often a worker tells that its trial lives.
        grace_seconds: After how long without a beat a trial counts as abandoned.
        retrier: Repeats calls while the database is away.
    """

    def __init__(
        self,
        url: URL,
        *,
        beat_seconds: float,
        grace_seconds: float,
        patience: float,
        create_tables: bool,
    ) -> None:
        self.beat_seconds = beat_seconds
        self.grace_seconds = grace_seconds
        self.retrier = Retrier(patience=patience, name=shown(url))
        self._local = threading.local()
        text = url.render_as_string(hide_password=False)
        # Optuna formats the URL as a template: braces in a password must survive that. Its own
        # heartbeat stays off, since it serves `optimize` only and dies of the first error.
        super().__init__(
            text.replace("{", "{{").replace("}", "}}"),
            engine_kwargs=engine.engine_options(url),
            skip_table_creation=not create_tables,
        )
        self._listen()

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        del state["_local"]
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        self._local = threading.local()
        super().__setstate__(state)
        self._listen()

    def _listen(self) -> None:
        """Set up connections; those made before are dropped."""
        engine.listen(self.engine, self._local)
        if sqlite_path(self.engine.url) is not None or self.engine.dialect.name != "sqlite":
            self.engine.dispose()
        weakref.finalize(self, self.engine.dispose)

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
                with self.writing():
                    RDBStorage.delete_study(self, study_id)
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
                if row.state == TrialState.RUNNING:
                    session.add(models.TrialHeartbeatModel(trial_id=row.trial_id))
                session.flush()
                self._verify_lock(study_id)
                attempted = row.trial_id
                return self._build_frozen_trial_from_trial_model(row)

        return self.retrier.call(create)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's; a repeated attempt recognises what the first one did."""
        now = datetime.now()
        attempted = False
        started: datetime | None = None

        def is_own(row: Any) -> bool:
            if state == TrialState.WAITING:  # Whoever claimed it since gave it another start.
                return attempted and (row.state == state or row.datetime_start != started)
            stamp = row.datetime_start if state == TrialState.RUNNING else row.datetime_complete
            return bool(attempted and row.state == state and stamp == now)

        def change() -> bool:
            nonlocal attempted, started
            with self.writing(), scoped_transaction(self.scoped_session) as session:
                row: Any = models.TrialModel.find_or_raise_by_id(trial_id, session, True)
                if is_own(row):
                    return True
                started = row.datetime_start
                self.check_trial_is_updatable(trial_id, row.state)
                if state == TrialState.RUNNING and row.state != TrialState.WAITING:
                    return False
                for objective, value in enumerate(values or ()):
                    self._set_trial_value_without_commit(session, row, objective, value)
                row.state = state
                if state == TrialState.RUNNING:
                    row.datetime_start = now
                    # A trial that was put back still has the heartbeat of its first worker.
                    beat: Any = models.TrialHeartbeatModel.where_trial_id(trial_id, session)
                    if beat is None:
                        session.add(models.TrialHeartbeatModel(trial_id=trial_id))
                    else:
                        beat.heartbeat = session.execute(sqlalchemy.func.now()).scalar()
                if state.is_finished():
                    row.datetime_complete = now
                session.flush()
                self._verify_lock(row.study_id)
                attempted = True
                return True

        try:
            return self.retrier.call(change)
        except exc.IntegrityError:  # Another worker was faster.
            return False

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        row = (trial_id, param_name, param_value_internal, distribution, previous_distribution)
        collected: list[_Param] | None = getattr(self._local, "params", None)
        if collected is None:
            self._write_params([row])
        else:
            collected.append(row)

    def _write_params(self, params: Sequence[_Param]) -> None:
        def write() -> None:
            # When a repeated attempt meets what the first one wrote, it wrote all of it.
            with self.writing(), scoped_transaction(self.scoped_session, True) as session:
                trial: Any = models.TrialModel.find_or_raise_by_id(params[0][0], session)
                self.check_trial_is_updatable(params[0][0], trial.state)
                rows = []
                for trial_id, name, value, distribution, previous in params:
                    if previous is None:  # The study's first trial: look it up.
                        self._set_trial_param_without_commit(
                            session, trial_id, name, value, distribution
                        )
                        continue
                    check_distribution_compatibility(previous, distribution)
                    row = {"trial_id": trial_id, "param_name": name, "param_value": value}
                    rows.append(row | {"distribution_json": distribution_to_json(distribution)})
                if rows:
                    session.execute(sqlalchemy.insert(models.TrialParamModel), rows)

        self.retrier.call(write)

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

    def beat(self, trial_id: int) -> None:
        """Record a heartbeat, in a single attempt."""
        with self.writing():
            RDBStorage.record_heartbeat(self, trial_id)

    def _verify_lock(self, study_id: int) -> None:
        lock = locks.held_lock(self, study_id)
        if lock is not None:
            lock.verify()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within this `with` block, the thread's SQLite transactions take the write lock first."""
        self._local.writes = True
        try:
            yield
        finally:
            self._local.writes = False


@contextmanager
def collecting_params(storage: Any) -> Iterator[None]:
    """Write the parameters that this thread suggests in the block together at its end.

    One transaction instead of one a parameter saves 20 to 40 ms a trial. An exception that leaves
    the block drops them. Does nothing for storages that are not ours.
    """
    storage = locks.backend(storage)
    if not isinstance(storage, ResilientStorage):
        yield
        return
    collected: list[_Param] = []
    storage._local.params = collected
    try:
        yield
    finally:
        del storage._local.params
    if collected:
        storage._write_params(collected)


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
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
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
