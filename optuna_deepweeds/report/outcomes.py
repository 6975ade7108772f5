"""One value for each trial that counts: its final value, or what DORA expected of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.report.view import StudyView


@dataclass(frozen=True)
class Outcome:
    """A trial and its value in the study's own direction.

    Attributes:
        trial: A complete trial, or a stopped one that none continues.
        value: The final value, the expected one, or else the last reported one.
        is_final: Whether the trial was trained to its end.
    """

    trial: FrozenTrial
    value: float
    is_final: bool


def outcomes(view: StudyView) -> list[Outcome]:
    """The outcomes of a study's own trials, in their order; those without a value are left out."""
    found = []
    for trial in view.trials:
        if trial.number in view.replaced or not trial.params:
            continue
        if trial.state == TrialState.COMPLETE:
            value, is_final = trial.value, True
        elif trial.state == TrialState.PRUNED:
            value, is_final = _expected(trial), False
        else:
            continue
        if value is not None and math.isfinite(value):
            found.append(Outcome(trial, float(value), is_final))
    return found


def _expected(trial: FrozenTrial) -> float | None:
    foreseen = trial.user_attrs.get(attributes.ANTICIPATION) or {}
    expected = foreseen.get("expected")
    return trial.value if expected is None else float(expected)


def last_value(trial: FrozenTrial) -> float | None:
    """The value at the trial's last reported epoch, or its final value, if finite."""
    if trial.intermediate_values:
        value: float | None = trial.intermediate_values[max(trial.intermediate_values)]
    else:
        value = trial.value
    return value if value is not None and math.isfinite(value) else None
