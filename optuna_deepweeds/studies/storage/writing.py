"""Details of a trial, each written by one statement that inserts or replaces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func
from sqlalchemy.dialects import postgresql, sqlite

from optuna_deepweeds.studies.storage._optuna import models


def put_report(session: Any, trial_id: int, step: int, value: float) -> None:
    """Write an intermediate value."""
    table = models.TrialIntermediateValueModel
    number, kind = table.intermediate_value_to_stored_repr(value)
    key = {"trial_id": trial_id, "step": step}
    _put(session, table, key, {"intermediate_value": number, "intermediate_value_type": kind})


def put_attrs(
    session: Any,
    trial_id: int,
    user: Mapping[str, Any] | None,
    system: Mapping[str, Any] | None,
) -> None:
    """Write user and system attributes."""
    for table, attrs in (
        (models.TrialUserAttributeModel, user),
        (models.TrialSystemAttributeModel, system),
    ):
        for name, value in (attrs or {}).items():
            key = {"trial_id": trial_id, "key": name}
            _put(session, table, key, {"value_json": json.dumps(value)})


def put_beat(session: Any, trial_id: int) -> None:
    """Write a heartbeat of now."""
    _put(session, models.TrialHeartbeatModel, {"trial_id": trial_id}, {"heartbeat": func.now()})


def _put(session: Any, table: Any, key: dict[str, Any], values: dict[str, Any]) -> None:
    insert = sqlite.insert if session.bind.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table).values(**key, **values)
    replaced = {name: statement.excluded[name] for name in values}
    session.execute(statement.on_conflict_do_update(index_elements=[*key], set_=replaced))
