"""Which storage errors pass by themselves, and waiting for that with growing pauses."""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from sqlalchemy import exc

from optuna_deepweeds.errors import StorageError

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE_SECONDS = 300.0
"""For which an open storage may be away."""

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_NOTABLE_OUTAGE_SECONDS = 3.0

# https://www.sqlite.org/rescode.html: BUSY, LOCKED, PROTOCOL (a race at opening the WAL).
_SQLITE_TRANSIENT = frozenset({5, 6, 15})
# Serialisation failure, deadlock, no free connection, lock timeout, server going down or coming
# up; class 08 is a lost connection. https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES_TRANSIENT = frozenset({"40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03"})
# The server was reached and refuses for a reason that time does not mend, unless it says one of
# these. (The text, because libpq tells no error code for a failed connection attempt.)
_POSTGRES_PASSING_REFUSALS = (
    "starting up",
    "shutting down",
    "recovery mode",
    "too many clients",
    "connection slots",
    "terminating connection",
)


def is_transient(error: BaseException) -> bool:
    """True for a lock, a lost connection, a restarting server: trying again makes sense."""
    for link in _causes(error):
        if isinstance(link, exc.DBAPIError):
            if link.connection_invalidated:
                return True
            link = link.orig or link
        elif isinstance(link, (exc.TimeoutError, exc.PendingRollbackError)):
            # No free connection in the pool. Or Optuna went on in a transaction whose connection
            # had broken (reading trials, it takes any error for a query that is too long).
            return True
        driver = type(link).__module__.partition(".")[0]
        if driver == "sqlite3":
            code = getattr(link, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in _SQLITE_TRANSIENT:
                return True
        elif driver in ("psycopg", "psycopg2"):
            return _is_transient_postgres(link)
    return False


def one_line(error: BaseException) -> str:
    """The driver's own words about a storage error, on one line."""
    link = list(_causes(error))[-1]
    if isinstance(link, exc.DBAPIError) and link.orig is not None:
        link = link.orig
    lines = [line.strip() for line in str(link).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(link).__name__


class Retrier:
    """Calls functions again while the storage is away.

    Args:
        patience: Seconds after the first failure until giving up.
        name: The storage as printed in messages (without a password).
    """

    def __init__(self, *, patience: float, name: str) -> None:
        self.patience = patience
        self.name = name
        # time.monotonic() at the end of the last outage that was long enough to miss heartbeats.
        self.recovered_at: float | None = None

    def call(self, function: Callable[[], _T]) -> _T:
        """What `function` returns at its first success.

        Raises:
            StorageError: The storage stayed away for `patience` seconds, or the error is not one
                that passes.
        """
        deadline: float | None = None
        pauses = backoff()
        while True:
            try:
                result = function()
            except StorageError:
                raise
            except (exc.SQLAlchemyError, sqlite3.Error) as error:  # The latter while connecting.
                if isinstance(error, exc.IntegrityError):
                    raise
                failure: BaseException = error
            except Exception as error:
                # Optuna wraps what SQLAlchemy raises; everything else is not about storage.
                if not isinstance(error.__cause__, exc.SQLAlchemyError):
                    raise
                failure = error
            else:
                if deadline is not None:
                    now = time.monotonic()
                    if now - (deadline - self.patience) >= _NOTABLE_OUTAGE_SECONDS:
                        self.recovered_at = now
                    _logger.info("The storage %s answers again.", self.name)
                return result
            if not is_transient(failure):
                raise StorageError(f"The storage {self.name} failed: {one_line(failure)}") from (
                    failure
                )
            if deadline is None:
                deadline = time.monotonic() + self.patience
                if self.patience > 0:
                    _logger.warning(
                        "The storage %s does not answer (%s); trying again for %g seconds.",
                        self.name,
                        one_line(failure),
                        self.patience,
                    )
            pause = next(pauses)
            if time.monotonic() + pause > deadline:
                waited = f" for {self.patience:g} seconds" if self.patience else ""
                raise StorageError(
                    f"The storage {self.name} did not answer{waited}: {one_line(failure)}"
                ) from failure
            time.sleep(pause)


def backoff() -> Iterator[float]:
    """Pauses in seconds: doubling, bounded, each with jitter so that workers do not march."""
    generator = random.Random()  # Own entropy: pauses of different workers must differ.
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause * generator.uniform(0.5, 1.5)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _is_transient_postgres(error: BaseException) -> bool:
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if code:
        return code in _POSTGRES_TRANSIENT or code.startswith("08")
    if type(error).__name__ not in ("OperationalError", "InterfaceError", "ConnectionTimeout"):
        return False
    text = str(error)
    return "FATAL:" not in text or any(part in text for part in _POSTGRES_PASSING_REFUSALS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__
