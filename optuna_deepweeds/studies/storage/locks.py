"""Locks between workers: one at a time decides which trial comes next.

| storage | lock | holder is killed | storage restarts |
|---|---|---|---|
| SQLite file | flock on a file in `FILE.locks/` | released by the system | not affected |
| PostgreSQL | session-level advisory lock | released with its connection | lost: `LockLostError` |
| in memory | a lock of this process | - | - |

Any other storage (journal files, the gRPC proxy) only gets a lock of this process: its workers
on other machines are not kept apart.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, exc, text

from optuna_deepweeds.errors import StorageError
from optuna_deepweeds.studies.storage.engine import sqlite_path
from optuna_deepweeds.studies.storage.retry import backoff, is_transient

_T = TypeVar("_T")

_WAIT_SECONDS = 300.0
_LONGEST_POLL_SECONDS = 0.05

_held = threading.local()  # .locks: {(storage, study): Lock} held by this thread.
_memory_locks: weakref.WeakKeyDictionary[Any, dict[str, threading.Lock]] = (
    weakref.WeakKeyDictionary()
)
_memory_guard = threading.Lock()


class LockLostError(StorageError):
    """The storage let go of a lock while it was held; what was read under it may be outdated."""


class Lock:
    """A lock that is held: `verify` tells whether it still is."""

    def verify(self) -> None:
        """Raise LockLostError unless the lock is still held."""


@contextmanager
def study_lock(storage: Any, study_id: int, *, timeout: float = _WAIT_SECONDS) -> Iterator[Lock]:
    """Hold the study's lock; re-entrant within a thread.

    While it is held, creating and claiming trials through our storage verifies it first, so that
    a decision taken before a server restart is never carried out after it: the caller gets a
    LockLostError with nothing written and decides anew (`run_locked` does so by itself).

    Args:
        storage: An Optuna storage, wrapped in Optuna's cache or not.
        study_id: The study's id within its storage.
        timeout: Seconds to wait for other holders.

    Raises:
        StorageError: Others held the lock for `timeout` seconds.
    """
    locks = _locks_of_this_thread()
    key = (id(backend(storage)), study_id)
    if key in locks:
        yield locks[key]
        return
    with _exclusive_on(storage, f"study-{study_id}", timeout) as lock:
        locks[key] = lock
        try:
            yield lock
        finally:
            del locks[key]


def run_locked(
    storage: Any, study_id: int, function: Callable[[], _T], *, timeout: float = _WAIT_SECONDS
) -> _T:
    """What `function` returns, called under the study's lock; again if the lock is lost.

    `function` must read everything that it bases its decision on itself.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            with study_lock(storage, study_id, timeout=timeout):
                return function()
        except LockLostError:
            if (id(backend(storage)), study_id) in _locks_of_this_thread():
                raise  # The outermost holder decides anew.
            if time.monotonic() > deadline:
                raise


def held_lock(storage: Any, study_id: int) -> Lock | None:
    """This thread's lock of the study, if it holds one."""
    return _locks_of_this_thread().get((id(backend(storage)), study_id))


def backend(storage: Any) -> Any:
    """The storage itself, out of the cache that Optuna wraps around it."""
    return getattr(storage, "_backend", storage)


@contextmanager
def exclusive(engine: Engine, name: str, *, timeout: float = _WAIT_SECONDS) -> Iterator[Lock]:
    """Hold the lock `name` of a database against all its other users.

    Raises:
        StorageError: Others held the lock for `timeout` seconds.
    """
    path = sqlite_path(engine.url)
    if path is not None:
        with _file_lock(path.with_name(path.name + ".locks") / f"{name}.lock", timeout) as lock:
            yield lock
    elif engine.dialect.name == "postgresql":
        with _session_lock(engine, name, timeout) as lock:
            yield lock
    else:
        with _memory_lock(engine, name, timeout) as lock:
            yield lock


@contextmanager
def _exclusive_on(storage: Any, name: str, timeout: float) -> Iterator[Lock]:
    storage = backend(storage)
    engine = getattr(storage, "engine", None)
    if isinstance(engine, Engine):
        with exclusive(engine, name, timeout=timeout) as lock:
            yield lock
    else:
        with _memory_lock(storage, name, timeout) as lock:
            yield lock


@contextmanager
def _file_lock(path: Path, timeout: float) -> Iterator[Lock]:
    """flock rather than POSIX locks: those are dropped when any descriptor of the file closes."""
    try:
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError(
            f"The folder {path.parent.parent} must be writable, but got: {error.strerror}."
        ) from error
    try:

        def attempt() -> bool:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        _poll(attempt, path.stem, timeout)
        yield Lock()
    finally:
        os.close(descriptor)  # Also releases the lock.


@contextmanager
def _memory_lock(owner: Any, name: str, timeout: float) -> Iterator[Lock]:
    with _memory_guard:
        lock = _memory_locks.setdefault(owner, {}).setdefault(name, threading.Lock())
    if not lock.acquire(timeout=timeout):
        raise _busy(name, timeout)
    try:
        yield Lock()
    finally:
        lock.release()


class _SessionLock(Lock):
    """An advisory lock of PostgreSQL, which belongs to one connection."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        digest = hashlib.sha256(f"optuna_deepweeds:{name}".encode()).digest()
        self._key = {"key": int.from_bytes(digest[:8], "big", signed=True)}

    def acquire(self) -> bool:
        """Try once to take the lock; whether it was free."""
        statement = text("SELECT pg_try_advisory_lock(:key)")
        return bool(self.connection.execute(statement, self._key).scalar())

    def release(self) -> None:
        try:
            self.connection.execute(text("SELECT pg_advisory_unlock(:key)"), self._key)
        except exc.SQLAlchemyError:
            self.connection.invalidate()  # Closing the connection releases the lock as well.
        finally:
            self.connection.close()

    def verify(self) -> None:
        # A session-level lock lives exactly as long as its connection.
        try:
            self.connection.execute(text("SELECT 1"))
        except exc.SQLAlchemyError as error:
            raise LockLostError(
                "A lock must be held until its work is done, but the storage's connection broke."
            ) from error


@contextmanager
def _session_lock(engine: Engine, name: str, timeout: float) -> Iterator[Lock]:
    lock = _acquire_session_lock(engine, name, timeout)
    try:
        yield lock
    finally:
        lock.release()


def _acquire_session_lock(engine: Engine, name: str, timeout: float) -> _SessionLock:
    """Take the lock, connecting again while the server is away."""
    deadline = time.monotonic() + timeout
    pauses = backoff()
    while True:
        connection: Connection | None = None
        try:
            connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            lock = _SessionLock(connection, name)
            _poll(lock.acquire, name, deadline - time.monotonic())
            return lock
        except BaseException as error:
            if connection is not None:
                connection.invalidate()
                connection.close()
            if not isinstance(error, exc.SQLAlchemyError) or not is_transient(error):
                raise
            if time.monotonic() > deadline:
                raise StorageError(
                    f"The storage did not answer for {timeout:g} seconds."
                ) from error
            time.sleep(next(pauses))


def _poll(attempt: Callable[[], bool], name: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    pause = 0.001
    while not attempt():
        if time.monotonic() > deadline:
            raise _busy(name, timeout)
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_POLL_SECONDS)


def _busy(name: str, timeout: float) -> StorageError:
    return StorageError(
        f"A lock must become free in time, but others held {name!r} for {timeout:.0f} seconds."
    )


def _locks_of_this_thread() -> dict[tuple[int, int], Lock]:
    if not hasattr(_held, "locks"):
        _held.locks = {}
    locks: dict[tuple[int, int], Lock] = _held.locks
    return locks
