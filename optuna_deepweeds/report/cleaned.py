"""A study as Optuna's own plots should see it.

In it a chain of continued trials is one trial, the last; trials that were run again are left out;
and stopped ones count as complete, with the end that is expected of them.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.report.view import StudyView


class FixedStudy(optuna.Study):
    """A study in memory that holds given trials under their own numbers; not to be written."""

    def __init__(self, direction: optuna.study.StudyDirection, fixed: Iterable[FrozenTrial]):
        made = optuna.create_study(direction=direction)
        super().__init__(made.study_name, made._storage)
        self._fixed = list(fixed)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials; never copied."""
        return [t for t in self._fixed if states is None or t.state in states]


def cleaned(view: StudyView) -> list[FrozenTrial]:
    """The trials, all of them complete, each with its final or expected value.

    Trials without parameters or without an end are left out.
    """
    return [
        _bare(trial, TrialState.COMPLETE, value)
        for trial in view.trials
        if trial.number not in view.replaced
        and trial.params
        and (value := view.end_of(trial)) is not None
    ]


def as_they_ran(chosen: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The same trials in their real states."""
    return [_bare(t, t.state, t.value) for t in chosen]


def _bare(trial: FrozenTrial, state: TrialState, value: float | None) -> FrozenTrial:
    """`trial` without attributes and curve, which plots would write into every hover text."""
    copied = copy.copy(trial)
    copied.state, copied.value = state, value
    copied.user_attrs, copied.system_attrs, copied.intermediate_values = {}, {}, {}
    return copied
