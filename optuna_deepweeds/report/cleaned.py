"""A study as Optuna's own plots should see it.

In it a chain of continued trials is one trial, the last; trials that were run again are left out;
and stopped ones count as complete, with the end that the pruner expected of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import trials
from optuna_deepweeds.report.view import StudyView


class FixedStudy(optuna.Study):
    """A study in memory that holds given trials under their own numbers; not to be written.

    Optuna's plots take a trial's number for its place: numbers that are missing are filled with
    failed trials without parameters.
    """

    def __init__(self, direction: optuna.study.StudyDirection, fixed: Sequence[FrozenTrial]):
        made = optuna.create_study(direction=direction)
        super().__init__(made.study_name, made._storage)
        by_number = {trial.number: trial for trial in fixed}
        numbers = range(max(by_number, default=-1) + 1)
        self._fixed = [by_number.get(number) or _gap(number) for number in numbers]

    @property
    def complete(self) -> list[FrozenTrial]:
        """Its complete trials."""
        return self.get_trials(states=(TrialState.COMPLETE,))

    def best(self, n: int) -> FixedStudy:
        """The study of its best `n` complete trials."""
        sign = trials.sign(self.direction)
        ranked = sorted(self.complete, key=lambda t: -sign * t.values[0])
        return FixedStudy(self.direction, ranked[:n])

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials; never copied."""
        return [t for t in self._fixed if states is None or t.state in states]


def cleaned(view: StudyView) -> FixedStudy:
    """The study whose trials all count as complete, each with its final or expected value.

    Trials without parameters or without an end are left out.
    """
    found = []
    for trial in view.trials:
        if trial.number in view.replaced or not trial.params:
            continue
        value = end_of(trial)
        if value is not None:
            found.append(_bare(trial, TrialState.COMPLETE, value))
    return FixedStudy(view.direction, found)


def as_they_ran(view: StudyView) -> FixedStudy:
    """All trials in their real states, those too that others continue or run again."""
    return FixedStudy(view.direction, [_bare(t, t.state, t.value) for t in view.trials])


def end_of(trial: FrozenTrial) -> float | None:
    """The final value of a complete trial, the expected or else the last one of a stopped one."""
    value = trials.expected_end(trial)
    if value is None and trial.state == TrialState.PRUNED:
        value = last_value(trial)
    return value if value is not None and math.isfinite(value) else None


def last_value(trial: FrozenTrial) -> float | None:
    """The value at the trial's last reported epoch, or its final value, if finite."""
    curve = trial.intermediate_values
    value = curve[max(curve)] if curve else trial.value
    return value if value is not None and math.isfinite(value) else None


def _bare(trial: FrozenTrial, state: TrialState, value: float | None) -> FrozenTrial:
    """`trial` without attributes and curve, which plots would write into every hover text."""
    copied = copy.copy(trial)
    copied.state, copied.value = state, value
    copied.user_attrs, copied.system_attrs, copied.intermediate_values = {}, {}, {}
    return copied


def _gap(number: int) -> FrozenTrial:
    trial = create_trial(state=TrialState.FAIL)
    trial.number = number
    return trial
