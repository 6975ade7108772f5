"""Storages that are locked, restarted or cut off in the middle of a call."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import event, exc

from optuna_deepweeds.errors import StorageError
from optuna_deepweeds.studies.storage import ResilientStorage, engine, open_storage
from optuna_deepweeds.studies.storage.bulk import bulk_add_trials
from optuna_deepweeds.studies.storage.fenced import collecting_params
from optuna_deepweeds.studies.storage.heartbeat import Heartbeat, stale_trials
from optuna_deepweeds.studies.storage.retry import Retrier, is_transient
from tests.postgres import LocalPostgres


@contextmanager
def _sqlite_locked(path: Path, seconds: float) -> Iterator[None]:
    """Another program holds the file's write lock for a while."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")

    def release() -> None:
        time.sleep(seconds)
        connection.execute("ROLLBACK")
        connection.close()

    thread = threading.Thread(target=release)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def _answer_lost(
    storage: ResilientStorage, n_spared: int = 0, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[list[int]]:
    """After the spared ones, a transaction is committed, but its client hears a broken line."""
    n_commits = 0
    lost: list[int] = []

    def commit(connection: Any) -> None:
        nonlocal n_commits
        n_commits += 1
        if n_commits == n_spared + 1:
            lost.append(1)
            connection.connection.dbapi_connection.commit()
            meanwhile()
            raise exc.OperationalError("COMMIT", {}, Exception(), connection_invalidated=True)

    event.listen(storage.engine, "commit", commit)
    try:
        yield lost
    finally:
        event.remove(storage.engine, "commit", commit)


def _ask(study: optuna.Study) -> None:
    study.ask()


def _claim(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 1})
    study.ask()


def _finish(study: optuna.Study) -> None:
    study.tell(study.ask(), 0.5)


def _report(study: optuna.Study) -> None:
    trial = study.ask()
    trial.report(trial.suggest_float("x", 0, 1), 1)
    trial.set_user_attr("a", 1)
    trial.report(0.5, 2)


def _bulk(study: optuna.Study) -> None:
    bulk_add_trials(study, [create_trial(value=1.0), create_trial(value=2.0)])


def _several(study: optuna.Study) -> None:
    trial = study.ask()
    with collecting_params(study._storage):
        trial.suggest_float("x", 0, 1)
        trial.suggest_int("y", 1, 9)
    trial.set_user_attr("a", 1)


def _facts(study: optuna.Study) -> list[object]:
    return [
        (t.number, t.state, t.value, len(t.params), len(t.intermediate_values), t.user_attrs)
        for t in study.trials
    ]


@pytest.mark.parametrize("work", [_ask, _claim, _finish, _report, _bulk, _several])
def test_lost_answers_change_nothing(
    storage_url: str, work: Callable[[optuna.Study], None]
) -> None:
    storage = open_storage(storage_url)
    undisturbed = optuna.create_study(storage=storage)
    work(undisturbed)
    for n_spared in range(8):  # Each of the work's transactions loses its answer once.
        study = optuna.create_study(storage=storage)
        with _answer_lost(storage, n_spared):
            work(study)
        assert _facts(study) == _facts(undisturbed)


def _read(study: optuna.Study) -> None:
    study.ask()
    assert [t.state for t in study.get_trials()] == [TrialState.RUNNING]
    assert study.user_attrs == {}


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("work", [_ask, _claim, _finish, _report, _bulk, _several, _read])
def test_connections_that_break_before_any_statement_change_nothing(
    postgres: LocalPostgres, work: Callable[[optuna.Study], None]
) -> None:
    psycopg = pytest.importorskip("psycopg")
    storage = open_storage(postgres.new_database())

    undisturbed = optuna.create_study(storage=storage)
    work(undisturbed)
    n_spared, n_broken = 0, 1
    with psycopg.connect(postgres.url(), autocommit=True) as killer:
        while n_broken:  # Until the work has no statement left to be broken.
            study = optuna.create_study(storage=storage)
            n_statements, n_broken = 0, 0

            def execute(connection: Any, *others: object, n_spared: int = n_spared) -> None:
                nonlocal n_statements, n_broken
                n_statements += 1
                if n_statements == n_spared + 1:
                    n_broken = 1
                    pid = connection.connection.dbapi_connection.info.backend_pid
                    killer.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

            event.listen(storage.engine, "before_cursor_execute", execute)
            try:
                work(study)
            finally:
                event.remove(storage.engine, "before_cursor_execute", execute)
            assert _facts(study) == _facts(undisturbed), n_spared
            n_spared += 1
    assert n_spared > 5


def test_collected_parameters_are_written_together_or_not_at_all(storage_url: str) -> None:
    study = optuna.create_study(storage=open_storage(storage_url))
    for is_first in (True, False):  # The first trial's distributions are not known yet.
        trial = study.ask()
        with pytest.raises(ZeroDivisionError), collecting_params(study._storage):
            trial.suggest_float("x", 0, 1)
            raise ZeroDivisionError
        assert study.get_trials()[-1].params == {}
        trial = study.ask()
        with collecting_params(study._storage):
            x, y = trial.suggest_float("x", 0, 1), trial.suggest_int("y", 1, 9)
            assert study.get_trials()[-1].params == {}
        assert study.get_trials()[-1].params == {"x": x, "y": y}, is_first
    with pytest.raises(ValueError, match="distribution"), collecting_params(study._storage):
        study.ask().suggest_int("x", 0, 1)


def test_lost_answer_to_creating_and_deleting_a_study(storage_url: str) -> None:
    storage = open_storage(storage_url)
    with _answer_lost(storage) as lost:
        study = optuna.create_study(study_name="s", storage=storage)
        assert lost
    with _answer_lost(storage) as lost:
        storage.delete_study(study._study_id)
        assert lost
    assert storage.get_all_studies() == []


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.COMPLETE], ids=str)
def test_a_trial_put_back_and_claimed_by_another_is_not_put_back_again(
    storage_url: str, state: TrialState
) -> None:
    storage = open_storage(storage_url)
    study = optuna.create_study(study_name="s", storage=storage)
    trial = study.ask()

    def claim() -> None:
        other = optuna.load_study(study_name="s", storage=open_storage(storage_url))
        claimed = other.ask()
        assert claimed.number == trial.number
        if state == TrialState.COMPLETE:
            other.tell(claimed, 1.0)

    with _answer_lost(storage, meanwhile=claim) as lost:
        storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        assert lost
    assert study.get_trials()[0].state == state


def test_trial_failed_by_another_is_not_taken_for_a_lost_answer(storage_url: str) -> None:
    storage = open_storage(storage_url)
    trial = optuna.create_study(storage=storage).ask()
    open_storage(storage_url).set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


@pytest.fixture
def impatient_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that SQLite itself does not wait for."""
    monkeypatch.setattr(engine, "SQLITE_BUSY_SECONDS", 0.05)
    return tmp_path / "a.db"


def test_locked_sqlite_file_is_sat_out(impatient_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(str(impatient_path)))
    trial = study.ask()
    with _sqlite_locked(impatient_path, 0.5):
        trial.report(1.0, 1)
    assert study.trials[0].intermediate_values == {1: 1.0}


def test_patience_ends(impatient_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(str(impatient_path), patience=0.2))
    with _sqlite_locked(impatient_path, 2), pytest.raises(StorageError, match="locked"):
        study.ask()


@pytest.mark.postgres
def test_server_restart_is_sat_out(postgres: LocalPostgres) -> None:
    storage = open_storage(postgres.new_database(), heartbeat_interval=0.05)
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    restarted = threading.Event()

    def restart() -> None:
        postgres.stop()
        time.sleep(0.3)
        postgres.start()
        restarted.set()

    thread = threading.Thread(target=restart)
    with Heartbeat(study._storage, trial._trial_id):
        thread.start()
        step = 0
        while not restarted.is_set() or step < 5:
            step += 1
            trial.report(0.5, step)
            time.sleep(0.01)
        thread.join()
        study.tell(trial, 1.0)
    assert study.trials[0].intermediate_values == dict.fromkeys(range(1, step + 1), 0.5)


def test_heart_beats_through_a_lock(impatient_path: Path) -> None:
    storage = open_storage(str(impatient_path), heartbeat_interval=0.1)
    study = optuna.create_study(storage=storage)

    def heartbeat() -> object:
        with storage.engine.connect() as connection:
            return connection.exec_driver_sql("SELECT heartbeat FROM trial_heartbeats").scalar()

    with Heartbeat(study._storage, study.ask()._trial_id):
        with _sqlite_locked(impatient_path, 0.5):
            pass
        before = heartbeat()
        deadline = time.monotonic() + 20
        while heartbeat() == before:  # SQLite's clock ticks in seconds.
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _age_heartbeats(storage: ResilientStorage, seconds: int) -> None:
    with storage.engine.begin() as connection:
        if storage.engine.dialect.name == "sqlite":
            past = f"datetime('now', '{-seconds:+} seconds')"
        else:
            past = f"now() - interval '{seconds} seconds'"
        connection.exec_driver_sql(f"UPDATE trial_heartbeats SET heartbeat = {past}")
        connection.exec_driver_sql(f"UPDATE trials SET datetime_start = {past}")


@pytest.mark.parametrize("has_heartbeat", [True, False], ids=["ours", "of another program"])
def test_trial_is_stale_when_its_worker_died_at_once(
    storage_url: str, has_heartbeat: bool
) -> None:
    storage = open_storage(storage_url, grace_period=5)
    study = optuna.create_study(storage=storage)
    study.ask()  # And then the worker is killed, before its first heartbeat.
    study.enqueue_trial({})
    if not has_heartbeat:  # The start of the trial counts.
        with storage.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM trial_heartbeats")
    assert stale_trials(study) == []
    _wait_out_server_start(storage)
    _age_heartbeats(storage, 10)
    assert [t.number for t in stale_trials(study)] == [0]


def test_nobody_is_stale_right_after_the_storage_was_away(storage_url: str) -> None:
    storage = open_storage(storage_url, grace_period=5)
    study = optuna.create_study(storage=storage)
    study.ask()
    _age_heartbeats(storage, 10)
    storage.retrier.recovered_at = time.monotonic()
    assert stale_trials(study) == []


def test_nobody_is_stale_right_after_the_clock_was_set(storage_url: str) -> None:
    storage = open_storage(storage_url, grace_period=5)
    study = optuna.create_study(storage=storage)
    study.ask()
    _wait_out_server_start(storage)
    assert stale_trials(study) == []
    _age_heartbeats(storage, -3600)  # What was now is in an hour.
    assert storage.lead is not None
    storage.lead += timedelta(hours=1)
    assert stale_trials(study) == []
    storage.retrier.recovered_at = None
    assert [t.number for t in stale_trials(study)] == [0], "its worker has not told since then"


def _wait_out_server_start(storage: ResilientStorage) -> None:
    """A server that has just started gives everybody a new grace period."""
    if storage.engine.dialect.name == "postgresql":
        with storage.engine.connect() as connection:
            query = "SELECT extract(epoch FROM now() - pg_postmaster_start_time())"
            time.sleep(max(0.0, 5.2 - float(connection.exec_driver_sql(query).scalar() or 0)))


def test_in_memory_studies_have_no_stale_trials() -> None:
    study = optuna.create_study()
    trial = study.ask()
    with Heartbeat(study._storage, trial._trial_id):
        assert stale_trials(study) == []


def _sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("message")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (_sqlite_error(5), True),
        (_sqlite_error(517), True),  # BUSY_SNAPSHOT
        (_sqlite_error(6), True),
        (_sqlite_error(8), False),  # READONLY
        (_sqlite_error(13), False),  # FULL
        (exc.OperationalError("s", {}, _sqlite_error(5)), True),
        (exc.TimeoutError(), True),
        (exc.DBAPIError("s", {}, Exception(), connection_invalidated=True), True),
        (exc.ProgrammingError("s", {}, sqlite3.ProgrammingError()), False),
        (ValueError(), False),
    ],
)
def test_what_passes_by_itself(error: Exception, passes: bool) -> None:
    assert is_transient(error) is passes


def test_postgres_errors_that_pass() -> None:
    psycopg = pytest.importorskip("psycopg")
    assert is_transient(psycopg.errors.AdminShutdown())
    assert is_transient(psycopg.errors.DeadlockDetected())
    assert is_transient(psycopg.OperationalError("server closed the connection unexpectedly"))
    assert is_transient(psycopg.OperationalError("FATAL:  the database system is starting up"))
    assert not is_transient(psycopg.OperationalError("FATAL:  password authentication failed"))
    assert not is_transient(psycopg.errors.UndefinedTable())


@pytest.mark.parametrize(
    ("error", "told", "reason"),
    [
        (exc.ProgrammingError("", {}, Exception("no table: x")), StorageError, "no table: x"),
        (KeyError("no such trial"), KeyError, "no such trial"),
    ],
    ids=["database", "other"],
)
def test_errors_that_stay_are_told_at_once(
    error: Exception, told: type[Exception], reason: str
) -> None:
    def fail() -> None:
        raise error

    started = time.monotonic()
    with pytest.raises(told, match=reason):
        Retrier(patience=60, name="here").call(fail)
    assert time.monotonic() - started < 10


def test_only_long_outages_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for outage_seconds, remembered in ((0.5, None), (30.0, 130.5)):
        retrier, failures = Retrier(patience=60, name="here"), []

        def work(failures: list[int] = failures, seconds: float = outage_seconds) -> None:
            if not failures:
                failures.append(1)
                raise exc.TimeoutError
            clock[0] += seconds

        retrier.call(work)
        assert retrier.recovered_at == remembered
