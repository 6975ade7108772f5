"""Studies that inform a study's sampler and pruner: its companion, and those of other tasks.

The companion holds imported trials of the same task, apart from the study's own: what Optuna's own
tools show as the study's best is then a trial that it trained itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.studies.spec import COMPANION_SUFFIX, named_companions
from optuna_deepweeds.trials import sign

if TYPE_CHECKING:
    from optuna_deepweeds.samplers import PriorSource


def free_companion(name: str, uid: str, names: Sequence[str]) -> str:
    """Name of the study that is to hold the imported trials of study `name`, of identity `uid`;
    none of `names`, which are in the storage already."""
    usual = name + COMPANION_SUFFIX
    # One that is there belongs to a study that was renamed or deleted by another program.
    return usual if usual not in names else f"{name}-{uid}{COMPANION_SUFFIX}"


def companion(study: optuna.Study) -> optuna.Study | None:
    """The study that holds the imported trials of `study`, if there are any."""
    spec = study.user_attrs.get(attributes.SPEC)
    name = spec.get("priors") if isinstance(spec, Mapping) else None
    if not name or name not in {s.study_name for s in study._storage.get_all_studies()}:
        return None
    return optuna.load_study(study_name=name, storage=study._storage)


def refuse_companion(study: optuna.Study) -> None:
    """Refuse a study that holds the priors of another one.

    Raises:
        InvalidInputError: It does.
    """
    for other in study._storage.get_all_studies():
        if study.study_name in named_companions([other.user_attrs.get(attributes.SPEC)]):
            raise InvalidInputError(
                f"{study.study_name!r} holds the priors of study {other.study_name!r} and goes "
                "with it."
            )


def source(study: optuna.Study) -> PriorSource:
    """A study of another task as a weighted source of the sampler.

    Stopped trials take part with the final value that was foreseen for them: after a pruner that
    stops early there is hardly anything else.
    """
    return _source(study.study_name, study, study.get_trials(deepcopy=False))


def imported_sources(study: optuna.Study) -> list[PriorSource]:
    """The trials of a companion as sources of the sampler, one for each file or study that they
    were imported from: each is trusted as far as it agrees with what is observed."""
    by_origin: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in study.get_trials(deepcopy=False):
        by_origin[str(trial.user_attrs.get(attributes.PRIOR, ""))].append(trial)
    name = study.study_name
    return [_source(f"{name}/{key}", study, trials) for key, trials in sorted(by_origin.items())]


def _source(name: str, study: optuna.Study, trials: Sequence[FrozenTrial]) -> PriorSource:
    """`trials` of `study`, larger values better."""
    from optuna_deepweeds.samplers import PriorSource
    from optuna_deepweeds.samplers.history import valued_trials

    valued = valued_trials(trials)
    return PriorSource(
        name=name,
        params=[dict(trial.params) for trial, _ in valued],
        values=[sign(study.direction) * value for _, value in valued],
    )
