"""Trials whose worker died: marked as failed, and queued again from their last checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.studies.checkpoints import CheckpointFolder, root_number
from optuna_deepweeds.studies.storage.heartbeat import stale_trials
from optuna_deepweeds.studies.storage.identity import is_gone

logger = logging.getLogger(__name__)

REASON = "its worker died; the trial was run again"


def requeue_dead_trials(
    study: optuna.Study,
    checkpoints: CheckpointFolder,
    trials: Sequence[FrozenTrial] | None = None,
) -> list[FrozenTrial]:
    """Fail every running trial whose worker is gone and queue its parameters again.

    A worker is gone when its process is (seen from the same machine), or its heartbeat.

    To be called under the study's lock. A worker that was only slow finds its trial finished at
    its next report and drops it, so no trial is told twice. A reaper that dies half-way leaves
    nothing behind that the next one does not pick up.

    Args:
        study: The study.
        checkpoints: Its checkpoints.
        trials: Its trials, where they have just been read.

    Returns:
        The trials that were queued again.
    """
    storage = study._storage
    if trials is None:
        trials = study.get_trials(deepcopy=False)
    running = [t for t in trials if t.state == TrialState.RUNNING]
    left = {t._trial_id: t for t in running if is_gone(t.user_attrs.get(attributes.WORKER, ""))}
    if running:
        left |= {t._trial_id: t for t in stale_trials(study)}
    for trial in left.values():
        try:
            storage.set_trial_system_attr(trial._trial_id, attributes.INTERRUPTED, True)
            storage.set_trial_user_attr(trial._trial_id, attributes.FAILURE, REASON)
            storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        except optuna.exceptions.UpdateFinishedTrialError:
            continue  # It was only slow, and ended after all.
    if left:
        trials = study.get_trials(deepcopy=False)
    linked = [attributes.linked_trials(t.user_attrs, attributes.RETRY_OF) for t in trials]
    retried: set[int] = set().union(*linked)
    dead = [
        t
        for t in trials
        if t.state == TrialState.FAIL
        and attributes.INTERRUPTED in t.system_attrs
        and t.number not in retried
    ]
    for trial in dead:
        _retry(study, trial, checkpoints)
        logger.warning("trial %d was left by a dead worker; it is run again.", trial.number)
    return dead


def _retry(study: optuna.Study, trial: FrozenTrial, checkpoints: CheckpointFolder) -> None:
    """Queue the parameters of `trial`; with its curve up to the checkpoint if there is one."""
    kept = (attributes.SEED, attributes.ENQUEUED_PRIOR)
    user_attrs = {key: trial.user_attrs[key] for key in kept if key in trial.user_attrs}
    user_attrs[attributes.RETRY_OF] = trial.number
    # The root also seeds the training run, so a retry from the first epoch keeps it too.
    user_attrs[attributes.ROOT] = root_number(trial)
    epoch = trial.user_attrs.get(attributes.CHECKPOINT)
    curve: dict[int, float] = {}
    # What Optuna's enqueue_trial writes; without parameters (the worker died before it suggested
    # any) the trial samples afresh.
    system_attrs: dict[str, Any] = {"fixed_params": dict(trial.params)}
    if epoch is not None and checkpoints.exists(trial):
        curve = {k: v for k, v in trial.intermediate_values.items() if k <= epoch}
        user_attrs[attributes.ORIGIN] = trial.number
        user_attrs[attributes.INHERITED] = epoch
        user_attrs[attributes.CHECKPOINT] = epoch
        for key, value in trial.system_attrs.items():
            rung = key.removeprefix(attributes.RUNG)
            if key != rung and int(rung) <= epoch:
                system_attrs[key] = value
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=user_attrs,
            system_attrs=system_attrs,
            intermediate_values=curve,
        )
    )
