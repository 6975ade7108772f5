"""Heartbeats of running trials, and the trials whose heart stopped.

Optuna beats inside `optimize` only and stops at the first storage error. A trial made by our
storage has its first heartbeat from the transaction that made it; `Heartbeat` renews it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from optuna_deepweeds import clock
from optuna_deepweeds.studies.storage.locks import backend
from optuna_deepweeds.studies.storage.resilient import ResilientStorage
from optuna_deepweeds.studies.storage.retry import backoff

_logger = logging.getLogger(__name__)

_REMINDER_SECONDS = 2.0


class Heartbeat:
    """Tells from a thread of its own that a trial is being worked on, while in its `with` block.

    A storage that is away is asked again and again; no error ends the heartbeat. Storages other
    than ours get no heartbeat.

    Args:
        storage: Where the trial lies.
        trial_id: The trial.
        seconds: How long the block may take; then `on_overdue` is called, in the thread, every
            few seconds until the block is left.
        on_overdue: See `seconds`.

    Attributes:
        is_lost: The trial is this worker's no more: it slept for longer than the grace period,
            or is overdue.
    """

    def __init__(
        self,
        storage: Any,
        trial_id: int,
        *,
        seconds: float = math.inf,
        on_overdue: Callable[[], None] = lambda: None,
    ) -> None:
        storage = backend(storage)
        self._ends_at = time.monotonic() + seconds
        self._on_overdue = on_overdue
        self._storage = storage if isinstance(storage, ResilientStorage) else None
        self._trial_id = trial_id
        self.is_lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"heartbeat-{trial_id}", daemon=True
        )

    def __enter__(self) -> Heartbeat:
        if self._storage is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            # A beat that waits for the storage must not hold up the worker.
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        assert self._storage is not None
        try:
            # The trial's first heartbeat is as old as the trial.
            while not self.is_lost:
                left = self._ends_at - time.monotonic()
                if self._stop.wait(max(0.0, min(self._storage.beat_seconds, left))):
                    return
                self._beat()
                if time.monotonic() >= self._ends_at:
                    self._on_overdue()
                    self.is_lost = True
                    while not self._stop.wait(_REMINDER_SECONDS):
                        self._on_overdue()
        finally:
            self._storage.remove_session()

    def _beat(self) -> None:
        assert self._storage is not None
        pauses = backoff()
        while True:
            try:
                self._storage.beat(self._trial_id)
                return
            except UpdateFinishedTrialError:
                self.is_lost = True
                return
            except Exception as error:  # Whatever it is, the trial lives: go on beating.
                _logger.debug("Heartbeat of trial id %d: %s", self._trial_id, error)
            if self._stop.wait(next(pauses)):
                return


def stale_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials whose worker died: no heartbeat for longer than the grace period.

    While the storage was away nobody could beat. Therefore the grace period starts anew when
    this process finds the storage again, and when a PostgreSQL server starts; also when the
    clock by which the beats are dated was set. One of the future is none of a living worker.

    A trial without any heartbeat (made by another program) is stale when it started that long
    ago. Studies in storages other than ours have no stale trials.
    """
    storage = backend(study._storage)
    if not isinstance(storage, ResilientStorage):
        return []
    grace = storage.grace_seconds
    recovered = storage.retrier.recovered_at
    if recovered is not None and time.monotonic() - recovered < grace:
        return []
    ids = storage.retrier.call(lambda: _stale_ids(storage, study._study_id, grace))
    if not ids:
        return []
    running = study._storage.get_all_trials(
        study._study_id, deepcopy=True, states=(TrialState.RUNNING,)
    )
    return [trial for trial in running if trial._trial_id in ids]


def last_seen_alive(study: optuna.Study, trial_id: int) -> datetime:
    """Until when the worker of a dead trial may have lived, in UTC: one beat after its last."""
    now = clock.now()
    storage = backend(study._storage)
    if not isinstance(storage, ResilientStorage):
        return now
    query = text("SELECT heartbeat FROM trial_heartbeats WHERE trial_id = :trial_id")

    def read() -> Any:
        with storage.engine.connect() as connection:
            return connection.execute(query, {"trial_id": trial_id}).scalar()

    beat = storage.retrier.call(read)
    if beat is None:
        return now
    # Times in the database have whole seconds.
    silence = timedelta(seconds=storage.beat_seconds + 1)
    return min(now, _naive(beat).replace(tzinfo=UTC) + silence)


def _stale_ids(storage: ResilientStorage, study_id: int, grace_seconds: float) -> set[int]:
    grace = timedelta(seconds=grace_seconds)
    with storage.engine.connect() as connection:
        now = _naive(connection.execute(text("SELECT CURRENT_TIMESTAMP")).scalar())
        lead = now - clock.now().replace(tzinfo=None)
        known, storage.lead = storage.lead, lead
        # Times in the database have whole seconds.
        if known is not None and abs(lead - known) > grace / 2 + timedelta(seconds=1):
            storage.retrier.recovered_at = time.monotonic()
            return set()
        if storage.engine.dialect.name == "postgresql":
            up_since = connection.execute(
                text("SELECT CAST(pg_postmaster_start_time() AS timestamp)")
            )
            if now - _naive(up_since.scalar()) < grace:
                return set()
        rows = connection.execute(
            text(
                "SELECT t.trial_id, t.datetime_start, h.heartbeat FROM trials t "
                "LEFT JOIN trial_heartbeats h ON h.trial_id = t.trial_id "
                "WHERE t.study_id = :study_id AND t.state = 'RUNNING'"
            ),
            {"study_id": study_id},
        ).all()
    stale = set()
    for trial_id, started, beat in rows:
        if beat is not None:
            age = now - _naive(beat)
        elif started is not None:
            age = now - _naive(started)  # By the worker's own clock, also in UTC.
        else:
            continue
        if age > grace or (beat is not None and -age > grace):
            stale.add(int(trial_id))
    return stale


def _naive(moment: Any) -> datetime:
    """A database's date and time (SQLite hands out text) without its time zone, which is UTC."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    assert isinstance(moment, datetime)
    return moment.replace(tzinfo=None)
