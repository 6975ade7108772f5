"""A copy of a study, in any storage, with an identity of its own.

Imported trials go into the copy's companion; the version before kept them among the study's own,
so a copy also is what brings its studies into the present form.
"""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors.insert import fingerprint
from optuna_deepweeds.studies import informants, manager
from optuna_deepweeds.studies.checkpoints import new_uid
from optuna_deepweeds.studies.storage.bulk import bulk_add_trials
from optuna_deepweeds.studies.storage.locks import backend

_METRIC_NAMES = "study:metric_names"
"""System attribute in which Optuna keeps the names of a study's metrics."""


@dataclass(frozen=True)
class Content:
    """Everything a study holds, with its companion's trials.

    Attributes:
        directions: Of its objectives.
        user_attrs: The study's own.
        system_attrs: The study's own.
        trials: Its trials in their order, and imported ones, which carry `PRIOR`.
    """

    directions: Sequence[StudyDirection]
    user_attrs: Mapping[str, Any]
    system_attrs: Mapping[str, Any]
    trials: Sequence[FrozenTrial]

    @classmethod
    def of(cls, study: optuna.Study) -> Content:
        """Read `study` and its companion."""
        trials = study.get_trials(deepcopy=False)
        companion = informants.companion(study)
        if companion is not None:
            trials = trials + companion.get_trials(deepcopy=False)
        system_attrs = study._storage.get_study_system_attrs(study._study_id)
        return cls(study.directions, study.user_attrs, system_attrs, trials)


def fork_study(study: optuna.Study, name: str) -> optuna.Study:
    """Copy `study` under a new name into its storage, its checkpoints too.

    Raises:
        InvalidInputError: The name is taken or cannot be used.
    """
    content = Content.of(study)
    made = create_copy(content, name, study._storage)
    copy_checkpoints(study, made, content.trials)
    return made


def copy_checkpoints(
    study: optuna.Study, made: optuna.Study, trials: Sequence[FrozenTrial]
) -> int:
    """Copy those of `study`, whose content is `trials`, to `made`; returns how many there are."""
    before, after = manager.study_checkpoints(study), manager.study_checkpoints(made)
    n_copied = 0
    for number, new in _new_numbers(trials).items():
        if (saved := before.path(number)).exists():
            after.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # A worker has just gone on with it.
                shutil.copyfile(saved, after.path(new))
                n_copied += 1
    return n_copied


def create_copy(content: Content, name: str, storage: BaseStorage) -> optuna.Study:
    """Create a study of this content; whole or not at all, as long as the process lives.

    Raises:
        InvalidInputError: The name is taken or cannot be used.
        ValueError: A trial is inconsistent.
    """
    manager.check_name(name)
    uid = new_uid()
    user_attrs = {key: copy.copy(value) for key, value in content.user_attrs.items()}
    own, imported, companion = list(content.trials), [], ""
    # Without a specification it is no study of ours, and its trials mean what they mean to others.
    if isinstance(spec := user_attrs.get(attributes.SPEC), dict):
        moments = [t for trial in own for t in (trial.datetime_start, trial.datetime_complete)]
        last = max(filter(None, moments), default=None)
        own = [_without_worker(trial, last) for trial in own]
        imported = [_marked(t) for t in content.trials if attributes.PRIOR in t.user_attrs]
        if imported:
            numbers = _new_numbers(content.trials)
            own = [_renumbered(t, numbers) for t in own if attributes.PRIOR not in t.user_attrs]
        companion = informants.free_companion(name, uid, manager.study_names(storage))
        spec["priors"] = companion
        user_attrs[attributes.UID] = uid
    if isinstance(summary := user_attrs.get(attributes.PRIOR_SUMMARY), dict):
        counts = Counter(str(t.user_attrs[attributes.PRIOR]) for t in imported)
        for source in {*summary, *counts}:
            entry = summary.get(source)
            known = entry if isinstance(entry, dict) else {}
            summary[source] = {**known, "added": counts[source]}
    made: list[optuna.Study] = []
    try:
        made.append(_create(name, content, content.system_attrs, storage))
        if imported:
            labels = {k: v for k, v in content.system_attrs.items() if k == _METRIC_NAMES}
            made.append(_create(companion, content, labels, storage))
            bulk_add_trials(made[1], imported)
        bulk_add_trials(made[0], own)
        # Last: with its specification a worker may join.
        for key, value in user_attrs.items():
            made[0].set_user_attr(key, value)
    except BaseException:
        for study in made:
            backend(storage).delete_study(study._study_id)
        raise
    return made[0]


def _create(
    name: str, content: Content, system_attrs: Mapping[str, Any], storage: BaseStorage
) -> optuna.Study:
    try:
        # Not wrapped once more where the caller holds Optuna's cached storage.
        study = optuna.create_study(
            study_name=name, storage=storage, directions=list(content.directions)
        )
    except optuna.exceptions.DuplicatedStudyError:
        raise name_taken(name) from None
    for key, value in system_attrs.items():
        study._storage.set_study_system_attr(study._study_id, key, value)
    return study


def name_taken(name: str) -> InvalidInputError:
    """The refusal of a name that another study of the storage has."""
    return InvalidInputError(
        f"A copied study's name must be new in its storage, but {name!r} is there already; "
        "choose another name."
    )


def _new_numbers(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """Old number -> new number of the trials that were not imported."""
    own = [t for t in trials if attributes.PRIOR not in t.user_attrs]
    return {trial.number: new for new, trial in enumerate(own)}


def _renumbered(trial: FrozenTrial, numbers: Mapping[int, int]) -> FrozenTrial:
    """`trial` with its references to other trials by their new numbers."""
    changed = copy.copy(trial)
    changed.user_attrs = dict(trial.user_attrs)
    for key in (attributes.ORIGIN, attributes.ROOT, attributes.RETRY_OF):
        if trial.user_attrs.get(key) in numbers:
            changed.user_attrs[key] = numbers[trial.user_attrs[key]]
    return changed


def _without_worker(trial: FrozenTrial, last: datetime | None) -> FrozenTrial:
    """`trial`, put back where a worker has it, who knows nothing of the copy.

    It has run until `last` for all that is known, the last moment in the study.
    """
    if trial.state != TrialState.RUNNING:
        return trial
    changed = copy.copy(trial)
    changed.state = TrialState.WAITING
    spells = trial.user_attrs.get(attributes.SEGMENTS)
    spells = list(spells) if isinstance(spells, list) else []
    if trial.datetime_start is not None and last is not None:
        ends = (trial.datetime_start, last)
        spells.append([moment.astimezone(UTC).isoformat() for moment in ends])
    changed.user_attrs = {**trial.user_attrs, attributes.SEGMENTS: spells}
    return changed


def _marked(trial: FrozenTrial) -> FrozenTrial:
    """An imported trial with its present fingerprint."""
    changed = copy.copy(trial)
    mark = "" if trial.value is None else fingerprint(trial.params, trial.value)
    changed.user_attrs = {**trial.user_attrs, attributes.PRIOR_ROW: mark}
    return changed
