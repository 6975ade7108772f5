"""A study that begins from another one under a changed specification; the old one stays as it is.

Where it is no more than longer, the old trials are its own: those that were trained to the old end
are stopped there, and whatever has a checkpoint can go on. Else they lie in its companion, as far
as they fit, and inform sampler and pruner.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.priors import ImportSummary, read_study
from optuna_deepweeds.spaces import seen_space
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.copy import Content, copy_checkpoints, create_copy, name_taken
from optuna_deepweeds.studies.spec import StudySpec
from optuna_deepweeds.studies.storage.locks import backend
from optuna_deepweeds.trials import FINISHED


@dataclass(frozen=True)
class Longer:
    """What came along into a study that is longer than the one it was made from.

    Attributes:
        n_trials: Trials of its own.
        n_reopened: Those that were trained to the old end and are stopped there now.
        n_checkpoints: Networks that can go on from a checkpoint.
    """

    n_trials: int
    n_reopened: int
    n_checkpoints: int


def is_no_more_than_longer(old: StudySpec, new: StudySpec) -> bool:
    """Whether trials of a study of `old` are the first steps of trials of `new`."""
    space = old.search_space
    names = set() if space is None else {*space.distributions, *space.constants}
    # The learning rate then depends on the length from the start.
    is_bound = old.kind == "images" and "schedule" in names
    same = replace(new, epochs=old.epochs, priors=old.priors)
    return old.thaw and new.epochs > old.epochs and same == old and not is_bound


def fork_longer(study: optuna.Study, name: str, spec: StudySpec) -> tuple[optuna.Study, Longer]:
    """Make study `name` of `spec`, in the same storage, with the trials of `study` as its own.

    Raises:
        InvalidInputError: The name is taken or cannot be used.
    """
    old = manager.study_spec(study).epochs
    content = Content.of(study)
    attrs = {k: v for k, v in content.user_attrs.items() if k != attributes.EVALUATION}
    attrs |= {attributes.SPEC: spec.to_json(), attributes.STOP: None, attributes.FLAT: None}
    trials = [_reopened(trial, old, spec.epochs) for trial in content.trials]
    made = create_copy(replace(content, user_attrs=attrs, trials=trials), name, study._storage)
    own = [t for t in trials if attributes.PRIOR not in t.user_attrs]
    n_ended = sum(t.state == TrialState.COMPLETE for t in study.get_trials(deepcopy=False))
    n_still = sum(t.state == TrialState.COMPLETE for t in own)
    n_checkpoints = copy_checkpoints(study, made, content.trials)
    return made, Longer(len(own), n_ended - n_still, n_checkpoints)


def fork_anew(
    study: optuna.Study, name: str, spec: StudySpec
) -> tuple[optuna.Study, ImportSummary]:
    """Make study `name` of `spec`, in the same storage, with the trials of `study` as priors.

    Stopped trials take part with what was expected of them, and so do those that `spec` would
    train for longer. Of another task, learning curves stay behind: they would not foretell.

    Raises:
        InvalidInputError: The name is taken or cannot be used.
    """
    old, storage = manager.study_spec(study), study._storage
    if name in manager.study_names(storage):
        raise name_taken(name)
    priors = read_study(study, with_forecasts=True)
    if (old.kind, old.dataset) != (spec.kind, spec.dataset):
        priors = [replace(prior, curve={}, epochs=None) for prior in priors]
    trials = [t for t in study.get_trials(deepcopy=False) if t.state in FINISHED]
    space = spec.search_space or seen_space(name, trials)
    made, _ = manager.create(name, spec, manager.study_budget(study), storage)  # type: ignore[arg-type]
    try:
        return made, manager.add_priors(made, priors, space=space)
    except BaseException:
        backend(storage).delete_study(made._study_id)
        raise


def _reopened(trial: FrozenTrial, old: int, new: int) -> FrozenTrial:
    """`trial`, stopped where it was trained to the end of `old` steps and `new` are more."""
    last = trial.last_step or 0
    if trial.state != TrialState.COMPLETE or trial.value is None or not old <= last < new:
        return trial
    changed = copy.copy(trial)
    changed.state = TrialState.PRUNED
    unknown = dict.fromkeys(("low", "high", "incumbent"))
    foreseen = {"epoch": last, "expected": trial.value, "decision": "pause", **unknown}
    foreseen["reason"] = f"trained to the end of {old}"
    changed.user_attrs = {**trial.user_attrs, attributes.ANTICIPATION: foreseen}
    return changed
