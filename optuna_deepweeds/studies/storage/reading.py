"""Reading a storage as it is, without Optuna's objects: for commands that only look.

Optuna needs half a second to load its tables' classes and migrations, and eight to build 10,000
trials. Here the database answers a few queries of our own instead.
"""

from __future__ import annotations

import difflib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy
from optuna.study import StudyDirection
from sqlalchemy import Connection, Engine, text

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.studies.storage.engine import engine_options, listen, resolve_url, shown
from optuna_deepweeds.studies.storage.locks import backend
from optuna_deepweeds.studies.storage.open import check_file, schema_revision
from optuna_deepweeds.studies.storage.retry import PATIENCE_SECONDS, Retrier

REVISION = "v3.2.0.a"
"""The revision of Optuna's tables that the queries of this package are written for."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Reader:
    """A storage to be read.

    Attributes:
        engine: Connects to it.
        retrier: Repeats what fails while it is locked or away.
    """

    engine: Engine
    retrier: Retrier

    @classmethod
    def of(cls, storage: Any) -> Reader:
        """A reader of an open `ResilientStorage`, also inside Optuna's cache."""
        inner = backend(storage)
        return cls(inner.engine, inner.retrier)

    def read(self, function: Callable[[Connection], _T]) -> _T:
        """What `function` reads in one transaction.

        Raises:
            StorageError: The storage stayed away, or refused.
        """

        def attempt() -> _T:
            with self.engine.connect() as connection:
                return function(connection)

        return self.retrier.call(attempt)


@contextmanager
def open_reader(url: str | None = None) -> Iterator[Reader]:
    """A reader of the storage behind a URL; as `open_storage(url, must_exist=True)` otherwise.

    Raises:
        InvalidInputError: The text is no storage URL.
        NotFoundError: There is no storage yet.
        StorageError: It cannot be reached or read, or belongs to another version of Optuna.
    """
    resolved = resolve_url(url)
    check_file(resolved, must_exist=True)
    engine = sqlalchemy.create_engine(resolved, **engine_options(resolved))
    listen(engine, threading.local())
    try:
        name = shown(resolved)
        at_once = Retrier(patience=0.0, name=name)
        revision = at_once.call(lambda: schema_revision(engine, must_exist=True))
        if revision != REVISION:
            # Optuna knows whether it can be read, and says what to do if not.
            from optuna_deepweeds.studies.storage import open_storage

            open_storage(url, must_exist=True)
        yield Reader(engine, Retrier(patience=PATIENCE_SECONDS, name=name))
    finally:
        engine.dispose()


@dataclass(frozen=True)
class StudyRow:
    """A study without its trials.

    Attributes:
        user_attrs: Its user attributes, its specification among them.
    """

    study_id: int
    name: str
    directions: tuple[StudyDirection, ...]
    user_attrs: dict[str, Any]


def study_rows(connection: Connection, study_id: int | None = None) -> list[StudyRow]:
    """Every study of a storage, oldest first; or the one of that id, if there is one."""
    where = "" if study_id is None else "WHERE s.study_id = :study_id"
    values = {} if study_id is None else {"study_id": study_id}

    def rows(query: str) -> Sequence[Any]:
        return connection.execute(text(query.format(where=where)), values).all()

    studies = rows("SELECT s.study_id, s.study_name FROM studies s {where} ORDER BY s.study_id")
    # Between two of the queries a study may have come.
    directions: dict[int, list[StudyDirection]] = defaultdict(list)
    for study_id, direction in rows(
        "SELECT d.study_id, d.direction FROM study_directions d "
        "JOIN studies s ON s.study_id = d.study_id {where} ORDER BY d.study_id, d.objective"
    ):
        directions[study_id].append(StudyDirection[direction])
    attrs: dict[int, dict[str, Any]] = defaultdict(dict)
    for study_id, key, value in rows(
        "SELECT a.study_id, a.key, a.value_json FROM study_user_attributes a "
        "JOIN studies s ON s.study_id = a.study_id {where}"
    ):
        attrs[study_id][key] = json.loads(value)
    return [
        StudyRow(found, name, tuple(directions[found]), attrs[found]) for found, name in studies
    ]


def find_single(reader: Reader, name: str) -> StudyRow:
    """The study `name`, which has one objective.

    Raises:
        NotFoundError: There is no such study; names the studies there are.
        InvalidInputError: It has several objectives.
    """

    def find(connection: Connection) -> StudyRow:
        # Not asked for by its name, which a database may not be able to hold, or compare without
        # regard to case.
        names = connection.execute(text("SELECT study_id, study_name FROM studies ORDER BY 1"))
        ids = {known: study_id for study_id, known in names.all()}
        if name not in ids:
            raise no_such_study(name, list(ids))
        rows = study_rows(connection, ids[name])
        if not rows:  # Deleted in between.
            raise no_such_study(name, list(ids.keys() - {name}))
        return rows[0]

    study = reader.read(find)
    require_single(study.name, study.directions)
    return study


def no_such_study(name: str, names: Sequence[str]) -> NotFoundError:
    """The error for a study that is not among `names`, with a hint at what to do."""
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        hint = f" Did you mean {close[0]!r}?"
    elif names:
        shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        hint = f" Studies there: {shown}."
    else:
        hint = " The storage holds no study yet; `study run` makes one."
    return NotFoundError(f"no study {name!r}.{hint}")


def require_single(name: str, directions: Sequence[StudyDirection]) -> None:
    """Refuse a study with several objectives.

    Raises:
        InvalidInputError: It has.
    """
    if len(directions) > 1:
        raise InvalidInputError(
            f"a study must have one objective to be read here, but {name!r} has {len(directions)}."
        )
