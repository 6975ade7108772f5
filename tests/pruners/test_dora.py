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

from optuna_deepweeds.attributes import ANTICIPATION, RETRY_OF, RUNG
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
    study = dora_study(2, reduction_factor=2, first_share=0.5)
    answers = run_trials(study, [reports_of([v, v + 1]) for v in first_values])
    assert [len(a) if a[-1] else None for a in answers] == expected


@pytest.mark.parametrize("n_finished", [4, 5])
def test_trial_whose_bound_is_below_the_best_of_five_or_more_stops_between_rungs(
    n_finished: int,
) -> None:
    study = dora_study(20)
    for final_gain in (0.10, 0.11, 0.12, 0.13, 0.14)[:n_finished]:
        # Each begins a little better than the one before, so all pass the rungs.
        assert not any(run_trial(study, line(0.5 + final_gain, final_gain, 20)))
    rising = line(0.7, 0.12, 20)
    answers = run_trial(study, [rising[1], rising[2], rising[3], *[0.6] * 5])
    if n_finished < 5:
        assert not any(answers)
        return
    assert answers == [False, False, False, True]
    attribute = foreseen(study.trials[-1])
    assert attribute["decision"] == "stop"
    assert attribute["reason"] == "its forecast stays below the best final value"
    assert attribute["low"] < attribute["expected"] < attribute["high"] < attribute["incumbent"]


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


def test_imported_trials_without_marks_do_not_count_at_rungs() -> None:
    study = dora_study()
    for curve in random_curves(20) + 10:
        study.add_trial(create_trial(value=curve[-1], intermediate_values=reports_of(curve)))
    assert not started(study, 0.1).should_prune()


def test_retried_trial_counts_once_and_inherits_no_mark() -> None:
    study = dora_study(first_share=0.5)
    run_trial(study, [0.5])
    lost = started(study, 0.9)
    assert not lost.should_prune()
    study.tell(lost, state=TrialState.FAIL)
    RetryHeartbeatStaleTrialCallback()(study, study.trials[1])
    retried = study.ask()
    assert f"{RUNG}1" in study.trials[2].system_attrs  # copied from the first attempt
    # Of 0.5 and 0.6 alone the latter leads: neither 0.9 nor its copy stands in its way.
    assert not started(study, 0.6).should_prune()
    retried.report(0.2, 1)
    assert retried.should_prune()
    assert study.trials[2].system_attrs[f"{RUNG}1"] == 0.2


def test_trial_run_again_replaces_its_first_attempt() -> None:
    study = dora_study(first_share=0.5)
    lost = started(study, 0.9)
    lost.should_prune()
    study.tell(lost, state=TrialState.FAIL)
    study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={RETRY_OF: 0}))
    study.ask()
    assert not started(study, 0.1).should_prune()


def test_rung_that_was_reported_but_never_asked_about_is_caught_up() -> None:
    study = dora_study()
    run_trials(study, random_curves(9))
    # The worker died between report and question, and went on at step 2.
    assert started(study, 0.0, 0.0, 0.0).should_prune()
    assert f"{RUNG}1" in study.trials[-1].system_attrs


def test_prior_curves_judge_the_very_first_trial() -> None:
    informed = dora_study(prior_curves=random_curves(30))
    poor = line(0.0, 0.1, 9)
    assert not any(run_trial(dora_study(), poor))
    assert run_trial(informed, poor) == [True]
    assert foreseen(informed.trials[0])["expected"] > 0.0
    assert not any(run_trial(informed, line(0.9, 0.1, 9)))


def test_misleading_prior_curves_cannot_stop_a_study() -> None:
    study = dora_study(prior_curves=random_curves(30) + 100)
    run_trials(study, random_curves(40))
    assert any(t.state == TrialState.COMPLETE for t in study.trials)
    lengths = [max(t.intermediate_values) for t in study.trials]
    assert lengths[:3] == [1, 1, 9]  # what the wrong prior costs are the first two


@pytest.mark.parametrize("right_for", [0, 2])
@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_prior_curves_that_are_too_high_cost_a_short_while(seed: int, right_for: int) -> None:
    curves = random_curves(80, seed=1)
    curves[:, right_for:] += 0.5
    study = dora_study(prior_curves=curves)
    run_trials(study, random_curves(24, seed=seed))
    assert any(t.state == TrialState.COMPLETE for t in study.trials)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_resource": 0}, "max_resource >= min_resource"),
        ({"max_resource": 9, "min_resource": 0}, "min_resource >= 1"),
        ({"max_resource": 3, "min_resource": 4}, "max_resource=3, min_resource=4"),
        ({"max_resource": 9, "reduction_factor": 1}, "reduction_factor >= 2"),
        ({"max_resource": 9, "first_share": 0.0}, "first_share"),
        ({"max_resource": 9, "first_share": 1.5}, "first_share"),
        ({"max_resource": 9, "first_share": "1/3"}, "first_share"),
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
    study = dora_study(first_share=1.0)
    for i in range(8):  # the better at step 1, the worse at step 3
        run_trial(study, [0.5 + 0.01 * i, 0.5, 0.5 - 0.01 * i])
    study.pruner = DoraPruner(max_resource=9, first_share=0.1)
    assert run_trial(study, [0.1, 0.5, 0.55])[:2] == [False, False]
    assert study.trials[-1].user_attrs[ANTICIPATION]["epoch"] == 3
    for i in range(30):  # trials of all ranks come to step 3, and now keep their order
        run_trial(study, [0.2 + 0.01 * i, 0.5, 0.2 + 0.01 * i])
    assert run_trial(study, [0.1]) == [True]
