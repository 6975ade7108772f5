"""Where configurations came from, and whether first steps misled."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds.attributes import ENQUEUED_PRIOR, ORIGIN, SUGGESTED
from optuna_deepweeds.report.origins import misleading_steps, suggestions

RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def trial_of(number: int = 0, curve: Any = (), **kwargs: Any) -> FrozenTrial:
    trial = create_trial(
        state=TrialState.PRUNED,
        intermediate_values=dict(enumerate(map(float, curve), start=1)),
        **kwargs,
    )
    trial.number = number
    return trial


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (RISING, RISING, []),
        (RISING, RISING[::-1], [1]),
        (RISING, RISING[:0:-1], []),  # seven trials are too few to tell
        (RISING, [0.5] * 8, []),
        (RISING, [0.4, 0.3, 0.6, 0.1, 0.8, 0.5, 0.2, 0.7], []),  # no order is not the opposite
    ],
)
def test_a_step_misleads_when_the_order_turns_round(
    first: list[float], second: list[float], expected: list[int]
) -> None:
    trials = [trial_of(i, curve) for i, curve in enumerate(zip(first, second, strict=False))]
    assert misleading_steps(trials, StudyDirection.MAXIMIZE) == expected
    assert misleading_steps(trials, StudyDirection.MINIMIZE) == expected
    continued = trial_of(8, [0.9, 0.9], user_attrs={ORIGIN: 0})
    assert misleading_steps([*trials[:7], continued], StudyDirection.MAXIMIZE) == []


def test_suggestions_are_counted_by_their_origin() -> None:
    told = [{SUGGESTED: "start"}, *[{SUGGESTED: "model"}] * 3, {SUGGESTED: "probe"}]
    trials = [trial_of(user_attrs=attrs) for attrs in told]
    trials.append(trial_of(user_attrs={SUGGESTED: "model", ORIGIN: 1}))
    trials.append(trial_of(user_attrs={ENQUEUED_PRIOR: "digest"}))
    assert suggestions(trials) == {
        "model": 3, "drawn before there was a model": 1, "model, to probe": 1, "priors": 1,
    }  # fmt: skip
    assert suggestions([trial_of()]) == {}
