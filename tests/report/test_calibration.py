"""Anticipations against outcomes."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.pruners import make_pruner
from optuna_deepweeds.report.calibration import Foreseen, judged, summary


def _trial(
    *,
    expected: float | None = None,
    epoch: int = 3,
    low: float | None = 0.0,
    high: float | None = 0.6,
    value: float | None = None,
    attrs: dict[str, Any] | None = None,
) -> FrozenTrial:
    """A complete trial of 9 epochs if it has a value, else one that paused after `epoch`."""
    user_attrs = dict(attrs or {})
    if expected is not None:
        user_attrs[attributes.ANTICIPATION] = {
            "epoch": epoch, "expected": expected, "low": low, "high": high,
            "incumbent": None, "decision": "continue", "reason": "",
        }  # fmt: skip
    last = epoch if value is None else 9
    return create_trial(
        state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
        value=0.0 if value is None else value,
        user_attrs=user_attrs,
        intermediate_values={step: 0.1 * step for step in range(1, last + 1)},
    )


def _study(*trials: FrozenTrial, direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    for trial in trials:
        study.add_trial(trial)
    return study


def points_of(study: optuna.Study) -> list[Foreseen]:
    return judged(study.trials)


def test_numbers_of_a_small_study_are_those_computed_by_hand() -> None:
    study = _study(
        _trial(expected=0.5, low=0.4, high=0.6, value=0.55),
        _trial(expected=0.6, low=0.5, high=0.7, value=0.9),
        _trial(expected=0.8, low=0.6, high=0.9, value=0.7),
    )
    assert summary(points_of(study)) == {
        "anticipations_judged": 3,
        "anticipation_error": pytest.approx((0.05 + 0.3 + 0.1) / 3),
        "anticipation_inside": pytest.approx(2 / 3),
    }


def test_a_continuation_is_judged_by_what_its_origins_foresaw() -> None:
    study = _study(
        _trial(expected=0.3, epoch=1),
        _trial(expected=0.4, epoch=3, attrs={attributes.ORIGIN: 0}),
        _trial(value=0.6, attrs={attributes.ORIGIN: 1}),
    )
    points = points_of(study)
    assert [(p.number, p.epoch, p.expected, p.outcome) for p in points] == [
        (2, 1, 0.3, 0.6),
        (2, 3, 0.4, 0.6),
    ]


@pytest.mark.parametrize(
    "trial",
    [
        _trial(expected=0.5),  # never trained to its end
        _trial(value=0.5),  # nothing foreseen
        _trial(expected=0.5, epoch=9, value=0.5),  # foreseen at the last epoch
        _trial(expected=0.5, low=None, high=None, value=0.5),  # the last value, no forecast
        _trial(expected=float("nan"), value=0.5),
        _trial(expected=0.5, value=float("inf")),
        _trial(value=0.5, attrs={attributes.ANTICIPATION: "broken"}),
    ],
)
def test_what_cannot_be_judged_is_left_out(trial: FrozenTrial) -> None:
    points = points_of(_study(trial))
    assert points == [] and summary(points) == {}


def test_an_origin_that_points_at_itself_ends_the_chain() -> None:
    study = _study(_trial(expected=0.5, value=0.6, attrs={attributes.ORIGIN: 0}))
    assert len(points_of(study)) == 1


def test_a_study_run_with_dora_can_be_judged() -> None:
    def objective(trial: optuna.Trial) -> float:
        slope = trial.suggest_float("slope", 0, 1)
        for step in range(1, 10):
            trial.report(slope * step, step)
            if step < 9 and trial.should_prune():
                raise optuna.TrialPruned
        return slope * 9

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=make_pruner("dora", max_resource=9),
    )
    study.optimize(objective, n_trials=40)
    points = points_of(study)
    assert points and all(0 < p.epoch < 9 for p in points)
    assert summary(points)["anticipation_error"] < 9
