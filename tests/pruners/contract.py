"""What every pruner owes, whatever its rule; a subclass supplies the fixture `make`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import optuna
import pytest
from numpy.typing import ArrayLike
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import Trial, TrialState, create_trial

Make = Callable[[], BasePruner]
MAX_RESOURCE = 9


def new_study(pruner: BasePruner, direction: str = "maximize") -> Study:
    return optuna.create_study(
        direction=direction, pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0)
    )


def reports_of(curve: Mapping[int, float] | ArrayLike) -> dict[int, float]:
    """Reports by step; bare values are those of consecutive steps from 1 on."""
    if isinstance(curve, Mapping):
        return dict(curve)
    return dict(enumerate(np.asarray(curve, dtype=float).tolist(), start=1))


def started(study: Study, *values: float) -> Trial:
    """A new trial that has reported these values and asked for nothing."""
    trial = study.ask()
    for step, value in reports_of(values).items():
        trial.report(value, step)
    return trial


def run_trial(study: Study, curve: Mapping[int, float] | ArrayLike) -> list[bool]:
    """Report in the given order, ask each time, tell the end; return the answers."""
    trial = study.ask()
    answers = []
    for step, value in reports_of(curve).items():
        trial.report(value, step)
        answers.append(trial.should_prune())
        if answers[-1]:
            study.tell(trial, state=TrialState.PRUNED)
            return answers
    study.tell(trial, value)
    return answers


def run_trials(
    study: Study, curves: Iterable[Mapping[int, float]] | np.ndarray
) -> list[list[bool]]:
    return [run_trial(study, curve) for curve in curves]


def random_curves(n: int, length: int = MAX_RESOURCE, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    ends = generator.normal(0.5, 0.2, size=(n, 1))
    steps = np.arange(1, length + 1)
    return ends * (1 - 0.6 * np.exp(-steps / 4)) + generator.normal(0, 0.01, (n, length))


class PrunerTestCase:
    """Behaviour of any pruner of a single-objective study."""

    def test_keeps_a_trial_without_reports_or_before_its_first_rung(self, make: Make) -> None:
        assert not new_study(make()).ask().should_prune()
        trial = new_study(make()).ask()
        trial.report(0.5, 0)
        assert not trial.should_prune()

    @pytest.mark.parametrize("seed", range(3))
    def test_mirrored_values_give_mirrored_decisions(self, make: Make, seed: int) -> None:
        curves = random_curves(40, seed=seed)
        answers = run_trials(new_study(make()), curves)
        assert answers == run_trials(new_study(make(), "minimize"), -curves)
        flat = [answer for trial in answers for answer in trial]
        assert any(flat) and not all(flat)

    def test_takes_a_bad_report_without_raising(self, make: Make) -> None:
        study = new_study(make())
        run_trials(study, random_curves(8))
        for bad in (math.nan, math.inf, -math.inf):
            trial = study.ask()
            for step in range(1, MAX_RESOURCE):
                trial.report(bad if step >= 2 else 0.5, step)
                assert trial.should_prune() in (True, False)
            study.tell(trial, state=TrialState.PRUNED)

    @pytest.mark.parametrize(
        "steps",
        [(0, 1, 2, 3, 4), (2, 4, 6, 8), (5, 6, 7), (3, 1, 2, 5, 4), (100, 200), (8,)],
        ids=str,
    )
    def test_takes_gaps_and_disorder_in_steps(self, make: Make, steps: tuple[int, ...]) -> None:
        study = new_study(make())
        run_trials(
            study, [dict(zip(steps, map(float, c), strict=False)) for c in random_curves(30)]
        )
        finished = [t for t in study.trials if t.state == TrialState.COMPLETE]
        assert finished, "some trial must get through"

    def test_takes_failed_trials_and_finished_ones_without_curves(self, make: Make) -> None:
        study = new_study(make())
        for curve in random_curves(10):
            study.add_trial(create_trial(value=float(curve[-1])))
            trial = started(study, curve[0])
            trial.should_prune()
            study.tell(trial, state=TrialState.FAIL)
        run_trials(study, random_curves(5))

    def test_answers_with_a_bool(self, make: Make) -> None:
        answers = run_trials(new_study(make()), random_curves(20))
        assert {type(answer) for trial in answers for answer in trial} == {bool}

    def test_same_question_has_the_same_answer(self, make: Make) -> None:
        study = new_study(make())
        for curve in random_curves(20):
            trial = study.ask()
            for step, value in reports_of(curve).items():
                trial.report(value, step)
                answer = trial.should_prune()
                assert trial.should_prune() == answer
                if answer:
                    break
            study.tell(trial, state=TrialState.PRUNED)
