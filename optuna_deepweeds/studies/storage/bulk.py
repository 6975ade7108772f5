"""Adding many finished trials at once, for priors and imported studies.

Optuna's `add_trials` takes 15 ms a trial (a transaction and about ten statements each); inserting
a thousand trials in one transaction takes well under one.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial
from sqlalchemy import func, insert, select

from optuna_deepweeds.studies.storage._optuna import (
    check_distribution_compatibility,
    models,
    scoped_transaction,
)
from optuna_deepweeds.studies.storage.locks import backend
from optuna_deepweeds.studies.storage.resilient import ResilientStorage

_TRIALS_A_TRANSACTION = 1000  # Bounds how long other workers wait for SQLite's write lock.


def bulk_add_trials(study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Add `trials` to `study` as `study.add_trials` does, in order, but fast.

    Numbers are given anew. Each thousand trials is added as a whole or not at all.

    Raises:
        ValueError: A trial is inconsistent, or its distribution of a parameter is incompatible
            with the study's; nothing is added then.
        StorageError: The storage failed.
    """
    storage = backend(study._storage)
    if not isinstance(storage, ResilientStorage):
        study.add_trials(trials)
        return
    n_objectives = len(study.directions)
    for trial in trials:
        trial._validate()
        if trial.values is not None and len(trial.values) != n_objectives:
            raise ValueError(
                f"A trial must have {n_objectives} values as the study has objectives, "
                f"but got {trial.values}."
            )
    _check_distributions(storage, study._study_id, trials)
    for start in range(0, len(trials), _TRIALS_A_TRANSACTION):
        _add(storage, study._study_id, trials[start : start + _TRIALS_A_TRANSACTION])


def _check_distributions(
    storage: ResilientStorage, study_id: int, trials: Iterable[FrozenTrial]
) -> None:
    """Raise unless equally named parameters are of one kind, as Optuna demands."""
    known = {
        name: json_to_distribution(text)
        for name, text in storage.retrier.call(lambda: _stored_distributions(storage, study_id))
    }
    seen: set[tuple[str, BaseDistribution]] = set()
    for trial in trials:
        for name, distribution in trial.distributions.items():
            if (name, distribution) not in seen:
                first = known.setdefault(name, distribution)
                check_distribution_compatibility(first, distribution)
                seen.add((name, distribution))


def _stored_distributions(storage: ResilientStorage, study_id: int) -> list[tuple[str, str]]:
    """Name and one distribution of every parameter that the study has so far."""
    params, trials = models.TrialParamModel, models.TrialModel
    query = (
        select(params.param_name, func.min(params.distribution_json))
        .join(trials, trials.trial_id == params.trial_id)
        .where(trials.study_id == study_id)
        .group_by(params.param_name)
    )
    with storage.engine.connect() as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]


def _add(storage: ResilientStorage, study_id: int, trials: Sequence[FrozenTrial]) -> None:
    # As for single trials: an id whose transaction was committed before its answer got lost.
    attempted: int | None = None

    def insert_all() -> None:
        nonlocal attempted
        with storage.writing(), scoped_transaction(storage.scoped_session) as session:
            models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
            if attempted is not None and session.get(models.TrialModel, attempted) is not None:
                return
            count = select(func.count()).where(models.TrialModel.study_id == study_id)
            first = int(session.execute(count).scalar_one())
            rows = [
                {
                    "study_id": study_id,
                    "number": first + i,
                    "state": trial.state,
                    "_datetime_start_utc": _as_utc(trial.datetime_start),
                    "_datetime_complete_utc": _as_utc(trial.datetime_complete),
                }
                for i, trial in enumerate(trials)
            ]
            query = insert(models.TrialModel).returning(
                models.TrialModel.trial_id, sort_by_parameter_order=True
            )
            ids = list(session.scalars(query, rows))
            for table, details in _details(dict(zip(ids, trials, strict=True))).items():
                if details:
                    session.execute(insert(table), details)
            attempted = ids[0]

    storage.retrier.call(insert_all)


def _as_utc(moment: datetime | None) -> datetime | None:
    """Local time as the tables hold it: naive UTC."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


def _details(trials: Mapping[int, FrozenTrial]) -> dict[Any, list[dict[str, Any]]]:
    """Rows by table for everything that hangs on trials, given by their ids."""
    as_text = functools.cache(distribution_to_json)
    stored = models.TrialValueModel.value_to_stored_repr
    stored_curve = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
    rows: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for trial_id, trial in trials.items():

        def add(table: Any, trial_id: int = trial_id, **columns: Any) -> None:
            rows[table].append({"trial_id": trial_id, **columns})

        for name, value in trial.params.items():
            distribution = trial.distributions[name]
            add(
                models.TrialParamModel,
                param_name=name,
                param_value=distribution.to_internal_repr(value),
                distribution_json=as_text(distribution),
            )
        for key, value in trial.user_attrs.items():
            add(models.TrialUserAttributeModel, key=key, value_json=json.dumps(value))
        for key, value in trial.system_attrs.items():
            add(models.TrialSystemAttributeModel, key=key, value_json=json.dumps(value))
        for objective, value in enumerate(trial.values or ()):
            number, kind = stored(value)
            add(models.TrialValueModel, objective=objective, value=number, value_type=kind)
        for step, value in trial.intermediate_values.items():
            number, curve_kind = stored_curve(value)
            add(
                models.TrialIntermediateValueModel,
                step=step,
                intermediate_value=number,
                intermediate_value_type=curve_kind,
            )
    return rows
