"""Creates, opens and lists studies: the one place that turns a specification into a study.

Optuna restores neither sampler nor pruner nor checks the direction when a study is loaded, so
everything here goes by the specification stored in the study.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, SpecMismatchError
from optuna_deepweeds.priors import ImportSummary, PriorTrial, import_priors
from optuna_deepweeds.pruners import make_pruner
from optuna_deepweeds.samplers import make_sampler
from optuna_deepweeds.studies.checkpoints import CheckpointFolder, default_base, new_uid
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import ResilientStorage, open_storage
from optuna_deepweeds.studies.storage.bulk import bulk_add_trials
from optuna_deepweeds.studies.storage.locks import backend, run_locked
from optuna_deepweeds.studies.storage.reading import no_such_study, require_single

if TYPE_CHECKING:
    from optuna_deepweeds.samplers import PriorSource, SourceMatch

_NEW_STUDIES = -1
"""Id of the lock under which studies are created; real studies have positive ids."""


def create_or_continue(
    name: str, spec: StudySpec, budget: Budget, storage: RDBStorage
) -> tuple[optuna.Study, bool]:
    """Create the study `name`, or open it if it exists with the same specification.

    Limits set in `budget` replace those of an existing study.

    Returns:
        The study, and whether it is new.

    Raises:
        InvalidInputError: If the name cannot be used.
        NotFoundError: If a source of the specification is not in the storage.
        SpecMismatchError: If the study exists with another specification.
    """
    check_name(name)
    for source in spec.sources:
        load_plain(source, storage)

    def create() -> tuple[optuna.Study, bool]:
        is_new = name not in study_names(storage)
        if is_new:
            study = optuna.create_study(
                study_name=name, storage=storage, direction=_direction(spec)
            )
        else:
            study = load_plain(name, storage)
            _adopt_or_refuse(study, spec)
        if attributes.SPEC not in study.user_attrs:
            study.set_user_attr(attributes.UID, new_uid())
            with warnings.catch_warnings():
                # Metric names only label figures; the class of warning is about their interface.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([spec.metric])
            study.set_user_attr(attributes.SPEC, spec.to_json())
        set_budget(study, budget)
        return study, is_new

    study, is_new = run_locked(storage, _NEW_STUDIES, create)
    return equip(study, spec), is_new


def set_budget(study: optuna.Study, budget: Budget) -> Budget:
    """Replace the limits that `budget` sets, allow work again, and return the whole budget."""
    total = study_budget(study).updated(budget)
    study.set_user_attr(attributes.BUDGET, total.to_json())
    study.set_user_attr(attributes.STOP, None)
    return total


def open_study(name: str, storage_url: str | None, *, wait: float = 0.0) -> optuna.Study:
    """Open an existing study with the sampler and pruner of its specification.

    A study that this package did not create is opened as it is. For `wait` seconds a storage
    that is away is asked again.

    Raises:
        NotFoundError: If there is no such study; names the studies there are.
        StorageError: If the storage cannot be reached.
    """
    study = load_plain(name, open_storage(storage_url, must_exist=True, wait=wait))
    if attributes.SPEC not in study.user_attrs:
        return study
    return equip(study, study_spec(study))


def load_plain(name: str, storage: BaseStorage) -> optuna.Study:
    """Load a study without equipping it, to read it."""
    names = study_names(storage)
    if name not in names:
        raise no_such_study(name, names)
    return optuna.load_study(study_name=name, storage=storage)


def load_single(name: str, storage: BaseStorage) -> optuna.Study:
    """Load a study to read its one direction and best trial.

    Raises:
        NotFoundError: If there is no such study.
        InvalidInputError: If it has several objectives.
    """
    study = load_plain(name, storage)
    require_single(name, study.directions)
    return study


def study_names(storage: BaseStorage) -> list[str]:
    """Names of the studies in `storage`, oldest first."""
    return [study.study_name for study in storage.get_all_studies()]


def study_spec(study: optuna.Study) -> StudySpec:
    """The specification stored in `study`.

    Raises:
        InvalidInputError: If `study` was not created by this package.
    """
    stored = study.user_attrs.get(attributes.SPEC)
    if not isinstance(stored, Mapping):
        raise InvalidInputError(
            f"study {study.study_name!r} must have been created by `study run`, "
            "but it carries no specification."
        )
    return StudySpec.from_json(stored)


def study_budget(study: optuna.Study) -> Budget:
    """What `study` may spend in all."""
    return Budget.from_json(study.user_attrs.get(attributes.BUDGET))


def study_checkpoints(study: optuna.Study) -> CheckpointFolder:
    """The checkpoint folder of `study`."""
    return CheckpointFolder(default_base(storage_url(study)), study)


def storage_url(study: optuna.Study) -> str:
    """The URL of the storage that `study` lies in, its password included."""
    storage = backend(study._storage)
    if isinstance(storage, ResilientStorage):
        return storage.engine.url.render_as_string(hide_password=False)
    return str(getattr(storage, "url", ""))


def equip(study: optuna.Study, spec: StudySpec) -> optuna.Study:
    """`study` with the sampler and pruner of `spec`."""
    options: dict[str, Any] = {}
    if spec.pruner == "dora":
        options["prior_curves"] = prior_curves(study)
        options["related_curves"] = [related_curves(n, study) for n in spec.sources]
        if spec.thaw:
            folder = study_checkpoints(study)
            options["is_continuable"] = folder.exists
    pruner = make_pruner(spec.pruner, max_resource=spec.epochs, thaw=spec.thaw, **options)
    sampler = make_sampler(
        spec.sampler,
        seed=spec.seed,
        space=spec.search_space,
        priors=[source_trials(name, study._storage) for name in spec.sources],
    )
    return optuna.load_study(
        study_name=study.study_name, storage=study._storage, sampler=sampler, pruner=pruner
    )


def add_priors(
    study: optuna.Study, priors: Sequence[PriorTrial], *, enqueue_best: int = 0
) -> ImportSummary:
    """Import `priors` into `study` under its lock; what is there already is not added again."""
    spec = study_spec(study)
    return run_locked(
        study._storage,
        study._study_id,
        lambda: import_priors(
            study,
            spec.search_space,
            priors,
            enqueue_best=enqueue_best,
            max_epochs=spec.epochs,
            add=bulk_add_trials,
        ),
    )


def prior_curves(study: optuna.Study) -> list[list[float]]:
    """Full learning curves of the prior trials of `study`, an epoch an entry."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return _full_curves([t for t in trials if attributes.PRIOR in t.user_attrs], 1.0)


def related_curves(name: str, study: optuna.Study) -> list[list[float]]:
    """Full learning curves of the study `name`, turned to the direction of `study`."""
    source = load_plain(name, study._storage)
    trials = source.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return _full_curves(trials, 1.0 if source.direction == study.direction else -1.0)


def _full_curves(trials: Sequence[FrozenTrial], sign: float) -> list[list[float]]:
    curves = []
    for trial in trials:
        steps = sorted(trial.intermediate_values)
        if len(steps) > 1 and steps == list(range(1, len(steps) + 1)):
            curves.append([sign * trial.intermediate_values[step] for step in steps])
    return curves


def source_trials(name: str, storage: BaseStorage) -> PriorSource:
    """The study `name` as a weighted source of the sampler, larger values better.

    Stopped trials take part with the final value that was foreseen for them: after a pruner that
    stops early there is hardly anything else.
    """
    from optuna_deepweeds.samplers import PriorSource
    from optuna_deepweeds.samplers.history import valued_trials

    study = load_plain(name, storage)
    sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
    valued = valued_trials(study.get_trials(deepcopy=False))
    return PriorSource(
        name=name,
        params=[dict(trial.params) for trial, _ in valued],
        values=[sign * value for _, value in valued],
    )


def source_summary(study: optuna.Study, spec: StudySpec) -> list[SourceMatch]:
    """What of each source of `spec` a study can use."""
    from optuna_deepweeds.samplers import summarise_sources

    sources = [source_trials(name, study._storage) for name in spec.sources]
    return summarise_sources(sources, spec.search_space)


def check_name(name: str) -> None:
    """Refuse names that cannot be told apart or typed again.

    Raises:
        InvalidInputError: If `name` is empty, too long or has control characters.
    """
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InvalidInputError(
            f"a study's name must have 1 to 200 printable characters, but got {name!r:.60}."
        )


def _direction(spec: StudySpec) -> StudyDirection:
    return StudyDirection.MINIMIZE if spec.direction == "minimize" else StudyDirection.MAXIMIZE


def _adopt_or_refuse(study: optuna.Study, spec: StudySpec) -> None:
    if attributes.SPEC not in study.user_attrs:
        if study.get_trials(deepcopy=False):
            raise SpecMismatchError(
                f"study {study.study_name!r} was created by another program; choose another name."
            )
        return  # Created by a process that died before it could write the specification.
    differences = study_spec(study).differences(spec)
    if differences:
        raise SpecMismatchError(
            f"study {study.study_name!r} exists with another specification: "
            f"{'; '.join(differences)}. Choose another --name, or `study resume "
            f"{shlex.quote(study.study_name)}` to go on with it."
        )
