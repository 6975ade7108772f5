"""DORA's decisions, case by case, and that nothing but the storage decides."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds.attributes import ANTICIPATION, RETRY_OF, RUNG
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners import DoraPruner
from tests.pruners.contract import new_study, random_curves, run_trial


def curve_to(*values: float) -> dict[int, float]:
    return dict(enumerate(values, start=1))


def line(start: float, gain: float, length: int) -> dict[int, float]:
    """A curve that rises linearly from `start` by `gain` within `length` steps."""
    return curve_to(*np.linspace(start, start + gain, length))


def stop_steps(study: Study, curves: Sequence[dict[int, float]]) -> list[int | None]:
    """The step at which each trial was stopped, one after the other."""
    answers = [(run_trial(study, c), c) for c in curves]
    return [list(c)[len(a) - 1] if a[-1] else None for a, c in answers]


def foreseen(trial: FrozenTrial) -> dict[str, object]:
    attribute = trial.user_attrs[ANTICIPATION]
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
    study = new_study(DoraPruner(max_resource=2, reduction_factor=2, first_share=0.5))
    assert stop_steps(study, [curve_to(v, v + 1) for v in first_values]) == expected


def test_rungs_are_the_powers_of_the_reduction_factor_below_the_end() -> None:
    study = new_study(DoraPruner(max_resource=27))
    run_trial(study, line(0.1, 0.5, 27))
    marks = {k: v for k, v in study.trials[0].system_attrs.items() if k.startswith(RUNG)}
    assert list(marks) == [f"{RUNG}{rung}" for rung in (1, 3, 9)]
    assert marks[f"{RUNG}9"] == study.trials[0].intermediate_values[9]


def test_trial_whose_bound_is_below_the_incumbent_stops_between_rungs() -> None:
    study = new_study(DoraPruner(max_resource=20))
    for final_gain in (0.10, 0.11, 0.12, 0.13, 0.14):
        # Each begins a little better than the one before, so all pass the rungs.
        assert not any(run_trial(study, line(0.5 + final_gain, final_gain, 20)))
    stalling = line(0.7, 0.12, 20) | {step: 0.6 for step in range(4, 21)}
    assert stop_steps(study, [stalling]) == [4]
    attribute = foreseen(study.trials[-1])
    assert attribute["decision"] == "stop"
    assert attribute["reason"] == "its forecast stays below the best final value"
    assert attribute["low"] < attribute["expected"] < attribute["high"] < attribute["incumbent"]


def test_bound_waits_for_five_finished_trials() -> None:
    study = new_study(DoraPruner(max_resource=20))
    for final_gain in (0.10, 0.11, 0.12, 0.13):
        run_trial(study, line(0.5 + final_gain, final_gain, 20))
    stalling = line(0.7, 0.12, 20) | {step: 0.6 for step in range(4, 9)}
    answers = run_trial(study, {s: v for s, v in stalling.items() if s < 9})
    assert not any(answers)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_non_finite_report_stops_the_trial(bad: float, direction: str) -> None:
    study = new_study(DoraPruner(max_resource=9), direction)
    assert run_trial(study, {1: 0.5, 2: bad}) == [False, True]
    attribute = foreseen(study.trials[0])
    assert attribute["expected"] is None
    assert attribute["reason"] == "the report is not finite"


def test_stopped_trial_always_carries_a_forecast() -> None:
    study = new_study(DoraPruner(max_resource=9))
    for curve in random_curves(40):
        run_trial(study, curve_to(*curve))
    stopped = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert stopped
    for trial in stopped:
        attribute = foreseen(trial)
        assert isinstance(attribute["expected"], float)
        assert attribute["epoch"] == max(trial.intermediate_values)
        assert attribute["decision"] == "stop" and attribute["reason"]


def test_forecast_is_in_the_study_s_units_when_minimising() -> None:
    study = new_study(DoraPruner(max_resource=9), "minimize")
    for curve in random_curves(40):
        run_trial(study, curve_to(*(1 - curve)))
    informed = [
        foreseen(t)
        for t in study.trials
        if ANTICIPATION in t.user_attrs and foreseen(t)["low"] is not None
    ]
    assert informed
    for attribute in informed:
        assert attribute["low"] <= attribute["expected"] <= attribute["high"]
        assert attribute["incumbent"] >= min(t.value for t in study.trials if t.value is not None)


def test_a_fresh_pruner_for_each_question_decides_alike() -> None:
    def answers(is_fresh: bool) -> list[list[bool]]:
        pruner = DoraPruner(max_resource=9)
        study = new_study(pruner)
        result = []
        for curve in random_curves(40, seed=3):
            if is_fresh:
                study.pruner = pickle.loads(pickle.dumps(pruner))
            result.append(run_trial(study, curve_to(*curve)))
        return result

    assert answers(is_fresh=True) == answers(is_fresh=False)


def test_one_pruner_serves_several_studies() -> None:
    pruner = DoraPruner(max_resource=9)
    first, second = new_study(pruner), new_study(pruner, "minimize")
    for curve in random_curves(12):
        run_trial(first, curve_to(*curve))
    assert not any(run_trial(second, line(0.5, -0.1, 9)))


def test_two_processes_on_one_storage_decide_alike(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(
        study_name="s", storage=url, direction="maximize", pruner=DoraPruner(max_resource=9)
    )
    for curve in random_curves(6):
        run_trial(study, curve_to(*curve))
    other = optuna.load_study(study_name="s", storage=url, pruner=DoraPruner(max_resource=9))
    trial = other.ask()
    trial.report(float(np.max(random_curves(6)[:, 0])) + 0.1, 1)
    assert not trial.should_prune()
    beaten = study.ask()
    beaten.report(0.0, 1)
    assert beaten.should_prune()


def test_threads_share_a_pruner() -> None:
    pruner = DoraPruner(max_resource=9)
    curves = random_curves(80)

    def objective(trial: optuna.Trial) -> float:
        for step, value in enumerate(curves[trial.number], start=1):
            trial.report(float(value), step)
            time.sleep(0.001)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(value)

    study = new_study(pruner)
    study.optimize(objective, n_trials=80, n_jobs=4)
    states = [trial.state for trial in study.trials]
    assert len(states) == 80
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}


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
    study = new_study(DoraPruner(max_resource=9))
    for _ in range(3):
        run_trial(study, dict.fromkeys(steps, 0.5))
    messages = [r.getMessage() for r in caplog.records if r.name.startswith("optuna_deepweeds")]
    assert len(messages) == bool(message)
    assert all(message in text for text in messages)


def test_imported_trials_without_marks_do_not_count_at_rungs() -> None:
    study = new_study(DoraPruner(max_resource=9))
    for curve in random_curves(20):
        trial = create_trial(
            value=float(curve[-1] + 10), intermediate_values=curve_to(*curve + 10)
        )
        study.add_trial(trial)
    trial = study.ask()
    trial.report(0.1, 1)
    assert not trial.should_prune()


def test_retried_trial_counts_once_and_inherits_no_mark() -> None:
    study = new_study(DoraPruner(max_resource=9, first_share=0.5))
    run_trial(study, curve_to(0.5))
    lost = study.ask()
    lost.report(0.9, 1)
    assert not lost.should_prune()
    study.tell(lost, state=TrialState.FAIL)
    failed = study.trials[1]
    RetryHeartbeatStaleTrialCallback()(study, failed)
    retried = study.ask()
    assert f"{RUNG}1" in study.trials[2].system_attrs  # copied from the first attempt
    third = study.ask()
    third.report(0.6, 1)
    # Of 0.5 and 0.6 alone the latter leads: neither 0.9 nor its copy stands in its way.
    assert not third.should_prune()
    retried.report(0.2, 1)
    assert retried.should_prune()
    assert study.trials[2].system_attrs[f"{RUNG}1"] == 0.2


def test_trial_run_again_replaces_its_first_attempt() -> None:
    study = new_study(DoraPruner(max_resource=9, first_share=0.5))
    lost = study.ask()
    lost.report(0.9, 1)
    lost.should_prune()
    study.tell(lost, state=TrialState.FAIL)
    study.add_trial(create_trial(state=TrialState.WAITING, user_attrs={RETRY_OF: 0}))
    study.ask()
    trial = study.ask()
    trial.report(0.1, 1)
    assert not trial.should_prune()


def test_rung_that_was_reported_but_never_asked_about_is_caught_up() -> None:
    study = new_study(DoraPruner(max_resource=9))
    for curve in random_curves(9):
        run_trial(study, curve_to(*curve))
    trial = study.ask()
    trial.report(0.0, 1)
    trial.report(0.0, 2)  # the worker died between report and question, and went on at step 2
    trial.report(0.0, 3)
    assert trial.should_prune()
    assert f"{RUNG}1" in study.trials[-1].system_attrs


def test_prior_curves_judge_the_very_first_trial() -> None:
    curves = list(random_curves(30))
    informed = new_study(DoraPruner(max_resource=9, prior_curves=curves))
    plain = new_study(DoraPruner(max_resource=9))
    poor = line(0.0, 0.1, 9)
    assert not any(run_trial(plain, poor))
    assert run_trial(informed, poor) == [True]
    assert foreseen(informed.trials[0])["expected"] > 0.0
    assert not any(run_trial(informed, line(0.9, 0.1, 9)))


def test_misleading_prior_curves_cannot_stop_a_study() -> None:
    unreachable = [curve + 100 for curve in random_curves(30)]
    study = new_study(DoraPruner(max_resource=9, prior_curves=unreachable))
    for curve in random_curves(40):
        run_trial(study, curve_to(*curve))
    assert any(t.state == TrialState.COMPLETE for t in study.trials)
    lengths = [max(t.intermediate_values) for t in study.trials]
    assert lengths[:2] == [1] * 2  # what the wrong prior costs
    assert lengths[2] == 9


@pytest.mark.parametrize("right_for", [0, 2])
@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_prior_curves_that_are_too_high_cost_a_short_while(seed: int, right_for: int) -> None:
    curves = random_curves(80, seed=1)
    curves[:, right_for:] += 0.5
    study = new_study(DoraPruner(max_resource=9, prior_curves=curves))
    for curve in random_curves(24, seed=seed):
        run_trial(study, curve_to(*curve))
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
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        DoraPruner(**arguments)  # type: ignore[arg-type]


def test_rung_that_has_misled_is_passed_by_all_until_it_is_right_again() -> None:
    study = new_study(DoraPruner(max_resource=9, first_share=1.0))
    for i in range(8):  # the better at step 1, the worse at step 3
        run_trial(study, {1: 0.5 + 0.01 * i, 2: 0.5, 3: 0.5 - 0.01 * i})
    study.pruner = DoraPruner(max_resource=9, first_share=0.1)
    assert run_trial(study, {1: 0.1, 2: 0.5, 3: 0.55})[:2] == [False, False]
    assert study.trials[-1].user_attrs[ANTICIPATION]["epoch"] == 3
    for i in range(30):  # trials of all ranks come to step 3, and now keep their order
        run_trial(study, {1: 0.2 + 0.01 * i, 2: 0.5, 3: 0.2 + 0.01 * i})
    assert run_trial(study, {1: 0.1}) == [True]
