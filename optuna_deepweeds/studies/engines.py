"""How each database is connected to: time limits, clocks, and who writes when."""

from __future__ import annotations

import functools
import threading
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL

from optuna_deepweeds.studies.storage_url import is_read_only, sqlite_path

SQLITE_BUSY_SECONDS = 15.0

_CONNECT_SECONDS = 5


def engine_options(url: URL) -> dict[str, Any]:
    """Keyword arguments of SQLAlchemy's `create_engine` for a storage."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        # SQLAlchemy's "begin" event opens transactions, not the driver.
        options: dict[str, Any] = {"connect_args": {"timeout": SQLITE_BUSY_SECONDS}}
        if sqlite_path(url) is not None:
            options["connect_args"]["isolation_level"] = None
        return options
    connect: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS}
    if backend == "postgresql":
        # A machine that vanished is noticed within a minute instead of hours.
        connect |= {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3}
        connect |= {"tcp_user_timeout": 30_000, "application_name": "optuna-deepweeds"}
    return {"connect_args": connect, "pool_pre_ping": True, "pool_use_lifo": True}


def listen(engine: Engine, local: threading.local) -> None:
    """Set up every new connection of `engine`; `local.writes` marks a thread's transactions.

    Keeps no reference to whom the engine belongs: it is to be collected before its engine.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", set_up_sqlite)
        event.listen(engine, "begin", functools.partial(begin_sqlite, local))
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "connect", set_up_postgres)
    else:
        event.listen(engine, "connect", set_up_mysql)


def set_up_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous = NORMAL")


def begin_sqlite(local: threading.local, connection: Connection) -> None:
    # A transaction that first reads and then writes loses the race to another writer, or,
    # worse, overwrites a claim that it has not seen: writers queue up before they read.
    writes = getattr(local, "writes", False) and not is_read_only(connection.engine.url)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


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


def set_up_mysql(connection: Any, record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
