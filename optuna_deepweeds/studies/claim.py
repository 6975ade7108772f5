"""Claiming a trial: what `ending.verdict` allows, made a running trial with its parameters.

Everything here is done under the study's lock: what one worker is allowed counts for the next,
the samplers of others see the parameters, and no two workers train the same network.
"""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError
from optuna_deepweeds.spaces.search_space import SearchSpace, contains
from optuna_deepweeds.studies import resume
from optuna_deepweeds.studies.accounting import ends, is_best_unfinished, progress
from optuna_deepweeds.studies.ending import (
    Close,
    Continue,
    Ending,
    Start,
    Wait,
    outlook,
    verdict,
)
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage.fenced import collecting_params
from optuna_deepweeds.studies.storage.identity import this_worker
from optuna_deepweeds.studies.storage.locks import backend
from optuna_deepweeds.tasks.run import Allowance, training_seed
from optuna_deepweeds.trials import root, sign, whole_number


@dataclass(frozen=True)
class Claim:
    """A running trial that is this worker's.

    Attributes:
        trial: The trial.
        config: Its parameters and the space's constants; empty if the task suggests for itself.
        root: Number of the first trial of its chain, which names the checkpoint.
        seed: Of its training.
        seconds: For which it was trained before.
        allowance: How far it may be trained.
        is_last: As in `ending.Start`.
        is_unjudged: Whether the worker of the trial that it runs again may have died before the
            pruner decided on its last report.
    """

    trial: optuna.Trial
    config: dict[str, Any]
    root: int
    seed: int
    seconds: float
    allowance: Allowance
    is_last: bool
    is_unjudged: bool


def claim(
    study: optuna.Study,
    spec: StudySpec,
    space: SearchSpace | None,
    trials: list[FrozenTrial],
    *,
    stop_when_flat: bool = False,
) -> Claim | FrozenTrial | Wait | Ending:
    """The next trial of `study`; one that failed before it began; or what else there is to do.

    Args:
        study: A study equipped by `manager`.
        spec: Its specification.
        space: Of its task.
        trials: Its trials as they are now.
        stop_when_flat: Whether the study ends once the rest of its budget promises little.

    Raises:
        InvalidInputError: If the study has no limit.
    """
    attrs = study.user_attrs
    budget = Budget.from_json(attrs.get(attributes.BUDGET))
    if budget == Budget():
        raise InvalidInputError(
            f"study {study.study_name!r} must have a limit, or it would never end; "
            f"set one: study resume {shlex.quote(study.study_name)} --trials N"
        )
    waiting = [t for t in trials if t.state == TrialState.WAITING]
    closing = [t for t in waiting if t.user_attrs.get(attributes.CLOSING)]
    state = progress(trials, study.direction)
    is_flat = bool(attrs.get(attributes.FLAT))
    if stop_when_flat and state.complete and not is_flat and not waiting:
        foreseen = outlook(budget, state, ends(trials, study.direction))
        if foreseen is not None and foreseen.is_flat:
            study.set_user_attr(attributes.FLAT, asdict(foreseen))  # For all workers.
            is_flat = True
    decision = verdict(
        budget,
        state,
        full=spec.epochs,
        may_continue=spec.thaw,
        best_is_unfinished=is_best_unfinished(trials, study.direction),
        closing_waits=bool(closing),
        is_flat=is_flat,
        asked_to_stop=bool(attrs.get(attributes.STOP)),
    )
    if not isinstance(decision, Start):
        return decision
    is_rest = decision.is_last and not decision.allowance.must_finish
    allowance = replace(decision.allowance, is_rest=is_rest)

    def can_end(trial: FrozenTrial) -> bool:
        """Whether the end of the study does not cut off a trial that has begun, maybe ahead."""
        if not is_rest or allowance.epochs is None or trial.last_step is None:
            return True
        return trial.last_step + allowance.epochs >= spec.epochs

    # What runs again goes first, as if nothing had been.
    waiting = closing or [t for t in waiting if can_end(t)]
    queued = min(waiting, key=lambda t: (root(t), t.number), default=None)
    if isinstance(decision, Continue) and not closing:
        stopped = _stopped(study, is_closing=isinstance(decision, Close))
        begun = [t for t in waiting if t.intermediate_values]
        leading = max(begun, key=partial(_last_value, study), default=None)
        if leading and (not stopped or _last_value(study, leading) > _last_value(study, stopped)):
            queued = leading
        elif stopped is not None and can_end(stopped):
            queued = study._storage.get_trial(resume.continue_trial(study, stopped))
        elif is_flat and state.complete:
            return Ending.FLAT
        elif state.complete:  # Of those that are ahead none can be continued any more.
            allowance = replace(allowance, must_finish=False)
    made = _begin(study, spec, space, queued, allowance, is_last=decision.is_last)
    if isinstance(made, Claim) and queued is not None:
        return replace(made, is_unjudged=_is_unjudged(queued, trials))
    return made


def fail(
    study: optuna.Study, trial_id: int, reason: str, error: Exception | None = None
) -> FrozenTrial:
    """End a running trial with a reason, and with the traceback of `error`."""
    noted = {attributes.FAILURE: reason}
    if error is not None:
        noted[attributes.TRACEBACK] = "".join(traceback.format_exception(error))
    backend(study._storage).settle(trial_id, TrialState.FAIL, user_attrs=noted)
    return study._storage.get_trial(trial_id)


def _stopped(study: optuna.Study, *, is_closing: bool) -> FrozenTrial | None:
    """The stopped trial that the pruner would go on with."""
    next_continuation = getattr(study.pruner, "next_continuation", None)
    found: FrozenTrial | None = None
    if next_continuation is not None:
        found = next_continuation(study, is_closing=is_closing)
    return found


def _last_value(study: optuna.Study, trial: FrozenTrial) -> float:
    """The last report of a trial that has one; larger is better."""
    return sign(study.direction) * trial.intermediate_values[max(trial.intermediate_values)]


def _begin(
    study: optuna.Study,
    spec: StudySpec,
    space: SearchSpace | None,
    queued: FrozenTrial | None,
    allowance: Allowance,
    *,
    is_last: bool,
) -> Claim | FrozenTrial | Wait:
    """Run the trial that waits, or where there is none a new one; one that cannot begin fails."""
    storage = study._storage
    trial = None
    try:
        if queued is None:
            trial = study.ask()
            if trial.user_attrs:  # One that a worker has put back since the trials were read.
                queued = storage.get_trial(trial._trial_id)
        elif storage.set_trial_state_values(queued._trial_id, TrialState.RUNNING):
            trial = optuna.Trial(study, queued._trial_id)
        else:
            return Wait()  # Another program was faster.
        before: Mapping[str, Any] = {} if queued is None else queued.user_attrs
        n_reported = 0 if queued is None else len(queued.intermediate_values)
        first = whole_number(before.get(attributes.ROOT), trial.number)
        # A chain goes on with the seed it began with, whatever version derived that.
        seed = whole_number(before.get(attributes.SEED), training_seed(spec.seed, first))
        noted = {attributes.WORKER: this_worker(), attributes.SEED: seed}
        if allowance.epochs is not None:
            noted[attributes.ALLOWED] = min(n_reported + allowance.epochs, spec.epochs)
        if before.get(attributes.CLOSING):
            allowance = replace(allowance, must_finish=True)
        elif allowance.must_finish:
            noted[attributes.CLOSING] = True
        backend(storage).set_trial_attrs(trial._trial_id, noted)
        if queued is not None and space is not None and (reason := _misfit(space, queued)):
            return fail(study, trial._trial_id, reason)
        with collecting_params(storage):
            config = {} if space is None else space.suggest(trial)
    except DeepWeedsError:
        raise
    except UpdateFinishedTrialError:
        return Wait()  # So slow that it was given to another.
    except Exception as error:  # Of the sampler.
        failed = queued or trial or _orphan(study)
        if failed is None:
            raise
        return fail(study, failed._trial_id, f"{type(error).__name__}: {error}", error)
    seconds = before.get(attributes.TRAIN_SECONDS)
    seconds = float(seconds) if isinstance(seconds, (int, float)) else 0.0
    return Claim(trial, config, first, seed, seconds, allowance, is_last, is_unjudged=False)


def _is_unjudged(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
    last = trial.last_step
    for dead in (t for t in trials if t.number == trial.user_attrs.get(attributes.RETRY_OF)):
        inherited = whole_number(dead.user_attrs.get(attributes.INHERITED), 0)
        return last is not None and inherited < last == dead.last_step
    return False


def _misfit(space: SearchSpace, trial: FrozenTrial) -> str | None:
    """Why the parameters that a trial was queued with do not fit the space."""
    for name, value in trial.system_attrs.get("fixed_params", {}).items():
        if name in space.distributions and not contains(space[name].distribution, value):
            allowed = space[name].distribution
            return f"its parameters do not fit the space: {name} is {value!r}, not in {allowed}"
    return None


def _orphan(study: optuna.Study) -> FrozenTrial | None:
    """The trial that `ask` made before it failed: the newest, no worker has its name on it."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return next((t for t in reversed(running) if attributes.WORKER not in t.user_attrs), None)
