"""Going on with what was begun: a stopped trial, one whose worker died, and one put back.

A trial that has ended cannot be run again in Optuna, so a new one succeeds it, which names it
(`ORIGIN`, `RETRY_OF`) and replaces it from then on. A trial that is put back stays what it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes, clock
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.studies.checkpoints import CheckpointFolder
from optuna_deepweeds.studies.storage.heartbeat import last_seen_alive, stale_trials
from optuna_deepweeds.studies.storage.identity import is_gone
from optuna_deepweeds.studies.storage.locks import backend
from optuna_deepweeds.trials import linked, replaced, root, was_interrupted, whole_number

logger = logging.getLogger(__name__)

DIED = "its worker died; the trial was run again"

_CARRIED = (
    attributes.SEED,
    attributes.CHECKPOINT,
    attributes.ENQUEUED_PRIOR,
    attributes.CLOSING,
    attributes.SUGGESTED,
)
"""User attributes that hold for all trials of a chain; besides, a successor has the parameters,
and of the curve what its checkpoint holds."""


def continue_trial(study: Study, parent: FrozenTrial) -> int:
    """Queue a trial that goes on where `parent` paused, and return its id.

    To be called under the study's lock, together with the choice of `parent`.

    Raises:
        InvalidInputError: `parent` is not a pruned trial, or has been continued already.
    """
    if parent.state != TrialState.PRUNED:
        raise InvalidInputError(
            f"only a pruned trial can be continued, but trial {parent.number} is "
            f"{parent.state.name}."
        )
    if parent.number in replaced(study.get_trials(deepcopy=False)):
        raise InvalidInputError(f"trial {parent.number} has been continued already.")
    epoch = max(parent.intermediate_values, default=0)
    return _queue(study, parent, epoch, {attributes.ORIGIN: parent.number})


def requeue_dead_trials(
    study: Study, checkpoints: CheckpointFolder, trials: Sequence[FrozenTrial] | None = None
) -> list[FrozenTrial]:
    """Fail every running trial whose worker is gone and queue its parameters again.

    A worker is gone when its process is (seen from the same machine), or its heartbeat.

    To be called under the study's lock. A worker that was only slow finds its trial finished at
    its next report and drops it, so no trial is told twice. Who dies half-way through this leaves
    nothing behind that the next one does not pick up.

    Args:
        study: The study.
        checkpoints: Its checkpoints.
        trials: Its trials, where they have just been read.

    Returns:
        The trials that were queued again.
    """
    storage = backend(study._storage)
    if trials is None:
        trials = study.get_trials(deepcopy=False)
    running = [t for t in trials if t.state == TrialState.RUNNING]
    left = {t._trial_id: t for t in running if is_gone(t.user_attrs.get(attributes.WORKER, ""))}
    if running:
        left |= {t._trial_id: t for t in stale_trials(study)}
    for trial in left.values():
        try:
            until = last_seen_alive(study, trial._trial_id).isoformat()
            storage.settle(
                trial._trial_id,
                TrialState.FAIL,
                user_attrs={attributes.FAILURE: DIED},
                system_attrs={attributes.INTERRUPTED: until},
                dead=trial,
            )
        except optuna.exceptions.UpdateFinishedTrialError:
            continue  # It was only slow, and ended after all.
    if left:
        trials = study.get_trials(deepcopy=False)
    retried = set[int]().union(*(linked(t.user_attrs, attributes.RETRY_OF) for t in trials))
    dead = [t for t in trials if was_interrupted(t) and t.number not in retried]
    for trial in dead:
        _retry(study, trial, checkpoints)
        logger.warning("trial %d was left by a dead worker; it is run again.", trial.number)
    return dead


def put_back(
    storage: BaseStorage, trial: optuna.Trial, user_attrs: Mapping[str, Any] | None = None
) -> FrozenTrial:
    """Queue a running trial again, as itself: who claims it goes on from its checkpoint."""
    frozen = storage.get_trial(trial._trial_id)
    segments = frozen.user_attrs.get(attributes.SEGMENTS)
    segments = list(segments) if isinstance(segments, list) else []
    if frozen.datetime_start is not None:
        started = frozen.datetime_start.astimezone(UTC)
        segments.append([started.isoformat(), clock.now().isoformat()])
    noted = {attributes.SEGMENTS: segments, **(user_attrs or {})}
    backend(storage).settle(trial._trial_id, TrialState.WAITING, user_attrs=noted)
    return storage.get_trial(trial._trial_id)


def _retry(study: Study, trial: FrozenTrial, checkpoints: CheckpointFolder) -> None:
    """Queue `trial` again from its checkpoint, or if there is none from the first epoch."""
    epoch = whole_number(trial.user_attrs.get(attributes.CHECKPOINT), 0)
    links = {attributes.RETRY_OF: trial.number}
    if epoch and checkpoints.exists(trial):
        _queue(study, trial, epoch, links | {attributes.ORIGIN: trial.number})
    else:
        _queue(study, trial, 0, links)


def _queue(study: Study, trial: FrozenTrial, epoch: int, links: dict[str, int]) -> int:
    """Queue a successor of `trial` that goes on after `epoch`, 0 for anew; return its id."""
    user_attrs: dict[str, Any] = {
        key: trial.user_attrs[key] for key in _CARRIED if key in trial.user_attrs
    }
    # The root names the checkpoint, and seeds the training, also when it begins anew.
    user_attrs |= links | {attributes.ROOT: root(trial)}
    # What Optuna's enqueue_trial writes. Where the worker died before it suggested any parameters,
    # those that the trial was queued with hold, and others are sampled afresh.
    fixed = trial.system_attrs.get("fixed_params", {}) | trial.params
    curve = {step: value for step, value in trial.intermediate_values.items() if step <= epoch}
    if epoch:
        # The worker may have died between saving the epoch and telling it.
        user_attrs[attributes.INHERITED] = max(curve, default=0)
    else:
        user_attrs.pop(attributes.CHECKPOINT, None)
    return study._storage.create_new_trial(
        study._study_id,
        template_trial=create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=user_attrs,
            system_attrs={"fixed_params": fixed},
            intermediate_values=curve,
        ),
    )
