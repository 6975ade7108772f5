"""Continuing a paused trial from its checkpoint, as a new trial that inherits its curve."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError

_CARRIED = (attributes.SEED, attributes.CHECKPOINT, attributes.ENQUEUED_PRIOR)
"""User attributes that hold for a whole chain of continuations."""


def continue_trial(study: Study, parent: FrozenTrial) -> None:
    """Queue a trial that goes on where `parent` paused; the next `study.ask()` returns it.

    The new trial has the parameters, the curve and the rung marks of `parent` and names it as its
    origin, by which `parent` is replaced from now on. To be called under the study's lock,
    together with the choice of `parent`.

    Raises:
        InvalidInputError: `parent` is not a pruned trial, or has been continued already.
    """
    if parent.state != TrialState.PRUNED:
        raise InvalidInputError(
            f"only a pruned trial can be continued, but trial {parent.number} is "
            f"{parent.state.name}."
        )
    if parent.number in superseded(study.get_trials(deepcopy=False)):
        raise InvalidInputError(f"trial {parent.number} has been continued already.")
    user_attrs: dict[str, Any] = {
        key: parent.user_attrs[key] for key in _CARRIED if key in parent.user_attrs
    }
    user_attrs[attributes.ORIGIN] = parent.number
    user_attrs[attributes.ROOT] = parent.user_attrs.get(attributes.ROOT, parent.number)
    user_attrs[attributes.INHERITED] = max(parent.intermediate_values, default=0)
    system_attrs: dict[str, Any] = {
        key: value for key, value in parent.system_attrs.items() if key.startswith(attributes.RUNG)
    }
    system_attrs["fixed_params"] = dict(parent.params)  # what Optuna's enqueue_trial writes
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=parent.params,
            distributions=parent.distributions,
            user_attrs=user_attrs,
            system_attrs=system_attrs,
            intermediate_values=parent.intermediate_values,
        )
    )


def superseded(trials: Iterable[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that another one of `trials` continues or runs again."""
    keys = (attributes.ORIGIN, attributes.RETRY_OF)
    return set().union(*(attributes.linked_trials(t.user_attrs, *keys) for t in trials))


def lineage(trials: Iterable[FrozenTrial], number: int) -> list[int]:
    """Return the chain of origins and retries that ends in trial `number`, oldest first."""
    before = {}
    for trial in trials:
        for key in (attributes.RETRY_OF, attributes.ORIGIN):
            for number_before in attributes.linked_trials(trial.user_attrs, key):
                before[trial.number] = number_before
    chain = [number]
    while chain[-1] in before and before[chain[-1]] not in chain:
        chain.append(before[chain[-1]])
    return chain[::-1]
