"""Creates, opens and lists studies: the one place that turns a specification into a study.

Optuna restores neither sampler nor pruner nor checks the direction when a study is loaded, so
everything here goes by the specification stored in the study.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, SpecMismatchError
from optuna_deepweeds.priors import (
    Choose,
    ImportSummary,
    Matching,
    PriorTrial,
    import_priors,
    match_priors,
    read_priors,
    read_study,
    with_metric,
)
from optuna_deepweeds.pruners import make_pruner
from optuna_deepweeds.samplers import make_sampler
from optuna_deepweeds.spaces import SearchSpace, seen_space
from optuna_deepweeds.studies import informants
from optuna_deepweeds.studies.checkpoints import CheckpointFolder, default_base, new_uid
from optuna_deepweeds.studies.spec import COMPANION_SUFFIX, Budget, StudySpec, refuse_old_form
from optuna_deepweeds.studies.storage import ResilientStorage, open_storage
from optuna_deepweeds.studies.storage.bulk import bulk_add_trials
from optuna_deepweeds.studies.storage.locks import backend, run_locked
from optuna_deepweeds.studies.storage.reading import no_such_study, require_single

if TYPE_CHECKING:
    from optuna_deepweeds.samplers import SourceMatch

_NEW_STUDIES = -1
"""Id of the lock under which studies are created; real studies have positive ids."""


def check(name: str, spec: StudySpec, storage: RDBStorage) -> None:
    """Refuse what `create` would refuse, and change nothing.

    Raises:
        InvalidInputError: If the name cannot be used.
        NotFoundError: If a source of the specification is not in the storage.
        SpecMismatchError: If the study exists with another specification.
    """
    check_name(name)
    for source in spec.sources:
        load_plain(source, storage)
    if name in study_names(storage):
        _adopt_or_refuse(load_plain(name, storage), spec)


def create(
    name: str,
    spec: StudySpec,
    budget: Budget,
    storage: RDBStorage,
    *,
    default: Budget | None = None,
    stop_when_flat: bool = False,
) -> tuple[optuna.Study, bool]:
    """Create the study `name`, or open it if it exists with the same specification.

    It gets its sampler and pruner by `equip`, which the priors that come next inform. Limits set
    in `budget` replace those of an existing study; a new one has the limits of `default` where
    `budget` sets none. `stop_when_flat` is for `set_budget`.

    Returns:
        The study, and whether it is new.

    Raises:
        As `check`.
    """
    check(name, spec, storage)

    def make() -> tuple[optuna.Study, bool]:
        names = study_names(storage)
        is_new = name not in names
        if is_new:
            study = optuna.create_study(
                study_name=name, storage=storage, direction=StudyDirection[spec.direction.upper()]
            )
        else:
            study = load_plain(name, storage)
            _adopt_or_refuse(study, spec)
        if attributes.SPEC not in study.user_attrs:
            uid = new_uid()
            companion = informants.free_companion(name, uid, names)
            study.set_user_attr(attributes.UID, uid)
            _name_metric(study, spec.metric)
            study.set_user_attr(attributes.SPEC, replace(spec, priors=companion).to_json())
        limits = default.updated(budget) if is_new and default else budget
        set_budget(study, limits, stop_when_flat=stop_when_flat)
        return study, is_new

    return run_locked(storage, _NEW_STUDIES, make)


def create_or_continue(
    name: str, spec: StudySpec, budget: Budget, storage: RDBStorage
) -> tuple[optuna.Study, bool]:
    """As `create`, with sampler and pruner at once."""
    study, is_new = create(name, spec, budget, storage)
    return equip(study), is_new


def set_budget(study: optuna.Study, budget: Budget, *, stop_when_flat: bool = False) -> Budget:
    """Replace the limits that `budget` sets, allow work again, and return the whole budget.

    A study that has ended as flat goes on, unless it is to `stop_when_flat` and its budget is the
    same.
    """
    before = study_budget(study)
    total = before.updated(budget)
    if study.user_attrs.get(attributes.FLAT) and not (stop_when_flat and total == before):
        study.set_user_attr(attributes.FLAT, None)
    study.set_user_attr(attributes.BUDGET, total.to_json())
    study.set_user_attr(attributes.STOP, None)
    return total


def accept(study: optuna.Study, fingerprint: str) -> None:
    """Let a study go on with its task as it is now, of this fingerprint."""

    def store() -> None:
        spec = study_spec(study)
        if spec.dataset_fingerprint != fingerprint:
            changed = replace(spec, dataset_fingerprint=fingerprint)
            study.set_user_attr(attributes.SPEC, changed.to_json())

    run_locked(study._storage, study._study_id, store)


def open_study(name: str, storage_url: str | None, *, wait: float = 0.0) -> optuna.Study:
    """Open an existing study with the sampler and pruner of its specification.

    A study that this package did not create is opened as it is. For `wait` seconds a storage
    that is away is asked again.

    Raises:
        NotFoundError: If there is no such study; names the studies there are.
        StorageError: If the storage cannot be reached.
    """
    study = load_plain(name, open_storage(storage_url, must_exist=True, wait=wait))
    return equip(study) if attributes.SPEC in study.user_attrs else study


def load_plain(name: str, storage: BaseStorage, *, with_old_form: bool = False) -> optuna.Study:
    """Load a study without equipping it, to read it.

    Raises:
        NotFoundError: If there is no such study.
        SpecMismatchError: If the version before made it with priors inside, unless the caller
            takes it `with_old_form`.
    """
    names = study_names(storage)
    if name not in names:
        raise no_such_study(name, names)
    study = optuna.load_study(study_name=name, storage=storage)
    if not with_old_form:
        refuse_old_form(name, study.user_attrs)
    return study


def find(
    name: str, storage_url: str | None, *, single: bool = False, with_old_form: bool = False
) -> optuna.Study:
    """`load_plain` from a storage that must exist; `single` refuses several objectives."""
    storage = open_storage(storage_url, must_exist=True)
    study = load_plain(name, storage, with_old_form=with_old_form)
    if single:
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
            f"study {study.study_name!r} must have been created by this program, "
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


def equip(study: optuna.Study) -> optuna.Study:
    """`study` with the sampler and pruner of its specification, and what informs both."""
    spec = study_spec(study)
    priors = informants.companion(study)
    related = [load_plain(name, study._storage) for name in spec.sources]
    options: dict[str, Any] = {}
    if spec.pruner == "dora" and spec.thaw:
        options["is_continuable"] = study_checkpoints(study).exists
    if spec.pruner == "dora" and priors is not None:
        full = priors.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        options["earlier"] = [t.intermediate_values for t in full if t.intermediate_values]
    pruner = make_pruner(spec.pruner, max_resource=spec.epochs, thaw=spec.thaw, **options)
    sources = [informants.source(study) for study in related]
    if priors is not None:
        sources += informants.imported_sources(priors)
    sampler = make_sampler(spec.sampler, seed=spec.seed, space=spec.search_space, priors=sources)
    return optuna.load_study(
        study_name=study.study_name, storage=study._storage, sampler=sampler, pruner=pruner
    )


def read_source(source: str, *, metric: str | None = None) -> list[PriorTrial]:
    """Prior trials of a file or of a study, given as `URL#STUDY`; creates nothing.

    `metric` is what the values are, in place of what the source says.

    Raises:
        NotFoundError: No such file, storage or study.
        InvalidInputError: It is of no known format.
        StorageError: The study's storage does not answer.
    """
    url, mark, name = source.rpartition("#")
    if "://" in url and mark:
        study = load_plain(name, open_storage(url, must_exist=True))
        return with_metric(read_study(study), metric)
    if "://" in source:
        raise InvalidInputError(f"a study as prior is written URL#STUDY, but got {source!r}.")
    return read_priors(Path(source), metric=metric)


def add_priors(
    study: optuna.Study,
    priors: Sequence[PriorTrial],
    *,
    enqueue_best: int = 0,
    space: SearchSpace | None = None,
    choose: Choose | None = None,
) -> ImportSummary:
    """Import `priors` into the companion of `study`, under its lock; nothing is added twice.

    `space` is what they are matched with where the study has none; `choose` is as of
    `import_priors`.
    """
    spec = study_spec(study)

    def add() -> ImportSummary:
        return import_priors(
            study,
            informants.companion(study) or _make_companion(study, spec),
            spec.search_space or space or _seen_space(study),
            priors,
            metric=spec.metric,
            enqueue_best=enqueue_best,
            max_epochs=spec.epochs,
            add=bulk_add_trials,
            choose=choose,
        )

    return run_locked(study._storage, study._study_id, add)


def preview_priors(
    priors: Sequence[PriorTrial], spec: StudySpec, study: optuna.Study | None
) -> Matching:
    """What `add_priors` would make of `priors` in a study, which may not exist yet."""
    space = spec.search_space
    if space is None:
        assert study is not None  # Nothing else tells what is searched.
        space = _seen_space(study)
    return match_priors(
        priors,
        space,
        metric=spec.metric,
        direction="minimize" if spec.direction == "minimize" else "maximize",
        max_epochs=spec.epochs,
    )


def _seen_space(study: optuna.Study) -> SearchSpace:
    """What the trials of a study have had whose objective suggests for itself."""
    space = seen_space(study.study_name, study.get_trials(deepcopy=False))
    if not space.parameters:
        raise InvalidInputError(
            f"priors are matched with the parameters of a study, but {study.study_name!r} has no "
            "trial yet that shows them; run one first, or name a --space."
        )
    return space


def _make_companion(study: optuna.Study, spec: StudySpec) -> optuna.Study:
    if not spec.priors:  # Made by the version before.
        spec = replace(spec, priors=study.study_name + COMPANION_SUFFIX)
        study.set_user_attr(attributes.SPEC, spec.to_json())
    made = optuna.create_study(
        study_name=spec.priors, storage=study._storage, direction=study.direction
    )
    _name_metric(made, spec.metric)
    return made


def source_summary(spec: StudySpec, storage: BaseStorage | None) -> list[SourceMatch]:
    """What of each source of `spec`, all in `storage`, a study can use."""
    from optuna_deepweeds.samplers import summarise_sources

    space = spec.search_space
    if space is None or storage is None:
        return []  # Known once its trials show what is searched; without storage, no sources.
    related = [load_plain(name, storage) for name in spec.sources]
    return summarise_sources([informants.source(s) for s in related], space)


def check_name(name: str) -> None:
    """Refuse, as invalid input, names that cannot be told apart or typed again."""
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InvalidInputError(
            f"a study's name must have 1 to 200 printable characters, but got {name!r:.60}."
        )
    if name.startswith("-"):
        raise InvalidInputError(
            f"a study's name must not begin with a dash, as options do, but got {name!r:.60}."
        )
    if name.endswith(COMPANION_SUFFIX):
        raise InvalidInputError(
            f"a study's name must not end with {COMPANION_SUFFIX!r}, where the priors of another "
            f"study lie, but got {name!r:.60}."
        )


def _name_metric(study: optuna.Study, metric: str) -> None:
    with warnings.catch_warnings():
        # Metric names only label figures; the class of warning is about their interface.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([metric])


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
