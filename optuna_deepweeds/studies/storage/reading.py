"""Looking at a storage without opening it for work, which takes Optuna's tables half a second."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Engine, text

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.schema import did_you_mean
from optuna_deepweeds.studies.storage.engine import connected, listen, resolve_url, shown
from optuna_deepweeds.studies.storage.locks import backend
from optuna_deepweeds.studies.storage.open import check_file, open_storage, schema_revision
from optuna_deepweeds.studies.storage.retry import PATIENCE_SECONDS, Retrier
from optuna_deepweeds.studies.storage.rows import read_trials

REVISION = "v3.2.0.a"
"""The revision of Optuna's tables that the statements of this package are written for."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class StudyRow:
    """A study without its trials; its specification is among its user attributes."""

    study_id: int
    name: str
    directions: tuple[StudyDirection, ...]
    user_attrs: dict[str, Any]
    metric_names: list[str] | None


@dataclass(frozen=True)
class Reader:
    """A storage to be looked at.

    Attributes:
        engine: Connects to it.
        retrier: Repeats what fails while it is locked or away.
    """

    engine: Engine
    retrier: Retrier

    def studies(self) -> list[StudyRow]:
        """Every study, oldest first."""
        return self._read(_studies)

    def study(self, name: str) -> StudyRow:
        """The study `name`, which has one objective.

        Raises:
            NotFoundError: There is no such study; names the studies there are.
            InvalidInputError: It has several objectives.
        """
        studies = {study.name: study for study in self.studies()}
        if name not in studies:
            raise no_such_study(name, list(studies))
        require_single(name, studies[name].directions)
        return studies[name]

    def trials(
        self, study_id: int, *, params: bool = True, curves: bool = True
    ) -> list[FrozenTrial]:
        """Trials of a study; without parameters or curves in a fraction of the time."""
        where = f"study_id = {study_id}"
        return self._read(lambda found: read_trials(found, where, params=params, curves=curves))

    def trial(self, trial_id: int) -> FrozenTrial:
        """The whole trial of that id."""
        return self._read(lambda found: read_trials(found, f"trial_id = {trial_id}"))[0]

    def _read(self, function: Callable[[Connection], _T]) -> _T:
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
    name = shown(resolved)
    with connected(resolved) as engine:
        listen(engine, threading.local())
        at_once = Retrier(patience=0.0, name=name)
        revision = at_once.call(lambda: schema_revision(engine, must_exist=True))
        if revision != REVISION:
            # Optuna knows whether it can be read, and says what to do if not.
            open_storage(url, must_exist=True)
        yield Reader(engine, Retrier(patience=PATIENCE_SECONDS, name=name))


def light_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The study's trials without parameters and curves: to count them, or to find the best."""
    storage = backend(study._storage)
    if not hasattr(storage, "retrier"):
        return study.get_trials(deepcopy=False)
    reader = Reader(storage.engine, storage.retrier)
    return reader.trials(study._study_id, params=False, curves=False)


def no_such_study(name: str, names: Sequence[str]) -> NotFoundError:
    """The error for a study that is not among `names`, with a hint at what to do."""
    hint = did_you_mean(name, names)
    if not hint and names:
        shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        hint = f" Studies there: {shown}."
    elif not names:
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


def _studies(connection: Connection) -> list[StudyRow]:
    def rows(query: str) -> Sequence[Any]:
        return connection.execute(text(query)).all()

    # In this order a study that comes in between is left out instead of seen in part.
    directions: dict[int, list[StudyDirection]] = {}
    for study_id, direction in rows(
        "SELECT study_id, direction FROM study_directions ORDER BY study_id, objective"
    ):
        directions.setdefault(study_id, []).append(StudyDirection[direction])
    attrs: dict[int, dict[str, Any]] = {}
    for study_id, key, value in rows(
        "SELECT study_id, key, value_json FROM study_user_attributes"
    ):
        attrs.setdefault(study_id, {})[key] = json.loads(value)
    named = (
        "SELECT study_id, value_json FROM study_system_attributes WHERE key = 'study:metric_names'"
    )
    metrics = {study_id: json.loads(names) for study_id, names in rows(named)}
    return [
        StudyRow(i, name, tuple(directions[i]), attrs.get(i, {}), metrics.get(i))
        for i, name in rows("SELECT study_id, study_name FROM studies ORDER BY study_id")
        if i in directions
    ]
