"""DORA's decisions, case by case, and that nothing but the storage decides."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds.attributes import ANTICIPATION, RETRY_OF
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners import DoraPruner
from tests.pruners.contract import (
    new_study,
    random_curves,
    reports_of,
    run_trial,
    run_trials,
    started,
)


def dora_study(max_resource: int = 9, *, direction: str = "maximize", **options: Any) -> Study:
    return new_study(DoraPruner(max_resource=max_resource, **options), direction)


def line(start: float, gain: float, length: int) -> dict[int, float]:
    """A curve that rises linearly from `start` by `gain` within `length` steps."""
    return reports_of(np.linspace(start, start + gain, length))


def foreseen(trial: FrozenTrial) -> dict[str, Any]:
    attribute: dict[str, Any] = trial.user_attrs[ANTICIPATION]
    assert set(attribute) == {
        "epoch", "expected", "low", "high", "incumbent", "decision", "reason",
    }  # fmt: skip
    return attribute


# Rung 1 of 2: one in two passes, which keeps the tables short.
@pytest.mark.parametrize(
    ("first_values", "expected"),
    [
        ([0.5], [None]),
        ([0.5, 0.4], [None, 1]),
        ([0.4, 0.5], [None, None]),
        ([0.5, 0.5], [None, 1]),  # an equal value ranks behind the earlier one
        ([0.5, 0.4, 0.3, 0.45], [None, 1, 1, None]),
        ([0.5, 0.6, 0.7, 0.1, 0.65], [None, None, None, 1, None]),
        ([0.5, math.nan, 0.4], [None, 1, 1]),  # a broken trial counts only where it came to
    ],
)
def test_first_rung(first_values: list[float], expected: list[int | None]) -> None:
    study = dora_study(2, reduction_factor=2)
    answers = run_trials(study, [reports_of([v, v + 1]) for v in first_values])
    assert [len(a) if a[-1] else None for a in answers] == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_non_finite_report_stops_the_trial(bad: float, direction: str) -> None:
    study = dora_study(direction=direction)
    assert run_trial(study, [0.5, bad]) == [False, True]
    attribute = foreseen(study.trials[0])
    assert attribute["expected"] is None
    assert attribute["reason"] == "the report is not finite"


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_stopped_trial_always_carries_a_forecast_in_the_study_s_units(direction: str) -> None:
    study = dora_study(direction=direction)
    curves = random_curves(40)
    run_trials(study, curves if direction == "maximize" else 1 - curves)
    stopped = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert stopped
    for trial in stopped:
        attribute = foreseen(trial)
        assert isinstance(attribute["expected"], float)
        assert attribute["epoch"] == max(trial.intermediate_values)
        assert attribute["decision"] == "stop" and attribute["reason"]
    informed = [a for a in map(foreseen, stopped) if a["low"] is not None]
    assert informed
    finals = [t.value for t in study.trials if t.state == TrialState.COMPLETE]
    for attribute in informed:
        assert attribute["low"] <= attribute["expected"] <= attribute["high"]
        assert attribute["incumbent"] in finals


def test_one_pruner_serves_several_studies() -> None:
    pruner = DoraPruner(max_resource=9)
    first, second = new_study(pruner), new_study(pruner, "minimize")
    run_trials(first, random_curves(12))
    assert not any(run_trial(second, line(0.5, -0.1, 9)))


def test_threads_share_a_pruner() -> None:
    curves = random_curves(80)

    def objective(trial: optuna.Trial) -> float:
        for step, value in reports_of(curves[trial.number]).items():
            trial.report(value, step)
            time.sleep(0.001)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    study = dora_study()
    study.optimize(objective, n_trials=80, n_jobs=4)
    assert len(study.trials) == 80
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((3, 2, 1), "one after step 3 is below it"),
        ((100, 200), "the first one, 100, is above max_resource"),
        ((1, 3, 9), ""),
    ],
)
def test_steps_at_which_nothing_is_decided_are_told_of_once(
    steps: tuple[int, ...], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    study = dora_study()
    run_trials(study, [dict.fromkeys(steps, 0.5)] * 3)
    messages = [r.getMessage() for r in caplog.records if r.name.startswith("optuna_deepweeds")]
    assert len(messages) == bool(message)
    assert all(message in text for text in messages)


def test_imported_trials_count_at_rungs() -> None:
    study = dora_study()
    for curve in random_curves(20) + 10:
        study.add_trial(create_trial(value=curve[-1], intermediate_values=reports_of(curve)))
    assert started(study, 0.1).should_prune()


def test_trial_that_optuna_retries_counts_once() -> None:
    study = dora_study()
    run_trial(study, [0.5])
    lost = started(study, 0.9)
    assert not lost.should_prune()
    study.tell(lost, state=TrialState.FAIL)
    RetryHeartbeatStaleTrialCallback()(study, study.trials[1])
    # Neither 0.9 nor its copy, which begins anew, stands in the way of 0.6.
    assert not started(study, 0.6).should_prune()


def test_trial_run_again_replaces_its_first_attempt() -> None:
    study = dora_study()
    lost = started(study, 0.9)
    lost.should_prune()
    study.tell(lost, state=TrialState.FAIL)
    study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={RETRY_OF: 0}))
    study.ask()
    assert not started(study, 0.1).should_prune()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_resource": 0}, "max_resource >= min_resource"),
        ({"max_resource": 9, "min_resource": 0}, "min_resource >= 1"),
        ({"max_resource": 3, "min_resource": 4}, "max_resource=3, min_resource=4"),
        ({"max_resource": 9, "reduction_factor": 1}, "reduction_factor >= 2"),
        ({"max_resource": 27.0}, "`max_resource` must be a whole number, but got 27.0"),
        ({"max_resource": "27"}, "`max_resource` must be a whole number, but got '27'"),
        ({"max_resource": 27, "reduction_factor": 2.5}, "`reduction_factor` must be a whole"),
        ({"max_resource": 27, "min_resource": True}, "`min_resource` must be a whole number"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        DoraPruner(**arguments)


def test_rung_that_has_misled_is_passed_by_all_until_it_is_right_again() -> None:
    study = dora_study()
    for i in range(8):  # the better at step 1, the worse at step 3
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                intermediate_values={1: 0.5 + 0.01 * i, 2: 0.5, 3: 0.5 - 0.01 * i},
            )
        )
    assert run_trial(study, [0.1, 0.5, 0.55])[:2] == [False, False]
    for i in range(30):  # trials of all ranks come to step 3, and now keep their order
        run_trial(study, [0.2 + 0.01 * i, 0.5, 0.2 + 0.01 * i])
    assert run_trial(study, [0.1]) == [True]
