"""Writing to trials: only by the worker that holds one, in whole transactions.

Who claimed a trial writes to it only until another one claims it. The fencing number is the
trial's start in microseconds, which every claim raises; it is checked where the trial's row is
locked, in the transaction of the write.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc
from sqlalchemy.engine import URL

from optuna_deepweeds import clock
from optuna_deepweeds.studies.storage import engine, locks
from optuna_deepweeds.studies.storage._optuna import (
    check_distribution_compatibility,
    models,
    scoped_transaction,
)
from optuna_deepweeds.studies.storage.engine import shown, sqlite_path
from optuna_deepweeds.studies.storage.retry import Retrier
from optuna_deepweeds.studies.storage.writing import put_attrs, put_beat, put_report

_TICK = timedelta(microseconds=1)

# Trial id, name, value as stored, distribution, and the study's distribution where it is known.
_Param = tuple[int, str, float, BaseDistribution, BaseDistribution | None]


class FencedStorage(RDBStorage):
    """An RDBStorage whose trials are written to by their claimants alone.

    Attributes:
        beat_seconds: How often a worker tells that its trial lives.
        grace_seconds: After how long without a beat a trial counts as abandoned.
        retrier: Repeats calls while the database is away.
        lead: How far the database's clock was ahead of this process's when it was last asked.
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
        self.lead: timedelta | None = None
        self._local = threading.local()
        # Trial id -> start of the trials that this object has claimed, in UTC.
        self._claims: dict[int, datetime] = {}
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

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's; a repeated attempt recognises what the first one did."""
        return self.settle(trial_id, state, values)

    def settle(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None = None,
        *,
        user_attrs: Mapping[str, Any] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
        dead: FrozenTrial | None = None,
    ) -> bool:
        """`set_trial_state_values` together with attributes, in one transaction.

        Args:
            trial_id: The trial.
            state: Its new state.
            values: Its values.
            user_attrs: To be set, as `system_attrs`.
            system_attrs: To be set.
            dead: The trial as it was when its worker was found dead, to end it for that worker.

        Returns:
            False if another was faster; with `dead` also if its worker was stopped in the middle
            of a transaction, which only the server can end.
        """
        now = clock.now().replace(tzinfo=None)
        attempted = False
        started: datetime | None = None
        claim = self._claims.get(trial_id)
        if dead is not None and dead.datetime_start is not None:
            claim = dead.datetime_start.astimezone(UTC).replace(tzinfo=None)

        def is_own(row: Any) -> bool:
            if not attempted:
                return False
            if state == TrialState.WAITING:  # Whoever claimed it since gave it another start.
                return bool(row.state == state or row._datetime_start_utc != started)
            if state == TrialState.RUNNING:
                return bool(row.state == state and row._datetime_start_utc == started)
            return bool(row.state == state and row._datetime_complete_utc == now)

        def change() -> bool:
            nonlocal attempted, started
            with self.writing(), scoped_transaction(self.scoped_session) as session:
                query = session.query(models.TrialModel).filter_by(trial_id=trial_id)
                row: Any = query.with_for_update(skip_locked=dead is not None).one_or_none()
                if row is None and dead is not None:
                    return False
                if row is None:
                    raise KeyError(models.NOT_FOUND_MSG)
                if is_own(row):
                    return True
                started = row._datetime_start_utc
                if state == TrialState.RUNNING:
                    self.check_trial_is_updatable(trial_id, row.state)
                    if row.state != TrialState.WAITING:
                        return False
                    # It rises whatever the clocks of several machines say.
                    started = now if started is None else max(now, started + _TICK)
                    row._datetime_start_utc = started
                    # A trial that was put back still has the heartbeat of its first worker.
                    put_beat(session, trial_id)
                else:
                    self._check_claim(trial_id, row.state, started, claim)
                    if dead is not None and row.state != dead.state:
                        raise UpdateFinishedTrialError("The worker lived, and put it back.")
                for objective, value in enumerate(values or ()):
                    self._set_trial_value_without_commit(session, row, objective, value)
                put_attrs(session, trial_id, user_attrs, system_attrs)
                row.state = state
                if state.is_finished():
                    row._datetime_complete_utc = now
                session.flush()
                self._verify_lock(row.study_id)
                attempted = True
                return True

        try:
            is_done = self.retrier.call(change)
        except exc.IntegrityError:  # Another worker was faster.
            return False
        if state.is_finished():
            self._claims.pop(trial_id, None)
        elif is_done and state == TrialState.RUNNING and started is not None:
            self._claims[trial_id] = started
        return is_done

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """As Optuna's, refused to a worker whose trial another one has claimed."""
        self._write(trial_id, lambda s: put_report(s, trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's, refused likewise."""
        self.set_trial_attrs(trial_id, user={key: value})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's, refused likewise."""
        self.set_trial_attrs(trial_id, system={key: value})

    def set_trial_attrs(
        self,
        trial_id: int,
        user: Mapping[str, Any] | None = None,
        system: Mapping[str, Any] | None = None,
    ) -> None:
        """Set attributes of a trial, all of them or none."""
        self._write(trial_id, lambda session: put_attrs(session, trial_id, user, system))

    def _write(self, trial_id: int, put: Callable[[Any], None]) -> None:
        """Call `put` with a session, once the trial may be written and as long as it may.

        Repeating it must do no harm.

        Raises:
            UpdateFinishedTrialError: The trial has ended, or another worker has claimed it.
        """

        def write() -> None:
            with self.writing(), scoped_transaction(self.scoped_session) as session:
                self._lock_trial(session, trial_id)
                put(session)

        self.retrier.call(write)

    def _lock_trial(self, session: Any, trial_id: int) -> None:
        """Let nobody change the trial's state before the transaction ends; raise as `_write`."""
        table = models.TrialModel
        query = sqlalchemy.select(table.state, table._datetime_start_utc)
        query = query.where(table.trial_id == trial_id).with_for_update(read=True)
        row = session.execute(query).one_or_none()
        if row is None:
            raise KeyError(models.NOT_FOUND_MSG)
        self._check_claim(trial_id, row[0], row[1], self._claims.get(trial_id))

    def _check_claim(
        self, trial_id: int, state: TrialState, start: datetime | None, claim: datetime | None
    ) -> None:
        self.check_trial_is_updatable(trial_id, state)
        if claim is not None and claim != start:
            raise UpdateFinishedTrialError(f"Trial id {trial_id} was claimed by another worker.")

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
                self._lock_trial(session, params[0][0])
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

    def beat(self, trial_id: int) -> None:
        """Record a heartbeat, in a single attempt.

        Raises:
            UpdateFinishedTrialError: The trial has ended, or another worker has claimed it.
        """
        with self.writing(), scoped_transaction(self.scoped_session) as session:
            self._lock_trial(session, trial_id)
            put_beat(session, trial_id)

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
    if not isinstance(storage, FencedStorage):
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
