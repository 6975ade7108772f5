"""Opening the storage of studies: `open_storage` is the one way in.

It turns what the user wrote into a `ResilientStorage`, creates the tables under a lock, so that
any number of workers may start on an empty database, and tells in one line what is wrong.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy
from sqlalchemy import Engine, exc
from sqlalchemy.engine import URL

from optuna_deepweeds.errors import (
    DeepWeedsError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from optuna_deepweeds.studies.storage import locks
from optuna_deepweeds.studies.storage.engine import (
    DEFAULT_FILE,
    SQLITE_BUSY_SECONDS,
    connected,
    is_read_only,
    resolve_url,
    shown,
    sqlite_path,
)
from optuna_deepweeds.studies.storage.retry import PATIENCE_SECONDS, Retrier

if TYPE_CHECKING:
    from optuna_deepweeds.studies.storage.resilient import ResilientStorage

_OPTUNA_TABLES = frozenset({"studies", "trials", "version_info", "alembic_version"})

HEARTBEAT_VARIABLE = "DEEPWEEDS_HEARTBEAT_SECONDS"
GRACE_VARIABLE = "DEEPWEEDS_GRACE_SECONDS"
HEARTBEAT_SECONDS = 10.0
GRACE_SECONDS = 90.0  # Well above the longest lock or restart that a worker sits out unharmed.


def open_storage(
    url: str | None = None,
    *,
    must_exist: bool = False,
    heartbeat_interval: float | None = None,
    grace_period: float | None = None,
    patience: float = PATIENCE_SECONDS,
    wait: float = 0.0,
) -> ResilientStorage:
    """The storage behind a URL, its tables created if need be.

    Args:
        url: A database URL or the path of a SQLite file; None for `default_url()`.
        must_exist: Create nothing: reading commands must not leave an empty database behind.
        heartbeat_interval: Seconds between two heartbeats of a running trial; by default those
            of the variable DEEPWEEDS_HEARTBEAT_SECONDS, else 10.
        grace_period: Seconds without a heartbeat after which a trial counts as abandoned; by
            default those of the variable DEEPWEEDS_GRACE_SECONDS, else 90.
        patience: Seconds for which later calls sit out a storage that is locked or away.
        wait: Seconds to wait for a storage that is away right now.

    Raises:
        InvalidInputError: The text is no storage URL.
        NotFoundError: With `must_exist`, there is no storage yet.
        StorageError: It cannot be reached, read or written.
    """
    resolved = resolve_url(url)
    name = shown(resolved)
    if not url and sqlite_path(resolved) == DEFAULT_FILE and not must_exist:
        _make_folder(DEFAULT_FILE.parent)
    check_file(resolved, must_exist=must_exist)
    try:
        retrier = Retrier(patience=wait, name=name)
        revision = retrier.call(lambda: _revision(resolved, must_exist=must_exist))
        options: dict[str, Any] = {
            "beat_seconds": _seconds(heartbeat_interval, HEARTBEAT_VARIABLE, HEARTBEAT_SECONDS),
            "grace_seconds": _seconds(grace_period, GRACE_VARIABLE, GRACE_SECONDS),
            "patience": patience,
        }
        # Optuna's start-up reads the schema version, which must also sit out a restart.
        starter = Retrier(patience=max(wait, SQLITE_BUSY_SECONDS), name=name)
        if revision is not None:
            if not must_exist:
                _use_wal(resolved)
            return starter.call(lambda: _make(resolved, options, create_tables=False))
        return starter.call(lambda: _create(resolved, options))
    except DeepWeedsError:
        raise
    except RuntimeError as error:  # Optuna: tables of another version.
        if revision is not None and "storage upgrade" in str(error):
            with connected(resolved) as engine:
                raise _outdated(engine, revision) from error
        raise StorageError(f"The storage {name} cannot be used: {error}") from error


def _seconds(given: float | None, variable: str, default: float) -> float:
    if given is not None:
        return given
    text = os.environ.get(variable) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise InvalidInputError(f"{variable} must be a positive number, but got {text!r}.")
    return seconds


def _create(url: URL, options: dict[str, Any]) -> ResilientStorage:
    """Create the tables while nobody else does."""
    if sqlite_path(url) is None and url.get_backend_name() == "sqlite":
        return _make(url, options, create_tables=True)
    with connected(url) as engine, locks.exclusive(engine, "schema"):
        _use_wal(url)
        return _make(url, options, create_tables=True)


def _make(url: URL, options: dict[str, Any], *, create_tables: bool) -> ResilientStorage:
    # Imported late: Optuna's tables take half a second, and who only looks needs none of them.
    from optuna_deepweeds.studies.storage.resilient import ResilientStorage

    return ResilientStorage(url, create_tables=create_tables, **options)


def _use_wal(url: URL) -> None:
    """Let readers and one writer of a SQLite file work at the same time, if nobody uses it now."""
    path = sqlite_path(url)
    if path is None or is_read_only(url):
        return
    with (
        connected(url) as engine,
        engine.connect() as connection,
        contextlib.suppress(exc.OperationalError),
    ):
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The storage's folder must be writable, but got {folder}: {error.strerror}."
        ) from error


def check_file(url: URL, *, must_exist: bool) -> None:
    """Refuse a SQLite URL whose file cannot be opened; with `must_exist`, also a new file.

    Raises:
        NotFoundError: The file is missing.
        StorageError: It is a folder, or its folder is missing.
    """
    path = sqlite_path(url)
    if path and not must_exist and not is_read_only(url) and path.parent.is_dir():
        if not os.access(path.parent, os.W_OK):
            raise StorageError(f"A storage's folder must be writable, but {path.parent} is not.")
    if path is None or path.exists():
        if path is not None and path.is_dir():
            raise StorageError(f"A SQLite storage must be a file, but {path} is a folder.")
        return
    if must_exist or is_read_only(url):
        raise NotFoundError(
            f"The storage must exist, but there is no file {path}; "
            "start a study first, or name another one by --storage or OPTUNA_STORAGE."
        )
    if not path.parent.is_dir():
        raise StorageError(
            f"A SQLite storage must lie in an existing folder, but there is no {path.parent}."
        )


def _outdated(engine: Engine, revision: str) -> StorageError:
    """The error for tables of an earlier Optuna, with what brings them over."""
    name = shown(engine.url)
    way = f"optuna storage upgrade --storage {shlex.quote(name)}"
    if revision < "v2.4.0" and sqlite_path(engine.url) is not None:
        # The step to 2.4 drops a column that a constraint names, which Alembic no longer can.
        way += " (first with Optuna 2.10, SQLAlchemy 1.3 and Alembic 1.4, then with this one)"
    return StorageError(
        f"A storage must have the tables of Optuna {optuna.__version__}, but those of {name} are "
        f"of Optuna {_made_by(engine)}. Copy it, then run: {way}"
    )


def _made_by(engine: Engine) -> str:
    """The version of Optuna that made the tables; empty while they are being made."""
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT library_version FROM version_info").scalar()
        return str(version or "")


def _revision(url: URL, *, must_exist: bool) -> str | None:
    with connected(url) as engine:
        return schema_revision(engine, must_exist=must_exist)


def schema_revision(engine: Engine, *, must_exist: bool) -> str | None:
    """The revision of Optuna's tables; None while they are still to be created.

    Raises:
        NotFoundError: They are, and `must_exist`.
        StorageError: The file holds tables of another program.
    """
    tables = set(sqlalchemy.inspect(engine).get_table_names())
    if tables >= _OPTUNA_TABLES:
        with engine.connect() as connection:
            query = "SELECT version_num FROM alembic_version"
            revision = connection.exec_driver_sql(query).scalar()
            return None if revision is None else str(revision)
    name = shown(engine.url)
    # Below 0.10 there was no Alembic; of later ones, who made the tables died before the end.
    if {"studies", "version_info"} <= tables and _made_by(engine).startswith("0."):
        raise _outdated(engine, revision="")
    if tables and not tables & _OPTUNA_TABLES and sqlite_path(engine.url) is not None:
        raise StorageError(
            f"A storage must be empty or made by Optuna, but {name} holds other tables "
            f"({', '.join(sorted(tables)[:3])})."
        )
    if must_exist:
        raise NotFoundError(f"A storage must hold studies, but {name} has none yet.")
    return None
