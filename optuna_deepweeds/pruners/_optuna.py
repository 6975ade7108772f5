"""The private names of Optuna that this room cannot do without, in one place.

Asked through Optuna's own interface, a database answers a pruner's question with seven statements
of the object-relational mapper, and stores its answer in two transactions. Here a handful of plain
statements read the few columns that matter, and one transaction stores the answer.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import TrialState

from optuna_deepweeds.attributes import ORIGIN, RETRY_OF, RUNG
from optuna_deepweeds.pruners.history import OPTUNA_RETRIES, Reader, Record, make_record

_T = TypeVar("_T")


class RDBReader(Reader):
    """Reads what is new in a study of a relational database."""

    def __init__(self) -> None:
        super().__init__()
        self._last_id = -1
        self._pending_ids: list[int] = []

    def changes(self, study: Study) -> list[Record]:
        """As `Reader.changes`; unfinished trials that have reached no rung are without curve."""
        backend = _backend(study._storage)
        records = _repeated(backend, lambda: self._read(backend, study._study_id))
        self._last_id = max((r.trial_id for r in records), default=self._last_id)
        self._pending_ids = [r.trial_id for r in records if not r.state.is_finished()]
        return records

    def _read(self, backend: RDBStorage, study_id: int) -> list[Record]:
        sql = _statements()
        with backend.engine.connect() as connection:

            def rows(name: str, **values: Any) -> Sequence[Any]:
                return connection.execute(sql[name], values).all()

            # Ids of one study are given in the order in which its trials appear.
            trials = rows("new", study_id=study_id, last=self._last_id)
            if self._pending_ids:
                trials = [*rows("again", ids=self._pending_ids), *trials]
            if not trials:
                return []
            attrs: defaultdict[int, dict[str, Any]] = defaultdict(dict)
            for trial_id, key, value in rows("attrs", ids=[row.trial_id for row in trials]):
                attrs[trial_id][key] = json.loads(value)
            curves: defaultdict[int, dict[int, float]] = defaultdict(dict)
            # The curve of an unfinished trial matters from its first rung on.
            known = [
                id_ for id_, _, state in trials if state.is_finished() or _has_marks(attrs[id_])
            ]
            if known:
                as_float = _models().TrialIntermediateValueModel.stored_repr_to_intermediate_value
                for trial_id, step, value, kind in rows("curves", ids=known):
                    curves[trial_id][step] = as_float(value, kind)
            complete = [row.trial_id for row in trials if row.state == TrialState.COMPLETE]
            finals = {}
            if complete:
                as_float = _models().TrialValueModel.stored_repr_to_value
                for trial_id, value, kind in rows("finals", ids=complete):
                    finals[trial_id] = as_float(value, kind)
        return [
            make_record(id_, number, state, finals.get(id_), curves[id_], attrs[id_])
            for id_, number, state in trials
        ]


def is_rdb(storage: BaseStorage) -> bool:
    """Tell whether a storage is a relational database, with or without Optuna's cache."""
    return isinstance(_backend(storage), RDBStorage)


def write(
    storage: BaseStorage, trial_id: int, system: Mapping[str, Any], user: Mapping[str, Any]
) -> None:
    """Set system and user attributes of an unfinished trial in one transaction.

    Raises:
        optuna.exceptions.UpdateFinishedTrialError: The trial has finished.
        KeyError: There is no such trial.
    """
    from optuna.storages._rdb.storage import _create_scoped_session

    backend = _backend(storage)
    models = _models()
    both = ((models.TrialSystemAttributeModel, system), (models.TrialUserAttributeModel, user))
    dialect = backend.engine.dialect.name

    def change() -> None:
        # A storage with many writers opens such a transaction in its own way.
        is_writing = getattr(backend, "writing", nullcontext)
        with is_writing(), _create_scoped_session(backend.scoped_session, True) as session:
            trial = models.TrialModel.find_or_raise_by_id(trial_id, session)
            backend.check_trial_is_updatable(trial_id, trial.state)
            for model, attrs in both:
                upsert = _upsert(model, dialect)
                for key, value in attrs.items():
                    if upsert is None:
                        backend._set_trial_attr_without_commit(
                            session, model, trial_id, key, value
                        )
                    else:
                        row = {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
                        session.execute(upsert, row)

    _repeated(backend, change)


def _backend(storage: BaseStorage) -> Any:
    """The storage itself, out of the cache that Optuna wraps around a database."""
    return getattr(storage, "_backend", storage)


def _repeated(backend: Any, call: Callable[[], _T]) -> _T:
    """Call, and again while the database is away if its storage knows how to sit that out."""
    retrier = getattr(backend, "retrier", None)
    result: _T = call() if retrier is None else retrier.call(call)
    return result


def _has_marks(attrs: Mapping[str, Any]) -> bool:
    return any(key.startswith(RUNG) for key in attrs)


def _models() -> Any:
    from optuna.storages._rdb import models

    return models


@functools.cache
def _upsert(model: Any, dialect: str) -> sa.Executable | None:
    """The statement that sets an attribute, None where Optuna's own way is to be taken."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    elif dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    else:
        return None
    statement = insert(model.__table__)
    return statement.on_conflict_do_update(
        index_elements=["trial_id", "key"], set_={"value_json": statement.excluded.value_json}
    )


@functools.cache
def _statements() -> dict[str, sa.Executable]:
    """The statements by name; built once, since building one costs more than running it."""
    models = _models()
    trials = models.TrialModel
    of_users = models.TrialUserAttributeModel
    of_system = models.TrialSystemAttributeModel
    reports = models.TrialIntermediateValueModel
    finals = models.TrialValueModel
    ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
    trial = sa.select(trials.trial_id, trials.number, trials.state)
    return {
        "new": trial.where(
            trials.study_id == sa.bindparam("study_id"), trials.trial_id > sa.bindparam("last")
        ).order_by(trials.trial_id),
        "again": trial.where(trials.trial_id.in_(ids)).order_by(trials.trial_id),
        "attrs": sa.union_all(
            sa.select(of_users.trial_id, of_users.key, of_users.value_json).where(
                of_users.trial_id.in_(ids), of_users.key.in_((ORIGIN, RETRY_OF))
            ),
            sa.select(of_system.trial_id, of_system.key, of_system.value_json).where(
                of_system.trial_id.in_(ids),
                sa.or_(of_system.key.startswith(RUNG), of_system.key == OPTUNA_RETRIES),
            ),
        ),
        "curves": sa.select(
            reports.trial_id,
            reports.step,
            reports.intermediate_value,
            reports.intermediate_value_type,
        ).where(reports.trial_id.in_(ids)),
        "finals": sa.select(finals.trial_id, finals.value, finals.value_type).where(
            finals.trial_id.in_(ids), finals.objective == 0
        ),
    }
