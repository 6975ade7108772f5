"""Chains of trials that continue or repeat one another, and what a trial is worth."""

from __future__ import annotations

import math
from typing import Any

import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes, trials


def _trial(
    number: int,
    state: TrialState = TrialState.PRUNED,
    value: float | None = None,
    *,
    interrupted: bool = False,
    **user_attrs: Any,
) -> FrozenTrial:
    keys = {
        "origin": attributes.ORIGIN,
        "retry_of": attributes.RETRY_OF,
        "root": attributes.ROOT,
        "expected": attributes.ANTICIPATION,
    }
    trial = create_trial(
        state=state,
        value=value,
        user_attrs={keys[key]: content for key, content in user_attrs.items()},
        system_attrs={attributes.INTERRUPTED: True} if interrupted else {},
    )
    trial.number = number
    return trial


def test_a_chain_follows_origins_and_replaced_follows_retries_too() -> None:
    study = [
        _trial(0),
        _trial(1, origin=0, root=0),
        _trial(2, TrialState.FAIL, interrupted=True),
        _trial(3, TrialState.FAIL, origin=1, root=0, interrupted=True),
        _trial(4, retry_of=2, root=2),
        _trial(5, retry_of=3, origin=3, root=0),
    ]
    assert [t.number for t in trials.chain(study[5], dict(enumerate(study)))] == [0, 1, 3, 5]
    assert [t.number for t in trials.chain(study[4], dict(enumerate(study)))] == [4]
    assert [t.number for t in trials.chain(study[0], dict(enumerate(study)))] == [0]
    assert trials.replaced(study) == {0, 1, 2, 3}
    assert [trials.root(t) for t in study] == [0, 0, 2, 0, 2, 0]
    assert [trials.was_interrupted(t) for t in study] == [False, False, True, True, False, False]


def test_attributes_that_anyone_overwrote_are_taken_for_absent() -> None:
    study = [_trial(0, origin="x", root=-1), _trial(1, origin=1), _trial(2, origin=True)]
    study += [_trial(3, origin=4), _trial(4, origin=3, retry_of=99)]
    assert trials.replaced(study) == {3, 4, 99}
    assert [[t.number for t in trials.chain(s, dict(enumerate(study)))] for s in study] == [
        [0], [1], [2], [4, 3], [3, 4],
    ]  # fmt: skip
    assert trials.root(study[0]) == 0


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (_trial(0, TrialState.COMPLETE, 0.5), 0.5),
        (_trial(0, TrialState.COMPLETE, 0.5, expected={"expected": 0.9}), 0.5),
        (_trial(0, TrialState.COMPLETE, math.inf), math.inf),
        (_trial(0, TrialState.PRUNED, 0.5, expected={"expected": 0.9}), 0.9),
        (_trial(0, TrialState.PRUNED, 0.5), None),
        (_trial(0, expected={"expected": None}), None),
        (_trial(0, expected={"expected": math.inf}), None),
        (_trial(0, expected={"expected": True}), None),
        (_trial(0, expected="junk"), None),
        (_trial(0, TrialState.FAIL, expected={"expected": 0.9}), None),
    ],
)
def test_a_trial_is_worth_its_value_or_its_forecast(
    trial: FrozenTrial, expected: float | None
) -> None:
    assert trials.expected_end(trial) == expected


def test_the_sign_makes_larger_better() -> None:
    assert trials.sign(StudyDirection.MAXIMIZE) == 1.0
    assert trials.sign(StudyDirection.MINIMIZE) == -1.0
