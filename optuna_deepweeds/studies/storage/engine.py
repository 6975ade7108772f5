"""From what the user writes to a connected database: URLs, drivers, time limits, clocks."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from optuna_deepweeds.errors import InvalidInputError, StorageError

STORAGE_VARIABLE = "OPTUNA_STORAGE"
DEFAULT_FILE = Path("storage") / "optuna.db"
SQLITE_BUSY_SECONDS = 15.0

_CONNECT_SECONDS = 5

_FILE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_POSTGRES = ("postgres", "postgresql")
# In order of preference: SQLAlchemy's name of the driver, which is also its module's.
_DRIVERS = ("psycopg", "psycopg2")
_SQLITE_OPTIONS = ("timeout", "isolation_level", "check_same_thread", "cached_statements", "uri")
_SECRETS_IN_QUERY = re.compile(r"(?i)((?:password|passwd|sslpassword|token)=)[^&#\s]*")
_SECRET_BEFORE_HOST = re.compile(r"(://[^/?#\s:@]*):[^\s]*@")


def default_url() -> str:
    """The storage used when none is named: OPTUNA_STORAGE, else `storage/optuna.db` here.

    The folder of the default file is not created by asking; `open_storage` does so.
    """
    return os.environ.get(STORAGE_VARIABLE) or f"sqlite:///{DEFAULT_FILE.as_posix()}"


def redact(url: str) -> str:
    """The URL without its password, for messages; also works on text that is no URL."""
    return _SECRETS_IN_QUERY.sub(r"\1***", _SECRET_BEFORE_HOST.sub(r"\1:***@", url))


def shown(url: URL) -> str:
    """`url` for messages: without its password, wherever it stands."""
    return redact(url.render_as_string(hide_password=True))


def resolve_url(url: str | None) -> URL:
    """The SQLAlchemy URL, with an installed driver, for what the user wrote.

    `None` and "" stand for `default_url()`; the path of a database file stands for SQLite.

    Raises:
        InvalidInputError: The text is neither a database URL nor the path of a database file.
        StorageError: The URL's database needs a driver that is not installed.
    """
    text = (url or default_url()).strip()
    if "\0" in text or text.encode(errors="ignore").decode() != text:
        raise InvalidInputError(f"A storage URL must be UTF-8 text, but got {redact(text)!r}.")
    if "://" not in text:
        return URL.create("sqlite", database=_database_file(text))
    try:
        parsed = make_url(text)
        scheme, _, driver = parsed.drivername.partition("+")
        port = parsed.port  # An unreadable port only fails here.
    except (ArgumentError, ValueError):
        raise InvalidInputError(
            "A storage URL must have the form sqlite:///FILE or "
            f"postgresql://USER:PASSWORD@HOST/DATABASE, but got {redact(text)!r}."
        ) from None
    del port
    if scheme == "sqlite":
        _check_sqlite(parsed)
        return parsed
    if "@" in (parsed.host or ""):
        raise InvalidInputError(
            "A storage URL's password must have its special characters percent-encoded (@ as "
            f"%40), but got {redact(text)!r}."
        )
    if scheme in _POSTGRES:
        return parsed.set(drivername="postgresql+" + _driver(driver))
    raise InvalidInputError(
        "A storage must be SQLite or PostgreSQL (sqlite:///FILE, postgresql://…), but got "
        f"{redact(text)!r}."
    )


def sqlite_path(url: URL) -> Path | None:
    """The file behind a SQLite URL; None in memory and for other databases."""
    if url.get_backend_name() != "sqlite":
        return None
    database = url.database or ""
    if database.startswith("file:"):
        database = database.removeprefix("file:").partition("?")[0]
    if not database or database == ":memory:" or url.query.get("mode") == "memory":
        return None
    return Path(database)


def is_read_only(url: URL) -> bool:
    """True for a SQLite URL that asks for it (`sqlite:///file:PATH?mode=ro&uri=true`)."""
    return url.get_backend_name() == "sqlite" and url.query.get("mode") == "ro"


def _check_sqlite(url: URL) -> None:
    """Refuse options that the driver would pass over, or take for a part of the file's name."""
    is_uri = url.query.get("uri") == "true" and (url.database or "").startswith("file:")
    unknown = sorted(set(url.query) - set(_SQLITE_OPTIONS))
    if unknown and not is_uri:
        raise InvalidInputError(
            f"A SQLite URL must have no options but {', '.join(_SQLITE_OPTIONS)} (others need the "
            f"form sqlite:///file:PATH?mode=ro&uri=true), but got {', '.join(unknown)}."
        )


def _database_file(text: str) -> str:
    if text.endswith(_FILE_SUFFIXES) or Path(text).is_file():
        return text
    raise InvalidInputError(
        "A storage must be a URL (sqlite:///FILE, postgresql://…) or the path of a database "
        f"file ({', '.join(_FILE_SUFFIXES)}), but got {redact(text)!r}."
    )


def _driver(asked: str) -> str:
    """The PostgreSQL driver to use: the one asked for, else the first that is installed."""
    for driver in (asked,) if asked else _DRIVERS:
        if importlib.util.find_spec(driver) is not None:
            return driver
    raise StorageError(
        f"A postgresql:// storage needs the Python package {asked or _DRIVERS[0]}, which is not "
        "installed; install it by: pip install 'optuna-deepweeds[postgres]'"
    )


def engine_options(url: URL) -> dict[str, Any]:
    """Keyword arguments of SQLAlchemy's `create_engine` for a storage."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        # SQLAlchemy's "begin" event opens transactions, not the driver.
        options: dict[str, Any] = {"connect_args": {"timeout": SQLITE_BUSY_SECONDS}}
        if sqlite_path(url) is not None:
            options["connect_args"]["isolation_level"] = None
        return options
    # A machine that vanished is noticed within a minute instead of hours.
    connect = {
        "application_name": "optuna-deepweeds",
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": 20,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    return {"connect_args": connect, "pool_pre_ping": True, "pool_use_lifo": True}


@contextmanager
def connected(url: URL) -> Iterator[Engine]:
    """An engine for a moment; for more than that, `listen` sets up its connections."""
    engine = create_engine(url, **engine_options(url))
    try:
        yield engine
    finally:
        engine.dispose()


def listen(engine: Engine, local: threading.local) -> None:
    """Set up every new connection of `engine`; `local.writes` marks a thread's transactions.

    Keeps no reference to whom the engine belongs: it is to be collected before its engine.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", set_up_sqlite)
        event.listen(engine, "begin", functools.partial(begin_sqlite, local))
    else:
        event.listen(engine, "connect", set_up_postgres)


def set_up_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous = NORMAL")
    # The file that it has open, which may lose its name.
    record.info["file"] = _inode(connection.execute("PRAGMA database_list").fetchone()[2])


def begin_sqlite(local: threading.local, connection: Connection) -> None:
    # A transaction that first reads and then writes loses the race to another writer, or,
    # worse, overwrites a claim that it has not seen: writers queue up before they read.
    writes = getattr(local, "writes", False) and not is_read_only(connection.engine.url)
    path = sqlite_path(connection.engine.url)
    if writes and path is not None and _inode(path) != connection.info.get("file"):
        raise StorageError(
            f"A storage must stay where it is while it is used, but {path} was deleted or moved."
        )
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _inode(path: str | Path) -> tuple[int, int] | None:
    """Which file lies there; SQLite would go on writing to one that was deleted."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def set_up_postgres(connection: Any, record: Any) -> None:
    # One time zone for all heartbeats; the server drops sessions of machines that vanished
    # together with the locks that they hold.
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute("SET idle_in_transaction_session_timeout = '60s'")
        cursor.execute("SET tcp_keepalives_idle = 20")
        cursor.execute("SET tcp_keepalives_interval = 10")
        cursor.execute("SET tcp_keepalives_count = 3")
    connection.commit()
